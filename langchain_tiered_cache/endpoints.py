"""What a cached model does instead of its class: it asks the cache for streams too.

Whatever the cache does not answer is done by a view of the same state in the model's own class:
some classes call one endpoint from another, which would ask the cache twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, GenerationChunk, LLMResult

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.chunks import chat_chunks
from langchain_tiered_cache.streams import (
    TEXT_FORM,
    UNREADABLE,
    Stream,
    aclose,
    apaced,
    chat_form,
    mark_of,
    paced,
)

SLOT = "__tiered_cache__"
"""Where the class of a cached model keeps its ``Origin``."""

_STATE = ("__dict__", "__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")


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
    view = object.__new__(origin_of(model).base)
    for name in _STATE:
        object.__setattr__(view, name, getattr(model, name))
    return view


class CachedChat:
    """A chat model whose hits are heard as streams where somebody listens to one."""

    __slots__ = ()

    def _generate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        result: ChatResult = own._generate_with_cache(messages, stop, run_manager, **kwargs)
        if _is_heard(own, result, run_manager, {"async_api": False, **kwargs}):
            for chunk in paced(_heard(result), origin_of(self).pace):
                run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
        return result

    async def _agenerate_with_cache(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        own = plain(self)
        result: ChatResult = await own._agenerate_with_cache(messages, stop, run_manager, **kwargs)
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
        chunks = None if stream is None else stream.found()
        if chunks is None:
            live = own._stream(messages, stop=stop, **_given(run_manager), **kwargs)
            chunks = live if stream is None else stream.recorded(live)
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
        chunks = None if stream is None else await stream.afound()
        if chunks is None:
            chunks = own._astream(messages, stop=stop, **_given(run_manager), **kwargs)
            chunks = chunks if stream is None else stream.arecorded(chunks)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)


class CachedText:
    """A completion model whose cache knows the arguments of each call, too."""

    __slots__ = ()

    def generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        token = _called.set(_arguments(kwargs))
        try:
            result: LLMResult = super().generate(prompts, *args, **kwargs)  # type: ignore[misc]
            return result
        finally:
            _called.reset(token)

    async def agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        token = _called.set(_arguments(kwargs))
        try:
            answer = super().agenerate(prompts, *args, **kwargs)  # type: ignore[misc]
            result: LLMResult = await answer
            return result
        finally:
            _called.reset(token)

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        own = plain(self)
        result: LLMResult = own._generate(prompts, stop=stop, run_manager=run_manager, **kwargs)
        return result

    async def _agenerate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        own = plain(self)
        answer = own._agenerate(prompts, stop=stop, run_manager=run_manager, **kwargs)
        result: LLMResult = await answer
        return result

    def dict(self, **kwargs: Any) -> Any:
        """Return the parameters, with those of the call under way: LangChain makes keys of it."""
        return {**super().dict(**kwargs), **_called.get()}  # type: ignore[misc]


class TextStreams:
    """A completion model that asks the cache for streams."""

    __slots__ = ()

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        own = plain(self)
        stream = _text_stream(own, origin_of(self).pace, prompt, stop, kwargs)
        chunks = None if stream is None else stream.found()
        if chunks is None:
            live = own._stream(prompt, stop=stop, run_manager=run_manager, **kwargs)
            yield from live if stream is None else stream.recorded(live)
            return
        for chunk in chunks:
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class AsyncTextStreams:
    """A completion model that asks the cache for asynchronous streams."""

    __slots__ = ()

    async def _astream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        own = plain(self)
        stream = _text_stream(own, origin_of(self).pace, prompt, stop, kwargs)
        found = None if stream is None else await stream.afound()
        chunks = found
        if chunks is None:
            chunks = own._astream(prompt, stop=stop, run_manager=run_manager, **kwargs)
            chunks = chunks if stream is None else stream.arecorded(chunks)
        try:
            async for chunk in chunks:
                if found is not None and run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            await aclose(chunks)


_called: ContextVar[Mapping[str, Any]] = ContextVar("tiered_cache_called", default={})  # noqa: B039 - never changed
"""The arguments of a completion model's call that its key must hold."""

_WITHOUT_KEY = "no key can be made of a stream's request, the cache is passed over"


def _arguments(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    of_langchain = ("stop", "callbacks", "tags", "metadata", "run_name", "run_id")
    return {name: value for name, value in kwargs.items() if name not in of_langchain}


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
        cache.count("lookup:key", _WITHOUT_KEY, error)
        return None
    return Stream(cache, *key, chat_form(own.output_version), pace)


def _text_stream(
    own: Any, pace: float | None, prompt: str, stop: Any, kwargs: dict[str, Any]
) -> Stream[GenerationChunk] | None:
    """Do as ``_chat_stream`` does, for a completion model."""
    cache = own.cache
    if not isinstance(cache, TieredCache):
        return None
    try:
        asked = getattr(own, "_dict_for_compat", own.dict)()  # older versions have the latter alone
        params = {**asked, "stop": stop, **kwargs}
        llm_string = str(sorted(params.items()))
    except UNREADABLE as error:
        cache.count("lookup:key", _WITHOUT_KEY, error)
        return None
    return Stream(cache, prompt, llm_string, TEXT_FORM, pace)


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
