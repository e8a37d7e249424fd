"""Keep small values in an SQLite file, and read one that must not be changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from urllib.request import pathname2url

from shared_core.stores.api import Clock, StoreError
from shared_core.stores.sqlite.database import DatabaseFile, blob, text

SWEEP = 64
"""Expired values that one write removes at most."""
_PAGE = 1000
AFTER_ALL = b"\xff"
"""Larger than every continuation of a prefix: UTF-8 has no such byte."""

GET = "SELECT value, expires FROM kv WHERE key = ? AND (expires IS NULL OR expires > ?)"
_PUT = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?)"
ADD = """INSERT INTO kv VALUES (?1, ?2, ?3) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE kv.expires <= ?4"""


class SqliteValues:
    """Values under text keys in one file; the promises are those of ``KeyValue``."""

    def __init__(self, file: DatabaseFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        now = self._clock()
        found: dict[str, bytes] = {}
        with self._file.reading() as reader:
            for key in keys:  # one prepared statement per key is faster than IN with a list
                row = reader.execute(GET, (blob(key), now)).fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        now = self._clock()
        expires = None if ttl is None else now + ttl
        with self._file.writing() as writer:
            sweep_values(writer, now)
            writer.executemany(_PUT, [(blob(key), value, expires) for key, value in items.items()])

    def delete_many(self, keys: Sequence[str]) -> int:
        now = self._clock()
        there = 0
        with self._file.writing() as writer:
            for key in keys:
                there += writer.execute(GET, (blob(key), now)).fetchone() is not None
                writer.execute("DELETE FROM kv WHERE key = ?", (blob(key),))
        return there

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        start = blob(prefix)
        with self._file.reading() as reader:
            rows = reader.execute(
                "SELECT key FROM kv WHERE key >= ? AND key < ? AND (key > ? OR ? = x'')"
                " AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?",
                (
                    max(start, blob(cursor)),
                    start + AFTER_ALL,
                    blob(cursor),
                    blob(cursor),
                    self._clock(),
                    _PAGE,
                ),
            ).fetchall()
        keys = [text(key) for (key,) in rows]
        return keys, keys[-1] if len(keys) == _PAGE else ""

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        now = self._clock()
        expires = None if ttl is None else now + ttl
        return self._file.write(ADD, (blob(key), value, expires, now)) == 1

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        now = self._clock()
        sums: dict[str, int] = {}
        with self._file.writing() as writer:
            for key, amount in amounts.items():
                row = writer.execute(GET, (blob(key), now)).fetchone() or (b"0", None)
                try:
                    sums[key] = int(row[0]) + amount
                except ValueError:
                    raise StoreError(f"the value of {key!r} is not an integer") from None
                writer.execute(_PUT, (blob(key), b"%d" % sums[key], row[1]))
        return sums


def sweep_values(writer: sqlite3.Connection, now: float) -> int:
    """Remove some values that expired; return how many."""
    return writer.execute(
        "DELETE FROM kv WHERE rowid IN (SELECT rowid FROM kv WHERE expires <= ? LIMIT ?)",
        (now, SWEEP),
    ).rowcount


# The small values of an SQLite file, for whoever must change nothing in it.


class ReadOnlyFile:
    """One connection to a file of ``SqliteStore``, which SQLite itself keeps from writing.

    ``timeout`` is in seconds; ``untouched``: SQLite makes no files beside it either, so that a file
    whose last process died cannot be read. Raises ValueError if there is no such file, StoreError
    if it is none of ours or cannot be opened.
    """

    def __init__(self, path: str, timeout: float, untouched: bool = False) -> None:
        self.path = os.path.abspath(path)
        if not os.path.isfile(self.path):
            raise ValueError(f"there is no file {self.path!r}: an app makes it at its first use")
        how = "mode=ro"
        if untouched:
            in_use = os.path.exists(f"{self.path}-wal")
            how = "mode=ro&readonly_shm=1" if in_use else "immutable=1"
        try:
            self._connection = sqlite3.connect(
                f"file:{pathname2url(self.path)}?{how}", uri=True, timeout=timeout
            )
            with self.reading() as reader:
                reader.execute("SELECT 1 FROM kv LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection. Errors of SQLite become StoreError."""
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error

    def values(self, clock: Clock) -> SqliteValues:
        """Return the file's values; they can only be read."""
        return SqliteValues(cast("DatabaseFile", self), clock)  # it reads by ``reading`` alone

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
