"""What an app sees of its caches: traces, and what its own callbacks count as spent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_community.callbacks import get_openai_callback
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tracers.context import tracing_v2_enabled
from langsmith import Client

from langchain_tiered_cache import TieredCache, cached_model, get_cache_trace
from langchain_tiered_cache.middleware import TieredCacheMiddleware
from shared_core import LookupEvent, SharedEvent, StoreEvent
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat

USAGE: Any = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
SPENT = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
PRICED = "gpt-4o-mini"
"""0.15 and 0.60 US dollars per million tokens."""


class Paid(Chat):
    """A model that says what it cost, as OpenAI's do."""

    takes: float = 0.0

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": PRICED, "temperature": 0.0}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self._seen.append(messages)
        threading.Event().wait(self.takes)
        message = AIMessage(
            "It melts.", usage_metadata=USAGE, response_metadata={"model_name": PRICED}
        )
        output = {"token_usage": SPENT, "model_name": PRICED}
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output=output)

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._seen.append(messages)
        yield ChatGenerationChunk(message=AIMessageChunk("It "))
        metadata = {"model_name": PRICED}
        last = AIMessageChunk("melts.", usage_metadata=USAGE, response_metadata=metadata)
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[one.name for one in tools], **kwargs)


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(embedder=fake_embed, threshold=0.7)
    yield cache
    cache.close()


FORMS = ["invoke", "ainvoke", "batch", "abatch", "stream", "astream", "events"]
each_form = pytest.mark.parametrize("form", FORMS)
KINDS = ["cached_model", "cache=", "agent"]


def asking(kind: str, tiered: TieredCache, **fields: Any) -> tuple[Any, Any, Paid]:
    """Return what to call, with what, and the model that is called by it."""
    own = Paid(**fields)
    if kind == "agent":
        agent = create_agent(own, middleware=[TieredCacheMiddleware(tiered)])
        return agent, {"messages": [("user", "what is a fuse")]}, own
    if kind == "cached_model":
        own = cached_model(own, tiered)
        return own, "what is a fuse", own
    own.cache = tiered
    return own, "what is a fuse", own


async def ask(form: str, called: Any, given: Any) -> None:
    match form:
        case "invoke":
            called.invoke(given)
        case "ainvoke":
            await called.ainvoke(given)
        case "batch":
            called.batch([given])
        case "abatch":
            await called.abatch([given])
        case "stream":
            list(called.stream(given))
        case "astream":
            assert [one async for one in called.astream(given)]
        case _:
            assert [one async for one in called.astream_events(given, version="v2")]


@each_form
@pytest.mark.parametrize("kind", ["cached_model", "agent"])
async def test_a_trace_shows_what_was_done_in_its_block(
    form: str, kind: str, tiered: TieredCache
) -> None:
    called, given, _ = asking(kind, tiered)
    await ask(form, called, given)
    with get_cache_trace() as trace:
        await ask(form, called, given)
        with get_cache_trace() as inner:
            tiered.cache.store  # noqa: B018 - nothing is done here
    await ask(form, called, given)
    assert [type(event) for event in trace.events] == [LookupEvent]
    assert (trace.lookups, trace.hits, trace.hits_by_tier) == (1, 1, {"exact": 1})
    assert trace.tokens_saved == {"input_tokens": 1000, "output_tokens": 500}
    assert trace.money_saved == pytest.approx(0.00045)
    assert inner.events == []


def test_a_trace_holds_all_caches_and_all_threads_of_a_batch(tiered: TieredCache) -> None:
    other = TieredCache(semantic=False)
    one, two = cached_model(Paid(), tiered), cached_model(Paid(), other)
    with get_cache_trace() as trace, tiered.cache.trace() as own:
        one.batch([f"what is fuse {number}" for number in range(8)])
        one.invoke("what is a fuse good for")
        one.invoke("what is a fuse good for then")
        two.invoke("q")
    assert (trace.lookups, trace.stores) == (11, 10)
    assert trace.hits_by_tier == {"semantic": 1}
    assert own.lookups == 10, "a cache's own trace holds what it did itself"
    other.close()


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_an_answer_of_anothers_call_is_in_the_trace(form: str, tiered: TieredCache) -> None:
    model = cached_model(Paid(takes=0.2), tiered)
    with get_cache_trace() as trace:
        if form == "invoke":
            await asyncio.to_thread(model.batch, ["q"] * 3)
        else:
            await asyncio.gather(*(model.ainvoke("q") for _ in range(3)))
    assert (model.calls, trace.lookups, trace.hits, trace.shared) == (1, 3, 0, 2)
    assert trace.tokens_saved == {"input_tokens": 2000, "output_tokens": 1000}
    (kept,) = {event.entry_id for event in trace.events if isinstance(event, StoreEvent)}
    assert {one.entry_id for one in trace.events if isinstance(one, SharedEvent)} == {kept}


def test_without_a_price_no_money_is_named(tiered: TieredCache) -> None:
    model = Chat(cache=tiered, reply=lambda _: AIMessage("a", usage_metadata=USAGE))
    with get_cache_trace() as trace:
        for _ in range(2):
            model.invoke("q")
    assert (trace.hits, trace.money_saved) == (1, None)
    assert trace.tokens_saved["input_tokens"] == 1000


async def test_traces_of_tasks_do_not_mix(tiered: TieredCache) -> None:
    model = Paid(cache=tiered)

    async def traced(number: int) -> int:
        with get_cache_trace() as trace:
            for turn in range(number):
                await model.ainvoke(f"{number} {turn}")
                await asyncio.sleep(0)
        return trace.lookups

    assert await asyncio.gather(*map(traced, range(5))) == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------------------- LangSmith


class LocalLangSmith(Client):
    """A LangSmith that keeps what it is sent, without a network."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        self.ended: list[dict[str, Any]] = []

    def create_run(self, *args: Any, **kwargs: Any) -> None:
        """Take the start of a run."""

    def update_run(self, *args: Any, **kwargs: Any) -> None:
        """Take the end of a run."""
        if kwargs["run_type"] == "llm":
            self.ended.append(kwargs["extra"]["metadata"])


@each_form
@pytest.mark.parametrize("kind", KINDS)
async def test_the_metadata_of_a_run_in_langsmith_say_where_its_answer_is_from(
    form: str, kind: str, tiered: TieredCache
) -> None:
    called, given, _ = asking(kind, tiered)
    smith = LocalLangSmith()
    with tracing_v2_enabled(client=smith):
        for _ in range(2):
            await ask(form, called, given)
    told = [
        {name: one[name] for name in sorted(one) if name.startswith("tiered_cache")}
        for one in smith.ended
    ]
    if kind == "cache=" and form in ("stream", "astream", "events"):
        assert told == [{}, {}], "no cache was asked"
        return
    assert told[0] == {"tiered_cache_hit": False}
    assert told[1].pop("tiered_cache_entry_id")
    assert told[1] == {
        "tiered_cache_hit": True,
        "tiered_cache_similarity": 1.0,
        "tiered_cache_tier": "exact",
    }


# -------------------------------------------------------------------------------------- spend


@each_form
@pytest.mark.parametrize("kind", KINDS)
async def test_hits_are_no_spend_for_the_callbacks_of_the_app_on_demand(
    form: str, kind: str
) -> None:
    tiered = TieredCache(embedder=fake_embed, threshold=0.7, hit_usage="mark")
    called, given, own = asking(kind, tiered)
    is_cached = kind != "cache=" or form in ("invoke", "ainvoke", "batch", "abatch")
    with get_usage_metadata_callback() as usage, get_openai_callback() as openai:
        for _ in range(3):
            await ask(form, called, given)
    paid = 1 if is_cached else 3
    assert own.calls == paid
    assert usage.usage_metadata[PRICED]["total_tokens"] == 1500 * paid
    assert openai.total_tokens == 1500 * paid
    assert openai.total_cost == pytest.approx(0.00045 * paid)
