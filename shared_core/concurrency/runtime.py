"""Run one flow blocking or on an event loop, and blocking code in a small pool of threads."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from shared_core.concurrency.fork import renew_after_fork

# From an event loop to blocking code: a small pool of threads, context variables included.


P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 8

LAST_WORDS_S = 1.0
"""Seconds that closing waits for what was to run soon."""


class ThreadRunner:
    """Runs blocking calls off the event loop, for any number of loops; no thread before use."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._soon: set[Future[object]] = set()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Threads do not survive a fork: the child's first call makes a pool of its own."""
        self._pool, self._lock, self._soon = None, threading.Lock(), set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` in the pool and return its result; cancelling only stops the waiting."""
        context = contextvars.copy_context()

        def call() -> T:
            return context.run(function, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor(), call)

    def run_soon(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` at once; on an event loop in the pool, without waiting for its end."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            function(*args, **kwargs)
        else:
            future: Future[object] = self._executor().submit(function, *args, **kwargs)
            self._soon.add(future)
            future.add_done_callback(self._soon.discard)

    def _executor(self) -> ThreadPoolExecutor:
        pool = self._pool
        if pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tiered-cache")
                pool = self._pool
        return pool

    def close(self) -> None:
        """Wait, for a bounded time, for what was to run soon; the threads end once idle."""
        wait(tuple(self._soon), LAST_WORDS_S)
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)


class HasThreads(Protocol):
    """An object whose blocking methods can be awaited."""

    @property
    def _threads(self) -> ThreadRunner: ...


H = TypeVar("H", bound=HasThreads)


def async_twin(
    method: Callable[Concatenate[H, P], T],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, T]]:
    """Make the async twin of a blocking method: the same, off the event loop."""

    @wraps(method)
    async def call(self: H, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._threads.run(method, self, *args, **kwargs)

    call.__name__ = call.__qualname__ = "a" + method.__name__
    return call


Value = tuple[T] | None
"""A value in a tuple, because the value itself may be None."""


class Runtime(Protocol):
    """The ways in which a flow touches the world; ``blocks``: its thread, whenever it waits."""

    blocks: bool

    async def run(self, blocking: Callable[[], T]) -> T:
        """Run code that blocks for a short time."""

    async def join(self, flight: Future[Value[T]], lease: float) -> Value[T]:
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

    async def join(self, flight: Future[Value[T]], lease: float) -> Value[T]:
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
    """A runtime for coroutines; blocking parts run in threads."""

    blocks = False

    def __init__(self, threads: ThreadRunner) -> None:
        self._threads = threads
        self._tasks: set[asyncio.Task[object]] = set()  # a loop alone does not keep its tasks

    async def run(self, blocking: Callable[[], T]) -> T:
        return await self._threads.run(blocking)

    async def join(self, flight: Future[Value[T]], lease: float) -> Value[T]:
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


def called_with(
    function: Callable[..., Any], argument: Any, *, variadic: bool = False
) -> Callable[[], Any]:
    """Return a function of no argument that calls one with an argument, if it needs one.

    It is a coroutine function if the other is. ``variadic``: also one that takes any number.
    """
    try:
        wants = [
            one
            for one in inspect.signature(function).parameters.values()
            if (
                one.default is one.empty
                and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
            )
            or (variadic and one.kind is one.VAR_POSITIONAL)
        ]
    except (TypeError, ValueError):
        wants = []
    if not wants:
        return function
    if inspect.iscoroutinefunction(function):

        async def ask() -> Any:
            return await function(argument)

        return ask
    return lambda: function(argument)
