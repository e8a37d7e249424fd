"""Time lookups of one checkout, on demand: the worker of ``lookups.py --against``.

    PYTHONPATH=CHECKOUT python benchmarks/lookups_worker.py [--redis URL]

It uses public names alone, so that it runs on older checkouts. It prints the names of its paths as
JSON, then answers each line of its input, ``[name, calls]``, with the microseconds of the calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from llama_index.core.llms import MockLLM

from langchain_tiered_cache import TieredCache
from llamaindex_tiered_cache import cached_llm
from shared_core import Answer, Request, ResponseCache

SYSTEM = "You are a helpful assistant of a public library. Answer in plain words. " * 4
QUESTION = "How do I renew a book that I borrowed?"
OTHERWISE = "How can I renew a book that I borrowed?"
LONG = "How can I renew or prolong a book that I have borrowed from the library in Rome"
MANY = 2000
AHEAD = 20_000
"""New questions made before the clock runs: dumping is LangChain's part."""
LLM = json.dumps(
    {
        "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
        "kwargs": {"model_name": "gpt-4o-mini", "temperature": 0.0},
        "lc": 1,
        "name": "ChatOpenAI",
        "type": "constructor",
    },
    sort_keys=True,
)
LLM = f"{LLM}---[('stop', None)]"

Call = Callable[[], Any]


def words(texts: Sequence[str]) -> Any:
    """Embed texts by the words in them: as fast in every checkout."""
    rows = np.zeros((len(texts), 256), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().strip("?").split():
            row[sum(word.encode()) % 256] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def prompt(question: str) -> str:
    return dumps([SystemMessage(SYSTEM), HumanMessage(question)])


def generation() -> ChatGeneration:
    usage: Any = {"input_tokens": 70, "output_tokens": 40, "total_tokens": 110}
    message = AIMessage("Open your account page, and press renew. " * 3, usage_metadata=usage)
    return ChatGeneration(message=message)


def paths(folder: Path, redis: str | None, closing: ExitStack) -> dict[str, Call]:
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder / 'exact.db'}"}
    meaning = {"memory": "memory://", "sqlite": f"sqlite:///{folder / 'meaning.db'}"}
    if redis is not None:
        urls["redis"] = meaning["redis"] = redis
    found: dict[str, Call] = {}
    others = [prompt(f"{QUESTION} It is number {number}.") for number in range(MANY)]
    for name, url in urls.items():
        cache = TieredCache(url, semantic=False, timeout=5.0, namespace="exact")
        closing.callback(cache.close)
        for text in (prompt(QUESTION), *others):
            cache.update(text, LLM, [generation()])
        found |= {
            f"{name} exact hit": bound(cache.lookup, prompt(QUESTION)),
            f"{name} exact hit, many": bound(cache.lookup, *others),
            f"{name} miss": missing(cache.lookup),
        }
    for name, url in meaning.items():
        cache = TieredCache(
            url, threshold=0.7, embedder=words, guard=True, timeout=5.0, namespace="meaning"
        )
        closing.callback(cache.close)
        for text in (QUESTION, f"{LONG.replace('How can', 'How do')}?"):
            cache.update(prompt(text), LLM, [generation()])
        found[f"{name} semantic hit"] = bound(cache.lookup, prompt(OTHERWISE))
        found[f"{name} semantic hit, new words"] = reworded(cache.lookup)
    found |= core(closing) | models(closing)
    return found


def bound(lookup: Callable[[str, str], Any], *prompts: str) -> Call:
    asked = cycle(prompts)
    return lambda: lookup(next(asked), LLM)


def reworded(lookup: Callable[[str, str], Any]) -> Call:
    """Return a call that asks in words that were never read before."""
    spaced = ("".join(two) for two in product(*((f"{one} ", f"{one}  ") for one in LONG.split())))
    ahead = [prompt(text.strip() + "?") for text in islice(spaced, AHEAD)]
    return lambda: lookup(ahead.pop(), LLM)


def missing(lookup: Callable[[str, str], Any]) -> Call:
    ahead = [prompt(f"{QUESTION} It is lost, {number}.") for number in range(AHEAD)]
    return lambda: lookup(ahead.pop(), LLM) is None


def core(closing: ExitStack) -> dict[str, Call]:
    cache = ResponseCache.open("memory://", threshold=0.7, embedder=words)
    closing.callback(cache.close)
    asked, otherwise = (
        Request.of(text, model="m", system=SYSTEM, params={"temperature": 0})
        for text in (QUESTION, OTHERWISE)
    )
    cache.store(asked, Answer("Press renew."))
    return {
        "core exact hit": lambda: cache.lookup(asked),
        "core semantic hit": lambda: cache.lookup(otherwise),
        "core answer": lambda: cache.answer(asked, str),
    }


def models(closing: ExitStack) -> dict[str, Call]:
    tiered = TieredCache(threshold=0.7, embedder=words)
    closing.callback(tiered.close)
    chat = FakeListChatModel(responses=["Press renew."], cache=tiered)
    llm = cached_llm(MockLLM(), ResponseCache.open("memory://", threshold=0.7, embedder=words))
    chat.invoke(QUESTION), llm.complete(QUESTION)
    return {
        "langchain invoke, exact": lambda: chat.invoke(QUESTION),
        "langchain invoke, semantic": lambda: chat.invoke(OTHERWISE),
        "llamaindex complete, exact": lambda: llm.complete(QUESTION),
        "llamaindex complete, semantic": lambda: llm.complete(OTHERWISE),
    }


def taken(call: Call, calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        started = time.perf_counter()
        found = call()
        times.append((time.perf_counter() - started) * 1e6)
        assert found
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--redis")
    given = parser.parse_args()
    with ExitStack() as closing:
        warnings.simplefilter("ignore")
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        calls = paths(folder, given.redis, closing)
        print(json.dumps(list(calls)), flush=True)
        for line in sys.stdin:
            name, times = json.loads(line)
            print(json.dumps(taken(calls[name], times)), flush=True)


if __name__ == "__main__":
    main()
