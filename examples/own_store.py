"""A store of one's own: one that wraps another, and counts what is asked of it.

    python examples/own_store.py

Wrap, do not subclass: ``shared_core.stores.Store`` says what a store is, and the suite
``shared_core.testing.StoreConformance`` checks every promise of it. A store that keeps records
elsewhere than in memory, SQLite or Redis implements the same methods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from shared_core import Answer, Options, Request, ResponseCache, open_store


class CountedStore:
    """Pass every call on to a store, and count the calls by their method."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._inner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return method(*args, **kwargs)

        return counted


def main() -> None:
    """Count what a miss, a store and a hit ask of a store."""
    store: Any = CountedStore(open_store("memory://"))
    with ResponseCache(store, Options.of({"semantic": False}), shared=False) as cache:
        request = Request.of("What is a fuse?", model="demo", params={"temperature": 0})
        cache.answer(request, lambda: Answer("It melts before the wire does."))
        cache.answer(request, lambda: Answer("never asked"))
    for name, calls in sorted(store.calls.items()):
        print(f"{name:10} {calls}")


if __name__ == "__main__":
    main()
