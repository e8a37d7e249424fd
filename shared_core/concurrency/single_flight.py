"""Compute once for all who ask: one flow, run by two runtimes.

    look -> found? -> join_or_lead: lead, or wait for who leads -> ask -> arrive, keep, finish

A follower waits for the leader's answer, in a blocking call by blocking, in a coroutine by
awaiting: it never holds a pool's thread. When the leader fails, one follower leads in its place,
when that fails two, then four: an outage is not met by all at once. An error that asking again
cannot mend goes to all. Nobody waits longer than the lease from its own start: then it asks for
itself. Between processes a lease in their store says who leads, and followers look for what the
leader keeps.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from shared_core.concurrency.runtime import Runtime, Value, renew_after_fork

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


FINAL = frozenset({400, 401, 403, 404, 405, 413, 422})
"""HTTP statuses that the same request will get again."""


def is_final(error: BaseException | None) -> bool:
    """Say whether asking again cannot mend an error of a provider's client: by its HTTP status."""
    if not isinstance(error, Exception):
        return False
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore's
        about = response.get("ResponseMetadata")
        return isinstance(about, Mapping) and about.get("HTTPStatusCode") in FINAL
    for holder in (error, response):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool):
                return status in FINAL
    return False


class LeaderFailed(Exception):
    """The call that was waited for failed with an ``error`` that asking again cannot mend."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


@dataclass(slots=True, eq=False)
class _Waiter:
    """One who waits: the future gets ``(value,)``, a flight to lead, or None: ask for yourself."""

    future: Future[Any]
    thread: int
    task: object
    may_lead: bool
    is_sure: bool


@dataclass(slots=True, eq=False)
class _Computation:
    """What is computed under one key: who is at it, since when, and who waits for it."""

    key: str
    started: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    leaders: list[Flight] = field(default_factory=list)
    waiters: list[_Waiter] = field(default_factory=list)
    group: int = 1
    """How many lead next, when all who lead now have failed."""
    result: Value[Any] = None
    has_ended: bool = False

    def has_sure_leader(self) -> bool:
        """Say whether it is sure that somebody computes."""
        return any(one.is_sure for one in tuple(self.leaders))

    def lead(self, thread: int, task: object, is_sure: bool) -> Flight:
        """Add a leader; the lock is held, or nobody else knows of this."""
        flight = Flight(self.key, self, thread, task, is_sure)
        self.leaders.append(flight)
        return flight

    def wait(self, may_lead: bool, is_sure: bool) -> _Waiter | None:
        """Add the caller to who waits; None if this has ended."""
        with self.lock:
            if self.has_ended:
                return None
            future: Future[Any] = Future()
            # A running future cannot be cancelled: who gives up waiting leaves the others alone.
            future.set_running_or_notify_cancel()
            waiter = _Waiter(future, threading.get_ident(), current_task(), may_lead, is_sure)
            self.waiters.append(waiter)
            return waiter

    def leave(self, waiter: _Waiter) -> None:
        """Wait no more."""
        with self.lock:
            if waiter in self.waiters:
                self.waiters.remove(waiter)

    def arrive(self, value: Any) -> None:
        """Give the result to all who wait; a second one changes nothing."""
        with self.lock:
            if self.has_ended:
                return
            self.result = (value,)
            waiters = self._end()
        for one in waiters:
            one.future.set_result((value,))

    def fail(self, flight: Flight, error: BaseException | None, now: float) -> bool:
        """Take note that one leader brought nothing, and return whether this has ended."""
        with self.lock:
            if flight not in self.leaders:
                return self.has_ended
            self.leaders.remove(flight)
            if self.has_ended:
                return True
            if error is not None and is_final(error):
                waiters = self._end()
                for one in waiters:
                    one.future.set_exception(LeaderFailed(error))
            elif not self.leaders:
                self._next_group(now)
            return self.has_ended

    def expire(self, now: float, lease: float) -> None:
        """Wait no more for leaders that took longer than a lease."""
        with self.lock:
            if not self.has_ended and now >= self.started + lease:
                self.leaders.clear()
                self._next_group(now)

    def _next_group(self, now: float) -> None:
        """Let the next ones lead, twice as many as before; the lock is held."""
        waiters, self.waiters = self.waiters, []
        able = [one for one in waiters if one.may_lead]
        leading, self.waiters = able[: self.group], able[self.group :]
        self.group, self.started = 2 * self.group, now
        for one in waiters:
            if not one.may_lead:
                one.future.set_result(None)
        for one in leading:
            one.future.set_result(self.lead(one.thread, one.task, one.is_sure))
        if not leading:
            self._end()

    def _end(self) -> list[_Waiter]:
        self.has_ended = True
        waiters, self.waiters = self.waiters, []
        return waiters


@dataclass(slots=True, eq=False)
class Flight:
    """The lead of a computation: who has it, until ``SingleFlight.finish``.

    ``is_sure`` is False as long as nobody has seen the computation begin. ``lease`` is the token of
    the lease held for it in the store, if there is one.
    """

    key: str
    computation: _Computation
    thread: int
    task: object
    is_sure: bool = True
    lease: bytes | None = None

    @property
    def has_ended(self) -> bool:
        """Say whether nobody waits for it any more."""
        return self.computation.has_ended or self not in self.computation.leaders

    def arrive(self, value: Any) -> None:
        """Give the result to all who wait; a second one changes nothing."""
        self.computation.arrive(value)


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
        self._flights: dict[str, _Computation] = {}
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
        """Wait for the value that is being computed, or lead: then ``finish`` ends the flight.

        Returns neither where nothing came of the wait, or it would be a wait for oneself: compute,
        and tell nobody. With ``waits`` False, neither means that another leads. Raises LeaderFailed
        where the leader's error is one that asking again cannot mend.
        """
        computation, flight = self._enter(key, is_sure)
        if flight is None:
            if not waits:
                return None, None
            value, flight = await self._join(runtime, computation, True, is_sure)
            if flight is not None:
                _lead_here(flight)
            return value, flight
        try:
            # an earlier flight may have landed between the first look and this one's start
            free, found = await self._depart(runtime, flight, look_again, waits)
        except BaseException:
            self.finish(flight)
            raise
        if found is None and (free or waits):
            _lead_here(flight)
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
        led, others = dict[str, Flight](), dict[str, Flight]()
        for key in keys:
            computation, flight = self._enter(key, True)
            if flight is not None:
                led[key] = flight
            else:
                others[key] = _of_others(computation)
        token = _led.set((*_led.get(), *led.values()))
        try:
            yield led, others
        finally:
            _led.reset(token)
            for flight in led.values():
                self.finish(flight)

    def under_way(self, keys: Iterable[str]) -> list[Flight]:
        """Return the flights of these keys that others lead."""
        with self._lock:
            now = self._clock()
            there = [self._flights[key] for key in keys if key in self._flights]
        own = _led.get()
        return [
            _of_others(one)
            for one in there
            if now < one.started + self.lease and not set(own) & set(one.leaders)
        ]

    def start(self, keys: Iterable[str]) -> list[Flight]:
        """Lead, without waiting, those of these keys that nobody leads; ``finish`` ends each."""
        entered = [self._enter(key, True) for key in keys]
        led = [flight for _, flight in entered if flight is not None]
        _lead_here(*led)
        return led

    async def join(self, runtime: Runtime, flight: Flight) -> Value[Any]:
        """Wait for what another computes, at most a lease; None if nothing came of it."""
        try:
            value, _ = await self._join(runtime, flight.computation, False, True)
        except LeaderFailed:
            return None
        return value

    def finish(self, flight: Flight, error: BaseException | None = None) -> None:
        """End a flight; if it brought nothing, some who wait for it lead in its place.

        One whose ``error`` asking again cannot mend ends the computation: all who wait raise it.
        Does not block an event loop, and does nothing the second time.
        """
        has_ended = flight.computation.fail(flight, error, self._clock())
        with self._lock:
            if has_ended and self._flights.get(flight.key) is flight.computation:
                del self._flights[flight.key]
            lease, flight.lease = flight.lease, None
        if lease is not None and self._leases is not None:
            self._leases.give_back(flight.key, lease)

    def _enter(self, key: str, is_sure: bool) -> tuple[_Computation, Flight | None]:
        """Return what is computed under this key, and a flight if the caller leads it."""
        with self._lock:
            now = self._clock()
            there = self._flights.get(key)
            if there is not None and now < there.started + self.lease:
                return there, None
            new = _Computation(key, now)
            self._flights[key] = new
            return new, new.lead(threading.get_ident(), current_task(), is_sure)

    async def _join(
        self, runtime: Runtime, computation: _Computation, may_lead: bool, is_sure: bool
    ) -> tuple[Value[Any], Flight | None]:
        """Wait for the value; or return a flight if the caller is to lead, now that others failed.

        Neither: ask for yourself.
        """
        if any(_is_own(one, runtime) for one in tuple(computation.leaders)):
            return None, None
        waiter = computation.wait(may_lead, is_sure)
        if waiter is None:
            return computation.result, None
        end = self._clock() + self.lease
        got: Any = None
        try:
            while not waiter.future.done() and (now := self._clock()) < end:
                if not computation.has_sure_leader():
                    got = await runtime.join(waiter.future, min(UNSURE, end - now))
                    if not computation.has_sure_leader():
                        break
                    continue
                until = min(end, computation.started + self.lease)
                got = await runtime.join(waiter.future, max(0.0, until - now))
                computation.expire(self._clock(), self.lease)
        except BaseException:
            self._leave(computation, waiter)
            raise
        if waiter.future.done():
            got = waiter.future.result()
            return (None, got) if isinstance(got, Flight) else (got, None)
        self._leave(computation, waiter)
        return None, None

    def _leave(self, computation: _Computation, waiter: _Waiter) -> None:
        """Wait no more; hand the lead on if it came at this very moment."""
        computation.leave(waiter)
        if waiter.future.done() and waiter.future.exception() is None:
            flight = waiter.future.result()
            if isinstance(flight, Flight):
                self.finish(flight)

    async def _depart(
        self, runtime: Runtime, flight: Flight, look_again: Callable[[], Value[T]], waits: bool
    ) -> tuple[bool, Value[T]]:
        """Take the lease, or wait while another process holds it for what that one keeps."""
        leases = self._leases if flight.is_sure else None
        end = self._clock() + self.lease

        def look() -> tuple[bool, Value[T]]:
            free = True
            if leases is not None:
                free, flight.lease = leases.take(flight.key)
                if flight.has_ended:  # given up meanwhile
                    self.finish(flight)
            return free, look_again()

        pause = FIRST_PAUSE
        free, found = await runtime.run(look)
        while waits and found is None and not free and self._clock() < end:
            await runtime.pause(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)
            free, found = await runtime.run(look)
        return free, found


def _lead_here(*flights: Flight) -> None:
    """Note that this thread or task leads them, so that it never waits for itself."""
    _led.set((*(one for one in _led.get() if not one.has_ended), *flights))


def _of_others(computation: _Computation) -> Flight:
    """Name a computation that others lead, for ``join``."""
    return Flight(computation.key, computation, 0, None)


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
    try:
        found, flight = await flights.join_or_lead(runtime, key, look_again)
    except LeaderFailed as failed:
        raise failed.error from None
    if found is not None:
        return found[0], False
    if flight is None:
        return await _compute(runtime, ask, shape, keep, None), True
    try:
        return await _compute(runtime, ask, shape, keep, flight), True
    except BaseException as error:
        flights.finish(flight, error)
        raise
    finally:
        _led.set(led)
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
