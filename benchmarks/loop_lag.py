"""Measure how long an event loop stands still while 64 lookups are awaited at once.

    OMP_NUM_THREADS=1 python benchmarks/loop_lag.py [--rounds 10] [--url redis://...]

Every round awaits 64 questions that were never asked before, of each cache in turn: ours in memory,
in a SQLite file and in Redis, each with the default model without torch; and RedisVL's ``acheck``
with the same model by its own vectoriser. The lag is what a timer of 1 ms comes late by, the
longest of a round; an idle loop's stands beside it. Needs the Redis of ``tests.redis_server``, or
``--url`` of a server whose data may be deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from crowds import sentences
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage
from lookups import SYSTEM, Model, generation
from redis_sizes import server

from langchain_tiered_cache import TieredCache
from shared_core.embedding import resolve_embedder

AT_ONCE = 64
TICK = 0.001

Ask = Callable[[str], Awaitable[Any]]


def prompt(question: str) -> str:
    return dumps([SystemMessage(SYSTEM), HumanMessage(question)])


def ours(url: str, llm: str, stored: list[str]) -> Ask:
    cache = TieredCache(url, threshold=0.92, timeout=5.0)
    for question in stored:
        cache.update(prompt(question), llm, [generation()])
    return lambda question: cache.alookup(question, llm)


def redisvl(url: str, stored: list[str]) -> Ask:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import HFTextVectorizer

    cache = SemanticCache(
        name="lag",
        redis_url=url,
        distance_threshold=0.08,
        vectorizer=HFTextVectorizer(model=resolve_embedder(None).source),
    )
    for question in stored:
        cache.store(prompt=question, response="An answer.")
    return lambda question: cache.acheck(prompt=question)


async def idle(_: str) -> None:
    await asyncio.sleep(0.2)


async def lag_while(ask: Ask, questions: list[str]) -> tuple[float, float]:
    """Return the longest delay of the timer and the time that all answers took, in seconds."""
    longest, done = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not done.is_set():
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            longest = max(longest, time.perf_counter() - before - TICK)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    started = time.perf_counter()
    await asyncio.gather(*map(ask, questions))
    took = time.perf_counter() - started
    await asyncio.sleep(0.01)  # the timer has its turn, so that a standstill is seen
    done.set()
    await watching
    return longest, took


async def compare(asks: dict[str, Ask], rounds: int, questions: list[str]) -> None:
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    for turn in range(rounds + 1):
        some = questions[turn * AT_ONCE : (turn + 1) * AT_ONCE]
        prompts = [prompt(question) for question in some]
        for name, ask in asks.items():
            given = some if name.startswith("RedisVL") else prompts
            found = await lag_while(ask, given)
            if turn:  # the first loads models and opens connections
                seen[name].append(found)
    worst = max(lag for lag, _ in seen[list(asks)[-1]])
    for name, rows in seen.items():
        lags, took = np.array(rows).T * 1e3
        print(
            f"{name:22} lag p50 {np.median(lags):7.1f}  max {lags.max():7.1f} ms,  all 64 in "
            f"{np.median(took):6.0f} ms,  max is {lags.max() / worst / 1e3:.3f} of RedisVL's"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--url")
    given = parser.parse_args()
    logging.getLogger("redisvl").setLevel(logging.ERROR)  # it says that it embeds in the loop
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))
    questions = sentences(AT_ONCE * (given.rounds + 2), seed=1)
    stored, asked = questions[:AT_ONCE], questions[AT_ONCE:]
    llm = Model()._get_llm_string()
    with server(given.url) as url, tempfile.TemporaryDirectory() as folder:
        asks = {
            "idle": idle,
            "memory": ours("memory://", llm, stored),
            "sqlite": ours(f"sqlite:///{folder}/lag.db", llm, stored),
            "redis": ours(url, llm, stored),
            "RedisVL acheck": redisvl(url, stored),
        }
        asyncio.run(compare(asks, given.rounds, asked))
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
