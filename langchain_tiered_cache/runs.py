"""What LangChain says about the model call under way, for what an ``llm_string`` leaves out.

    on_chat_model_start --context variable--> current_runs() --matched by llm_string--> model.read

A cache sees a structured-output class as ``<class 'm.Out'>`` and of some models not even the name.
The callback hook sees the objects themselves, in the same thread or task and just before the
lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

KEPT = 32
"""Live runs remembered in one context: nested calls, and those whose end nobody told."""


@dataclass(slots=True, eq=False)
class Run:
    """One model call: what it was called with, as objects, and what the model says of itself.

    ``lookups`` is how many of its lookups are still to come, ``parent`` the id of the run that made
    the call; ``endings`` are called when it ends; ``tracers`` keep a record of it.
    """

    id: object
    params: Mapping[str, Any]
    serialized: Mapping[str, Any]
    metadata: Mapping[str, Any]
    lookups: int = 1
    parent: object = None
    is_over: bool = False
    endings: list[Callable[[], None]] = field(default_factory=list)
    tracers: tuple[Any, ...] = ()

    def called(self, names: tuple[str, ...], spelt: str) -> bool:
        """Return whether these parameters of the call, spelt as LangChain does, read like that."""
        if not all(name in self.params for name in names):
            return False
        return str(sorted((name, self.params[name]) for name in names)) == spelt

    def note(self, told: Mapping[str, Any]) -> None:
        """Add to the metadata of the records that LangSmith and other tracers keep."""
        for tracer in self.tracers:
            record = tracer.run_map.get(str(self.id))
            if record is not None:  # the dict is shared with what else the app calls: a new one
                record.extra["metadata"] = {**record.extra.get("metadata", {}), **told}

    def end(self) -> None:
        """Note that the call ended, well or not; a second call does nothing."""
        self.is_over = True
        while self.endings:
            self.endings.pop()()


_runs: ContextVar[tuple[Run, ...]] = ContextVar("tiered_cache_runs", default=())
_registering = Lock()
_registered: list[object] = []


def current_runs() -> tuple[Run, ...]:
    """Return the chat runs under way in this context, newest first; nested ones are among them."""
    return tuple(run for run in _runs.get() if not run.is_over)


def started(run: Run) -> None:
    """Remember a chat run in this context."""
    _runs.set((run, *current_runs()[: KEPT - 1]))


def ended(id: object) -> None:
    """End a run of this context.

    Often told in a copy of the context that knew it as it began; the run itself is the same.
    """
    for run in _runs.get():
        if run.id == id:
            run.end()


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
