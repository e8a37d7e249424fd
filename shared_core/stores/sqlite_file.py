"""One SQLite file: its connections, and who may write when."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from shared_core.forking import renew_after_fork
from shared_core.stores import StoreError
from shared_core.stores.sqlite_schema import prepare

OPENING = 5.0
"""Seconds that opening waits for processes that are creating or recovering the same file."""
IDLE_READERS = 8
CROWDED = 1.0
"""Seconds after it met another writer in which a process makes way."""
LONGEST_STEP = 0.001
"""Seconds between two attempts to get the write lock."""
FORK_WAIT = 2.0
"""Seconds that a fork waits for calls in other threads, so that it inherits no open handle."""


class DatabaseFile:
    """Connections to one file in WAL mode, for many threads, and for many processes.

    A reader is lent to one thread at a time. There is one writer, under a lock: the threads of a
    process queue there, and only processes compete for the file's lock. No connection is open
    across a fork, because SQLite keeps locks and mutexes per process that a child must not
    inherit; ``after_fork`` is called in the child.

    Raises ValueError if the path can not be such a file, StoreError if it stays locked by others.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout: float,
        rng: Callable[[], float] = random.random,
        after_fork: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = os.path.abspath(path)
        self._timeout = timeout
        self._rng = rng
        self._after_fork = after_fork
        self._abandoned: list[object] = []
        self._start_fresh()
        self._open()
        renew_after_fork(self)

    def _start_fresh(self) -> None:
        self._closed = False
        self._crowded_until = self._wrote_at = -math.inf
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._gate = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._lent: set[sqlite3.Connection] = set()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection to read with. Errors of SQLite become StoreError."""
        connection = self.take()
        try:
            yield connection
        except sqlite3.Error as error:
            raise self.failure(error) from error
        finally:
            self.give_back(connection)

    def take(self) -> sqlite3.Connection:
        """Take a reader, which must be given back: what ``reading`` does, 1 us faster."""
        with self._gate:
            if self._closed:
                raise StoreError(f"{self.path} is closed")
            try:
                connection = self._idle.pop() if self._idle else self._connect(self._timeout)
            except sqlite3.Error as error:
                raise self.failure(error) from error
            self._lent.add(connection)
        return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Give a reader back."""
        with self._gate:
            self._lent.discard(connection)
            if self._closed or len(self._idle) >= IDLE_READERS:
                connection.close()
            else:
                self._idle.append(connection)
            self._gate.notify_all()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction that writes: committed at the end, rolled back on any error.

        Raises StoreError if others write for longer than the timeout, or if SQLite fails.
        """
        with self._sole_writer() as (writer, deadline):
            self._run(writer, deadline, "BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise

    def write(self, statement: str, values: Sequence[object]) -> int:
        """Run one statement as a transaction of its own and return how many rows it changed.

        One statement never holds the file's lock while its thread waits for the interpreter's, for
        which many statements wait 5 ms each where other threads are busy. Raises StoreError.
        """
        with self._sole_writer() as (writer, deadline):
            return self._run(writer, deadline, statement, values).rowcount

    @contextmanager
    def _sole_writer(self) -> Iterator[tuple[sqlite3.Connection, float]]:
        deadline = time.monotonic() + self._timeout
        lock = self._writing
        if not lock.acquire(timeout=self._timeout):
            raise StoreError(f"{self.path}: other threads wrote for {self._timeout} s")
        try:
            if self._closed:
                raise StoreError(f"{self.path} is closed")
            if self._writer is None:
                self._writer = self._connect(0)
            self._let_others_first()
            yield self._writer, deadline
            self._wrote_at = time.monotonic()
        except sqlite3.Error as error:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.close()  # the rollback failed as well
                self._writer = None
            raise self.failure(error) from error
        finally:
            lock.release()

    def _let_others_first(self) -> None:
        """Where processes compete, leave a gap after the last write of this one.

        Its threads would hand the lock on among themselves, faster than another process can ask.
        """
        now = time.monotonic()
        if now < self._crowded_until:
            rest = self._wrote_at + LONGEST_STEP * self._rng() - now
            if rest > 0:
                time.sleep(rest)

    def _run(
        self,
        writer: sqlite3.Connection,
        deadline: float,
        statement: str,
        values: Sequence[object] = (),
    ) -> sqlite3.Cursor:
        """Run what needs the write lock; wait for it in random steps.

        They shrink with the time left, whereas SQLite's own steps grow to 100 ms, so that who has
        waited longest would ask least often.
        """
        while True:
            try:
                return writer.execute(statement, values)
            except sqlite3.OperationalError as error:
                left = deadline - time.monotonic()
                if not _is_busy(error) or left <= 0:
                    raise
                self._crowded_until = time.monotonic() + CROWDED
            time.sleep(LONGEST_STEP * self._rng() * min(1.0, 2 * left / self._timeout))

    def failure(self, error: sqlite3.Error) -> StoreError:
        """Say what went wrong and with which file."""
        return StoreError(f"{self.path}: {error}")

    def close(self) -> None:
        """Close every connection; a reader that is lent is closed when it comes back."""
        with self._gate:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
        with self._writing:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def before_fork(self) -> None:
        deadline = time.monotonic() + FORK_WAIT
        self._has_writing = self._writing.acquire(timeout=FORK_WAIT)
        self._gate.acquire()
        self._gate.wait_for(lambda: not self._lent, max(0.0, deadline - time.monotonic()))
        while self._idle:
            self._idle.pop().close()
        if self._has_writing and self._writer is not None:
            self._writer.close()
            self._writer = None

    def after_fork_in_parent(self) -> None:
        self._gate.release()
        if self._has_writing:
            self._writing.release()

    def renew_after_fork(self) -> None:
        # What another thread did not give back in time is kept and never closed: closing it could
        # write.
        self._abandoned += [self._writer, *self._lent]
        was_closed = self._closed
        self._start_fresh()
        self._closed = was_closed
        self._after_fork()

    def _connect(self, patience: float) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=patience, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA recursive_triggers = ON")  # REPLACE deletes with triggers
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _open(self) -> None:
        if os.path.isdir(self.path):
            raise ValueError(f"{self.path!r} is a folder; name a file in it")
        if not os.path.isdir(os.path.dirname(self.path)):
            raise ValueError(f"the folder of {self.path!r} does not exist; create it first")
        try:
            # Only ever created here: to open and close an existing file would drop the locks that
            # other connections of this process hold on it.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise ValueError(f"{self.path!r} can not be created: {error.strerror}") from None
        deadline = time.monotonic() + OPENING
        while True:
            try:
                connection = self._connect(OPENING)
                try:
                    prepare(connection, self.path)
                finally:
                    connection.close()
                return
            except sqlite3.Error as error:
                if not _is_busy(error):
                    raise ValueError(
                        f"{self.path!r} can not be used as a database ({error}); make it "
                        "writable, or name another file"
                    ) from None
                if time.monotonic() >= deadline:
                    raise self.failure(error) from error
            time.sleep(0.01)


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
