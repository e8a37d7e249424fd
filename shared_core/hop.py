"""From an event loop to blocking code: one hop to a small pool, context variables included."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from shared_core.forking import renew_after_fork

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8

LAST_WORDS_S = 1.0
"""Seconds that closing waits for what was to run soon."""


class Hop:
    """Runs blocking calls off the event loop, for any number of loops; no thread before use."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._soon: set[Future[object]] = set()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Threads do not survive a fork: the child's first hop makes a pool of its own."""
        self._pool, self._lock, self._soon = None, threading.Lock(), set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` in the pool and return its result; cancelling only stops the waiting."""
        context = contextvars.copy_context()

        def call() -> T:
            return context.run(function, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor(), call)

    def soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` at once; on an event loop in the pool, without waiting for its end."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            function(*args, **kwargs)
        else:
            future: Future[object] = self._executor().submit(function, *args, **kwargs)
            self._soon.add(future)
            future.add_done_callback(self._soon.discard)

    def _executor(self) -> ThreadPoolExecutor:
        pool = self._pool
        if pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tiered-cache")
                pool = self._pool
        return pool

    def close(self) -> None:
        """Wait, for a bounded time, for what was to run soon; the threads end once idle."""
        wait(tuple(self._soon), LAST_WORDS_S)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)


class Hopping(Protocol):
    """An object whose blocking methods can be awaited."""

    @property
    def _hop(self) -> Hop: ...


H = TypeVar("H", bound=Hopping)


def twin(
    method: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make the async twin of a blocking method: the same, off the event loop."""

    @wraps(method)
    async def call(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._hop.run(method, self, *args, **kwargs)

    call.__name__ = call.__qualname__ = "a" + method.__name__
    return call
