"""A store on a Redis server, behind sentinels, or on a cluster, which many hosts share.

    get      HGETALL                           nearest   FT.SEARCH, records in its reply
    put      one script: HSET, PEXPIRE, and the epochs of the tags, read where they are written

A record is one hash: ``b`` its encoded self, ``i`` what selectors ask, ``e`` the epochs it was
stored under; with a vector also its bytes, the scope and the end of its life, which are indexed.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared_core.codec import Codec, UndecodableError
from shared_core.record import Answer, Neighbour, Record
from shared_core.stores import Clock, Selector, StoreError, StoreInfo
from shared_core.stores.redis_address import RedisAddress
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_epochs import Epochs
from shared_core.stores.redis_failures import IndexMissing, SearchMissing, WrongType
from shared_core.stores.redis_index import (
    EXPIRES,
    FOR_EVER,
    Found,
    IndexKind,
    Precision,
    RedisIndex,
    Space,
    rows,
)
from shared_core.stores.redis_names import ALL_RECORDS, encoded, key_of, text
from shared_core.stores.redis_scripts import BURY, PULL, PUSH, PUT
from shared_core.stores.redis_values import RedisValues, milliseconds

if TYPE_CHECKING:
    from shared_core.record import Vector

logger = logging.getLogger("tiered_cache")

KEPT_LABELS = 10_000
SPARE = 4
"""Candidates asked beyond those wanted, in case some turn out dead."""

LOOK_AGAIN_S = 60.0
"""How long a server without the search module is not asked for neighbours."""

BATCH: Mapping[IndexKind, int] = {"flat": 100, "hnsw": 5}
"""Records that one command deletes: it holds up other clients for less than some 15 ms."""

DTYPES: Mapping[Precision, str] = {"float32": "<f4", "float16": "<f2"}


class RedisStore:
    """Records and values in Redis, seen at once by every host; survives forks.

    The server counts lives down, so that hosts whose clocks differ agree; ``clock`` (seconds since
    the epoch) is only asked whether a record's own end has come. What goes first when memory is
    full is the server's ``maxmemory-policy``. ``timeout`` in seconds bounds each wait for it.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout: float = 0.25,
        index: IndexKind = "flat",
        precision: Precision = "float32",
        codec: Codec | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._connection = RedisConnection(address, timeout)
        self._names = self._connection.names
        self._values = RedisValues(self._connection, _fresh)
        self._index = RedisIndex(self._connection, index, timeout)
        self._epochs = Epochs(self._connection)
        self._kind, self._precision = index, precision
        self._codec = codec or Codec()
        self._clock = clock
        self._no_search_until = 0.0
        self._warned = False

    def __repr__(self) -> str:
        return f"RedisStore({self._connection.place!r})"

    def get(self, key: str) -> Record | None:
        tag, name = self._names.tag_of(key), self._names.record(key)
        try:
            fields, stands = self._epochs.read_with(tag, "HGETALL", name)
        except WrongType:
            self._connection.run(tag, "UNLINK", name)
            return None
        if not fields:
            return None
        record = self._decode(fields)
        if record is None or record.key != key:
            self._bury(tag, [(name, b"b", fields.get(b"b", b""))])
            return None
        if record.expires is not None and record.expires <= self._clock():
            return None
        if not self._epochs.hold(tag, record, fields.get(b"e"), stands):
            self._bury(tag, [(name, b"e", fields.get(b"e", b""))])
            return None
        return record

    def nearest(self, scope: str, space: str, vector: Vector, k: int) -> list[Neighbour]:
        if self._searches_rest():
            return []
        import numpy as np

        tag, place = self._names.tag_of(scope), Space(space, len(vector), self._precision)
        data = np.asarray(vector, DTYPES[self._precision]).tobytes()
        wanted = k + SPARE
        while True:
            try:
                self._index.ensure(tag, place)
                reply, stands = self._search(tag, place, scope, data, wanted)
            except SearchMissing as error:
                self._rest_searches(error)
                return []
            candidates = list(rows(reply))
            found, dead = self._sort_out(tag, scope, space, candidates, stands)
            if dead:
                self._bury(tag, dead)
            if len(found) >= k or len(candidates) < wanted:
                return found[:k]
            wanted *= 4  # the dead took places: look further

    def _search(
        self, tag: str, place: Space, scope: str, data: bytes, wanted: int
    ) -> tuple[Any, bytes | None]:
        """Search, and once more if somebody dropped the index."""
        command = self._index.search(tag, place, _tag_text(scope), data, wanted, self._clock())
        try:
            return self._epochs.read_with(tag, *command)
        except IndexMissing:
            self._index.forget()
            self._index.ensure(tag, place)
            return self._epochs.read_with(tag, *command)

    def _sort_out(
        self, tag: str, scope: str, space: str, candidates: Sequence[Found], stands: bytes | None
    ) -> tuple[list[Neighbour], list[tuple[bytes, bytes, bytes]]]:
        """Return the live neighbours, and of the dead: name, field and value that tell so."""
        found: list[Neighbour] = []
        dead: list[tuple[bytes, bytes, bytes]] = []
        now = self._clock()
        for one in candidates:
            if b"b" not in one.fields:
                continue  # expired a moment ago
            record = self._decode(one.fields)
            if record is None:
                dead.append((one.name, b"b", one.fields[b"b"]))
            elif not self._epochs.hold(tag, record, one.fields.get(b"e"), stands):
                dead.append((one.name, b"e", one.fields.get(b"e", b"")))
            elif (
                record.scope == scope
                and record.space == space
                and (record.expires is None or record.expires > now)
                and one.distance <= 3.0  # noqa: PLR2004 - at most 2; not a NaN
            ):
                # Rounding makes distances of -0.0000002.
                similarity = min(1.0, max(-1.0, 1.0 - one.distance))
                found.append(Neighbour(record, similarity))
        return found, dead

    def put(self, record: Record) -> None:
        tag = self._names.tag_of(record.key)
        about = (record.namespace, record.model, record.scope, record.created, record.expires)
        fields: list[Any] = ["b", self._codec.encode(record)]
        fields += ["i", json.dumps([*about, record.tags], separators=(",", ":"))]
        if record.vector is not None:
            fields += self._indexed_fields(tag, record, record.vector)
        life = "" if record.expires is None else milliseconds(record.expires - self._clock())
        epochs = self._epochs.names_of(record)
        names = [self._names.record(record.key), self._names.bumps(tag), *epochs]
        self._connection.run_script(tag, PUT, names, life, _fresh(), *fields)
        self._epochs.in_use |= bool(epochs)

    def _indexed_fields(self, tag: str, record: Record, vector: Vector) -> list[Any]:
        import numpy as np

        place = Space(record.space, len(vector), self._precision)
        if not (np.isfinite(vector).all() and vector.any()):
            return []  # its distance to anything is no number
        if not self._searches_rest():
            try:
                self._index.ensure(tag, place)
            except SearchMissing as error:
                self._rest_searches(error)
        data = np.asarray(vector, DTYPES[self._precision]).tobytes()
        expires = FOR_EVER if record.expires is None else record.expires
        scope = _tag_text(record.scope)
        return [place.vector_field, data, place.scope_field, scope, EXPIRES, repr(expires)]

    def delete(self, selector: Selector) -> int:
        """Delete page by page: other clients are served between any two batches."""
        if selector.key is not None:
            tag = self._names.tag_of(selector.key)
            return self._delete(tag, selector, [self._names.record(selector.key)])
        live = 0
        for tag in self._names.tags_of_namespace(selector.namespace):
            pattern = self._names.records_pattern(
                tag, selector.namespace, selector.key_prefix or ""
            )
            if self._kind == "hnsw" and selector == Selector(selector.namespace):
                self._spare_the_graph(tag, pattern)
            for names in self._connection.scan_all(tag, pattern):
                live += self._delete(tag, selector, names)
        return live

    def _spare_the_graph(self, tag: str, pattern: bytes) -> None:
        try:
            records = sum(len(names) for names in self._connection.scan_all(tag, pattern))
            self._index.drop_if_alone(tag, records)
        except (SearchMissing, IndexMissing):
            return

    def _delete(self, tag: str, selector: Selector, names: Sequence[bytes]) -> int:
        """Delete those of these records that match; return how many of them were alive."""
        replies = self._connection.run_all(tag, [("HMGET", name, "i", "e") for name in names])
        matching: list[bytes] = []
        dead: set[bytes] = set()
        now = self._clock()
        for name, (about, stamps) in zip(names, replies, strict=True):
            record = _outline(name, about)
            if record is None or not selector.matches(record):
                continue
            matching.append(name)
            expired = record.expires is not None and record.expires <= now
            if expired or not self._epochs.hold(tag, record, stamps, None):
                dead.add(name)
        live = 0
        batch = BATCH[self._kind]
        for start in range(0, len(matching), batch):
            some = matching[start : start + batch]
            gone = int(self._connection.run(tag, "UNLINK", *some))
            live += min(gone, sum(name not in dead for name in some))
        return live

    def load_state(self, ids: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for id, after in ids.items():
            tag, names = self._names.value_tag(id), self._names.label_keys(id)
            last, labels = (*self._connection.run_script(tag, PULL, names, after), [])[:2]
            first = int(last) - len(labels) + 1
            found[id] = [(number, text(label)) for number, label in enumerate(labels, first)]
        return found

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        if labels:
            tag, names = self._names.value_tag(id), self._names.label_keys(id)
            self._connection.run_script(tag, PUSH, names, KEPT_LABELS, *map(encoded, labels))

    def info(self) -> StoreInfo:
        """Describe the store; counts entries by going through all keys of the server."""
        entries = sum(len(names) for names in self._connection.scan_all(None, ALL_RECORDS))
        return StoreInfo("redis", self._connection.place, entries)

    def close(self) -> None:
        self._connection.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self._values.get_many(keys)

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        self._values.put_many(items, ttl)

    def delete_many(self, keys: Sequence[str]) -> int:
        return self._values.delete_many(keys)

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        return self._values.scan(prefix, cursor)

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        return self._values.add(key, value, ttl)

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        return self._values.increment(amounts)

    def _decode(self, fields: Mapping[bytes, bytes]) -> Record | None: ...
