"""``@cached``: a function that computes each result once, for all who call it at a time.

arguments --argument_digest--> "cached:NAME:DIGEST" --get_or_compute--> JSON value
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from shared_core.argument_keys import argument_digest
from shared_core.cache import ResponseCache
from shared_core.control import tag_tuple
from shared_core.forking import renew_after_fork
from shared_core.options import Seconds, seconds

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
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own."""
        self._lock = threading.Lock()

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
