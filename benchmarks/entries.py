"""Latency by entries in one scope: what the caches do themselves, as they grow.

    python benchmarks/entries.py [--entries 1000 10000 100000] [--rounds 300] [--quick]

Vectors are made up, and known when they are asked for: every question is looked up once before it
is timed. What is left is search and machinery. Every cache holds the same entries under one system
prompt, and is asked in turn for stored questions in other words. Sizes beyond, without LangChain:
scale.py; kinds of Redis index: redis_sizes.py.
"""

from __future__ import annotations

import argparse
import random

from contender import MADE
from redis_sizes import server
from rounds import Series, command, conditions, ratio, save, shuffled
from worker import workers

OURS = "TieredCache, redis"
FEATURES = [
    OURS,
    "TieredCache, memory",
    "TieredCache, sqlite",
    "langchain-redis RedisSemanticCache",
    "RedisVL SemanticCache",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    given = parser.parse_args()
    sizes, rounds = given.entries, given.rounds
    if given.quick:
        sizes, rounds = [1000, 5000], 60
    where, rng, rows, filled = conditions(command()), random.Random(8), [], 0
    with server(given.url) as url, workers(FEATURES, url, MADE, max(sizes)) as running:
        for size in sorted(sizes):
            for worker in running.values():
                worker.tell("fill", start=filled, count=size - filled)
            filled = size
            series = {name: Series() for name in running}
            asked = random.Random(size).sample(range(size), min(size, rounds))
            for worker in running.values():
                worker.tell("look", kind="reworded", numbers=asked)
            for number in asked:
                for name in shuffled(running, rng):
                    told = running[name].tell("look", kind="reworded", numbers=[number])
                    series[name].add(told)
            for name, one in series.items():
                compared = ratio(one.wall, series[OURS].wall)
                rows.append({"cache": name, "entries": size, "ratio": compared, **one.summary()})
                print(rows[-1], flush=True)
        versions = {name: worker.versions for name, worker in running.items()}
    save("entries", where, rows=rows, peers=versions)


if __name__ == "__main__":
    main()
