"""Keep records in this process's memory: dicts, and vectors by scope."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from shared_core.concurrency import renew_after_fork
from shared_core.record import Neighbour, Record, copy_for_reader, copy_for_store
from shared_core.stores.api import LABELS_PER_ID, Clock, Selector, StoreError, StoreInfo, epoch_key

if TYPE_CHECKING:
    from shared_core.record import Vector
    from shared_core.stores.vectors import MemoryVectors


_SWEEP = 64
"""Expired entries that one write removes at most."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record and the epochs of its tags when it was put."""

    record: Record
    epochs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Value:
    data: bytes
    expires: float | None


class MemoryStore:
    """Records and values in dicts of this object; they go with it. Thread-safe; a fork copies it.

    Records are kept as they are and never encoded.
    Times come from ``clock`` in seconds. With ``max_entries`` the least recently used goes first.
    """

    def __init__(self, *, max_entries: int | None = None, clock: Clock = time.time) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._empty()
        renew_after_fork(self)

    def _empty(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._vectors: MemoryVectors | None = None  # loads numpy
        self._values: dict[str, _Value] = {}
        self._labels: dict[str, tuple[int, deque[str]]] = {}
        self._due: list[tuple[float, bool, str]] = []  # a heap of (expires, is a record, key)

    def get(self, key: str) -> Record | None:
        with self._lock:
            if self._closed:
                self._check_open()
            entry = self._entries.get(key)
            if entry is None or not self._is_live(entry, self._clock()):
                return None
            self._entries.move_to_end(key)
            return copy_for_reader(entry.record)

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float = -1.0
    ) -> list[Neighbour]:
        with self._lock:
            self._check_open()
            if self._vectors is None:
                return []
            now = self._clock()
            wanted = k
            while True:
                candidates = self._vectors.nearest(scope, space, vector, wanted, least)
                entries = [self._entries[key] for key, _ in candidates]
                dead = [entry.record.key for entry in entries if not self._is_live(entry, now)]
                if not dead:
                    break
                for key in dead:  # the dead never live again, so that they can go for good
                    self._remove(key)
                wanted = k + 3 * len(dead)
            if entries:
                self._entries.move_to_end(entries[0].record.key)
            return [
                Neighbour(copy_for_reader(entry.record), similarity)
                for entry, (_, similarity) in zip(entries[:k], candidates, strict=False)
            ]

    def put(self, record: Record) -> None:
        record = copy_for_store(record)
        with self._lock:
            self._check_open()
            now = self._clock()
            self._sweep(now)
            self._remove(record.key)
            names = [epoch_key(record.namespace, tag) for tag in record.tags]
            epochs = tuple((name, self._counter(name, now)) for name in names)
            self._entries[record.key] = _Entry(record, epochs)
            if record.vector is not None:
                self._index(record)
            self._expect(record.expires, True, record.key)
            while self._max_entries is not None and len(self._entries) > self._max_entries:
                self._remove(next(iter(self._entries)))

    def delete(self, selector: Selector) -> int:
        with self._lock:
            self._check_open()
            now = self._clock()
            one = self._entries.get(selector.key or "")
            some = self._entries.values() if selector.key is None else [one] if one else []
            matching = [entry for entry in some if selector.matches(entry.record)]
            for entry in matching:
                self._remove(entry.record.key)
            return sum(self._is_live(entry, now) for entry in matching)

    def load_state(self, ids: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
        with self._lock:
            self._check_open()
            return {id: self._labels_after(id, number) for id, number in ids.items()}

    def _labels_after(self, id: str, number: int) -> list[tuple[int, str]]:
        last, labels = self._labels.get(id, (0, deque()))
        first = last - len(labels) + 1
        return [(n, label) for n, label in enumerate(labels, first) if n > number]

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        with self._lock:
            self._check_open()
            last, kept = self._labels.get(id, (0, deque(maxlen=LABELS_PER_ID)))
            kept.extend(labels)
            self._labels[id] = (last + len(labels), kept)

    def browse(self, namespace: str, cursor: str = "") -> tuple[list[Record], str]:
        """Return every record at once: they are in memory anyway."""
        with self._lock:
            self._check_open()
            now, held = self._clock(), reversed(self._entries.values())
            live = [one.record for one in held if self._is_live(one, now)]
        return [copy_for_reader(record) for record in live if record.namespace == namespace], ""

    def info(self) -> StoreInfo:
        with self._lock:
            self._check_open()
            return StoreInfo("memory", "memory://", len(self._entries))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._empty()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self._lock:
            self._check_open()
            now = self._clock()
            found = {key: self._value(key, now) for key in keys}
            return {key: value.data for key, value in found.items() if value is not None}

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        with self._lock:
            self._check_open()
            now = self._clock()
            self._sweep(now)
            for key, data in items.items():
                self._put_value(key, data, ttl, now)

    def delete_many(self, keys: Sequence[str]) -> int:
        with self._lock:
            self._check_open()
            now = self._clock()
            there = sum(self._value(key, now) is not None for key in set(keys))
            for key in keys:
                self._values.pop(key, None)
            return there

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        """Return every key at once: they are in memory anyway."""
        with self._lock:
            self._check_open()
            now = self._clock()
            keys = [key for key in self._values if key.startswith(prefix)]
            return [key for key in keys if self._value(key, now) is not None], ""

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        with self._lock:
            self._check_open()
            now = self._clock()
            self._sweep(now)
            if self._value(key, now) is not None:
                return False
            self._put_value(key, value, ttl, now)
            return True

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        with self._lock:
            self._check_open()
            now = self._clock()
            sums = {key: self._counter(key, now) + amount for key, amount in amounts.items()}
            for key, total in sums.items():
                old = self._value(key, now)
                self._values[key] = _Value(b"%d" % total, old.expires if old else None)
            return sums

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._vectors is not None:
            self._vectors.before_fork()

    def after_fork_in_parent(self) -> None:
        if self._vectors is not None:
            self._vectors.after_fork_in_parent()
        self._lock.release()

    def renew_after_fork(self) -> None:
        self._lock = threading.Lock()
        if self._vectors is not None:
            self._vectors.renew_after_fork()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    def _is_live(self, entry: _Entry, now: float) -> bool:
        expires = entry.record.expires
        if expires is not None and expires <= now:
            return False
        return not entry.epochs or all(self._counter(name, now) == at for name, at in entry.epochs)

    def _value(self, key: str, now: float) -> _Value | None:
        value = self._values.get(key)
        if value is None or (value.expires is not None and value.expires <= now):
            return None
        return value

    def _counter(self, key: str, now: float) -> int:
        value = self._value(key, now)
        try:
            return 0 if value is None else int(value.data)
        except ValueError:
            raise StoreError(f"the value of {key!r} is not an integer") from None

    def _put_value(self, key: str, data: bytes, ttl: float | None, now: float) -> None:
        expires = None if ttl is None else now + ttl
        self._values[key] = _Value(bytes(data), expires)
        self._expect(expires, False, key)

    def _index(self, record: Record) -> None:
        if self._vectors is None:
            from shared_core.stores.vectors import MemoryVectors

            self._vectors = MemoryVectors()
        self._vectors.add(record)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None and self._vectors is not None:
            self._vectors.remove(entry.record)

    def _expect(self, expires: float | None, is_record: bool, key: str) -> None:
        """Note when an entry expires. A replaced one's note stays, and finds nothing expired."""
        if expires is None:
            return
        heappush(self._due, (expires, is_record, key))
        if len(self._due) > 2 * (len(self._entries) + len(self._values)) + _SWEEP:
            self._due = [note for note in self._due if self._expires(*note[1:]) == note[0]]
            heapify(self._due)

    def _expires(self, is_record: bool, key: str) -> float | None:
        held: Any = self._entries.get(key) if is_record else self._values.get(key)
        return None if held is None else (held.record if is_record else held).expires

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            if not self._due or self._due[0][0] > now:
                return
            expires, is_record, key = heappop(self._due)
            if self._expires(is_record, key) != expires:
                continue
            if is_record:
                self._remove(key)
            else:
                del self._values[key]
