"""The only place that catches what it does not know: a cache never breaks its app.

``Fuse`` stands between the cache and a part that can fail (store, embedder). A failure is counted,
logged when the state changes, and raised again as ``Unavailable``, which the cache turns into a
miss. A part that is down, or fails several times in a row, is left alone for a while: then one call
tries it again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from shared_core.forking import renew_after_fork

P = ParamSpec("P")
T = TypeVar("T")

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


class Fuse:
    """Lets calls through to one part; opens when it fails, closes when it works again.

    ``count`` is given the name of each error. An exception with a true attribute ``down`` opens the
    fuse at once, for as many seconds as its attribute ``rest`` says, if it has one. One whose
    ``down`` is False never does: the part works and refuses this alone, as a full store does.
    Others open it on the fifth in a row.
    """

    def __init__(
        self,
        part: str,
        count: Callable[[str], None],
        *,
        rest: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._part, self._count, self._rest, self._clock = part, count, rest, clock
        self._failures = 0
        self._open_until: float | None = None
        self._quiet_until = -math.inf
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Start the child with a closed fuse."""
        self._lock = threading.Lock()
        self._failures, self._open_until = 0, None

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
            if now < self._open_until:
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
                    rest = getattr(error, "rest", None)
                    self._open_until = now + (self._rest if rest is None else rest)
        log = logger.warning if new else logger.debug
        log("%s failed, the cache goes on without it: %s", self._part, told(error))
        logger.debug("%s failed", self._part, exc_info=error)

    def _worked(self) -> None:
        with self._lock:
            self._failures, self._open_until = 0, None
        logger.info("%s works again", self._part)


def told(error: Exception) -> str:
    """Return what may be logged of an error: its message only if it is of this library.

    The messages of others may hold a prompt.
    """
    kind = type(error)
    own = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return f"{kind.__name__}: {error}" if own else kind.__name__


def quietly(
    count: Callable[[str], None], part: str, function: Callable[..., Any], *args: Any
) -> None:
    """Call a hook of the user's; log and count what it raises, and drop it."""
    try:
        function(*args)
    except Exception as error:
        count(part)
        logger.warning("a %s raised %s; the answer is not affected", part, told(error))
        logger.debug("a %s raised", part, exc_info=error)


E = TypeVar("E", bound=Exception)


def raising(kind: type[E], function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call code of others and raise whatever goes wrong in it as ``kind``."""
    try:
        return function(*args, **kwargs)
    except kind:
        raise
    except Exception as error:
        raise kind(told(error)) from error
