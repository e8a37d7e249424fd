"""Catch every failure of a part, so that a cache never breaks its app: the only broad except.

``CircuitBreaker`` stands between the cache and a part that can fail (store, embedder). A
failure is counted, logged when the state changes, and raised again as ``Unavailable``, which the
cache turns into a miss. A part that is down, or fails several times in a row, is left alone for a
while: then it is tried again, by a thread if there is a way to try it that serves nobody, else by
one call.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from shared_core.concurrency import LeaderFailed, renew_after_fork

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")

logger = logging.getLogger("tiered_cache")

FAILURES_TO_OPEN = 5
REST_S = 1.0
"""How long a part that is down is left alone before one call tries it again."""

QUIET_S = 60.0
"""How often refusals of a part that works are logged at most."""


class Unavailable(Exception):
    """A part failed, or rests after failing; already counted and logged. ``part`` names it."""

    def __init__(self, part: str) -> None:
        super().__init__(part)
        self.part = part


class CircuitBreaker:
    """Lets calls through to one part; opens when it fails, closes when it works again.

    ``count`` is given the name of each error. An exception with a true attribute ``down`` opens the
    breaker at once, for as many seconds as its attribute ``rest`` says, if it has one. One whose
    ``down`` is False never does: the part works and refuses this alone, as a full store does.
    Others open it on the fifth in a row.

    ``probe`` is called, by a thread of its own, to see whether an open breaker can be closed, so
    that no request waits for a part that is still down. Without one, a request tries the part.
    """

    def __init__(
        self,
        part: str,
        count: Callable[[str], None],
        *,
        rest: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
        probe: Callable[[], object] | None = None,
    ) -> None:
        self._part, self._count, self._rest, self._clock = part, count, rest, clock
        self._probe, self._closed = probe, threading.Event()
        self._watched = False  # a thread probes
        self._failures = 0
        self._open_until: float | None = None
        self._quiet_until = -math.inf
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Start the child with a closed breaker."""
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._failures, self._open_until, self._watched = 0, None, False

    def close(self) -> None:
        """Probe no more."""
        self._closed.set()

    @property
    def state(self) -> str:
        """Return "closed", "open", or "half-open" when the next call will try the part again."""
        until = self._open_until
        if until is None:
            return "closed"
        return "open" if self._clock() < until else "half-open"

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the part. Raises Unavailable for any failure of it."""
        if self._open_until is not None:
            self._let_one_through()
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            self._failed(error)
            raise Unavailable(self._part) from error
        if self._failures:
            self._worked()
        return result

    def _let_one_through(self) -> None:
        with self._lock:
            now = self._clock()
            if self._open_until is None:
                return
            if self._watched or now < self._open_until:
                raise Unavailable(self._part)
            self._open_until = now + self._rest  # others rest on while this call tries

    def _failed(self, error: Exception) -> None:
        self._count(self._part)
        down = getattr(error, "down", None)
        with self._lock:
            now = self._clock()
            if down is False:
                new = now >= self._quiet_until
                self._quiet_until = now + QUIET_S if new else self._quiet_until
            else:
                self._failures += 1
                new = self._failures == 1
                if down or self._failures >= FAILURES_TO_OPEN:
                    self._open_until = now + self._rest_after(error)
                    self._watch()
        log = logger.warning if new else logger.debug
        log("%s failed, the cache goes on without it: %s", self._part, safe_message(error))
        logger.debug("%s failed", self._part, exc_info=error)

    def _rest_after(self, error: Exception) -> float:
        rest = getattr(error, "rest", None)
        return self._rest if rest is None else float(rest)

    def _worked(self) -> None:
        with self._lock:
            if not self._failures:
                return
            self._failures, self._open_until = 0, None
        logger.info("%s works again", self._part)

    def _watch(self) -> None:
        """Start the thread that probes, unless it runs. Without threads, requests try the part."""
        if self._probe is None or self._watched or self._closed.is_set():
            return
        thread = threading.Thread(
            target=_probe_until_closed,
            args=(weakref.ref(self), self._closed),
            name=f"tiered-cache {self._part}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads can be had, or the interpreter ends
            return
        self._watched = True

    def _seconds_to_wait(self) -> float | None:
        """Return how long the next probe is off, None if none is needed: the watch ends."""
        with self._lock:
            if self._open_until is None:
                self._watched = False
                return None
            return max(0.0, self._open_until - self._clock())

    def _try_probe(self) -> None:
        assert self._probe is not None  # noqa: S101 - else nobody watches
        try:
            self._probe()
        except Exception as error:
            with self._lock:
                if self._open_until is not None:
                    self._open_until = self._clock() + self._rest_after(error)
            logger.debug("%s is still down: %s", self._part, safe_message(error))
        else:
            self._worked()


def _probe_until_closed(breaker: weakref.ref[CircuitBreaker], closed: threading.Event) -> None:
    """Probe until the part works, or nobody uses the breaker any more."""
    while (one := breaker()) is not None and (wait := one._seconds_to_wait()) is not None:
        del one
        if closed.wait(wait):
            return
        if (one := breaker()) is not None:
            one._try_probe()
            del one


def safe_message(error: Exception) -> str:
    """Return what may be logged of an error: its message only if it is of this library.

    The messages of others may hold a prompt.
    """
    kind = type(error)
    own = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return f"{kind.__name__}: {error}" if own else kind.__name__


def swallow(
    count: Callable[[str], None], part: str, function: Callable[..., Any], *args: Any
) -> None:
    """Call a hook of the user's; log and count what it raises, and drop it."""
    try:
        function(*args)
    except Exception as error:
        count(part)
        logger.warning("a %s raised %s; the answer is not affected", part, safe_message(error))
        logger.debug("a %s raised", part, exc_info=error)


async def aswallow(
    count: Callable[[str], None],
    part: str,
    flow: Awaitable[object],
    is_new: Callable[[], bool] = lambda: True,
) -> None:
    """Await what runs in the background; count what it raises, log it if it is new, and drop it."""
    try:
        await flow
    except Exception as error:
        count(part)
        log = logger.warning if is_new() else logger.debug
        log("a %s in the background raised %s", part, safe_message(error))
        logger.debug("a %s raised", part, exc_info=error)


async def or_else(
    default: D, fail: Callable[[str, Exception], None], part: str, flow: Awaitable[T]
) -> T | D:
    """Await what a cache does for a call; tell ``fail`` what it raises, and return the default.

    What the call raised for which this one waited, and would raise again, is raised.
    """
    try:
        return await flow
    except LeaderFailed as failed:
        raise failed.error from None
    except Exception as error:
        fail(part, error)
        return default


E = TypeVar("E", bound=Exception)


def reraise_as(kind: type[E], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call code of others and raise whatever goes wrong in it as ``kind``."""
    try:
        return function(*args, **kwargs)
    except kind:
        raise
    except Exception as error:
        raise kind(safe_message(error)) from error


async def areraise_as(kind: type[E], work: Awaitable[T]) -> T:
    """Do as ``raising`` does, for what is awaited."""
    try:
        return await work
    except kind:
        raise
    except Exception as error:
        raise kind(safe_message(error)) from error


# How long a lookup may wait for its store: all its calls share one allowance.
#
# What passes between the calls, such as embedding the question, is not taken from it. Of one
# thread: a lookup never changes threads on its way.


class _Here(threading.local):
    left: float | None = None
    end: float = math.inf


_here = _Here()


class deadline:
    """Let the calls to a store inside the block wait so many seconds, all together."""

    __slots__ = ("_outer", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._outer: float | None = None

    def __enter__(self) -> None:
        self._outer = outer = _here.left
        _here.left = self._seconds if outer is None else min(outer, self._seconds)

    def __exit__(self, *_: object) -> None:
        _here.left = self._outer


class bounded_wait:
    """Bound the waits inside the block: by ``most`` seconds and by what is left of the allowance.

    Gives the seconds that there are, which may be none.
    """

    __slots__ = ("_limit", "_most", "_outer", "_start")

    def __init__(self, most: float) -> None:
        self._most = most
        self._limit = self._start = self._outer = 0.0

    def __enter__(self) -> float:
        left = _here.left
        self._limit = limit = self._most if left is None else min(self._most, left)
        self._start = time.monotonic()
        self._outer, _here.end = _here.end, self._start + limit
        return limit

    def __exit__(self, *_: object) -> None:
        _here.end = self._outer
        if _here.left is not None:
            _here.left -= time.monotonic() - self._start


def time_left() -> float:
    """Return the seconds until the wait under way must end, infinity where none is bounded."""
    return _here.end - time.monotonic()
