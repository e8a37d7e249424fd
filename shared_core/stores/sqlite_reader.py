"""The small values of an SQLite file, for whoever must change nothing in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.request import pathname2url

from shared_core.stores import Clock, StoreError
from shared_core.stores.sqlite_file import DatabaseFile
from shared_core.stores.sqlite_values import SqliteValues


class ReadOnlyFile:
    """One connection to a file of ``SqliteStore``, which SQLite itself keeps from writing.

    ``timeout`` is in seconds. Raises ValueError if there is no such file, StoreError if it is none
    of ours or cannot be opened.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = os.path.abspath(path)
        if not os.path.isfile(self.path):
            raise ValueError(f"there is no file {self.path!r}: an app makes it at its first use")
        try:
            self._connection = sqlite3.connect(
                f"file:{pathname2url(self.path)}?mode=ro", uri=True, timeout=timeout
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
