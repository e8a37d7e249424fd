"""What a lookup saw and could not serve, until the fresh answer comes and labels it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from shared_core.forking import renew_after_fork
from shared_core.record import Neighbour

PENDING_KEPT = 1000
SERVINGS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Exploration:
    """A question's neighbours, nearest first, and which of them the fresh answer will label.

    ``evidence`` is the policy's; ``in_shadow`` says that the candidate would have been served.
    """

    near: tuple[Neighbour, ...]
    candidate: int | None = None
    evidence: tuple[float, ...] = ()
    score: float | None = None
    in_shadow: bool = False


class Explorations:
    """Explorations by the key of their request, and how often a question was served by meaning.

    Both are of this process, and bounded: the oldest go first.
    """

    def __init__(self) -> None:
        self._pending: OrderedDict[str, Exploration] = OrderedDict()
        self._servings: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own."""
        self._lock = threading.Lock()

    def remember(self, key: str, exploration: Exploration) -> None:
        """Keep an exploration until its answer is stored."""
        with self._lock:
            self._pending[key] = exploration
            self._pending.move_to_end(key)
            if len(self._pending) > PENDING_KEPT:
                self._pending.popitem(last=False)

    def take(self, key: str) -> Exploration | None:
        """Return the exploration of a request, once."""
        with self._lock:
            return self._pending.pop(key, None)

    def servings(self, key: str) -> int:
        """Return how often a question was served by meaning."""
        return self._servings.get(key, 0)

    def count_serving(self, key: str) -> None:
        """Count that a question was served by meaning."""
        with self._lock:
            self._servings[key] = self._servings.get(key, 0) + 1
            self._servings.move_to_end(key)
            if len(self._servings) > SERVINGS_KEPT:
                self._servings.popitem(last=False)
