"""Keep the results of plain functions: ``@cached``, each computed once for all who call.

arguments --argument_digest--> "cached:NAME:DIGEST" --get_or_compute--> JSON value
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, wraps
from hashlib import sha256
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from shared_core.cache import ResponseCache
from shared_core.concurrency import free_after_fork
from shared_core.controls import tag_tuple
from shared_core.identity import Digest, ValueReader
from shared_core.options import Seconds, seconds
from shared_core.request import canonical_json
from shared_core.state_places import Unreadable

# The arguments of a call as a digest: equal for equal calls, in every process, for ever.


class UnkeyableError(TypeError):
    """An argument has no identity beyond this process, so no key can be made of it.

    ``ignore=`` leaves such an argument out:

        @cached(cache, ignore=("connection",))  # without ignore=, a call raises UnkeyableError
        def rows(connection, table): ...
    """


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
            spelt[name] = ValueReader().spell(value)
            canonical_json(spelt[name])
        except (TypeError, ValueError, RecursionError) as error:
            raise UnkeyableError(
                f"argument {name!r} cannot be part of a key: {error}; leave it out with "
                f"ignore=({name!r},) if the result does not depend on it, or give key="
            ) from None
    return sha256(canonical_json(spelt).encode()).hexdigest()


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
    not kept. ``ttl`` and ``tags`` are those of ``get_or_compute``. A function is its module and
    qualified name, its code, its defaults, what it closes over, and the constants and helpers of
    its module that it names: when one of them changes, it is another function. ``name`` replaces
    all of that: then a new name is a new version. ``ignore`` names parameters that the result does
    not depend on, such as ``self`` or a connection; ``key`` makes the key's text of the arguments
    instead.

        @cached(cache, ttl=3600)
        def embed(text: str, model: str = "small") -> list[float]: ...

        embed.invalidate("a text")
        embed.cache_clear()

    Raises ValueError for a name, ttl, tag or parameter that makes no sense, and for a function that
    holds what cannot be read, such as a connection, unless it has a name; a call raises
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
    """The arguments of ``cached``."""

    cache: ResponseCache
    ttl: Seconds | None
    tags: tuple[str, ...]
    name: str | None
    ignore: frozenset[str]
    key: Callable[..., str] | None


class _Results:
    """The results of one function in the cache, and how often they were there."""

    def __init__(self, function: Callable[..., Any], terms: _Terms) -> None:
        name = terms.name or _name_of(function)
        if ":" in name:
            raise ValueError(f"name {name!r} holds a colon, which ends the name in a key")
        self._digest = None if terms.name else Digest(lambda reader: reader.spell(function))
        self._terms, self._name = terms, name
        try:
            self.prefix()
        except UnkeyableError as error:
            raise ValueError(str(error)) from None
        self._signature = inspect.signature(function)
        unknown = terms.ignore - self._signature.parameters.keys()
        if unknown:
            raise ValueError(f"ignore names {sorted(unknown)}, which {name} does not take")
        self._hits = self._misses = 0
        self._lock = free_after_fork(threading.Lock())

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call. Raises UnkeyableError."""
        prefix = self.prefix()
        if self._terms.key is None:
            digest = argument_digest(self._signature, args, kwargs, self._terms.ignore)
            return f"{prefix}{digest}"
        made = self._terms.key(*args, **kwargs)
        if not isinstance(made, str):
            raise TypeError(f"key= must return a text, not {type(made).__qualname__}")
        return f"{prefix}{sha256(made.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def prefix(self) -> str:
        """Return how the function's keys begin. Raises UnkeyableError."""
        if self._digest is None:
            return f"cached:{self._name}:"
        try:
            return f"cached:{self._name}@{self._digest.now()}:"
        except Unreadable as error:
            raise UnkeyableError(
                f"{self._name} holds what no key can be made of, {error}: give name=, by which its "
                "results are found"
            ) from None

    def _working(self) -> AbstractContextManager[None]:
        """Note that the function works in a block: what it counts there is no part of it."""
        return nullcontext() if self._digest is None else self._digest.calling()

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a key, computed if it is not there."""
        terms = self._terms

        def working() -> Any:
            with self._working():
                return compute()

        value, fresh = terms.cache.get_or_compute(key, working, ttl=terms.ttl, tags=terms.tags)
        self._count(fresh)
        return value

    async def avalue(self, key: str, compute: Callable[[], Any]) -> Any:
        """Do as ``value`` does; ``compute`` is a coroutine function."""
        terms = self._terms

        async def working() -> Any:
            with self._working():
                return await compute()

        value, fresh = await terms.cache.aget_or_compute(
            key, working, ttl=terms.ttl, tags=terms.tags
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
        return self._terms.cache.invalidate(key_prefix=self.prefix())

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses)


def _name_of(function: Callable[..., Any]) -> str:
    """Return module and qualified name of a function, of a callable object those of its class."""
    while isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}".replace(":", ".")


def _caching(function: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    """Return the function of the same kind that asks the cache first."""
    called: Any = function
    if not inspect.isroutine(function) and not isinstance(function, partial):
        called = type(function).__call__
    if inspect.isasyncgenfunction(called):
        return _of_async_generator(function, results)
    if inspect.iscoroutinefunction(called):
        return _of_coroutine(function, results)
    if inspect.isgeneratorfunction(called):

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
