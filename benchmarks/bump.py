"""Measure ``bump(tag)`` of very many entries, and look for anything old that is served after it.

    python benchmarks/bump.py [--entries 1000000] [--readers 4] [--stores sqlite redis]

Every entry has a tag that all share and one of twenty groups. Reader processes look up entries at
random all the time, each with a cache of its own. The groups are bumped one after the other, then
the tag of all: a reader that begins a lookup after ``bump`` returned and gets an entry stored
before it has been served something old. Then the tag of all is bumped 500 times beside the readers,
and 500 times alone, each time in turns with a little computing, which shows what the machine itself
delays. Needs the Redis of ``tests.redis_server``, or REDIS_URL of a server whose data may be
deleted. A million entries take some minutes to put.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core import Answer, Hit, Request, ResponseCache

GROUPS = 20
WRITERS = {"sqlite": 1, "redis": 2}
"""One process writes to a file at a time: others would only wait."""

PATIENCE_S, BETWEEN_S, AFTER_S = 60.0, 0.3, 2.0
REPEATS, PAUSE_S, BAR_S = 500, 0.01, 0.005
TIMEOUT_S = 5.0


def request(number: int) -> Request:
    return Request.of(f"What is the answer to question {number}?", model="m")


def opened(url: str) -> ResponseCache:
    return ResponseCache.open(url, semantic=False, timeout=TIMEOUT_S)


def fill(url: str, first: int, entries: int, step: int) -> None:
    """Put every ``step``-th entry."""
    with opened(url) as cache:
        for number in range(first, entries, step):
            cache.store(request(number), Answer("Old."), tags=["all", f"group {number % GROUPS}"])


def read(url: str, entries: int, seed: int, ready: Any, stop: Any, results: Any) -> None:
    """Look up at random, and tell of each group when the last lookup began that hit, and how often.

    The clock is the machine's: the same for all processes. ``ready`` is released when all groups
    have been hit once.
    """
    rng, last, hits, lookups, told = random.Random(seed), dict[int, float](), 0, 0, False
    with opened(url) as cache:
        while not stop.is_set():
            number = rng.randrange(entries)
            asked = request(number)
            started = time.monotonic()
            found = isinstance(cache.lookup(asked), Hit)
            lookups += 1
            hits += found
            if found:
                last[number % GROUPS] = started
                if len(last) == GROUPS and not told:
                    ready.release()
                    told = True
        errors = dict(cache.stats().errors)
    results.put((last, hits, lookups, errors))


def compute() -> int:
    """Take about as long as a bump, and need nothing but a core: what the machine itself delays."""
    return sum(range(20_000))


def timed(*functions: Callable[[], object]) -> list[list[float]]:
    """Return the seconds that each of many calls took, in turns, with a pause after each."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, taken in zip(functions, times, strict=True):
            before = time.perf_counter()
            function()
            taken.append(time.perf_counter() - before)
            time.sleep(PAUSE_S)
    return times


def measure(url: str, entries: int, readers: int) -> None:
    """Fill a store, bump it under the eyes of readers, and report."""
    fork = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    name = url.partition(":")[0]
    many = WRITERS.get(name, 1)
    writers = [fork.Process(target=fill, args=(url, n, entries, many)) for n in range(many)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    put_s = time.perf_counter() - started
    ready, stop, results = fork.Semaphore(0), fork.Event(), fork.Queue()
    processes = [
        fork.Process(target=read, args=(url, entries, seed, ready, stop, results))
        for seed in range(readers)
    ]
    for one in processes:
        one.start()
    bumped: dict[int, float] = {}
    with opened(url) as cache:
        held = cache._store.info().entries
        cache.lookup(request(0))
        assert all(ready.acquire(timeout=PATIENCE_S) for _ in processes)
        for group in range(GROUPS):
            tag = "all" if group == GROUPS - 1 else f"group {group}"
            cache.bump(tag)
            bumped[group] = time.monotonic()
            time.sleep(BETWEEN_S)
        assert not isinstance(cache.lookup(request(GROUPS - 1)), Hit)
        time.sleep(AFTER_S)
        beside, machine_beside = timed(lambda: cache.bump("all"), compute)
        stop.set()
        found = [results.get() for _ in processes]
        for one in processes:
            one.join()
        alone, machine_alone = timed(lambda: cache.bump("all"), compute)
        errors = dict(cache.stats().errors)
    late = sum(at > bumped[group] for last, *_ in found for group, at in last.items())
    hits, lookups = sum(one[1] for one in found), sum(one[2] for one in found)
    print(f"{name}: {held:,} entries, put at {entries / put_s:,.0f}/s by {many} processes")
    print(
        f"{name}: {readers} readers, {lookups:,} lookups, {hits:,} hits, "
        f"{late} of them old after a bump; errors {errors} {[one[3] for one in found]}"
    )
    for label, seconds in (
        ("bump beside the readers", beside),
        ("computing beside the readers", machine_beside),
        ("bump alone", alone),
        ("computing alone", machine_alone),
    ):
        p50, p99, worst = np.percentile(np.array(seconds) * 1000, [50, 99, 100])
        late_ones = sum(one > BAR_S for one in seconds)
        print(
            f"{name}: {label}: p50 {p50:.2f}, p99 {p99:.2f}, worst {worst:.2f} ms, "
            f"{late_ones} of {len(seconds)} over {BAR_S * 1000:.0f} ms"
        )
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)


def stores(names: list[str]) -> Iterator[str]:
    """Yield the URLs of empty stores, one after the other."""
    if "sqlite" in names:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/answers.db"
    if "redis" not in names:
        return
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    from tests.redis_server import RedisStack

    with RedisStack() as server:
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--stores", nargs="+", default=["sqlite", "redis"])
    given = parser.parse_args()
    for url in stores(given.stores):
        measure(url, given.entries, given.readers)


if __name__ == "__main__":
    main()
