"""Measure neighbours in Redis at size: flat and HNSW, float32 and float16, one scope and many.

    python benchmarks/redis_sizes.py [--vectors FILE.npy] [--entries 1000 10000 100000]
        [--scopes 1] [--index flat hnsw] [--precision float32 float16]

Each row is a server of its own: entries are put one by one through the store, then questions that
are not among them are asked for their five nearest. Every answer is compared with an exact search
in float32: whether the nearest is as near (recall@1), and how often ``Static(0.92)`` decides
otherwise, to serve or not to serve, or serves another entry. Microseconds of the server's own time
are the means of all searches, and of all puts.

FILE holds real questions' vectors, float32 (n, d) of length 1; beyond their number, vectors are
moved away from them at random to a similarity of .80 to .98, as rewordings are. Without FILE all
are made: low-rank clusters, moved likewise. Needs the Redis of ``tests.redis_server``, or
``--url`` of a server whose data may be deleted. HNSW at 100,000 takes a minute or two a row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import redis

sys.path.insert(0, str(Path(__file__).parent.parent))

from shared_core.record import Answer, Record
from shared_core.stores import Store, open_store

SPACE = "benchmark"
TEXT = "An answer of about the usual length. " * 12
THRESHOLD = 0.92
ASKED = 1000
K = 5
BLOCK = 50_000
"""Vectors made at once: a million at a time would not fit a small machine."""

ROUNDING = {"float32": 1e-5, "float16": 1e-3}
"""Neighbours whose similarities differ by less are equally near."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What one row measures."""

    entries: int
    scopes: int
    index: str
    precision: str


def made(count: int, rng: np.random.Generator) -> Any:
    """Return low-rank unit vectors, float32 (count, 384), similar in groups of about ten."""
    plane = rng.standard_normal((48, 384))
    groups = rng.standard_normal((count // 10 + 1, 48)) @ plane
    points = groups[rng.integers(len(groups), size=count)]
    return moved(_unit(points), rng.uniform(0.6, 0.95, count), rng)


def moved(points: Any, similarities: Any, rng: np.random.Generator) -> Any:
    """Return each point moved at random to where its similarity to the old place is as given."""
    away = rng.standard_normal(points.shape)
    away -= np.sum(away * points, axis=1, keepdims=True) * points
    cosine = similarities[:, None]
    found = cosine * points + np.sqrt(1 - cosine**2) * _unit(away)
    return _unit(found).astype(np.float32)


def _unit(points: Any) -> Any:
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def points_of(file: Path | None, entries: int) -> tuple[Any, Any]:
    """Return the vectors to store and those to ask: half are new questions, half rewordings."""
    rng = np.random.default_rng(7)
    base = made(22_000, rng) if file is None else np.load(file)
    base = base[rng.permutation(len(base))]
    new, stored = base[: ASKED // 2], base[ASKED // 2 :][:entries]
    blocks = [stored]
    for missing in range(entries - len(stored), 0, -BLOCK):
        origin = stored[rng.integers(len(stored), size=min(missing, BLOCK))]
        blocks.append(moved(origin, rng.uniform(0.80, 0.98, len(origin)), rng))
    stored = np.concatenate(blocks)
    origin = stored[rng.integers(entries, size=ASKED - len(new))]
    reworded = moved(origin, rng.uniform(0.85, 0.99, len(origin)), rng)
    return np.ascontiguousarray(stored), np.concatenate([new, reworded])


def scope(number: int) -> str:
    return f"{number:064x}"


def record(number: int, scopes: int, vector: Any) -> Record:
    question = f"What is the answer to question number {number}?"
    answer = Answer(TEXT, model="m", usage={"input_tokens": 20, "output_tokens": 100})
    created = time.time()
    return Record(
        *(f"{number:064x}", scope(number % scopes), "n", question, answer, "m"),
        created=created,
        expires=created + 86400,
        space=SPACE,
        vector=vector,
    )


@contextmanager
def server(url: str | None, *modules: str) -> Iterator[str]:
    """Lend an empty server, with more modules than the search module if need be."""
    if url is not None:
        with redis.Redis.from_url(url) as client:
            client.flushall()
        yield url
        return
    from tests.redis_server import SEARCH, RedisStack

    with RedisStack(modules=(*SEARCH, *modules)) as stack:
        yield stack.url


def used(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory"])


def busy(url: str, command: str) -> tuple[int, int]:
    """Return how often the server ran a command, and for how many microseconds in all."""
    with redis.Redis.from_url(url) as client:
        told = client.info("commandstats").get(f"cmdstat_{command}", {})
    return told.get("calls", 0), told.get("usec", 0)


def fill(store: Store, setting: Setting, stored: Any) -> list[float]:
    """Put every entry; return the seconds that each of the last thousand took."""
    times: list[float] = []
    for number, vector in enumerate(stored):
        one = record(number, setting.scopes, vector)
        start = time.perf_counter()
        store.put(one)
        times.append(time.perf_counter() - start)
    return times[-1000:]


def ask(store: Store, setting: Setting, asked: Any) -> tuple[list[float], list[Any]]:
    """Find the neighbours of each question; return seconds, and (key, similarity) or None."""
    times: list[float] = []
    found: list[Any] = []
    for number, vector in enumerate(asked):
        start = time.perf_counter()
        near = store.nearest(scope(number % setting.scopes), SPACE, vector, K)
        times.append(time.perf_counter() - start)
        found.append((int(near[0].record.key, 16), near[0].similarity) if near else None)
    return times, found


def compare(setting: Setting, stored: Any, asked: Any, found: list[Any]) -> tuple[int, int, int]:
    """Return how many nearest were as near as can be, decisions that differ, others served."""
    as_near = flips = others = 0
    for number, vector in enumerate(asked):
        within = np.arange(number % setting.scopes, setting.entries, setting.scopes)
        exact = stored[within] @ vector
        best = int(within[exact.argmax()])
        most = float(exact.max())
        key, similarity = found[number] or (-1, -1.0)
        true = float(stored[key] @ vector) if key >= 0 else -1.0
        as_near += true >= most - ROUNDING[setting.precision]
        if (similarity >= THRESHOLD) != (most >= THRESHOLD):
            flips += 1
        elif most >= THRESHOLD and key != best and true < most - ROUNDING["float32"]:
            others += 1
    return as_near, flips, others


def measure(setting: Setting, url: str | None, file: Path | None) -> str:
    stored, asked = points_of(file, setting.entries)
    with server(url) as place:
        before = used(place)
        store = open_store(
            place,
            timeout=30.0,
            index=setting.index,  # type: ignore[arg-type]  # from the command line
            precision=setting.precision,  # type: ignore[arg-type]
        )
        start = time.perf_counter()
        puts = fill(store, setting, stored)
        filled = time.perf_counter() - start
        size = (used(place) - before) / setting.entries
        ask(store, setting, asked[:50])  # the first of a process reads its code
        times, found = ask(store, setting, asked)
        store.close()
        searches, searching = busy(place, "FT.SEARCH")
        stores, storing = busy(place, "evalsha")
    as_near, flips, others = compare(setting, stored, asked, found)
    p10, p50, p99 = np.percentile(np.array(times) * 1e3, [10, 50, 99])
    put10, put50, put99 = np.percentile(np.array(puts) * 1e3, [10, 50, 99])
    return (
        f"{setting.entries:7d} {setting.scopes:6d} {setting.index:4} {setting.precision} "
        f"| {p10:7.2f} {p50:7.2f} {p99:7.2f} | {put10:6.2f} {put50:6.2f} {put99:6.2f} {filled:6.0f}"
        f" | {searching / searches:7.0f} {storing / stores:6.0f}"
        f" | {size:6.0f} | {as_near / len(asked):6.3f} {flips:4d} {others:4d}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--scopes", type=int, nargs="+", default=[1])
    parser.add_argument("--index", nargs="+", default=["flat", "hnsw"])
    parser.add_argument("--precision", nargs="+", default=["float32", "float16"])
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--url", help="a server whose data may be deleted")
    given = parser.parse_args()
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))
    print("vectors", given.vectors.name if given.vectors else "made")
    print(
        f"{'':29}| {'nearest(5), ms':24}| {'put, ms':21}fill | server, us     | bytes/ "
        f"| of {ASKED} asked\n"
        f"{'entries scopes index':29}|     p10     p50     p99 |    p10    p50    p99      s |"
        f"  search    put |  entry | recall, flips and others at {THRESHOLD}"
    )
    for row in product(given.entries, given.scopes, given.index, given.precision):
        print(measure(Setting(*row), given.url, given.vectors), flush=True)
    print("load average", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
