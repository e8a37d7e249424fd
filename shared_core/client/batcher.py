"""Gather concurrent requests: equal ones are one call, those of one prefix are sent together.

    ask(request) -> waits in the batch of its prefix -> window over or batch full
                 -> first call -> the others, once it answered -> every caller's future

The first call of a prefix warms the provider's prompt cache for the rest. Within a batch, calls
start in the order of asking; between batches no order is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

WINDOW_S = 0.05
MAX_BATCH = 10
IN_FLIGHT = 50
WARM_FOR_S = 240.0
"""Providers keep a prefix for five minutes at least after it was last used."""

MAX_PREFIXES = 10_000


class BatcherClosed(RuntimeError):
    """The batcher was closed before this request was answered.

    Ask its question without the batcher then:

        try:
            answer = await batcher.ask(messages)
        except BatcherClosed:
            answer = await client.achat(messages, model="gpt-4o-mini")
    """


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """What a batcher did.

    ``mean_size`` of a batch is in calls; ``saved`` requests joined the call of another.
    """

    requests: int
    calls: int
    batches: int
    in_flight: int
    most_in_flight: int
    waiting: int
    mean_size: float
    saved: int


@dataclass(slots=True, eq=False)
class _Call(Generic[Q, A]):
    request: Q
    answer: asyncio.Future[A]


@dataclass(slots=True, eq=False)
class _Batch(Generic[Q, A]):
    prefix: Hashable
    calls: list[_Call[Q, A]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Batcher(Generic[Q, A]):
    """Batches calls of an async function, on one event loop.

    - ``call`` answers one request; what it raises, all who asked that request get
    - ``key`` names equal requests: while one is waiting or under way, the others join it
    - ``prefix`` names what requests have in common at their front; None: nothing, all go at once
    - ``window``: seconds that the first request of a batch waits for others at most
    - ``most``: calls in a batch; a full one is sent at once
    - ``in_flight``: batches under way at most; others wait their turn, in order
    - ``warm_for``: seconds after which a prefix's first call goes ahead of the others again

    Every caller gets an answer or an error, also when the batcher is closed. A caller that is
    cancelled cancels nobody else's call. Raises ValueError for numbers that make no sense.

        async with Batcher(answer, key=lambda question: question) as batcher:
            answers = await asyncio.gather(*map(batcher.ask, questions))
    """

    def __init__(
        self,
        call: Callable[[Q], Awaitable[A]],
        *,
        key: Callable[[Q], Hashable],
        prefix: Callable[[Q], Hashable] = lambda _: None,
        window: float = WINDOW_S,
        most: int = MAX_BATCH,
        in_flight: int = IN_FLIGHT,
        warm_for: float = WARM_FOR_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not window >= 0 or not warm_for >= 0:
            raise ValueError(f"window and warm_for must be seconds, not {window!r}, {warm_for!r}")
        if not most >= 1 or not in_flight >= 1:
            raise ValueError(f"most and in_flight must be at least 1, not {most!r}, {in_flight!r}")
        self._call, self._key, self._prefix = call, key, prefix
        self._window, self._most, self._warm_for, self._clock = window, most, warm_for, clock
        self._calls: dict[Hashable, _Call[Q, A]] = {}
        self._open: dict[Hashable, _Batch[Q, A]] = {}
        self._warm: dict[Hashable, float] = {}
        self._turns = asyncio.Semaphore(in_flight)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._requests = self._joined = self._made = self._batches = 0
        self._in_flight = self._most_in_flight = 0

    async def ask(self, request: Q) -> A:
        """Return the answer to a request, alone or with others.

        Raises what the call raises, BatcherClosed once closed, and RuntimeError on another event
        loop than the first.
        """
        if self._closed:
            raise BatcherClosed("the batcher is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("a batcher belongs to one event loop: make one for each")
        key = self._key(request)
        call = self._calls.get(key)
        self._requests += 1
        if call is None:
            prefix = self._prefix(request)
            call = self._calls[key] = _Call(request, loop.create_future())
            call.answer.add_done_callback(lambda answer: self._forget(key, answer))
            self._wait_in_batch(call, prefix, loop)
        else:
            self._joined += 1
        return await asyncio.shield(call.answer)  # others may wait for it

    def _forget(self, key: Hashable, answer: asyncio.Future[A]) -> None:
        del self._calls[key]
        if not answer.cancelled():
            answer.exception()  # seen, even if every caller is gone

    def _wait_in_batch(
        self, call: _Call[Q, A], prefix: Hashable, loop: asyncio.AbstractEventLoop
    ) -> None:
        batch = self._open.get(prefix)
        if batch is None:
            batch = self._open[prefix] = _Batch(prefix)
            batch.timer = loop.call_later(self._window, self._send, batch)
        batch.calls.append(call)
        if len(batch.calls) >= self._most:
            self._send(batch)

    def _send(self, batch: _Batch[Q, A]) -> None:
        if self._open.get(batch.prefix) is not batch:
            return
        del self._open[batch.prefix]
        if batch.timer is not None:
            batch.timer.cancel()
        self._start(self._run(batch)).add_done_callback(lambda _: _end(batch))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, batch: _Batch[Q, A]) -> None:
        async with self._turns:
            self._batches += 1
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            try:
                first = self._lead(batch)
                if first:
                    await asyncio.wait([self._answer(one) for one in first])
                    if first[0].answer.exception() is None:
                        self._warm[batch.prefix] = self._clock()
                if rest := batch.calls[len(first) :]:
                    await asyncio.wait([self._answer(one) for one in rest])
            finally:
                self._in_flight -= 1

    def _lead(self, batch: _Batch[Q, A]) -> list[_Call[Q, A]]:
        """Return the calls that go ahead: one, if it has a prefix to warm for the others."""
        if batch.prefix is None or len(batch.calls) == 1 or not self._warm_for:
            return []
        cold = self._clock() - self._warm_for
        if len(self._warm) > MAX_PREFIXES:
            self._warm = {prefix: at for prefix, at in self._warm.items() if at > cold}
        return [] if self._warm.get(batch.prefix, cold) > cold else batch.calls[:1]

    def _answer(self, call: _Call[Q, A]) -> asyncio.Task[None]:
        """Start a call, in a task of its own: one that fails or is cancelled stops no other."""

        async def run() -> None:
            call.answer.set_result(await self._call(call.request))

        self._made += 1
        task = self._start(run())
        task.add_done_callback(lambda task: _pass_on(task, call.answer))
        return task

    def stats(self) -> BatcherStats:
        """Return what this object did."""
        return BatcherStats(
            requests=self._requests,
            calls=self._made,
            batches=self._batches,
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
            waiting=len(self._calls),
            mean_size=self._made / self._batches if self._batches else 0.0,
            saved=self._joined,
        )

    async def aclose(self, patience: float | None = None) -> None:
        """Send what waits, wait at most ``patience`` seconds for all answers, and cancel the rest.

        Callers of what is cancelled get BatcherClosed. None: wait for all.
        """
        self._closed = True
        for batch in list(self._open.values()):
            self._send(batch)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Batcher[Q, A]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _pass_on(task: asyncio.Task[None], answer: asyncio.Future[Any]) -> None:
    """Tell the callers of a call that brought no answer why."""
    if answer.done():
        return
    error = None if task.cancelled() else task.exception()
    answer.set_exception(error or BatcherClosed("the call was cancelled"))


def _end(batch: _Batch[Any, Any]) -> None:
    """Let nobody wait for a batch that was cancelled before its calls were made."""
    for call in batch.calls:
        if not call.answer.done():
            call.answer.set_exception(BatcherClosed("closed before this request was sent"))
