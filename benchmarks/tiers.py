"""Latency by tier: ours beside its peers, on memory, SQLite and one Redis.

    python benchmarks/tiers.py [--entries 1000] [--rounds 300] [--quick]

Every cache lives in a process of its own and holds the same answers to the same prompts of some 190
tokens. They are asked in turn, in another order each round: for an exact repeat, for a stored
question in other words, and for one that is not there. No question comes twice, so that no vector
is remembered; at the end answers are stored to those that were not there, as after a miss. Times
are those of one call inside its process. What no cache can be faster than (floors.py) is asked with
them.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

from contenders import ENTRIES
from redis_sizes import server
from rounds import Series, command, conditions, ratio, save, shuffled
from worker import Worker, fill, workers

from shared_core.embedding import folder_of, source_of

EXACT, HIT, MISS, EXACT_MISS = "exact hit", "semantic hit", "semantic miss", "exact miss"
KINDS = {EXACT: "stored", HIT: "reworded", MISS: "other", EXACT_MISS: "other"}
BURST = 8
"""Exact lookups of one turn: they take microseconds, the turn itself more."""

ONLY_EXACT = {
    "TieredCache, redis, exact only",
    "langchain-core InMemoryCache",
    "langchain-community SQLiteCache",
    "langchain-redis RedisCache",
}
TIERS = {
    **dict.fromkeys(ONLY_EXACT, (EXACT, EXACT_MISS)),
    "TieredCache, memory": (EXACT, HIT, MISS),
    "TieredCache, sqlite": (EXACT, HIT, MISS),
    "TieredCache, redis": (EXACT, HIT, MISS),
    "TieredCache, redis, sentence-transformers": (HIT, MISS),
    "langchain-redis RedisSemanticCache": (HIT, MISS),
    "RedisVL SemanticCache": (HIT, MISS),
    "GPTCache, sqlite and faiss": (HIT, MISS),
    "BetterDB SemanticCache": (HIT, MISS),
    "floor: a dictionary": (EXACT,),
    "floor: one GET": (EXACT, EXACT_MISS),
    "floor: one pass of the model": (HIT,),
    "floor: one pass of the model, one FT.SEARCH": (HIT, MISS),
}
OURS, OURS_LIBRARY = "TieredCache, redis", "TieredCache, redis, sentence-transformers"
PEER, REDISVL = "langchain-redis RedisSemanticCache", "RedisVL SemanticCache"
BARS = [
    (OURS, PEER, HIT, 9.0),
    (OURS, REDISVL, HIT, 2.4),
    (OURS, "GPTCache, sqlite and faiss", HIT, 2.8),
    (OURS, "BetterDB SemanticCache", HIT, None),
    ("TieredCache, memory", "GPTCache, sqlite and faiss", HIT, 2.5),
    (OURS_LIBRARY, PEER, HIT, 4.0),
    (OURS_LIBRARY, REDISVL, HIT, 1.0),
    ("TieredCache, sqlite", "langchain-community SQLiteCache", EXACT, None),
    ("TieredCache, redis, exact only", "langchain-redis RedisCache", EXACT, None),
    ("TieredCache, redis, exact only", "langchain-redis RedisCache", EXACT_MISS, None),
]
"""Ours, a peer, what is compared, how many times as fast ours is to be, if there is a bar.

Those of exact lookups are in lookups.py."""


def turn(worker: Worker, tier: str, number: int, entries: int) -> dict[str, Any]:
    """Ask one cache for its part of a round."""
    short = tier in (EXACT, EXACT_MISS)
    count = BURST if short else 1
    offset = 10_000 if tier == EXACT_MISS else 0  # others than were missed by meaning
    numbers = [offset + number * count + i for i in range(count)]
    if tier == EXACT:
        numbers = [one * 7 % entries for one in numbers]
    return worker.tell("look", kind=KINDS[tier], numbers=numbers, warm=short)


def measure(running: dict[str, Worker], rounds: int, entries: int) -> dict[tuple[str, str], Series]:
    """Ask all in turn; return the series of each cache and tier."""
    pairs = [(name, tier) for name in running for tier in TIERS[name]]
    found = {pair: Series() for pair in pairs}
    rng = random.Random(1)
    for number in range(-5, rounds):
        for name, tier in shuffled(pairs, rng):
            told = turn(running[name], tier, number + 5, entries)
            if number >= 0:  # the first calls import and connect
                found[name, tier].add(told)
    return found


def stores(running: dict[str, Worker], rounds: int, entries: int) -> dict[str, Series]:
    """Have all store answers to questions that they were asked before, as after a miss."""
    found = {name: Series() for name in running}
    rng = random.Random(2)
    for number in range(rounds):
        for name in shuffled(running, rng):
            found[name].add(running[name].tell("put", kind="other", numbers=[number]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    given = parser.parse_args()
    rounds, entries = (60, 200) if given.quick else (given.rounds, given.entries)
    where = conditions(command())
    model = str(folder_of(source_of(None)))
    with (
        server(given.url, "rejson.so") as url,
        workers(list(TIERS), url, str(model), entries) as running,
    ):
        fill(running, entries)
        series = measure(running, rounds, entries)
        stored = stores(running, rounds // 2, entries)
        versions = {name: worker.versions for name, worker in running.items()}
    rows = [
        {"cache": name, "tier": tier, "asked": ENTRIES[name].asked, **one.summary()}
        for (name, tier), one in series.items()
    ]
    bars = [
        {
            "ours": ours,
            "peer": peer,
            "tier": tier,
            "bar": bar,
            "ratio": ratio(series[peer, tier].wall, series[ours, tier].wall),
            "cpu": round(_cpu(series[peer, tier]) / _cpu(series[ours, tier]), 2),
        }
        for ours, peer, tier, bar in BARS
        if (peer, tier) in series and (ours, tier) in series
    ]
    puts = [{"cache": name, "tier": "store", **one.summary()} for name, one in stored.items()]
    print(*rows, *puts, *bars, sep="\n")
    counts = {"entries": entries, "rounds": rounds}
    save("tiers", where, **counts, rows=rows, stores=puts, bars=bars, peers=versions)


def _cpu(series: Series) -> float:
    return series.cpu / len(series.wall)


if __name__ == "__main__":
    main()
