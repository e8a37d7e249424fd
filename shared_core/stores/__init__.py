"""Open the store that a URL names: this process's memory, an SQLite file, or a Redis.

``api`` says what a store is. A store's own module is loaded when one of its names is asked for.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from shared_core.lazy import lazy_names
from shared_core.stores.api import (
    Browsable,
    Clock,
    KeyValue,
    RecordStore,
    Selector,
    Store,
    StoreError,
    StoreInfo,
    epoch_key,
)
from shared_core.stores.codec import Codec, SealedValues, UndecodableError

if TYPE_CHECKING:
    from shared_core.stores.memory import MemoryStore
    from shared_core.stores.redis import (
        RedisAddress,
        RedisConnection,
        RedisStore,
        SearchMissing,
        address_of,
    )
    from shared_core.stores.sqlite import SCHEMA_VERSION, ReadOnlyFile, SqliteStore, bears_our_id
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "MemoryStore": "memory",
            "ReadOnlyFile": "sqlite",
            "RedisAddress": "redis",
            "RedisConnection": "redis",
            "RedisStore": "redis",
            "SCHEMA_VERSION": "sqlite",
            "SearchMissing": "redis",
            "SqliteStore": "sqlite",
            "address_of": "redis",
            "bears_our_id": "sqlite",
        },
    )

__all__ = [
    "KNOWN_FORMS",
    "REDIS_SCHEMES",
    "SCHEMA_VERSION",
    "Browsable",
    "Clock",
    "Codec",
    "KeyValue",
    "MemoryStore",
    "ReadOnlyFile",
    "RecordStore",
    "RedisAddress",
    "RedisConnection",
    "RedisStore",
    "SealedValues",
    "SearchMissing",
    "Selector",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreInfo",
    "UndecodableError",
    "address_of",
    "bears_our_id",
    "epoch_key",
    "open_store",
    "without_password",
]

logger = logging.getLogger("tiered_cache")

KNOWN_FORMS = (
    "memory://, sqlite:///relative.db, sqlite:////absolute/path.db, redis://host:6379/0, "
    "rediss://…, unix:///path/to/socket, redis+sentinel://host:26379,host:26379/service/0, "
    "redis+cluster://host:6379,host:6379"
)
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")


_HARMLESS = {"db", "protocol", "path", "api-version"}
"""What a URL may say after its question mark and be shown."""


def without_password(url: str) -> str:
    """Return a URL as it may be shown: no login, no values of parameters, nothing like a key.

    without_password("redis://:secret@host/0?db=1")  # "redis://:***@host/0?db=1"
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "sqlite":
        return url
    login, at, rest = rest.rpartition("@")  # a password may hold "/", "?", "#" and "@" unquoted
    user, colon, _ = login.partition(":")
    login = ("***" if user else "") + (":***" if colon else "") + at
    rest, _, parameters = rest.partition("#")[0].partition("?")
    shown = [
        name + "=" + (value if name in _HARMLESS else "***")
        for name, _, value in (one.partition("=") for one in parameters.split("&") if one)
    ]
    rest = _LIKE_A_KEY.sub("/***", rest)
    return f"{scheme}://{login}{rest}{'?' if shown else ''}{'&'.join(shown)}"


_LIKE_A_KEY = re.compile(r"/(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_-]{16,}(?=/|$)")
"""A part of a path that is long and has letters and digits, as keys of gateways."""


def open_store(  # noqa: PLR0913 - each is an option of the cache
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
    strict: bool = False,
) -> Store:
    """Open the store that a URL names: ``memory://``, ``sqlite:///PATH``, or a Redis.

    ``sqlite:///answers.db`` is relative to the working directory, ``sqlite:////var/answers.db``
    absolute; "%20" and the like are decoded. ``timeout`` in seconds bounds the wait for other
    writers. ``codec`` writes what lies outside of this process's memory. A file that cannot be used
    now (unreadable, read-only, on a full disk) means memory, with a warning; if ``strict``, it
    raises ValueError. One that is damaged is set aside, and a new one begins. A Redis is connected
    to when it is first used. ``index``, ``precision``, ``near_cache``, ``client`` and ``ssl`` are
    for Redis alone.

    Raises ValueError for a URL or an option that can not be, naming it and what can; ImportError
    for packages that are missing. A file that other processes keep locked is no error before it is
    used.

    >>> open_store("memory://", max_entries=1000).get("no such key") is None
    True
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
            from shared_core.stores.sqlite import SqliteStore, UnusableFile

            try:
                return SqliteStore(
                    unquote(rest[1:]),
                    max_entries=max_entries,
                    timeout=timeout,
                    codec=codec,
                    clock=clock,
                )
            except UnusableFile as error:
                if strict:
                    raise
                from shared_core.stores.memory import MemoryStore

                logger.warning("%s: answers are kept in memory, until the next start", error)
                return MemoryStore(max_entries=max_entries, clock=clock)
        case scheme if scheme in REDIS_SCHEMES:
            return _open_redis(url, max_entries, timeout, codec, clock, of_redis)
        case _:
            raise ValueError(
                f"store URL {without_password(url)!r} is not understood; known forms: {KNOWN_FORMS}"
            )


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
        from shared_core.stores.redis import RedisStore, address_of, address_of_client
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
