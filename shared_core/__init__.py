"""The framework-neutral core of tiered-llm-cache: requests, answers, and the cache between them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent, SharedEvent, StoreEvent, Trace
from shared_core.embedding import Embedder, EmbedderError
from shared_core.guard import Difference, Guard
from shared_core.learning import (
    EmbeddingJudge,
    LLMJudge,
    Tuning,
    policy_from_json,
    policy_to_json,
    tune,
)
from shared_core.options import Options
from shared_core.record import Answer, Explore, Hit, Miss, Outcome, Record, Tier
from shared_core.request import Address, Request
from shared_core.stats import Stats
from shared_core.stores import KeyValue, RecordStore, StoreError, open_store
from shared_core.stores.codec import UndecodableError
from shared_core.thresholds import Feedback, Policy, Static, Verified

if TYPE_CHECKING:
    from shared_core.client import CachedClient
    from shared_core.client.batcher import Batcher, BatcherClosed
    from shared_core.client.throttle import RateLimit, Retries
    from shared_core.costs import Budget, Costs
    from shared_core.decorator import UnkeyableError, cached
    from shared_core.embedding_cache import EmbeddingCache
    from shared_core.openai_format import CachedResponse
    from shared_core.prefix import PrefixCache, SystemPromptCache, cached_tokens, mark
    from shared_core.prefix.chunks import ChunkCache
    from shared_core.prefix.kv_reuse import KVPrefixCache
    from shared_core.prefix.token_budget import NoRoomError, TokenBudget
    from shared_core.usage import Price


__version__ = "0.1.0"

__all__ = [
    "Address",
    "Answer",
    "Batcher",
    "BatcherClosed",
    "Budget",
    "CachedClient",
    "CachedResponse",
    "ChunkCache",
    "Costs",
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
    "LookupEvent",
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
    "tune",
]

_LATER = {
    "Batcher": "client.batcher",
    "BatcherClosed": "client.batcher",
    "Budget": "costs",
    "CachedClient": "client",
    "CachedResponse": "openai_format",
    "ChunkCache": "prefix.chunks",
    "Costs": "costs",
    "EmbeddingCache": "embedding_cache",
    "KVPrefixCache": "prefix.kv_reuse",
    "NoRoomError": "prefix.token_budget",
    "PrefixCache": "prefix",
    "Price": "usage",
    "RateLimit": "client.throttle",
    "Retries": "client.throttle",
    "SystemPromptCache": "prefix",
    "TokenBudget": "prefix.token_budget",
    "UnkeyableError": "decorator",
    "cached": "decorator",
    "cached_tokens": "prefix",
    "mark": "prefix",
}
"""Names to the modules that are loaded when they are asked for: no lookup needs them."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
