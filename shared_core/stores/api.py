"""Define what a store is: three protocols, each of which says what is atomic and what is raised.

A store is one object that serves all of them. All methods block, may be called from any thread,
and survive a fork: the child opens its own handles. ``shared_core.testing.StoreConformance`` is the
suite that every store passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared_core.record import Neighbour, Record

if TYPE_CHECKING:
    from shared_core.record import Vector


Clock = Callable[[], float]


LABELS_PER_ID = 10_000
"""How many labels of an id a store keeps, at least; the newest."""


class StoreError(Exception):
    """A store could not do what was asked: locked, full, unreadable, gone.

    The cache turns it into a miss.

        try:
            store.put(record)
        except StoreError as error:
            print("not kept:", error)
    """


@dataclass(frozen=True, slots=True)
class Selector:
    """Which records of one namespace to delete: those that match every field that is not None."""

    namespace: str
    key: str | None = None
    model: str | None = None
    tag: str | None = None
    scope: str | None = None
    created_before: float | None = None
    key_prefix: str | None = None

    def matches(self, record: Record) -> bool:
        """Say whether a record matches every field."""
        return (
            record.namespace == self.namespace
            and self.key in (None, record.key)
            and self.model in (None, record.model)
            and (self.tag is None or self.tag in record.tags)
            and self.scope in (None, record.scope)
            and (self.created_before is None or record.created < self.created_before)
            and (self.key_prefix is None or record.key.startswith(self.key_prefix))
        )


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds, in all namespaces; expired entries may count until they are swept."""

    kind: str
    location: str
    entries: int
    bytes: int | None = None


class RecordStore(Protocol):
    """Records by key and by vector, and the labels learnt about them.

    ``open_store`` returns one:

        store: RecordStore = open_store("sqlite:///answers.db")
        store.put(record)
        assert store.get(record.key) == record
    """

    def get(self, key: str) -> Record | None:
        """Return the live record, or None. Counts as a use of it.

        Live: not expired, and no tag of it was bumped since it was put. A record that does not
        decode is deleted and reported as None. Raises StoreError.
        """

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float = -1.0
    ) -> list[Neighbour]:
        """Return the k live records of this scope and space nearest to ``vector``, nearest first.

        The nearest comes in any case; others below the similarity ``least`` may be left out. Dead
        records never take the place of live ones. ``vector`` is float32 (d,), length 1. The nearest
        record counts as used. Raises StoreError.
        """

    def put(self, record: Record) -> None:
        """Store a record, replacing that of its key; atomic, durable when it returns.

        Stamps the current epoch of each tag, and evicts the least recently used beyond
        ``max_entries`` before it returns. Raises StoreError; then nothing was changed.
        """

    def delete(self, selector: Selector) -> int:
        """Delete matching records and return how many live ones there were. Raises StoreError."""

    def load_state(self, ids: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
        """Return, for each id, the labels added after the given number, as (number, label).

        The oldest come first. Numbers grow by one per label of an id, from 1, for all processes
        together. At least the newest 10,000 labels of an id are kept. Raises StoreError.
        """

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        """Append labels to an id; atomic, none is lost to a concurrent writer.

        Raises StoreError.
        """

    def info(self) -> StoreInfo:
        """Describe the store. Raises StoreError."""

    def close(self) -> None:
        """Release every handle; a second call does nothing."""


class KeyValue(Protocol):
    """Small values under text keys: counters, epochs, leases, embeddings, documents.

    ``ttl`` is in seconds; None means for ever. Expired values are as absent. Every method raises
    StoreError.

        values: KeyValue = open_store("memory://")
        values.put_many({"a": b"1"}, ttl=60.0)
        assert values.get_many(["a", "b"]) == {"a": b"1"}
    """

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are there."""

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Store all or none."""

    def delete_many(self, keys: Sequence[str]) -> int:
        """Delete and return how many were there."""

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        """Return some keys with this prefix, and the cursor for the next call.

        The cursor is "" when there are no more. Every key that is there during the whole scan is
        returned at least once.
        """

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Store if absent; atomic; return whether it was stored."""

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to integer values (absent counts as 0), all or none, and return the new ones.

        They are read back with ``get_many`` as decimal text. Integers of up to 18 digits are sure
        to fit.
        """


class Browsable(Protocol):
    """Records one after the other, for a person who looks for some."""

    def browse(self, namespace: str, cursor: str = "") -> tuple[list[Record], str]:
        """Return some live records of a namespace, and the cursor for the next call.

        The cursor is "" when there are no more. Every record that is there during the whole walk
        comes at least once, with its vector; none counts as used. Raises StoreError.
        """


class Store(RecordStore, KeyValue, Browsable, Protocol):
    """What ``open_store`` returns."""


def epoch_key(namespace: str, tag: str) -> str:
    """Name the counter that ``bump(tag)`` increments.

    A record is old when a counter of its tags moved. The length keeps ("a:b", "c") and
    ("a", "b:c") apart.
    """
    return f"epoch:{len(namespace)}:{namespace}:{tag}"
