"""Index the vectors of an SQLite file in memory; keep what makes that quick in it and beside it.

There is one index for each scope, made at first use. Vectors of a scope are copied into blocks that
lie together, as reading a thousand records to get at theirs takes several times as long. The copies
are rounded, and may be out of date or missing: which rows there are is asked of the records, what
no block has is read from them, and what is found is compared by their vectors.

A graph is kept so that no process makes it twice: one file, ``NAME-graph-DIGEST``, of what usearch
wrote, then what the graph is of, then a checksum. It is written under another name, synced and
renamed, so that a reader finds all of it or none. A wrong graph or block could hide a neighbour,
but never serve a wrong one: records are read from the database, and similarities computed from
their vectors.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_core.stores.api import StoreError
from shared_core.stores.sqlite.database import DatabaseFile, blob
from shared_core.stores.sqlite.file import entries_of, statements
from shared_core.stores.vectors import MORE, ScopeVectors, Shelf

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from shared_core.record import Vector
    from shared_core.stores.vectors import Graph


logger = logging.getLogger("tiered_cache")

MAGIC = b"tiered-cache graph 1"
CLAIM_S = 60.0
"""Seconds without a sign after which another process may make a graph that one began."""
_SAMPLE = 32
"""Newest rows, and rows of any age, by which a graph is known to be of this very file."""
_ROUNDING = 0.01
"""How far a row's square distance may be from that of the file, which is at full precision."""
PIECE = 1 << 20

COUNT = "SELECT count(*) FROM records WHERE scope = ? AND space = ? AND id <= ?"
NEWEST = """SELECT id, vector FROM records WHERE scope = ? AND space = ? AND id <= ?
    AND length(vector) = ? AND typeof(vector) = 'blob' ORDER BY id DESC LIMIT ?"""


@dataclass(frozen=True, slots=True)
class KeptGraph:
    """The file of one scope's graph: a ``Keeper``. ``dimension`` is that of its vectors."""

    file: DatabaseFile
    scope: str
    space: str
    dimension: int
    clock: Callable[[], float] = time.time

    @property
    def path(self) -> str:
        place = f"{len(self.scope)}:{self.scope}:{self.space}:{self.dimension}"
        digest = hashlib.sha256(place.encode(errors="surrogatepass")).hexdigest()[:24]
        return f"{self.file.path}-graph-{digest}"

    def load(self) -> Graph | None:
        found = self.load_with_last()
        return None if found is None else found[0]

    def load_with_last(self) -> tuple[Graph, int] | None:
        """Return the graph and the last row that it knows; None if there is none of this file."""
        from shared_core.stores.vectors import Graph, GraphsUnavailableError

        try:
            trailer = _trailer(self.path, is_checked=True)
            if trailer is None:
                return None
            graph = Graph.load(self.path, self.dimension)
            if not self._is_of_this_file(graph, trailer["last"]):
                logger.info("%s is of other entries, and is made anew", self.path)
                return None
        except (OSError, ValueError, KeyError, RuntimeError, StoreError, GraphsUnavailableError):
            return None
        return graph, trailer["last"]

    def _is_of_this_file(self, graph: Graph, last: int) -> bool:
        """Compare numbers and some rows with the file's: another may have come to its place."""
        import numpy as np

        place = (blob(self.scope), blob(self.space), last)
        with self.file.reading() as reader:
            (rows,) = reader.execute(COUNT, place).fetchone()
            newest = reader.execute(NEWEST, (*place, 4 * self.dimension, _SAMPLE)).fetchall()
            some = graph.numbers[:: max(1, graph.size // _SAMPLE)].tolist()
            marks = ",".join("?" * len(some))
            older = reader.execute(
                f"SELECT id, vector FROM records WHERE id IN ({marks})",  # noqa: S608
                some,
            ).fetchall()
        if not graph.size / 2 <= rows <= graph.size * 2:
            return False
        ids = np.array([id for id, _ in newest + older], np.uint64)
        there = np.frombuffer(b"".join(vector for _, vector in newest + older), "<f4")
        there = there.reshape(len(ids), self.dimension)
        finite = np.isfinite(there).all(axis=1)  # no graph has others
        ids, there = ids[finite], there[finite]
        if not len(ids) or not graph.holds(ids).all():
            return False
        apart = there - graph.vectors(ids).astype(np.float32)
        return bool((np.square(apart).sum(axis=1) < _ROUNDING).all())

    def claim(self) -> bool:
        try:
            with suppress(FileNotFoundError):
                if abs(self.clock() - os.stat(self._claimed).st_mtime) > CLAIM_S:
                    os.unlink(self._claimed)
            os.close(os.open(self._claimed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError:  # another makes it; or the folder is not ours to write to
            return False
        return True

    def still_claims(self) -> None:
        with suppress(OSError):
            os.utime(self._claimed)

    @property
    def _claimed(self) -> str:
        return self.path + ".claim"

    def keep(self, graph: Graph, last: int) -> None:
        part = f"{self.path}.{os.getpid()}.part"
        trailer = {"scope": blob(self.scope).hex(), "space": blob(self.space).hex(), "last": last}
        try:
            os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
            graph.save(part)
            _seal(part, json.dumps(trailer).encode())
            os.replace(part, self.path)
        except (OSError, RuntimeError) as error:  # full, say: the graph is in memory all the same
            logger.warning("%s could not be written: %s", self.path, error)
            with suppress(OSError):
                os.unlink(part)
        finally:
            with suppress(OSError):
                os.unlink(self._claimed)


def drop_unused(file: DatabaseFile) -> None:
    """Delete the graphs of scopes that have no entry any more, and what is no graph."""
    for path in glob.glob(glob.escape(file.path) + "-graph-*"):
        if path.endswith((".claim", ".part")):
            continue  # of one who is at it
        with suppress(OSError, StoreError, sqlite3.Error):
            if not _is_used(file, path):
                os.unlink(path)


def _is_used(file: DatabaseFile, path: str) -> bool:
    trailer = _trailer(path, is_checked=False)
    if trailer is None:
        return False
    place = (bytes.fromhex(trailer["scope"]), bytes.fromhex(trailer["space"]))
    with file.reading() as reader:
        found = reader.execute("SELECT 1 FROM records WHERE scope = ? AND space = ?", place)
        return found.fetchone() is not None


def _seal(path: str, trailer: bytes) -> None:
    """Add what the graph is of, and the checksum of all; have it on the disk."""
    with open(path, "r+b") as file:
        check = _checksum(file)
        file.seek(0, os.SEEK_END)
        length = len(trailer).to_bytes(4, "little")
        check = zlib.crc32(trailer + length + MAGIC, check)
        file.write(trailer + length + MAGIC + check.to_bytes(4, "little"))
        file.flush()
        os.fsync(file.fileno())


def _trailer(path: str, *, is_checked: bool) -> dict[str, Any] | None:
    """Read what a graph is of; None if the file is not whole. Raises OSError if there is none."""
    tail = 4 + len(MAGIC) + 4
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < tail:
            return None
        file.seek(size - tail)
        ending = file.read(tail)
        if ending[4:-4] != MAGIC:
            return None
        length = int.from_bytes(ending[:4], "little")
        if length > size - tail:
            return None
        file.seek(size - tail - length)
        data = file.read(length)
        file.seek(0)
        if is_checked and _checksum(file, size - 4) != int.from_bytes(ending[-4:], "little"):
            return None
    found = json.loads(data)
    return found if isinstance(found, dict) else None


def _checksum(file: Any, size: int | None = None) -> int:
    check, left = 0, size
    while piece := file.read(PIECE if left is None else min(PIECE, left)):
        check = zlib.crc32(piece, check)
        left = None if left is None else left - len(piece)
    return check


CAPACITY = 512 * 2**20
"""Bytes of all indexes of one store together; the least recently used go first."""
ROWS_AT_ONCE = 2000

# Vectors of another length in this space come as NULL: they are skipped, and not asked for again.
NEWER = """SELECT id, CASE WHEN length(vector) = ? AND typeof(vector) = 'blob' THEN vector END
    FROM records WHERE scope = ? AND space = ? AND id > ? ORDER BY id"""
ALL = "SELECT id FROM records WHERE scope = ? AND space = ?"
LISTED = "SELECT group_concat(id) FROM records WHERE scope = ? AND space = ?"
"""The same in one text, read in a third of the time."""
SPARE = 64

_Place = tuple[str, str, int]
"""Scope, space and dimension: vectors are compared only within one."""


class _ScopeIndex:
    """The vectors of one place up to the change ``last``, and the lock that guards both."""

    def __init__(self, file: DatabaseFile, place: _Place) -> None:
        self.lock = threading.Lock()
        self.kept = KeptGraph(file, *place)
        self.vectors = ScopeVectors(place[2], lambda ids: _read(file, place[2], ids), self.kept)
        self.last = 0
        self.error = 0.0
        """How far a cosine may be off: some vectors came from blocks, rounded."""
        self.sure = 0
        """How many rows there were when the dead ones were last dropped."""


class ScopeIndexes:
    """Nearest rows of a file by scope. What they return may be dead: the file knows, read it back.

    Rows are never changed in place (a replaced record is a new row with a larger id), so that an
    index lacks only what is above the last id it has seen, and a row that is no longer there is
    dead for good.
    """

    def __init__(self, file: DatabaseFile, capacity: int = CAPACITY) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._shelf = Shelf[_Place, _ScopeIndex](capacity, lambda index: index.vectors.nbytes)
        self.scattered: set[_Place] = set()
        """Places of which many rows were read one by one: they are worth packing."""

    def search(
        self, scope: str, space: str, vector: Vector, k: int, least: float
    ) -> tuple[list[tuple[int, float]], float]:
        """Return the k nearest row ids with their cosines, nearest first, as of now or later.

        Of all but the nearest, those from the cosine ``least`` on. The number after them says by
        how much a cosine may be off; some more than k come then, for ``exactly`` to choose from.
        """
        place = (scope, space, len(vector))
        with self._lock:
            index = self._shelf.take(place, lambda: _ScopeIndex(self._file, place))
        # Held while the file is read: else every waiting thread would load a cold scope for itself.
        with index.lock:
            self._catch_up(index, place)
            more = MORE if index.error and k > 0 else 0
            found = index.vectors.search(vector, k + more, least - index.error)
        with self._lock:
            self._shelf.weigh(place)
        return found, index.error

    def discard(self, scope: str, space: str, dimension: int, ids: Sequence[int]) -> None:
        """Forget rows that were found dead."""
        place = (scope, space, dimension)
        with self._lock:
            index = self._shelf.take(place, lambda: _ScopeIndex(self._file, place))
        index.vectors.discard(ids)

    def _catch_up(self, index: _ScopeIndex, place: _Place) -> None:
        """Add what is new; when as much came again as there was, drop what is gone by now."""
        scope, space, dimension = place
        first = index.last == 0
        if first and (kept := index.kept.load_with_last()) is not None:
            graph, index.last = kept
            index.vectors.use(graph)
        with self._file.reading() as reader:
            scattered = self._load_blocks(reader, index, place) if index.last == 0 else -math.inf
            rows = reader.execute(NEWER, (4 * dimension, blob(scope), blob(space), index.last))
            while some := rows.fetchmany(ROWS_AT_ONCE):
                _extend(index.vectors, some, dimension)
                index.last = some[-1][0]
                scattered += len(some)
            if not first and len(index.vectors) > 2 * index.sure + SPARE:
                there = {id for (id,) in reader.execute(ALL, (blob(scope), blob(space)))}
                index.vectors.discard([id for id in index.vectors.numbers if id not in there])
                first = True
        if first:
            index.sure = len(index.vectors)
        if scattered >= 2 * PACK_FROM:
            self.scattered.add(place)

    def _load_blocks(self, reader: sqlite3.Connection, index: _ScopeIndex, place: _Place) -> int:
        """Fill an index from the blocks of its place, if there are any, and what they lack.

        Return how many rows could be packed as well.
        """
        last = _last_packed(reader, place) if has_packed(reader) else 0
        if not last:
            return 0
        (listed,) = reader.execute(LISTED, (blob(place[0]), blob(place[1]))).fetchone()
        there = (
            np.sort(np.fromstring(listed, np.int64, sep=",")) if listed else np.empty(0, np.int64)
        )
        index.error = 0.5 / _STEPS * math.sqrt(place[2]) + 1e-6
        index.last = int(there[-1]) if len(there) else 0
        index.vectors.reserve(len(there))
        held = np.zeros(len(there), np.bool_)
        for ids, vectors in _blocks(reader, place):
            at = np.minimum(np.searchsorted(there, ids), len(there) - 1)
            fits = (there[at] == ids) & ~held[at] if len(there) else np.zeros(len(ids), np.bool_)
            held[at[fits]] = True
            index.vectors.extend(ids[fits].tolist(), vectors if fits.all() else vectors[fits])
        missing = there[~held]
        for start in range(0, len(missing), ROWS_AT_ONCE):
            some = missing[start : start + ROWS_AT_ONCE].tolist()
            _extend(index.vectors, _rows(reader, some), place[2])
        return int(np.count_nonzero(missing > last))


def _extend(
    vectors: ScopeVectors, rows: Sequence[tuple[int, bytes | None]], dimension: int
) -> None:
    """Add rows, without those whose vector is of another length."""
    fitting = [
        (id, one) for id, one in rows if isinstance(one, bytes) and len(one) == 4 * dimension
    ]
    data = b"".join(one for _, one in fitting)
    vectors.extend([id for id, _ in fitting], np.frombuffer(data, "<f4").reshape(-1, dimension))


def _rows(reader: sqlite3.Connection, ids: Sequence[int]) -> list[tuple[int, bytes | None]]:
    marks = ",".join("?" * len(ids))
    found = reader.execute(f"SELECT id, vector FROM records WHERE id IN ({marks})", ids)  # noqa: S608
    return found.fetchall()


def _read(file: DatabaseFile, dimension: int, ids: Sequence[int]) -> Mapping[int, Vector]:
    """Return the vectors of rows, without those that are not there any more."""
    found: dict[int, Vector] = {}
    with file.reading() as reader:
        for start in range(0, len(ids), ROWS_AT_ONCE):
            for id, vector in _rows(reader, ids[start : start + ROWS_AT_ONCE]):
                if isinstance(vector, bytes) and len(vector) == 4 * dimension:
                    found[id] = np.frombuffer(vector, "<f4")
    return found


# Blocks: copies of the vectors of a scope, some hundred together.


PACKED_ABOVE = CAPACITY // 2
"""Bytes of all vectors of a file from which packing is worth its time.

Below, the indexes of all scopes are held in memory, and each is read once in a process.
"""
PACK_FROM = 64
"""Rows of a scope outside of its blocks that are worth a block of their own."""
MAX_PACKED = 256
"""Rows of a block."""
PACKED_AT_ONCE = 512
"""Rows that one put packs at most, in some milliseconds."""
_STEPS = 32767
"""A component of a vector of length 1 is kept as a whole number of steps, in two bytes."""
GONE_TOGETHER = 64
"""Blocks that are deleted while the write lock is held."""

PACKED = """
CREATE TABLE IF NOT EXISTS packed (
    block INTEGER PRIMARY KEY,
    scope BLOB NOT NULL,
    space BLOB NOT NULL,
    dimension INTEGER NOT NULL,
    last INTEGER NOT NULL,
    ids BLOB NOT NULL,
    vectors BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS packed_by_place ON packed (scope, space, dimension, last);
"""
"""Made with the first block: a file without it is one of an earlier version, or small."""
HAS_PACKED = "SELECT 1 FROM sqlite_master WHERE name = 'packed_by_place'"
# The casts are for damage: a column whose type is not a blob's cannot always be read.
BLOCKS = """SELECT CAST(ids AS BLOB), CAST(vectors AS BLOB) FROM packed
    WHERE scope = ? AND space = ? AND dimension = ? ORDER BY last"""
LAST_PACKED = "SELECT max(last) FROM packed WHERE scope = ? AND space = ? AND dimension = ?"
ADD_BLOCK = """INSERT INTO packed (scope, space, dimension, last, ids, vectors)
    VALUES (?, ?, ?, ?, ?, ?)"""
COUNT_ABOVE = "SELECT count(*) FROM records WHERE scope = ? AND space = ? AND id > ?"
SOME_BLOCK = """SELECT block, scope, space, dimension, last, CAST(ids AS BLOB) FROM packed
    WHERE block >= (SELECT max(block) FROM packed) * ? ORDER BY block LIMIT 1"""
OF_BLOCK = "SELECT CAST(vectors AS BLOB) FROM packed WHERE block = ?"
OF_NO_RECORD = """SELECT block FROM packed WHERE NOT EXISTS (SELECT 1 FROM records
    WHERE records.scope = packed.scope AND records.space = packed.space)"""


def pack(file: DatabaseFile, place: _Place, chance: float) -> bool:
    """Copy what is new in a place into blocks, if it is worth it; say whether there may be more.

    Two other blocks, which ``chance`` from 0 to 1 chooses, lose their copies of what is gone, so
    that all together hold about twice what is there. Raises StoreError.
    """
    scope, space, dimension = blob(place[0]), blob(place[1]), place[2]
    if not _has_bytes(file.path, PACKED_ABOVE):  # asked of the folder, in 1 us
        return False
    with file.reading() as reader:
        if 4 * dimension * entries_of(reader) < PACKED_ABOVE:
            return False
        is_there = has_packed(reader)
        last = _last_packed(reader, place) if is_there else 0
        (new,) = reader.execute(COUNT_ABOVE, (scope, space, last)).fetchone()
        if new < PACK_FROM:
            return False
        above = (4 * dimension, scope, space, last, PACKED_AT_ONCE)
        rows = reader.execute(f"{NEWER} LIMIT ?", above).fetchall()
    blocks = [
        (scope, space, dimension, *_block(rows[start : start + MAX_PACKED], dimension))
        for start in range(0, len(rows), MAX_PACKED)
    ]
    with file.writing() as writer:
        for statement in () if is_there else statements(PACKED):
            writer.execute(statement)
        if _last_packed(writer, place) == last:  # else another process packed them
            for part in (chance, (chance + 0.5) % 1):
                _shrink_some(writer, part)
            writer.executemany(ADD_BLOCK, blocks)
    return int(new) > PACKED_AT_ONCE


def _has_bytes(path: str, least: int) -> bool:
    try:
        return os.path.getsize(path) >= least
    except OSError:
        return False


def drop_unused_blocks(file: DatabaseFile) -> None:
    """Delete the blocks of places that have no record any more. Raises StoreError."""
    with file.reading() as reader:
        blocks = reader.execute(OF_NO_RECORD).fetchall() if has_packed(reader) else []
    for start in range(0, len(blocks), GONE_TOGETHER):
        with file.writing() as writer:
            there = f"{OF_NO_RECORD} AND block = ?"  # a record may have come to it
            for (block,) in blocks[start : start + GONE_TOGETHER]:
                writer.execute(f"DELETE FROM packed WHERE block IN ({there})", (block,))  # noqa: S608


def has_packed(reader: sqlite3.Connection) -> bool:
    """Say whether the file has a table of blocks."""
    return reader.execute(HAS_PACKED).fetchone() is not None


def _last_packed(reader: sqlite3.Connection, place: _Place) -> int:
    """Return the last row of a place that its blocks know of, 0 if there are none."""
    (last,) = reader.execute(LAST_PACKED, (blob(place[0]), blob(place[1]), place[2])).fetchone()
    return last if isinstance(last, int) else 0


def _block(rows: Sequence[tuple[int, bytes | None]], dimension: int) -> tuple[int, bytes, bytes]:
    """Return the last row, and numbers and vectors of those that have one of length 1."""
    fitting = [(id, vector) for id, vector in rows if vector is not None]
    vectors = np.frombuffer(b"".join(vector for _, vector in fitting), "<f4")
    vectors = vectors.reshape(-1, dimension)
    fits = (np.abs(vectors) <= 1).all(axis=1)  # not for a NaN
    ids = np.array([id for id, _ in fitting], "<i8")[fits]
    return rows[-1][0], ids.tobytes(), np.rint(vectors[fits] * _STEPS).astype("<i2").tobytes()


def _blocks(
    reader: sqlite3.Connection, place: _Place
) -> Iterator[tuple[NDArray[np.int64], NDArray[float32]]]:
    """Yield numbers and vectors of a place, some thousand rows at a time."""
    scope, space, dimension = blob(place[0]), blob(place[1]), place[2]
    rows = reader.execute(BLOCKS, (scope, space, dimension))
    while some := rows.fetchmany(ROWS_AT_ONCE // PACK_FROM):
        whole = [(ids, steps) for ids, steps in some if _is_whole(ids, steps, dimension)]
        ids = np.frombuffer(b"".join(ids for ids, _ in whole), "<i8")
        steps = np.frombuffer(b"".join(steps for _, steps in whole), "<i2")
        vectors = steps.reshape(-1, dimension).astype(np.float32)
        vectors *= 1 / _STEPS
        yield ids, vectors


def _is_whole(ids: object, steps: object, dimension: object) -> bool:
    """Say whether a block can be what was written; else its rows are read one by one."""
    if not (isinstance(ids, bytes) and isinstance(steps, bytes) and isinstance(dimension, int)):
        return False
    if len(ids) % 8 or len(steps) != len(ids) // 8 * 2 * dimension:
        return False
    return bool((np.diff(np.frombuffer(ids, "<i8")) > 0).all())


def _shrink_some(writer: sqlite3.Connection, part: float) -> None:
    """Take what is gone out of a block, if that is more than half of it."""
    found = writer.execute(SOME_BLOCK, (part,)).fetchone()
    if found is None:
        return
    block, scope, space, dimension, last, data = found
    ids = np.frombuffer(data if isinstance(data, bytes) and not len(data) % 8 else b"", "<i8")
    first = int(ids[0]) if len(ids) else last
    rows = writer.execute(f"{ALL} AND id BETWEEN ? AND ?", (scope, space, first, last))
    held = np.isin(ids, np.fromiter((id for (id,) in rows), np.int64))
    if 2 * np.count_nonzero(held) >= len(ids) > 0:
        return
    (steps,) = writer.execute(OF_BLOCK, (block,)).fetchone()
    if held.any() and _is_whole(data, steps, dimension):
        left = np.frombuffer(steps, "<i2").reshape(-1, dimension)[held]
        shrunk = (ids[held].tobytes(), left.tobytes(), block)
        writer.execute("UPDATE packed SET ids = ?, vectors = ? WHERE block = ?", shrunk)
    else:
        writer.execute("DELETE FROM packed WHERE block = ?", (block,))
