"""Where a cache comes from: what a pickled cache carries, instead of connections and locks.

cache --pickle--> Origin(token, open, url, options) --unpickle--> the same cache, or one opened anew
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from shared_core.forking import renew_after_fork

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Origin:
    """How a cache was opened; ``token`` tells the caches of a process apart."""

    token: str
    open: Callable[..., Any]
    url: str = field(repr=False)  # it may hold a password
    options: Mapping[str, Any] = field(repr=False)


class _Living:
    """The caches of this process: each one's origin, and each token's cache."""

    def __init__(self) -> None:
        self.origins: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()
        self.caches: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.opening = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Caches follow a fork by themselves; the lock may be held by a thread that is gone."""
        self.opening = threading.Lock()

    def note(self, cache: Any, origin: Origin) -> None:
        self.origins[cache] = origin
        self.caches[origin.token] = cache


_living = _Living()


def opened(cache: C, open: Callable[..., C], url: str, options: Mapping[str, Any]) -> C:
    """Note how a cache was opened, for as long as it lives, and return it."""
    _living.note(cache, Origin(uuid4().hex, open, url, dict(options)))
    return cache


def way_to(cache: Any) -> tuple[Any, ...]:
    """Reduce a cache for pickling to its origin: in this process the copy is the cache itself.

    Elsewhere it reconnects. Raises TypeError for a cache of which no origin is known.
    """
    origin = _living.origins.get(cache)
    if origin is None:
        raise TypeError(f"only a {type(cache).__name__} made by open() can be pickled")
    return reopened, (origin,)


def reopened(origin: Origin) -> Any:
    """Return the cache of an origin: the one in this process, else one opened now.

    Raises what opening it raises.
    """
    with _living.opening:
        cache = _living.caches.get(origin.token)
        if cache is None:
            cache = origin.open(origin.url, **origin.options)
            _living.note(cache, origin)
        return cache
