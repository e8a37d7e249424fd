"""Run code whole in any process, thread and event loop.

Locks, handles and threads are let go of before ``os.fork``, and renewed in the child. One flow runs
blocking or on an event loop (``Runtime``), and blocking code in a small pool of threads.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable
from weakref import WeakSet


class Renewable(Protocol):
    """What holds things that a child process must not use as they are."""

    def renew_after_fork(self) -> None:
        """Replace them, in the child, without touching what the parent still uses."""


@runtime_checkable
class Quiescent(Renewable, Protocol):
    """What must be still while the process forks, so that the child finds it whole."""

    def before_fork(self) -> None:
        """Wait, for a bounded time, until no other thread is inside; keep them out."""

    def after_fork_in_parent(self) -> None:
        """Let the other threads in again."""


_alive: WeakSet[Renewable] = WeakSet()
_locks: WeakSet[Any] = WeakSet()

L = TypeVar("L")


def free_after_fork(lock: L) -> L:
    """Return a lock that will be free in every child, whoever held it as the process forked.

    self._lock = free_after_fork(threading.Lock())
    """
    _register()
    _locks.add(lock)
    return lock


def renew_after_fork(owner: Renewable) -> None:
    """Call ``owner.renew_after_fork()`` in every child forked while it lives.

    If it is ``Quiescent``, its other methods are called around the fork.
    """
    _register()
    _alive.add(owner)


@cache
def _register() -> None:
    """Register once, at first use: what is registered cannot be taken back."""
    if not hasattr(os, "register_at_fork"):
        return  # no fork on this system
    held: list[Renewable] = []  # the same objects before and after, whatever is made meanwhile
    locks: list[Any] = []

    def before() -> None:
        held[:], locks[:] = list(_alive), list(_locks)
        for owner in held:
            if isinstance(owner, Quiescent):
                owner.before_fork()

    def in_parent() -> None:
        for owner in held:
            if isinstance(owner, Quiescent):
                owner.after_fork_in_parent()
        held.clear()
        locks.clear()

    def in_child() -> None:
        for lock in locks:
            lock._at_fork_reinit()  # as the locks of Python's own modules are renewed
        for owner in held:
            owner.renew_after_fork()
        held.clear()
        locks.clear()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


# Who is inside a model: nobody while the process forks or ends.


# What is half done in another thread when a process forks, such as an import, stays half done in
# the child, for ever. And a daemon thread that is torn out of C++ code when the process ends may
# abort it. So both wait for the thread that is inside, and let no other in.
gate = threading.RLock()
_kept = False
ending = threading.Event()
"""Set when the process ends: no thread but this one gets through the gate any more."""


def keep_gate() -> None:
    """Register, once, that forks and the end of the process wait at the gate."""
    global _kept  # noqa: PLW0603 - one hook per process, registered when first needed
    with gate:
        if not _kept:
            atexit.register(_end)
        if not _kept and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=gate.acquire, after_in_parent=gate.release, after_in_child=gate.release
            )
        _kept = True


def _end() -> None:
    ending.set()
    gate.acquire()


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


class BackgroundLoop:
    """An event loop in a thread, where blocking code has coroutines run; no thread before use."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Threads do not survive a fork."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Awaitable[T]) -> T:
        """Await it there, and return its result. Raises what it raises."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                threading.Thread(target=run, name=self._name, daemon=True).start()
            loop = self._loop

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), loop).result()

    def close(self) -> None:
        """Let the thread end."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


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
