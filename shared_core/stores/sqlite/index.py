"""Index the vectors of an SQLite file in memory: one index for each scope, made at first use."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shared_core.stores.sqlite.database import DatabaseFile, blob
from shared_core.stores.sqlite.graph_files import KeptGraph
from shared_core.stores.vectors import ScopeVectors, Shelf

if TYPE_CHECKING:
    from shared_core.record import Vector


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
