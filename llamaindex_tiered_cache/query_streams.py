"""Streaming responses of query engines through a cache: replayed on a hit, recorded on a miss."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import Context
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
)

from llamaindex_tiered_cache.calls import Call, keep
from llamaindex_tiered_cache.query_form import tokens_of
from llamaindex_tiered_cache.serving import Serving
from llamaindex_tiered_cache.streams import alook, keep_in, look
from shared_core.record import Answer


def stream_query(call: Call[RESPONSE_TYPE], compute: Callable[[], RESPONSE_TYPE]) -> RESPONSE_TYPE:
    """Return a streaming response; the engine's own is kept when it has been read to its end."""

    def read(answer: Answer, serving: Serving) -> StreamingResponse:
        found = call.form.read(answer, serving)
        tokens = (token for token in tokens_of(answer))
        return StreamingResponse(tokens, found.source_nodes, found.metadata)

    found, context = look(call, read)
    if found is not None:
        return found
    response = compute()
    if isinstance(response, StreamingResponse):
        response.response_gen = _recorded(call, response, response.response_gen, context)
    return response


async def astream_query(
    call: Call[RESPONSE_TYPE], compute: Callable[[], Awaitable[RESPONSE_TYPE]]
) -> RESPONSE_TYPE:
    """Do as ``stream_query`` does; the event loop is not blocked."""

    def read(answer: Answer, serving: Serving) -> AsyncStreamingResponse:
        found = call.form.read(answer, serving)
        return AsyncStreamingResponse(
            _replayed(tokens_of(answer)), found.source_nodes, found.metadata
        )

    found, context = await alook(call, read)
    if found is not None:
        return found
    response = await compute()
    if isinstance(response, AsyncStreamingResponse):
        response.response_gen = _arecorded(call, response, response.response_gen, context)
    return response


async def _replayed(tokens: list[str]) -> AsyncGenerator[str, None]:
    for token in tokens:
        yield token


def _recorded(
    call: Call[Any], response: StreamingResponse, tokens: Iterator[str], context: Context
) -> Generator[str, None, None]:
    seen: list[str] = []
    for token in tokens:
        seen.append(token)
        yield token
    context.run(keep, call, _answer(call, response, seen))


async def _arecorded(
    call: Call[Any], response: AsyncStreamingResponse, tokens: AsyncIterator[str], context: Context
) -> AsyncGenerator[str, None]:
    seen: list[str] = []
    async for token in tokens:
        seen.append(token)
        yield token
    await keep_in(context, call, _answer(call, response, seen))


def _answer(
    call: Call[Any], response: StreamingResponse | AsyncStreamingResponse, seen: list[str]
) -> Answer | None:
    whole = Response("".join(seen), response.source_nodes, response.metadata)
    return call.form.write(whole, [(token, None) for token in seen])
