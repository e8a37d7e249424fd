"""One value for each system prompt, made once for all who ask: a provider's handle, a token count.

A Gemini ``cachedContents/…`` name is such a value: made by a slow call, good for as long as the
provider keeps it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

from shared_core.flights import Flights, once
from shared_core.forking import renew_after_fork
from shared_core.hop import Hop
from shared_core.options import Seconds, seconds
from shared_core.runtimes import Blocking, OnLoop, Runtime, finish

T = TypeVar("T")


class SystemPromptCache:
    """Values by system prompt, least recently used first out; safe for threads and forks.

    ``ttl`` is in seconds from when a value was made, None for ever: for a provider's handle, less
    than what the provider was asked for. ``lease`` is how many seconds one caller waits for
    another's ``create``. Raises ValueError for limits that make no sense.

        contents = SystemPromptCache(ttl=3500)
        name = contents.get_or_create(
            handbook,
            lambda: client.caches.create(
                model=model, config={"system_instruction": handbook, "ttl": "3600s"}
            ).name,
        )
    """

    def __init__(
        self,
        ttl: Seconds | None = None,
        max_entries: int = 1024,
        *,
        lease: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(max_entries, int) or isinstance(max_entries, bool) or max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {max_entries!r}")
        self._ttl = float("inf") if ttl is None else seconds("ttl", ttl)
        self._most, self._clock = max_entries, clock
        self._kept: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._flights, self._hop = Flights(seconds("lease", lease)), Hop()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def get_or_create(self, system_prompt: str, create: Callable[[], T]) -> T:
        """Return the value of this system prompt; ``create`` is called once for all who ask.

        Raises what ``create`` raises; nothing is kept then.
        """
        return finish(self._get(Blocking(), system_prompt, create))

    async def aget_or_create(self, system_prompt: str, create: Callable[[], Any]) -> Any:
        """Do as ``get_or_create`` does; ``create`` may be a coroutine function."""
        return await self._get(OnLoop(self._hop), system_prompt, create)

    def forget(self, system_prompt: str) -> None:
        """Drop a value, as when the provider no longer knows its handle."""
        with self._lock:
            self._kept.pop(_key(system_prompt), None)

    async def _get(self, runtime: Runtime, system_prompt: str, create: Callable[[], T]) -> T:
        key = _key(system_prompt)
        value: T
        value, _ = await once(
            runtime,
            self._flights,
            key,
            look=lambda: self._look(key),
            look_again=lambda: self._look(key),
            ask=create,
            shape=lambda value: value,
            keep=lambda value: self._keep(key, value),
        )
        return value

    def _look(self, key: str) -> tuple[Any] | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            value, expires = kept
            if expires <= self._clock():
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return (value,)

    def _keep(self, key: str, value: Any) -> None:
        with self._lock:
            self._kept[key] = value, self._clock() + self._ttl
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _key(system_prompt: str) -> str:
    return sha256(system_prompt.encode("utf-8", "surrogatepass")).hexdigest()
