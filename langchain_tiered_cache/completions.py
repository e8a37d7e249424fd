"""What a cached completion model does instead of its class: see ``endpoints``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from langchain_core.outputs import Generation, GenerationChunk, LLMResult

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.endpoints import WITHOUT_KEY, origin_of, plain
from langchain_tiered_cache.refreshing import refreshing
from langchain_tiered_cache.streams import TEXT_FORM, UNREADABLE, Stream, aclose


class CachedText:
    """A completion model whose cache knows the arguments of each call, too."""

    __slots__ = ()

    def generate(
        self, prompts: list[str], stop: Any = None, *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        own, arguments = plain(self), _arguments(kwargs)

        def ask(prompt: str) -> Sequence[Generation]:
            found: LLMResult = own._generate([prompt], stop=stop, **arguments)
            return found.generations[0]

        with _calling(arguments), refreshing(own.cache, ask, len(prompts)):
            result: LLMResult = super().generate(  # type: ignore[misc]
                prompts, stop, *args, **kwargs
            )
        return result

    async def agenerate(
        self, prompts: list[str], stop: Any = None, *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Generate as LangChain does, with what this call is given in the key."""
        own, arguments = plain(self), _arguments(kwargs)

        async def ask(prompt: str) -> Sequence[Generation]:
            found: LLMResult = await own._agenerate([prompt], stop=stop, **arguments)
            return found.generations[0]

        with _calling(arguments), refreshing(own.cache, ask, len(prompts)):
            answer = super().agenerate(prompts, stop, *args, **kwargs)  # type: ignore[misc]
            result: LLMResult = await answer
        return result

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
        live = partial(own._stream, prompt, stop=stop, **kwargs)
        chunks = None if stream is None else stream.found(live)
        if chunks is None:
            chunks = live(run_manager=run_manager)
            yield from chunks if stream is None else stream.recorded(chunks)
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
        live = partial(own._astream, prompt, stop=stop, **kwargs)
        found = None if stream is None else await stream.afound(live)
        chunks = found
        if chunks is None:
            chunks = live(run_manager=run_manager)
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


@contextmanager
def _calling(arguments: Mapping[str, Any]) -> Iterator[None]:
    token = _called.set(arguments)
    try:
        yield
    finally:
        _called.reset(token)


def _arguments(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    of_langchain = ("callbacks", "tags", "metadata", "run_name", "run_id")
    return {name: value for name, value in kwargs.items() if name not in of_langchain}


def _text_stream(
    own: Any, pace: float | None, prompt: str, stop: Any, kwargs: dict[str, Any]
) -> Stream[GenerationChunk] | None:
    """Return the stream of a call, with the keys that ``invoke`` has; None without a cache."""
    cache = own.cache
    if not isinstance(cache, TieredCache):
        return None
    try:
        asked = getattr(own, "_dict_for_compat", own.dict)()  # older versions have the latter alone
        params = {**asked, "stop": stop, **kwargs}
        llm_string = str(sorted(params.items()))
    except UNREADABLE as error:
        cache.count("lookup:key", WITHOUT_KEY, error)
        return None
    return Stream(cache, prompt, llm_string, TEXT_FORM, pace)
