"""Where records live: three protocols, and ``open_store`` that picks who serves them.

A store is one object that serves all of them. All methods block, may be called from any thread,
and survive a fork: the child opens its own handles. ``tests/conformance.py`` is the suite that
every store passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote

from shared_core.record import Neighbour, Record

if TYPE_CHECKING:
    from shared_core.codec import Codec
    from shared_core.record import Vector

Clock = Callable[[], float]

KNOWN_FORMS = (
    "memory://, sqlite:///relative.db, sqlite:////absolute/path.db, redis://host:6379/0, "
    "rediss://…, unix:///path/to/socket, redis+sentinel://host:26379,host:26379/service/0, "
    "redis+cluster://host:6379,host:6379"
)
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")


class StoreError(Exception):
    """A store could not do what was asked: locked, full, unreadable, gone.

    The cache turns it into a miss.
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
    """Records by key and by vector, and the labels learnt about them."""

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


def open_store(
    url: str,
    *,
    max_entries: int | None = None,
    timeout: float = 0.25,
    codec: Codec | None = None,
    clock: Clock = time.time,
    index: Literal["flat", "hnsw"] | None = None,
    precision: Literal["float32", "float16"] | None = None,
    near_cache: int = 0,
    client: Any = None,
    ssl: Mapping[str, Any] | None = None,
) -> Store:
    """Open the store that a URL names: ``memory://``, ``sqlite:///PATH``, or a Redis.

    ``sqlite:///answers.db`` is relative to the working directory, ``sqlite:////var/answers.db``
    absolute; "%20" and the like are decoded. ``timeout`` in seconds bounds the wait for other
    writers. ``codec`` writes what lies outside of this process's memory. What keeps a file from
    being opened is told at once. A Redis is connected to when it is first used. ``index``,
    ``precision``, ``near_cache``, ``client`` and ``ssl`` are for Redis alone.

    Raises ValueError for a URL or an option that can not be, naming it and what can; ImportError
    for packages that are missing. A file that other processes keep locked is no error before it is
    used.
    """
    if not isinstance(url, str):
        raise ValueError(f"store URL {url!r} is not a text; known forms: {KNOWN_FORMS}")
    if max_entries is not None and max_entries < 1:
        raise ValueError(f"max_entries={max_entries!r}: give at least 1, or None for no limit")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give seconds, more than 0")
    scheme, separator, rest = str(url).partition("://")
    of_redis = {"index": index, "precision": precision, "client": client, "ssl": ssl}
    of_redis["near_cache"] = near_cache or None
    given = [name for name, value in of_redis.items() if value is not None]
    if given and scheme not in REDIS_SCHEMES:
        raise ValueError(f"{', '.join(given)}: of Redis alone, not of {scheme}://")
    match scheme if separator else "":
        case "memory" if not rest:
            from shared_core.stores.memory import MemoryStore

            return MemoryStore(max_entries=max_entries, clock=clock)
        case "sqlite" if (
            rest[:1] == "/" and rest[1:] not in ("", "/", ":memory:") and "?" not in rest
        ):
            from shared_core.stores.sqlite import SqliteStore

            return SqliteStore(
                unquote(rest[1:]),
                max_entries=max_entries,
                timeout=timeout,
                codec=codec,
                clock=clock,
            )
        case scheme if scheme in REDIS_SCHEMES:
            return _open_redis(url, max_entries, timeout, codec, clock, of_redis)
        case _:
            raise ValueError(f"store URL {url!r} is not understood; known forms: {KNOWN_FORMS}")


def _open_redis(
    url: str,
    max_entries: int | None,
    timeout: float,
    codec: Codec | None,
    clock: Clock,
    options: Mapping[str, Any],
) -> Store:
    if max_entries is not None:
        raise ValueError(
            f"max_entries={max_entries}: a Redis is shared, and bounded by its own settings: set "
            "maxmemory and maxmemory-policy (allkeys-lru, say) in the server"
        )
    try:
        from shared_core.stores.redis import RedisStore
        from shared_core.stores.redis_address import address_of, address_of_client
    except ImportError as error:
        raise ImportError(
            f"{url.partition('://')[0]}:// needs redis and redisvl: "
            f"pip install 'tiered-llm-cache[redis]' ({error})"
        ) from None
    client = options["client"]
    address = address_of(url, options["ssl"]) if client is None else address_of_client(client)
    if options["near_cache"] and address.kind != "server":
        raise ValueError(
            f"near_cache={options['near_cache']}: for one server alone, not for {address.place}: "
            "behind sentinels and on a cluster keys move to servers that tell nothing; leave it 0"
        )
    return RedisStore(
        address,
        timeout=timeout,
        index=options["index"] or "flat",
        precision=options["precision"] or "float16",
        near_cache=options["near_cache"] or 0,
        codec=codec,
        clock=clock,
    )
