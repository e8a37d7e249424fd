"""The cached LLM: it stays what it was, answers once, says so, and never breaks the app."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import llama_index_instrumentation as instrument
import pytest
from llama_index.core import MockEmbedding, Settings
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.bridge.pydantic import ConfigDict
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.mock import MockFunctionCallingLLM, MockLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler

from llamaindex_tiered_cache import CachedEmbedding, cache_of, cached_llm, install, uncached
from shared_core import LookupEvent, ResponseCache, StoreError
from tests.fakes import fake_embed
from tests.llamaindex.cases import City, oracle
from tests.llamaindex.fakes import FakeLLM, calling, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

ASKED = [ChatMessage("How do I reset my password?")]
REPHRASED = [ChatMessage("How do I reset my password please?")]


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, embedder=fake_embed, threshold=0.8) as opened:
        yield opened


def exact(**options: Any) -> ResponseCache:
    return ResponseCache.open(semantic=False, **options)


def mark(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.additional_kwargs["tiered_cache"]
    return found


# Each endpoint as a blocking function of an LLM and messages that returns the chunks.


def chat(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return [llm.chat(messages)]


def achat(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return [asyncio.run(llm.achat(messages))]


def stream_chat(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return list(llm.stream_chat(messages))


def astream_chat(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    async def chunks() -> list[Any]:
        return [chunk async for chunk in await llm.astream_chat(messages)]

    return asyncio.run(chunks())


def complete(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return [llm.complete(messages[-1].content or "")]


def acomplete(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return [asyncio.run(llm.acomplete(messages[-1].content or ""))]


def stream_complete(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    return list(llm.stream_complete(messages[-1].content or ""))


def astream_complete(llm: LLM, messages: list[ChatMessage]) -> list[Any]:
    async def chunks() -> list[Any]:
        return [chunk async for chunk in await llm.astream_complete(messages[-1].content or "")]

    return asyncio.run(chunks())


CHATS = [chat, achat, stream_chat, astream_chat]
COMPLETIONS = [complete, acomplete, stream_complete, astream_complete]
STREAMS = [stream_chat, astream_chat, stream_complete, astream_complete]
ENDPOINTS = [*CHATS, *COMPLETIONS]
Endpoint = Callable[[LLM, list[ChatMessage]], list[Any]]


def content(response: Any) -> Any:
    """Return what an app reads of a response."""
    said = response.message if isinstance(response, ChatResponse) else response.text
    return said, response.delta, response.logprobs


# -------------------------------------------------------------------------------- endpoints


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_the_second_call_is_a_hit_equal_to_the_first(
    cache: ResponseCache, endpoint: Endpoint
) -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache)
    first, second = endpoint(llm, ASKED), endpoint(llm, ASKED)
    assert inner.calls == [endpoint.__name__]
    assert [content(one) for one in second] == [content(one) for one in first]
    assert {mark(chunk)["tier"] for chunk in second} == {"exact"}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_a_paraphrase_is_a_semantic_hit(cache: ResponseCache, endpoint: Endpoint) -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache)
    first, second = endpoint(llm, ASKED), endpoint(llm, REPHRASED)
    assert len(inner.calls) == 1
    assert content(second[-1])[0] == content(first[-1])[0]
    assert mark(second[-1])["tier"] == "semantic"
    assert 0.8 <= mark(second[-1])["similarity"] < 1


@pytest.mark.parametrize("ways", [CHATS, COMPLETIONS], ids=["chat", "completion"])
def test_one_answer_serves_all_endpoints_of_a_kind(ways: list[Endpoint]) -> None:
    for first in ways:
        inner = FakeLLM()
        llm = cached_llm(inner, exact())
        texts = {"".join(chunk.delta or "" for chunk in first(llm, ASKED)) or None}
        for way in ways:
            chunks = way(llm, ASKED)
            whole = content(chunks[-1])[0]
            texts.add(whole if isinstance(whole, str) else whole.content)
        assert len(inner.calls) == 1
        assert texts - {None} == {"You said: How do I reset my password?"}


def test_chat_and_completion_share_nothing() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, exact())
    llm.chat(ASKED)
    llm.complete(ASKED[0].content or "")
    assert inner.calls == ["chat", "complete"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_what_the_model_raises_is_raised_and_not_kept(endpoint: Endpoint) -> None:
    def fail(messages: Any, kwargs: Any) -> ChatMessage:
        raise LookupError("the model is gone")

    inner = FakeLLM(fail)
    llm = cached_llm(inner, cache := exact())
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            endpoint(llm, ASKED)
    assert len(inner.calls) == 2
    assert cache.stats().stores == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_a_cache_that_fails_is_passed_over(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = exact()

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("disk full")

    monkeypatch.setattr(cache._path, "lookup", fail)
    monkeypatch.setattr(cache._path, "store", fail)
    inner = FakeLLM()
    llm = cached_llm(inner, cache)
    assert content(endpoint(llm, ASKED)[-1]) == content(endpoint(FakeLLM(), ASKED)[-1])
    assert len(inner.calls) == 1
    assert any("StoreError" in kind for kind in cache.stats().errors)


def test_equal_calls_in_flight_make_one_model_call() -> None:
    started, go, looked_up = threading.Event(), threading.Event(), threading.Semaphore(0)

    def slow(messages: Any, kwargs: Any) -> ChatMessage:
        started.set()
        assert go.wait(10)
        return said("once")

    inner = FakeLLM(slow)
    llm = cached_llm(inner, exact(hooks=[lambda event: looked_up.release()]))
    found: list[ChatResponse] = []
    leader = threading.Thread(target=lambda: found.append(llm.chat(ASKED)))
    leader.start()
    assert started.wait(10)
    follower = threading.Thread(target=lambda: found.append(llm.chat(ASKED)))
    follower.start()
    for _ in range(2):
        assert looked_up.acquire(timeout=10)
    go.set()
    leader.join(10)
    follower.join(10)
    assert inner.calls == ["chat"]
    assert [one.message.content for one in found] == ["once", "once"]
    assert sorted(str(mark(one).get("tier")) for one in found) in (
        ["None", "flight"],
        ["None", "exact"],
    )


# ---------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("endpoint", STREAMS, ids=lambda one: one.__name__)
def test_a_hit_streams_the_very_deltas(endpoint: Endpoint) -> None:
    llm = cached_llm(FakeLLM(), exact())
    miss, hit = endpoint(llm, ASKED), endpoint(llm, ASKED)
    assert [one.delta for one in hit] == [one.delta for one in miss]
    assert len(hit) > 1
    assert [content(one) for one in hit] == [content(one) for one in miss]


def test_a_stream_with_tool_calls_ends_with_them() -> None:
    inner = FakeLLM(lambda messages, kwargs: calling("weather", city="Rome"))
    llm = cached_llm(inner, exact())
    miss, hit = list(llm.stream_chat(ASKED)), list(llm.stream_chat(ASKED))
    assert inner.calls == ["stream_chat"]
    assert hit[-1].message == miss[-1].message


def test_a_stream_that_is_left_early_is_not_kept() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := exact())
    chunks = llm.stream_chat(ASKED)
    next(chunks)
    chunks.close()
    assert cache.stats().stores == 0

    async def leave() -> None:
        achunks = await llm.astream_chat(ASKED)
        await anext(achunks)
        await achunks.aclose()

    asyncio.run(leave())
    assert cache.stats().stores == 0
    assert len(inner.calls) == 2


def test_a_stream_of_nothing_is_neither_kept_nor_counted() -> None:
    def nothing(messages: Any, **kwargs: Any) -> Any:
        return iter(())

    llm = cached_llm(MockFunctionCallingLLM(response_generator=nothing), cache := exact())
    assert list(llm.stream_chat(ASKED)) == []
    assert (cache.stats().stores, cache.stats().errors) == (0, {})


def test_a_stream_is_kept_for_the_namespace_it_was_asked_in() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := exact())
    with cache.control(namespace="tenant a"):
        chunks = llm.stream_chat(ASKED)
    list(chunks)

    async def ask() -> list[Any]:
        with cache.control(namespace="tenant b"):
            achunks = await llm.astream_chat(ASKED)
        return [chunk async for chunk in achunks]

    asyncio.run(ask())
    llm.chat(ASKED)
    assert len(inner.calls) == 3
    for tenant in ("tenant a", "tenant b"):
        with cache.control(namespace=tenant):
            assert mark(llm.chat(ASKED))["hit"]


def test_a_stream_whose_message_is_not_all_it_said_is_replayed_as_a_stream_alone() -> None:
    """Some classes stream messages that hold the newest words only."""

    def words(messages: Any, **kwargs: Any) -> Any:
        return (said(word) for word in ("one ", "two"))

    llm = cached_llm(MockFunctionCallingLLM(response_generator=words), cache := exact())
    for _ in range(2):
        assert [chunk.delta for chunk in llm.stream_chat(ASKED)] == ["one ", "two"]
    assert cache.stats().hits == 1
    uncached(llm).response_generator = lambda messages, **kwargs: said("one two")  # type: ignore
    assert llm.chat(ASKED).message.content == "one two"
    assert mark(llm.chat(ASKED))["hit"]


# --------------------------------------------------------------------------- what it remains


def test_it_is_what_it_was() -> None:
    inner = FakeLLM(temperature=0.5, system_prompt="Help.")
    llm = cached_llm(inner, exact())
    assert isinstance(llm, FakeLLM)
    assert type(llm).__module__ == FakeLLM.__module__
    assert llm.class_name() == inner.class_name()
    assert llm.metadata == inner.metadata
    assert llm.to_dict() == inner.to_dict()
    assert type(llm) is type(cached_llm(FakeLLM(), exact()))


def test_attributes_are_shared_both_ways_and_change_the_key() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, exact())
    llm.chat(ASKED)
    llm.temperature = 0.7
    assert inner.temperature == 0.7
    llm.chat(ASKED)
    inner.max_tokens = 5
    assert llm.max_tokens == 5
    llm.chat(ASKED)
    assert len(inner.calls) == 3
    manager = CallbackManager([])
    llm.callback_manager = manager
    assert inner.callback_manager is manager


class Strict(FakeLLM):
    """A class that validates what it is assigned, which gives it a new dictionary each time."""

    model_config = ConfigDict(validate_assignment=True)


def test_attributes_are_shared_with_a_class_that_validates_assignments() -> None:
    inner = Strict()
    llm = cached_llm(inner, exact())
    llm.model = "other"
    assert inner.model == "other"
    inner.model = "third"
    llm.chat(ASKED)
    assert llm.model == "third"


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda llm: llm.model_copy(),
        lambda llm: llm.model_copy(deep=True),
        lambda llm: pickle.loads(pickle.dumps(llm)),  # noqa: S301 - its own
    ],
    ids=["copy", "deepcopy", "model_copy", "deep model_copy", "pickle"],
)
def test_copies_share_the_cache_and_not_the_attributes(
    copied: Callable[[LLM], Any], cache: ResponseCache
) -> None:
    llm = cached_llm(MockLLM(), cache, namespace="a", semantic="off", keep_raw=True)
    llm.chat(ASKED)
    twin = copied(llm)
    assert cache_of(twin) is cache
    assert type(twin) is type(llm)
    assert mark(twin.chat(ASKED))["hit"]
    twin.max_tokens = 3
    assert llm.max_tokens is None  # type: ignore[attr-defined]


def test_an_updated_copy_has_another_key() -> None:
    llm = cached_llm(MockLLM(), exact())
    llm.chat(ASKED)
    assert not mark(llm.model_copy(update={"max_tokens": 2}).chat(ASKED))["hit"]


def test_its_class_makes_plain_llms() -> None:
    llm = cached_llm(MockLLM(max_tokens=2), exact())
    assert type(type(llm).from_dict(llm.to_dict())) is MockLLM


def test_wrapping_again_replaces_the_terms_and_does_not_nest() -> None:
    inner = FakeLLM()
    llm = cached_llm(cached_llm(inner, exact()), second := exact())
    assert uncached(llm) is inner
    assert cache_of(llm) is second


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
def test_a_structured_llm_keeps_its_objects() -> None:
    inner = FakeLLM(oracle)
    bare = StructuredLLM(llm=FakeLLM(oracle), output_cls=City)
    llm = cached_llm(StructuredLLM(llm=inner, output_cls=City), exact())
    assert isinstance(llm, StructuredLLM)
    streamed = [repr(chunk.raw) for chunk in bare.stream_chat(ASKED)]
    for _ in range(2):
        assert llm.chat(ASKED).raw == City(name="Rome", people=3)
        assert asyncio.run(llm.achat(ASKED)).raw == City(name="Rome", people=3)
        assert [repr(chunk.raw) for chunk in llm.stream_chat(ASKED)] == streamed
    assert inner.calls == ["chat"]


@pytest.fixture
def settings() -> Iterator[None]:
    """Let a test change LlamaIndex' settings."""
    llm, embed_model = Settings._llm, Settings._embed_model
    Settings.llm, Settings.embed_model = FakeLLM(), MockEmbedding(embed_dim=4)
    yield
    Settings._llm, Settings._embed_model = llm, embed_model


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("semantic", [False, "off"])
def test_install_puts_the_cache_before_the_settings(semantic: Any) -> None:
    llm = install("memory://", semantic=semantic)
    assert Settings.llm is llm
    assert not mark(Settings.llm.chat(ASKED))["hit"]
    assert mark(Settings.llm.chat(ASKED))["hit"]
    assert not isinstance(Settings.embed_model, CachedEmbedding)


@pytest.mark.usefixtures("settings")
def test_install_takes_the_options_of_a_cache_and_of_an_llm() -> None:
    llm = install(threshold=0.7, embedder=fake_embed, ttl=60, namespace="mine", keep_raw=True)
    options = cache_of(llm).options
    assert (options.ttl, options.namespace) == (60, "mine")
    llm.chat([ChatMessage("How do I reset my password?")])
    again = llm.chat([ChatMessage("how do i reset my password")])
    assert mark(again)["tier"] == "semantic"
    assert again.raw["id"] == "resp_1"


@pytest.mark.usefixtures("settings")
def test_install_caches_the_embedding_model_on_demand() -> None:
    cache = exact()
    for _ in range(2):
        install(cache, embeddings=True)
    assert isinstance(Settings.embed_model, CachedEmbedding)
    assert isinstance(Settings.embed_model.embed_model, MockEmbedding)
    Settings.embed_model.get_text_embedding("a text")
    assert cache.values.scan("embedding:")[0]


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cache": exact(), "ttl": 60}, "open already: ttl"),
        ({"semantic": "on"}, "semantic"),
        ({"treshold": 0.9}, "threshold"),
        ({"cache": 3}, "cache"),
    ],
)
def test_install_names_what_makes_no_sense(options: dict[str, Any], word: str) -> None:
    before = Settings.llm
    with pytest.raises(ValueError, match=word):
        install(**options)
    assert Settings.llm is before


@pytest.mark.parametrize(
    "wrong",
    [
        {"llm": "gpt-4o"},
        {"cache": 3},
        {"cache": "nosuch://x"},
        {"semantic": "on"},
        {"namespace": ""},
    ],
    ids=str,
)
def test_wrong_arguments_raise_at_construction(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|not understood"):
        cached_llm(**{"llm": MockLLM(), "cache": "memory://", **wrong})
    with pytest.raises(ValueError, match="has no cache"):
        cache_of(MockLLM())


# ----------------------------------------------------------------------------------- terms


def test_namespaces_share_nothing_and_a_block_wins_over_the_argument() -> None:
    inner = FakeLLM()
    cache = exact()
    a, b = (cached_llm(inner, cache, namespace=name) for name in ("a", "b"))
    a.chat(ASKED)
    assert not mark(b.chat(ASKED))["hit"]
    with cache.control(namespace="a"):
        assert mark(b.chat(ASKED))["hit"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_controls_of_a_block_are_heeded(endpoint: Endpoint) -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := exact())
    with cache.control(write=False):
        endpoint(llm, ASKED)
    assert cache.stats().stores == 0
    for _ in range(2):
        with cache.control(read=False):
            endpoint(llm, ASKED)
    assert len(inner.calls) == 3


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_answers_are_kept_under_the_tags_of_a_block(endpoint: Endpoint) -> None:
    llm = cached_llm(FakeLLM(), cache := exact())
    with cache.control(tags=["t"]):
        endpoint(llm, ASKED)
    assert cache.invalidate(tag="t") == 1


def test_without_meaning_only_repeats_hit(cache: ResponseCache) -> None:
    llm = cached_llm(FakeLLM(), cache, semantic="off")
    llm.chat(ASKED)
    assert not mark(llm.chat(REPHRASED))["hit"]
    assert mark(llm.chat(ASKED))["hit"]
    assert cache.stats().misses == {"off": 2}


def test_answers_that_call_tools_are_kept_on_demand_and_never_served_by_meaning(
    cache: ResponseCache,
) -> None:
    inner = FakeLLM(lambda messages, kwargs: calling("weather", city="Rome"))
    llm = cached_llm(inner, cache)
    llm.chat(ASKED)
    assert mark(llm.chat(ASKED))["hit"]
    assert not mark(llm.chat(REPHRASED))["hit"]
    unkept = cached_llm(inner, cache, namespace="b", cache_tool_calls=False)
    unkept.chat(ASKED)
    assert not mark(unkept.chat(ASKED))["hit"]


# -------------------------------------------------------------------------------- visibility


def test_a_hit_says_what_it_is_and_what_it_saved() -> None:
    llm = cached_llm(FakeLLM(), exact())
    fresh = llm.chat(ASKED)
    assert mark(fresh) == {"hit": False, "entry_id": mark(fresh)["entry_id"], "reason": "absent"}
    assert fresh.raw["id"] == "resp_1"
    hit = llm.chat(ASKED)
    found = mark(hit)
    assert 0 <= found.pop("age") < 60
    assert found == {
        "hit": True,
        "tier": "exact",
        "similarity": 1.0,
        "entry_id": mark(fresh)["entry_id"],
        "usage": {"input_tokens": 6, "output_tokens": 8},
    }
    assert hit.raw.id is None, "it names the response that another got"
    assert hit.raw.choices[0].finish_reason == hit.raw["choices"][0]["finish_reason"] == "stop"
    assert hit.additional_kwargs["prompt_tokens"] == fresh.additional_kwargs["prompt_tokens"] == 6
    assert hit.message.additional_kwargs == {}


def test_usage_is_in_the_mark_alone_on_demand() -> None:
    llm = cached_llm(FakeLLM(), exact(hit_usage="mark"))
    assert llm.chat(ASKED).additional_kwargs["prompt_tokens"] == 6
    hit = llm.chat(ASKED)
    assert set(hit.additional_kwargs) == {"tiered_cache"}
    assert mark(hit)["usage"] == {"input_tokens": 6, "output_tokens": 8}


def test_raw_is_kept_on_demand() -> None:
    llm = cached_llm(FakeLLM(), exact(), keep_raw=True)
    raw = llm.chat(ASKED).raw
    assert llm.chat(ASKED).raw == raw == {"id": "resp_1", "choices": [{"finish_reason": "stop"}]}


def test_a_cached_message_is_a_new_one_each_time() -> None:
    llm = cached_llm(FakeLLM(), exact())
    llm.chat(ASKED).message.content = "changed"
    llm.chat(ASKED).message.blocks.clear()
    assert llm.chat(ASKED).message.content == "You said: How do I reset my password?"


class Seen(BaseEventHandler):
    """Keeps what happens."""

    events: list[BaseEvent]

    @classmethod
    def class_name(cls) -> str:
        return "Seen"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]


@pytest.fixture
def seen() -> Iterator[Seen]:
    handler = Seen(events=[])
    root = instrument.get_dispatcher()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.__name__)
def test_a_miss_emits_the_models_events_and_a_hit_its_own(endpoint: Endpoint, seen: Seen) -> None:
    endpoint(FakeLLM(), ASKED)
    of_model = list(seen.names)
    seen.events.clear()
    llm = cached_llm(FakeLLM(), exact())
    endpoint(llm, ASKED)
    assert seen.names == of_model
    seen.events.clear()
    endpoint(llm, ASKED)
    assert seen.names == ["TieredCacheHitEvent"]
    (event,) = seen.events
    assert event.span_id is not None
    assert event.span_id.startswith(f"CachedFakeLLM.{endpoint.__name__}-")
    assert (event.tier, event.similarity, event.model) == ("exact", 1.0, "fake-1")


def test_a_hit_counts_no_tokens() -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    inner = FakeLLM(callback_manager=CallbackManager([counter]))
    llm = cached_llm(inner, exact())
    llm.chat(ASKED)
    spent = counter.total_llm_token_count
    assert spent > 0
    for endpoint in CHATS:
        endpoint(llm, ASKED)
    assert counter.total_llm_token_count == spent


def test_a_trace_sees_what_a_prediction_hides() -> None:
    llm = cached_llm(FakeLLM(), cache := exact())
    with cache.trace() as trace:
        for _ in range(2):
            llm.predict(PromptTemplate("{query_str}"), query_str="Why?")
    lookups = [event for event in trace.events if isinstance(event, LookupEvent)]
    assert [event.outcome for event in lookups] == ["miss", "hit"]


def test_feedback_takes_an_answer_back() -> None:
    llm = cached_llm(FakeLLM(), cache := exact())
    cache.feedback(mark(llm.chat(ASKED))["entry_id"], correct=False)
    assert not mark(llm.chat(ASKED))["hit"]


def test_an_answer_that_cannot_be_kept_is_counted_and_passed_on() -> None:
    message = said("text")
    message.additional_kwargs["thing"] = object()
    inner = FakeLLM(lambda messages, kwargs: message)
    llm = cached_llm(inner, cache := exact())
    for endpoint in CHATS:
        assert endpoint(llm, ASKED)[-1].message is message
    assert cache.stats().errors == {"unstorable": 4}
    assert len(inner.calls) == 4


def test_an_entry_that_cannot_be_read_is_replaced() -> None:
    inner = FakeLLM()
    llm = cached_llm(inner, cache := exact())
    llm.chat(ASKED)
    record = next(iter(cache._store._entries.values())).record  # type: ignore[attr-defined]
    object.__setattr__(record.answer, "payload", '{"v":"llamaindex/1","message":{}}')
    assert llm.chat(ASKED).message.content == "You said: How do I reset my password?"
    assert mark(llm.chat(ASKED))["hit"]
    assert len(inner.calls) == 2


def test_completions_are_responses_of_their_kind() -> None:
    llm = cached_llm(FakeLLM(), exact())
    for _ in range(2):
        assert isinstance(llm.complete("x"), CompletionResponse)
