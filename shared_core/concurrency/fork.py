"""Let go of locks, handles and threads before ``os.fork``, and renew them in the child."""

from __future__ import annotations

import atexit
import os
import threading
from functools import cache
from typing import Any, Protocol, TypeVar, runtime_checkable
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
