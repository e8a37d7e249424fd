"""Cache LlamaIndex's models, embeddings and query engines: ``install("sqlite:///answers.db")``."""

from llamaindex_tiered_cache.answers import TieredCacheHitEvent
from llamaindex_tiered_cache.embeddings import CachedEmbedding
from llamaindex_tiered_cache.feedback import feedback_from
from llamaindex_tiered_cache.kvstore import TieredKVStore
from llamaindex_tiered_cache.llm import cache_of, cached_llm, uncached
from llamaindex_tiered_cache.query_engine import CachedQueryEngine
from llamaindex_tiered_cache.settings import Component, cache_report, install

__all__ = [
    "CachedEmbedding",
    "CachedQueryEngine",
    "Component",
    "TieredCacheHitEvent",
    "TieredKVStore",
    "cache_of",
    "cache_report",
    "cached_llm",
    "feedback_from",
    "install",
    "uncached",
]
