"""Wrap an embedding model so that each text is embedded once: ``CachedEmbedding``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SerializeAsAny

from llamaindex_tiered_cache.components import fields_of, hidden_of, plain
from llamaindex_tiered_cache.llm import open_values
from shared_core.cache import ResponseCache
from shared_core.embedding_cache import EmbeddingCache

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
