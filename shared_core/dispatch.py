"""Sends calls to a provider: so many at once, so many a minute, and again when they may pass.

    place (concurrency) -> slot (rate) -> send -> refused? -> give the place back, wait, once more

A place is held while a call is under way, never while it waits to be tried again.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from shared_core.forking import renew_after_fork
from shared_core.limits import RateLimit
from shared_core.retrying import Course, Refusal, Retries, refusal_of

T = TypeVar("T")

CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a call waits, in a thread and on an event loop; tests have no time for either."""

    sleep: Callable[[float], None] = time.sleep
    asleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Dispatch:
    """The way to one provider. Safe for threads and event loops.

    ``rate`` None: no limit but the provider's. ``concurrency``: most calls under way at once, in
    all threads together, and on each event loop. ``lost`` are the errors of a connection, which are
    worth another try. Needs tenacity. Raises ValueError for a concurrency below 1.
    """

    def __init__(
        self,
        rate: RateLimit | None = None,
        retries: Retries | None = None,
        concurrency: int = CONCURRENCY,
        *,
        lost: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError),
        waiting: Waiting | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not concurrency >= 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
        self._rate, self._retries = rate or RateLimit(), retries or Retries()
        self._concurrency, self._lost = concurrency, lost
        self._waiting = waiting or Waiting()
        self._rng = rng or random.Random()  # noqa: S311 - spreads waits, keeps no secret
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child places of its own."""
        self._places = threading.BoundedSemaphore(self._concurrency)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    @contextmanager
    def call(
        self, send: Callable[[], T], tokens: int = 0
    ) -> Iterator[tuple[T, Callable[[int], None]]]:
        """Give what ``send`` returned, and hold its place until the block ends: it may be a stream.

        ``tokens`` is what the call may take, at most; what is given beside the result is told what
        it took. Raises what the last attempt raised.
        """
        from tenacity import Retrying

        def attempt() -> tuple[T, Callable[[int], None]]:
            self._places.acquire()
            sent = False
            try:
                slot = self._rate.wait(tokens)
                found = send()
                sent = True
            finally:
                if not sent:
                    self._places.release()
            return found, lambda used: self._rate.settle(slot, used)

        found = Retrying(**self._terms(), sleep=self._waiting.sleep)(attempt)
        try:
            yield found
        finally:
            self._places.release()

    @asynccontextmanager
    async def acall(
        self, send: Callable[[], Awaitable[T]], tokens: int = 0
    ) -> AsyncIterator[tuple[T, Callable[[int], None]]]:
        """Do as ``call`` does, for coroutines."""
        from tenacity import AsyncRetrying

        places = self._places_here()

        async def attempt() -> tuple[T, Callable[[int], None]]:
            await places.acquire()
            sent = False
            try:
                slot = await self._rate.await_turn(tokens)
                found = await send()
                sent = True
            finally:
                if not sent:
                    places.release()
            return found, lambda used: self._rate.settle(slot, used)

        retrying = AsyncRetrying(**self._terms(), sleep=self._waiting.asleep)
        found: tuple[T, Callable[[int], None]] = await retrying(attempt)
        try:
            yield found
        finally:
            places.release()

    def _places_here(self) -> asyncio.Semaphore:
        return self._loops.setdefault(
            asyncio.get_running_loop(), asyncio.Semaphore(self._concurrency)
        )

    def _terms(self) -> dict[str, Any]:
        course = Course(
            self._retries, lambda error: refusal_of(error, self._lost), self._refused, self._rng
        )
        return {
            "retry": course.may_retry,
            "wait": course.wait,
            "stop": course.stop,
            "reraise": True,
        }

    def _refused(self, refusal: Refusal) -> None:
        """Hold all calls back when the provider says how long: they would be refused as well."""
        if refusal.retry_after is not None and refusal.retry_after <= self._retries.patience:
            self._rate.pause(refusal.retry_after)
