"""Streams of one true provider through the cache: ChatOpenAI and OpenAI over a mock transport."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

from langchain_tiered_cache import TieredCache, cached_model

# ChatOpenAI's own, of a schema that is a class; with the cache or without it.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")


class City(BaseModel):
    """A city."""

    name: str
    people: int


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return city


HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def chat_events(*deltas: dict[str, Any], finish: str = "stop") -> list[dict[str, Any]]:
    events = [{**HEAD, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return [*events, last, {**HEAD, "choices": [], "usage": USAGE}]


def call_part(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more["name"]} if "name" in more else {})}
    named = {"id": more["id"], "type": "function"} if "id" in more else {}
    return {"tool_calls": [{"index": index, "function": function, **named}]}


ROLE = {"role": "assistant", "content": ""}
TEXT = chat_events(ROLE, {"content": "It is "}, {"content": "Paris."})
CALLS = chat_events(
    {"role": "assistant", "content": None},
    call_part(0, "", id="call_a", name="weather"),
    call_part(0, '{"city": "Pa'),
    call_part(0, 'ris"}'),
    call_part(1, '{"city": "Rome"}', id="call_b", name="weather"),
    finish="tool_calls",
)
OBJECT = chat_events(
    ROLE,
    {"content": '{"name": "Paris", '},
    {"content": '"people": 2}'},
)
COMPLETION = [
    {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct",
     "choices": [{"text": text, "index": 0, "finish_reason": finish, "logprobs": None}]}
    for text, finish in (("It is", None), (" Paris.", "stop"))
]  # fmt: skip


def response_events() -> list[dict[str, Any]]:
    """Spell a stream of the Responses API: a reasoning summary, then a text."""
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
    summed = {**reasoning, "summary": [{"type": "summary_text", "text": "Thinking hard."}]}
    part = {"type": "output_text", "text": "It is Paris.", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13,
             "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5",
                "status": "in_progress", "output": [], "parallel_tool_calls": True,
                "tool_choice": "auto", "tools": []}  # fmt: skip
    whole = {**response, "status": "completed", "usage": usage,
             "output": [summed, {**message, "content": [part]}]}  # fmt: skip
    of_reasoning = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    of_text = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    events = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning},
        {"type": "response.reasoning_summary_part.added", **of_reasoning,
         "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **of_reasoning, "delta": "Thinking "},
        {"type": "response.reasoning_summary_text.delta", **of_reasoning, "delta": "hard."},
        {"type": "response.output_item.done", "output_index": 0, "item": summed},
        {"type": "response.output_item.added", "output_index": 1,
         "item": {**message, "content": []}},
        {"type": "response.content_part.added", **of_text, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **of_text, "delta": "It is ", "logprobs": []},
        {"type": "response.output_text.delta", **of_text, "delta": "Paris.", "logprobs": []},
        {"type": "response.output_text.done", **of_text, "text": "It is Paris.", "logprobs": []},
        {"type": "response.output_item.done", "output_index": 1,
         "item": {**message, "content": [part]}},
        {"type": "response.completed", "response": whole},
    ]  # fmt: skip
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


class Provider:
    """A server of streams that notes the bodies of requests."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.bodies: list[Any] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, content=b"".join(self._lines())
        )

    def _lines(self) -> Iterator[bytes]:
        for event in self.events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            yield f"{name}data: {json.dumps(event)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    def settings(self) -> dict[str, Any]:
        transport = httpx.MockTransport(self)
        return {
            "api_key": "none",
            "max_retries": 0,
            "http_client": httpx.Client(transport=transport),
            "http_async_client": httpx.AsyncClient(transport=transport),
        }

    def chat(self, **settings: Any) -> ChatOpenAI:
        return ChatOpenAI(
            **{"model": "gpt-4o-mini", "temperature": 0, **settings, **self.settings()}
        )


def exact() -> TieredCache:
    return TieredCache(semantic=False)


def summed(chunks: Any) -> AIMessageChunk:
    first, *others = chunks
    for chunk in others:
        first += chunk
    return first


def said(message: Any, without: tuple[str, ...] = ()) -> Any:
    """Return what a message says; ids of the provider's items are not kept."""
    if isinstance(message, AIMessageChunk):
        message = message_chunk_to_message(message)
    fields = message.model_dump(exclude={"id", "usage_metadata"})
    metadata = fields["response_metadata"]
    fields["response_metadata"] = {
        key: metadata[key] for key in metadata if key not in ("tiered_cache", "id")
    }
    if isinstance(fields["content"], list):
        fields["content"] = [
            {k: v for k, v in b.items() if k not in ("id", *without)} for b in fields["content"]
        ]
    return fields


SHAPES = {
    "text": (TEXT, {}, {}),
    "text, version 1": (TEXT, {"output_version": "v1"}, {}),
    "tool calls": (CALLS, {}, {"tools": [weather]}),
    "tool calls, version 1": (CALLS, {"output_version": "v1"}, {"tools": [weather]}),
    "responses": (response_events(), {"use_responses_api": True}, {}),
    "responses, version 1": (
        response_events(), {"use_responses_api": True, "output_version": "v1"}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_miss_sends_and_parses_what_the_model_alone_does(shape: str) -> None:
    events, settings, call = SHAPES[shape]
    provider = Provider(events)
    own = provider.chat(**settings)
    streams = []
    for model in (own, cached_model(own, exact())):
        asked: Any = model.bind_tools(call["tools"]) if call else model
        streams.append(list(asked.stream("q")))
    assert provider.bodies[0] == provider.bodies[1]
    assert provider.bodies[0]["stream"] is True
    for chunk in streams[1]:
        chunk.response_metadata.pop("tiered_cache", None)
    for chunks in streams:  # the empty one at the end is LangChain's own, or the one with the mark
        chunks[-1].response_metadata.pop("output_version", None)
    ids = {"id"}
    alone, through = ([c.model_dump(exclude=ids) for c in chunks] for chunks in streams)
    assert alone == through


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_hit_sends_nothing_and_sums_up_to_the_same(shape: str) -> None:
    events, settings, call = SHAPES[shape]
    provider = Provider(events)
    model = cached_model(provider.chat(**settings), exact())
    asked: Any = model.bind_tools(call["tools"]) if call else model
    first = summed(asked.stream("q"))
    second = summed(asked.stream("q"))
    third = summed([chunk async for chunk in asked.astream("q")])
    message = await asked.ainvoke("q")
    assert len(provider.bodies) == 1
    assert said(first) == said(second) == said(third)
    assert said(message, ("index",)) == said(first, ("index",))
    assert second.response_metadata["tiered_cache"]["hit"] is True
    assert second.response_metadata["finish_reason" if "respo" not in shape else "status"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_streams_from_the_cache(method: Any) -> None:
    calls = chat_events(
        {"role": "assistant", "content": None},
        call_part(0, '{"name": "Paris", ', id="call_a", name="City"),
        call_part(0, '"people": 2}'),
    )
    provider = Provider(calls if method == "function_calling" else OBJECT)
    model = cached_model(provider.chat(), exact())
    chain = model.with_structured_output(City, method=method)
    results = [list(chain.stream("q"))[-1] for _ in range(2)]
    assert results == [City(name="Paris", people=2)] * 2
    assert len(provider.bodies) == 1


def test_two_schemas_of_one_name_share_no_stream() -> None:
    def schema(field: str) -> Any:
        return type("City", (BaseModel,), {"__annotations__": {field: str}, "__module__": "m"})

    provider = Provider(chat_events(ROLE, {"content": '{"name": "Paris", "mayor": "Anne"}'}))
    model = cached_model(provider.chat(), exact())
    for field in ("name", "mayor", "name", "mayor"):
        (*_, city) = model.with_structured_output(schema(field)).stream("q")
        assert getattr(city, field) in ("Paris", "Anne")
    assert len(provider.bodies) == 2


def test_chunks_may_be_taken_in_other_threads_and_contexts() -> None:
    """As web servers take them; the class of the schema is known in the first context alone."""
    provider = Provider(OBJECT)
    model = cached_model(provider.chat(), exact()).bind(response_format=City)
    for _ in range(2):
        chunks = model.stream("q")
        with ThreadPoolExecutor(4) as pool:
            while pool.submit(copy_context().run, next, chunks, None).result() is not None:
                pass
    assert len(provider.bodies) == 1


def test_a_model_that_streams_in_invoke_asks_the_cache_once() -> None:
    provider = Provider(TEXT)
    model = cached_model(provider.chat(streaming=True), exact())
    messages = [model.invoke("q") for _ in range(2)]
    assert messages[0].text == messages[1].text == "It is Paris."
    stats = model.cache.cache.stats()  # type: ignore[union-attr]
    assert (stats.lookups, stats.stores) == (2, 1)
    assert said(summed(model.stream("q"))) == said(messages[1])


def test_the_cached_and_the_plain_model_share_entries() -> None:
    provider, cache = Provider(TEXT), exact()
    list(cached_model(provider.chat(), cache).stream("q"))
    assert isinstance(provider.chat(cache=cache).invoke("q"), AIMessage)
    assert len(provider.bodies) == 1


def test_a_completion_model_streams_from_the_cache() -> None:
    provider = Provider(COMPLETION)
    model = cached_model(OpenAI(temperature=0, **provider.settings()), exact())
    assert ["".join(model.stream("q")) for _ in range(2)] == ["It is Paris."] * 2
    assert model.invoke("q") == "It is Paris."
    assert len(provider.bodies) == 1


def test_a_completion_model_that_streams_in_invoke_asks_the_cache_once() -> None:
    provider = Provider(COMPLETION)
    model = cached_model(OpenAI(streaming=True, temperature=0, **provider.settings()), exact())
    assert [model.invoke("q") for _ in range(2)] == ["It is Paris."] * 2
    stats = model.cache.cache.stats()  # type: ignore[union-attr]
    assert (stats.lookups, stats.stores) == (2, 1)
