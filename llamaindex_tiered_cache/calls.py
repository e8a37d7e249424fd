"""Take one call through a cache: look up, else ask the model once for all who ask, and keep.

    run(call, compute):  cache.answer(request, compute) -> read | fresh
    arun:                the same, awaited

Whatever fails in the cache is passed over and counted; what the model raises is raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Sequence,
)
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from llamaindex_tiered_cache.answers import Delta, Response, Serving
from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent, StoreEvent, Trace, controls_of
from shared_core.record import Answer, Hit, Outcome
from shared_core.request import Request

T = TypeVar("T")

_log = logging.getLogger("tiered_cache")


class Form(Protocol[T]):
    """How one kind of response is written into answers, read from them and marked."""

    def write(self, response: T, deltas: Sequence[Delta] | None = None) -> Answer | None:
        """Return the answer that a response gives, None if it cannot be kept.

        ``deltas`` are those of the stream that the response ended.
        """

    def read(self, answer: Answer, serving: Serving) -> T:
        """Build a new response. Raises ValueError if the answer cannot be read."""

    def chunks(self, answer: Answer, serving: Serving) -> Iterator[T]:
        """Build the chunks of a stream. Raises ValueError, at once, if it cannot be read."""

    def fresh(self, response: T, entry_id: str | None) -> T:
        """Note under which id the model's own response is kept."""


class _UnkeptError(Exception):
    """The model answered, and the answer cannot be kept."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What is asked of which cache, and in which form it answers."""

    cache: ResponseCache
    namespace: str | None
    request: Request
    form: Form[T]

    def controls(self) -> dict[str, Any]:
        """Return the controls in force here; a namespace set for a block wins over the call's."""
        now = controls_of(self.cache)
        return {
            "read": now.read,
            "write": now.write,
            "ttl": now.ttl,
            "tags": now.tags,
            "namespace": self.namespace if now.namespace is None else now.namespace,
        }

    def pass_over(self, doing: str, error: Exception) -> None:
        """Count what failed in the cache and log it; the app does not see it."""
        self.cache.count_error(f"{doing}:{type(error).__name__}")
        _log.warning("%s failed, the cache is passed over: %s", doing, type(error).__name__)
        _log.debug("%s failed", doing, exc_info=error)


@dataclass(slots=True)
class _Attempt(Generic[T]):
    """What came of one call so far: the model's response, or what it raised."""

    call: Call[T]
    fresh: list[T] = field(default_factory=list)
    raised: BaseException | None = None

    def keep(self, response: T) -> Answer:
        self.fresh.append(response)
        answer = self.call.form.write(response)
        if answer is None:
            self.call.cache.count_error("unstorable")
            raise _UnkeptError
        return answer

    def asking(self, compute: Callable[[], T]) -> Callable[[], Answer]:
        def ask() -> Answer:
            try:
                response = compute()
            except BaseException as error:
                self.raised = error
                raise
            return self.keep(response)

        return ask

    def aasking(self, compute: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[Answer]]:
        async def ask() -> Answer:
            try:
                response = await compute()
            except BaseException as error:
                self.raised = error
                raise
            return self.keep(response)

        return ask

    def response(self, answer: Answer, trace: Trace) -> T:
        """Return the response: the model's own, or one read from the answer."""
        if self.fresh:
            return self.call.form.fresh(self.fresh[0], _entry_id(trace))
        event = next(event for event in trace.events if isinstance(event, LookupEvent))
        serving = Serving.of_event(event)
        response = self.call.form.read(answer, serving)
        serving.tell(self.call.request.model)
        return response

    def after(self, error: Exception) -> T | None:
        """Return the model's response after a failure, None to ask it; raise the model's own."""
        if error is self.raised:
            raise error
        if not isinstance(error, _UnkeptError):
            self.call.pass_over("lookup", error)
        return self.call.form.fresh(self.fresh[0], None) if self.fresh else None


def run(call: Call[T], compute: Callable[[], T]) -> T:
    """Answer a call, blocking. Raises what ``compute`` raises, and nothing else."""
    attempt = _Attempt(call)
    try:
        with call.cache.trace() as trace:
            answer = call.cache.answer(call.request, attempt.asking(compute), **call.controls())
        return attempt.response(answer, trace)
    except Exception as error:
        response = attempt.after(error)
        if response is not None:
            return response
    response = compute()
    return call.form.fresh(response, keep(call, call.form.write(response)))


async def arun(call: Call[T], compute: Callable[[], Awaitable[T]]) -> T:
    """Do as ``run`` does; the event loop is not blocked."""
    attempt = _Attempt(call)
    try:
        with call.cache.trace() as trace:
            ask = attempt.aasking(compute)
            answer = await call.cache.aanswer(call.request, ask, **call.controls())
        return attempt.response(answer, trace)
    except Exception as error:
        response = attempt.after(error)
        if response is not None:
            return response
    response = await compute()
    return call.form.fresh(response, await akeep(call, call.form.write(response)))


def keep(call: Call[T], answer: Answer | None) -> str | None:
    """Store the answer of a call that was not looked up here; return its entry id."""
    if answer is None:
        call.cache.count_error("unstorable")
        return None
    try:
        with call.cache.control(**call.controls()):
            return call.cache.store(call.request, answer)
    except Exception as error:
        call.pass_over("store", error)
        return None


async def akeep(call: Call[T], answer: Answer | None) -> str | None:
    """Do as ``keep`` does; the event loop is not blocked."""
    if answer is None:
        call.cache.count_error("unstorable")
        return None
    try:
        with call.cache.control(**call.controls()):
            return await call.cache.astore(call.request, answer)
    except Exception as error:
        call.pass_over("store", error)
        return None


def _entry_id(trace: Trace) -> str | None:
    """Return the id under which this call's answer was stored; calls inside it store others."""
    keys = [event.key for event in trace.events if isinstance(event, LookupEvent)]
    stored = [event for event in trace.events if isinstance(event, StoreEvent)]
    return next((event.entry_id for event in reversed(stored) if event.key == keys[0]), None)


# Streams through a cache: replayed as deltas on a hit, recorded on a miss when they end.
#
#     stream: lookup at the call -> chunks of the answer, or the model's own, noted as they pass
# A stream that is left early or breaks is not stored.


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
