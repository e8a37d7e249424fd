"""Exact hits as LangChain makes them: ours on memory and sqlite beside LangChain's own caches.

    python benchmarks/lookups.py [--rounds 2000]

Every cache holds one chat answer and is asked for it in turn, in one process: p10, p50 and p99 of
interleaved rounds, in microseconds, and the ratio of p10 to LangChain's SQLiteCache. Then the parts
of a hit in memory: parse (LangChain's two strings into a request), key, read (the core's whole
lookup, key included), rebuild (a fresh message).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.request import parse
from langchain_tiered_cache.serving import served
from shared_core.record import Hit

SYSTEM = "You are a helpful assistant of a public library. Answer in plain words. " * 4
QUESTION = "How do I renew a book that I borrowed?"


class Model(BaseChatModel):
    """A chat model that LangChain can serialise, as the providers' are."""

    model_name: str = "gpt-4o-mini"
    temperature: float = 0.0

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def _llm_type(self) -> str:
        return "bench"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise AssertionError("only its llm_string is wanted")


def generation() -> ChatGeneration:
    message = AIMessage(
        "Open your account page, choose the book, and press renew. " * 3,
        id="run-1",
        response_metadata={
            "model_name": "gpt-4o-mini",
            "finish_reason": "stop",
            "id": "chatcmpl-1",
        },
        usage_metadata={"input_tokens": 70, "output_tokens": 40, "total_tokens": 110},
    )
    return ChatGeneration(message=message, generation_info={"finish_reason": "stop"})


def caches(folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

        theirs = SQLiteCache(str(folder / "theirs.db"))
    return {
        "langchain-core InMemoryCache (aliases)": InMemoryCache(),
        "langchain-community SQLiteCache": theirs,
        "TieredCache memory": TieredCache(semantic=False),
        "TieredCache sqlite": TieredCache(f"sqlite:///{folder / 'ours.db'}", semantic=False),
    }


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Return p10, p50, p99 in microseconds of each call, in turn, after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 50):
        for name, call in calls.items():
            started = time.perf_counter()
            found = call()
            elapsed = time.perf_counter() - started
            assert found, name
            if number >= 50:
                taken[name].append(elapsed * 1e6)
    return {
        name: tuple(sorted(times)[int(len(times) * share)] for share in (0.1, 0.5, 0.99))
        for name, times in taken.items()
    }


def table(rows: dict[str, tuple[float, ...]], base: str | None = None) -> None:
    for name, (p10, p50, p99) in rows.items():
        ratio = f"{rows[base][0] / p10:7.1f} x" if base else ""
        print(f"  {name:40s} p10 {p10:7.1f}  p50 {p50:7.1f}  p99 {p99:8.1f} us  {ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    prompt = dumps([SystemMessage(SYSTEM), HumanMessage(QUESTION)])
    llm_string = Model()._get_llm_string(stop=None)
    print(
        f"load average {os.getloadavg()[0]:.1f}, {rounds} rounds, prompt {len(prompt)} characters"
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = caches(Path(folder))
        for cache in found.values():
            cache.update(prompt, llm_string, [generation()])
        hits = {
            name: (lambda cache=cache: cache.lookup(prompt, llm_string))
            for name, cache in found.items()
        }
        print("exact hit, whole lookup; ratio to SQLiteCache by p10")
        table(measure(hits, rounds), "langchain-community SQLiteCache")

        ours: TieredCache = found["TieredCache memory"]
        request = parse(prompt, llm_string)
        hit = ours.cache.lookup(request)
        assert isinstance(hit, Hit)
        print("parts of a hit in memory")
        parts = {
            "parse": lambda: parse(prompt, llm_string),
            "key": lambda: request.address("default"),
            "read (with key, stats)": lambda: ours.cache.lookup(request),
            "rebuild": lambda: served(hit, "mark"),
        }
        table(measure(parts, rounds))
        for cache in found.values():
            if isinstance(cache, TieredCache):
                cache.close()


if __name__ == "__main__":
    main()
