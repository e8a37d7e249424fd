"""Index the vectors of an SQLite file in memory, and keep large graphs in files beside it.

There is one index for each scope, made at first use. A graph is kept so that no process makes it
twice: one file, ``NAME-graph-DIGEST``, of what usearch wrote, then what the graph is of, then a
checksum. It is written under another name, synced and renamed, so that a reader finds all of it or
none. A wrong graph could hide a neighbour, but never serve a wrong one: records are read from the
database, and similarities computed from their vectors.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_core.stores.api import StoreError
from shared_core.stores.sqlite.database import DatabaseFile, blob
from shared_core.stores.vectors import ScopeVectors, Shelf

if TYPE_CHECKING:
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

    def search(
        self, scope: str, space: str, vector: Vector, k: int, least: float
    ) -> list[tuple[int, float]]:
        """Return the k nearest row ids with their cosines, nearest first, as of now or later.

        Of all but the nearest, those from the cosine ``least`` on.
        """
        place = (scope, space, len(vector))
        with self._lock:
            index = self._shelf.take(place, lambda: _ScopeIndex(self._file, place))
        # Held while the file is read: else every waiting thread would load a cold scope for itself.
        with index.lock:
            self._catch_up(index, place)
            found = index.vectors.search(vector, k, least)
        with self._lock:
            self._shelf.weigh(place)
        return found

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
            rows = reader.execute(NEWER, (4 * dimension, blob(scope), blob(space), index.last))
            while some := rows.fetchmany(ROWS_AT_ONCE):
                ids = [id for id, vector in some if vector is not None]
                data = b"".join(vector for _, vector in some if vector is not None)
                index.vectors.extend(ids, np.frombuffer(data, "<f4").reshape(-1, dimension))
                index.last = some[-1][0]
            if not first and len(index.vectors) > 2 * index.sure + SPARE:
                there = {id for (id,) in reader.execute(ALL, (blob(scope), blob(space)))}
                index.vectors.discard([id for id in index.vectors.numbers if id not in there])
                first = True
        if first:
            index.sure = len(index.vectors)


def _read(file: DatabaseFile, dimension: int, ids: Sequence[int]) -> Mapping[int, Vector]:
    """Return the vectors of rows, without those that are not there any more."""
    found: dict[int, Vector] = {}
    with file.reading() as reader:
        for start in range(0, len(ids), ROWS_AT_ONCE):
            some = ids[start : start + ROWS_AT_ONCE]
            rows = reader.execute(
                f"SELECT id, vector FROM records WHERE id IN ({','.join('?' * len(some))})",  # noqa: S608
                some,
            )
            for id, vector in rows:
                if isinstance(vector, bytes) and len(vector) == 4 * dimension:
                    found[id] = np.frombuffer(vector, "<f4")
    return found
