"""``cached_model``: a LangChain model that is what it was, and streams from the cache too.

LangChain asks a cache for ``invoke`` and ``batch`` alone. So the model is copied into a subclass of
its own class. A wrapper of another class would fail type checks, and change what classes such as
ChatOpenAI send for tools and structured output.
"""

from __future__ import annotations

from functools import cache as remembered
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel, BaseLLM

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.completions import AsyncTextStreams, CachedText, TextStreams
from langchain_tiered_cache.endpoints import (
    AsyncChatStreams,
    CachedChat,
    ChatStreams,
    Origin,
    origin_of,
    plain,
)
from langchain_tiered_cache.frames import SLOT
from shared_core.cache import ResponseCache

Model = TypeVar("Model", BaseChatModel, BaseLLM)


def cached_model(
    model: Model,
    cache: TieredCache | ResponseCache | str = "memory://",
    *,
    pace: float | None = None,
) -> Model:
    """Return a copy of a model that answers from the cache, streams included.

        model = cached_model(ChatOpenAI(model="gpt-4o-mini"), "sqlite:///answers.db")
        for chunk in model.stream("What is the capital of France?"):
            print(chunk.text, end="")

    It is an instance of the model's own class. ``stream``, ``astream``, ``astream_events`` and
    ``invoke`` share their entries, also with other models of equal settings that have this cache. A
    hit is replayed word by word with ``pace`` seconds between two chunks, by default at once; a
    stream that ends is stored, one that breaks or is left early is not.

    ``cache`` is a ``TieredCache``, a ``ResponseCache`` or the URL of one. Raises ValueError for
    arguments that make no sense.
    """
    if not isinstance(model, (BaseChatModel, BaseLLM)):
        raise ValueError(
            f"model must be a chat model or an LLM of LangChain, not {type(model).__name__}: "
            "cache the model first, then bind tools, settings or fallbacks to it"
        )
    if pace is not None and not (_is_number(pace) and 0 <= pace < float("inf")):
        raise ValueError(f"pace must be seconds between chunks, 0 or more, or None, not {pace!r}")
    base = origin_of(model).base if hasattr(type(model), SLOT) else type(model)
    twin: Model = _copied(model, base, pace, _tiered(cache))
    return twin


def _tiered(cache: TieredCache | ResponseCache | str) -> TieredCache:
    if isinstance(cache, TieredCache):
        return cache
    if isinstance(cache, ResponseCache):
        return TieredCache(cache=cache)
    if isinstance(cache, str):
        return TieredCache(cache)
    raise ValueError(f"cache must be a TieredCache, a ResponseCache or a URL, not {cache!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class CachedTwin:
    """How a cached model is pickled: as a model of its own class, which is copied again."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (plain(self), origin_of(self).pace)


def _restored(model: Any, pace: float | None) -> Any:
    return _copied(model, type(model), pace, model.cache)


def _copied(model: Any, base: Any, pace: float | None, cache: object) -> Any:
    twin: Any = object.__new__(_class_of(base, pace))
    fields = {
        "__dict__": {**model.__dict__, "cache": cache},
        "__pydantic_private__": model.__pydantic_private__ and {**model.__pydantic_private__},
        "__pydantic_fields_set__": {*model.__pydantic_fields_set__, "cache"},
        "__pydantic_extra__": model.__pydantic_extra__ and {**model.__pydantic_extra__},
    }
    for name, value in fields.items():
        object.__setattr__(twin, name, value)
    return twin


@remembered
def _class_of(base: Any, pace: float | None) -> type[Any]:
    """Return the class of cached models of a class; the pace is kept there, where copies find it.

    Its name is the one of its base: LangChain makes keys, providers and run names of it.
    """
    kind, cached, streams, astreams = (
        (BaseChatModel, CachedChat, ChatStreams, AsyncChatStreams)
        if issubclass(base, BaseChatModel)
        else (BaseLLM, CachedText, TextStreams, AsyncTextStreams)
    )
    mixed: list[type[Any]] = [CachedTwin, cached]
    if base._stream is not kind._stream:
        mixed += [streams, astreams]
    elif base._astream is not kind._astream:
        mixed += [astreams]
    namespace = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        SLOT: Origin(base, pace),
    }
    metaclass: Any = type(base)
    made: type[Any] = metaclass(base.__name__, (*mixed, base), namespace)
    return made
