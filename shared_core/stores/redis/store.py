"""Keep records and values on a Redis that many hosts share: one server, sentinels or a cluster.

    get      HGETALL                           nearest   FT.SEARCH, records in its reply
    put      one script: HSET, PEXPIRE, and the epochs of the tags, read where they are written

Each is one round trip. ``shared_core.stores.redis.keys`` tells what lies where.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from shared_core.record import Neighbour, Record
from shared_core.stores.api import LABELS_PER_ID, Clock, Selector, StoreError, StoreInfo, epoch_key
from shared_core.stores.codec import Codec
from shared_core.stores.redis.address import RedisAddress
from shared_core.stores.redis.connection import (
    Command,
    IndexMissing,
    RedisConnection,
    SearchMissing,
    WrongType,
    fields_read,
)
from shared_core.stores.redis.keys import decoded, encoded, key_of
from shared_core.stores.redis.near_cache import Feed, NearCache, seconds_of
from shared_core.stores.redis.schema import (
    ABOUT,
    BODY,
    BURY,
    INCREMENT,
    PULL,
    PUSH,
    PUT,
    SET_ALL,
    STAMPS,
    IndexKind,
    Precision,
    RedisIndex,
    Space,
    fields_of,
    indexed_fields,
    outline,
    record_of,
    rows,
    scope_text,
    vector_bytes,
)

if TYPE_CHECKING:
    from shared_core.record import Vector


# Values under text keys in Redis; the promises are those of ``KeyValue``.
#
# On a cluster, "all or none" and "atomic" hold for the keys on one shard: for values of one kind
# and namespace, whose keys share their first two parts.


LARGEST = 10**18
"""Sums stay below twice this, far inside of Redis's 64 bits."""

LONGEST_S = 10**10


class RedisValues:
    """Text keys to bytes; times are the server's. ``fresh`` returns a new random number."""

    def __init__(self, connection: RedisConnection, fresh: Callable[[], int]) -> None:
        self._connection, self._names = connection, connection.names
        self._fresh = fresh

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for tag, group in self._by_tag(keys):
            values = self._connection.run(tag, "MGET", *map(self._names.value, group))
            found.update(
                (key, value) for key, value in zip(group, values, strict=True) if value is not None
            )
        return found

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        life = () if ttl is None else ("PX", milliseconds(ttl))
        for tag, group in self._by_tag(items):
            if len(group) == 1:
                self._connection.run(
                    tag, "SET", self._names.value(group[0]), items[group[0]], *life
                )
            else:  # one command and one reply: a pipeline of as many takes twice as long
                names, values = map(self._names.value, group), (items[key] for key in group)
                self._connection.run_script(tag, SET_ALL, list(names), *life[1:] or [""], *values)

    def delete_many(self, keys: Sequence[str]) -> int:
        return sum(
            int(self._connection.run(tag, "UNLINK", *map(self._names.value, group)))
            for tag, group in self._by_tag(set(keys))
        )

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        found, cursor = self._connection.scan(None, self._names.values_pattern(prefix), cursor)
        return list(map(key_of, found)), cursor

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        life = () if ttl is None else ("PX", milliseconds(ttl))
        tag = self._names.value_tag(key)
        reply = self._connection.run(tag, "SET", self._names.value(key), value, "NX", *life)
        return reply is not None and reply is not False

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to integers of at most 18 digits. Raises StoreError beyond them."""
        sums: dict[str, int] = {}
        for tag, keys in self._by_tag(amounts):
            sums.update(self._increment(tag, {key: amounts[key] for key in keys}))
        return sums

    def _increment(self, tag: str, amounts: Mapping[str, int]) -> dict[str, int]:
        values: list[object] = []
        bumped = False
        for key, amount in amounts.items():
            if not -LARGEST < amount < LARGEST:
                raise StoreError(f"{amount} is too much to add to {key!r}")
            is_epoch = key.startswith("epoch:")
            bumped |= is_epoch
            values += [amount, self._fresh() if is_epoch else ""]
        names = [*map(self._names.value, amounts), self._names.bumps(tag)]
        try:
            sums = self._connection.run_script(
                tag, INCREMENT, names, *values, self._fresh() if bumped else ""
            )
        except StoreError as error:
            _, marker, place = str(error).partition("NOTANINTEGER ")
            if not marker:
                raise
            key = list(amounts)[int(place) - 1]
            raise StoreError(f"the value of {key!r} is not an integer of 18 digits") from None
        return dict(zip(amounts, map(int, sums), strict=True))

    def _by_tag(self, keys: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[self._names.value_tag(key)].append(key)
        return groups.items()


def milliseconds(seconds: float) -> int:
    """Return a life as Redis takes it: whole, at least 1, at most some three hundred years."""
    return max(1, ceil(min(seconds, LONGEST_S) * 1000))


# Whether what a record was stored under still holds: the epochs of its tags, seen at once by all.
#
# Every bump writes a new number beside the epochs. It is read in the same round trip as a record,
# and as long as it stands, the epochs that this process knows are those in the server.


MAX_KNOWN = 100_000


class Epochs:
    """What this process knows of the epochs; thread-safe without a lock, as only whole are swapped.

    An epoch that is not there, as after an eviction, ends every record stored under it. A new one
    starts at a random number, so that it never stands at an old one's.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._known: dict[str, tuple[bytes, dict[bytes, bytes | None]]] = {}  # by hash tag
        self.in_use = False
        """Whether a record with tags was met: until then nothing beside the record is read."""

    def read_with(self, tag: str, *commands: Command) -> list[Any]:
        """Run commands and return their replies, and the number that the last bump left."""
        if self.in_use:
            bumps = self._connection.names.bumps(tag)
            return self._connection.run_all(tag, [*commands, ("GET", bumps)])
        return [*self._connection.run_all(tag, commands), None]

    def hold(self, tag: str, record: Record, stamps: bytes | None, stands: bytes | None) -> bool:
        """Say whether a record read with ``read_with`` is still what its tags stand for.

        Takes a round trip only when a bump or another process's new tag came since the last time.
        """
        if not record.tags:
            return True
        self.in_use = True
        if stamps is None:
            return False
        epochs = self._epochs(tag, self.names_of(record), stands)
        return None not in epochs and stamps.split(b",") == epochs

    def names_of(self, record: Record) -> list[bytes]:
        """Return the names of the epochs of a record's tags."""
        names = self._connection.names
        return [names.value(epoch_key(record.namespace, tag)) for tag in record.tags]

    def _epochs(self, tag: str, names: Sequence[bytes], stands: bytes | None) -> list[bytes | None]:
        known = self._known.get(tag)
        if known is not None and known[0] == stands and all(name in known[1] for name in names):
            return [known[1][name] for name in names]
        # The number first: what it is older than the epochs, so that it never vouches for old ones.
        bumps = self._connection.names.bumps(tag)
        stands, epochs = self._connection.run_all(
            tag, [("GET", bumps), ("MGET", *names)], together=True
        )
        if stands is not None:
            old = known[1] if known is not None and known[0] == stands else {}
            kept = old if len(old) < MAX_KNOWN else {}
            self._known[tag] = (stands, kept | dict(zip(names, epochs, strict=True)))
        return list(epochs)


# The records of a namespace, a page at a time, for whoever looks through all of them.


PAGE_BATCH = 100
"""Records that are read in one round trip: some hundreds of kilobytes."""


def page(
    connection: RedisConnection,
    epochs: Epochs,
    codec: Codec,
    clock: Clock,
    namespace: str,
    cursor: str,
) -> tuple[list[Record], str]:
    """Return some live records, and the cursor of the next page; see ``Browsable``."""
    names = connection.names
    tags = names.tags_of_namespace(namespace)
    at, _, place = cursor.partition("/")
    here = int(at or 0)
    tag = tags[here]
    keys, following = connection.scan(tag, names.records_pattern(tag, namespace, ""), place)
    found: list[Record] = []
    now = clock()
    for start in range(0, len(keys), PAGE_BATCH):
        reads = [("HGETALL", name) for name in keys[start : start + PAGE_BATCH]]
        *replies, stands = connection.run_all(tag, [*reads, ("GET", names.bumps(tag))])
        for read in replies:
            fields = fields_read(read)
            record = record_of(fields, codec)
            if (
                record is not None
                and record.namespace == namespace
                and (record.expires is None or record.expires > now)
                and epochs.hold(tag, record, fields.get(STAMPS), stands)
            ):
                found.append(record)
    if following:
        return found, f"{here}/{following}"
    return found, f"{here + 1}/" if here + 1 < len(tags) else ""


# Deletion that holds up nobody: a page is read, a batch deleted, and others are served between.


_BATCH: Mapping[IndexKind, int] = {"flat": 100, "hnsw": 5}
"""Records that one command deletes: a graph takes 1 to 3 ms for each, all else 0.1 ms."""

Death = tuple[bytes, bytes, bytes]
"""A dead record's name, and a field with the value that tells that it is dead."""


class RedisRemoval:
    """Deletes records of one store. Every method raises StoreError."""

    def __init__(
        self,
        connection: RedisConnection,
        index: RedisIndex,
        epochs: Epochs,
        kind: IndexKind,
        clock: Clock,
    ) -> None:
        self._connection, self._index, self._epochs = connection, index, epochs
        self._kind, self._clock = kind, clock

    def bury(self, tag: str, dead: Sequence[Death]) -> None:
        """Delete dead records that a read met, unless they were stored anew meanwhile."""
        signs = [word for _, field, value in dead for word in (field, value)]
        self._connection.run_script(tag, BURY, [name for name, _, _ in dead], *signs)

    def delete(self, selector: Selector) -> int:
        """Delete what matches and return how many of them were alive."""
        names = self._connection.names
        if selector.key is not None:
            tag = names.tag_of(selector.key)
            page = [names.record(selector.key)]
            return self._unlink(tag, self._matching(tag, selector, page))
        whole = selector == Selector(selector.namespace)
        live = 0
        for tag in names.tags_of_namespace(selector.namespace):
            pattern = names.records_pattern(tag, selector.namespace, selector.key_prefix or "")
            pages = self._connection.scan_all(tag, pattern)
            if whole and self._kind == "hnsw":
                live += self._clear(tag, selector, pages)
            else:
                for page in pages:
                    live += self._unlink(tag, self._matching(tag, selector, page))
        return live

    def _clear(self, tag: str, selector: Selector, pages: Iterable[Sequence[bytes]]) -> int:
        """Delete a whole namespace, its graph first where no other namespace is in it."""
        matching = [one for page in pages for one in self._matching(tag, selector, page)]
        try:
            alone = self._index.drop_if_alone(tag, len({name for name, _ in matching}))
        except (SearchMissing, IndexMissing):
            alone = True
        return self._unlink(tag, matching, _BATCH["flat"] if alone else None)

    def _matching(
        self, tag: str, selector: Selector, page: Sequence[bytes]
    ) -> list[tuple[bytes, bool]]:
        """Return the names of the records that match, and whether they live."""
        bumps = self._connection.names.bumps(tag)
        reads = [("HMGET", name, ABOUT, STAMPS) for name in page]
        *replies, stands = self._connection.run_all(tag, [*reads, ("GET", bumps)])
        found: list[tuple[bytes, bool]] = []
        now = self._clock()
        for name, (about, stamps) in zip(page, replies, strict=True):
            record = outline(name, about)
            if record is not None and selector.matches(record):
                ahead = record.expires is None or record.expires > now
                found.append((name, ahead and self._epochs.hold(tag, record, stamps, stands)))
        return found

    def _unlink(
        self, tag: str, matching: Sequence[tuple[bytes, bool]], batch: int | None = None
    ) -> int:
        size = batch or _BATCH[self._kind]
        live = 0
        for start in range(0, len(matching), size):
            some = matching[start : start + size]
            gone = int(self._connection.run(tag, "UNLINK", *(name for name, _ in some)))
            live += min(gone, sum(alive for _, alive in some))
        return live


logger = logging.getLogger("tiered_cache")

LOOK_AGAIN_S = 60.0
"""How long a server without the search module is not asked for neighbours."""

FARTHEST = 2.5
"""No cosine distance is larger; a NaN is not smaller."""


class RedisStore(RedisValues):
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
        super().__init__(RedisConnection(address, timeout), _fresh)
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
            found, dead, is_far = self._sort_out(tag, (scope, space), k, least, reply, stands)
            if dead:
                self._removal.bury(tag, dead)
            if len(found) >= k or len(reply or ()) <= 2 * wanted or (found and is_far):
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
        reply: Any,
        stands: bytes | None,
    ) -> tuple[list[Neighbour], list[Death], bool]:
        """Return the first k that live, the dead, and whether what follows is below ``least``.

        Scope and life are checked on the record.
        """
        found: list[Neighbour] = []
        dead: list[Death] = []
        is_far = False
        now = self._clock()
        for one in rows(reply):
            is_far = 1.0 - one.distance < least
            if len(found) == k or (found and is_far):
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
        return found, dead, is_far

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
            found[id] = [(number, decoded(label)) for number, label in enumerate(labels, first)]
        return found

    def add_labels(self, id: str, labels: Sequence[str]) -> None:
        if labels:
            tag, names = self._names.value_tag(id), self._names.label_keys(id)
            self._connection.run_script(tag, PUSH, names, LABELS_PER_ID, *map(encoded, labels))

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

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        try:
            return super().increment(amounts)
        finally:
            if self.near is not None and any(key.startswith("epoch:") for key in amounts):
                self.near.bumped()


def _fresh() -> int:
    """Return a number that no other process has: children of a fork would share a seed."""
    return secrets.randbits(48)
