"""What a cached model does instead of its class: it asks the cache for streams too.

Whatever the cache does not answer is done by a view of the same state in the model's own class:
some classes call one endpoint from another, which would ask the cache twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.outputs import (
    ChatGenerationChunk,
    ChatResult,
)

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.chunks import chat_chunks
from langchain_tiered_cache.frames import SLOT
from langchain_tiered_cache.refreshing import chat_acall, chat_call, refreshing, view
from langchain_tiered_cache.streams import (
    UNREADABLE,
    Stream,
    aclose,
    apaced,
    chat_form,
    mark_of,
    paced,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which class cached models are made of, and the seconds between two chunks of a replay."""

    base: type[Any]
    pace: float | None


def origin_of(model: object) -> Origin:
    """Return what the class of a cached model is made of."""
    found: Origin = getattr(type(model), SLOT)
    return found


def plain(model: object) -> Any:
    """Return a view of a cached model in its own class: of the same state, its streams uncached."""
    return view(model, origin_of(model).base)


class CachedChat:
    """A chat model whose hits are heard as streams where somebody listens to one."""

    __slots__ = ()

    def _generate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        with refreshing(own.cache, chat_call(own, messages, stop, kwargs)):
            result: ChatResult = own._generate_with_cache(messages, stop, run_manager, **kwargs)
        if _is_heard(own, result, run_manager, {"async_api": False, **kwargs}):
            for chunk in paced(_heard(result), origin_of(self).pace):
                run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        with refreshing(own.cache, chat_acall(own, messages, stop, kwargs)):
            found = own._agenerate_with_cache(messages, stop, run_manager, **kwargs)
            result: ChatResult = await found
        if _is_heard(own, result, run_manager, {"async_api": True, **kwargs}):
            async for chunk in apaced(_heard(result), origin_of(self).pace):
                await run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result


class ChatStreams:
    """A chat model that asks the cache for streams.

    Those of LangChain's newer protocol are made of these, also where a class makes its own.
    """

    __slots__ = ()

    _stream_chat_model_events = None

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        own = plain(self)
        stream = _chat_stream(own, origin_of(self).pace, messages, stop, kwargs)
        live = partial(own._stream, messages, stop=stop, **kwargs)
        chunks = None if stream is None else stream.found(live)
        if chunks is None:
            chunks = live(**_given(run_manager))
            chunks = chunks if stream is None else stream.recorded(chunks)
        yield from chunks


class AsyncChatStreams:
    """A chat model that asks the cache for asynchronous streams."""

    __slots__ = ()

    _astream_chat_model_events = None

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        own = plain(self)
        stream = _chat_stream(own, origin_of(self).pace, messages, stop, kwargs)
        live = partial(own._astream, messages, stop=stop, **kwargs)
        chunks = None if stream is None else await stream.afound(live)
        if chunks is None:
            chunks = live(**_given(run_manager))
            chunks = chunks if stream is None else stream.arecorded(chunks)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)


WITHOUT_KEY = "no key can be made of a stream's request, the cache is passed over"


def _chat_stream(
    own: Any, pace: float | None, messages: list[BaseMessage], stop: Any, kwargs: dict[str, Any]
) -> Stream[ChatGenerationChunk] | None:
    """Return the stream of a call, with the keys that ``invoke`` has; None without a cache."""
    cache = own.cache
    if not isinstance(cache, TieredCache):
        return None
    try:
        asked = [_without_id(message) for message in messages]
        key = dumps(asked), own._get_llm_string(stop=stop, **kwargs)
    except UNREADABLE as error:
        cache.count("lookup:key", WITHOUT_KEY, error)
        return None
    return Stream(cache, *key, chat_form(own.output_version), pace)


def _without_id(message: BaseMessage) -> BaseMessage:
    return message if message.id is None else message.model_copy(update={"id": None})


def _given(run_manager: Any) -> dict[str, Any]:
    return {} if run_manager is None else {"run_manager": run_manager}


def _is_heard(own: Any, result: ChatResult, run_manager: Any, call: dict[str, Any]) -> bool:
    """Tell whether a hit has a listener who was told nothing: LangChain streams only misses.

    To listeners of its newer protocol it replays hits itself.
    """
    mark = mark_of(result.generations[0]) if run_manager is not None else None
    if not isinstance(mark, dict) or mark.get("hit") is not True:
        return False
    newer: Any = getattr(own, "_should_use_protocol_streaming", None)
    if newer is not None and newer(run_manager=run_manager, **call):
        return False
    return bool(own._should_stream(run_manager=run_manager, **call))


def _heard(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    """Yield the chunks of a message, with its id: by it, listeners know that they had it all."""
    (generation, *_) = result.generations
    try:
        chunks = chat_chunks(generation)
    except UNREADABLE:
        return
    for chunk in chunks:
        chunk.message.id = generation.message.id
        yield chunk
