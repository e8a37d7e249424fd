"""Offer a cache's store behind LlamaIndex's key-value interface: ``TieredKVStore``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from llama_index.core.storage.kvstore.types import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_COLLECTION,
    BaseKVStore,
)

from llamaindex_tiered_cache.llm import open_values
from shared_core.cache import ResponseCache
from shared_core.concurrency import ThreadRunner, async_twin
from shared_core.options import Seconds, seconds

BATCH = 500
"""Values that one write holds when the caller names no batch size."""


class TieredKVStore(BaseKVStore):
    """A key-value store on memory, sqlite or Redis, for ingestion caches, documents and indexes.

        docstore = KVDocumentStore(TieredKVStore("sqlite:///index.db", namespace="handbook"))
        pipeline = IngestionPipeline(
            transformations=..., cache=IngestionCache(cache=TieredKVStore(url, namespace="ingest"))
        )

    ``cache`` is a ``ResponseCache``, whose store is used, or the URL of one. ``namespace`` keeps
    users of one store apart. Values live until they are deleted, or for ``ttl``; ``max_entries`` of
    a cache does not count them. Values are JSON: tuples come back as lists.

    This is storage: what fails raises StoreError. Wrong arguments raise ValueError at construction.
    A pickled store reconnects; in the same process it is on the same cache.
    """

    def __init__(
        self,
        cache: ResponseCache | str = "memory://",
        *,
        namespace: str = "default",
        ttl: Seconds | None = None,
    ) -> None:
        if not isinstance(namespace, str) or not namespace:
            raise ValueError(f"namespace must be a text that is not empty, not {namespace!r}")
        self._cache = open_values(cache)
        self._namespace = namespace
        self._ttl = None if ttl is None else seconds("ttl", ttl)
        self._threads = ThreadRunner()

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Store a value. Raises StoreError, and TypeError for what JSON does not have."""
        self._cache.values.put_many({self._key(key, collection): _encoded(val)}, self._lifetime)

    def put_all(
        self,
        kv_pairs: Sequence[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """Store values in writes of ``batch_size`` each, all or none of a write.

        1, the default, is what callers pass that know nothing of batches, and means ``BATCH``.
        Raises as ``put`` does.
        """
        for batch in _batches(kv_pairs, batch_size if batch_size > 1 else BATCH):
            items = {self._key(key, collection): _encoded(val) for key, val in batch}
            self._cache.values.put_many(items, self._lifetime)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """Return the value, or None. Raises StoreError."""
        return self.get_many([key], collection).get(key)

    def get_many(
        self, keys: Sequence[str], collection: str = DEFAULT_COLLECTION
    ) -> dict[str, dict[str, Any]]:
        """Return the values that are there, in one read per ``BATCH`` keys. Raises StoreError."""
        found: dict[str, dict[str, Any]] = {}
        for batch in _batches(keys, BATCH):
            named = {self._key(key, collection): key for key in batch}
            values = self._cache.values.get_many(list(named))
            found.update(
                (named[name], json.loads(value.decode())) for name, value in values.items()
            )
        return found

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Return every value of a collection. Raises StoreError."""
        prefix = self._key("", collection)
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            names, cursor = self._cache.values.scan(prefix, cursor)
            found |= self.get_many([name.removeprefix(prefix) for name in names], collection)
            if not cursor:
                return found

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Delete a value and return whether it was there. Raises StoreError."""
        return self._cache.values.delete_many([self._key(key, collection)]) > 0

    aput = async_twin(put)
    aput_all = async_twin(put_all)
    aget = async_twin(get)
    aget_many = async_twin(get_many)
    aget_all = async_twin(get_all)
    adelete = async_twin(delete)

    def __bool__(self) -> bool:
        """Return True: LlamaIndex asks whether there is a store, not whether it is empty."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._cache, self._namespace, self._ttl)

    @property
    def _lifetime(self) -> float | None:
        return None if self._ttl == float("inf") else self._ttl

    def _key(self, key: str, collection: str) -> str:
        # Lengths keep ("a:b", "c") and ("a", "b:c") apart.
        space, name = self._namespace, collection
        return f"kv:{len(space)}:{space}:{len(name)}:{name}:{key}"


def _restored(cache: ResponseCache, namespace: str, ttl: float | None) -> TieredKVStore:
    return TieredKVStore(cache, namespace=namespace, ttl=ttl)


def _encoded(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # made once: ``dumps`` makes one per call


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
