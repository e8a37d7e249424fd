"""Keep the results of plain functions: ``@cached``, each computed once for all who call.

arguments --argument_digest--> "cached:NAME:DIGEST" --get_or_compute--> JSON value
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import wraps
from hashlib import sha256
from pathlib import PurePath
from typing import Any, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

from shared_core.cache import ResponseCache
from shared_core.concurrency import free_after_fork
from shared_core.controls import tag_tuple
from shared_core.options import Seconds, seconds
from shared_core.request import canonical_json

# Spells the arguments of a call as text: equal for equal calls, in every process, for ever.


_SPELT_BY_STR = (date, time, timedelta, Decimal, PurePath, UUID)
"""What is known by its text, and says by its type what the text means."""


class UnkeyableError(TypeError):
    """An argument has no identity beyond this process, so no key can be made of it."""


def argument_digest(
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    ignore: Collection[str] = (),
) -> str:
    """Return the hex sha256 of a call's bound arguments.

    Defaults count as given, the order of keywords does not matter. ``ignore`` names parameters that
    the result does not depend on. Raises TypeError for arguments that the signature does not take,
    UnkeyableError for one that cannot be part of a key, naming it and the remedy.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    spelt = {}
    for name, value in bound.arguments.items():
        if name in ignore:
            continue
        try:
            spelt[name] = _spelt(value)
            canonical_json(spelt[name])
        except (TypeError, ValueError, RecursionError) as error:
            raise UnkeyableError(
                f"argument {name!r} cannot be part of a key: {error}; leave it out with "
                f"ignore=({name!r},) if the result does not depend on it, or give key="
            ) from None
    return sha256(canonical_json(spelt).encode()).hexdigest()


def _spelt(value: Any) -> Any:
    """Return a JSON value that is equal only for equal values of equal types."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    spelt: list[Any]
    match value:
        case Enum():
            spelt = ["enum", _name(type(value)), value.name]
        case bytes() | bytearray():
            spelt = ["bytes", bytes(value).hex()]
        case Mapping():
            pairs = [[_spelt(key), _spelt(item)] for key, item in value.items()]
            spelt = ["mapping", *sorted(pairs, key=lambda pair: canonical_json(pair[0]))]
        case list() | tuple():
            spelt = ["list" if isinstance(value, list) else "tuple", *map(_spelt, value)]
        case set() | frozenset():
            spelt = ["set", *sorted(map(_spelt, value), key=canonical_json)]
        case _ if isinstance(value, _SPELT_BY_STR):
            spelt = [_name(type(value)), str(value)]
        case _:
            spelt = [_name(type(value)), _spelt(_fields(value))]
    return spelt


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass or a pydantic model. Raises TypeError for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.compare}
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        found = dump()
        if isinstance(found, dict):
            return found
    raise TypeError(f"{_name(type(value))} has no identity beyond this process")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """How often this process's calls of a function were answered without it, and how often not."""

    hits: int
    misses: int


class CachedFunction(Protocol[P, R_co]):
    """A function whose results are cached. As a method, its extras take the object first."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of ``get_or_compute`` under which these arguments' result is kept."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> int:
        """Forget the result of these arguments, in every process; return how many there were."""

    def cache_clear(self) -> int:
        """Forget all results of this function, in every process; return how many there were."""

    def cache_info(self) -> CacheInfo:
        """Return the counts of this process."""


def cached(
    cache: ResponseCache,
    *,
    ttl: Seconds | None = None,
    tags: Iterable[str] = (),
    name: str | None = None,
    ignore: Iterable[str] = (),
    key: Callable[..., str] | None = None,
) -> Callable[[Callable[P, R_co]], CachedFunction[P, R_co]]:
    """Cache a function's results: plain, coroutine, generator or async generator function.

    Results are JSON values, and come back as such, the first time too: a tuple as a list. Items of
    a generator are collected before the first is yielded. What the function raises is raised and
    not kept. ``ttl`` and ``tags`` are those of ``get_or_compute``. ``name`` stands for the function
    in the key, by default its module and qualified name: a new name is a new version. ``ignore``
    names parameters that the result does not depend on, such as ``self`` or a connection; ``key``
    makes the key's text of the arguments instead.

        @cached(cache, ttl=3600)
        def embed(text: str, model: str = "small") -> list[float]: ...

        embed.invalidate("a text")
        embed.cache_clear()

    Raises ValueError for a name, ttl, tag or parameter that makes no sense; a call raises
    UnkeyableError, a TypeError, for arguments of which no key can be made.
    """
    if isinstance(ignore, str):
        raise ValueError(f"ignore must be a list of names, not the text {ignore!r}")
    if ttl is not None:
        seconds("ttl", ttl)
    terms = _Terms(cache, ttl, tag_tuple(tags), name, frozenset(ignore), key)

    def decorate(function: Callable[P, R_co]) -> CachedFunction[P, R_co]:
        results = _Results(function, terms)
        caching: Any = _caching(function, results)
        caching.cache_key, caching.invalidate = results.key, results.invalidate
        caching.cache_clear, caching.cache_info = results.clear, results.info
        return cast("CachedFunction[P, R_co]", caching)

    return decorate


@dataclass(frozen=True, slots=True)
class _Terms:
    """What ``cached`` was told."""

    cache: ResponseCache
    ttl: Seconds | None
    tags: tuple[str, ...]
    name: str | None
    ignore: frozenset[str]
    key: Callable[..., str] | None


class _Results:
    """The results of one function in the cache, and how often they were there."""

    def __init__(self, function: Callable[..., Any], terms: _Terms) -> None:
        name = terms.name or f"{function.__module__}.{function.__qualname__}"
        if "<locals>" in name and terms.name is None:
            raise ValueError(
                f"{name} may be one of many functions of this name: give name=, by which its "
                "results are found"
            )
        if ":" in name:
            raise ValueError(f"name {name!r} holds a colon, which ends the name in a key")
        self._terms, self._prefix = terms, f"cached:{name}:"
        self._signature = inspect.signature(function)
        unknown = terms.ignore - self._signature.parameters.keys()
        if unknown:
            raise ValueError(f"ignore names {sorted(unknown)}, which {name} does not take")
        self._hits = self._misses = 0
        self._lock = free_after_fork(threading.Lock())

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call. Raises UnkeyableError."""
        if self._terms.key is None:
            digest = argument_digest(self._signature, args, kwargs, self._terms.ignore)
            return f"{self._prefix}{digest}"
        made = self._terms.key(*args, **kwargs)
        if not isinstance(made, str):
            raise TypeError(f"key= must return a text, not {type(made).__qualname__}")
        return f"{self._prefix}{sha256(made.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a key, computed if it is not there."""
        terms = self._terms
        value, fresh = terms.cache.get_or_compute(key, compute, ttl=terms.ttl, tags=terms.tags)
        self._count(fresh)
        return value

    async def avalue(self, key: str, compute: Callable[[], Any]) -> Any:
        """Do as ``value`` does; ``compute`` is a coroutine function."""
        terms = self._terms
        value, fresh = await terms.cache.aget_or_compute(
            key, compute, ttl=terms.ttl, tags=terms.tags
        )
        self._count(fresh)
        return value

    def _count(self, fresh: bool) -> None:
        with self._lock:
            self._misses += fresh
            self._hits += not fresh

    def invalidate(self, *args: Any, **kwargs: Any) -> int:
        return self._terms.cache.invalidate(key_prefix=self.key(*args, **kwargs))

    def clear(self) -> int:
        return self._terms.cache.invalidate(key_prefix=self._prefix)

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses)


def _caching(function: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    """Return the function of the same kind that asks the cache first."""
    if inspect.isasyncgenfunction(function):
        return _of_async_generator(function, results)
    if inspect.iscoroutinefunction(function):
        return _of_coroutine(function, results)
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
            key = results.key(*args, **kwargs)
            yield from results.value(key, lambda: list(function(*args, **kwargs)))

        return items

    @wraps(function)
    def value(*args: Any, **kwargs: Any) -> Any:
        return results.value(results.key(*args, **kwargs), lambda: function(*args, **kwargs))

    return value


def _of_coroutine(function: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    @wraps(function)
    async def value(*args: Any, **kwargs: Any) -> Any:
        async def compute() -> Any:
            return await function(*args, **kwargs)

        return await results.avalue(results.key(*args, **kwargs), compute)

    return value


def _of_async_generator(function: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    @wraps(function)
    async def items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async def compute() -> list[Any]:
            return [item async for item in function(*args, **kwargs)]

        for item in await results.avalue(results.key(*args, **kwargs), compute):
            yield item

    return items
