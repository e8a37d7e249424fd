"""The vectors of a ``MemoryStore``: by scope, under the keys of their records."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared_core.record import Record
from shared_core.stores.scope_vectors import ScopeVectors

if TYPE_CHECKING:
    from shared_core.record import Vector

Place = tuple[str, str, int]
"""Scope, space and dimension: vectors are compared only within one."""


class MemoryVectors:
    """Nearest records by scope; the store's lock is held by whoever calls.

    A record that is put anew gets a new number, so that one found in an old graph is known as dead.
    """

    def __init__(self) -> None:
        self._places: dict[Place, ScopeVectors] = {}
        self._numbers: dict[str, int] = {}
        self._records: dict[int, Record] = {}
        self._next = itertools.count(1)

    def add(self, record: Record) -> None:
        """Add a record whose key is not there; one without a vector is left out."""
        if record.vector is None:
            return
        number = self._numbers[record.key] = next(self._next)
        self._records[number] = record
        place = (record.scope, record.space, len(record.vector))
        if place not in self._places:
            self._places[place] = ScopeVectors(len(record.vector), self._fetch)
        self._places[place].extend([number], record.vector[None, :])

    def remove(self, record: Record) -> None:
        """Remove a record, if it is there."""
        number = self._numbers.pop(record.key, None)
        if number is None or record.vector is None:
            return
        del self._records[number]
        place = (record.scope, record.space, len(record.vector))
        self._places[place].discard([number])
        if not len(self._places[place]):
            del self._places[place]

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float
    ) -> list[tuple[str, float]]:
        """Return the keys of the k nearest and their cosines, nearest first."""
        vectors = self._places.get((scope, space, len(vector)))
        if vectors is None:
            return []
        found = vectors.search(vector, k, least)
        return [(self._records[number].key, similarity) for number, similarity in found]

    def _fetch(self, numbers: Sequence[int]) -> dict[int, Vector]:
        records = {number: self._records.get(number) for number in numbers}
        return {n: one.vector for n, one in records.items() if one and one.vector is not None}

    def before_fork(self) -> None:
        """Wait until no graph is being changed; keep changes out."""
        for vectors in self._places.values():
            vectors.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let changes in again."""
        for vectors in self._places.values():
            vectors.lock.release()

    def renew_after_fork(self) -> None:
        """Begin without threads in the child."""
        for vectors in self._places.values():
            vectors.renew()
