"""How many requests a caller may send in a minute; one too many is told when to come back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0
MOST_CALLERS = 10_000


class Rates:
    """At most so many requests of a caller in any 60 seconds; None: as many as they like.

    Each worker process counts for itself.
    """

    def __init__(
        self, per_minute: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._clock = per_minute, clock
        self._sent: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, name: str) -> float:
        """Count a request and return 0.0, or return after how many seconds it may be sent.

        A request that must wait is not counted.
        """
        if self._most is None:
            return 0.0
        with self._lock:
            now = self._clock()
            sent = self._sent.get(name)
            if sent is None:
                if len(self._sent) >= MOST_CALLERS:
                    self._forget(now)
                sent = self._sent[name] = deque(maxlen=self._most)
            if len(sent) == self._most and now < sent[0] + WINDOW_S:
                return sent[0] + WINDOW_S - now
            sent.append(now)
            return 0.0

    def _forget(self, now: float) -> None:
        """Drop callers that sent nothing lately; if there are none, the one that came first."""
        old = [name for name, sent in self._sent.items() if sent[-1] + WINDOW_S <= now]
        old = old or [next(iter(self._sent))]
        for name in old:
            del self._sent[name]
