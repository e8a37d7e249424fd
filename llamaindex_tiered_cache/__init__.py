"""Cache LlamaIndex's models, embeddings and query engines: ``install("sqlite:///answers.db")``."""

from shared_core.lazy import missing

try:
    from llamaindex_tiered_cache.agents import cached_agent
    from llamaindex_tiered_cache.answers import TieredCacheHitEvent, feedback_from
    from llamaindex_tiered_cache.embeddings import CachedEmbedding, TieredKVStore
    from llamaindex_tiered_cache.llm import (
        Component,
        cache_of,
        cache_report,
        cached_llm,
        install,
        uncached,
    )
    from llamaindex_tiered_cache.query_engine import CachedQueryEngine
except ModuleNotFoundError as error:
    raise missing(error, "llama_index", __name__, "tiered-llm-cache[llamaindex]") from None

__all__ = [
    "CachedEmbedding",
    "CachedQueryEngine",
    "Component",
    "TieredCacheHitEvent",
    "TieredKVStore",
    "cache_of",
    "cache_report",
    "cached_agent",
    "cached_llm",
    "feedback_from",
    "install",
    "uncached",
]
