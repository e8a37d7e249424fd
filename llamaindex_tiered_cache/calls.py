"""One call or stream through the cache.

    run, arun        -> compute.read_through:   look up, else ask the model once for all, and keep
    stream, astream  -> compute.stream_through: replayed on a hit, recorded on a miss

Whatever fails in the cache is passed over and counted; what the model raises is raised.
"""

from __future__ import annotations

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
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llamaindex_tiered_cache.answers import Delta, Serving, finish_reason_of
from shared_core.cache import ResponseCache
from shared_core.compute import aread_through, astream_through, read_through, stream_through
from shared_core.controls import controlling, controls_of
from shared_core.identity import Digest
from shared_core.record import UNFINISHED, Answer, Hit, flaw_of
from shared_core.request import Request

T = TypeVar("T")
R = TypeVar("R")

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

    def fresh(self, response: T, mark: dict[str, Any]) -> T:
        """Note in the model's own response what the cache says of it."""


@dataclass(slots=True)
class Parsing:
    """A structured call under way: the answers that it got, which are dropped if it fails.

    with Parsing(cache):
        return super().structured_predict(...)
    """

    cache: ResponseCache
    entry_ids: list[str] = field(default_factory=list)
    _token: Token[Parsing | None] | None = None

    def __enter__(self) -> Parsing:
        self._token = _parsing.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if isinstance(error, Exception):
            self.drop()

    async def __aenter__(self) -> Parsing:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if isinstance(error, Exception):
            await self.adrop()

    def _leave(self) -> None:
        if self._token is not None:
            _parsing.reset(self._token)

    def drop(self) -> None:
        """Drop the answers: what was made of them is not what was wanted."""
        for entry_id in self.entry_ids:
            self.cache.feedback(entry_id, correct=False, source="failed step")

    async def adrop(self) -> None:
        """Do as ``drop`` does; the event loop is not blocked."""
        for entry_id in self.entry_ids:
            await self.cache.afeedback(entry_id, correct=False, source="failed step")


_parsing: ContextVar[Parsing | None] = ContextVar("tiered_cache_parsing", default=None)


@dataclass(slots=True)
class AgentStep:
    """A step of an agent under way: its model call, and what that was answered with.

    ``under``, in the first step of a run, returns the request that is looked up and kept in the
    place of the call's own. What the model says then is kept for the very same question alone,
    until the run has ended: it may be no more than which tool to use. A hit is no answer of it.

    with AgentStep(skippable.first) as step:
        output = await super().take_step(...)
    """

    under: Callable[[Request], Request] | None = None
    call: Call[Any] | None = None
    answer: Answer | None = None
    _token: Token[AgentStep | None] | None = None

    def __enter__(self) -> AgentStep:
        self._token = _step.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _step.reset(self._token)

    @staticmethod
    def now() -> AgentStep | None:
        """Return the step under way whose model call is yet to be made."""
        step = _step.get()
        return step if step is not None and step.call is None else None


_step: ContextVar[AgentStep | None] = ContextVar("tiered_cache_agent_step", default=None)


_flaws: ContextVar[list[str] | None] = ContextVar("tiered_cache_flaws", default=None)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What is asked of which cache, and in which form it answers; ``model`` is whom it asks.

    ``step`` is that of an agent which makes the call. ``flaws`` are those of the answers that other
    calls got inside this one, such as an engine's of its LLM; ``outer`` are those of a call around.
    """

    cache: ResponseCache
    namespace: str | None
    request: Request
    form: Form[T]
    model: Digest | None = None
    step: AgentStep | None = None
    parsing: Parsing | None = field(default_factory=_parsing.get)
    flaws: list[str] = field(default_factory=list)
    outer: list[str] | None = field(default_factory=_flaws.get)

    def working(self) -> AbstractContextManager[None]:
        """Note that the model works in a block: what it counts there is no setting of it."""
        return nullcontext() if self.model is None else self.model.calling()

    def controlled(self) -> AbstractContextManager[None]:
        """Put the controls of the call in force; a namespace set for a block wins over its own."""
        now = controls_of(self.cache)
        if self.namespace is None or now.namespace is not None:
            return nullcontext()
        return controlling(self.cache, replace(now, namespace=self.namespace))

    def fail(self, doing: str, error: Exception) -> None:
        """Count what failed in the cache and log it; the app does not see it."""
        self.cache.count_error(f"{doing}:{type(error).__name__}")
        _log.warning("%s failed, the cache is passed over: %s", doing, type(error).__name__)
        _log.debug("%s failed", doing, exc_info=error)

    # ------------------------------------------------------- how compute reads, writes and marks

    def read(self, hit: Hit) -> T:
        """Build the response of a hit, and tell of it."""
        found = self._read(hit, self.form.read(hit.answer, Serving.of_hit(hit)))
        self._note(hit.entry_id)
        return found

    def _note(self, entry_id: str | None) -> None:
        if self.parsing is not None and entry_id is not None:
            self.parsing.entry_ids.append(entry_id)

    def chunks(self, hit: Hit) -> Iterator[T]:
        """Build the chunks of a hit, and tell of it."""
        return self._read(hit, self.form.chunks(hit.answer, Serving.of_hit(hit)))

    def _read(self, hit: Hit, found: R) -> R:
        if self.step is not None and self.step.under is None:
            self.step.answer = hit.answer
        Serving.of_hit(hit).tell(self.request.model)
        return found

    def write(
        self, response: T, deltas: Sequence[Delta] | None = None, reason: str | None = None
    ) -> Answer | None:
        """Return the answer that a response gives, None, which is counted, if it cannot be kept.

        ``reason`` is why its stream ended, if a chunk before the last said so.
        """
        answer = self.form.write(response, deltas)
        if answer is None:
            self.cache.count_error("unstorable")
            return None
        reason = reason or answer.finish_reason
        way = f"{type(response).__name__} {'call' if deltas is None else 'stream'}"
        is_of_model = isinstance(response, (ChatResponse, CompletionResponse))  # no engine says why
        ends = self.cache.endings
        if is_of_model and ends.is_unfinished(self.request, "llamaindex", way, reason):
            answer = replace(answer, flaw=answer.flaw or UNFINISHED)
        elif not answer.finish_reason:
            answer = replace(answer, finish_reason=reason)
        if self.flaws and answer.flaw is None:
            answer = replace(answer, flaw=self.flaws[0])
        if self.outer is not None and (flaw := flaw_of(answer)) is not None:
            self.outer.append(flaw)
        if self.step is not None:
            self.step.answer = answer
            if self.step.under is not None:
                return replace(answer, exact_only=True)
        return answer

    def fresh(self, response: T, mark: dict[str, Any]) -> T:
        """Note in the model's own response what the cache says of it."""
        self._note(mark.get("entry_id"))
        return self.form.fresh(response, mark)

    def recorder(self) -> Recording[T]:
        """Return what notes the chunks of the model's own stream."""
        return Recording(self)


# What a model counts while it works is no setting of it: calls and streams that say so.


def noted(call: Call[Any], compute: Callable[[], R]) -> Callable[[], R]:
    """Return the model's call, during which it is known to work."""

    def ask() -> R:
        token = _flaws.set(call.flaws)
        try:
            with call.working():
                return compute()
        finally:
            _flaws.reset(token)

    return ask


def anoted(call: Call[Any], compute: Callable[[], Awaitable[R]]) -> Callable[[], Awaitable[R]]:
    """Do as ``noted`` does, for a call that is awaited."""

    async def ask() -> R:
        token = _flaws.set(call.flaws)
        try:
            with call.working():
                return await compute()
        finally:
            _flaws.reset(token)

    return ask


def noted_chunks(call: Call[Any], open: Callable[[], Iterator[R]]) -> Callable[[], Iterator[R]]:
    """Return what opens the model's stream, during which it is known to work."""

    def chunks(opened: Iterator[R]) -> Generator[R, None, None]:
        with call.working():
            yield from opened

    return lambda: chunks(noted(call, open)())


def anoted_chunks(
    call: Call[Any], open: Callable[[], Awaitable[AsyncIterator[R]]]
) -> Callable[[], Awaitable[AsyncIterator[R]]]:
    """Do as ``noted_chunks`` does, for a stream that is awaited."""

    async def chunks(opened: AsyncIterator[R]) -> AsyncGenerator[R, None]:
        try:
            with call.working():
                async for chunk in opened:
                    yield chunk
        finally:
            close: Any = getattr(opened, "aclose", None)
            if close is not None:
                await close()

    async def opening() -> AsyncIterator[R]:
        return chunks(await anoted(call, open)())

    return opening


def run(call: Call[T], compute: Callable[[], T]) -> T:
    """Answer a call, blocking. Raises what ``compute`` raises, and nothing else."""
    with call.controlled():
        return read_through(call.cache, call.request, noted(call, compute), call, call.fail)


async def arun(call: Call[T], compute: Callable[[], Awaitable[T]]) -> T:
    """Do as ``run`` does; the event loop is not blocked."""
    with call.controlled():
        ask = anoted(call, compute)
        return await aread_through(call.cache, call.request, ask, call, call.fail)


class Recording(Generic[T]):
    """Notes what the chunks of a stream add, and keeps the last of them."""

    def __init__(self, call: Call[T]) -> None:
        self._call = call
        self._deltas: list[Delta] = []
        self._last: Any = None
        self._reason: str | None = None

    def take(self, chunk: Any) -> tuple[Any]:
        """Note a chunk before the consumer may change it, and pass it on."""
        self._deltas.append((chunk.delta, dict(chunk.additional_kwargs) or None))
        self._last = chunk
        self._reason = finish_reason_of(chunk) or self._reason  # the last may hold the usage alone
        return (chunk,)

    def whole(self) -> Answer | None:
        """Return the answer of the stream that ended, None if it cannot be kept."""
        if self._last is None:
            return None
        return self._call.write(self._last, self._deltas, self._reason)

    def rest(self, entry_id: str | None) -> tuple[()]:
        """Pass nothing on at the end."""
        return ()


def stream(call: Call[T], open: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Return the chunks of a call. Looks up and calls the model at once, not at the first chunk."""
    with call.controlled():
        chunks = noted_chunks(call, open)
        return stream_through(call.cache, call.request, chunks, call, call.fail)


async def astream(
    call: Call[T], open: Callable[[], Awaitable[AsyncIterator[T]]]
) -> AsyncGenerator[T, None]:
    """Do as ``stream`` does; the event loop is not blocked."""
    with call.controlled():
        chunks = anoted_chunks(call, open)
        return await astream_through(call.cache, call.request, chunks, call, call.fail)


# What ``cache`` may be wherever this package takes one: a ``ResponseCache``, or a URL.


def open_cache(cache: ResponseCache | str) -> ResponseCache:
    """Return the cache, or open the one that a URL names. Raises ValueError for anything else."""
    return _opened(cache, semantic=True)


def open_values(cache: ResponseCache | str) -> ResponseCache:
    """Do as ``open_cache`` does, for one whose values alone are used: it embeds nothing."""
    return _opened(cache, semantic=False)


def _opened(cache: ResponseCache | str, semantic: bool) -> ResponseCache:
    if isinstance(cache, ResponseCache):
        return cache
    if isinstance(cache, str):
        return ResponseCache.open(cache, semantic=semantic)
    raise ValueError(f"cache must be a ResponseCache or the URL of one, not {cache!r}")
