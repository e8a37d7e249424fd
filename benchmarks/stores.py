"""Measure the embedded stores: exact reads beside LangChain's, neighbours, opening, writes.

    python benchmarks/stores.py                                   # everything
    python benchmarks/stores.py neighbours --entries 20000 --scopes 1
    python benchmarks/stores.py writes --processes 8 --seconds 5

The load average is printed: times from a busy machine say little, ratios of one run say more. The
stores read and decode a record; LangChain's caches rebuild a generation from it, which the adapters
add here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from shared_core.record import Answer, Record
from shared_core.stores import StoreError, open_store

DIMENSION = 384
SPACE = "random/384"
TEXT = "An answer of about the usual length. " * 12


def vectors(count: int, seed: int) -> Any:
    """Return unit vectors in clusters of about fifty, shape (count, DIMENSION)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 50 + 1, DIMENSION))
    points = centres[rng.integers(len(centres), size=count)]
    points = points + 0.5 * rng.standard_normal((count, DIMENSION))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def record(number: int, scope: str, vector: Any) -> Record:
    question = f"What is the answer to question number {number}?"
    answer = Answer(TEXT, model="m", usage={"input_tokens": 20, "output_tokens": 100})
    key = f"{number:064x}"
    return Record(
        key, scope, "n", question, answer, "m", created=time.time(), space=SPACE, vector=vector
    )


def report(name: str, seconds: list[float]) -> None:
    p10, p50, p99 = np.percentile(np.array(seconds) * 1e6, [10, 50, 99])
    print(f"{name:34} p10 {p10:9.1f}  p50 {p50:9.1f}  p99 {p99:9.1f} us", flush=True)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    found = call()
    elapsed = time.perf_counter() - start
    assert found, "a lookup that must hit missed"
    return elapsed


def exact(folder: str, rounds: int) -> None:
    """Compare exact hits, one of each store in turn."""
    from langchain_community.cache import SQLiteCache
    from langchain_core.caches import InMemoryCache
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration

    entries = 1000
    memory, file = open_store("memory://"), open_store(f"sqlite:///{folder}/exact.db")
    plain = open_store(f"sqlite:///{folder}/plain.db")
    peers = [InMemoryCache(), SQLiteCache(database_path=f"{folder}/peer.db")]
    points = vectors(entries, 1)
    for number in range(entries):
        stored = record(number, f"{number % 10:064x}", points[number])
        memory.put(stored)
        file.put(stored)
        plain.put(record(number, stored.scope, None))
        for peer in peers:
            peer.update(stored.key, "llm", [ChatGeneration(message=AIMessage(TEXT))])
    keys = [f"{random.Random(n).randrange(entries):064x}" for n in range(rounds)]
    calls: dict[str, Callable[[str], object]] = {
        "memory get": memory.get,
        "sqlite get": file.get,
        "sqlite get, no vector": plain.get,
        "InMemoryCache lookup": lambda key: peers[0].lookup(key, "llm"),
        "SQLiteCache lookup": lambda key: peers[1].lookup(key, "llm"),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for key in keys:
        for name, call in calls.items():
            times[name].append(timed(partial(call, key)))
    for name, seconds in times.items():
        report(name, seconds)


def resident() -> float:
    """Return this process's resident memory in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def fill(url: str, entries: int, scopes: int) -> None:
    points = vectors(entries, 2)
    start = time.perf_counter()
    store = open_store(url, timeout=5.0)
    for number in range(entries):
        store.put(record(number, f"{number % scopes:064x}", points[number]))
    seconds = time.perf_counter() - start
    print(f"{entries} entries in {scopes} scopes put at {entries / seconds:.0f}/s; {store.info()}")
    store.close()


def look(url: str, entries: int, scopes: int, rounds: int) -> None:
    """Open a filled store in a fresh process and find neighbours."""
    points = vectors(entries, 2)
    asked = np.random.default_rng(3).permutation(entries)[:rounds]
    before = resident()
    start = time.perf_counter()
    store = open_store(url)
    opened = time.perf_counter() - start
    first = timed(lambda: store.nearest(f"{0:064x}", SPACE, points[0], 4))
    print(f"open {opened * 1e3:.1f} ms, first neighbours {first * 1e3:.1f} ms")
    cold: list[float] = []
    warm: list[float] = []
    for times in (cold, warm):
        for place in asked:
            scope = f"{place % scopes:064x}"
            times.append(timed(partial(store.nearest, scope, SPACE, points[place], 4)))
    report("neighbours, first round", cold)
    report("neighbours, second round", warm)
    print(f"resident memory grew by {resident() - before:.0f} MB")


def neighbours(folder: str, entries: int, scopes: int, rounds: int) -> None:
    url = f"sqlite:///{folder}/{entries}-{scopes}.db"
    fill(url, entries, scopes)
    command = [sys.executable, __file__, "look", "--url", url]
    command += ["--entries", str(entries), "--scopes", str(scopes), "--rounds", str(rounds)]
    subprocess.run(command, check=True)


def write(url: str, process: int, seconds: float, results: Any) -> None:
    store = open_store(url)
    points = vectors(500, process)
    times: list[float] = []
    end, refused = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number = process * 10**6 + len(times)
        start = time.perf_counter()
        try:
            store.put(record(number, f"{number % 100:064x}", points[number % 500]))
        except StoreError:
            refused += 1
        times.append(time.perf_counter() - start)
    results.put((times, refused))


def writes(folder: str, processes: int, seconds: float) -> None:
    """Put from some processes at once, as fast as they can."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    url = f"sqlite:///{folder}/writes-{processes}.db"
    running = [
        context.Process(target=write, args=(url, n, seconds, results)) for n in range(processes)
    ]
    for process in running:
        process.start()
    outcomes = [results.get() for _ in running]
    for process in running:
        process.join()
    times = [elapsed for some, _ in outcomes for elapsed in some]
    refused = sum(count for _, count in outcomes)
    print(f"{processes} processes: {len(times) / seconds:.0f} puts/s, {refused} refused in time")
    report(f"put, {processes} processes", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=["exact", "neighbours", "writes", "look", "all"], default="all"
    )
    parser.add_argument("--entries", type=int)
    parser.add_argument("--scopes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "look":
        look(given.url, given.entries, given.scopes, given.rounds)
        return
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))
    with tempfile.TemporaryDirectory() as folder:
        if given.what in ("exact", "all"):
            exact(folder, given.rounds)
        if given.what in ("neighbours", "all"):
            sizes = (
                [(given.entries, given.scopes)] if given.entries else [(100_000, 1000), (20_000, 1)]
            )
            for entries, scopes in sizes:
                neighbours(folder, entries, scopes, given.rounds)
        if given.what in ("writes", "all"):
            for processes in [given.processes] if given.processes else [1, 8]:
                writes(folder, processes, given.seconds)
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
