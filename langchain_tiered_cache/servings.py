"""Which run got which answer: what feedback by run id needs, in the process that served."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_tiered_cache.messages import MARK
from langchain_tiered_cache.runs import Run

MOST = 10_000
"""Runs remembered, the newest; some 2 MB."""

AMBIGUOUS = ""
"""In the place of an entry id: several answers went into this run."""


class Servings:
    """Entry ids of the newest runs, of model calls and of the chains right above them."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._entries: OrderedDict[str, str] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty: what was served here is of no use elsewhere."""
        return Servings, (self._most,)

    def note(self, run: Run | None, entry_id: str | None) -> None:
        """Remember what a run was answered with."""
        if run is None or entry_id is None:
            return
        self._entries[str(run.id)] = entry_id
        if run.parent is not None:
            parent = str(run.parent)
            is_only = self._entries.get(parent, entry_id) == entry_id
            self._entries[parent] = entry_id if is_only else AMBIGUOUS
        while len(self._entries) > self._most:
            with suppress(KeyError):  # another thread did it
                self._entries.popitem(last=False)

    def runs(self) -> list[str]:
        """Return the runs that are known, the oldest first."""
        return list(self._entries)

    def entry_id(self, which: Any) -> str:
        """Return the entry id that is meant: of a message, of a run, or the text itself."""
        if isinstance(which, BaseMessage):
            mark = which.response_metadata.get(MARK)
            return str(mark.get("entry_id")) if isinstance(mark, dict) else ""
        return self._entries.get(str(which), str(which))
