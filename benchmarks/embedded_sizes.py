"""Measure the embedded stores at their largest: a million entries, and a scope of 200,000.

    OMP_NUM_THREADS=1 python benchmarks/embedded_sizes.py  # 4 GB of disk, 2 of memory, 15 minutes
    OMP_NUM_THREADS=1 python benchmarks/embedded_sizes.py --quick  # 20,000 and 25,000 entries

Per store and size: how fast it is filled, how long opening and the first neighbours take, the time
of ``nearest`` (4 neighbours, records read and decoded; no embedding), how often the nearest of all
is found, and memory. For a scope with a graph: how long making it took, the longest search
meanwhile, and what the next process to open the file sees. Vectors: see ``crowds.py``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from crowds import asked, crowd, embedded
from stores import SPACE, record, resident, timed

from shared_core.stores import open_store
from shared_core.stores import vectors as scope_vectors
from shared_core.stores.vectors import Graph, VectorIndex

CHUNK = 50_000
ROUNDS = 1000
CROSSOVER = (5_000, 10_000, 20_000, 50_000, 100_000)


def scope_of(number: int, scopes: int) -> str:
    return f"{number % scopes:064x}"


def chunks(centres: Any, entries: int) -> Any:
    """Yield the stored vectors in pieces, the same for every process, with the first number."""
    for start in range(0, entries, CHUNK):
        yield start, crowd(centres, min(CHUNK, entries - start), seed=start + 1)


def fill(store: Any, centres: Any, entries: int, scopes: int) -> None:
    seconds = 0.0
    for first, rows in chunks(centres, entries):
        start = time.perf_counter()
        for number, row in enumerate(rows, first):
            store.put(record(number, scope_of(number, scopes), row))
        seconds += time.perf_counter() - start
    print(f"  put {entries / seconds:.0f}/s", flush=True)


class Questions:
    """Vectors beside stored ones, the scope each is asked in, and the nearest there by comparison.

    The comparison is exact: it goes through all vectors in float32.
    """

    def __init__(self, centres: Any, entries: int, scopes: int) -> None:
        rng = np.random.default_rng(3)
        self.numbers = rng.permutation(entries)[: min(ROUNDS, entries)]
        beside = np.empty((len(self.numbers), centres.shape[1]), np.float32)
        for first, rows in chunks(centres, entries):
            here = (self.numbers >= first) & (self.numbers < first + len(rows))
            beside[here] = rows[self.numbers[here] - first]
        self.vectors = asked(beside, seed=4)
        self.scopes = [scope_of(int(number), scopes) for number in self.numbers]
        best = np.full(len(self.numbers), -2.0, np.float32)
        self.nearest = np.zeros(len(self.numbers), np.int64)
        for first, rows in chunks(centres, entries):
            numbers = np.arange(first, first + len(rows))
            for place, number in enumerate(self.numbers):
                same = slice((int(number) - first) % scopes, None, scopes)
                similarities = np.vecdot(rows[same], self.vectors[place])
                if len(similarities) and similarities.max() > best[place]:
                    best[place] = similarities.max()
                    self.nearest[place] = numbers[same][similarities.argmax()]

    def ask(self, store: Any) -> None:
        """Print the time of a lookup and how often it found the nearest."""
        seconds, found = [], 0
        for scope, vector, nearest in zip(self.scopes, self.vectors, self.nearest, strict=True):
            start = time.perf_counter()
            near = store.nearest(scope, SPACE, vector, 4)
            seconds.append(time.perf_counter() - start)
            found += near[0].record.key == f"{nearest:064x}"
        p10, p50, p99 = np.percentile(np.array(seconds) * 1e3, [10, 50, 99])
        share = found / len(seconds)
        print(f"  nearest p10 {p10:.2f}  p50 {p50:.2f}  p99 {p99:.2f} ms, recall@1 {share:.3f}")


def make_graph(store: Any, questions: Questions) -> None:
    """Search while a graph is made, as an app does, and print what that takes."""
    cpu, started, longest = time.process_time(), time.perf_counter(), 0.0
    scope, vector = questions.scopes[0], questions.vectors[0]
    while True:
        longest = max(longest, timed(lambda: store.nearest(scope, SPACE, vector, 4)))
        if not any(one.name == "tiered-cache-graph" for one in threading.enumerate()):
            break
        time.sleep(0.05)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"  graph made in {seconds:.1f} s, {spent:.1f} CPU s with the searches meanwhile, of which "
        f"the longest took {longest * 1e3:.0f} ms",
        flush=True,
    )


def look(path: str, entries: int, scopes: int, centres: Any) -> None:
    """Open a filled file in a fresh process."""
    questions = Questions(centres, entries, scopes)
    before = resident()
    start = time.perf_counter()
    store = open_store(f"sqlite:///{path}")
    opened = time.perf_counter() - start
    first = timed(lambda: store.nearest(questions.scopes[0], SPACE, questions.vectors[0], 4))
    print(f"  open {opened * 1e3:.0f} ms, first neighbours {first * 1e3:.0f} ms")
    if entries // scopes >= scope_vectors.GRAPH_FROM:
        make_graph(store, questions)
    questions.ask(store)
    questions.ask(store)  # what it looks at is in memory now
    print(f"  resident memory grew by {resident() - before:.0f} MB", flush=True)
    store.close()


def in_file(folder: Path, entries: int, scopes: int, centres: Any) -> None:
    path = folder / f"{entries}-{scopes}.db"
    print(f"sqlite, {entries} entries in {scopes} scopes")
    store = open_store(f"sqlite:///{path}", timeout=5.0)
    fill(store, centres, entries, scopes)
    store.close()
    command = [sys.executable, __file__, "--look", str(path), str(entries), str(scopes)]
    visits = ["in a new process:"]
    if entries // scopes >= scope_vectors.GRAPH_FROM:
        visits = ["in a new process, without a graph:", "in the next process:"]
    for visit in visits:
        print(" ", visit, flush=True)
        subprocess.run([*command, str(folder / "centres.npy")], check=True)
    for part in sorted(folder.glob(f"{path.name}*")):
        print(f"  {part.name[:28]:28} {part.stat().st_size / 1e6:.0f} MB")
        part.unlink()


def in_memory(entries: int, scopes: int, centres: Any) -> None:
    print(f"memory, {entries} entries in {scopes} scopes")
    questions = Questions(centres, entries, scopes)
    before = resident()
    store = open_store("memory://")
    fill(store, centres, entries, scopes)
    if entries // scopes >= scope_vectors.GRAPH_FROM:
        make_graph(store, questions)
    questions.ask(store)
    print(f"  resident memory grew by {resident() - before:.0f} MB", flush=True)


def crossover(centres: Any) -> None:
    """Compare the matrix and the graph alone, in turn, as both grow."""
    stored = crowd(centres, CROSSOVER[-1], seed=1)
    matrix, graph = VectorIndex(stored.shape[1]), Graph(stored.shape[1])
    held, rng = 0, np.random.default_rng(2)
    for size in CROSSOVER:
        for start in range(held, size, 32):
            numbers = np.arange(start, min(start + 32, size))
            graph.add(numbers.astype(np.uint64), stored[numbers])
            matrix.extend(numbers.tolist(), stored[numbers])
        held, found = size, 0
        times: dict[str, list[float]] = {"matrix": [], "graph": []}
        for vector in asked(stored[rng.permutation(size)[:ROUNDS]], seed=3):
            start_s = time.perf_counter()
            exact = matrix.search(vector, 4)
            middle_s = time.perf_counter()
            near = graph.nearest(vector, 8)
            times["graph"].append(time.perf_counter() - middle_s)
            times["matrix"].append(middle_s - start_s)
            found += exact[0][0] in near
        told = "  ".join(f"{name} {np.percentile(t, 10) * 1e3:.2f}" for name, t in times.items())
        print(f"{size:7}: p10 {told} ms, the nearest is among the graph's in {found / ROUNDS:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes that take half a minute")
    parser.add_argument("--crossover", action="store_true", help="only matrix against graph")
    parser.add_argument("--folder", help="where the files go for a while: 4 GB")
    parser.add_argument("--look", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        in_memory(int(given.memory[0]), int(given.memory[1]), np.load(given.memory[2]))
        return
    if given.look:
        path, entries, scopes, stored = given.look
        look(path, int(entries), int(scopes), np.load(stored))
        return
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))
    if given.crossover:
        crossover(embedded(4000))
        return
    sizes = [(1_000_000, 1000), (200_000, 1)]
    if given.quick:
        sizes = [(20_000, 20), (25_000, 1)]
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        centres = embedded(500 if given.quick else 4000)
        np.save(folder / "centres.npy", centres)
        for entries, scopes in sizes:
            in_file(folder, entries, scopes, centres)
        for entries, scopes in sizes:  # each in a process of its own, whose memory is its own
            command = [sys.executable, __file__, "--memory", str(entries), str(scopes)]
            subprocess.run([*command, str(folder / "centres.npy")], check=True)
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
