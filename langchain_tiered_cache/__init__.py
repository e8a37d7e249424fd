"""Cache LangChain's models, streams, agents and embeddings: ``set_llm_cache(TieredCache())``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names, missing

try:
    from langchain_tiered_cache.cache import TieredCache, get_cache_trace
    from langchain_tiered_cache.request import Question, parse, rag_question
except ModuleNotFoundError as error:
    raise missing(error, "langchain_core", __name__, "tiered-llm-cache[langchain]") from None

if TYPE_CHECKING:
    from langchain_tiered_cache.embeddings import CachedEmbeddings, TieredByteStore
    from langchain_tiered_cache.models import cached_model
    from langchain_tiered_cache.nodes import TieredNodeCache
else:
    # These load LangChain's models and stores.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "CachedEmbeddings": "embeddings",
            "TieredByteStore": "embeddings",
            "TieredNodeCache": "nodes",
            "cached_model": "models",
        },
    )

__all__ = [
    "CachedEmbeddings",
    "Question",
    "TieredByteStore",
    "TieredCache",
    "TieredNodeCache",
    "cached_model",
    "get_cache_trace",
    "parse",
    "rag_question",
]
