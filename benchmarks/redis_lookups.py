"""Lookups on one Redis: ours beside langchain-redis, RedisVL's SemanticCache, and bare commands.

    python benchmarks/redis_lookups.py [--entries 1000] [--scopes 1] [--rounds 300]

Machinery only: embeddings are taken from a dictionary, and in ours from its memo, so that what is
left is what each cache does itself. Every cache holds the same answers to the same LangChain
prompts (a system prompt and a question) and is asked in turn: p10 and p50 of interleaved rounds,
the ratio of p10 to langchain-redis' like call, commands per call as the server's MONITOR shows
them, and the server's memory per entry. All serve at a similarity of 0.92. Scopes differ in their
system prompt; the peers know none.

langchain-redis is no dependency: ``pip install --no-deps langchain-redis`` adds its column. Needs
the Redis of ``tests.redis_server``, or ``--url`` of a server whose data may be deleted.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import redis
from asks import Model
from langchain_core.embeddings import Embeddings
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage
from lookups import SYSTEM, generation
from redis_sizes import THRESHOLD, made, moved, server, used

from langchain_tiered_cache import TieredCache
from shared_core import Static

COUNTED = 100
"""Calls whose commands are counted."""

VERBS, KINDS, THINGS, PLACES, WAYS = (
    words.split()
    for words in (
        "renew borrow return extend reserve cancel find order move print",
        "old new small large rare red blue green",
        "book film map letter drawing journal recording poster dictionary atlas guide novel poem "
        "essay score photograph newspaper postcard leaflet manuscript painting puzzle game record",
        "library archive school museum gallery theatre station harbour market garden village "
        "castle office workshop hospital kitchen cellar tower chapel stadium",
        "myself alone quickly safely",
    )
)


class Known(Embeddings):
    """Embeddings that are all known: a text's vector is that of its question."""

    name, dimension, max_tokens = "benchmark", 384, None

    def __init__(self) -> None:
        self.vectors: dict[str, Any] = {}

    def embed(self, texts: list[str]) -> Any:
        return np.array([self.vectors[text] for text in texts])

    def embed_query(self, text: str) -> Any:
        return self.vectors.get(text, next(iter(self.vectors.values())))  # it is asked "test"

    def embed_documents(self, texts: list[str]) -> Any:
        return [self.embed_query(text) for text in texts]


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, and the prompt that LangChain makes of it."""

    question: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Questions:
    """Those that are stored, the same in other words, others, and those to be stored."""

    stored: list[Ask]
    reworded: list[Ask]
    others: list[Ask]
    fresh: list[Ask]


def questions(entries: int, scopes: int, rounds: int, known: Known) -> Questions:
    rng = np.random.default_rng(5)
    plain = [
        f"{verb} the {kind} {thing} from the {place} {way}"
        for verb, kind, thing, place, way in product(VERBS, KINDS, THINGS, PLACES, WAYS)
    ]
    random.Random(5).shuffle(plain)
    points = made(entries + 2 * rounds, rng)

    def ask(text: str, number: int, vector: Any) -> Ask:
        system = SYSTEM if scopes == 1 else f"{SYSTEM} You serve branch {number % scopes}."
        prompt = dumps([SystemMessage(system), HumanMessage(text)])
        known.vectors[text] = known.vectors[prompt] = vector
        return Ask(text, prompt)

    def some(start: int, count: int) -> list[Ask]:
        picked = range(start, start + count)
        return [ask(f"How do I {plain[i]}?", i - start, points[i]) for i in picked]

    near = moved(points[:entries], np.full(entries, 0.97), rng)
    return Questions(
        stored=some(0, entries),
        reworded=[ask(f"Please, how can I {plain[i]}?", i, near[i]) for i in range(entries)],
        others=some(entries, rounds),
        fresh=some(entries + rounds, rounds),
    )


@dataclass(frozen=True, slots=True)
class Peer:
    """A cache as it is measured: how it is asked, and how it stores.

    ``exact`` asks for the very same prompt; it may be another cache, which stores with
    ``put_exact``.
    """

    look: Callable[[Ask], Any]
    put: Callable[[Ask], Any]
    exact: Callable[[Ask], Any] | None = None
    put_exact: Callable[[Ask], Any] | None = None


def ours(url: str, known: Known, llm: str) -> tuple[Peer, Callable[[], None]]:
    cache = TieredCache(url, threshold=Static(THRESHOLD), embedder=known, timeout=5.0)

    def look(ask: Ask) -> Any:
        return cache.lookup(ask.prompt, llm)

    def put(ask: Ask) -> None:
        cache.update(ask.prompt, llm, [generation()])

    return Peer(look, put, look), cache.close


def langchain_redis(url: str, known: Known, llm: str) -> Peer | None:
    try:
        from langchain_redis import RedisCache, RedisSemanticCache
    except ImportError:
        print("without langchain-redis: pip install --no-deps langchain-redis adds it")
        return None
    cache = RedisSemanticCache(known, url, distance_threshold=1 - THRESHOLD, name="peer")
    exact = RedisCache(url, prefix="exact")
    return Peer(
        lambda ask: cache.lookup(ask.prompt, llm),
        lambda ask: cache.update(ask.prompt, llm, [generation()]),
        lambda ask: exact.lookup(ask.prompt, llm),
        lambda ask: exact.update(ask.prompt, llm, [generation()]),
    )


def redisvl(url: str, known: Known) -> Peer:
    from redisvl.extensions.cache.llm import SemanticCache
    from redisvl.utils.vectorize import CustomVectorizer

    vectorizer = CustomVectorizer(lambda text, **_: known.embed_query(text).tolist())
    cache = SemanticCache("bare", 1 - THRESHOLD, vectorizer=vectorizer, redis_url=url)
    text = str(generation().message.content)
    return Peer(
        lambda ask: cache.check(prompt=ask.question),
        lambda ask: cache.store(prompt=ask.question, response=text),
    )


def bare(client: redis.Redis, ask: Callable[[int], Ask], known: Known) -> dict[str, Any]:
    """Return the commands themselves: a value, a record, a search as ours is, nearest alone."""
    record = next(client.scan_iter("tlc:*:r1:*", count=1000))
    index = next(n for n in client.execute_command("FT._LIST") if n.startswith(b"tlc:"))
    field = index.split(b":")[3]
    client.set("plain", b"x" * 1000)
    query = b"*=>[KNN 1 @%s $v AS d]" % field

    def search(round: int) -> Any:
        vector = known.vectors[ask(round).question].astype("<f2").tobytes()
        command = ("FT.SEARCH", index, query, "RETURN", 1, "d", "DIALECT", 2)
        return client.execute_command(*command, "PARAMS", 2, "v", vector)

    return {
        "bare GET of 1 KB": lambda _: client.get("plain"),
        "bare HGETALL of a record": lambda _: client.hgetall(record),
        "bare FT.SEARCH KNN 1": search,
    }


def calls_of(peers: Mapping[str, Peer], asks: Questions) -> dict[str, Callable[[int], Any]]:
    """Return every call that is measured; each takes the number of its round."""
    rng = random.Random(3)
    order = [rng.randrange(len(asks.stored)) for _ in asks.fresh]
    calls: dict[str, Callable[[int], Any]] = {}
    for name, peer in peers.items():
        if peer.exact is not None:
            calls[f"{name} exact"] = lambda i, p=peer: p.exact(asks.stored[order[i]])
        calls[f"{name} hit"] = lambda i, p=peer: p.look(asks.reworded[order[i]])
        calls[f"{name} miss"] = lambda i, p=peer: not p.look(asks.others[i])
        calls[f"{name} store"] = lambda i, p=peer: p.put(asks.fresh[i]) or True
    return calls


def commands(client: redis.Redis, call: Callable[[int], Any]) -> str:
    """Count what the server is sent for each call; what scripts do inside is none of it."""
    sent: Counter[str] = Counter()
    with client.monitor() as monitor:
        for number in range(COUNTED):
            call(number)
        client.echo("enough")
        for event in monitor.listen():
            words = str(event["command"]).split()
            if words == ["ECHO", "enough"]:
                break
            if event["client_type"] != "lua":
                sent[words[0]] += 1
    # What comes less than once in twenty calls is a counter that is flushed every other second.
    return ", ".join(f"{n / COUNTED:.1f} {name}" for name, n in sent.items() if n > COUNTED / 20)


def measure(calls: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call, once in every round.

    The order is another in each: what comes after a long search finds cold processor caches.
    """
    order, rng = list(calls.items()), random.Random(9)
    times: dict[str, list[float]] = {name: [] for name in calls}
    wrong: Counter[str] = Counter()
    for number in range(rounds):
        rng.shuffle(order)
        for name, call in order:
            start = time.perf_counter()
            found = call(number)
            times[name].append(time.perf_counter() - start)
            wrong[name] += not found
    for name, count in wrong.items():
        if count > rounds / 100:
            print(f"{name}: {count} of {rounds} turned out otherwise")
    return times


def report(times: Mapping[str, list[float]], sent: Mapping[str, str]) -> None:
    p10 = {name: float(np.percentile(taken, 10)) * 1e6 for name, taken in times.items()}
    for name, taken in times.items():
        base = p10.get(f"langchain-redis {name.rsplit(' ', 1)[-1]}")
        ratio = "" if base is None or name.startswith("bare") else f"{p10[name] / base:5.2f} x"
        p50 = np.percentile(taken, 50) * 1e6
        print(f"{name:26} p10 {p10[name]:7.0f}  p50 {p50:7.0f} us {ratio:8} {sent.get(name, '')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--entries", type=int, default=1000)
    parser.add_argument("--scopes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--url", help="a server whose data may be deleted")
    given = parser.parse_args()
    known, llm = Known(), Model()._get_llm_string(stop=None)
    asks = questions(given.entries, given.scopes, given.rounds + COUNTED, known)
    print(
        f"load average {os.getloadavg()[0]:.1f}, {given.entries} entries in {given.scopes} scopes, "
        f"{given.rounds} rounds, prompt {len(asks.stored[0].prompt)} characters"
    )
    with server(given.url, "rejson.so") as url, redis.Redis.from_url(url) as client:
        mine, close = ours(url, known, llm)
        found = {
            "ours": mine,
            "langchain-redis": langchain_redis(url, known, llm),
            "RedisVL": redisvl(url, known),
        }
        peers = {name: peer for name, peer in found.items() if peer is not None}
        for name, peer in peers.items():
            before = used(url)
            for ask in asks.stored:
                peer.put(ask)
            print(f"{name:16} {(used(url) - before) / given.entries:7.0f} bytes per entry")
            for ask in asks.stored if peer.put_exact is not None else ():
                peer.put_exact(ask)
        calls = calls_of(peers, asks)
        later = {name: lambda i, c=call: c(given.rounds + i) for name, call in calls.items()}
        sent = {name: commands(client, call) for name, call in later.items()}
        for number in range(given.rounds):  # the vectors are in the memo then
            calls["ours hit"](number), calls["ours miss"](number)
            mine.look(asks.fresh[number])
        calls |= bare(client, lambda i: asks.others[i], known)
        report(measure(calls, given.rounds), sent)
        close()
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
