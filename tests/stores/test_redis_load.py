"""Redis under load: fail-over while requests go on, and everything at once from many threads."""

from __future__ import annotations

import asyncio
import hashlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from shared_core import Answer, Hit, Request, ResponseCache
from tests.fakes import fake_embed
from tests.redis_server import RedisStack, why_not
from tests.redis_topologies import SentinelStack, talk
from tests.soak import FULL

pytestmark = [pytest.mark.redis, pytest.mark.slow]

LOOKUPS_PER_S = 200
AT_ONCE = 64
SOAK_S = 30.0 if FULL else 4.0
NAMESPACES = ("red", "green", "blue", "red:green")
MODELS = ("gpt", "claude")
QUESTIONS = 40


@pytest.fixture(scope="module", autouse=True)
def _binaries() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def question(n: int, opening: str = "How do I") -> str:
    """Return a question of its own words; another opening is the same question."""
    digits = str.maketrans("0123456789", "ghijklmnop")
    verb, noun, place = (
        hashlib.sha256(f"{part} {n}".encode()).hexdigest()[:8].translate(digits) for part in "vnp"
    )
    return f"{opening} {verb} the {noun} {noun} {place} {place}?"


@pytest.mark.parametrize("end", [RedisStack.kill, RedisStack.freeze])
def test_a_fail_over_under_load_raises_nothing_and_hits_come_back(
    end: Callable[[RedisStack], None],
) -> None:
    with SentinelStack() as stack, ResponseCache.open(stack.url, embedder=fake_embed) as cache:
        for n in range(QUESTIONS):
            assert cache.store(Request.of(question(n), model="m"), Answer(f"card {n}"))
        with talk(stack.primary) as primary:
            assert primary.wait(1, 5000) == 1
        seen: list[tuple[float, bool, float]] = []  # when, whether it hit, how long it took
        ended = threading.Event()

        def look(start: float) -> None:
            for turn in range(10**9):
                if ended.wait(max(0.0, start + turn * 4 / LOOKUPS_PER_S - time.perf_counter())):
                    return
                n = random.randrange(QUESTIONS)
                before = time.perf_counter()
                found = cache.lookup(Request.of(question(n), model="m"))
                now = time.perf_counter()
                assert not isinstance(found, Hit) or found.answer.text == f"card {n}"
                seen.append((now, isinstance(found, Hit), now - before))

        def hits_last(seconds: float) -> float:
            recent = [hit for at, hit, _ in seen if at > time.perf_counter() - seconds]
            return sum(recent) / max(1, len(recent))

        with ThreadPoolExecutor(4) as pool:
            start = time.perf_counter()
            looking = [pool.submit(look, start + i / LOOKUPS_PER_S) for i in range(4)]
            try:
                _wait_for(lambda: len(seen) > LOOKUPS_PER_S and hits_last(0.5) == 1, 10)
                killed = time.perf_counter()
                end(stack.primary)
                _wait_for(lambda: hits_last(0.3) < 0.5, 5)
                _wait_for(lambda: hits_last(1.0) == 1, 20)
            finally:
                ended.set()
            for one in looking:
                one.result()
        misses = [at for at, hit, _ in seen if not hit]
        print(
            f"{len(seen)} lookups at {len(seen) / (seen[-1][0] - start):.0f}/s, {len(misses)} "
            f"misses, back {max(misses) - killed:.1f} s after {end.__name__}, longest "
            f"lookup {max(took for _, _, took in seen) * 1000:.0f} ms"
        )
        assert min(misses) >= killed
        assert cache.store(Request.of("Who is primary?", model="m"), Answer("the other"))


def _wait_for(come_true: Callable[[], bool], seconds: float) -> None:
    end = time.perf_counter() + seconds
    while not come_true():
        assert time.perf_counter() < end, "it never came true"
        threading.Event().wait(0.02)


class Mix:
    """Reads, writes, invalidations and clears of several namespaces, each with its own answers."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.caches = {
            name: stack.enter_context(
                ResponseCache.open(
                    url, namespace=name, embedder=fake_embed, threshold=0.9, timeout=30
                )
            )
            for name in NAMESPACES
        }
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []

    def draw(self, rng: random.Random) -> tuple[str, ResponseCache, Request, str]:
        """Return what to do, where, with which request, and its right answer."""
        kind = rng.choices(("look", "ask", "put", "drop", "bump", "clear"), (55, 30, 12, 1, 1, 1))
        name, model, n = rng.choice(NAMESPACES), rng.choice(MODELS), rng.randrange(QUESTIONS)
        asked = question(n, rng.choice(("How do I", "How can I")))
        return kind[0], self.caches[name], Request.of(asked, model=model), f"{name} {model} {n}"

    def check(self, kind: str, got: str | None, right: str) -> None:
        """Count what was done, and keep what was answered wrongly."""
        self.done[kind if got is None or kind == "ask" else "hit"] += 1
        if got is not None and got != right:
            self.wrong.append(f"{got!r} for {right!r}")

    def work(self, seed: int, ended: threading.Event) -> None:
        """Go on until the end, as a thread does."""
        rng = random.Random(seed)
        while not ended.is_set():
            kind, cache, request, right = self.draw(rng)
            got: str | None = None
            match kind:
                case "look":
                    found = cache.lookup(request)
                    got = found.answer.text if isinstance(found, Hit) else None
                case "ask":
                    got = cache.answer(request, lambda right=right: right, tags=("docs",)).text
                case "put":
                    cache.store(
                        request, Answer(right), tags=("docs",) if rng.random() < 0.5 else ()
                    )
                case "drop":
                    cache.invalidate(model=request.model)
                case "bump":
                    cache.bump("docs")
                case "clear":
                    cache.clear()
            self.check(kind, got, right)

    async def awork(self, seed: int, ended: asyncio.Event) -> None:
        """Go on until the end, as a task does."""
        rng = random.Random(seed)
        while not ended.is_set():
            kind, cache, request, right = self.draw(rng)
            got: str | None = None
            match kind:
                case "look":
                    found = await cache.alookup(request)
                    got = found.answer.text if isinstance(found, Hit) else None
                case "ask":

                    async def model(right: str = right) -> str:
                        await asyncio.sleep(0)
                        return right

                    got = (await cache.aanswer(request, model, tags=("docs",))).text
                case "put" | "bump":
                    await cache.astore(request, Answer(right))
                case "drop":
                    await cache.ainvalidate(model=request.model)
                case "clear":
                    await cache.aclear()
            self.check(kind, got, right)


async def _tasks(mix: Mix, seconds: float) -> list[float]:
    """Run the tasks, and return how late the loop was every 5 ms, in seconds."""
    ended, lags = asyncio.Event(), []
    working = [asyncio.create_task(mix.awork(seed, ended)) for seed in range(AT_ONCE)]
    start = time.perf_counter()
    while (before := time.perf_counter()) < start + seconds:
        await asyncio.sleep(0.005)
        lags.append(time.perf_counter() - before - 0.005)
    ended.set()
    await asyncio.gather(*working)
    return lags


@pytest.fixture
def mix(redis_url: str) -> Iterator[Mix]:
    with ExitStack() as stack:
        yield Mix(redis_url, stack)


def test_everything_at_once_makes_no_error_and_crosses_no_namespace(mix: Mix) -> None:
    alone = asyncio.run(_tasks(mix, SOAK_S / 2))
    by_tasks, ended = mix.done.total(), threading.Event()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        working = [pool.submit(mix.work, 1000 + seed, ended) for seed in range(AT_ONCE)]
        both = asyncio.run(_tasks(mix, SOAK_S / 2))
        ended.set()
        for one in working:
            one.result()
    p99_alone, p99_both = (statistics.quantiles(lags, n=100)[98] * 1000 for lags in (alone, both))
    print(
        f"{by_tasks / SOAK_S * 2:.0f} calls/s of {AT_ONCE} tasks, "
        f"{(mix.done.total() - by_tasks) / SOAK_S * 2:.0f} with {AT_ONCE} threads; "
        f"{dict(mix.done)}; lag of the loop p99 {p99_alone:.1f} ms, with threads {p99_both:.1f} ms"
    )
    assert mix.wrong == []
    assert [cache.stats().errors for cache in mix.caches.values()] == [{}] * len(NAMESPACES)
    tiers = [cache.stats().hits_by_tier for cache in mix.caches.values()]
    assert all(hits["exact"] and hits["semantic"] for hits in tiers), tiers
    assert mix.done["ask"] > 0
