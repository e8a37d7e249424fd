"""Responses and Messages through the proxy: what the official clients get without it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("anthropic")

import anthropic
import httpx
import openai
from langchain_openai import ChatOpenAI

from shared_core.service.access import new_key
from tests.service.conftest import Serve
from tests.service.upstream import Upstream

pytestmark = pytest.mark.slow  # two servers for each test

IMAGE = "data:image/png;base64," + base64.b64encode(b"a picture").decode()
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION: dict[str, Any] = {"type": "function", "name": "weather", "parameters": WEATHER}
TOOL: dict[str, Any] = {"name": "weather", "input_schema": WEATHER}

TEXT_PART = {"type": "output_text", "text": "It melts.", "annotations": []}
CITED = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "t", "url": "http://u"}


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    head = {"id": "msg_a", "type": "message", "role": "assistant", "status": "completed"}
    return {**head, "content": list(parts)}


CALL = {
    **{"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "weather"},
    **{"arguments": '{"city": "Rome"}', "status": "completed"},
}
REASONS = {
    **{"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAAA"},
    "summary": [{"type": "summary_text", "text": "A fuse is thin."}],
}
OUTPUTS: dict[str, list[dict[str, Any]]] = {
    "a text": [said(TEXT_PART)],
    "two texts": [said(TEXT_PART, {**TEXT_PART, "text": "Then it is dark."})],
    "a text that cites": [said({**TEXT_PART, "annotations": [CITED]})],
    "a text in two messages": [said(TEXT_PART), {**said(TEXT_PART), "id": "msg_b"}],
    "structured": [said({**TEXT_PART, "text": '{"amperes": 16}'})],
    "a refusal": [said({"type": "refusal", "refusal": "No."})],
    "a call": [CALL],
    "two calls": [CALL, {**CALL, "id": "fc_2", "call_id": "call_2"}],
    "thoughts and a text": [REASONS, said(TEXT_PART)],
    "thoughts and a call": [REASONS, CALL],
    "a search and a text": [
        {"id": "ws_1", "type": "web_search_call", "status": "completed",
         "action": {"type": "search", "query": "fuse"}},
        said(TEXT_PART),
    ],
}  # fmt: skip

INPUTS: dict[str, dict[str, Any]] = {
    "a text": {"input": "What is a fuse?"},
    "instructions": {"input": "What is a fuse?", "instructions": "Be brief."},
    "a list": {"input": [{"role": "user", "content": "What is a fuse?"}]},
    "parts": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "A fuse?"}]}]},
    "an image": {
        "input": [{"role": "user", "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": IMAGE, "detail": "auto"},
        ]}]
    },
    "several turns": {
        "input": [
            {"role": "user", "content": "What is a fuse?"},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [TEXT_PART]},
            {"role": "user", "content": "And a relay?"},
        ]
    },
    "tools": {"input": "Is it warm in Rome?", "tools": [FUNCTION]},
    "a tool's result": {
        "input": [
            {"role": "user", "content": "Is it warm in Rome?"}, CALL,
            {"type": "function_call_output", "call_id": "call_1", "output": "30"},
        ],
        "tools": [FUNCTION],
    },
    "structured": {
        "input": "What is a fuse?",
        "text": {"format": {"type": "json_schema", "name": "fuse", "strict": True,
                            "schema": {"type": "object", "properties": {}}}},
    },
    "reasoning": {
        "input": "What is a fuse?", "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"], "store": False,
    },
}  # fmt: skip

THINKING = {"type": "thinking", "thinking": "A fuse is thin.", "signature": "c2lnbmVk"}
USES = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
BLOCKS: dict[str, list[dict[str, Any]]] = {
    "a text": [{"type": "text", "text": "It melts."}],
    "two texts": [{"type": "text", "text": "It melts."}, {"type": "text", "text": "Dark."}],
    "thoughts": [THINKING, {"type": "text", "text": "It melts."}],
    "hidden thoughts": [
        {"type": "redacted_thinking", "data": "xyz"}, {"type": "text", "text": "It melts."},
    ],
    "a use": [USES],
    "a text and two uses": [
        {"type": "text", "text": "I look."}, USES, {**USES, "id": "toolu_2", "input": {}},
    ],
    "thoughts and a use": [THINKING, USES],
}  # fmt: skip

ASKED: dict[str, dict[str, Any]] = {
    "a text": {"messages": [{"role": "user", "content": "What is a fuse?"}]},
    "a system prompt": {
        "system": "Be brief.", "messages": [{"role": "user", "content": "What is a fuse?"}],
    },
    "system blocks": {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is a fuse?"}]}],
    },
    "an image": {
        "messages": [{"role": "user", "content": [
            {"type": "image",
             "source": {"type": "base64", "media_type": "image/png", "data": "aa"}},
            {"type": "text", "text": "What is it?"},
        ]}]
    },
    "several turns": {
        "messages": [
            {"role": "user", "content": "What is a fuse?"},
            {"role": "assistant", "content": [{"type": "text", "text": "It melts."}]},
            {"role": "user", "content": "And a relay?"},
        ]
    },
    "tools": {
        "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "Is it warm in Rome?"}],
    },
    "a tool's result": {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "Is it warm in Rome?"},
            {"role": "assistant", "content": [USES]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "30"}]},
        ],
    },
    "thinking": {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "messages": [{"role": "user", "content": "What is a fuse?"}],
    },
}  # fmt: skip


@dataclass
class Clients:
    """The official clients, asking the service, and asking the upstream itself."""

    responses: openai.OpenAI
    messages: anthropic.Anthropic
    direct_responses: openai.OpenAI
    direct_messages: anthropic.Anthropic


@pytest.fixture
def clients(serve: Serve, upstream: Upstream) -> Iterator[Clients]:
    url = serve()
    root = upstream.url.removesuffix("/v1")
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk", max_retries=0) as one,
        anthropic.Anthropic(base_url=url, api_key="sk", max_retries=0) as two,
        openai.OpenAI(base_url=upstream.url, api_key="sk", max_retries=0) as three,
        anthropic.Anthropic(base_url=root, api_key="sk", max_retries=0) as four,
    ):
        yield Clients(one, two, three, four)


def same_response(one: Any, other: Any) -> bool:
    now = {"created_at"}
    return bool(one.model_dump(exclude=now) == other.model_dump(exclude=now))


def streamed_response(client: openai.OpenAI, asked: dict[str, Any]) -> Any:
    with client.responses.stream(model="gpt-4o-mini", **asked) as stream:
        texts = [one.delta for one in stream if one.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text
    return final


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("streams_first", [False, True])
def test_every_kind_of_response_comes_back_whole_at_once_and_as_a_stream(
    clients: Clients, upstream: Upstream, kind: str, streams_first: bool
) -> None:
    upstream.output = OUTPUTS[kind]
    asked = {"input": "What is a fuse?", "tools": [FUNCTION]}
    whole = clients.direct_responses.responses.create(model="gpt-4o-mini", **asked)
    if streams_first:
        fresh: Any = streamed_response(clients.responses, asked)
    else:
        fresh = clients.responses.responses.create(model="gpt-4o-mini", **asked)
    assert upstream.calls == 2
    for _ in range(2):
        again = clients.responses.responses.with_raw_response.create(model="gpt-4o-mini", **asked)
        assert again.headers["x-tiered-cache-tier"] == "exact"
        found = again.parse()
        assert found.id == fresh.id, "what previous_response_id may name"
        assert (
            json.loads(found.model_dump_json())["output"]
            == json.loads(whole.model_dump_json())["output"]
        )
        assert found.usage == whole.usage
        replayed = streamed_response(clients.responses, asked)
        assert [one.type for one in replayed.output] == [one.type for one in whole.output]
        assert replayed.output_text == whole.output_text
        assert replayed.usage == whole.usage
    assert upstream.calls == 2


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_kind_of_input_is_asked_once(
    clients: Clients, upstream: Upstream, kind: str, stream: bool
) -> None:
    def ask(**more: Any) -> Any:
        asked = {**INPUTS[kind], **more}
        if stream:
            return streamed_response(clients.responses, asked)
        return clients.responses.responses.create(model="gpt-4o-mini", **asked)

    first, again = ask(), ask()
    assert upstream.calls == 1
    sent = upstream.bodies[0]
    assert {name: sent[name] for name in INPUTS[kind]} == INPUTS[kind]
    assert same_response(first, again)
    ask(max_output_tokens=7)
    assert upstream.calls == 2


@pytest.mark.parametrize(
    "more",
    [
        {"store": True},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"background": True},
        {"prompt": {"id": "pmpt_1"}},
    ],
)
def test_what_the_upstream_keeps_is_passed_on_and_not_kept_here(
    clients: Clients, upstream: Upstream, more: dict[str, Any]
) -> None:
    for _ in range(2):
        told = clients.responses.responses.with_raw_response.create(
            model="gpt-4o-mini", input="What is a fuse?", **more
        )
        assert told.headers["x-tiered-cache"] == "bypass"
    assert upstream.calls == 2
    assert more.items() <= upstream.bodies[-1].items()


@pytest.mark.parametrize("more", [{"previous_response_id": "r"}, {"conversation": {"id": "c"}}])
def test_objects_of_all_callers_are_not_reached_with_the_servers_credential(
    serve: Serve, upstream: Upstream, more: dict[str, Any]
) -> None:
    key, entry = new_key("app")
    url = serve(keys=(str(entry),), upstream_key="sk-server")
    body = {"model": "m", "input": "And then?", **more}
    asked = httpx.post(f"{url}/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})
    assert (asked.status_code, asked.json()["error"]["code"]) == (403, "stored_objects")
    own = {"authorization": "Bearer sk-own", "x-tiered-cache-key": key}
    assert httpx.post(f"{url}/v1/responses", json=body, headers=own).is_success
    assert upstream.headers[-1]["authorization"] == "Bearer sk-own"


def streamed_message(client: anthropic.Anthropic, asked: dict[str, Any]) -> Any:
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=2000, **asked) as stream:
        texts = list(stream.text_stream)
        final = stream.get_final_message()
    whole = "".join(block.text for block in final.content if block.type == "text")
    assert "".join(texts) == whole
    return final


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("streams_first", [False, True])
def test_every_kind_of_message_comes_back_whole_at_once_and_as_a_stream(
    clients: Clients, upstream: Upstream, kind: str, streams_first: bool
) -> None:
    upstream.blocks = BLOCKS[kind]
    upstream.reason = "tool_use" if BLOCKS[kind][-1]["type"] == "tool_use" else "end_turn"
    asked = {**ASKED["a text"], "tools": [TOOL]}
    named: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 2000, **asked}
    whole = clients.direct_messages.messages.create(**named)
    if streams_first:
        streamed_message(clients.messages, asked)
    else:
        fresh = clients.messages.messages.create(**named)
        assert fresh.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})
    for _ in range(2):
        again = clients.messages.messages.with_raw_response.create(**named)
        assert again.headers["x-tiered-cache-tier"] == "exact"
        found = again.parse()
        for one in (found, streamed_message(clients.messages, asked)):
            assert [b.model_dump(exclude_none=True) for b in one.content] == [
                b.model_dump(exclude_none=True) for b in whole.content
            ]
            assert one.stop_reason == whole.stop_reason
            assert one.usage.output_tokens == whole.usage.output_tokens
    assert upstream.calls == 2


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("stream", [False, True])
def test_every_kind_of_message_is_asked_once(
    clients: Clients, upstream: Upstream, kind: str, stream: bool
) -> None:
    def ask(model: str = "claude-haiku-4-5", **more: Any) -> Any:
        asked = {**ASKED[kind], **more}
        if stream:
            return streamed_message(clients.messages, asked)
        return clients.messages.messages.create(model=model, max_tokens=2000, **asked)

    first, again = ask(), ask()
    assert upstream.calls == 1
    assert first.content == again.content
    assert first.stop_reason == again.stop_reason
    ask(stop_sequences=["x"])
    assert upstream.calls == 2


def test_markers_of_a_providers_cache_change_nothing(clients: Clients, upstream: Upstream) -> None:
    def ask(**marker: Any) -> None:
        system: Any = [{"type": "text", "text": "Be brief.", **marker}]
        clients.messages.messages.create(
            model="claude-haiku-4-5", max_tokens=9, system=system, messages=[
                {"role": "user", "content": [{"type": "text", "text": "A fuse?", **marker}]}  # type: ignore[list-item, typeddict-item]
            ],
        )  # fmt: skip

    ask()
    ask(cache_control={"type": "ephemeral"})
    ask(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert upstream.calls == 1


def test_tokens_are_counted_by_the_upstream(clients: Clients, upstream: Upstream) -> None:
    for _ in range(2):
        counted = clients.messages.messages.count_tokens(
            model="claude-haiku-4-5", messages=[{"role": "user", "content": "What is a fuse?"}]
        )
        assert counted.input_tokens == 9
    assert upstream.calls == 2


@pytest.mark.parametrize("api", ["responses", "messages"])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_stream_that_breaks_off_is_not_kept(
    clients: Clients, upstream: Upstream, api: str, cut: int
) -> None:
    body = {"model": "m", "stream": True, "max_tokens": 9}
    body |= INPUTS["a text"] if api == "responses" else ASKED["a text"]
    client: Any = clients.responses if api == "responses" else clients.messages
    url = f"{str(client.base_url).removesuffix('/v1/').rstrip('/')}/v1/{api}"
    upstream.cut = cut
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json=body)
    upstream.cut = None
    assert httpx.post(url, json=body).headers["x-tiered-cache"] == "miss"
    assert httpx.post(url, json=body).headers["x-tiered-cache"] == "hit"
    assert upstream.calls == 2


def test_answers_are_never_shared_between_apis(clients: Clients, upstream: Upstream) -> None:
    question = "What is a fuse?"
    turns: Any = [{"role": "user", "content": question}]
    for _ in range(2):
        clients.responses.chat.completions.create(model="m", messages=turns)
        clients.responses.responses.create(model="m", input=question)
        clients.responses.completions.create(model="m", prompt=question)
        clients.messages.messages.create(model="m", max_tokens=9, messages=turns)
    assert upstream.calls == 4


def test_anthropics_clients_come_in_by_their_own_header(serve: Serve, upstream: Upstream) -> None:
    key, entry = new_key("app", "use", "shop")
    url = serve(keys=(str(entry),), upstream_key="sk-server")
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as client:
        client.messages.create(model="m", max_tokens=9, messages=ASKED["a text"]["messages"])
    assert upstream.headers[-1]["x-api-key"] == "sk-server"
    assert "authorization" not in upstream.headers[-1]
    with (
        anthropic.Anthropic(base_url=url, api_key="tc-wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.messages.create(model="m", max_tokens=9, messages=ASKED["a text"]["messages"])
    assert upstream.calls == 1


def test_controls_are_those_of_completions(clients: Clients, upstream: Upstream) -> None:
    def ask(**headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return clients.responses.responses.with_raw_response.create(
            model="m", input="What is a fuse?", extra_headers=named
        ).headers

    assert ask(x_tiered_cache_tags="wiring")["x-tiered-cache"] == "miss"
    assert ask()["x-tiered-cache"] == "hit"
    assert ask(cache_control="no-cache")["x-tiered-cache"] == "bypass"
    assert ask(x_tiered_cache_namespace="eu")["x-tiered-cache"] == "miss"


def test_langchain_speaks_responses_through_it(serve: Serve, upstream: Upstream) -> None:
    model = ChatOpenAI(
        model="gpt-4o-mini", base_url=f"{serve()}/v1", api_key="sk", use_responses_api=True,
        temperature=0, max_retries=0,
    )  # type: ignore[arg-type, call-arg]  # fmt: skip
    first, again = model.invoke("What is a fuse?"), model.invoke("What is a fuse?")
    assert first.text == again.text == "answer 1"
    assert "".join(one.text for one in model.stream("What is a fuse?")) == "answer 1"
    assert upstream.calls == 1
