"""Keep records and small values in one SQLite file, within bounds, for many threads and processes.

SqliteValues   the values under text keys       ReadOnlyFile   a file that must not be changed
Eviction       what is dead or unused goes      SqliteStore    all of it
"""

from __future__ import annotations

import math
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast
from urllib.request import pathname2url

from shared_core.record import Neighbour, Record, is_fresh
from shared_core.stores.api import LABELS_PER_ID, Clock, Selector, StoreError, StoreInfo, epoch_key
from shared_core.stores.codec import Codec, UndecodableError
from shared_core.stores.sqlite.database import DatabaseFile, DiskFull, blob, text
from shared_core.stores.sqlite.file import entries_of

if TYPE_CHECKING:
    from shared_core.record import Vector
    from shared_core.stores.sqlite.index import ScopeIndexes


SWEEP = 64
"""Expired values, and dead rows, that one write removes at most."""
_PAGE = 1000
AFTER_ALL = b"\xff"
"""Larger than every continuation of a prefix: UTF-8 has no such byte."""

GET_VALUE = "SELECT value, expires FROM kv WHERE key = ? AND (expires IS NULL OR expires > ?)"
PUT_VALUE = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?)"
ADD_VALUE = """INSERT INTO kv VALUES (?1, ?2, ?3) ON CONFLICT (key)
    DO UPDATE SET value = excluded.value, expires = excluded.expires WHERE kv.expires <= ?4"""


class SqliteValues:
    """Values under text keys in one file; the promises are those of ``KeyValue``."""

    def __init__(self, file: DatabaseFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        now = self._clock()
        found: dict[str, bytes] = {}
        reader = self._file.take()
        try:
            for key in keys:  # one prepared statement per key is faster than IN with a list
                row = reader.execute(GET_VALUE, (blob(key), now)).fetchone()
                if row is not None:
                    found[key] = row[0]
        except sqlite3.Error as error:
            raise self._file.failure(error) from error
        finally:
            self._file.give_back(reader)
        return found

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        now = self._clock()
        expires = None if ttl is None else now + ttl
        with self._file.writing() as writer:
            sweep_values(writer, now)
            writer.executemany(
                PUT_VALUE, [(blob(key), value, expires) for key, value in items.items()]
            )

    def delete_many(self, keys: Sequence[str]) -> int:
        now = self._clock()
        there = 0
        with self._file.writing() as writer:
            for key in keys:
                there += writer.execute(GET_VALUE, (blob(key), now)).fetchone() is not None
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
        return self._file.write(ADD_VALUE, (blob(key), value, expires, now)) == 1

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        now = self._clock()
        sums: dict[str, int] = {}
        with self._file.writing() as writer:
            for key, amount in amounts.items():
                row = writer.execute(GET_VALUE, (blob(key), now)).fetchone() or (b"0", None)
                try:
                    sums[key] = int(row[0]) + amount
                except ValueError:
                    raise StoreError(f"the value of {key!r} is not an integer") from None
                writer.execute(PUT_VALUE, (blob(key), b"%d" % sums[key], row[1]))
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
            raise self.failure(error) from error

    def take(self) -> sqlite3.Connection:
        """Return the connection, as ``DatabaseFile`` does a reader."""
        return self._connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Do nothing: there is one connection, until ``close``."""

    def failure(self, error: sqlite3.Error) -> StoreError:
        """Say what went wrong and with which file."""
        return StoreError(f"{self.path}: {error}")

    def values(self, clock: Clock) -> SqliteValues:
        """Return the file's values; they can only be read."""
        return SqliteValues(cast("DatabaseFile", self), clock)  # it needs the reading part alone

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# What keeps an SQLite file small: dead rows go, and what was not used for longest.


SWEEP_EVERY = 1.0
"""Seconds between two looks for what expired."""
MAX_COPIED = 64 * 2**20
"""Bytes that are held in memory to get rid of others on a full disk."""
BATCH = 500
"""Rows that a long deletion removes while it holds the write lock."""
EXPIRED = "DELETE FROM records WHERE id IN (SELECT id FROM records WHERE expires <= ? LIMIT ?)"
BY_USE = "CREATE INDEX IF NOT EXISTS records_by_use ON records (used)"
MAX_NOTES = 1000
"""Uses and dead rows that are noted at most, until a write."""


class Eviction:
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
        if len(self._touched) >= MAX_NOTES:
            self.flush()

    def bury(self, ids: Iterable[int]) -> None:
        """Note rows that are dead."""
        if len(self._dead) < MAX_NOTES:
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
        return max(0, entries_of(writer) - self._max_entries)

    def _drop_oldest(self, writer: sqlite3.Connection, newest: int | None, count: int) -> None:
        writer.execute(
            "DELETE FROM records WHERE id IN"
            " (SELECT id FROM records WHERE id IS NOT ? ORDER BY used, id LIMIT ?)",
            (newest, count),
        )


LIVE = """(expires IS NULL OR expires > ?) AND NOT EXISTS (
    SELECT 1 FROM tags LEFT JOIN kv ON kv.key = tags.counter
    WHERE tags.record = records.id AND coalesce(kv.value, x'30') <> tags.epoch)"""
_GET = f"SELECT id, body, vector FROM records WHERE key = ? AND {LIVE}"  # noqa: S608 - constants
GET_BY_ID = f"SELECT id, body, vector FROM records WHERE id = ? AND {LIVE}"  # noqa: S608 - constants
BROWSE = f"""SELECT id, body, vector FROM records WHERE namespace = ? AND id < ? AND {LIVE}
    ORDER BY id DESC LIMIT ?"""  # noqa: S608 - constants
PAGE, BEYOND = 200, 2**63 - 1
_PUT = """INSERT OR REPLACE INTO records
    (key, scope, space, namespace, model, created, expires, used, body, vector)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
PACK_CHANCE = 1 / 32
"""Share of the puts that look whether the vectors of their scope are worth packing."""
INSERT_TAG = """INSERT OR IGNORE INTO tags
    VALUES (?1, ?2, coalesce((SELECT value FROM kv WHERE key = ?2), x'30'))"""


class SqliteStore(SqliteValues):
    """Records and values in a file that survives restarts and kill -9.

    What a call has written is seen by every process at once and outlives the process; a power cut
    may take the last moments before it (``synchronous = NORMAL``), never the file's consistency.
    Vectors are searched in this process, by an index per scope that first catches up with the
    file.

    Last uses are kept in memory and written with the next put, so that a read writes nothing; only
    objects with ``max_entries`` note them, so that all objects on one file should be given the
    same.
    """

    def __init__(
        self,
        path: str,
        *,
        max_entries: int | None = None,
        timeout: float = 0.25,
        codec: Codec | None = None,
        clock: Clock = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        file = DatabaseFile(path, timeout=timeout, rng=rng, start_fresh=self._start_fresh)
        super().__init__(file, clock)
        self._rng = rng
        self._eviction = Eviction(self._file, max_entries, clock)
        self._codec = codec or Codec()
        self._start_fresh()
        with suppress(StoreError):  # others write at length; the next put tidies up as well
            self._eviction.tidy()

    def _start_fresh(self) -> None:
        """Drop what another thread may have been changing at a fork."""
        self._eviction.forget()
        self._indexes: ScopeIndexes | None = None
        self._making = threading.Lock()

    def get(self, key: str) -> Record | None:
        now = self._clock()
        reader = self._file.take()
        try:
            row = reader.execute(_GET, (blob(key), now)).fetchone()
        except sqlite3.Error as error:
            raise self._file.failure(error) from error
        finally:
            self._file.give_back(reader)
        if row is None:
            return None
        record = self._decode(row)
        if record is None or record.key != key or not is_fresh(record, now):
            self._eviction.bury([row[0]])
            self._eviction.flush()
            return None
        self._eviction.touch(row[0])
        return record

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float = -1.0
    ) -> list[Neighbour]:
        wanted = k
        while True:
            indexes = self._indexes or self._make_indexes()
            candidates, error = indexes.search(scope, space, vector, wanted, least)
            found, dead = self._read_back(candidates, error, scope, space, vector, k)
            if indexes is not self._indexes:
                continue  # another file was put in the place of this one
            if not dead:
                if found:
                    self._eviction.touch(found[0][0])
                return [neighbour for _, neighbour in found]
            # The dead never live again. What replaced them may be newer than the index: search
            # anew.
            indexes.discard(scope, space, len(vector), dead)
            self._eviction.bury(dead)
            wanted = k + 3 * len(dead)

    def _read_back(
        self,
        candidates: Sequence[tuple[int, float]],
        error: float,
        scope: str,
        space: str,
        vector: Vector,
        k: int,
    ) -> tuple[list[tuple[int, Neighbour]], list[int]]:
        """Read the first k live candidates; return them by row id, and the dead ones met.

        With an error of their cosines, those that may be among the k are read too, and compared by
        the records' own vectors.
        """
        found: list[tuple[int, Neighbour]] = []
        dead: list[int] = []
        now = self._clock()
        least = -2.0
        with self._file.reading() as reader:
            for id, similarity in candidates:
                if len(found) >= k and (not error or similarity < least):
                    break
                row = reader.execute(GET_BY_ID, (id, now)).fetchone()
                record = None if row is None else self._decode(row)
                is_of_place = record is not None and (record.scope, record.space) == (scope, space)
                if record is None or not is_of_place or not is_fresh(record, now):
                    dead.append(id)
                    continue
                exact = similarity
                if error and record.vector is not None and len(record.vector) == len(vector):
                    exact = min(1.0, max(-1.0, float(record.vector.dot(vector))))
                found.append((id, Neighbour(record, exact)))
                if len(found) == k:
                    least = similarity - 2 * error
        if error:
            found.sort(key=lambda one: -one[1].similarity)
        return found[:k], dead

    def put(self, record: Record) -> None:
        now = self._clock()
        body = self._codec.encode(record)
        vector = record.vector
        names = (record.key, record.scope, record.space, record.namespace, record.model)
        row = (
            *map(blob, names),
            *(record.created, record.expires, self._eviction.use(), body),
            None if vector is None else vector.astype("<f4").tobytes(),
        )
        counters = [blob(epoch_key(record.namespace, tag)) for tag in record.tags]
        if not counters and not self._eviction.is_due(now):
            self._file.write(_PUT, row)
        else:
            with self._file.writing() as writer:
                self._eviction.sweep(writer, now)
                id = writer.execute(_PUT, row).lastrowid
                for counter in counters:
                    writer.execute(INSERT_TAG, (id, counter))
                self._eviction.evict(writer, id)
        if vector is not None:
            self._pack_some((record.scope, record.space, len(vector)))

    def _pack_some(self, place: tuple[str, str, int]) -> None:
        """Now and then, lay the vectors of a scope together, which searches read faster.

        It is no part of the put: where it fails, nothing is missing but time.
        """
        scattered = self._indexes.scattered if self._indexes is not None else None
        chance = self._rng()
        if chance >= PACK_CHANCE and not scattered:
            return
        from shared_core.stores.sqlite.index import pack  # loads numpy

        with suppress(StoreError, KeyError):  # another thread took the last
            place = scattered.pop() if scattered else place
            if pack(self._file, place, chance / PACK_CHANCE % 1) and scattered is not None:
                scattered.add(place)

    def delete(self, selector: Selector) -> int:
        """Delete in batches, so that other writers wait for one batch at most."""
        where, values = _condition(selector)
        now = self._clock()
        live = 0
        with self._file.reading() as reader:
            rows = reader.execute(f"SELECT id FROM records WHERE {where}", values)  # noqa: S608
            ids = sorted(id for (id,) in rows)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]  # a row never changes: what matched still does
            try:
                live += self._delete_rows(some, now)
            except DiskFull:
                live += self._delete_without_room(ids[start:], now)
                break
        if ids and selector.key is None:
            from shared_core.stores.sqlite.index import drop_unused, drop_unused_blocks

            drop_unused(self._file)  # both load numpy
            with suppress(StoreError):
                drop_unused_blocks(self._file)
        return live

    def _delete_rows(self, ids: Sequence[int], now: float) -> int:
        """Delete rows and return how many lived."""
        these = f"FROM records WHERE id IN ({','.join('?' * len(ids))})"
        with self._file.writing() as writer:
            counted = writer.execute(f"SELECT count(*) {these} AND {LIVE}", (*ids, now))
            live = int(counted.fetchone()[0])
            writer.execute(f"DELETE {these}", ids)
        return live

    def _delete_without_room(self, ids: Sequence[int], now: float) -> int:
        """Do the same where the disk is too full to delete: put a file without them in its place.

        Raises StoreError if the rest is too much to hold in memory.
        """
        gone, live = set(ids), 0

        def copy(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
            nonlocal live
            living = dict(old.execute(f"SELECT id, {LIVE} FROM records", (now,)))  # noqa: S608
            live = sum(living.get(id, 0) for id in gone)
            kept = [id for id, lives in living.items() if lives and id not in gone]
            for start in range(0, len(kept), BATCH):
                some = kept[start : start + BATCH]
                _copy_rows(old, new, "records", "id", some)
                _copy_rows(old, new, "tags", "record", some)
            for table in ("kv", "labels", "sqlite_sequence"):
                _copy_rows(old, new, table)

        self._file.replace(copy)
        return live

    def load_state(self, ids: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
        with self._file.reading() as reader:
            return {
                id: [
                    (number, text(label))
                    for number, label in reader.execute(
                        "SELECT number, label FROM labels WHERE id = ? AND number > ?"
                        " ORDER BY number",
                        (blob(id), after),
                    )
                ]
                for id, after in ids.items()
            }

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        if not labels:
            return
        name = blob(id)
        with self._file.writing() as writer:
            (last,) = writer.execute(
                "SELECT coalesce(max(number), 0) FROM labels WHERE id = ?", (name,)
            ).fetchone()
            writer.executemany(
                "INSERT INTO labels VALUES (?, ?, ?)",
                [(name, number, blob(label)) for number, label in enumerate(labels, last + 1)],
            )
            excess = last + len(labels) - LABELS_PER_ID
            if excess > 0:
                writer.execute("DELETE FROM labels WHERE id = ? AND number <= ?", (name, excess))

    def browse(self, namespace: str, cursor: str = "") -> tuple[list[Record], str]:
        """Return the newest first."""
        page = (blob(namespace), int(cursor or BEYOND), self._clock(), PAGE)
        with self._file.reading() as reader:
            rows = reader.execute(BROWSE, page).fetchall()
        found = [record for row in rows if (record := self._decode(row)) is not None]
        return found, str(rows[-1][0]) if len(rows) == PAGE else ""

    def info(self) -> StoreInfo:
        with self._file.reading() as reader:
            entries = entries_of(reader)
            (pages,) = reader.execute("PRAGMA page_count").fetchone()
            (size,) = reader.execute("PRAGMA page_size").fetchone()
        return StoreInfo("sqlite", self._file.path, entries, pages * size)

    def close(self) -> None:
        self._eviction.flush()
        self._indexes = None  # a thread that makes a graph ends
        self._file.close()

    def _make_indexes(self) -> ScopeIndexes:
        from shared_core.stores.sqlite.index import ScopeIndexes  # loads numpy

        with self._making:
            if self._indexes is None:
                self._indexes = ScopeIndexes(self._file)
            return self._indexes

    def _decode(self, row: tuple[int, bytes, bytes | None]) -> Record | None:
        _, body, vector = row
        try:
            if vector is None:
                return self._codec.decode(body)
            import numpy as np

            return self._codec.decode(body, np.frombuffer(vector, "<f4"))
        except (UndecodableError, ValueError, TypeError):  # a vector cut off, or of another type
            return None


def _copy_rows(
    old: sqlite3.Connection,
    new: sqlite3.Connection,
    table: str,
    column: str = "",
    values: Sequence[int] = (),
) -> None:
    """Copy rows, all or those of some values. Raises StoreError when it becomes too much."""
    where = f"WHERE {column} IN ({','.join('?' * len(values))})" if column else ""
    rows = old.execute(f"SELECT * FROM {table} {where}", values)  # noqa: S608 - constants
    if table == "sqlite_sequence":
        new.execute("DELETE FROM sqlite_sequence")
    while some := rows.fetchmany(BATCH):
        marks = ",".join("?" * len(some[0]))
        new.executemany(f"INSERT INTO {table} VALUES ({marks})", some)  # noqa: S608 - constants
        (pages,) = new.execute("PRAGMA page_count").fetchone()
        (size,) = new.execute("PRAGMA page_size").fetchone()
        if pages * size > MAX_COPIED:
            raise StoreError("the disk is full, and what is kept is too much for memory")


def _condition(selector: Selector) -> tuple[str, list[bytes | float]]:
    """Return the WHERE clause of a selector, and its values."""
    terms = ["namespace = ?"]
    values: list[bytes | float] = [blob(selector.namespace)]
    for column, wanted in (
        ("key", selector.key),
        ("model", selector.model),
        ("scope", selector.scope),
    ):
        if wanted is not None:
            terms.append(f"{column} = ?")
            values.append(blob(wanted))
    if selector.tag is not None:
        terms.append("id IN (SELECT record FROM tags WHERE counter = ?)")
        values.append(blob(epoch_key(selector.namespace, selector.tag)))
    if selector.key_prefix is not None:
        terms.append("key >= ? AND key < ?")
        values += [blob(selector.key_prefix), blob(selector.key_prefix) + AFTER_ALL]
    if selector.created_before is not None:
        terms.append("created < ?")
        values.append(selector.created_before)
    return " AND ".join(terms), values
