"""Who is inside a model: nobody while the process forks or ends."""

from __future__ import annotations

import atexit
import os
import threading

# What is half done in another thread when a process forks, such as an import, stays half done in
# the child, for ever. And a daemon thread that is torn out of C++ code when the process ends may
# abort it. So both wait for the thread that is inside, and let no other in.
gate = threading.RLock()
_kept = False
_ending = threading.Event()


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


def is_ending() -> bool:
    """Say whether the process ends: no thread but this one gets through the gate any more."""
    return _ending.is_set()


def _end() -> None:
    _ending.set()
    gate.acquire()
