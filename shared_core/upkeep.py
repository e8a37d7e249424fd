"""What runs beside the requests: one daemon thread for a cache whose store is shared."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from shared_core.forking import renew_after_fork
from shared_core.resilience import Fuse, Unavailable
from shared_core.stats import Counters
from shared_core.stores import Store

PERIOD_S = 1.0
COUNTERS_PREFIX = "stats:"


class Upkeep:
    """Writes a cache's counters to the store once a second, while there is something to write.

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


def flush_counters(counters: Counters, store: Store, fuse: Fuse, namespace: str) -> None:
    """Add what was counted since the last time to the store's counters; keep it if that fails."""
    amounts = counters.take_unflushed()
    if not amounts:
        return
    named = {f"{COUNTERS_PREFIX}{namespace}:{name}": n for name, n in amounts.items()}
    try:
        fuse.call(store.increment, named)
    except Unavailable:
        counters.give_back(amounts)


def counts_of_all(store: Store, namespace: str) -> dict[str, int]:
    """Return the counters that every process flushed for a namespace. Raises StoreError."""
    prefix = f"{COUNTERS_PREFIX}{namespace}:"
    found: dict[str, int] = {}
    cursor = ""
    while True:
        keys, cursor = store.scan(prefix, cursor)
        for key, value in store.get_many(keys).items():
            found[key.removeprefix(prefix)] = int(value)
        if not cursor:
            return found
