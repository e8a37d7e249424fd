"""Keep graphs in files beside an SQLite file, so that no process makes them twice.

A graph is one file, ``NAME-graph-DIGEST``: what usearch wrote, then what the graph is of, then a
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
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared_core.stores.api import StoreError
from shared_core.stores.sqlite.database import DatabaseFile, blob

if TYPE_CHECKING:
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
            told = _trailer(self.path, is_checked=True)
            if told is None:
                return None
            graph = Graph.load(self.path, self.dimension)
            if not self._is_of_this_file(graph, told["last"]):
                logger.info("%s is of other entries, and is made anew", self.path)
                return None
        except (OSError, ValueError, KeyError, RuntimeError, StoreError, GraphsUnavailableError):
            return None
        return graph, told["last"]

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
        told = {"scope": blob(self.scope).hex(), "space": blob(self.space).hex(), "last": last}
        try:
            os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
            graph.save(part)
            _seal(part, json.dumps(told).encode())
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
    told = _trailer(path, is_checked=False)
    if told is None:
        return False
    place = (bytes.fromhex(told["scope"]), bytes.fromhex(told["space"]))
    with file.reading() as reader:
        found = reader.execute("SELECT 1 FROM records WHERE scope = ? AND space = ?", place)
        return found.fetchone() is not None


def _seal(path: str, told: bytes) -> None:
    """Add what the graph is of, and the checksum of all; have it on the disk."""
    with open(path, "r+b") as file:
        check = _checksum(file)
        file.seek(0, os.SEEK_END)
        length = len(told).to_bytes(4, "little")
        check = zlib.crc32(told + length + MAGIC, check)
        file.write(told + length + MAGIC + check.to_bytes(4, "little"))
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
        told = file.read(length)
        file.seek(0)
        if is_checked and _checksum(file, size - 4) != int.from_bytes(ending[-4:], "little"):
            return None
    found = json.loads(told)
    return found if isinstance(found, dict) else None


def _checksum(file: Any, size: int | None = None) -> int:
    check, left = 0, size
    while piece := file.read(PIECE if left is None else min(PIECE, left)):
        check = zlib.crc32(piece, check)
        left = None if left is None else left - len(piece)
    return check
