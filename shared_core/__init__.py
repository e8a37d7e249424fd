"""The framework-neutral core of tiered-llm-cache: requests, answers, and the cache between them."""

from shared_core.cache import ResponseCache
from shared_core.codec import UndecodableError
from shared_core.embedding import Embedder, EmbedderError
from shared_core.events import LookupEvent, SharedEvent, StoreEvent, Trace
from shared_core.guard import Difference, Guard
from shared_core.judges import EmbeddingJudge, LLMJudge
from shared_core.options import Options
from shared_core.policy_file import policy_from_json, policy_to_json
from shared_core.record import Answer, Explore, Hit, Miss, Outcome, Record, Tier
from shared_core.request import Address, Request
from shared_core.stats import Stats
from shared_core.stores import KeyValue, RecordStore, StoreError, open_store
from shared_core.thresholds import Feedback, Policy, Static, Verified
from shared_core.tuning import Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "Address",
    "Answer",
    "Difference",
    "Embedder",
    "EmbedderError",
    "EmbeddingJudge",
    "Explore",
    "Feedback",
    "Guard",
    "Hit",
    "KeyValue",
    "LLMJudge",
    "LookupEvent",
    "Miss",
    "Options",
    "Outcome",
    "Policy",
    "Record",
    "RecordStore",
    "Request",
    "ResponseCache",
    "SharedEvent",
    "Static",
    "Stats",
    "StoreError",
    "StoreEvent",
    "Tier",
    "Trace",
    "Tuning",
    "UndecodableError",
    "Verified",
    "open_store",
    "policy_from_json",
    "policy_to_json",
    "tune",
]
