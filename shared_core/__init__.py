"""Hand on the public names of the framework-neutral core: requests, answers, and the cache.

Names that no lookup needs are loaded when they are first asked for.
"""

from typing import TYPE_CHECKING

from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent, SharedEvent, StoreEvent, Trace
from shared_core.embedding import Embedder, EmbedderError
from shared_core.guard import Difference, Guard
from shared_core.lazy import lazy_names
from shared_core.learning import (
    AnswerJudge,
    DecisionJudge,
    EmbeddingJudge,
    LLMJudge,
    LocalVerifier,
    Tuning,
    tune,
)
from shared_core.options import Options, Standalone, standalone
from shared_core.record import Answer, Explore, Hit, Miss, Outcome, Record, Tier
from shared_core.request import Address, Request
from shared_core.stats import Stats
from shared_core.stores import KeyValue, RecordStore, StoreError, UndecodableError, open_store
from shared_core.thresholds import (
    Feedback,
    Policy,
    Static,
    Verified,
    policy_from_json,
    policy_to_json,
)

if TYPE_CHECKING:
    from shared_core.agents import McpCacheStore
    from shared_core.client import Batcher, BatcherClosed, CachedClient, RateLimit, Retries
    from shared_core.costs import Budget, Costs
    from shared_core.decorator import UnkeyableError, cached
    from shared_core.embedding_cache import EmbeddingCache
    from shared_core.openai_format import CachedResponse
    from shared_core.prefix import (
        ChunkCache,
        KVPrefixCache,
        NoRoomError,
        PrefixCache,
        SystemPromptCache,
        TokenBudget,
        cached_tokens,
        mark,
    )
    from shared_core.usage import Price
else:
    # No lookup needs them.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Batcher": "client",
            "BatcherClosed": "client",
            "Budget": "costs",
            "CachedClient": "client",
            "CachedResponse": "openai_format",
            "ChunkCache": "prefix",
            "Costs": "costs",
            "EmbeddingCache": "embedding_cache",
            "KVPrefixCache": "prefix",
            "McpCacheStore": "agents",
            "NoRoomError": "prefix",
            "PrefixCache": "prefix",
            "Price": "usage",
            "RateLimit": "client",
            "Retries": "client",
            "SystemPromptCache": "prefix",
            "TokenBudget": "prefix",
            "UnkeyableError": "decorator",
            "cached": "decorator",
            "cached_tokens": "prefix",
            "mark": "prefix",
        },
    )

__version__ = "0.2.0"

__all__ = [
    "Address",
    "Answer",
    "AnswerJudge",
    "Batcher",
    "BatcherClosed",
    "Budget",
    "CachedClient",
    "CachedResponse",
    "ChunkCache",
    "Costs",
    "DecisionJudge",
    "Difference",
    "Embedder",
    "EmbedderError",
    "EmbeddingCache",
    "EmbeddingJudge",
    "Explore",
    "Feedback",
    "Guard",
    "Hit",
    "KVPrefixCache",
    "KeyValue",
    "LLMJudge",
    "LocalVerifier",
    "LookupEvent",
    "McpCacheStore",
    "Miss",
    "NoRoomError",
    "Options",
    "Outcome",
    "Policy",
    "PrefixCache",
    "Price",
    "RateLimit",
    "Record",
    "RecordStore",
    "Request",
    "ResponseCache",
    "Retries",
    "SharedEvent",
    "Standalone",
    "Static",
    "Stats",
    "StoreError",
    "StoreEvent",
    "SystemPromptCache",
    "Tier",
    "TokenBudget",
    "Trace",
    "Tuning",
    "UndecodableError",
    "UnkeyableError",
    "Verified",
    "cached",
    "cached_tokens",
    "mark",
    "open_store",
    "policy_from_json",
    "policy_to_json",
    "standalone",
    "tune",
]
