"""The cache for LlamaIndex: ``install("sqlite:///answers.db")``."""

from llamaindex_tiered_cache.embedding import CachedEmbedding
from llamaindex_tiered_cache.evaluation import feedback_from
from llamaindex_tiered_cache.kvstore import TieredKVStore
from llamaindex_tiered_cache.llm import cache_of, cached_llm, install, uncached
from llamaindex_tiered_cache.query_engine import CachedQueryEngine
from llamaindex_tiered_cache.serving import TieredCacheHitEvent

__all__ = [
    "CachedEmbedding",
    "CachedQueryEngine",
    "TieredCacheHitEvent",
    "TieredKVStore",
    "cache_of",
    "cached_llm",
    "feedback_from",
    "install",
    "uncached",
]
