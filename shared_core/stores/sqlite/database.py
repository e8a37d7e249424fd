"""Open one SQLite file: its schema, its connections, and who may write when."""

from __future__ import annotations

import logging
import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from shared_core.concurrency import renew_after_fork
from shared_core.stores.api import StoreError
from shared_core.stores.sqlite.file import (
    APPLICATION_ID,
    SCHEMA,
    UNUSABLE,
    UnusableFile,
    bears_our_id,
    code_of,
    has_tables,
    identity_of,
    is_busy,
    is_damage,
    make_file,
    may_be_damage,
    prepare,
    set_aside,
    statements,
    swap,
)

logger = logging.getLogger("tiered_cache")

OPENING = 2.0
"""Seconds that opening waits for processes that are creating or recovering the same file."""
LOOK = 1.0
"""Seconds between two looks whether the path still names the file that is open."""
IDLE_READERS = 8
CROWDED = 1.0
"""Seconds after it met another writer in which a process makes way."""
LONGEST_STEP = 0.001
"""Seconds between two attempts to get the write lock."""
MAX_DAMAGED = 3
"""Files set aside at one opening; more are the disk's fault."""
FORK_WAIT = 2.0
"""Seconds that a fork waits for calls in other threads, so that it inherits no open handle."""


class WriteRefused(StoreError):
    """The disk may only be read; what the file holds can be read all the same."""

    down = False


class DiskFull(WriteRefused):
    """The disk is full; what the file holds can be read all the same."""


def blob(text: str) -> bytes:
    """Return text as the file holds it: UTF-8 that allows lone surrogates, in code point order."""
    return text.encode("utf-8", "surrogatepass")


def text(blob: bytes) -> str:
    """Return the text of ``blob``."""
    return blob.decode("utf-8", "surrogatepass")


class DatabaseFile:
    """Connections to one file in WAL mode, for many threads, and for many processes.

    A reader is lent to one thread at a time. There is one writer, under a lock: the threads of a
    process queue there, and only processes compete for the file's lock. No connection is open
    across a fork, because SQLite keeps locks and mutexes per process that a child must not
    inherit; ``start_fresh`` is called in the child, and when the path came to name another file:
    one that was deleted or replaced under us is left, and what is there now is opened instead.

    Raises ValueError if the path can not be such a file. One that others keep locked while it has
    no tables yet is made ready at its first use.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout: float,
        rng: Callable[[], float] = random.random,
        start_fresh: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = os.path.abspath(path)
        self._timeout = timeout
        self._rng = rng
        self._tell_fresh = start_fresh
        self._abandoned: list[object] = []
        self._ready = False
        self._error: sqlite3.Error | None = None
        self._suspected: tuple[int, int] | None = None
        self._start_fresh()
        self._open(OPENING)
        self._identity = identity_of(self.path)
        renew_after_fork(self)

    def _start_fresh(self) -> None:
        self._closed = False
        self._crowded_until = self._wrote_at = -math.inf
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._gate = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._in_use: set[sqlite3.Connection] = set()
        self._stale: set[sqlite3.Connection] = set()
        self._looked_at = time.monotonic()

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
            if not self._ready or time.monotonic() - self._looked_at > LOOK:
                self._look()
            try:
                connection = self._idle.pop() if self._idle else self._connect(self._timeout)
            except sqlite3.Error as error:
                raise self.failure(error) from error
            self._in_use.add(connection)
        return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Give a reader back."""
        with self._gate:
            self._in_use.discard(connection)
            if self._closed or connection in self._stale or len(self._idle) >= IDLE_READERS:
                self._stale.discard(connection)
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

    def replace(self, copy: Callable[[sqlite3.Connection, sqlite3.Connection], None]) -> None:
        """Put a new file in the place of this one; ``copy(old, new)`` says what it holds.

        For a disk so full that nothing can be deleted: SQLite needs room for that, this needs none.
        What is kept is in memory meanwhile. Raises StoreError.
        """
        with self._sole_writer() as (writer, deadline):
            self._run(writer, deadline, "BEGIN IMMEDIATE")  # nobody adds to the old file
            try:
                with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
                    new.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    for statement in statements(SCHEMA):
                        new.execute(statement)
                    new.execute("BEGIN")
                    copy(writer, new)
                    new.execute("COMMIT")
                    data = new.serialize()
                if identity_of(self.path) != self._identity:
                    raise StoreError(f"{self.path} was deleted or replaced")
                swap(self.path, data)
            except OSError as error:
                raise StoreError(f"{self.path}: {error.strerror}") from error
            finally:
                writer.execute("ROLLBACK")
        logger.warning("%s was made anew, with what is kept: its disk is full", self.path)
        with self._gate:
            self._leave()

    @contextmanager
    def _sole_writer(self) -> Iterator[tuple[sqlite3.Connection, float]]:
        deadline = time.monotonic() + self._timeout
        lock = self._writing
        if not lock.acquire(timeout=self._timeout):
            raise StoreError(f"{self.path}: other threads wrote for {self._timeout} s")
        try:
            if self._closed:
                raise StoreError(f"{self.path} is closed")
            with self._gate:
                self._look()
            if self._writer is not None and self._writer in self._stale:
                self._stale.discard(self._writer)
                self._writer.close()
                self._writer = None
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
                if not is_busy(error) or left <= 0:
                    raise
                self._crowded_until = time.monotonic() + CROWDED
            time.sleep(LONGEST_STEP * self._rng() * min(1.0, 2 * left / self._timeout))

    def _look(self) -> None:
        """Go over to the file that is there now, if it is another; the gate is held.

        Writing on would be into a file without a name, which nobody would ever read.
        """
        self._looked_at = time.monotonic()
        now = identity_of(self.path)
        if self._ready and now == self._identity:
            return
        error, self._error = self._error, None
        if self._ready:
            logger.warning("%s was deleted or replaced: opening what is there now", self.path)
        if self._ready or error is not None:
            self._leave()
        try:
            if error is not None and now == self._identity and self._is_damaged(error):
                self._begin_anew(self._identity, error)
            self._open(self._timeout)
        except ValueError as failed:
            raise StoreError(str(failed)) from None
        if not self._ready:
            raise StoreError(f"{self.path}: others keep it locked")
        self._identity = identity_of(self.path)
        self._tell_fresh()

    def _leave(self) -> None:
        """Close what is open of the file, now or when it is given back; the gate is held."""
        while self._idle:
            self._idle.pop().close()
        self._stale |= self._in_use
        if self._writer is not None:
            self._stale.add(self._writer)
        self._ready = False

    def failure(self, error: sqlite3.Error) -> StoreError:
        """Say what went wrong and with which file; what may be damage is seen to by the next call.

        A full disk does not open the circuit breaker: what is there is read all the same.
        """
        if may_be_damage(error):
            self._error, self._ready = error, False
        match code_of(error):
            case sqlite3.SQLITE_FULL:
                return DiskFull(f"{self.path}: {error}")
            case sqlite3.SQLITE_READONLY:
                return WriteRefused(f"{self.path}: {error}")
            case _:
                return StoreError(f"{self.path}: {error}")

    def _is_damaged(self, error: sqlite3.Error) -> bool:
        """Look again whether the file is damaged, for half of the time that a call may take.

        What is not found in it so, but met a second time, is believed.
        """
        again, self._suspected = self._suspected == self._identity, self._identity
        if again and is_damage(error):
            return True
        end = time.monotonic() + self._timeout / 2
        try:
            with closing(self._connect(self._timeout / 2)) as connection:
                has_tables(connection, self.path)
                connection.set_progress_handler(lambda: time.monotonic() > end, 1000)
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as found:
            is_too_long = code_of(found) == sqlite3.SQLITE_INTERRUPT
            return is_damage(error) if is_too_long else may_be_damage(found)
        except ValueError:  # another application's
            return False
        return bool(verdict != "ok")

    def _begin_anew(self, identity: tuple[int, int] | None, error: sqlite3.Error) -> None:
        """Set a damaged file of ours aside. Raises ValueError for the file of others."""
        if identity_of(self.path) != identity:
            return
        if not bears_our_id(self.path):
            raise ValueError(
                f"{self.path!r} can not be used as a database ({error}); name another file, or "
                "delete this one if it was a cache"
            )
        try:
            name = set_aside(self.path, identity)
        except OSError as refused:
            raise UnusableFile(
                f"{self.path!r} is damaged ({error}) and can not be renamed: {refused.strerror}"
            ) from None
        if name is not None:
            logger.warning(
                "%s is damaged (%s): it was set aside as %s, and the cache begins anew",
                *(self.path, error, name),
            )

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
        self._gate.wait_for(lambda: not self._in_use, max(0.0, deadline - time.monotonic()))
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
        self._abandoned += [self._writer, *self._in_use]
        was_closed = self._closed
        self._start_fresh()
        self._closed = was_closed
        self._tell_fresh()

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

    def _is_odd(self, error: sqlite3.Error) -> bool:
        """Say whether what is in the file keeps it from being opened."""
        # Its header may claim a format that SQLite will not write.
        is_writable = os.access(self.path, os.W_OK) and os.access(
            os.path.dirname(self.path), os.W_OK
        )
        claims = code_of(error) == sqlite3.SQLITE_READONLY and is_writable
        return may_be_damage(error) or (claims and bears_our_id(self.path))

    def _open(self, patience: float) -> None:
        """Find or make the file and its tables; ``_ready`` says whether others let us."""
        make_file(self.path)
        deadline = time.monotonic() + patience
        damaged = 0
        while True:
            identity = identity_of(self.path)
            try:
                connection = self._connect(patience)
                try:
                    prepare(connection, self.path)
                finally:
                    connection.close()
                self._ready = True
                return
            except sqlite3.Error as error:
                if self._is_odd(error) and damaged < MAX_DAMAGED:
                    damaged += 1
                    self._begin_anew(identity, error)
                    make_file(self.path)
                elif not is_busy(error):
                    kind = UnusableFile if code_of(error) in UNUSABLE else ValueError
                    raise kind(
                        f"{self.path!r} can not be used as a database ({error}); make it "
                        "writable, or name another file"
                    ) from None
                elif time.monotonic() >= deadline:
                    self._ready = False
                    return
            time.sleep(0.01)
