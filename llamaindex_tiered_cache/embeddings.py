"""Embed each text once, and store what an index is made of: CachedEmbedding, TieredKVStore."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SerializeAsAny
from llama_index.core.storage.kvstore.types import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_COLLECTION,
    BaseKVStore,
)

from llamaindex_tiered_cache.calls import open_values
from llamaindex_tiered_cache.components import fields_of, hidden_of, plain
from shared_core.cache import ResponseCache
from shared_core.concurrency import ThreadRunner, async_twin
from shared_core.embedding_cache import EmbeddingCache
from shared_core.options import Seconds, seconds

QUERY, TEXT = "query", "text"
"""The two roles of a text; many models embed them differently."""


class CachedEmbedding(BaseEmbedding):
    """An embedding model whose vectors are kept, by model, role and text.

        Settings.embed_model = CachedEmbedding(OpenAIEmbedding(), "sqlite:///embeddings.db")

    Of a batch, each text that is not known is embedded once, in batches of the inner model's size.
    Only what is embedded emits events. Vectors live as long as the cache's entries do (``ttl``).
    Two models are one if their class and public fields are equal: give models of your own a
    ``model_name``. A store that fails is passed over. ``cache`` is a ``ResponseCache`` or a URL.
    """

    embed_model: SerializeAsAny[BaseEmbedding] = Field(description="The model that embeds.")

    _vectors: EmbeddingCache = PrivateAttr()

    def __init__(
        self,
        embed_model: BaseEmbedding,
        cache: ResponseCache | str = "memory://",
        *,
        namespace: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(embed_model, BaseEmbedding):
            raise ValueError(
                "embed_model must be an embedding model of LlamaIndex, "
                f"not {type(embed_model).__name__}"
            )
        of_inner = ("model_name", "embed_batch_size", "callback_manager", "num_workers")
        fields: dict[str, Any] = {name: getattr(embed_model, name) for name in of_inner}
        super().__init__(**{**fields, "embed_model": embed_model, **kwargs})
        self._vectors = EmbeddingCache(open_values(cache), namespace)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class in serialised form."""
        return "CachedEmbedding"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "callback_manager":
            self.embed_model.callback_manager = value  # the inner model is the one that reports

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.embed_model, self._vectors.cache, self._vectors.namespace)

    def get_query_embedding(self, query: str) -> Embedding:
        """Return the vector of a query."""
        inner = self.embed_model
        return self._embedded(QUERY, [query], lambda new: [inner.get_query_embedding(new[0])])[0]

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Return the vector of a query."""

        async def embed(new: list[str]) -> list[Embedding]:
            return [await self.embed_model.aget_query_embedding(new[0])]

        return (await self._aembedded(QUERY, [query], embed))[0]

    def get_text_embedding(self, text: str) -> Embedding:
        """Return the vector of a text."""
        inner = self.embed_model
        return self._embedded(TEXT, [text], lambda new: [inner.get_text_embedding(new[0])])[0]

    async def aget_text_embedding(self, text: str) -> Embedding:
        """Return the vector of a text."""

        async def embed(new: list[str]) -> list[Embedding]:
            return [await self.embed_model.aget_text_embedding(new[0])]

        return (await self._aembedded(TEXT, [text], embed))[0]

    def get_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Return the vectors of texts, in their order."""
        inner = self.embed_model
        return self._embedded(
            TEXT, texts, lambda new: inner.get_text_embedding_batch(new, show_progress, **kwargs)
        )

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Return the vectors of texts, in their order."""
        inner = self.embed_model
        return await self._aembedded(
            TEXT, texts, lambda new: inner.aget_text_embedding_batch(new, show_progress, **kwargs)
        )

    def _get_query_embedding(self, query: str) -> Embedding:
        return self.get_query_embedding(query)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await self.aget_query_embedding(query)

    def _get_text_embedding(self, text: str) -> Embedding:
        return self.get_text_embedding(text)

    def _embedded(
        self, role: str, texts: Sequence[str], embed: Callable[[list[str]], list[Embedding]]
    ) -> list[Embedding]:
        def noted(new: list[str]) -> list[Embedding]:
            with hidden_of(self.embed_model).calling():
                return embed(new)

        return self._vectors.embedded(self._identity(), role, texts, noted)

    async def _aembedded(
        self,
        role: str,
        texts: Sequence[str],
        embed: Callable[[list[str]], Awaitable[list[Embedding]]],
    ) -> list[Embedding]:
        async def noted(new: list[str]) -> list[Embedding]:
            with hidden_of(self.embed_model).calling():
                return await embed(new)

        return await self._vectors.aembedded(self._identity(), role, texts, noted)

    def _identity(self) -> Any:
        """Return what tells the model apart, None if nothing does beyond this process."""
        kind = type(self.embed_model)
        try:
            shown, hidden = plain(fields_of(self.embed_model)), hidden_of(self.embed_model).now()
            return [f"{kind.__module__}.{kind.__qualname__}", shown, hidden]
        except (TypeError, ValueError):
            return None


def _restored(embed_model: BaseEmbedding, cache: ResponseCache, namespace: str) -> CachedEmbedding:
    return CachedEmbedding(embed_model, cache, namespace=namespace)


# The store of a cache as LlamaIndex's key-value store.


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
        return _restored_store, (self._cache, self._namespace, self._ttl)

    @property
    def _lifetime(self) -> float | None:
        return None if self._ttl == float("inf") else self._ttl

    def _key(self, key: str, collection: str) -> str:
        # Lengths keep ("a:b", "c") and ("a", "b:c") apart.
        space, name = self._namespace, collection
        return f"kv:{len(space)}:{space}:{len(name)}:{name}:{key}"


def _restored_store(cache: ResponseCache, namespace: str, ttl: float | None) -> TieredKVStore:
    return TieredKVStore(cache, namespace=namespace, ttl=ttl)


def _encoded(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # made once: ``dumps`` makes one per call


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
