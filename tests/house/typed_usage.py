"""Use the public API as an app does; mypy and pyright check every type, and a test runs it.

``make lint`` runs both type checkers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never, assert_type

import numpy as np
from langchain_core.caches import BaseCache
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from llama_index.core.llms import LLM
from numpy import float32
from numpy.typing import NDArray

from langchain_tiered_cache import (
    CachedEmbeddings,
    TieredByteStore,
    TieredCache,
    cached_model,
    get_cache_trace,
)
from llamaindex_tiered_cache import TieredKVStore, cache_of, cached_llm, uncached
from shared_core import (
    Answer,
    ChunkCache,
    Costs,
    Difference,
    Embedder,
    Explore,
    Feedback,
    Guard,
    Hit,
    KeyValue,
    LookupEvent,
    Miss,
    Outcome,
    Policy,
    PrefixCache,
    RecordStore,
    Request,
    ResponseCache,
    Static,
    Stats,
    TokenBudget,
    Trace,
    Tuning,
    Verified,
    cached,
    open_store,
    policy_from_json,
    policy_to_json,
    tune,
)
from shared_core.stores import Store
from shared_core.thresholds import Candidate, Decision, Label, Serve, Skip


def open_caches() -> ResponseCache:
    """Open a cache, with settings of every kind."""
    cache = ResponseCache.open(
        "memory://",
        namespace="shop",
        threshold=Verified(max_error=0.01),
        ttl=timedelta(days=1),
        embedder=WordCounts(),
        judge=same_length,
        hooks=[note],
    )
    assert_type(cache, ResponseCache)
    assert_type(ResponseCache.open(semantic=False), ResponseCache)
    return cache


def look_up(cache: ResponseCache, request: Request) -> str:
    """Look up, store and take every outcome apart."""
    outcome: Outcome = cache.lookup(request)
    entry_id = cache.store(request, Answer("It melts before the wire does."), tags=["docs"])
    assert_type(entry_id, str | None)
    match outcome:
        case Hit(answer=answer, entry_id=known):
            assert_type(answer, Answer)
            cache.feedback(known, correct=True)
            return answer.text
        case Explore(candidate=candidate):
            assert_type(candidate.answer, Answer)
            return "asked for real"
        case Miss(reason=reason):
            return reason
        case _:
            assert_never(outcome)


def control(cache: ResponseCache, request: Request) -> None:
    """Take the cache's controls, traces, statistics and deletions."""
    with cache.control(read=False, ttl=60, tags=("docs",), namespace="other"):
        cache.lookup(request)
    with cache.trace() as trace:
        cache.lookup(request)
    assert_type(trace, Trace)
    for event in trace.events:
        if isinstance(event, LookupEvent):
            assert_type(event.outcome, str)
    assert_type(cache.stats(), Stats)
    assert_type(cache.stats(all=True).hits_by_tier, Mapping[str, int])
    assert_type(cache.invalidate(tag="docs", older_than=timedelta(hours=1)), int)
    assert_type(cache.warm([(request, Answer("pre-computed"))], progress=False), int)
    assert_type(cache.clear(learned=True), int)
    cache.bump("docs")


def answer(cache: ResponseCache, request: Request) -> Answer:
    """Get or compute, for answers and for values of the app's own."""
    found = cache.answer(request, lambda: "a text will do", namespace="shop")
    assert_type(found, Answer)
    value, fresh = cache.get_or_compute("rates", lambda: {"EUR": 1.0}, ttl=60)
    assert_type(fresh, bool)
    del value
    return found


async def answer_on_a_loop(cache: ResponseCache, request: Request) -> None:
    """Do the same on an event loop."""

    async def model() -> Answer:
        return Answer("fresh")

    assert_type(await cache.alookup(request), Hit | Explore | Miss)
    assert_type(await cache.astore(request, Answer("kept")), str | None)
    assert_type(await cache.aanswer(request, model), Answer)
    assert_type(await cache.aclear(), int)
    await cache.aclose()


class WordCounts:
    """An embedder of one's own."""

    name, dimension, max_tokens = "word counts", 8, None

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        rows = np.ones((len(texts), 8), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[len(word) % 8] += 1
        unit: NDArray[float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def same_length(fresh: Answer, old: Answer) -> bool | None:
    """A judge of one's own."""
    return len(fresh.text) == len(old.text) if fresh.text else None


def note(event: LookupEvent) -> None:
    """A hook of one's own."""
    assert_type(event.latency, float)


class Never:
    """A policy of one's own."""

    k = 1
    learns = False
    explores = False
    floor = 1.0

    def for_embedder(self, embedder: str) -> Policy:
        return self

    def initial_state(self) -> None:
        return None

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: Any, rng: random.Random
    ) -> Decision:
        return Serve(0) if candidates and candidates[0].similarity >= 1 else Skip("never")

    def learn(self, state: Any, label: Label) -> None:
        return None

    def settle(self, state: Any) -> None:
        return None

    def describe(self, state: Any) -> Mapping[str, Any]:
        return {"policy": "never"}


def choose() -> Sequence[Policy]:
    """Choose, keep and tune a policy."""
    embedder: Embedder = WordCounts()
    tuned = tune([("a", "b", False), ("a", "A", True)] * 20, 0.05, embedder=embedder)
    assert_type(tuned, Tuning)
    assert_type(Guard().differences("3 eggs", "4 eggs"), tuple[Difference, ...])
    assert_type(policy_to_json(Static(0.9)), str)
    policy: Policy = policy_from_json(policy_to_json(Feedback()))
    return [policy, Static(0.9), Verified(), Never()]


def keep() -> None:
    """Open stores and what else is kept in them."""
    store = open_store("memory://")
    assert_type(store, Store)
    records: RecordStore = store
    values: KeyValue = store
    assert_type(values.get_many(["a"]), dict[str, bytes])
    assert_type(records.get("a") is None, bool)
    assert_type(PrefixCache(), PrefixCache)
    assert_type(TokenBudget(8_000), TokenBudget)
    assert_type(Costs(), Costs)
    assert_type(ChunkCache, type[ChunkCache])
    store.close()


def decorate(cache: ResponseCache) -> int:
    """Keep the results of a function."""

    @cached(cache, ttl=60, name="typed_usage.add")
    def add(one: int, other: int) -> int:
        return one + other

    return add(1, 2)


def langchain(model: BaseChatModel) -> None:
    """Use the adapter for LangChain."""
    tiered = TieredCache("memory://", semantic=False)
    base: BaseCache = tiered
    assert_type(tiered.cache, ResponseCache)
    with get_cache_trace() as trace:
        base.lookup("prompt", "model")
    assert_type(trace, Trace)
    wrapped = cached_model(model, tiered)
    assert_type(wrapped.invoke("What is a fuse?").content, str | list[str | dict[Any, Any]])
    embeddings = CachedEmbeddings(DeterministicFakeEmbedding(size=4), "memory://")
    assert_type(embeddings.embed_query("a fuse"), list[float])
    assert_type(TieredByteStore("memory://").mget(["a"]), list[bytes | None])


def llamaindex(llm: LLM) -> None:
    """Use the adapter for LlamaIndex."""
    twin = cached_llm(llm, "memory://")
    assert_type(twin, LLM)
    assert_type(uncached(twin), LLM)
    assert_type(cache_of(twin), ResponseCache)
    assert_type(TieredKVStore("memory://").get("a"), dict[str, Any] | None)
