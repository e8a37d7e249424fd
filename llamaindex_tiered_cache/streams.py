"""Streams through a cache: replayed as deltas on a hit, recorded on a miss when they end.

stream: lookup at the call -> chunks of the answer, or the model's own, noted as they pass
A stream that is left early or breaks is not stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import Context, copy_context
from typing import Any, Generic, TypeVar

from llamaindex_tiered_cache.calls import Call, Form, akeep, keep
from llamaindex_tiered_cache.responses import Delta, Response
from llamaindex_tiered_cache.serving import Serving
from shared_core.record import Answer, Hit, Outcome

T = TypeVar("T")


class Recording(Generic[Response]):
    """Notes what the chunks of a stream add, and keeps the last of them."""

    def __init__(self, form: Form[Response]) -> None:
        self._form: Form[Response] = form
        self._deltas: list[Delta] = []
        self._last: Response | None = None

    def note(self, chunk: Response) -> None:
        """Note a chunk before the consumer may change it."""
        self._deltas.append((chunk.delta, dict(chunk.additional_kwargs) or None))
        self._last = chunk

    @property
    def is_empty(self) -> bool:
        """Tell whether there was no chunk at all."""
        return self._last is None

    def answer(self) -> Answer | None:
        """Return the answer of the stream that ended, None if it cannot be kept."""
        return None if self._last is None else self._form.write(self._last, self._deltas)


def stream(
    call: Call[Response], open: Callable[[], Iterator[Response]]
) -> Generator[Response, None, None]:
    """Return the chunks of a call. Looks up and calls the model at once, not at the first chunk."""
    chunks, context = look(call, call.form.chunks)
    return _all(chunks) if chunks is not None else _recorded(call, open(), context)


async def astream(
    call: Call[Response], open: Callable[[], Awaitable[AsyncIterator[Response]]]
) -> AsyncGenerator[Response, None]:
    """Do as ``stream`` does; the event loop is not blocked."""
    chunks, context = await alook(call, call.form.chunks)
    return _aall(chunks) if chunks is not None else _arecorded(call, await open(), context)


def look(call: Call[Any], read: Callable[[Answer, Serving], T]) -> tuple[T | None, Context]:
    """Return what is read of the cached answer, if there is one, and the context of now.

    The context holds the controls in force, for when the stream ends.
    """
    try:
        with call.cache.control(**call.controls()):
            return _served(call, read, call.cache.lookup(call.request)), copy_context()
    except Exception as error:
        call.pass_over("lookup", error)
        return None, copy_context()


async def alook(call: Call[Any], read: Callable[[Answer, Serving], T]) -> tuple[T | None, Context]:
    """Do as ``look`` does; the event loop is not blocked."""
    try:
        with call.cache.control(**call.controls()):
            outcome = await call.cache.alookup(call.request)
            return _served(call, read, outcome), copy_context()
    except Exception as error:
        call.pass_over("lookup", error)
        return None, copy_context()


def _served(call: Call[Any], read: Callable[[Answer, Serving], T], outcome: Outcome) -> T | None:
    if not isinstance(outcome, Hit):
        return None
    serving = Serving.of_hit(outcome)
    found = read(outcome.answer, serving)
    serving.tell(call.request.model)
    return found


def _all(chunks: Iterator[Response]) -> Generator[Response, None, None]:
    yield from chunks


async def _aall(chunks: Iterator[Response]) -> AsyncGenerator[Response, None]:
    for chunk in chunks:
        yield chunk


def _recorded(
    call: Call[Response],
    chunks: Iterator[Response],
    context: Context,
) -> Generator[Response, None, None]:
    """Pass the model's chunks on; ``context`` holds the controls of the time of the call."""
    recording = Recording(call.form)
    try:
        for chunk in chunks:
            recording.note(chunk)
            yield chunk
    finally:
        _close(chunks)
    if not recording.is_empty:
        context.run(keep, call, recording.answer())


async def _arecorded(
    call: Call[Response],
    chunks: AsyncIterator[Response],
    context: Context,
) -> AsyncGenerator[Response, None]:
    recording = Recording(call.form)
    try:
        async for chunk in chunks:
            recording.note(chunk)
            yield chunk
    finally:
        close: Any = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    if not recording.is_empty:
        await keep_in(context, call, recording.answer())


async def keep_in(context: Context, call: Call[Any], answer: Answer | None) -> None:
    """Store an answer in the context of another time: only a task of its own has one."""
    await asyncio.get_running_loop().create_task(akeep(call, answer), context=context)


def _close(chunks: Iterator[Any]) -> None:
    close: Any = getattr(chunks, "close", None)
    if close is not None:
        close()
