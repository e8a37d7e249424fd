"""Compute once for all who ask: one flow, run by two runtimes.

    look -> found? -> take or join the flight -> look again -> ask -> land the flight -> keep

A follower waits for the leader's answer, in a blocking call by blocking, in a coroutine by
awaiting: it never holds a pool's thread. When the leader fails or takes longer than the lease, the
follower asks for itself.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from shared_core.forking import renew_after_fork
from shared_core.hop import Hop

T = TypeVar("T")
Found = tuple[T] | None
"""A value in a tuple, because the value itself may be None."""


_led: ContextVar[frozenset[tuple[int, str]]] = ContextVar("tiered_cache_led", default=frozenset())
"""Flights that this thread or task, or one that called it, leads."""


class Runtime(Protocol):
    """The three ways in which a flow touches the world."""

    async def run(self, blocking: Callable[[], T]) -> T:
        """Run code that blocks for a short time."""

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        """Wait for another's flight at most ``lease`` seconds; None if nothing came of it."""

    async def ask(self, compute: Callable[[], Any]) -> Any:
        """Call what is slow, and await it if it is a coroutine."""


class Blocking:
    """Never suspends: for callers without an event loop."""

    async def run(self, blocking: Callable[[], T]) -> T:
        return blocking()

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        try:
            return flight.result(lease)
        except TimeoutError:
            return None

    async def ask(self, compute: Callable[[], Any]) -> Any:
        value = compute()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError("the function is asynchronous: use the method's async twin")
        return value


class OnLoop:
    """A runtime for coroutines; blocking parts hop to threads."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop

    async def run(self, blocking: Callable[[], T]) -> T:
        return await self._hop.run(blocking)

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(flight), lease)
        except TimeoutError:
            return None

    async def ask(self, compute: Callable[[], Any]) -> Any:
        if inspect.iscoroutinefunction(compute):
            return await compute()
        value = await asyncio.to_thread(compute)
        return await value if isinstance(value, Awaitable) else value


def finish(flow: Coroutine[Any, Any, T]) -> T:
    """Run a flow whose runtime never suspends, and return its result."""
    try:
        flow.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    flow.close()
    raise RuntimeError("a blocking flow suspended")


class Flights:
    """Computations in the air, by key, for all threads and event loops of a process."""

    def __init__(self) -> None:
        self._flights: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """The parent's flights never land in the child."""
        self._flights, self._lock = {}, threading.Lock()

    def board(self, key: str) -> tuple[Future[Any], bool]:
        """Return the flight of this key, and whether the caller leads it."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            # A running future cannot be cancelled: who gives up waiting leaves the leader alone.
            flight.set_running_or_notify_cancel()
            return flight, True

    def land(self, key: str, flight: Future[Any]) -> None:
        """End a flight; if it brought nothing, its followers ask for themselves."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if not flight.done():
            flight.set_result(None)


async def once(
    runtime: Runtime,
    flights: Flights | None,
    key: str,
    *,
    look: Callable[[], Found[T]],
    look_again: Callable[[], Found[T]],
    ask: Callable[[], Any],
    shape: Callable[[Any], T],
    keep: Callable[[T], None],
    lease: float,
) -> tuple[T, bool]:
    """Return a value and whether it was computed for this caller.

    ``shape`` turns what ``ask`` returned into the value, and may raise; ``flights`` None: no
    coalescing.
    """
    found = await runtime.run(look)
    if found is not None:
        return found[0], False
    led = _led.get()
    if flights is None or (id(flights), key) in led:  # who leads must not wait for itself
        return await _compute(runtime, ask, shape, keep, None), True
    flight, leading = flights.board(key)
    if not leading:
        found = await runtime.join(flight, lease)
        if found is not None:
            return found[0], False
        return await _compute(runtime, ask, shape, keep, None), True
    token = _led.set(led | {(id(flights), key)})
    try:
        # an earlier flight may have landed between the first look and this one's start
        found = await runtime.run(look_again)
        if found is not None:
            flight.set_result(found)
            return found[0], False
        return await _compute(runtime, ask, shape, keep, flight), True
    finally:
        _led.reset(token)
        flights.land(key, flight)


async def _compute(
    runtime: Runtime,
    ask: Callable[[], Any],
    shape: Callable[[Any], T],
    keep: Callable[[T], None],
    flight: Future[Found[T]] | None,
) -> T:
    value = shape(await runtime.ask(ask))
    if flight is not None:
        # Before it is stored: a slow store delays nobody. Who comes until then joins this flight.
        flight.set_result((value,))
    await runtime.run(lambda: keep(value))
    return value
