"""Keeps the results of LangGraph's nodes and tasks: ``graph.compile(cache=TieredNodeCache(url))``.

    get -> known? their values
        -> computed by another graph right now? wait for it, look again
        -> the rest is left to LangGraph, which runs the nodes and calls set

LangGraph makes the key of a node from its input; nothing is matched by meaning here. A store that
fails is passed over: the node runs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from shared_core.lazy import missing

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
except ModuleNotFoundError as error:
    raise missing(error, "langgraph", "TieredNodeCache", "langgraph") from None

from langchain_tiered_cache.cache import TieredCache
from shared_core.cache import ResponseCache
from shared_core.concurrency import (
    Blocking,
    Flight,
    OnLoop,
    Runtime,
    SingleFlight,
    ThreadRunner,
    current_task,
    finish,
)
from shared_core.controls import Controls, controls_of
from shared_core.options import Seconds, seconds
from shared_core.resilience import CircuitBreaker, Unavailable, reraise_as

logger = logging.getLogger("tiered_cache")

LEASE_S = 10.0
"""Seconds that one graph waits at most for a node that another graph is running."""

MAX_FLIGHTS = 10_000
"""Nodes under way that are remembered; LangGraph does not say when one failed."""


LONGEST_NAME = 64
"""Characters of a node's key above which its digest stands for it."""


class _Unreadable(Exception):
    """A value that cannot be kept, or that was kept and cannot be read."""


class TieredNodeCache(BaseCache[Any]):
    """A LangGraph cache for nodes and tasks with a ``CachePolicy``, in memory, SQLite or Redis.

        graph = builder.compile(cache=TieredNodeCache("sqlite:///nodes.db"))

    ``cache`` is a URL, a ``ResponseCache`` or a ``TieredCache``; of the latter two the store, the
    namespace and the controls in force are used. All processes and hosts on one store share what
    is kept.

    ``allow`` names the classes of your own that a node may return (dataclasses, pydantic models,
    enums), as classes or ``(module, name)`` pairs. Messages, documents, dates and plain data need
    no mention; a tuple comes back as a list, as with LangGraph's own caches. A result that holds
    another class is not kept, and a warning says how to allow it. Nothing is pickled. ``serde`` is
    a serializer of your own instead.

    ``ttl`` is the time to live, in seconds or as timedelta, of nodes whose policy names none; None
    is for ever, as LangGraph has it. With ``coalesce``, a graph that needs a node which another
    graph of this process is running waits for its result, at most ``lease`` seconds.

    Raises ValueError for wrong arguments, at construction.
    """

    def __init__(
        self,
        cache: TieredCache | ResponseCache | str = "memory://",
        *,
        allow: Iterable[type | tuple[str, str]] = (),
        serde: SerializerProtocol | None = None,
        ttl: Seconds | None = None,
        namespace: str | None = None,
        coalesce: bool = True,
        lease: float = LEASE_S,
    ) -> None:
        allowed = tuple(sorted(map(_class_name, allow)))
        super().__init__(
            serde=serde
            or JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=allowed or None)
        )
        if namespace is not None and (not isinstance(namespace, str) or not namespace):
            raise ValueError(f"namespace must be a text that is not empty, not {namespace!r}")
        self.cache, self._owned = _opened(cache)
        self._ttl = None if ttl is None else seconds("ttl", ttl)
        self._namespace = namespace
        self._form = _digest(repr((type(self.serde).__qualname__, allowed)))  # what may be read
        self._breaker = CircuitBreaker("node cache", self.cache.count_error)
        self._on_loop = OnLoop(ThreadRunner())
        self._flights = SingleFlight(seconds("lease", lease)) if coalesce else None
        self._led: dict[str, Flight] = {}

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Return the known results of these nodes, in one round trip."""
        names = self._names(keys)
        found = self._read(names)
        if len(found) == len(names):
            return found
        return finish(self._found_elsewhere(Blocking(), names, found))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """Do as ``get`` does; the event loop is not blocked."""
        names = self._names(keys)
        found = await self._on_loop.run(lambda: self._read(names)) if names else {}
        return await self._found_elsewhere(self._on_loop, names, found)

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep results, each with its time to live in seconds; None: the cache's own ``ttl``."""
        finish(self._set(Blocking(), pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Do as ``set`` does; the event loop is not blocked."""
        await self._set(self._on_loop, pairs)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget the results of these LangGraph namespaces, or of all, for this tenant alone."""
        tenant = self._tenant(controls_of(self.cache))
        prefixes = [_prefix(tenant, None)]
        if namespaces is not None:
            prefixes = [_prefix(tenant, tuple(one)) for one in namespaces]
        try:
            for prefix in prefixes:
                self._breaker.call(self._delete, prefix)
        except Unavailable:
            return

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Do as ``clear`` does; the event loop is not blocked."""
        await self._on_loop.run(lambda: self.clear(namespaces))

    def close(self) -> None:
        """Close the store if this object opened it; a second call does nothing."""
        if self._owned:
            self.cache.close()

    def __enter__(self) -> TieredNodeCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _names(self, keys: Sequence[FullKey]) -> dict[str, FullKey]:
        """Name the results to read in the store; none where nothing may be read."""
        controls = controls_of(self.cache)
        tenant = self._tenant(controls)
        if not tenant or not controls.read:
            return {}
        return {self._name(tenant, key): key for key in keys}

    async def _found_elsewhere(
        self, runtime: Runtime, names: Mapping[str, FullKey], found: dict[FullKey, Any]
    ) -> dict[FullKey, Any]:
        """Add what other graphs are computing just now; let others wait for the rest."""
        missing = [name for name, key in names.items() if key not in found]
        if not missing or self._flights is None:
            return found
        for flight in self._flights.under_way(missing):
            if not self._leads():  # two who lead what the other waits for would wait in vain
                await self._flights.join(runtime, flight)
                later = {flight.key: names[flight.key]}
                found |= await runtime.run(lambda later=later: self._read(later))  # type: ignore[misc]
        self._lead(self._flights, [name for name in missing if names[name] not in found])
        return found

    async def _set(self, runtime: Runtime, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        controls = controls_of(self.cache)
        tenant = self._tenant(controls)
        named = {self._name(tenant, key): pair for key, pair in pairs.items()}
        try:
            if controls.write and tenant:
                await runtime.run(lambda: self._write(named))
        finally:
            for name in named:
                if self._flights is not None and (flight := self._led.pop(name, None)):
                    self._flights.finish(flight)

    def _leads(self) -> bool:
        """Say whether this thread or task has nodes under way that others may wait for."""
        here = (threading.get_ident(), current_task())
        return any((one.thread, one.task) == here for one in tuple(self._led.values()))

    def _lead(self, flights: SingleFlight, names: list[str]) -> None:
        """Let others wait for the nodes that LangGraph is about to run for this thread or task."""

        def end(flight: Flight) -> None:
            if self._led.get(flight.key) is flight:
                del self._led[flight.key]
            flights.finish(flight)

        task = current_task()
        for flight in flights.start(names):
            self._led[flight.key] = flight
            if isinstance(task, asyncio.Task):  # the only sign of a node that failed
                task.add_done_callback(lambda _, flight=flight: end(flight))  # type: ignore[misc]
        while len(self._led) > MAX_FLIGHTS:
            end(next(iter(self._led.values())))

    def _read(self, names: Mapping[str, FullKey]) -> dict[FullKey, Any]:
        try:
            values = self._breaker.call(self.cache.values.get_many, list(names))
        except Unavailable:
            return {}
        found: dict[FullKey, Any] = {}
        for name, value in values.items():
            try:
                found[names[name]] = self._decoded(value)
            except _Unreadable as error:
                self.cache.count_error("record")
                logger.debug("a kept result of a node is not readable: %s", error)
        return found

    def _write(self, named: Mapping[str, tuple[Any, int | None]]) -> None:
        by_life: dict[float | None, dict[str, bytes]] = {}
        for name, (value, ttl) in named.items():
            life = self._ttl if ttl is None else float(ttl)
            life = None if life == float("inf") else life
            try:
                encoded = self._encoded(value)
            except _Unreadable as error:
                self.cache.count_error("encode")
                _warn(str(error))
                continue
            if life is None or life > 0:
                by_life.setdefault(life, {})[name] = encoded
        try:
            for life, items in by_life.items():
                self._breaker.call(self.cache.values.put_many, items, life)
        except Unavailable:
            return

    def _encoded(self, value: Any) -> bytes:
        """Return a value as bytes that read back as the same value. Raises _Unreadable."""
        kind, data = reraise_as(_Unreadable, self.serde.dumps_typed, value)
        again = reraise_as(_Unreadable, self.serde.loads_typed, (kind, data))
        if reraise_as(_Unreadable, self.serde.dumps_typed, again) != (kind, data):
            raise _Unreadable(
                f"a node's result is not kept, since {_classes(value)} would read back changed; "
                "name the classes that may be read: TieredNodeCache(url, allow=[…])"
            )
        return kind.encode() + b":" + data

    def _decoded(self, raw: bytes) -> Any:
        kind, _, data = raw.partition(b":")
        return reraise_as(
            _Unreadable, self.serde.loads_typed, (str(kind, "ascii", "replace"), data)
        )

    def _delete(self, prefix: str) -> None:
        values, cursor = self.cache.values, ""
        while True:
            names, cursor = values.scan(prefix, cursor)
            if names:
                values.delete_many(names)
            if not cursor:
                return

    def _tenant(self, controls: Controls) -> str:
        if controls.namespace is not None:
            return controls.namespace
        options = self.cache.options
        return self._namespace or ("" if options.namespace_required else options.namespace)

    def _name(self, tenant: str, key: FullKey) -> str:
        namespace, name = key
        short = name if len(name) <= LONGEST_NAME else _digest(name)
        return f"{_prefix(tenant, tuple(namespace))}{self._form}:{short}"


def _digest(*parts: str) -> str:
    """Digest texts so that no two lists of them meet."""
    whole = b"".join(b"%d:%s" % (len(raw), raw) for raw in (part.encode() for part in parts))
    return sha256(whole).hexdigest()[:32]


@lru_cache(1024)
def _prefix(tenant: str, namespace: Namespace | None) -> str:
    """Return how the names of a tenant's results begin, those of one LangGraph namespace or all."""
    head = f"node:{_digest(tenant)}:"
    return head if namespace is None else f"{head}{_digest(*namespace)}:"


def _class_name(given: type | tuple[str, str]) -> tuple[str, str]:
    if isinstance(given, type):
        return given.__module__, given.__name__
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, str) for one in given):  # noqa: PLR2004
        return given
    raise ValueError(f"allow takes classes or (module, name) pairs, not {given!r}")


def _opened(cache: object) -> tuple[ResponseCache, bool]:
    """Return the cache whose store is used, and whether it was opened for this."""
    if isinstance(cache, TieredCache):
        return cache.cache, False
    if isinstance(cache, ResponseCache):
        return cache, False
    if isinstance(cache, str):
        return ResponseCache.open(cache, semantic=False), True
    raise ValueError(f"cache must be a URL, a ResponseCache or a TieredCache, not {cache!r}")


def _classes(value: Any, most: int = 5) -> str:
    """Name the classes in a value that are no plain data."""
    found: dict[str, None] = {}

    def walk(one: Any) -> None:
        if isinstance(one, Mapping):
            for item in one.values():
                walk(item)
        elif isinstance(one, (list, tuple, set, frozenset)):
            for item in one:
                walk(item)
        elif type(one).__module__ != "builtins":
            found[f"{type(one).__module__}.{type(one).__qualname__}"] = None

    walk(value)
    return ", ".join(list(found)[:most]) or type(value).__name__


_warned: set[str] = set()


def _warn(text: str) -> None:
    """Log a warning once."""
    if text not in _warned:
        _warned.add(text)
        logger.warning("%s", text)
