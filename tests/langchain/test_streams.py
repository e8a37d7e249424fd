"""Streams of LangChain models through the cache: ``cached_model``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.tracers._streaming import (
    _StreamingCallbackHandler,
    _V2StreamingCallbackHandler,
)
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import Field

from langchain_tiered_cache import TieredCache, cached_model

USAGE = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}


def say(content: Any = "", **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=content, **fields)


def call(index: int, args: str, name: str | None = None, id: str | None = None) -> Any:
    return [tool_call_chunk(name=name, args=args, id=id, index=index)]


END = {"response_metadata": {"finish_reason": "stop", "model_name": "tester"}}
SCRIPTS: dict[str, list[AIMessageChunk]] = {
    "text": [say("The cap"), say("ital\n\n of  it "), say(""), say("is Paris. "), say(**END)],
    "one chunk": [say("Paris", chunk_position="last", **END)],
    "usage": [say("Paris"), say(usage_metadata=USAGE, **END)],
    "no words": [say("", **END), say(additional_kwargs={"audio": {"data": "UklGRg=="}})],
    "no spaces": [say("東京は日本の首都です。" * 9, **END)],
    "tool calls": [
        say("Let me look."),
        say(tool_call_chunks=call(0, "", "weather", "call_1")),
        say(tool_call_chunks=call(0, '{"city": "Pa')),
        say(tool_call_chunks=call(0, 'ris", "days": [1, 2]}')),
        say(tool_call_chunks=call(1, "{}", "clock", "call_2")),
        say(response_metadata={"finish_reason": "tool_calls"}),
    ],
    "broken tool call": [say(tool_call_chunks=call(0, "Paris, France", "weather", "call_1"))],
    "reasoning beside": [
        say(additional_kwargs={"reasoning_content": "The user "}),
        say(additional_kwargs={"reasoning_content": "asks."}),
        say("Paris"),
    ],
    "reasoning blocks": [
        say([{"type": "thinking", "thinking": "The user ", "index": 0}]),
        say([{"type": "thinking", "thinking": "asks a lot.", "index": 0}]),
        say([{"type": "thinking", "signature": "c2lnbg==", "index": 0}]),
        say([{"type": "text", "text": "It is ", "index": 1}]),
        say([{"type": "text", "text": "Paris.", "index": 1}]),
        say([{"type": "tool_use", "id": "t1", "name": "f", "input": {}, "index": 2}]),
        say([], **END),
    ],
    "blocks of one index": [
        say([{"type": "text", "text": "a b", "index": 0, "id": "x"}]),
        say([{"type": "text", "text": "c d", "index": 0, "id": "y"}]),
    ],
    "on after its last": [say("a", chunk_position="last"), say(" b"), say("", **END)],
    "blocks without index": [say([{"type": "text", "text": "a b"}]), say(["c d"])],
}


class Streamer(BaseChatModel):
    """A chat model that streams a script, and counts what reached it."""

    script: list[AIMessageChunk] = Field(default_factory=lambda: SCRIPTS["text"], exclude=True)
    temperature: float = 0.0
    fails_after: int | None = None
    asked: list[str] = Field(default_factory=list, exclude=True)
    closed: list[str] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "streamer-of-tests"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "tester", "temperature": self.temperature}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.asked.append("invoke")
        whole = self.script[0] + list(self.script[1:]) if len(self.script) > 1 else self.script[0]
        message = message_chunk_to_message(whole)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append("stream")
        try:
            for number, chunk in enumerate(self.script):
                if number == self.fails_after:
                    raise ConnectionError("the line went dead")
                yield ChatGenerationChunk(message=chunk.model_copy(deep=True))
        finally:
            self.closed.append("stream")

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=[tool.name for tool in tools], **kwargs)


class AsyncStreamer(Streamer):
    """One that streams asynchronously of its own, and alone."""

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            await asyncio.sleep(0)
            yield chunk


def cached(model: BaseChatModel | None = None, **options: Any) -> Any:
    pace = options.pop("pace", None)
    return cached_model(model or Streamer(), TieredCache(semantic=False, **options), pace=pace)


def summed(chunks: Sequence[Any]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def said(message: AIMessage) -> dict[str, Any]:
    """Return what a message says: no id, no usage, no mark, no numbering of a stream's parts."""
    if isinstance(message, AIMessageChunk):
        message = message_chunk_to_message(message)  # type: ignore[assignment]
    fields = message.model_dump(exclude={"id", "usage_metadata"})
    fields["response_metadata"].pop("tiered_cache", None)
    return fields


def mark(message: AIMessage) -> Any:
    return message.response_metadata["tiered_cache"]


async def collect(chunks: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in chunks]


def by_stream(model: Any, question: str) -> AIMessageChunk:
    return summed(list(model.stream(question)))


def by_astream(model: Any, question: str) -> AIMessageChunk:
    return summed(asyncio.run(collect(model.astream(question))))


def by_events(model: Any, question: str) -> AIMessageChunk:
    events = asyncio.run(collect(model.astream_events(question, version="v2")))
    return summed([e["data"]["chunk"] for e in events if e["event"] == "on_chat_model_stream"])


WAYS: list[Callable[[Any, str], AIMessageChunk]] = [by_stream, by_astream, by_events]


@pytest.mark.parametrize("kind", [Streamer, AsyncStreamer])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_second_stream_calls_no_model_and_sums_up_to_the_same(
    way: Callable[[Any, str], AIMessageChunk], script: str, kind: type[Streamer]
) -> None:
    model = cached(kind(script=SCRIPTS[script]))
    first, second = way(model, "q"), way(model, "q")
    assert model.asked == ["stream"]
    assert said(first) == said(second)
    assert first.tool_call_chunks == second.tool_call_chunks
    assert mark(first)["hit"] is False
    assert mark(second)["hit"] is True
    assert mark(second)["entry_id"] == mark(first)["entry_id"]
    assert model.cache.errors == {}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_stream_and_an_invoke_share_an_entry(script: str) -> None:
    streamed = cached(Streamer(script=SCRIPTS[script]))
    chunks = by_stream(streamed, "q")
    assert said(streamed.invoke("q")) == said(chunks)
    assert streamed.asked == ["stream"]
    invoked = cached(Streamer(script=SCRIPTS[script]))
    message = invoked.invoke("q")
    assert said(by_stream(invoked, "q")) == said(message)
    assert invoked.asked == ["invoke"]


def test_the_stream_of_a_miss_is_that_of_the_model() -> None:
    for script in SCRIPTS.values():
        model = Streamer(script=script)
        own, through = list(model.stream("q")), list(cached(model).stream("q"))
        mark(through[-1])
        del through[-1].response_metadata["tiered_cache"]
        without_id = [[c.model_dump(exclude={"id"}) for c in chunks] for chunks in (own, through)]
        assert without_id[0] == without_id[1]


def test_a_replay_comes_word_by_word_under_one_id() -> None:
    model = cached()
    by_stream(model, "q")
    chunks = list(model.stream("q"))
    assert [c.content for c in chunks] == [
        "The",
        " capital",
        "\n\n of",
        "  it",
        " is",
        " Paris.",
        " ",
    ]
    assert len({c.id for c in chunks}) == 1
    assert [c.chunk_position for c in chunks] == [None] * 6 + ["last"]
    assert mark(chunks[0])["hit"] is True
    assert chunks[-1].response_metadata == END["response_metadata"]


def test_the_arguments_of_a_tool_call_are_replayed_in_parts() -> None:
    model = cached(Streamer(script=SCRIPTS["tool calls"]))
    by_stream(model, "q")
    parts = [part for c in model.stream("q") for part in c.tool_call_chunks]
    assert [part["name"] for part in parts if part["name"]] == ["weather", "clock"]
    assert len(parts) > 2


def test_messages_in_the_version_1_of_content_sum_up_to_the_same() -> None:
    calls = [
        say("Let me look."),
        say(tool_call_chunks=call(1, '{"city": "Pa', "weather", "call_1")),
        say(tool_call_chunks=call(1, 'ris"}')),
        say(tool_call_chunks=call(2, "{}", "clock", "call_2")),
    ]
    for script in (SCRIPTS["text"], SCRIPTS["reasoning beside"], SCRIPTS["no words"], calls):
        model = cached(Streamer(script=script, output_version="v1"))
        first, second = by_stream(model, "q"), by_stream(model, "q")
        assert said(first) == said(second)
        assert first.content_blocks == second.content_blocks
        assert model.asked == ["stream"]
        message = model.invoke("q")
        assert without_index(message.content) == without_index(first.content)


def without_index(content: Any) -> Any:
    return [{k: v for k, v in block.items() if k != "index"} for block in content]


def test_a_hit_counts_for_nothing_on_demand() -> None:
    model = cached(Streamer(script=SCRIPTS["usage"]), hit_usage="mark")
    assert by_stream(model, "q").usage_metadata == USAGE
    counter = UsageMetadataCallbackHandler()
    hit = summed(list(model.stream("q", config={"callbacks": [counter]})))
    assert hit.usage_metadata is None
    assert mark(hit)["usage"] == USAGE
    assert counter.usage_metadata == {}


def test_a_hit_has_the_usage_of_the_answer_at_no_cost() -> None:
    model = cached(Streamer(script=SCRIPTS["usage"]))
    by_stream(model, "q")
    hit = by_stream(model, "q")
    assert hit.usage_metadata == model.invoke("q").usage_metadata == {**USAGE, "total_cost": 0}


def test_a_stream_that_is_left_is_not_stored_and_is_closed() -> None:
    model = cached()
    stream = model.stream("q")
    next(stream)
    stream.close()
    assert model.closed == ["stream"]
    assert model.cache.cache.stats().stores == 0
    by_stream(model, "q")
    assert model.asked == ["stream", "stream"]


def test_what_a_model_streams_is_closed_when_the_stream_is_left() -> None:
    class Line:
        def __init__(self) -> None:
            self.is_open = True

        def __iter__(self) -> Line:
            return self

        def __next__(self) -> ChatGenerationChunk:
            return ChatGenerationChunk(message=say("word "))

        def close(self) -> None:
            self.is_open = False

    class Calling(Streamer):
        def _stream(self, *_: Any, **__: Any) -> Any:
            return line

    line = Line()
    stream = cached(Calling()).stream("q")
    next(stream)
    assert line.is_open
    stream.close()
    assert not line.is_open


async def test_an_asynchronous_stream_that_is_left_is_not_stored_and_is_closed() -> None:
    model = cached(AsyncStreamer())
    stream = model.astream("q")
    await anext(stream)
    await stream.aclose()
    await asyncio.sleep(0)
    assert model.cache.cache.stats().stores == 0


async def test_a_stream_that_is_cancelled_is_not_stored() -> None:
    class Slow(AsyncStreamer):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
                begun.set()
                await asyncio.Event().wait()

    begun, model = asyncio.Event(), cached(Slow())
    task = asyncio.create_task(collect(model.astream("q")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.cache.cache.stats().stores == 0


def test_a_stream_that_breaks_is_not_stored() -> None:
    model = cached(Streamer(fails_after=2))
    with pytest.raises(ConnectionError):
        list(model.stream("q"))
    with pytest.raises(ConnectionError):
        asyncio.run(collect(model.astream("q")))
    assert model.asked == ["stream", "stream"]
    assert model.cache.cache.stats().stores == 0


def test_a_stream_without_chunks_is_the_error_that_it_was() -> None:
    model = cached(Streamer(script=[]))
    with pytest.raises(ValueError, match="No generation chunks"):
        list(model.stream("q"))


def test_a_consumer_who_changes_chunks_does_not_change_what_is_stored() -> None:
    model = cached(Streamer(script=SCRIPTS["reasoning blocks"]))
    for chunk in model.stream("q"):
        chunk.content = "changed"
        chunk.response_metadata["finish_reason"] = "changed"
    whole = by_stream(model, "q")
    assert whole.text == "It is Paris."
    assert whole.response_metadata["finish_reason"] == "stop"


def test_other_arguments_are_another_request() -> None:
    model = cached()
    by_stream(model, "q")
    list(model.stream("q", stop=["."]))
    list(model.stream("q", temperature=1.0))
    list(model.bind(tools=["f"]).stream("q"))
    assert model.asked == ["stream"] * 4


def test_a_store_that_fails_does_not_fail_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cached()

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("no disk")

    monkeypatch.setattr(model.cache.cache, "lookup", broken)
    monkeypatch.setattr(model.cache.cache, "store", broken)
    assert by_stream(model, "q").text == "The capital\n\n of  it is Paris. "
    assert sum(model.cache.errors.values()) == 2


def test_chunks_that_do_not_add_up_pass_and_are_not_stored() -> None:
    odd = [
        say("Paris", additional_kwargs={"x": "text"}),
        say(additional_kwargs={"x": 1}, chunk_position="last"),
    ]
    model = cached(Streamer(script=odd))
    stream = model._stream([HumanMessage("q")])
    assert [chunk.message.content for chunk in stream] == ["Paris", ""]
    assert model.cache.errors == {"unstorable": 1}


def test_replays_keep_the_pace() -> None:
    waits: list[float] = []
    model = cached(pace=0.25)
    by_stream(model, "q")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("langchain_tiered_cache.streams.time.sleep", waits.append)
        by_stream(model, "q")
    assert waits == [0.25] * 6


@pytest.mark.slow
def test_the_first_chunk_of_a_replay_comes_at_once() -> None:
    """Under 2 ms beyond a whole hit at the tenth percentile."""
    model = cached()
    by_stream(model, "q")
    assert model.invoke("q").response_metadata["tiered_cache"]["hit"]
    lookups, chunks = [], []
    for _ in range(200):
        started = time.perf_counter()
        model.invoke("q")
        between = time.perf_counter()
        next(model.stream("q"))
        lookups.append(between - started)
        chunks.append(time.perf_counter() - between)
    assert sorted(chunks)[20] - sorted(lookups)[20] < 0.002


def test_listeners_of_the_newer_protocol_hear_a_hit_once() -> None:
    class Ear(BaseCallbackHandler, _StreamingCallbackHandler, _V2StreamingCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def tap_output_aiter(self, run_id: Any, output: Any) -> Any:
            return output

        def tap_output_iter(self, run_id: Any, output: Any) -> Any:
            return output

        def on_llm_new_token(self, *_: Any, **__: Any) -> None:
            self.heard.append("token")

        def on_stream_event(self, event: Any, **_: Any) -> None:
            self.heard.append(event["event"])

    model, ears = cached(), (Ear(), Ear())
    for ear in ears:
        model.invoke("q", config={"callbacks": [ear]})
    assert model.asked == ["stream"]
    assert set(ears[0].heard) == set(ears[1].heard)
    assert "token" not in ears[1].heard


def test_callbacks_hear_a_replay_as_a_stream() -> None:
    class Ear(BaseCallbackHandler):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            self.heard.append("start")

        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            self.heard.append(token)

        def on_llm_end(self, response: LLMResult, **_: Any) -> None:
            self.heard.append(response.generations[0][0].text)

    model, ear = cached(Streamer(script=SCRIPTS["usage"])), Ear()
    by_stream(model, "q")
    list(model.stream("q", config={"callbacks": [ear]}))
    assert ear.heard == ["start", "Paris", "Paris"]


def test_several_streams_at_a_time_each_get_the_answer() -> None:
    model = cached()
    by_stream(model, "q")

    async def all_of() -> list[list[Any]]:
        return await asyncio.gather(*(collect(model.astream("q")) for _ in range(20)))

    assert {summed(chunks).text for chunks in asyncio.run(all_of())} == {
        "The capital\n\n of  it is Paris. "
    }
    assert model.asked == ["stream"]


class Native(AsyncStreamer):
    """One that speaks the newer protocol of stream events itself."""

    def _stream_chat_model_events(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a cached model makes these events of its chunks")

    _astream_chat_model_events = _stream_chat_model_events


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("kind", [Streamer, AsyncStreamer, Native])
@pytest.mark.parametrize("script", ["text", "tool calls", "reasoning blocks"])
def test_streams_of_the_newer_protocol_come_from_the_cache(
    script: str, kind: type[Streamer]
) -> None:
    async def awaited() -> Any:
        return await (await model.astream_events("q", version="v3")).output

    model = cached(kind(script=SCRIPTS[script]))
    messages = [model.stream_events("q", version="v3").output for _ in range(2)]
    messages.append(asyncio.run(awaited()))
    assert model.asked == ["stream"]
    assert said(messages[0]) == said(messages[1]) == said(messages[2])
    assert messages[0].text


# Agents and graphs


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


class Agent(Streamer):
    """Calls a tool, then answers."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append("stream")
        name = "tool calls" if messages[-1].type == "human" else "text"
        calls = SCRIPTS[name][:4] if name == "tool calls" else SCRIPTS[name]
        for chunk in calls:
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))


def tokens_of(agent: Any, question: str) -> list[AIMessageChunk]:
    inputs = {"messages": [("user", question)]}
    stream = agent.stream(inputs, stream_mode="messages")
    return [message for message, _ in stream if isinstance(message, AIMessage)]


async def atokens_of(agent: Any, question: str) -> list[AIMessageChunk]:
    inputs = {"messages": [("user", question)]}
    stream = agent.astream(inputs, stream_mode="messages")
    return [message async for message, _ in stream if isinstance(message, AIMessage)]


def test_an_agent_that_streams_calls_no_model_the_second_time() -> None:
    model = cached(Agent())
    agent = create_agent(model, [weather])
    first = tokens_of(agent, "weather in Paris?")
    calls = len(model.asked)
    second = tokens_of(agent, "weather in Paris?")
    third = asyncio.run(atokens_of(agent, "weather in Paris?"))
    assert calls == len(model.asked) == 2
    for again in (second, third):
        assert "".join(c.text for c in again) == "".join(c.text for c in first)
        assert all(isinstance(c, AIMessageChunk) for c in again)
        assert len(again) > 2
    assert [c.tool_calls for c in first if c.id == first[0].id] != []


async def test_events_of_an_agent_are_those_of_a_stream_on_a_hit() -> None:
    model = cached(Agent())
    agent = create_agent(model, [weather])
    texts = []
    for _ in range(2):
        events = await collect(agent.astream_events({"messages": [("user", "hi")]}, version="v2"))
        chunks = [e["data"]["chunk"] for e in events if e["event"] == "on_chat_model_stream"]
        texts.append("".join(chunk.text for chunk in chunks))
    assert texts[0] == texts[1] != ""
    assert len(model.asked) == 2


def test_a_graph_streams_its_nodes_from_the_cache() -> None:
    model = cached()

    def node(state: MessagesState) -> dict[str, Any]:
        whole = None
        for chunk in model.stream(state["messages"]):
            whole = chunk if whole is None else whole + chunk
        return {"messages": [whole]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    texts = ["".join(c.text for c in tokens_of(graph, "hi")) for _ in range(2)]
    assert texts == ["The capital\n\n of  it is Paris. "] * 2
    assert model.asked == ["stream"]
