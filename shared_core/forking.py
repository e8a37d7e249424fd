"""What a child process must renew after a fork: locks, handles, threads."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something that holds what a fork breaks."""

    def renew_after_fork(self) -> None:
        """Replace it, in the child, without touching what the parent still uses."""


_living: WeakSet[Renewable] | None = None


def renew_after_fork(owner: Renewable) -> None:
    """Have ``owner.renew_after_fork()`` called in every child that is forked while it lives."""
    global _living  # noqa: PLW0603 - one hook per process, registered when first needed
    if _living is None:
        _living = WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_renew_all)
    _living.add(owner)


def _renew_all() -> None:
    for owner in list(_living or ()):
        owner.renew_after_fork()
