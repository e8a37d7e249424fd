"""What a replayed stream costs through LangChain, beyond the lookup.

    python benchmarks/streams.py [--rounds 1000]

One conversation is answered once, in 30 words and in 1,000, and then streamed again: the time to
the first chunk and to the last, interleaved with the lookup of the same two strings; p10, p50 and
p99 in microseconds, and what the stream adds at p10. Beside them the same for a model that streams
its answer at once without any cache, which is what LangChain itself takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asks
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGenerationChunk
from rounds import measured

from langchain_tiered_cache import TieredCache, cached_model

MESSAGES = [
    SystemMessage("You are a helpful assistant of a public library. Answer in plain words. " * 4),
    HumanMessage("How do I renew a book that I borrowed?"),
]


class Model(asks.Model):
    """One that streams words at once."""

    words: int = 30

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for _word in range(self.words):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream():
            yield chunk


def first(model: BaseChatModel) -> None:
    """Take the first chunk and leave."""
    stream = model.stream(MESSAGES)
    next(stream)
    stream.close()  # type: ignore[attr-defined]


async def afirst(model: BaseChatModel) -> None:
    """Take the first chunk and leave."""
    stream = model.astream(MESSAGES)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]


def calls_of(
    model: BaseChatModel, loop: asyncio.AbstractEventLoop
) -> dict[str, Callable[[], object]]:
    """Return what is timed of one model that has a cache with its answer."""
    bare, cache = Model(words=model.words), model.cache  # type: ignore[attr-defined]
    assert isinstance(cache, TieredCache)
    asked = dumps(MESSAGES), bare._get_llm_string()
    return {
        "lookup": lambda: cache.lookup(*asked),
        "first chunk": lambda: first(model),
        "all chunks": lambda: list(model.stream(MESSAGES)),
        "bare first chunk": lambda: first(bare),
        "bare all chunks": lambda: list(bare.stream(MESSAGES)),
        "alookup": lambda: loop.run_until_complete(cache.alookup(*asked)),
        "async first chunk": lambda: loop.run_until_complete(afirst(model)),
        "bare async first": lambda: loop.run_until_complete(afirst(bare)),
    }


def main() -> None:
    """Print one line for each store, length and call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    loop = asyncio.new_event_loop()
    print(f"load average {os.getloadavg()[0]:.1f}")
    print("                                    p10     p50     p99   beyond the lookup at p10 (us)")
    with tempfile.TemporaryDirectory() as folder:
        for url in ("memory://", f"sqlite:///{Path(folder)}/answers.db"):
            for words in (30, 1000):
                cache = TieredCache(url, semantic=False, namespace=f"words-{words}")
                model = cached_model(Model(words=words), cache)
                list(model.stream(MESSAGES))
                times = measured(calls_of(model, loop), rounds if words < 100 else rounds // 10)
                assert cache.cache.stats().stores == 1
                report(f"{url.partition(':')[0]} {words:4}", times)
                cache.close()
    loop.close()


def report(title: str, times: dict[str, list[float]]) -> None:
    """Print what was measured of one store and length."""
    for name, found in times.items():
        p10, p50, p99 = (found[int(len(found) * share)] for share in (0.1, 0.5, 0.99))
        lookup = times["alookup" if name.startswith("async") else "lookup"]
        beyond = p10 - lookup[int(len(lookup) * 0.1)]
        told = "" if name.startswith("bare") or name.endswith("lookup") else f"{beyond:10.0f}"
        print(f"{title:12} {name:18} {p10:7.0f} {p50:7.0f} {p99:7.0f}   {told}")


if __name__ == "__main__":
    main()
