"""Callers of a local model who embed for each other; a lone one does so in its own thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from shared_core.embedding.gate import is_ending
from shared_core.embedding.job import MOST_TOGETHER, Embed, Job, do_all, too_late
from shared_core.forking import renew_after_fork

if TYPE_CHECKING:
    from shared_core.record import Vector

T = TypeVar("T")


class Turns:
    """Calls ``embed`` in the threads of those who ask: one call at a time.

    Who finds nobody at it embeds what waits, its own text first, and passes the turn on to the
    first who came meanwhile. Nobody waits for others longer than ``patience`` seconds.
    """

    def __init__(self, embed: Embed, patience: float) -> None:
        self._embed, self._patience = embed, patience
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Begin with nobody waiting."""
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._is_taken = False

    def ask(self, function: Callable[[], T]) -> T:
        """Return what a function returns: a local model answers in any thread, at any time."""
        return function()

    def vector(self, text: str) -> Vector:
        """Return the row of one text. Raises what ``embed`` does, and Unresponsive."""
        if is_ending():
            alone: Vector = self._embed([text])[0]
            return alone
        job = Job(text)
        try:
            self._queue(job)
            if not job.leads and not job.wait(self._patience):
                raise too_late(self._patience)
            if job.leads:
                do_all(self._next(), self._embed)
            vector: Vector = job.outcome()
        finally:
            self._leave(job)
        return vector

    def _queue(self, job: Job) -> None:
        with self._lock:
            self._waiting.append(job)
            job.leads, self._is_taken = not self._is_taken, True

    def _next(self) -> list[Job]:
        with self._lock:
            most = min(MOST_TOGETHER, len(self._waiting))
            return [self._waiting.popleft() for _ in range(most)]

    def _leave(self, job: Job) -> None:
        """Pass the turn on, if it is this job's: whatever becomes of its caller, others wait."""
        with self._lock:
            job.is_awaited = False
            if not job.leads:
                return
            while self._waiting and not self._waiting[0].is_awaited:
                self._waiting.popleft()
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake()
            else:
                self._is_taken = False
