"""A cache across forks, threads and event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from shared_core import Answer, Hit, Miss, Request, ResponseCache
from shared_core.concurrency import ThreadRunner, free_after_fork
from shared_core.concurrency.runtime import _THREADS
from tests.fakes import fake_embed

LOOKUPS = 200


def request(number: int) -> Request:
    return Request.of(f"What is entry number {number} about?", model="m")


def in_child(work: Callable[[], bool]) -> bool:
    """Fork, do the work in the child, and say whether it said so."""
    child = os.fork()
    if child == 0:
        done = False
        try:
            done = work()
        finally:
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> ResponseCache:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'answers.db'}"
    if request.param == "redis":
        url = str(request.getfixturevalue("redis_url"))
    return ResponseCache.open(url, embedder=fake_embed, threshold=0.8, timeout=5.0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_looks_up_and_stores_while_threads_of_the_parent_are_busy(
    cache: ResponseCache,
) -> None:
    for number in range(20):
        cache.store(request(number), Answer(str(number)))
    asyncio.run(cache.alookup(request(0)))
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            cache.lookup(request(3))
            cache.store(request(4), Answer("4"))

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()

    def work() -> bool:
        blocking = all(isinstance(cache.lookup(request(n % 20)), Hit) for n in range(LOOKUPS))
        awaited = isinstance(asyncio.run(cache.alookup(request(1))), Hit)
        stored = cache.store(request(99), Answer("99")) is not None
        return blocking and awaited and stored and not cache.stats().errors

    try:
        for _ in range(3):
            assert in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert isinstance(cache.lookup(request(2)), Hit)
    assert cache.stats().errors == {}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_another_thread_holds_is_free_in_a_child(kind: Callable[[], Any]) -> None:
    lock, held, done = free_after_fork(kind()), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    assert in_child(lambda: bool(lock.acquire(timeout=1)))
    assert not lock.acquire(timeout=0.01)  # the parent's own stays as it is
    done.set()
    holder.join()


def test_one_cache_serves_many_event_loops(cache: ResponseCache) -> None:
    cache.store(request(1), Answer("1"))
    for _ in range(3):
        assert isinstance(asyncio.run(cache.alookup(request(1))), Hit)


def test_one_cache_serves_loops_and_threads_at_the_same_time(cache: ResponseCache) -> None:
    for number in range(8):
        cache.store(request(number), Answer(str(number)))
    barrier = threading.Barrier(6)
    found: list[tuple[int, object]] = []

    def ask() -> None:
        barrier.wait()
        found.extend((n, cache.lookup(request(n))) for n in range(8))

    def await_all() -> None:
        async def scene() -> None:
            own = request(threading.get_ident())
            await cache.astore(own, Answer("own"))
            assert isinstance(await cache.alookup(own), Hit)
            answers = await asyncio.gather(*(cache.alookup(request(n)) for n in range(8)))
            found.extend(enumerate(answers))

        barrier.wait()
        asyncio.run(scene())

    threads = [threading.Thread(target=run) for run in (ask, ask, *[await_all] * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 6 * 8
    assert all(isinstance(one, Hit) and one.answer.text == str(n) for n, one in found)
    assert cache.stats().errors == {}


def test_awaited_lookups_that_wait_share_a_call_of_the_embedder() -> None:
    calls: list[int] = []
    inside, release = threading.Event(), threading.Event()

    def held(texts: list[str]) -> object:
        calls.append(len(texts))
        inside.set()
        assert release.wait(10)
        return fake_embed(texts)

    async def scene() -> list[object]:
        first = asyncio.create_task(cache.alookup(request(0)))
        while not inside.is_set():
            await asyncio.sleep(0)
        others = [asyncio.create_task(cache.alookup(request(n))) for n in range(1, _THREADS)]
        line = cache._path.semantic.reader.memo._calls._line  # type: ignore[union-attr]
        while line.jobs.qsize() < _THREADS - 1:
            await asyncio.sleep(0.001)
        release.set()
        return await asyncio.gather(first, *others)

    cache = ResponseCache.open(embedder=held, threshold=0.8)
    assert all(isinstance(one, Miss) for one in asyncio.run(scene()))
    assert max(calls) == _THREADS - 1


def test_controls_and_traces_follow_a_coroutine_into_its_thread(cache: ResponseCache) -> None:
    async def scene() -> None:
        await cache.astore(request(1), Answer("1"))
        with cache.trace() as trace, cache.control(namespace="other"):
            assert isinstance(await cache.alookup(request(1)), Miss)
        assert [event.namespace for event in trace.events] == ["other"]

    asyncio.run(scene())


def test_tasks_do_not_see_each_other_s_controls(cache: ResponseCache) -> None:
    async def as_tenant(name: str) -> str:
        with cache.control(namespace=name):
            await cache.astore(request(1), Answer(name))
            await asyncio.sleep(0)
            found = await cache.alookup(request(1))
        assert isinstance(found, Hit)
        return found.answer.text

    async def scene() -> list[str]:
        return await asyncio.gather(*(as_tenant(f"t{n}") for n in range(20)))

    assert asyncio.run(scene()) == [f"t{n}" for n in range(20)]


def test_the_loop_goes_on_while_the_embedder_is_busy() -> None:
    inside, release = threading.Event(), threading.Event()

    def slow(texts: list[str]) -> object:
        inside.set()
        assert release.wait(10)
        return fake_embed(texts)

    async def scene() -> None:
        lookup = asyncio.create_task(cache.alookup(request(1)))
        while not inside.is_set():
            await asyncio.sleep(0)
        release.set()
        assert isinstance(await lookup, Miss)

    cache = ResponseCache.open(embedder=slow)
    asyncio.run(scene())


def test_hop_carries_context_variables() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")

    async def scene() -> str:
        who.set("me")
        return await ThreadRunner().run(who.get)

    assert asyncio.run(scene()) == "me"


def test_a_cache_that_is_dropped_is_freed_with_its_thread(tmp_path: Path) -> None:
    cache = ResponseCache.open(f"sqlite:///{tmp_path / 'answers.db'}", semantic=False)
    cache.lookup(request(1))
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


def test_a_closed_cache_is_a_cache_that_misses(cache: ResponseCache) -> None:
    cache.store(request(1), Answer("1"))
    cache.close()
    cache.close()
    found = cache.lookup(request(1))
    assert isinstance(found, Miss)
    assert found.reason == "store"
