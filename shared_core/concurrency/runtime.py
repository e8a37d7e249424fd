"""Two runtimes for one flow: blocking for callers without an event loop, and on the loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from shared_core.hop import Hop

T = TypeVar("T")
Found = tuple[T] | None
"""A value in a tuple, because the value itself may be None."""


class Runtime(Protocol):
    """The ways in which a flow touches the world; ``blocks``: its thread, whenever it waits."""

    blocks: bool

    async def run(self, blocking: Callable[[], T]) -> T:
        """Run code that blocks for a short time."""

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        """Wait for another's flight at most ``lease`` seconds; None if nothing came of it."""

    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    def spawn(self, flow: Coroutine[Any, Any, object]) -> None:
        """Run another flow beside this one; it must not raise."""

    async def ask(self, compute: Callable[[], Any]) -> Any:
        """Call what is slow, and await it if it is a coroutine."""


class Blocking:
    """Never suspends: for callers without an event loop."""

    blocks = True

    async def run(self, blocking: Callable[[], T]) -> T:
        return blocking()

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        try:
            return flight.result(lease)
        except TimeoutError:
            return None

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - this runtime never suspends

    def spawn(self, flow: Coroutine[Any, Any, object]) -> None:
        work = (finish, flow)
        run = copy_context().run
        threading.Thread(target=run, args=work, name="tiered-cache refresh", daemon=True).start()

    async def ask(self, compute: Callable[[], Any]) -> Any:
        value = compute()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError("the function is asynchronous: use the method's async twin")
        return value


class OnLoop:
    """A runtime for coroutines; blocking parts hop to threads."""

    blocks = False

    def __init__(self, hop: Hop) -> None:
        self._hop = hop
        self._tasks: set[asyncio.Task[object]] = set()  # a loop alone does not keep its tasks

    async def run(self, blocking: Callable[[], T]) -> T:
        return await self._hop.run(blocking)

    async def join(self, flight: Future[Found[T]], lease: float) -> Found[T]:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(flight), lease)
        except TimeoutError:
            return None

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def spawn(self, flow: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(flow)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ask(self, compute: Callable[[], Any]) -> Any:
        if inspect.iscoroutinefunction(compute):
            return await compute()
        value = await asyncio.to_thread(compute)
        return await value if isinstance(value, Awaitable) else value


def finish(flow: Coroutine[Any, Any, T]) -> T:
    """Run a flow whose runtime never suspends, and return its result."""
    try:
        flow.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    flow.close()
    raise RuntimeError("a blocking flow suspended")
