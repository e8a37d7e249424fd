"""Start-up: CPU seconds and megabytes of a process up to its first hit.

    python benchmarks/startup.py [--rounds 5] [--quick]

A process starts, builds its cache, stores one answer and looks it up; the model is on the disk. The
first row, langchain-core alone, is what LangChain's own start costs. The least of all rounds counts
(nothing makes a process use less CPU time than it needs).
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from typing import Any

from redis_sizes import server
from rounds import command, conditions, save, shuffled
from worker import Failed, Worker

from shared_core.embedding import folder_of, source_of

BASE = "langchain-core InMemoryCache"
EXACT, SEMANTIC = "first exact hit", "first semantic hit"
STARTS = [
    (BASE, EXACT),
    ("TieredCache, memory, exact only", EXACT),
    ("TieredCache, sqlite, exact only", EXACT),
    ("TieredCache, redis, exact only", EXACT),
    ("langchain-community SQLiteCache", EXACT),
    ("langchain-redis RedisCache", EXACT),
    ("TieredCache, memory", SEMANTIC),
    ("TieredCache, redis", SEMANTIC),
    ("TieredCache, redis, sentence-transformers", SEMANTIC),
    ("langchain-redis RedisSemanticCache", SEMANTIC),
    ("RedisVL SemanticCache", SEMANTIC),
    ("GPTCache, sqlite and faiss", SEMANTIC),
]
BEYOND_CPU_S = 0.3
SEMANTIC_CPU_S = 1.5


def start(name: str, until: str, url: str, model: str) -> dict[str, Any]:
    """Start a process, have its first hit, and return what it used."""
    with Worker(name, url, model, 1) as worker:
        worker.tell("fill", start=0, count=1)
        kind = "stored" if until == EXACT else "reworded"
        told = worker.tell("look", kind=kind, numbers=[0])
        assert told["right"] == 1, (name, told)
        return {**worker.tell("usage"), "versions": worker.versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    given = parser.parse_args()
    where, model, rng = conditions(command()), str(folder_of(source_of(None))), random.Random(6)
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    with server(given.url, "rejson.so") as url:
        for _ in range(2 if given.quick else given.rounds):
            for name, until in shuffled(STARTS, rng):
                try:
                    found[name, until].append(start(name, until, url, model))
                except (Failed, OSError) as error:
                    print(f"left out: {error}")
    least = {pair: min(one["cpu"] for one in turns) for pair, turns in found.items()}
    rows = [
        {
            "cache": name,
            "until": until,
            "cpu": round(least[name, until], 2),
            "beyond": round(least[name, until] - least[BASE, EXACT], 2),
            "mb": round(min(one["resident"] for one in found[name, until]) / 1e6),
            "heavy": found[name, until][0]["heavy"],
            "versions": found[name, until][0]["versions"],
        }
        for name, until in STARTS
        if found[name, until]
    ]
    by = {(row["cache"], row["until"]): row for row in rows}
    bars = [
        {"what": f"{name}, {EXACT}, beyond langchain-core", "bar": BEYOND_CPU_S, "found": value}
        for name in ("TieredCache, memory, exact only", "TieredCache, sqlite, exact only")
        for value in [by[name, EXACT]["beyond"]]
    ] + [
        {"what": f"{name}, {SEMANTIC}", "bar": SEMANTIC_CPU_S, "found": by[name, SEMANTIC]["cpu"]}
        for name in ("TieredCache, memory", "TieredCache, redis")
    ]
    print(*rows, *bars, sep="\n")
    save("startup", where, rows=rows, bars=bars)


if __name__ == "__main__":
    main()
