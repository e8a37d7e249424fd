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
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from llamaindex_tiered_cache.answers import Delta, Serving
from shared_core.cache import ResponseCache
from shared_core.compute import aread_through, astream_through, read_through, stream_through
from shared_core.controls import controlling, controls_of
from shared_core.record import Answer, Hit
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

    def fresh(self, response: T, entry_id: str | None) -> T:
        """Note under which id the model's own response is kept."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What is asked of which cache, and in which form it answers."""

    cache: ResponseCache
    namespace: str | None
    request: Request
    form: Form[T]

    def controlled(self) -> AbstractContextManager[None]:
        """Put the controls of the call in force; a namespace set for a block wins over its own."""
        now = controls_of(self.cache)
        namespace = self.namespace if now.namespace is None else now.namespace
        return controlling(self.cache, replace(now, namespace=namespace))

    def fail(self, doing: str, error: Exception) -> None:
        """Count what failed in the cache and log it; the app does not see it."""
        self.cache.count_error(f"{doing}:{type(error).__name__}")
        _log.warning("%s failed, the cache is passed over: %s", doing, type(error).__name__)
        _log.debug("%s failed", doing, exc_info=error)

    # ------------------------------------------------------- how compute reads, writes and marks

    def read(self, hit: Hit) -> T:
        """Build the response of a hit, and tell of it."""
        return self._told(hit, self.form.read(hit.answer, Serving.of_hit(hit)))

    def chunks(self, hit: Hit) -> Iterator[T]:
        """Build the chunks of a hit, and tell of it."""
        return self._told(hit, self.form.chunks(hit.answer, Serving.of_hit(hit)))

    def _told(self, hit: Hit, found: R) -> R:
        Serving.of_hit(hit).tell(self.request.model)
        return found

    def write(self, response: T, deltas: Sequence[Delta] | None = None) -> Answer | None:
        """Return the answer that a response gives, None, which is counted, if it cannot be kept."""
        answer = self.form.write(response, deltas)
        if answer is None:
            self.cache.count_error("unstorable")
        return answer

    def fresh(self, response: T, entry_id: str | None) -> T:
        """Note under which id the model's own response is kept."""
        return self.form.fresh(response, entry_id)

    def recorder(self) -> Recording[T]:
        """Return what notes the chunks of the model's own stream."""
        return Recording(self)


def run(call: Call[T], compute: Callable[[], T]) -> T:
    """Answer a call, blocking. Raises what ``compute`` raises, and nothing else."""
    with call.controlled():
        return read_through(call.cache, call.request, compute, call, call.fail)


async def arun(call: Call[T], compute: Callable[[], Awaitable[T]]) -> T:
    """Do as ``run`` does; the event loop is not blocked."""
    with call.controlled():
        return await aread_through(call.cache, call.request, compute, call, call.fail)


class Recording(Generic[T]):
    """Notes what the chunks of a stream add, and keeps the last of them."""

    def __init__(self, call: Call[T]) -> None:
        self._call = call
        self._deltas: list[Delta] = []
        self._last: Any = None

    def take(self, chunk: Any) -> tuple[Any]:
        """Note a chunk before the consumer may change it, and pass it on."""
        self._deltas.append((chunk.delta, dict(chunk.additional_kwargs) or None))
        self._last = chunk
        return (chunk,)

    def whole(self) -> Answer | None:
        """Return the answer of the stream that ended, None if it cannot be kept."""
        return None if self._last is None else self._call.write(self._last, self._deltas)

    def rest(self, entry_id: str | None) -> tuple[()]:
        """Pass nothing on at the end."""
        return ()


def stream(call: Call[T], open: Callable[[], Iterator[T]]) -> Generator[T, None, None]:
    """Return the chunks of a call. Looks up and calls the model at once, not at the first chunk."""
    with call.controlled():
        return stream_through(call.cache, call.request, open, call, call.fail)


async def astream(
    call: Call[T], open: Callable[[], Awaitable[AsyncIterator[T]]]
) -> AsyncGenerator[T, None]:
    """Do as ``stream`` does; the event loop is not blocked."""
    with call.controlled():
        return await astream_through(call.cache, call.request, open, call, call.fail)
