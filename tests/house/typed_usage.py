"""Use the public API as an app does; mypy and pyright check every type, and a test runs it.

``make lint`` runs both type checkers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never, assert_type

import numpy as np
from langchain_core.caches import BaseCache
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import Runnable
from langgraph.cache.base import BaseCache as NodeCache
from llama_index.core import MockEmbedding, Settings
from llama_index.core.agent.workflow import AgentWorkflow, ReActAgent
from llama_index.core.llms import LLM, MockLLM
from numpy import float32
from numpy.typing import NDArray

from langchain_tiered_cache import (
    CachedEmbeddings,
    TieredByteStore,
    TieredCache,
    TieredNodeCache,
    cached_model,
    get_cache_trace,
    rag_question,
)
from langchain_tiered_cache.feedback import answer_judge
from langchain_tiered_cache.middleware import TieredCacheMiddleware
from langchain_tiered_cache.prefix import marked
from llamaindex_tiered_cache import (
    CachedEmbedding,
    Component,
    TieredKVStore,
    cache_of,
    cache_report,
    cached_agent,
    cached_llm,
    install,
    uncached,
)
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
    McpCacheStore,
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


def types_given() -> None:
    """Get back the very type that was given, and close what was opened."""
    model = FakeListChatModel(responses=["It melts."])
    assert_type(cached_model(model), FakeListChatModel)
    assert_type(cached_model(model, pace=0.0), FakeListChatModel)
    assert_type(cached_llm(MockLLM()), MockLLM)
    assert_type(cached_llm(MockLLM(), namespace="shop", keep_raw=True), MockLLM)
    agent = ReActAgent(tools=[], llm=MockLLM())
    assert_type(cached_agent(agent, tools={"search": 60, "read": None}), ReActAgent)
    assert_type(cached_agent(AgentWorkflow(agents=[agent])), AgentWorkflow)
    with TieredCache(semantic=False) as tiered:
        assert_type(tiered, TieredCache)
    with TieredNodeCache(ttl=timedelta(hours=1)) as nodes:
        base: NodeCache[Any] = nodes
        assert_type(base.get([]), dict[tuple[tuple[str, ...], str], Any])
    with ResponseCache.open(semantic=False) as cache:
        assert_type(cache, ResponseCache)


def options_of_adapters() -> None:
    """Say what the editor completes: the options of caches, agents and settings."""
    tiered = TieredCache(
        "memory://",
        question=rag_question(),
        namespace_from="metadata.user_id",
        threshold=0.92,
        ttl=3600,
        max_entries=1_000,
        hit_usage="mark",
        load="background",
        semantic=False,
    )
    middleware = TieredCacheMiddleware(tiered, tools={"search": 60}, answers=True, namespace="shop")
    assert_type(middleware, TieredCacheMiddleware)
    assert_type(TieredCache(cache=tiered.cache).cache, ResponseCache)
    model = FakeListChatModel(responses=["RIGHT"])
    judge: Runnable[dict[str, Any], bool | None] = answer_judge(tiered, model)
    assert_type(marked(model).invoke("What is a fuse?").content, str | list[str | dict[Any, Any]])
    del judge
    Settings.llm, Settings.embed_model = MockLLM(), MockEmbedding(4)
    assert_type(install("memory://", semantic=False, embeddings=True, ttl=60), LLM)
    assert_type(cache_report(), list[Component])
    assert_type(CachedEmbedding(MockEmbedding(4), "memory://"), CachedEmbedding)
    assert_type(McpCacheStore("memory://"), McpCacheStore)


REFUSED: Sequence[Callable[[], object]] = (
    lambda: ResponseCache.open("memory://", treshold=0.9),  # type: ignore[call-arg]
    lambda: ResponseCache.open("memory://", ttl="a day"),  # type: ignore[arg-type]
    lambda: ResponseCache.open("memory://", load="soon"),  # type: ignore[arg-type]
    lambda: ResponseCache.open(7),  # type: ignore[arg-type]
    lambda: TieredCache("memory://", treshold=0.9),  # type: ignore[call-arg]
    lambda: TieredCache("memory://", hit_usage="none"),  # type: ignore[arg-type]
    lambda: TieredCache("memory://", question="What is asked?"),  # type: ignore[arg-type]
    lambda: TieredCache("memory://", question=rag_question("all")),  # type: ignore[arg-type]
    lambda: TieredCache(cache="memory://"),  # type: ignore[arg-type]
    lambda: TieredNodeCache("memory://", ttl="1 h"),  # type: ignore[arg-type]
    lambda: TieredNodeCache("memory://", coalese=False),  # type: ignore[call-arg]
    lambda: TieredCacheMiddleware(TieredCache(), tols=["a"]),  # type: ignore[call-arg]
    lambda: TieredCacheMiddleware("memory://"),  # type: ignore[arg-type]
    lambda: cached_model("gpt-4o-mini"),  # type: ignore[type-var]
    lambda: cached_model(FakeListChatModel(responses=[]), pase=1.0),  # type: ignore[call-arg]
    lambda: cached_llm(MockLLM(), semantic="no"),  # type: ignore[arg-type]
    lambda: cached_llm(MockLLM(), treshold=0.9),  # type: ignore[call-arg]
    lambda: cached_agent(MockLLM()),  # type: ignore[type-var]
    lambda: cached_agent(ReActAgent(llm=MockLLM()), tool={"a": 1}),  # type: ignore[call-arg]
    lambda: install("memory://", embedings=True),  # type: ignore[call-arg]
    lambda: install("memory://", threshold=[0.9]),  # type: ignore[arg-type]
    lambda: Static("high"),  # type: ignore[arg-type]
    lambda: Verified(max_eror=0.02),  # type: ignore[call-arg]
    lambda: Request.of("What is a fuse?", modle="m"),  # type: ignore[call-arg]
    lambda: McpCacheStore(3),  # type: ignore[arg-type]
)
"""What both type checkers refuse, and what fails at once if it is run all the same."""
