"""The file itself: make it, know it for ours, set it aside when damaged, and its tables.

path -> make_file -> prepare(connection): tables as in SCHEMA, APPLICATION_ID in the header
damaged -> bears_our_id? -> set_aside; a disk that is full -> swap
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# A replaced record gets a new id, larger than all before: an index in memory asks for what is
# above the last id it knows. Text is stored as UTF-8 bytes, because SQLite's text can not hold
# lone surrogates.
SCHEMA_VERSION = 1
"""Written by ``SCHEMA``; another one is refused."""

APPLICATION_ID = int.from_bytes(b"tlc1", "big")
"""Stands in the header of our files, where it can be read however damaged the rest is."""
ID_AT, MIN_BYTES = slice(68, 72), 100

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
        if 0 < os.path.getsize(path) < MIN_BYTES:  # SQLite would take it for an empty one
            raise ValueError(f"{path!r} is no database; name another file")
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
        kind = UnusableFile if error.errno in _REFUSED else ValueError
        raise kind(f"{path!r} can not be created: {error.strerror}") from None


class UnusableFile(ValueError):
    """The path may be ours, but cannot be used now: unreadable, read-only, or on a full disk."""


class DamagedFile(sqlite3.DatabaseError):
    """What is in the file cannot be what we wrote."""


_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH),
)
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
SHORT_READ = 522
"""SQLITE_IOERR_SHORT_READ: the file was cut off."""


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 for an error of Python's own module."""
    code = getattr(error, "sqlite_errorcode", 0)
    return sqlite3.SQLITE_CORRUPT if code == SHORT_READ else code & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether an error is one of what the file holds."""
    return isinstance(error, DamagedFile) or code_of(error) in DAMAGE


def may_be_damage(error: sqlite3.Error) -> bool:
    """Say whether damage can cause the error: our statements are right, our texts readable."""
    odd = isinstance(error, sqlite3.OperationalError) and code_of(error) in (0, 1)
    return odd or is_damage(error)


def bears_our_id(path: str) -> bool:
    """Say whether the header of a file that nobody can open any more names this application.

    To close it here drops the locks of this process on it: not for a file in use.
    """
    try:
        with open(path, "rb") as file:
            return file.read(100)[ID_AT] == APPLICATION_ID.to_bytes(4, "big")
    except OSError:
        return False


def set_aside(path: str, identity: tuple[int, int] | None) -> str | None:
    """Rename a damaged file and what belongs to it; return the new name.

    None if another process did so: another file is there by now. Raises OSError.
    """
    with _sole_maker(os.path.dirname(path)):
        if identity is None or identity_of(path) != identity:
            return None
        name = f"{path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        number = 1
        while os.path.lexists(name):
            number += 1
            name = f"{name.partition('~')[0]}~{number}"
        for rest in ("-wal", "-shm", ""):  # the file last: a new one may come in its place then
            with suppress(FileNotFoundError):
                os.rename(path + rest, name + rest)
    return name


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


def swap(path: str, data: bytes) -> None:
    """Put a file of these bytes in the place of one whose disk may be full. Raises OSError.

    Where there is no room for both, the old one is emptied first; nobody may write to it. Whoever
    has it open finds another at its path.
    """
    part, gone = path + ".part", path + ".gone"
    with _sole_maker(os.path.dirname(path)):
        is_written = False
        with suppress(OSError):
            _write(part, data)
            is_written = True
        for rest in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.rename(path + rest, gone + rest)
        if not is_written:
            for rest in ("-wal", ""):  # not what others have mapped into their memory
                with suppress(FileNotFoundError):
                    os.truncate(gone + rest, 0)
            _write(part, data)
        for rest in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path + rest)
        os.replace(part, path)
        for rest in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.unlink(gone + rest)


def _write(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what tells the file at a path from others, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether others hold the file, so that it may work in a moment."""
    return code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Check what is in the file, or create the tables in an empty one.

    Raises ValueError if it is not ours or not of this version, before anything is written to it;
    sqlite3.Error if it is no database, or is locked by another that creates it.
    """
    is_made = has_tables(connection, path)
    if is_made:
        try:
            connection.execute("PRAGMA busy_timeout = 0")  # who is busy writing shows that one can
            connection.execute("BEGIN IMMEDIATE")
            if not _bears_id(connection):  # made by an earlier version
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            return
    else:  # first of all, so that it does not stand in the log alone
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ValueError(f"{path!r} is on a file system without WAL; use a local disk")
    if is_made:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not has_tables(connection, path):
            for statement in statements(SCHEMA):
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")


def _bears_id(connection: sqlite3.Connection) -> bool:
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(found == APPLICATION_ID)


def has_tables(connection: sqlite3.Connection, path: str) -> bool:
    """Say whether our tables are there; False for an empty file.

    Raises ValueError for others, DamagedFile where ours are gone from a file of ours.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not names:
        return False
    is_ours = _bears_id(connection)
    if not {"meta", "records", "tags", "kv", "labels"} <= names:
        if is_ours:
            raise DamagedFile("tables are gone")
        raise ValueError(f"{path!r} holds another application's tables; name another file")
    row = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    if is_ours and (row is None or not isinstance(row[0], int)):
        raise DamagedFile("its version is gone")
    if row is None or row[0] != SCHEMA_VERSION:
        raise ValueError(
            f"{path!r} has schema version {row and row[0]}, known is "
            f"{SCHEMA_VERSION}; name another file, or delete this one"
        )
    return True


def entries_of(connection: sqlite3.Connection) -> int:
    """Return how many records the file holds. Raises DamagedFile where it does not say so."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'entries'").fetchone()
    if row is None or not isinstance(row[0], int):
        raise DamagedFile("the number of its entries is gone")
    return row[0]


def statements(script: str) -> Iterator[str]:
    """Split a script, because ``executescript`` would commit the transaction that it is run in."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
