"""``cached_llm`` and ``install``: an LLM that is what it was, and answers from the cache.

LlamaIndex has no hook for a cache, so the LLM itself is replaced: by an instance of a subclass of
its own class that shares its state. A wrapper of another class would fail type checks, and change
what classes such as OpenAI send for structured output.
"""

from __future__ import annotations

import copy
import threading
from typing import Any, Literal
from weakref import WeakKeyDictionary

from llama_index.core import Settings
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM

from llamaindex_tiered_cache.endpoints import (
    SLOT,
    CachedEndpoints,
    Mixed,
    Terms,
    Wrapped,
    passed_on,
    share_state,
    wrapped,
)
from llamaindex_tiered_cache.opening import open_cache
from llamaindex_tiered_cache.responses import Kept
from shared_core.cache import ResponseCache


def cached_llm(
    llm: LLM,
    cache: ResponseCache | str = "memory://",
    *,
    namespace: str | None = None,
    semantic: Literal["auto", "off"] = "auto",
    cache_tool_calls: bool = True,
    keep_raw: bool = False,
) -> LLM:
    """Return an LLM like this one whose answers come from the cache where it has them.

        Settings.llm = cached_llm(OpenAI(model="gpt-4o-mini", temperature=0), "sqlite:///llm.db")

    It is an instance of the LLM's own class and shares its attributes both ways. ``cache`` is a
    ``ResponseCache`` or the URL of one; ``namespace`` replaces the cache's own; ``semantic="off"``
    leaves the exact tier alone; ``cache_tool_calls=False`` keeps no answer that calls tools;
    ``keep_raw`` keeps the provider's raw response, as a dict.

    A response says where it is from: ``response.additional_kwargs["tiered_cache"]``. An LLM that is
    cached already is cached anew on these terms. Raises ValueError for arguments that make no
    sense.
    """
    if not isinstance(llm, LLM):
        raise ValueError(f"llm must be an LLM of LlamaIndex, not {type(llm).__name__}")
    if semantic not in ("auto", "off"):
        raise ValueError(f'semantic must be "auto" or "off", not {semantic!r}')
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f"namespace must be a text that is not empty, or None, not {namespace!r}")
    terms = Terms(
        open_cache(cache), namespace, semantic == "auto", Kept(keep_raw, bool(cache_tool_calls))
    )
    return wrap(uncached(llm), terms)


def install(cache: ResponseCache | str = "memory://", **options: Any) -> LLM:
    """Put the cache before ``Settings.llm`` and return the LLM; options are ``cached_llm``'s.

    Engines and agents made from now on use it; those made before hold the LLM they were given.
    """
    Settings.llm = cached_llm(Settings.llm, cache, **options)
    return Settings.llm


def uncached(llm: LLM) -> LLM:
    """Return the LLM inside a cached one; any other as it is."""
    found = getattr(llm, SLOT, None)
    return found.inner if isinstance(found, Wrapped) else llm


def cache_of(llm: LLM) -> ResponseCache:
    """Return the cache of a cached LLM. Raises ValueError for any other."""
    found = getattr(llm, SLOT, None)
    if not isinstance(found, Wrapped):
        raise ValueError(f"this {type(llm).__name__} has no cache; cached_llm() gives it one")
    return found.terms.cache


class CachedTwin(Mixed):
    """How a cached LLM is made, changed, copied and pickled: as its inner LLM, wrapped anew."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make what the LLM's own class makes: only ``wrap`` makes twins."""
        base: Any = cls.__mro__[_BEFORE_BASE]
        return base(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = wrapped(self).inner
        setattr(inner, name, value)
        share_state(self, inner)

    def __copy__(self) -> Any:
        return wrap(copy.copy(wrapped(self).inner), wrapped(self).terms)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        return wrap(copy.deepcopy(wrapped(self).inner, memo), wrapped(self).terms)

    def __reduce__(self) -> tuple[Any, ...]:
        return wrap, (wrapped(self).inner, wrapped(self).terms)

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Any:
        """Copy the inner LLM and wrap the copy; they share the cache."""
        inner = wrapped(self).inner.model_copy(update=update, deep=deep)
        return wrap(inner, wrapped(self).terms)


def wrap(inner: LLM, terms: Terms) -> LLM:
    """Make the cached twin of an LLM."""
    twin: LLM = object.__new__(_class_of(type(inner)))
    object.__setattr__(twin, SLOT, Wrapped(inner, terms))
    share_state(twin, inner)
    return twin


_classes: WeakKeyDictionary[type[LLM], type[LLM]] = WeakKeyDictionary()
_making = threading.Lock()


def _class_of(base: type[LLM]) -> type[LLM]:
    """Return the class of the twins of a class, made once."""
    with _making:
        if base not in _classes:
            _classes[base] = _subclass(base)
        return _classes[base]


def _subclass(base: type[LLM]) -> type[LLM]:
    name = f"Cached{base.__name__}"
    namespace: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": name,
        "__doc__": base.__doc__,
        "__slots__": (SLOT,),
    }
    if issubclass(base, StructuredLLM):
        namespace |= passed_on(_with_cached_llm)
    metaclass: Any = type(base)
    made: type[LLM] = metaclass(name, (CachedTwin, CachedEndpoints, base), namespace)
    return made


_BEFORE_BASE = 3
"""How many classes stand before the LLM's own one: the twin's, and two that are mixed in."""


def _with_cached_llm(structured: Any) -> LLM:
    """Return a structured LLM whose inner LLM is cached: its own answers are objects of a class.

    It is made anew for each call, so that it always has the state of now.
    """
    of = wrapped(structured)
    inner: Any = of.inner
    return of.inner.model_copy(update={"llm": wrap(uncached(inner.llm), of.terms)})
