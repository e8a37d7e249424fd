"""How long a lookup may wait for its store: all its calls share one allowance.

What passes between the calls, such as embedding the question, is not taken from it. Of one thread:
a lookup never changes threads on its way.
"""

from __future__ import annotations

import math
import threading
import time


class _Here(threading.local):
    left: float | None = None
    end: float = math.inf


_here = _Here()


class allowance:
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


class waiting:
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
