"""OpenAI's LlamaIndex class over a mock transport: what is sent, and what both frameworks share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.llms.openai")

import httpx
import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.llm import LLM
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI

from langchain_tiered_cache import TieredCache
from llamaindex_tiered_cache import CachedQueryEngine, cached_llm, install
from llamaindex_tiered_cache.request import chat_request
from shared_core import Hit, ResponseCache
from tests.fakes import fake_embed
from tests.llamaindex.cases import PROMPT, City, memory, weather
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_keys.json").read_text())
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def message_for(body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    if body.get("tools") and last["role"] == "user":
        name = body["tools"][0]["function"]["name"]
        arguments = json.dumps(
            {"city": "Rome"} if name == "weather" else {"name": "R", "people": 3}
        )
        call = {"id": "call_9", "type": "function"}
        call["function"] = {"name": name, "arguments": arguments}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if body.get("response_format"):
        return {"role": "assistant", "content": '{"name": "Rome", "people": 3}'}
    return {"role": "assistant", "content": f"answer to {last['content']}"}


class Server:
    """The chat completions endpoint; keeps the bodies it was sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.bodies.append(body)
        message = message_for(body)
        head = {"id": f"chatcmpl-{len(self.bodies)}", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            reason = "tool_calls" if message.get("tool_calls") else "stop"
            choice = {"index": 0, "message": message, "finish_reason": reason}
            whole = {**head, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            return httpx.Response(200, json=whole)
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        end = {"index": 0, "delta": {}, "finish_reason": reason}
        choices = [*({"index": 0, "delta": delta} for delta in self._deltas(message)), end]
        lines = [
            {**head, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices
        ]
        text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    @staticmethod
    def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
        if not message.get("tool_calls"):
            words = message["content"].split(" ")
            return [{"content": word if i == 0 else f" {word}"} for i, word in enumerate(words)]
        (call,) = message["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        first = {**call, "index": 0, "function": {"name": name, "arguments": arguments[:5]}}
        rest = {"index": 0, "function": {"arguments": arguments[5:]}}
        return [{"role": "assistant", "tool_calls": [first]}, {"tool_calls": [rest]}]


def openai(server: Server | None = None, **kwargs: Any) -> OpenAI:
    transport = httpx.MockTransport(server or Server())
    return OpenAI(
        **{"model": "gpt-4o-mini", "temperature": 0, "api_key": "sk-secret", **kwargs},
        max_retries=0,
        http_client=httpx.Client(transport=transport),
        async_http_client=httpx.AsyncClient(transport=transport),
    )


def ask(llm: LLM) -> Any:
    return llm.chat([ChatMessage("What is a fuse?")]).message


def aask(llm: LLM) -> Any:
    return asyncio.run(llm.achat([ChatMessage("What is a fuse?")])).message


def stream(llm: LLM) -> Any:
    return [chunk.delta for chunk in llm.stream_chat([ChatMessage("What is a fuse?")])]


def complete(llm: LLM) -> Any:
    return llm.complete("What is a fuse?").text


def structured(llm: LLM) -> Any:
    return llm.structured_predict(City, PROMPT, country="Italy")


def astructured(llm: LLM) -> Any:
    return asyncio.run(llm.astructured_predict(City, PROMPT, country="Italy"))


def as_structured(llm: LLM) -> Any:
    return llm.as_structured_llm(City).chat([ChatMessage("Name a city.")]).raw


def with_tools(llm: Any) -> Any:
    tool = FunctionTool.from_defaults(weather)
    response = llm.chat_with_tools([tool], user_msg="Is it warm in Rome?")
    return [one.tool_kwargs for one in llm.get_tool_calls_from_response(response)]


def agent(llm: LLM) -> Any:
    async def answer() -> str:
        tool = FunctionTool.from_defaults(weather)
        made = FunctionAgent(tools=[tool], llm=llm)
        return str(await made.run("Is it warm in Rome?", memory=memory()))

    return asyncio.run(answer())


WAYS = [ask, aask, stream, complete, structured, astructured, as_structured, with_tools, agent]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_miss_sends_what_the_bare_class_sends_and_a_hit_sends_nothing(
    way: Callable[[LLM], Any],
) -> None:
    bare, wrapped = Server(), Server()
    expected = way(openai(bare))
    llm = cached_llm(openai(wrapped), ResponseCache.open(semantic=False))
    assert way(llm) == expected
    assert wrapped.bodies == bare.bodies
    assert way(llm) == expected
    assert wrapped.bodies == bare.bodies


def test_a_streamed_tool_call_is_kept_and_is_sent_back_as_the_bare_class_does() -> None:
    bare, wrapped = Server(), Server()
    agent(openai(bare))
    llm = cached_llm(openai(wrapped), cache := ResponseCache.open(semantic=False))
    agent(llm)
    cache.invalidate(entry_id=list(entry_ids(cache, llm))[-1])  # the answer after the tool's
    agent(llm)
    assert wrapped.bodies == [*bare.bodies, bare.bodies[-1]]


def entry_ids(cache: ResponseCache, llm: LLM) -> list[str]:
    with cache.trace() as trace:
        agent(llm)
    return [event.entry_id for event in trace.events if event.entry_id is not None]


def message_of(neutral: dict[str, Any]) -> ChatMessage:
    calls = [
        ToolCallBlock(tool_call_id="toolu_8", tool_name=call["name"], tool_kwargs=call["args"])
        for call in neutral.get("tool_calls", ())
    ]
    message = ChatMessage(role=MessageRole(neutral["role"]), content=neutral["content"])
    message.blocks.extend(calls)
    if "tool_call_id" in neutral:
        message.additional_kwargs["tool_call_id"] = "toolu_8"
    return message


SHARED = [
    one
    for one in GOLDEN
    if one["request"]["params"]["provider"] == "openai" and "image" not in one["name"]
]


@pytest.mark.parametrize("golden", SHARED, ids=[one["name"] for one in SHARED])
def test_keys_are_those_of_the_other_framework(golden: dict[str, Any]) -> None:
    asked = golden["request"]
    params = dict(asked["params"])
    del params["provider"]
    call = {name: params.pop(name) for name in ("tools", "tool_choice", "stop") if name in params}
    if "response_schema" in params:
        call["response_format"] = params.pop("response_schema")
    more = {name: params.pop(name) for name in ("top_p", "seed", "user") if name in params}
    llm = openai(api_base=params.pop("base_url", None), additional_kwargs=more, **params)
    if "temperature" not in params:
        llm.temperature = None
    neutral = [*asked.get("history", ())]
    if "system" in asked:
        neutral.insert(0, {"role": "system", "content": asked["system"]})
    messages = [message_of(one) for one in neutral]
    if asked["question"] is not None:
        messages.append(ChatMessage(asked["question"]))
    assert chat_request(llm, messages, call).address("default").key == golden["key"]


PLAIN = next(one for one in GOLDEN if one["name"] == "system prompt")
ASKED = [ChatMessage("You help.", role="system"), ChatMessage("What is a fuse?")]
REPHRASED = [ChatMessage("You help.", role="system"), ChatMessage("What is a fuse please?")]


@pytest.fixture
def cache(store_url: str) -> Iterator[ResponseCache]:
    with ResponseCache.open(store_url, embedder=fake_embed, threshold=0.8, timeout=5.0) as opened:
        yield opened


def same_model(server: Server, cache: ResponseCache) -> LLM:
    inner = openai(server, max_tokens=100, additional_kwargs={"top_p": 0.5})
    return cached_llm(inner, cache)


@pytest.mark.parametrize(("messages", "tier"), [(ASKED, "exact"), (REPHRASED, "semantic")])
def test_an_answer_stored_through_langchain_is_served(
    messages: list[ChatMessage], tier: str, cache: ResponseCache
) -> None:
    server = Server()
    generation = ChatGeneration(message=AIMessage("It melts."))
    TieredCache(cache=cache).update(PLAIN["prompt"], PLAIN["llm_string"], [generation])
    response = same_model(server, cache).chat(messages)
    assert response.message.content == "It melts."
    assert response.additional_kwargs["tiered_cache"]["tier"] == tier
    assert server.bodies == []


@pytest.mark.parametrize(("messages", "tier"), [(ASKED, "exact"), (REPHRASED, "semantic")])
def test_an_answer_stored_here_is_served_to_langchain(
    messages: list[ChatMessage], tier: str, cache: ResponseCache
) -> None:
    answer = same_model(Server(), cache).chat(messages).message.content
    found = TieredCache(cache=cache).lookup(PLAIN["prompt"], PLAIN["llm_string"])
    assert found is not None
    message = found[0].message
    assert message.content == answer
    assert message.response_metadata["tiered_cache"]["tier"] == tier


def test_answers_that_call_tools_are_not_shared(cache: ResponseCache) -> None:
    golden = next(one for one in GOLDEN if one["name"] == "tools")
    server = Server()
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "1"}
    message = AIMessage("", tool_calls=[call])
    tiered = TieredCache(cache=cache)
    tiered.update(golden["prompt"], golden["llm_string"], [ChatGeneration(message=message)])
    params = golden["request"]["params"]
    llm = cached_llm(openai(server), cache)
    asked = [ChatMessage(golden["request"]["question"])]
    request = chat_request(openai(), asked, {k: params[k] for k in ("tools", "tool_choice")})
    assert not isinstance(cache.lookup(request), Hit)
    llm.chat(asked, tools=params["tools"], tool_choice="auto")
    assert len(server.bodies) == 1
    assert tiered.lookup(golden["prompt"], golden["llm_string"]) is None


def test_no_key_holds_a_secret() -> None:
    llm = openai(default_headers={"authorization": "Bearer sk-header"})
    request = chat_request(llm, ASKED, {})
    assert "sk-" not in request.scope
    assert "headers" not in request.scope


@pytest.mark.parametrize("call", ["chat", "achat", "complete", "stream"])
def test_raw_of_a_hit_reads_as_the_client_s_own_object(call: str) -> None:
    llm, question = (
        cached_llm(openai(), ResponseCache.open(semantic=False)),
        [ChatMessage("What is a fuse?")],
    )

    def once() -> Any:
        if call == "achat":
            return asyncio.run(llm.achat(question)).raw
        if call == "complete":
            return llm.complete("What is a fuse?").raw
        if call == "stream":
            return list(llm.stream_chat(question))[-1].raw
        return llm.chat(question).raw

    fresh, hit = once(), once()
    expected = {**fresh.model_dump(), "id": None}
    assert hit.model_dump() == expected
    assert hit.choices[0].finish_reason == fresh.choices[0].finish_reason
    if call != "stream":
        assert hit.usage.total_tokens == fresh.usage.total_tokens == 5


class HttpEmbedding(BaseEmbedding):
    """An embedding model behind the same provider: each batch is a request."""

    http: Any = Field(exclude=True)

    def _embed(self, texts: list[str]) -> list[list[float]]:
        reply = self.http.post("https://api.openai.com/v1/embeddings", json={"input": texts})
        vectors: list[list[float]] = reply.json()["data"]
        return vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed([query])[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_cached_query_makes_no_request_at_all(whole: bool, streams: bool) -> None:
    server, requests = Server(), list[str]()

    def provider(request: httpx.Request) -> httpx.Response:
        requests.append(request.url.path)
        if request.url.path.endswith("/embeddings"):
            texts = json.loads(request.content)["input"]
            return httpx.Response(200, json={"data": np.asarray(fake_embed(texts)).tolist()})
        return server(request)

    http = httpx.Client(transport=httpx.MockTransport(provider))
    before = Settings._llm, Settings._embed_model
    try:
        Settings.llm = OpenAI(model="gpt-4o-mini", temperature=0, api_key="sk-1", http_client=http)
        Settings.embed_model = HttpEmbedding(model_name="e", http=http)
        with ResponseCache.open(embedder=fake_embed, threshold=0.7) as cache:
            install(cache, embeddings=True)
            index = VectorStoreIndex.from_documents([Document(text="A fuse melts.")])
            engine: Any = index.as_query_engine(streaming=streams)
            engine = CachedQueryEngine(engine, cache, version=1) if whole else engine
            said = [str(engine.query("What is a fuse?"))]
            assert {path.rpartition("/")[2] for path in requests} == {"embeddings", "completions"}
            requests.clear()
            said.append(str(engine.query("What is a fuse?")))
            assert requests == []
            if whole:
                said.append(str(engine.query("what is a fuse")))
                assert requests == [], "nothing is retrieved, so no other question is embedded"
            assert len(set(said)) == 1
    finally:
        Settings._llm, Settings._embed_model = before


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_query_engine_keeps_no_response_that_rests_on_a_cut_answer(is_awaited: bool) -> None:
    server = Server()

    def cut(request: httpx.Request) -> httpx.Response:
        whole = json.loads(server(request).content)
        whole["choices"][0]["finish_reason"] = "length"
        return httpx.Response(200, json=whole)

    transport = httpx.MockTransport(cut)
    given: Any = {"http_client": httpx.Client(transport=transport)}
    given["async_http_client"] = httpx.AsyncClient(transport=transport)
    llm = OpenAI(model="gpt-4o-mini", temperature=0, api_key="sk-1", **given)
    before = Settings._llm, Settings._embed_model
    try:
        Settings.embed_model = MockEmbedding(embed_dim=4)
        with ResponseCache.open(semantic=False) as cache:
            Settings.llm = cached_llm(llm, cache)
            index = VectorStoreIndex.from_documents([Document(text="A fuse melts.")])
            engine = CachedQueryEngine(index.as_query_engine(), cache, version=1)
            for calls in (1, 2):
                if is_awaited:
                    asyncio.run(engine.aquery("What is a fuse?"))
                else:
                    engine.query("What is a fuse?")
                assert len(server.bodies) == calls
            assert cache.stats().stores == 0
    finally:
        Settings._llm, Settings._embed_model = before
