"""An event loop whose time passes only while everyone sleeps, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nothing is ready; for coroutines without threads."""

    def __init__(self) -> None:
        super().__init__(_Selector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everyone waits, and nothing will ever happen")
        self._loop.now += max(timeout, 0)
        return super().select(0)


def run(work: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run a coroutine to its end and close the loop."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
