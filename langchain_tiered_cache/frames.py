"""What LangChain tells neither caches nor handlers, read off the functions that call them.

Not found, because another version calls them in another way, it stays unknown: nothing fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from types import FrameType
from typing import Any

SLOT = "__tiered_cache__"
"""Where the class of a cached model keeps its ``Origin``."""

MOST_FRAMES = 8


def tracers_beside() -> tuple[Any, ...]:
    """Return the tracers that are told of the same run as the handler whose method calls this."""
    from langchain_core.callbacks import BaseCallbackManager
    from langchain_core.tracers.base import BaseTracer

    for frame in _callers():
        caller = frame.f_locals.get("self")
        if isinstance(caller, BaseCallbackManager):
            return tuple(one for one in caller.handlers if isinstance(one, BaseTracer))
    return ()


def arguments_unseen() -> tuple[str, ...]:
    """Return which arguments of a completion model's call the key of its lookup lacks.

    A cached model has them in its key.
    """
    for frame in _callers():
        if frame.f_code.co_name in ("generate", "agenerate"):
            is_cached = hasattr(type(frame.f_locals.get("self")), SLOT)
            given = frame.f_locals.get("kwargs")
            return tuple(given) if isinstance(given, dict) and not is_cached else ()
    return ()


def _callers() -> Iterator[FrameType]:
    """Yield the frames above the function that asks, nearest first."""

    def up(frame: FrameType | None) -> Iterator[FrameType]:
        while frame is not None:
            yield frame
            frame = frame.f_back

    return islice(up(sys._getframe(1).f_back), MOST_FRAMES)
