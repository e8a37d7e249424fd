"""Throughput by callers, and what 64 lookups at once do to an event loop.

    python benchmarks/throughput.py [--rounds 7] [--seconds 2] [--quick]

Callers are threads of one process that share one cache object and ask for stored questions in other
words, each its next as soon as it has an answer; no question comes again before thousands of others
did. Every cache has its turn in each round, in another order; the middle round is reported. Then 64
lookups are awaited together while a beat of 1 ms says how late the loop was.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from statistics import median
from typing import Any

from redis_sizes import server
from rounds import command, conditions, ratio, save, shuffled
from worker import Worker, fill, workers

from shared_core.embedding import folder_of, source_of

CALLERS = (1, 8, 64)
AT_ONCE = 64
OURS, OURS_LIBRARY = "TieredCache, redis", "TieredCache, redis, sentence-transformers"
PEER, REDISVL = "langchain-redis RedisSemanticCache", "RedisVL SemanticCache"
FEATURES = [OURS, OURS_LIBRARY, PEER, REDISVL]
BARS = [
    *((OURS, PEER, callers, 7.0) for callers in (8, 64)),
    *((OURS, REDISVL, callers, 2.5) for callers in (8, 64)),
]


class Supply:
    """Numbers of questions, none twice until all were asked."""

    def __init__(self) -> None:
        self.next: dict[str, int] = defaultdict(int)

    def take(self, name: str, count: int) -> int:
        start = self.next[name]
        self.next[name] += count
        return start


def crowds(running: dict[str, Worker], rounds: int, seconds: float, supply: Supply) -> Any:
    """Return the turns of each cache and number of callers."""
    turns: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    rng = random.Random(2)
    pairs = [(name, callers) for name in running for callers in CALLERS]
    for _ in range(rounds):
        for name, callers in shuffled(pairs, rng):
            start = supply.next[name]
            told = running[name].tell(
                "crowd", threads=callers, seconds=seconds, kind="reworded", start=start
            )
            supply.take(name, told["done"])
            turns[name, callers].append(told)
    return turns


def gathered(running: dict[str, Worker], rounds: int, supply: Supply) -> Any:
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rng = random.Random(3)
    for number in range(rounds + 1):
        for name in shuffled(running, rng):
            start = supply.take(name, AT_ONCE)
            told = running[name].tell("gather", count=AT_ONCE, kind="reworded", start=start)
            if number:  # the first round connects
                turns[name].append(told)
    return turns


def rates(turns: list[dict[str, Any]]) -> list[float]:
    return [one["done"] / one["seconds"] for one in turns]


def cpu_ms(turns: list[dict[str, Any]]) -> float:
    """Return the CPU time of a lookup, which the load of others hardly changes."""
    return median(1e3 * one["cpu"] / one["done"] for one in turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    given = parser.parse_args()
    rounds, entries, seconds = given.rounds, given.entries, given.seconds
    if given.quick:
        rounds, entries, seconds = 3, 500, 1.0
    where = conditions(command())
    model, supply = str(folder_of(source_of(None))), Supply()
    with server(given.url) as url, workers(FEATURES, url, model, entries) as running:
        fill(running, entries)
        turns = crowds(running, rounds, seconds, supply)
        awaited = gathered(running, rounds, supply)
        versions = {name: worker.versions for name, worker in running.items()}
    rows = [
        {
            "cache": name,
            "callers": callers,
            "rate": round(median(rates(found)), 1),
            "least": round(min(rates(found)), 1),
            "most": round(max(rates(found)), 1),
            "cpu_ms": round(cpu_ms(found), 2),
            "served": round(sum(t["served"] for t in found) / sum(t["done"] for t in found), 3),
        }
        for (name, callers), found in sorted(turns.items())
    ]
    late = [
        {
            "cache": name,
            "late_ms": round(1e3 * median(one["late"] for one in found), 1),
            "worst_ms": round(1e3 * max(one["late"] for one in found), 1),
            "seconds": round(median(one["seconds"] for one in found), 3),
        }
        for name, found in awaited.items()
    ]
    bars = [
        {
            "ours": ours,
            "peer": peer,
            "callers": callers,
            "bar": bar,
            "ratio": ratio(rates(turns[ours, callers]), rates(turns[peer, callers]), 50),
            "cpu": round(cpu_ms(turns[peer, callers]) / cpu_ms(turns[ours, callers]), 2),
        }
        for ours, peer, callers, bar in BARS
        if (peer, callers) in turns
    ]
    for row in [*rows, *late, *bars]:
        print(row)
    save("throughput", where, entries=entries, rows=rows, late=late, bars=bars, peers=versions)


if __name__ == "__main__":
    main()
