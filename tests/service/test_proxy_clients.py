"""The official client and LangChain through the proxy: the objects that they get without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

pytest.importorskip("openai")
pytest.importorskip("langchain_openai")

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.service.conftest import Serve
from tests.service.upstream import Upstream

QUESTION: list[Any] = [{"role": "user", "content": "What is a fuse?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALLS = [
    {
        "id": f"call_{i}",
        "type": "function",
        "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'},
    }
    for i, city in enumerate(("Rome", "Oslo"))
]
CALLED = [
    {
        "message": {"role": "assistant", "content": None, "tool_calls": CALLS, "refusal": None},
        "finish_reason": "tool_calls",
    }
]


class Fuse(BaseModel):
    """What a structured answer holds."""

    amperes: int
    kind: Literal["slow", "fast"]


FUSE = [
    {
        "message": {"role": "assistant", "content": '{"amperes": 16, "kind": "slow"}'},
        "finish_reason": "stop",
    }
]


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-one", base_url=url, max_retries=0)


@pytest.fixture
def direct(upstream: Upstream) -> Iterator[openai.OpenAI]:
    with client_of(upstream.url) as client:
        yield client


@pytest.fixture
def proxied(serve: Serve) -> Iterator[openai.OpenAI]:
    with client_of(f"{serve()}/v1") as client:
        yield client


def without_number(found: Any) -> dict[str, Any]:
    """Return an object of the client but its id and time, which the upstream counts up."""
    body: dict[str, Any] = found.model_dump(warnings=False)  # of parsed answers
    return {name: value for name, value in body.items() if name not in ("id", "created")}


CALLS_MADE: dict[str, tuple[list[dict[str, Any]] | None, dict[str, Any]]] = {
    "text": (None, {}),
    "tools": (CALLED, {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True}),
    "several": ([*FUSE, *FUSE], {"n": 2, "temperature": 0}),
    "vision": (
        None,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    ],
                }
            ]
        },
    ),
}
MADE = pytest.mark.parametrize("kind", list(CALLS_MADE))


@MADE
def test_a_miss_is_the_object_of_the_upstream_and_a_hit_says_the_same(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream, kind: str
) -> None:
    upstream.choices, more = CALLS_MADE[kind]
    asked = {"model": "m", "messages": QUESTION, **more}
    plain = direct.chat.completions.create(**asked)
    miss = proxied.chat.completions.create(**asked)
    assert type(miss) is type(plain)
    assert without_number(miss) == without_number(plain)
    hit = proxied.chat.completions.create(**asked)
    assert upstream.calls == 2
    assert hit.usage == plain.usage
    for found, said in zip(hit.choices, plain.choices, strict=True):
        assert (found.finish_reason, found.index) == (said.finish_reason, said.index)
        assert found.message.content == said.message.content
        assert found.message.tool_calls == said.message.tool_calls
        assert found.message.refusal is None


@MADE
def test_streams_are_read_by_the_clients_own_parser(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream, kind: str
) -> None:
    upstream.choices, more = CALLS_MADE[kind]
    asked = {
        "model": "m",
        "messages": QUESTION,
        "stream_options": {"include_usage": True},
        **more,
    }

    def put_together(client: openai.OpenAI) -> Any:
        with client.chat.completions.stream(**asked) as stream:
            kinds = [event.type for event in stream]
            return kinds, without_number(stream.get_final_completion())

    def chunks(client: openai.OpenAI) -> list[Any]:
        found = client.chat.completions.create(**asked, stream=True)
        return [without_number(chunk) for chunk in found]

    plain = chunks(direct)
    assert chunks(proxied) == plain, "chunk by chunk on a miss"
    _, said = put_together(direct)
    kinds, replayed = put_together(proxied)
    assert upstream.calls == 3
    assert "chunk" in kinds
    for choice in (*said["choices"], *replayed["choices"]):
        choice["message"]["content"] = choice["message"]["content"] or None
    assert replayed["choices"] == said["choices"]
    assert replayed["usage"] == said["usage"]


def test_structured_output_is_parsed_by_the_client(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream
) -> None:
    upstream.choices = FUSE
    found = [
        client.chat.completions.parse(model="m", messages=QUESTION, response_format=Fuse)
        for client in (direct, proxied, proxied)
    ]
    assert without_number(found[0]) == without_number(found[1])
    parsed = [one.choices[0].message.parsed for one in found]
    assert parsed == [Fuse(amperes=16, kind="slow")] * 3
    with proxied.chat.completions.stream(
        model="m", messages=QUESTION, response_format=Fuse
    ) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed[0]
    assert upstream.calls == 2


def test_tools_results_are_asked_once_whatever_the_calls_ids_are(
    proxied: openai.OpenAI, upstream: Upstream
) -> None:
    def turn(number: str) -> list[Any]:
        call = {**CALLS[0], "id": number}
        return [
            *QUESTION,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "31 degrees", "tool_call_id": number},
        ]

    for number in ("call_a", "call_b"):
        found = proxied.chat.completions.create(model="m", messages=turn(number), tools=TOOLS)
        assert found.choices[0].message.content == "answer to 31 degrees"
    assert upstream.calls == 1


def test_the_async_client_gets_the_same(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream
) -> None:
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(api_key="sk-one", base_url=proxied.base_url) as client:
            found = [
                await client.chat.completions.create(model="m", messages=QUESTION) for _ in range(2)
            ]
            stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return [*(one.choices[0].message.content for one in found), "".join(texts)]

    plain = direct.chat.completions.create(model="m", messages=QUESTION)
    assert asyncio.run(ask()) == [plain.choices[0].message.content] * 3
    assert upstream.calls == 2


def test_errors_are_those_of_the_upstream(proxied: openai.OpenAI, upstream: Upstream) -> None:
    told = {"error": {"message": "slow down", "code": "rate", "type": "t", "param": None}}
    upstream.refusals = [(429, told, {"retry-after": "7"})]
    with pytest.raises(openai.RateLimitError) as refused:
        proxied.chat.completions.create(model="m", messages=QUESTION)
    assert refused.value.code == "rate"
    assert refused.value.response.headers["retry-after"] == "7"
    upstream.cut = 2
    with pytest.raises(Exception, match="peer closed"):
        list(proxied.chat.completions.create(model="m", messages=QUESTION, stream=True))


def test_completions_and_embeddings_are_those_of_the_upstream(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream
) -> None:
    asked: dict[str, Any] = {"model": "m", "prompt": "A fuse is", "temperature": 0}
    plain, miss, hit = (client.completions.create(**asked) for client in (direct, proxied, proxied))
    assert without_number(miss) == without_number(plain)
    assert hit.choices == plain.choices
    texts = [chunk.choices[0].text for chunk in proxied.completions.create(**asked, stream=True)]
    assert "".join(texts) == plain.choices[0].text
    inputs = {"model": "e", "input": ["a", "bcd"]}
    vectors = [client.embeddings.create(**inputs) for client in (direct, proxied, proxied)]
    assert vectors[0] == vectors[1]
    assert vectors[2].data == vectors[0].data
    assert [type(one) for one in vectors[2].data[0].embedding] == [float, float]
    assert upstream.calls == 4


def test_langchain_gets_the_same(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream
) -> None:
    def model(client: openai.OpenAI) -> ChatOpenAI:
        return ChatOpenAI(
            model="m", api_key="sk-one", base_url=str(client.base_url), temperature=0,
            stream_usage=True, max_retries=0,
        )  # fmt: skip

    def said(message: Any) -> Any:
        metadata = {
            name: value for name, value in message.response_metadata.items() if name != "id"
        }
        return message.content, message.tool_calls, message.usage_metadata, metadata

    plain, through = model(direct), model(proxied)
    assert said(through.invoke("Hi?")) == said(plain.invoke("Hi?"))
    assert through.invoke("Hi?").content == "answer to Hi?"
    assert said(asyncio.run(through.ainvoke("Ho?"))) == said(plain.invoke("Ho?"))
    streamed = list(through.stream("Hi?"))
    assert "".join(str(chunk.content) for chunk in streamed) == "answer to Hi?"
    upstream.choices = CALLED
    tooled = [one.bind_tools(TOOLS) for one in (plain, through, through)]
    called = [one.invoke("Where?").tool_calls for one in tooled]  # type: ignore[attr-defined]
    assert called[0] == called[1] == called[2]
    upstream.choices = FUSE
    shaped = through.with_structured_output(Fuse)
    assert [shaped.invoke("Which?") for _ in range(2)] == [Fuse(amperes=16, kind="slow")] * 2


def test_langchains_embeddings_get_the_same(
    direct: openai.OpenAI, proxied: openai.OpenAI, upstream: Upstream
) -> None:
    def of(client: openai.OpenAI) -> list[list[float]]:
        embeddings = OpenAIEmbeddings(
            model="e", api_key="sk-one", base_url=str(client.base_url),
            check_embedding_ctx_length=False,
        )  # fmt: skip
        return embeddings.embed_documents(["one", "two"])

    assert of(direct) == of(proxied) == of(proxied)
    assert upstream.calls == 2
