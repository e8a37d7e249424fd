"""Embed each text once, ``CachedEmbeddings``, and keep bytes in a store, ``TieredByteStore``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.stores import BaseStore
from pydantic import BaseModel

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.llm_string import is_model
from shared_core.cache import ResponseCache
from shared_core.concurrency import ThreadRunner, async_twin
from shared_core.embedding_cache import EmbeddingCache
from shared_core.harmless import is_harmless_setting
from shared_core.identity import Digest, StateReader, plain_name
from shared_core.options import Seconds, seconds
from shared_core.state_places import Unreadable, digest_of

QUERY, DOCUMENT = "query", "document"
"""The two roles of a text; many models embed them differently."""

BATCH = 500
"""Values that one read or write of a byte store holds."""

_PER_CALL = frozenset({"chunk_size", "retry_min_seconds", "retry_max_seconds", "show_progress_bar"})
"""Fields that no vector depends on, besides those of all models."""

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


class CachedEmbeddings(Embeddings):
    """Embeddings whose vectors are kept, by model, role and text.

        embeddings = CachedEmbeddings(OpenAIEmbeddings(), "sqlite:///embeddings.db")

    Of a call, each text that is not known is embedded once, all of them in one batch. Vectors come
    back equal, and live as long as the cache's entries do (``ttl``). A store that fails is passed
    over. Two models are one if their class and settings are equal; ``model`` is a name to use
    instead, which models need that are no pydantic models of plain settings. ``cache`` is a
    ``TieredCache``, a ``ResponseCache`` or a URL, ``namespace`` replaces the cache's own. Wrong
    arguments raise ValueError at construction.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        cache: TieredCache | ResponseCache | str = "memory://",
        *,
        model: str | None = None,
        namespace: str | None = None,
    ) -> None:
        if not isinstance(embeddings, Embeddings):
            raise ValueError(
                f"embeddings must be embeddings of LangChain, not {type(embeddings).__name__}"
            )
        if model is not None and (not isinstance(model, str) or not model):
            raise ValueError(f"model must be a text that is not empty, or None, not {model!r}")
        self.embeddings = embeddings
        self._name = model
        if model is None:
            _digest_of(embeddings).now()
        self._vectors = EmbeddingCache(_with_values(cache), namespace)

    def embed_documents(self, texts: list[str], **kwargs: Any) -> list[list[float]]:
        """Return the vectors of documents, in their order."""

        def embed(new: list[str]) -> list[list[float]]:
            with self._calling():
                return self.embeddings.embed_documents(new, **kwargs)

        return self._vectors.embedded(self.model(kwargs), DOCUMENT, texts, embed)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""

        def embed(new: list[str]) -> list[list[float]]:
            with self._calling():
                return [self.embeddings.embed_query(new[0])]

        return self._vectors.embedded(self.model(), QUERY, [text], embed)[0]

    async def aembed_documents(self, texts: list[str], **kwargs: Any) -> list[list[float]]:
        """Return the vectors of documents, in their order."""

        async def embed(new: list[str]) -> list[list[float]]:
            with self._calling():
                return await self.embeddings.aembed_documents(new, **kwargs)

        return await self._vectors.aembedded(self.model(kwargs), DOCUMENT, texts, embed)

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""

        async def embed(new: list[str]) -> list[list[float]]:
            with self._calling():
                return [await self.embeddings.aembed_query(new[0])]

        return (await self._vectors.aembedded(self.model(), QUERY, [text], embed))[0]

    def model(self, arguments: Mapping[str, Any] = NO_ARGUMENTS) -> Any:
        """Return what tells the model and a call's arguments apart, None if nothing does."""
        more = {name: value for name, value in arguments.items() if name not in _PER_CALL}
        try:
            found = self._name or [plain_name(type(self.embeddings)), self._digest().now()]
            return [found, StateReader(is_model).spell(more)] if more else found
        except Unreadable:
            return None

    def _calling(self) -> AbstractContextManager[None]:
        return nullcontext() if self._name else self._digest().calling()

    def _digest(self) -> Digest:
        return _digest_of(self.embeddings)


def _digest_of(embeddings: Embeddings) -> Digest:
    """Return the digest of a model's settings. Raises ValueError if it does not say them."""
    kind: Any = type(embeddings)
    remedy = "give it a name that stands for model and settings: CachedEmbeddings(…, model=…)"
    if not isinstance(embeddings, BaseModel):
        raise ValueError(f"{plain_name(kind)} does not say what model it is; {remedy}")

    def is_harmless(setting: str) -> bool:
        return setting in _PER_CALL or is_harmless_setting(setting)

    def make() -> Digest:
        def spell(reader: StateReader) -> Any:
            reader.takes_sentinels = False
            return reader.settings(embeddings, is_harmless)

        return Digest(spell, is_model, owner=embeddings)

    digest = digest_of(embeddings, "embeddings", make)
    try:
        digest.now()
    except Unreadable as error:
        odd, _, _ = str(error).partition(" ")
        problem = f"{plain_name(kind)} has a setting without an identity, {odd}"
        raise ValueError(f"{problem}; {remedy}") from None
    return digest


def _with_values(cache: TieredCache | ResponseCache | str) -> ResponseCache:
    """Return a cache whose values are used; one that is opened for it embeds nothing itself."""
    if isinstance(cache, TieredCache):
        return cache.cache
    if isinstance(cache, ResponseCache):
        return cache
    if isinstance(cache, str):
        return ResponseCache.open(cache, semantic=False)
    raise ValueError(f"cache must be a TieredCache, a ResponseCache or a URL, not {cache!r}")


class TieredByteStore(BaseStore[str, bytes]):
    """A byte store on memory, sqlite or Redis, for ``CacheBackedEmbeddings`` and retrievers.

        store = TieredByteStore("sqlite:///bytes.db", namespace="handbook")
        CacheBackedEmbeddings.from_bytes_store(embeddings, store, namespace=embeddings.model)

    ``cache`` is a ``TieredCache``, a ``ResponseCache`` or a URL; its store is used. ``namespace``
    keeps users of one store apart. Values live until they are deleted, or for ``ttl``;
    ``max_entries`` of a cache does not count them.

    This is storage: what fails raises StoreError. Wrong arguments raise ValueError at construction.
    """

    def __init__(
        self,
        cache: TieredCache | ResponseCache | str = "memory://",
        *,
        namespace: str = "default",
        ttl: Seconds | None = None,
    ) -> None:
        if not isinstance(namespace, str) or not namespace:
            raise ValueError(f"namespace must be a text that is not empty, not {namespace!r}")
        self._cache = _with_values(cache)
        self._namespace = namespace
        self._ttl = None if ttl is None else seconds("ttl", ttl)
        self._threads = ThreadRunner()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._cache, self._namespace, self._ttl)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values, None for those that are not there. Raises StoreError."""
        found: dict[str, bytes] = {}
        names = [self._name(key) for key in keys]
        for start in range(0, len(names), BATCH):
            found |= self._cache.values.get_many(names[start : start + BATCH])
        return [found.get(name) for name in names]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store values in writes of ``BATCH``, all or none of a write. Raises StoreError."""
        lifetime = None if self._ttl == float("inf") else self._ttl
        for start in range(0, len(key_value_pairs), BATCH):
            batch = key_value_pairs[start : start + BATCH]
            items = {self._name(key): bytes(value) for key, value in batch}
            self._cache.values.put_many(items, lifetime)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete values; those that are not there are ignored. Raises StoreError."""
        for start in range(0, len(keys), BATCH):
            self._cache.values.delete_many(list(map(self._name, keys[start : start + BATCH])))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the keys with a prefix, each once; without it all. Raises StoreError."""
        head, seen, cursor = self._name(""), set[str](), ""
        while True:
            names, cursor = self._cache.values.scan(self._name(prefix or ""), cursor)
            yield from (name.removeprefix(head) for name in names if name not in seen)
            seen.update(names)
            if not cursor:
                return

    amget = async_twin(mget)
    amset = async_twin(mset)
    amdelete = async_twin(mdelete)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Do as ``yield_keys`` does; the event loop is not blocked."""
        for key in await self._threads.run(lambda: list(self.yield_keys(prefix=prefix))):
            yield key

    def _name(self, key: str) -> str:
        return f"bytes:{len(self._namespace)}:{self._namespace}:{key}"


def _restored(cache: ResponseCache, namespace: str, ttl: float | None) -> TieredByteStore:
    return TieredByteStore(cache, namespace=namespace, ttl=ttl)
