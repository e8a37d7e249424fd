"""What a policy learnt, shared by all processes: a fold over the labels in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from shared_core.forking import renew_after_fork
from shared_core.stores import Store
from shared_core.thresholds import Label, Policy

STALE_S = 2.0
"""How old the labels known here may be before a lookup waits for newer ones.

The cache's own thread brings them up to date every second; only what it has left behind, as after a
pause, is read by a lookup.
"""

NAMESPACES_KEPT = 1000


class Learner:
    """Keeps a policy's state for each namespace and brings it up to date from the store.

    Every process folds the same labels in the same order, so all come to one state. Methods that
    read or write the store raise StoreError.
    """

    def __init__(
        self, policy: Policy, store: Store, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._policy, self._store, self._clock = policy, store, clock
        self._topic = ""
        self._known: dict[str, tuple[int, int, float, Any]] = {}  # era, label number, when, state
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own."""
        self._lock = threading.Lock()

    def suit(self, policy: Policy, space: str) -> None:
        """Go on with a policy for this space; evidence of other spaces is not its."""
        with self._lock:
            self._policy, self._topic = policy, f"{space}:"
            self._known.clear()

    def state(self, namespace: str) -> Any:
        """Return the state, read from the store if what is known is older than ``STALE_S``."""
        if not self._policy.learns:
            return None
        known = self._known.get(namespace)
        if known is None or self._clock() - known[2] >= STALE_S:
            return self.refresh(namespace)
        self._asked.add(namespace)
        return known[3]

    def catch_up(self) -> None:
        """Fold what others learnt in the namespaces that were asked for since the last time."""
        while self._asked:
            self.refresh(self._asked.pop())

    def refresh(self, namespace: str) -> Any:
        """Fold what was added since the last time, and return the state."""
        return self._fold(namespace, self._era(namespace))

    def _fold(self, namespace: str, era: int) -> Any:
        with self._lock:
            known = self._known.get(namespace)
            seen, state = (
                (known[1], known[3]) if known and known[0] == era else (0, self._policy.start())
            )
            name = self._log(namespace, era)
            for number, text in self._store.load_state({name: seen}).get(name, ()):
                seen = number
                label = Label.from_json(text)
                if label is not None:
                    state = self._policy.learn(state, label)
            self._policy.settle(state)
            if len(self._known) >= NAMESPACES_KEPT:
                self._known.clear()
            self._known[namespace] = (era, seen, self._clock(), state)
            return state

    def learn(self, namespace: str, label: Label) -> None:
        """Add a label for all processes; here it is in effect at once."""
        if self._policy.learns:
            known = self._known.get(namespace)
            era = known[0] if known else self._era(namespace)
            self._store.add_labels(self._log(namespace, era), [label.to_json()])
            self._fold(namespace, era)

    def forget(self, namespace: str) -> None:
        """Start anew, in every process."""
        self._store.increment({_era_key(namespace): 1})
        self._known.pop(namespace, None)

    def _log(self, namespace: str, era: int) -> str:
        return f"labels:{era}:{self._topic}{namespace}"

    def _era(self, namespace: str) -> int:
        key = _era_key(namespace)
        return int(self._store.get_many([key]).get(key, b"0"))


def _era_key(namespace: str) -> str:
    return f"era:{namespace}"
