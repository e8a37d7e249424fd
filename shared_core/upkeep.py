"""What runs beside the requests: one daemon thread for a cache whose store is shared."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared_core.control import DEFAULT
from shared_core.forking import renew_after_fork
from shared_core.resilience import Unavailable, quietly
from shared_core.stores import KeyValue

if TYPE_CHECKING:
    from shared_core.data_path import DataPath

PERIOD_S = 1.0
COUNTERS_PREFIX = "stats:"
POLICY_PREFIX = "policy:"

TEACHING = ("stores", "explored:", "shadow:", "labels:")
"""Counters after which the policy may have other things to tell."""


class Upkeep:
    """Calls ``flush`` once a second: what was counted goes to the store, what others learnt comes.

    The thread starts with the first request and ends when the cache is closed or no longer used.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = weakref.WeakMethod(flush)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """A child has no thread yet; its first request starts one."""
        self._stop, self._thread, self._lock = threading.Event(), None, threading.Lock()

    def ensure(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is None and not self._stop.is_set():
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=_run,
                        args=(self._flush, self._stop),
                        name="tiered-cache",
                        daemon=True,
                    )
                    self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()


def _run(flush: weakref.WeakMethod[Callable[[], None]], stop: threading.Event) -> None:
    while not stop.wait(PERIOD_S):
        call = flush()
        if call is None:
            return
        call()
        del call


def flush(path: DataPath, store: KeyValue, namespace: str) -> None:
    """Add what was counted since the last time to the store's counters; keep it if that fails.

    What the policy has learnt is described beside them, for whoever has the store but not the app.
    And what others taught it is read here, so that no lookup waits for that.
    """
    if path.semantic is not None:
        with suppress(Unavailable):  # counted
            path.fuse.call(path.semantic.learner.catch_up)
    amounts = path.counters.take_unflushed()
    if not amounts:
        return
    named = {f"{COUNTERS_PREFIX}{namespace}:{name}": n for name, n in amounts.items()}
    try:
        path.fuse.call(store.increment, named)
    except Unavailable:
        path.counters.give_back(amounts)
        return
    suited = path.semantic is not None and path.semantic.is_suited
    if suited and any(name.startswith(TEACHING) for name in amounts):
        quietly(path.count_error, "policy", _write_policy, path, store, namespace)


def _write_policy(path: DataPath, store: KeyValue, namespace: str) -> None:
    told = json.dumps(path.described(path.namespace(DEFAULT)), default=str).encode()
    with suppress(Unavailable):  # counted
        path.fuse.call(store.put_many, {f"{POLICY_PREFIX}{namespace}": told})


def policy_of_all(values: KeyValue, namespace: str) -> Mapping[str, Any] | None:
    """Return what some process told last of its policy, None if none did. Raises StoreError."""
    key = f"{POLICY_PREFIX}{namespace}"
    try:
        told = json.loads(values.get_many([key]).get(key, b"null"))
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def counts_of_all(values: KeyValue, namespace: str) -> dict[str, int]:
    """Return the counters that every process flushed for a namespace. Raises StoreError."""
    prefix = f"{COUNTERS_PREFIX}{namespace}:"
    found: dict[str, int] = {}
    cursor = ""
    while True:
        keys, cursor = values.scan(prefix, cursor)
        for key, value in values.get_many(keys).items():
            found[key.removeprefix(prefix)] = int(value)
        if not cursor:
            return found
