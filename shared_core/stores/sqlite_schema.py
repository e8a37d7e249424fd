"""An SQLite file: how it is made, its tables, and the check that a file has them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A replaced record gets a new id, larger than all before: an index in memory asks for what is
# above the last id it knows. Text is stored as UTF-8 bytes, because SQLite's text can not hold
# lone surrogates.
VERSION = 1
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
    if row is None or row[0] != VERSION:
        raise ValueError(
            f"{path!r} has schema version {row and row[0]}, known is "
            f"{VERSION}; name another file, or delete this one"
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
