"""Let concurrent callers share one call of an embedding model."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from shared_core.concurrency import ending, renew_after_fork
from shared_core.embedding.api import EmbedderError, Unresponsive

if TYPE_CHECKING:
    from shared_core.record import Vector


Embed = Callable[[Sequence[str]], Any]
"""From n texts to n rows, or an EmbedderError."""

MAX_TOGETHER = 16
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


# Callers of a local model who embed for each other; a lone one does so in its own thread.


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
        if ending.is_set():
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
            most = min(MAX_TOGETHER, len(self._waiting))
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


# The thread in which an embedder of others works: texts that wait share a call, nobody for ever.
#
# A lone text is embedded at once. Those that come meanwhile are embedded together, by the next
# call.


MAX_STUCK = 4
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
        if ending.is_set():
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
            if self._line is line and len(self._stuck) < MAX_STUCK:
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
        while len(waiting) < MAX_TOGETHER:
            job = jobs.get(block=not waiting)
            if job is None:
                if waiting:
                    jobs.put(None)  # the end, to be met again
                break
            waiting.append(job)
    except Empty:
        pass  # nobody else waits
    return waiting
