"""The thread in which an embedder of others works: texts that wait share a call, nobody for ever.

A lone text is embedded at once. Those that come meanwhile are embedded together, by the next call.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from shared_core.embedding.gate import is_ending
from shared_core.embedding.job import MOST_TOGETHER, Embed, Job, do_all, too_late
from shared_core.forking import renew_after_fork

if TYPE_CHECKING:
    from shared_core.record import Vector

T = TypeVar("T")

MOST_STUCK = 4
"""How many threads may be stuck, in calls that nobody waits for any more, before none is added."""


class Worker:
    """Calls ``embed``, a function from n texts to n rows, in a thread: one call at a time.

    No caller waits longer than ``patience`` seconds. A call that takes longer keeps its thread, and
    later ones get a new one. The thread starts with the first call and ends with this object. It is
    a daemon, as a call that hangs must not keep the process from ending.
    """

    def __init__(self, embed: Embed, patience: float) -> None:
        self._embed, self._patience = embed, patience
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Begin without a thread."""
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._stuck: list[_Line] = []

    def vector(self, text: str) -> Vector:
        """Return the row of one text. Raises what ``embed`` does, and Unresponsive."""
        vector: Vector = self._outcome(Job(text), lambda: self._embed([text])[0])
        return vector

    def ask(self, function: Callable[[], T]) -> T:
        """Return what a function returns. Raises what it does, and Unresponsive."""
        found: T = self._outcome(Job(function=function), function)
        return found

    def _outcome(self, job: Job, at_once: Callable[[], Any]) -> Any:
        line = self._open_line()
        if line is None or line.thread is threading.current_thread():
            return at_once()
        line.jobs.put(job)
        if not job.wait(self._patience):
            job.is_awaited = False
            self._leave(line)
            raise too_late(self._patience)
        return job.outcome()

    def _open_line(self) -> _Line | None:
        """Return where jobs are done; None if no thread can be had, as when the process ends."""
        if is_ending():
            return None
        line = self._line
        if line is None or not line.thread.is_alive():
            with self._lock:
                if self._line is line:
                    self._line = self._start()
                line = self._line
        return line

    def _start(self) -> _Line | None:
        line = _Line(self._embed)
        try:
            line.thread.start()
        except RuntimeError:
            return None
        line.end = weakref.finalize(self, line.jobs.put, None)
        line.end.atexit = False
        return line

    def _leave(self, line: _Line) -> None:
        """Have later jobs done in a new thread, unless too many are stuck."""
        with self._lock:
            self._stuck = [one for one in self._stuck if one.thread.is_alive()]
            if self._line is line and len(self._stuck) < MOST_STUCK:
                self._stuck.append(line)
                self._line = None
                line.end()


class _Line:
    """A queue of jobs and the thread that does them; None is the end of the queue."""

    def __init__(self, embed: Embed) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.end: Callable[[], object]
        self.thread = threading.Thread(
            target=_work, args=(self.jobs, embed), name="tiered-cache-embedder", daemon=True
        )


def _work(jobs: SimpleQueue[Job | None], embed: Embed) -> None:
    while waiting := _next(jobs):
        do_all(waiting, embed)
        del waiting  # what was done is not kept until the next comes


def _next(jobs: SimpleQueue[Job | None]) -> list[Job]:
    """Wait for a job, and return it with those that wait behind it; none at the end."""
    waiting: list[Job] = []
    try:
        while len(waiting) < MOST_TOGETHER:
            job = jobs.get(block=not waiting)
            if job is None:
                if waiting:
                    jobs.put(None)  # the end, to be met again
                break
            waiting.append(job)
    except Empty:
        pass  # nobody else waits
    return waiting
