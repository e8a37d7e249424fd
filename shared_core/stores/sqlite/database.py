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
from contextlib import contextmanager, suppress

from shared_core.concurrency import renew_after_fork
from shared_core.stores.api import StoreError

# An SQLite file: how it is made, its tables, and the check that a file has them.


# A replaced record gets a new id, larger than all before: an index in memory asks for what is
# above the last id it knows. Text is stored as UTF-8 bytes, because SQLite's text can not hold
# lone surrogates.
SCHEMA_VERSION = 1
"""Written by ``SCHEMA``; another one is refused."""

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', 1), ('entries', 0);
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    scope BLOB NOT NULL,
    space BLOB NOT NULL,
    namespace BLOB NOT NULL,
    model BLOB NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    used REAL NOT NULL,
    body BLOB NOT NULL,
    vector BLOB
);
CREATE INDEX records_by_scope ON records (scope, space);
CREATE INDEX records_by_namespace ON records (namespace, model, created);
CREATE INDEX records_by_expiry ON records (expires) WHERE expires IS NOT NULL;
CREATE TABLE tags (
    record INTEGER NOT NULL,
    counter BLOB NOT NULL,
    epoch BLOB NOT NULL,
    PRIMARY KEY (record, counter)
) WITHOUT ROWID;
CREATE INDEX tags_by_counter ON tags (counter);
CREATE TRIGGER record_added AFTER INSERT ON records BEGIN
    UPDATE meta SET value = value + 1 WHERE name = 'entries';
END;
CREATE TRIGGER record_removed AFTER DELETE ON records BEGIN
    UPDATE meta SET value = value - 1 WHERE name = 'entries';
    DELETE FROM tags WHERE record = old.id;
END;
CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL);
CREATE INDEX kv_by_expiry ON kv (expires) WHERE expires IS NOT NULL;
CREATE TABLE labels (
    id BLOB NOT NULL,
    number INTEGER NOT NULL,
    label BLOB NOT NULL,
    PRIMARY KEY (id, number)
) WITHOUT ROWID;
"""


def make_file(path: str) -> None:
    """Create an empty file if there is none. Raises ValueError if none can be at this path."""
    if os.path.isdir(path):
        raise ValueError(f"{path!r} is a folder; name a file in it")
    if not os.path.isdir(os.path.dirname(path)):
        raise ValueError(f"the folder of {path!r} does not exist; create it first")
    if os.path.exists(path):
        return
    try:
        # Only ever created here: to open and close an existing file would drop the locks that
        # other connections of this process hold on it.
        with _sole_maker(os.path.dirname(path)):
            if not os.path.lexists(path):
                # What a deleted file left is of no use to anybody, and while a process has that
                # file open, it would be taken for the new one's ("disk I/O error").
                for rest in ("-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(path + rest)
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise ValueError(f"{path!r} can not be created: {error.strerror}") from None


@contextmanager
def _sole_maker(folder: str) -> Iterator[None]:
    """Keep other processes from making a file in this folder, where the system can."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows, which deletes no open file; an unreadable folder
        yield
        return
    try:
        with suppress(OSError):  # a file system without such locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # also for a child that inherited the handle
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what tells the file at a path from others, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether others hold the file, so that it may work in a moment."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Check what is in the file, or create the tables in an empty one.

    Raises ValueError if it is not ours or not of this version, before anything is written to it;
    sqlite3.Error if it is no database, or is locked by another that creates it.
    """
    if _has_tables(connection, path):
        try:
            connection.execute("PRAGMA busy_timeout = 0")  # who is busy writing shows that one can
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
        return
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ValueError(f"{path!r} is on a file system without WAL; use a local disk")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _has_tables(connection, path):
            for statement in _statements(SCHEMA):
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")


def _has_tables(connection: sqlite3.Connection, path: str) -> bool:
    """Say whether our tables are there; False for an empty file. Raises ValueError for others."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return False
    if not {"meta", "records", "kv", "labels"} <= names:
        raise ValueError(f"{path!r} holds another application's tables; name another file")
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    if row is None or row[0] != SCHEMA_VERSION:
        raise ValueError(
            f"{path!r} has schema version {row and row[0]}, known is "
            f"{SCHEMA_VERSION}; name another file, or delete this one"
        )
    return True


def _statements(script: str) -> Iterator[str]:
    """Split a script, because ``executescript`` would commit the transaction that it is run in."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


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
FORK_WAIT = 2.0
"""Seconds that a fork waits for calls in other threads, so that it inherits no open handle."""


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
        self._lent: set[sqlite3.Connection] = set()
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
            self._lent.add(connection)
        return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Give a reader back."""
        with self._gate:
            self._lent.discard(connection)
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
        if self._ready:
            logger.warning("%s was deleted or replaced: opening what is there now", self.path)
            while self._idle:
                self._idle.pop().close()
            self._stale |= self._lent
            if self._writer is not None:
                self._stale.add(self._writer)
            self._ready = False
        try:
            self._open(self._timeout)
        except ValueError as error:
            raise StoreError(str(error)) from None
        if not self._ready:
            raise StoreError(f"{self.path}: others keep it locked")
        self._identity = identity_of(self.path)
        self._tell_fresh()

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

    def _open(self, patience: float) -> None:
        """Find or make the file and its tables; ``_ready`` says whether others let us."""
        make_file(self.path)
        deadline = time.monotonic() + patience
        while True:
            try:
                connection = self._connect(patience)
                try:
                    prepare(connection, self.path)
                finally:
                    connection.close()
                self._ready = True
                return
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise ValueError(
                        f"{self.path!r} can not be used as a database ({error}); make it "
                        "writable, or name another file"
                    ) from None
                if time.monotonic() >= deadline:
                    self._ready = False
                    return
            time.sleep(0.01)
