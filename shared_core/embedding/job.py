"""What callers want of an embedder while it is busy, and how one call serves several of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from typing import Any

from shared_core.embedding import EmbedderError, Unresponsive

Embed = Callable[[Sequence[str]], Any]
"""From n texts to n rows, or an EmbedderError."""

MOST_TOGETHER = 16
"""How many jobs are done together at most."""


class Job:
    """One text to embed, or one function to call, for a caller who waits."""

    __slots__ = ("context", "error", "function", "is_awaited", "leads", "result", "text", "waits")

    def __init__(self, text: str = "", function: Callable[[], Any] | None = None) -> None:
        self.text, self.function = text, function
        self.context = copy_context()
        self.result: Any = None
        self.error: EmbedderError | None = EmbedderError("the embedder ended its thread")
        self.is_awaited = True
        self.leads = False  # its caller is to do what waits
        self.waits = threading.Lock()
        self.waits.acquire()

    def wait(self, patience: float) -> bool:
        """Wait until there is an outcome, or a lead; say whether that was in time."""
        return self.waits.acquire(timeout=patience)

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result

    def finish(self, result: Any) -> None:
        """Give the caller a result."""
        self.result, self.error = result, None
        self.wake()

    def fail(self, error: EmbedderError | None = None) -> None:
        """Give the caller an error, unless there is a result."""
        if self.error is not None:
            self.error = error or self.error
            self.wake()

    def wake(self) -> None:
        """Let the caller go on."""
        if self.waits.locked():
            self.waits.release()


def do_all(jobs: Iterable[Job], embed: Embed) -> None:
    """Do jobs: call functions one by one, embed texts together. Equal texts are embedded once."""
    texts: dict[str, list[Job]] = {}
    for job in jobs:
        if job.function is not None:
            _call(job, job.function)
        elif job.is_awaited:
            texts.setdefault(job.text, []).append(job)
    if texts:
        _embed(texts, embed)


def too_late(patience: float) -> Unresponsive:
    """Return the error of a caller who waited in vain."""
    return Unresponsive(f"the embedder has not answered for {patience:g} s")


def _call(job: Job, function: Callable[[], Any]) -> None:
    try:
        job.finish(job.context.run(function))
    except EmbedderError as error:
        job.fail(error)
    finally:
        job.fail()


def _embed(texts: dict[str, list[Job]], embed: Embed) -> None:
    """Embed texts in one call; if it fails, each by itself, so that none suffers for another."""
    groups = list(texts.values())
    try:
        rows = groups[0][0].context.run(embed, list(texts))
        for group, row in zip(groups, rows, strict=True):
            for job in group:
                job.finish(row)
    except EmbedderError as error:
        for text, group in texts.items():
            if len(groups) > 1 and not getattr(error, "down", False):
                _embed({text: group}, embed)
            for job in group:
                job.fail(error)
    finally:
        for group in groups:
            for job in group:
                job.fail()
