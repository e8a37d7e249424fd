"""Locks and handles across ``os.fork``: let go before it, and made anew in the child."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """What holds locks or handles that a child process must not inherit as they are."""

    def before_fork(self) -> None:
        """Wait, for a bounded time, until no other thread is inside; keep them out."""

    def after_fork_in_parent(self) -> None:
        """Let the other threads in again."""

    def after_fork_in_child(self) -> None:
        """Start with new locks and no handle of the parent's."""


_alive: WeakSet[Forkable] = WeakSet()


def follow_forks(thing: Forkable) -> None:
    """Call the methods of ``thing`` around every fork for as long as it lives."""
    _register()
    _alive.add(thing)


@cache
def _register() -> None:
    """Register once, at first use: what is registered can not be taken back."""
    if not hasattr(os, "register_at_fork"):
        return  # no fork on this system
    held: list[Forkable] = []  # the same objects before and after, whatever is made meanwhile

    def before() -> None:
        held[:] = list(_alive)
        for thing in held:
            thing.before_fork()

    def in_parent() -> None:
        for thing in held:
            thing.after_fork_in_parent()
        held.clear()

    def in_child() -> None:
        for thing in held:
            thing.after_fork_in_child()
        held.clear()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
