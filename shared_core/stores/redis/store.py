"""A store on a Redis server, behind sentinels, or on a cluster, which many hosts share.

    get      HGETALL                           nearest   FT.SEARCH, records in its reply
    put      one script: HSET, PEXPIRE, and the epochs of the tags, read where they are written

Each is one round trip. ``shared_core.stores.redis_names`` tells what lies where.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shared_core.codec import Codec
from shared_core.record import Neighbour, Record
from shared_core.stores import Clock, Selector, StoreInfo
from shared_core.stores.redis_address import RedisAddress
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_epochs import Epochs
from shared_core.stores.redis_exchange import fields_read
from shared_core.stores.redis_failures import IndexMissing, SearchMissing, WrongType
from shared_core.stores.redis_index import Found, IndexKind, Precision, RedisIndex, Space, rows
from shared_core.stores.redis_names import encoded, text
from shared_core.stores.redis_near import NearCache, seconds_of
from shared_core.stores.redis_near_feed import Feed
from shared_core.stores.redis_pages import page
from shared_core.stores.redis_record import (
    BODY,
    STAMPS,
    fields_of,
    indexed_fields,
    record_of,
    scope_text,
    vector_bytes,
)
from shared_core.stores.redis_removal import Death, RedisRemoval
from shared_core.stores.redis_scripts import PULL, PUSH, PUT
from shared_core.stores.redis_values import RedisValues, milliseconds

if TYPE_CHECKING:
    from shared_core.record import Vector

logger = logging.getLogger("tiered_cache")

KEPT_LABELS = 10_000
LOOK_AGAIN_S = 60.0
"""How long a server without the search module is not asked for neighbours."""

FARTHEST = 2.5
"""No cosine distance is larger; a NaN is not smaller."""


class RedisStore:
    """Records and values in Redis, seen at once by every host; survives forks.

    The server counts lives down, so that hosts whose clocks differ agree; ``clock`` (seconds since
    the epoch) is only asked whether a record's own end has come. What goes first when memory is
    full is the server's ``maxmemory-policy``. ``timeout`` in seconds bounds each wait for it.
    At most ``near_cache`` records are held in this process too; one server tells what changes.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        timeout: float = 0.25,
        index: IndexKind = "flat",
        precision: Precision = "float16",
        near_cache: int = 0,
        codec: Codec | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._connection = RedisConnection(address, timeout)
        self._names = self._connection.names
        self._values = RedisValues(self._connection, _fresh)
        self._index = RedisIndex(self._connection, index, timeout)
        self._epochs = Epochs(self._connection)
        self._removal = RedisRemoval(self._connection, self._index, self._epochs, index, clock)
        self._precision = precision
        self._codec = codec or Codec()
        self._clock = clock
        self._no_search_until = 0.0
        self._warned = False
        self.near = (
            NearCache(near_cache, Feed(address, self._names, timeout), clock)
            if near_cache
            else None
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._connection.place!r})"

    def get(self, key: str) -> Record | None:
        return self._read(key)[0] if self.near is None else self.near.get(key, self._read)

    def _read(self, key: str, with_life: bool = False) -> tuple[Record | None, float]:
        """Return the live record and, on demand, how many seconds the server lets it live on."""
        tag, name = self._names.tag_of(key), self._names.record(key)
        life = (("PTTL", name),) if with_life else ()
        try:
            read, *lives, stands = self._epochs.read_with(tag, ("HGETALL", name), *life)
        except WrongType:
            self._connection.run(tag, "UNLINK", name)
            return None, 0.0
        fields = fields_read(read)
        return self._alive(tag, name, key, fields, stands), seconds_of(lives[0] if lives else -1)

    def _alive(
        self, tag: str, name: bytes, key: str, fields: Mapping[bytes, bytes], stands: bytes | None
    ) -> Record | None:
        """Return the record of these fields if it lives; what is odd or bumped is deleted."""
        if not fields:
            return None
        record = record_of(fields, self._codec)
        if record is None or record.key != key:
            self._removal.bury(tag, [(name, BODY, fields.get(BODY, b""))])
            return None
        if record.expires is not None and record.expires <= self._clock():
            return None
        if not self._epochs.hold(tag, record, fields.get(STAMPS), stands):
            self._removal.bury(tag, [(name, STAMPS, fields.get(STAMPS, b""))])
            return None
        return record

    def nearest(
        self, scope: str, space: str, vector: Vector, k: int, least: float = -1.0
    ) -> list[Neighbour]:
        """Return the nearest as the protocol says; none while the server has no search module."""
        if time.monotonic() < self._no_search_until:
            return []
        tag, place = self._names.tag_of(scope), Space(space, len(vector), self._precision)
        data = vector_bytes(vector, self._precision)
        wanted = k
        while True:
            try:
                reply, stands = self._search(tag, place, scope, data, wanted)
            except SearchMissing as error:
                self._rest_searches(error)
                return []
            candidates = list(rows(reply))
            found, dead = self._sort_out(tag, (scope, space), k, least, candidates, stands)
            if dead:
                self._removal.bury(tag, dead)
            if len(found) >= k or len(candidates) < wanted:
                return found
            if found and 1.0 - candidates[-1].distance < least:
                return found
            wanted *= 4  # the dead took places: look further

    def _search(self, tag: str, place: Space, scope: str, data: bytes, wanted: int) -> list[Any]:
        """Search, and once more if somebody dropped the index."""
        command = self._index.search(tag, place, scope_text(scope), data, wanted)
        self._index.ensure(tag, place)
        try:
            return self._epochs.read_with(tag, command)
        except IndexMissing:
            self._index.forget()
            self._index.ensure(tag, place)
            return self._epochs.read_with(tag, command)

    def _sort_out(
        self,
        tag: str,
        place: tuple[str, str],
        k: int,
        least: float,
        candidates: Sequence[Found],
        stands: bytes | None,
    ) -> tuple[list[Neighbour], list[Death]]:
        """Return the first k that live, and the dead; scope and life are checked on the record."""
        found: list[Neighbour] = []
        dead: list[Death] = []
        now = self._clock()
        for one in candidates:
            if len(found) == k or (found and 1.0 - one.distance < least):
                break
            if BODY not in one.fields:
                continue  # expired a moment ago
            record = record_of(one.fields, self._codec)
            if record is None:
                dead.append((one.name, BODY, one.fields[BODY]))
            elif not self._epochs.hold(tag, record, one.fields.get(STAMPS), stands):
                dead.append((one.name, STAMPS, one.fields.get(STAMPS, b"")))
            elif (
                (record.scope, record.space) == place
                and (record.expires is None or record.expires > now)
                and one.distance < FARTHEST
            ):
                # Rounding makes distances of -0.0000002.
                similarity = min(1.0, max(-1.0, 1.0 - one.distance))
                found.append(Neighbour(record, similarity))
        return found, dead

    def _rest_searches(self, error: SearchMissing) -> None:
        self._no_search_until = time.monotonic() + LOOK_AGAIN_S
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s cannot search vectors, only exact hits are served: it needs Redis 8, Redis "
                "Stack, or the search module (2.10 for precision='float16'), and the right to use "
                "it (%s)",
                self._connection.place,
                error,
            )

    def put(self, record: Record) -> None:
        tag = self._names.tag_of(record.key)
        fields = fields_of(record, self._codec)
        if record.vector is not None:
            place = Space(record.space, len(record.vector), self._precision)
            fields += indexed_fields(record, record.vector, place)
            self._ensure_index(tag, place)
        life = "" if record.expires is None else milliseconds(record.expires - self._clock())
        epochs = self._epochs.names_of(record)
        names = [self._names.record(record.key), self._names.bumps(tag), *epochs]
        with self._changing(record.key):
            self._connection.run_script(tag, PUT, names, life, _fresh(), *fields)
        self._epochs.in_use |= bool(epochs)

    def _ensure_index(self, tag: str, place: Space) -> None:
        if time.monotonic() >= self._no_search_until:
            try:
                self._index.ensure(tag, place)
            except SearchMissing as error:  # the exact tier goes on
                self._rest_searches(error)

    def delete(self, selector: Selector) -> int:
        with self._changing(selector.key):
            return self._removal.delete(selector)

    @contextmanager
    def _changing(self, key: str | None) -> Iterator[None]:
        """Hold nothing of a key, None: of any, once the block has changed it, or may have."""
        try:
            yield
        finally:
            if self.near is not None:
                self.near.forget(key)

    def load_state(self, ids: Mapping[str, int]) -> dict[str, list[tuple[int, str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for id, after in ids.items():
            tag, names = self._names.value_tag(id), self._names.label_keys(id)
            last, labels = self._connection.run_script(tag, PULL, names, after)
            first = int(last) - len(labels) + 1
            found[id] = [(number, text(label)) for number, label in enumerate(labels, first)]
        return found

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        if labels:
            tag, names = self._names.value_tag(id), self._names.label_keys(id)
            self._connection.run_script(tag, PUSH, names, KEPT_LABELS, *map(encoded, labels))

    def browse(self, namespace: str, cursor: str = "") -> tuple[list[Record], str]:
        codec, clock = self._codec, self._clock
        return page(self._connection, self._epochs, codec, clock, namespace, cursor)

    def info(self) -> StoreInfo:
        """Describe the store; where the server holds very many keys, entries are an estimate."""
        entries = self._connection.count_records()
        return StoreInfo("redis", self._connection.place, entries)

    def close(self) -> None:
        if self.near is not None:
            self.near.close()
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
        try:
            return self._values.increment(amounts)
        finally:
            if self.near is not None and any(key.startswith("epoch:") for key in amounts):
                self.near.bumped()


def _fresh() -> int:
    """Return a number that no other process has: children of a fork would share a seed."""
    return secrets.randbits(48)
