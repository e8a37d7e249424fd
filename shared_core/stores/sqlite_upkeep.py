"""What keeps an SQLite file small: dead rows go, and what was not used for longest."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import suppress

from shared_core.stores import Clock, StoreError
from shared_core.stores.sqlite_file import DatabaseFile
from shared_core.stores.sqlite_values import sweep_values

SWEEP_EVERY = 1.0
"""Seconds between two looks for what expired."""
SWEEP = 64
"""Dead rows that one write removes at most."""
BATCH = 500
"""Rows that a long deletion removes while it holds the write lock."""
EXPIRED = "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE expires <= ? LIMIT ?)"
BY_USE = "CREATE INDEX IF NOT EXISTS records_by_use ON records (used)"
KEPT_NOTES = 1000
"""Uses and dead rows that are noted at most, until a write."""


class Upkeep:
    """Notes which rows were used or found dead; the next put writes that with its own row."""

    def __init__(self, file: DatabaseFile, max_entries: int | None, clock: Clock) -> None:
        self._file = file
        self._max_entries = max_entries
        self._clock = clock
        self._last_use = 0.0
        self._swept = -math.inf
        self.forget()

    def forget(self) -> None:
        """Drop the notes: they are a parent's to write, or of a file that is no longer there."""
        self._has_index = False
        self._touched: dict[int, float] = {}
        self._dead: set[int] = set()

    def use(self) -> float:
        """Return the time, later than at every call before, so that uses have an order."""
        self._last_use = max(self._clock(), math.nextafter(self._last_use, math.inf))
        return self._last_use

    def touch(self, id: int) -> None:
        """Note that a row was used."""
        if self._max_entries is None:
            return
        self._touched[id] = self.use()
        if len(self._touched) >= KEPT_NOTES:
            self.flush()

    def bury(self, ids: Iterable[int]) -> None:
        """Note rows that are dead."""
        if len(self._dead) < KEPT_NOTES:
            self._dead.update(ids)

    def flush(self) -> None:
        """Write what is noted, unless others write for long."""
        if self._touched or self._dead:
            with suppress(StoreError), self._file.writing() as writer:
                self._write_notes(writer)

    def is_due(self, now: float) -> bool:
        """Say whether the next put has more to do than to put."""
        return self._max_entries is not None or bool(self._dead) or self._is_sweep_due(now)

    def sweep(self, writer: sqlite3.Connection, now: float) -> None:
        """Remove some of what expired or was found dead, and write the last uses."""
        self._write_notes(writer)
        if self._is_sweep_due(now):
            removed = writer.execute(EXPIRED, (now, SWEEP)).rowcount + sweep_values(writer, now)
            # While there is more, every write helps; else one look per second is enough.
            self._swept = -math.inf if removed >= SWEEP else now

    def _is_sweep_due(self, now: float) -> bool:
        return abs(now - self._swept) >= SWEEP_EVERY  # in either direction: clocks are set back

    def _write_notes(self, writer: sqlite3.Connection) -> None:
        if self._dead:
            dead = [(self._dead.pop(),) for _ in range(min(SWEEP, len(self._dead)))]
            writer.executemany("DELETE FROM records WHERE id = ?", dead)
        if self._touched:
            touched, self._touched = self._touched, {}
            uses = [(used, id) for id, used in list(touched.items())]
            writer.executemany("UPDATE records SET used = ? WHERE id = ?", uses)

    def evict(self, writer: sqlite3.Connection, newest: int | None) -> None:
        """Bring the file down to ``max_entries``, sparing the newest row."""
        excess = self._excess(writer)
        if excess:
            if not self._has_index:
                writer.execute(BY_USE)
                self._has_index = True
            self._drop_oldest(writer, newest, excess)

    def tidy(self) -> None:
        """Sweep once, and bring a file that held more down to ``max_entries``, in batches."""
        with self._file.writing() as writer:
            self.sweep(writer, self._clock())
            if self._max_entries is not None:
                writer.execute(BY_USE)
        excess = BATCH + 1
        while excess > BATCH:
            with self._file.writing() as writer:
                excess = self._excess(writer)
                self._drop_oldest(writer, None, min(excess, BATCH))

    def _excess(self, writer: sqlite3.Connection) -> int:
        if self._max_entries is None:
            return 0
        (entries,) = writer.execute("SELECT value FROM meta WHERE name = 'entries'").fetchone()
        return max(0, int(entries) - self._max_entries)

    def _drop_oldest(self, writer: sqlite3.Connection, newest: int | None, count: int) -> None:
        writer.execute(
            "DELETE FROM records WHERE id IN"
            " (SELECT id FROM records WHERE id IS NOT ? ORDER BY used, id LIMIT ?)",
            (newest, count),
        )
