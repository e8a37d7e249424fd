"""Compute once for all who ask: one flow, run by two runtimes.

    look -> found? -> lead a flight or join another's -> ask -> finish the flight -> keep

A follower waits for the leader's answer, in a blocking call by blocking, in a coroutine by
awaiting: it never holds a pool's thread. When the leader fails or takes longer than the lease, the
follower asks for itself. Between processes a lease in their store says who leads, and followers
look for what the leader keeps.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from shared_core.concurrency.fork import renew_after_fork
from shared_core.concurrency.runtime import Runtime, Value

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.1
"""Seconds between two looks for what another process computes."""

UNSURE = 0.05
"""Seconds that a flight may hold others before it is sure that something is computed."""


class Leases(Protocol):
    """Says between processes who computes what; ``compute.StoreLeases`` keeps it in the store."""

    def take(self, key: str) -> tuple[bool, bytes | None]:
        """Say whether the caller may go ahead, and return the token of its lease."""

    def give_back(self, key: str, token: bytes) -> None:
        """End a lease; never waits."""


@dataclass(slots=True, eq=False)
class Flight:
    """A computation in the air: its result, who leads it, and since when.

    ``is_sure`` is False as long as nobody has seen the computation begin. ``lease`` is the token of
    the lease held for it in the store, if there is one.
    """

    key: str
    future: Future[Any]
    started: float
    thread: int
    task: object
    is_sure: bool = True
    lease: bytes | None = None

    def arrive(self, value: Any) -> None:
        """Give the result to all who wait; a second one changes nothing."""
        if not self.future.done():
            self.future.set_result((value,))


_led: ContextVar[tuple[Flight, ...]] = ContextVar("tiered_cache_led", default=())
"""Flights that this thread or task, or one that called it, leads."""


class SingleFlight:
    """Computations in the air, by key, for all threads and event loops of a process.

    ``lease`` is how many seconds one may hold others up; ``leases`` tells the other processes.
    """

    def __init__(
        self,
        lease: float,
        leases: Leases | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lease, self._leases, self._clock = lease, leases, clock
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """The parent's flights never land in the child."""
        self._flights, self._lock = {}, threading.Lock()

    async def join_or_lead(
        self,
        runtime: Runtime,
        key: str,
        look_again: Callable[[], Value[T]],
        is_sure: bool = True,
        waits: bool = True,
    ) -> tuple[Value[T], Flight | None]:
        """Wait for the value that is being computed, or lead: then ``land`` ends the flight.

        Returns neither where nothing came of the wait, or it would be a wait for oneself: compute,
        and tell nobody. With ``waits`` False, neither means that another leads.
        """
        flight, leading = self._enter(key, is_sure)
        if not leading:
            return await self._join(runtime, flight) if waits else None, None
        try:
            # an earlier flight may have finished between the first look and this one's start
            free, found = await self._depart(runtime, flight, look_again, waits)
        except BaseException:
            self.finish(flight)
            raise
        if found is None and (free or waits):
            _led.set((*(one for one in _led.get() if not one.future.done()), flight))
            return None, flight
        if found is not None:
            flight.arrive(found[0])
        self.finish(flight)
        return found, None

    @contextmanager
    def lead(self, keys: Iterable[str]) -> Iterator[tuple[dict[str, Flight], dict[str, Flight]]]:
        """Lead, for a block, a flight for each key that has none; return these and the others'.

        Those led land at the block's end. Whoever joins others' must do so after it: two who lead
        what the other waits for would wait for ever.
        """
        entered = {key: self._enter(key, True) for key in keys}
        led = {key: flight for key, (flight, leading) in entered.items() if leading}
        token = _led.set((*_led.get(), *led.values()))
        try:
            yield led, {key: flight for key, (flight, _) in entered.items() if key not in led}
        finally:
            _led.reset(token)
            for flight in led.values():
                self.finish(flight)

    def under_way(self, keys: Iterable[str]) -> list[Flight]:
        """Return the flights of these keys that others lead."""
        with self._lock:
            now = self._clock()
            flights = [self._flights[key] for key in keys if key in self._flights]
        own = _led.get()
        return [one for one in flights if now < one.started + self.lease and one not in own]

    def start(self, keys: Iterable[str]) -> list[Flight]:
        """Lead, without waiting, those of these keys that nobody leads; ``finish`` ends each."""
        entered = [self._enter(key, True) for key in keys]
        led = [flight for flight, leading in entered if leading]
        _led.set((*(one for one in _led.get() if not one.future.done()), *led))
        return led

    async def join(self, runtime: Runtime, flight: Flight) -> Value[Any]:
        """Wait for what another computes, for the rest of its lease; None if nothing came of it."""
        return await self._join(runtime, flight)

    def finish(self, flight: Flight) -> None:
        """End a flight; if it brought nothing, its followers ask for themselves.

        Does not block an event loop, and does nothing the second time.
        """
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            lease, flight.lease = flight.lease, None
            if not flight.future.done():
                flight.future.set_result(None)
        if lease is not None and self._leases is not None:
            self._leases.give_back(flight.key, lease)

    def _enter(self, key: str, is_sure: bool) -> tuple[Flight, bool]:
        """Return the flight of this key, and whether the caller leads it."""
        with self._lock:
            now = self._clock()
            flight = self._flights.get(key)
            if flight is not None and now < flight.started + self.lease:
                return flight, False
            flight = Flight(key, Future(), now, threading.get_ident(), current_task(), is_sure)
            # A running future cannot be cancelled: who gives up waiting leaves the leader alone.
            flight.future.set_running_or_notify_cancel()
            self._flights[key] = flight
            return flight, True

    async def _join(self, runtime: Runtime, flight: Flight) -> Value[Any]:
        if _is_own(flight, runtime):
            return None
        if not flight.is_sure:
            found = await runtime.join(flight.future, UNSURE)
            if found is not None or flight.future.done() or not flight.is_sure:
                return found
        left = flight.started + self.lease - self._clock()
        return await runtime.join(flight.future, max(0.0, left))

    async def _depart(
        self, runtime: Runtime, flight: Flight, look_again: Callable[[], Value[T]], waits: bool
    ) -> tuple[bool, Value[T]]:
        """Take the lease, or wait while another process holds it for what that one keeps."""
        leases = self._leases if flight.is_sure else None

        def look() -> tuple[bool, Value[T]]:
            free = True
            if leases is not None:
                free, flight.lease = leases.take(flight.key)
                if flight.future.done():  # given up meanwhile
                    self.finish(flight)
            return free, look_again()

        pause = FIRST_PAUSE
        free, found = await runtime.run(look)
        while waits and found is None and not free and self._clock() < flight.started + self.lease:
            await runtime.pause(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
            free, found = await runtime.run(look)
        return free, found


def current_task() -> object:
    """Return the task that runs here, None outside of event loops."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _is_own(flight: Flight, runtime: Runtime) -> bool:
    """Tell whether its leader could not go on while the caller waits: it is the caller, or below.

    A caller that blocks its thread blocks every task of that thread's event loop.
    """
    if flight in _led.get():
        return True
    if flight.thread != threading.get_ident():
        return False
    return runtime.blocks or flight.task is None or flight.task is current_task()


async def once(
    runtime: Runtime,
    flights: SingleFlight | None,
    key: str,
    *,
    look: Callable[[], Value[T]],
    look_again: Callable[[], Value[T]],
    ask: Callable[[], Any],
    shape: Callable[[Any], T],
    keep: Callable[[T], None],
) -> tuple[T, bool]:
    """Return a value and whether it was computed for this caller.

    ``shape`` turns what ``ask`` returned into the value, and may raise; ``flights`` None: no
    coalescing.
    """
    found = await runtime.run(look)
    if found is not None:
        return found[0], False
    if flights is None:
        return await _compute(runtime, ask, shape, keep, None), True
    led = _led.get()
    found, flight = await flights.join_or_lead(runtime, key, look_again)
    if found is not None:
        return found[0], False
    try:
        return await _compute(runtime, ask, shape, keep, flight), True
    finally:
        _led.set(led)
        if flight is not None:
            flights.finish(flight)


async def _compute(
    runtime: Runtime,
    ask: Callable[[], Any],
    shape: Callable[[Any], T],
    keep: Callable[[T], None],
    flight: Flight | None,
) -> T:
    value = shape(await runtime.ask(ask))
    if flight is not None:
        # Before it is stored: a slow store delays nobody. Who comes until then joins this flight.
        flight.arrive(value)
    await runtime.run(lambda: keep(value))
    return value
