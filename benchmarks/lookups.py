"""Exact lookups as LangChain makes them, each bar beside what is measured.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/lookups.py [--rounds 600] [--url redis://…]
    … benchmarks/lookups.py --against CHECKOUT     this checkout beside another, such as a worktree

Memory, sqlite and Redis, ours with ``semantic=False`` beside LangChain's own caches, all in one
process; those on one kind of store are interleaved, in another order each round. "many" asks for
2,000 prompts in turn, more than are kept parsed and built, so that every lookup reads its prompt
and builds its message anew. Floors are what a lookup cannot do without: the store's bytes read by
its own client, and decoded.

Microseconds: p10, p50, p99 of wall time, and mean CPU time of the calling thread. Ratios are of
p10, with a 95 % bootstrap interval over the rounds. langchain-redis is no dependency: ``pip install
--no-deps langchain-redis`` adds it. Redis is that of ``tests.redis_server`` or, with ``--url``, a
server whose data may be deleted; on other systems than Linux x86_64 its part is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from asks import Model
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from worker import environment

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.answers import _load as read_payload
from langchain_tiered_cache.cache import served
from langchain_tiered_cache.call_context import asked, forget
from langchain_tiered_cache.llm_string import read_model
from langchain_tiered_cache.request import _parse, parse
from shared_core.stores.codec import Codec

SYSTEM = "You are a helpful assistant of a public library. Answer in plain words. " * 4
QUESTION = "How do I renew a book that I borrowed?"
MANY = 2000
"""Prompts that are asked in turn: more than are kept parsed."""
WARM = 50
"""Rounds that are not counted."""
RESAMPLED = 1000
STARTS = 5
PACKAGES = ("langchain-core", "langchain-community", "langchain-redis", "redis", "hiredis")

FOUND = """
import time
from langchain_core.outputs import Generation
from langchain_tiered_cache import TieredCache
cache = TieredCache(semantic=False)
cache.update("prompt", "model", [Generation(text="answer")])
assert cache.lookup("prompt", "model")
print(time.process_time())
"""

Call = Callable[[], Any]


def generation() -> ChatGeneration:
    message = AIMessage(
        "Open your account page, choose the book, and press renew. " * 3,
        id="run-1",
        response_metadata={
            "model_name": "gpt-4o-mini",
            "finish_reason": "stop",
            "id": "chatcmpl-1",
        },
        usage_metadata={"input_tokens": 70, "output_tokens": 40, "total_tokens": 110},
    )
    return ChatGeneration(message=message, generation_info={"finish_reason": "stop"})


def prompt(question: str = QUESTION) -> str:
    return dumps([SystemMessage(SYSTEM), HumanMessage(question)])


LLM = Model(temperature=0.2)._get_llm_string(stop=None)
PROMPT = prompt()
OTHERS = [prompt(f"{QUESTION} It is number {number}.") for number in range(MANY)]


def filled(cache: Any, *, many: bool = False) -> Any:
    for text in OTHERS if many else [PROMPT]:
        cache.update(text, LLM, [generation()])
    return cache


def hit(cache: Any) -> Call:
    return lambda: cache.lookup(PROMPT, LLM)


def hits_of_many(cache: Any) -> Call:
    prompts = cycle(OTHERS)
    return lambda: cache.lookup(next(prompts), LLM)


def miss(cache: Any) -> Call:
    prompts = (prompt(f"{QUESTION} It is lost, {number}.") for number in range(10**9))
    ahead = [next(prompts) for _ in range(3 * MANY)]  # dumping is LangChain's part

    def look() -> bool:
        return cache.lookup(ahead.pop(), LLM) is None

    return look


def own(url: str, closing: ExitStack) -> TieredCache:
    cache = TieredCache(url, semantic=False, timeout=5.0)
    closing.callback(cache.close)
    return cache


def in_memory(closing: ExitStack) -> dict[str, Call]:
    cache = filled(filled(own("memory://", closing), many=True))
    kept = {(PROMPT, LLM): [generation()]}
    return {
        "memory floor: dict": lambda: kept[PROMPT, LLM],
        "langchain-core InMemoryCache hit": hit(filled(InMemoryCache())),
        "memory hit": hit(cache),
        "memory hit, many": hits_of_many(cache),
        "memory miss": miss(cache),
    }


def in_sqlite(folder: Path, closing: ExitStack) -> dict[str, Call]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cache import SQLiteCache

        theirs = filled(filled(SQLiteCache(str(folder / "theirs.db"))), many=True)
    closing.callback(theirs.engine.dispose)
    cache = filled(own(f"sqlite:///{folder / 'ours.db'}", closing))
    floor = sqlite3.connect(folder / "ours.db")
    closing.callback(floor.close)
    ((key,),) = floor.execute("SELECT key FROM records").fetchall()
    filled(cache, many=True)
    codec = Codec()

    def read() -> Any:
        row = floor.execute("SELECT body FROM records WHERE key = ?", (key,)).fetchone()
        return codec._decode(row[0])

    return {
        "sqlite floor: SELECT, decode": read,
        "langchain SQLiteCache hit": hit(theirs),
        "langchain SQLiteCache hit, many": hits_of_many(theirs),
        "langchain SQLiteCache miss": miss(theirs),
        "sqlite hit": hit(cache),
        "sqlite hit, many": hits_of_many(cache),
        "sqlite miss": miss(cache),
    }


def in_redis(url: str, closing: ExitStack) -> dict[str, Call]:
    import redis

    client = closing.enter_context(redis.Redis.from_url(url))
    cache = filled(own(url, closing))
    (name,) = client.scan_iter("tlc:*:r1:*", count=10_000)
    filled(cache, many=True)
    codec = Codec()
    calls: dict[str, Call] = {
        "redis floor: HGETALL, decode": lambda: codec._decode(client.hgetall(name)[b"b"]),
        "redis hit": hit(cache),
        "redis hit, many": hits_of_many(cache),
        "redis miss": miss(cache),
    }
    try:
        from langchain_redis import RedisCache
    except ImportError:
        print("without langchain-redis: pip install --no-deps langchain-redis adds it")
        return calls
    theirs = filled(filled(RedisCache(url)), many=True)
    return calls | {
        "langchain RedisCache hit": hit(theirs),
        "langchain RedisCache hit, many": hits_of_many(theirs),
        "langchain RedisCache miss": miss(theirs),
    }


def parts(folder: Path, url: str | None, closing: ExitStack) -> dict[str, Call]:
    """Return what a hit is made of, each part in a loop of its own."""
    request = parse(PROMPT, LLM)
    key = request.address("default").key
    own_url = f"sqlite:///{folder / 'ours.db'}"
    places = {"sqlite": own_url} if url is None else {"sqlite": own_url, "redis": url}
    memory = filled(own("memory://", closing))
    hit = memory.cache.lookup(request)
    kept: dict[str, Call] = {
        "who asks": lambda: forget(asked(PROMPT, LLM)) or True,
        "parse, kept": lambda: parse(PROMPT, LLM),
        "parse, anew": lambda: _parse(PROMPT, LLM, read_model(LLM), None, None),
        "key": lambda: request.address("default"),
        "core: key, read, count": lambda: memory.cache.lookup(request),
        "read, memory": lambda: memory.cache._store.get(key),
        "message, kept": lambda: served(hit, "mark"),
        "message, anew": lambda: read_payload(hit.answer.payload),
    }
    for name, place in places.items():
        store = own(place, closing).cache._store
        kept[f"read, {name}"] = lambda store=store: store.get(key)
    return kept


def alone(call: Call, rounds: int) -> list[float]:
    times = []
    for _ in range(5 * rounds):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e6)
    return times


@dataclass(frozen=True, slots=True)
class Taken:
    """Microseconds of one call, a value per round."""

    wall: np.ndarray[Any, Any]
    cpu: np.ndarray[Any, Any]

    @property
    def p10(self) -> float:
        return float(np.percentile(self.wall, 10))


def measure(calls: dict[str, Call], rounds: int) -> dict[str, Taken]:
    """Make every call once a round: what comes after a long one finds cold processor caches."""
    order, rng = list(calls.items()), random.Random(9)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds + WARM):
        rng.shuffle(order)
        for name, call in order:
            cpu, start = time.thread_time(), time.perf_counter()
            found = call()
            wall = time.perf_counter() - start
            taken[name].append((wall * 1e6, (time.thread_time() - cpu) * 1e6))
            assert found, name
    counted = {name: np.array(times[WARM:]) for name, times in taken.items()}
    return {name: Taken(times[:, 0], times[:, 1]) for name, times in counted.items()}


def interval(of: Callable[..., Any], *taken: Taken) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a function of p10s; rounds are resampled together."""
    rng = np.random.default_rng(4)
    rounds = rng.integers(len(taken[0].wall), size=(RESAMPLED, len(taken[0].wall)))
    p10s = (np.percentile(one.wall[rounds], 10, axis=1) for one in taken)
    low, high = np.percentile(of(*p10s), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value, its interval, and what is asked of it: at most, or at least, so much."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        value = f"{self.value:7.2f} {self.unit} [{self.low:.2f}, {self.high:.2f}]"
        if self.most is not None:
            met, bar = self.value <= self.most, f"at most {self.most:g} {self.unit}"
        elif self.least is not None:
            met, bar = self.value >= self.least, f"at least {self.least:g} {self.unit}"
        else:
            return f"     {self.name:64s} {value}"
        return f"{'met ' if met else 'MISS'} {self.name:64s} {value:29s} {bar}"


def bars(taken: dict[str, Taken]) -> Iterator[Bar]:
    def over(name: str, base: str, **bar: float) -> Iterator[Bar]:
        if name in taken and base in taken:
            ends = interval(np.divide, taken[name], taken[base])
            ratio = taken[name].p10 / taken[base].p10
            yield Bar(f"{name} / {base}", ratio, *ends, "x", **bar)

    def beyond(name: str, floor: str, most: float) -> Iterator[Bar]:
        if name in taken:
            ends = interval(np.subtract, taken[name], taken[floor])
            more = taken[name].p10 - taken[floor].p10
            most = max(most, 0.25 * taken[floor].p10)
            yield Bar(f"{name} - {floor}", more, *ends, "us", most=most)

    one = taken["memory hit"]
    yield Bar("memory hit", one.p10, *interval(lambda p10: p10, one), "us", most=28)
    yield from over("langchain SQLiteCache hit", "sqlite hit", least=4.5)
    yield from over("langchain SQLiteCache hit, many", "sqlite hit, many", least=3)
    yield from over("redis hit", "redis floor: HGETALL, decode", most=1.5)
    yield from over("langchain RedisCache hit", "redis hit", least=1.5)
    yield from over("langchain RedisCache hit, many", "redis hit, many", least=1.5)
    yield from over("redis miss", "langchain RedisCache miss", most=1)
    yield from beyond("memory hit", "memory floor: dict", 40)
    yield from beyond("sqlite hit", "sqlite floor: SELECT, decode", 100)
    yield from beyond("redis hit", "redis floor: HGETALL, decode", 100)


def cpu_of(code: str) -> float:
    """Return the CPU seconds that a new process needs for some code, which prints them."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment())
    return float(done.stdout)


def start() -> Iterator[Bar]:
    """Measure import and start to the first exact hit, beyond what parts of langchain-core take.

    Whoever has a use for a cache has a model, whose module loads most of langchain-core.
    """
    parts = ("langchain_core.language_models.chat_models", "langchain_core.caches")
    alone = [f"import time, {part}\nprint(time.process_time())" for part in parts]
    ours = "".join(f"import {part}\n" for part in parts) + FOUND
    runs = [(*map(cpu_of, alone), cpu_of(ours), cpu_of(FOUND)) for _ in range(STARTS)]  # in turns
    models, caches, with_models, without = np.array(runs).T
    for part, base, whole, most in (
        (parts[0], models, with_models, 0.3),
        (parts[1], caches, without, None),
    ):
        more = whole - base
        name = f"start to first exact hit, beyond {part}"
        yield Bar(name, whole.min() - base.min(), more.min(), more.max(), "CPU s", most=most)


def versions(names: Sequence[str]) -> str:
    def one(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"no {name}"

    return ", ".join([f"Python {sys.version.split()[0]}", *map(one, names)])


def redis_url(given: str | None, closing: ExitStack) -> str | None:
    """Return an empty server, None where there is none."""
    from tests.redis_server import RedisStack, why_not

    if given is None and (reason := why_not()) is not None:
        print(f"without Redis: {reason}")
        return None
    if given is None:
        return closing.enter_context(RedisStack(modules=("redisearch.so", "rejson.so"))).url
    import redis

    with redis.Redis.from_url(given) as client:
        client.flushall()
    return given


# Two checkouts beside one another, each in a process of its own, their calls interleaved.


BLOCK = 20
"""Calls of one path in one checkout, before the other's turn."""


class Worker:
    """A process that times the lookups of one checkout."""

    def __init__(self, checkout: Path, redis: str | None, closing: ExitStack) -> None:
        script = Path(__file__).with_name("lookups_worker.py")
        command = [sys.executable, str(script), *(("--redis", redis) if redis else ())]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = closing.enter_context(
            subprocess.Popen(
                command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True
            )
        )
        self.paths: list[str] = self._said()

    def _said(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def took(self, path: str, calls: int) -> float:
        """Return the median microseconds of some calls."""
        assert self._process.stdin is not None
        print(json.dumps([path, calls]), file=self._process.stdin, flush=True)
        return float(np.median(self._said()))


def against(checkout: Path, rounds: int, given_url: str | None) -> bool:
    """Compare this checkout with another, and say whether no path became slower.

    A path is slower if the whole interval of its ratio, new over old, lies above 1.
    """
    with ExitStack() as closing:
        urls = [None, None] if given_url is None else [given_url] * 2
        here = Path(__file__).resolve().parents[1]
        new, old = (
            Worker(one, url, closing)
            for one, url in zip((here, checkout.resolve()), urls, strict=True)
        )
        names = [path for path in new.paths if path in old.paths]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        rng = random.Random(5)
        for number in range(rounds + 2):
            rng.shuffle(names)
            for name in names:
                turns = [new, old] if rng.random() < 0.5 else [old, new]
                took = {id(worker): worker.took(name, BLOCK) for worker in turns}
                if number > 1:  # the first rounds warm up
                    times[name].append((took[id(new)], took[id(old)]))
    slower = False
    print(f"microseconds, medians of {BLOCK} calls; ratio new / old of {rounds} blocks [95 %]")
    for name in new.paths:
        if name in times:
            pairs = np.array(times[name])
            ratios = np.log(pairs[:, 0] / pairs[:, 1])
            drawn = np.random.default_rng(6).choice(ratios, (RESAMPLED, len(ratios)))
            low, high = np.exp(np.percentile(np.median(drawn, axis=1), [2.5, 97.5]))
            ratio, (fresh, past) = np.exp(np.median(ratios)), np.median(pairs, axis=0)
            verdict = "slower" if low > 1 else "faster" if high < 1 else "alike"
            slower = slower or bool(low > 1)
            numbers = f"new {fresh:8.1f}  old {past:8.1f}  {ratio:5.2f} x [{low:.2f}, {high:.2f}]"
            print(f"  {name:32s} {numbers}  {verdict}")
    return not slower


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--url", help="a Redis whose data may be deleted")
    parser.add_argument("--against", type=Path, help="another checkout, to compare this one with")
    given = parser.parse_args()
    print(versions(PACKAGES))
    if given.against is not None:
        sys.exit(0 if against(given.against, given.rounds, given.url) else 1)
    print(
        f"load average {os.getloadavg()[0]:.1f}, {given.rounds} rounds, prompt of {len(PROMPT)} "
        f"characters, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )
    with ExitStack() as closing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        taken = measure(in_memory(closing), given.rounds)
        taken |= measure(in_sqlite(folder, closing), given.rounds)
        url = redis_url(given.url, closing)
        if url is not None:
            taken |= measure(in_redis(url, closing), given.rounds)
        print("parts of a hit, each in a loop of its own")
        for name, part in parts(folder, url, closing).items():
            p10, p50 = np.percentile(alone(part, given.rounds), [10, 50])
            print(f"  {name:34s} p10 {p10:7.1f}  p50 {p50:7.1f} us")
    print("whole lookups, interleaved")
    for name, one in taken.items():
        p10, p50, p99 = np.percentile(one.wall, [10, 50, 99])
        times = f"p10 {p10:7.1f}  p50 {p50:7.1f}  p99 {p99:8.1f} us"
        print(f"  {name:34s} {times}  CPU {one.cpu.mean():7.1f}")
    for bar in [*bars(taken), *start()]:
        print(bar)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
