"""What LangChain says about the model call under way, for what an ``llm_string`` leaves out.

    on_chat_model_start --context variable--> current_runs() --matched by llm_string--> model.read

A cache sees a structured-output class as ``<class 'm.Out'>`` and of some models not even the name.
The callback hook sees the objects themselves, in the same thread or task and just before the
lookup.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

KEPT = 8
"""Runs remembered in one context: nested calls, and those whose end another task saw."""


@dataclass(frozen=True, slots=True)
class Run:
    """One model call: what it was called with, as objects, and what the model says of itself."""

    id: object
    params: Mapping[str, Any]
    serialized: Mapping[str, Any]
    metadata: Mapping[str, Any]

    def called(self, names: tuple[str, ...], spelt: str) -> bool:
        """Return whether these parameters of the call, spelt as LangChain does, read like that."""
        if not all(name in self.params for name in names):
            return False
        return str(sorted((name, self.params[name]) for name in names)) == spelt


_runs: ContextVar[tuple[Run, ...]] = ContextVar("tiered_cache_runs", default=())
_registering = Lock()
_registered: list[object] = []


def current_runs() -> tuple[Run, ...]:
    """Return the runs started in this context, newest first; some may have ended, so match them."""
    return _runs.get()


def started(run: Run) -> None:
    """Remember a run in this context."""
    _runs.set((run, *_runs.get()[: KEPT - 1]))


def ended(id: object) -> None:
    """Forget a run in this context."""
    _runs.set(tuple(run for run in _runs.get() if run.id != id))


def watch_runs() -> None:
    """Register the callback handler with LangChain; once per process, later calls do nothing."""
    with _registering:
        if _registered:
            return
        # Imported late: the tracers import LangSmith, which would triple the cost of our import.
        from langchain_core.tracers.context import register_configure_hook

        from langchain_tiered_cache.watcher import RunWatcher

        watcher: ContextVar[Any] = ContextVar("tiered_cache_watcher", default=RunWatcher())  # noqa: B039 - it has no state
        register_configure_hook(watcher, inheritable=True)
        _registered.append(watcher)
