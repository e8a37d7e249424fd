"""Memory: bytes per entry, in the server, in the process and on the disk.

    python benchmarks/memory.py [--entries 10000] [--quick]

Every cache is given the same prompts of some 190 tokens and answers of 380 characters, with made-up
vectors of 384 numbers. In Redis it is what the server's memory grew by, index included; else what
the process and its files grew by.
"""

from __future__ import annotations

import argparse
from typing import Any

from asks import ANSWER, ask, generation
from contender import MADE
from langchain_core.load import dumps
from redis_sizes import server, used
from rounds import command, conditions, save
from worker import Failed, Worker

IN_REDIS = [
    "TieredCache, redis",
    "TieredCache, redis, exact only",
    "langchain-redis RedisSemanticCache",
    "langchain-redis RedisCache",
    "RedisVL SemanticCache",
    "BetterDB SemanticCache",
]
EMBEDDED = [
    "TieredCache, memory",
    "TieredCache, sqlite",
    "GPTCache, sqlite and faiss",
    "langchain-core InMemoryCache",
    "langchain-community SQLiteCache",
]
FIRST = 200
"""Entries stored before memory is read: with them come imports, indexes and buffers."""

BARS = [
    ("TieredCache, redis", "langchain-redis RedisSemanticCache", 0.5),
    ("TieredCache, redis, exact only", "langchain-redis RedisCache", None),
    ("TieredCache, redis", "RedisVL SemanticCache", None),
]


def grown(name: str, url: str, entries: int) -> dict[str, Any]:
    """Fill one cache and return what grew, in bytes per entry."""
    with Worker(name, url, MADE, entries) as worker:
        worker.tell("fill", start=0, count=FIRST)
        before, held = worker.tell("usage"), used(url)
        worker.tell("fill", start=FIRST, count=entries - FIRST)
        after = worker.tell("usage")
        count = entries - FIRST
        return {
            "cache": name,
            "redis": round((used(url) - held) / count) if name in IN_REDIS else None,
            "process": round((after["resident"] - before["resident"]) / count),
            "disk": round((after["disk"] - before["disk"]) / count),
            "versions": worker.versions,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    given = parser.parse_args()
    entries = 2000 if given.quick else given.entries
    where, rows = conditions(command()), []
    for name in IN_REDIS + EMBEDDED:
        with server(given.url, "rejson.so") as url:
            try:
                rows.append(grown(name, url, entries))
                print(rows[-1])
            except (Failed, OSError) as error:
                print(f"left out: {error}")
    size = {row["cache"]: row["redis"] for row in rows}
    bars = [
        {"ours": ours, "peer": peer, "bar": bar, "share": round(size[ours] / size[peer], 3)}
        for ours, peer, bar in BARS
        if ours in size and peer in size
    ]
    print(*bars, sep="\n")
    lengths = {
        "prompt": len(ask("stored", 0, 1).prompt),
        "answer": len(ANSWER),
        "generation": len(dumps(generation(ANSWER))),
    }
    save("memory", where, entries=entries, lengths=lengths, rows=rows, bars=bars)


if __name__ == "__main__":
    main()
