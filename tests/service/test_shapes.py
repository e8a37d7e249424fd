"""Forty shapes of requests for each typed API, plain and streamed: fresh against cached.

On a miss the client gets the upstream's bytes. On a hit it gets what the official client's own
parser makes the same object of, whether it was kept from a body or from a stream.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import Message
from openai.types.responses import Response

from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from tests.service.serving import served
from tests.service.test_proxy_apis import CALL, FUNCTION, REASONS, TEXT_PART, THINKING, TOOL, said
from tests.service.upstream import Upstream

pytestmark = pytest.mark.slow

PICTURE = base64.b64encode(b"a picture").decode()
URL = f"data:image/png;base64,{PICTURE}"
TALL = {"type": "object", "properties": {"amperes": {"type": "integer"}}, "required": ["amperes"]}

Shape = tuple[dict[str, Any], list[dict[str, Any]]]


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(words: str = "What is it?") -> dict[str, Any]:
    return {"type": "input_text", "text": words}


PLAIN = [said(TEXT_PART)]
CUSTOM = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_9", "name": "shell",
          "input": "ls", "status": "completed"}  # fmt: skip
CITES = said({**TEXT_PART, "annotations": [
    {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "t", "url": "http://u"},
    {"type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 1},
]})  # fmt: skip
LOGPROBS = said({**TEXT_PART, "logprobs": [
    {"token": "It", "logprob": -0.1, "bytes": [73, 116], "top_logprobs": []}]})  # fmt: skip
HOSTED: dict[str, dict[str, Any]] = {
    "web_search": {"id": "ws_1", "type": "web_search_call", "status": "completed",
                   "action": {"type": "search", "query": "fuse"}},
    "file_search": {"id": "fs_1", "type": "file_search_call", "status": "completed",
                    "queries": ["fuse"], "results": None},
    "code_interpreter": {"id": "ci_1", "type": "code_interpreter_call", "status": "completed",
                         "code": "1+1", "container_id": "cntr_1", "outputs": []},
    "image_generation": {"id": "ig_1", "type": "image_generation_call", "status": "completed",
                         "result": PICTURE},
    "mcp": {"id": "mcp_1", "type": "mcp_call", "name": "ask", "arguments": "{}",
            "server_label": "wiki", "output": "It melts.", "error": None},
    "computer_use_preview": {"id": "cu_1", "type": "computer_call", "call_id": "call_3",
                             "action": {"type": "screenshot"}, "pending_safety_checks": [],
                             "status": "completed"},
    "local_shell": {"id": "ls_1", "type": "local_shell_call", "call_id": "call_4",
                    "status": "completed",
                    "action": {"type": "exec", "command": ["ls"], "env": {}}},
}  # fmt: skip

RESPONSES: dict[str, Shape] = {
    "a text": ({"input": "A fuse?"}, PLAIN),
    "instructions": ({"input": "A fuse?", "instructions": "Be brief."}, PLAIN),
    "empty instructions": ({"input": "A fuse?", "instructions": ""}, PLAIN),
    "a list": ({"input": [{"role": "user", "content": "A fuse?"}]}, PLAIN),
    "a typed item": ({"input": [{"type": "message", "role": "user", "content": "A?"}]}, PLAIN),
    "a developer": ({"input": [{"role": "developer", "content": "Brief."}, user(text())]}, PLAIN),
    "a system": ({"input": [{"role": "system", "content": "Brief."}, user(text())]}, PLAIN),
    "parts": ({"input": [user(text())]}, PLAIN),
    "two parts": ({"input": [user(text("Look."), text())]}, PLAIN),
    "an image by url": ({"input": [user(text(), {"type": "input_image", "detail": "auto",
                                                 "image_url": "https://a/b.png"})]}, PLAIN),
    "an image as data": ({"input": [user(text(), {"type": "input_image", "detail": "low",
                                                  "image_url": URL})]}, PLAIN),
    "two images": ({"input": [user({"type": "input_image", "image_url": URL, "detail": "high"},
                                   {"type": "input_image", "image_url": "https://a/c.png",
                                    "detail": "auto"}, text("Which?"))]}, PLAIN),
    "a file as data": ({"input": [user({"type": "input_file", "filename": "a.pdf",
                                        "file_data": URL}, text())]}, PLAIN),
    "a file by url": ({"input": [user({"type": "input_file", "file_url": "https://a/b.pdf"},
                                      text())]}, PLAIN),
    "a file by id": ({"input": [user({"type": "input_file", "file_id": "file_1"}, text())]}, PLAIN),
    "turns": ({"input": [user(text()), said(TEXT_PART), user(text("And a relay?"))]}, PLAIN),
    "turns of plain texts": ({"input": [{"role": "user", "content": "A?"},
                                        {"role": "assistant", "content": "B."},
                                        {"role": "user", "content": "C?"}]}, PLAIN),
    "a turn that cites": ({"input": [user(text()), CITES, user(text("Where?"))]}, PLAIN),
    "a turn that refuses": ({"input": [user(text()), said({"type": "refusal", "refusal": "No."}),
                                       user(text("Please?"))]}, PLAIN),
    "a tool": ({"input": "Warm?", "tools": [FUNCTION]}, [CALL]),
    "a strict tool": ({"input": "Warm?", "tools": [{**FUNCTION, "strict": True}]}, [CALL]),
    "a tool that must be": ({"input": "Warm?", "tools": [FUNCTION], "tool_choice": "required"},
                            [CALL]),
    "one tool that must be": ({"input": "Warm?", "tools": [FUNCTION],
                               "tool_choice": {"type": "function", "name": "weather"}}, [CALL]),
    "two calls": ({"input": "Warm?", "tools": [FUNCTION]},
                  [CALL, {**CALL, "id": "fc_2", "call_id": "call_2"}]),
    "no parallel calls": ({"input": "Warm?", "tools": [FUNCTION], "parallel_tool_calls": False},
                          [CALL]),
    "a call's result": ({"input": [user(text()), CALL, {"type": "function_call_output",
                         "call_id": "call_1", "output": "30"}], "tools": [FUNCTION]}, PLAIN),
    "a custom tool": ({"input": "List.", "tools": [{"type": "custom", "name": "shell"}]}, [CUSTOM]),
    "a custom tool's grammar": ({"input": "List.", "tools": [{"type": "custom", "name": "shell",
                                 "format": {"type": "grammar", "syntax": "regex",
                                            "definition": "ls"}}]}, [CUSTOM]),
    "a custom tool's result": ({"input": [user(text()), CUSTOM, {"type": "custom_tool_call_output",
                                "call_id": "call_9", "output": "a"}]}, PLAIN),
    "structured": ({"input": "A?", "text": {"format": {"type": "json_schema", "name": "f",
                    "strict": True, "schema": TALL}}},
                   [said({**TEXT_PART, "text": '{"amperes": 16}'})]),
    "an object": ({"input": "A? JSON.", "text": {"format": {"type": "json_object"}}},
                  [said({**TEXT_PART, "text": "{}"})]),
    "verbosity": ({"input": "A?", "text": {"verbosity": "low"}}, PLAIN),
    "an effort": ({"input": "A?", "reasoning": {"effort": "high"}}, [REASONS, *PLAIN]),
    "sealed reasoning": ({"input": "A?", "reasoning": {"summary": "auto"}, "store": False,
                          "include": ["reasoning.encrypted_content"]}, [REASONS, *PLAIN]),
    "reasoning of before": ({"input": [user(text()), REASONS, said(TEXT_PART), user(text("B?"))],
                             "store": False}, [REASONS, CALL]),
    **{f"the tool {name}": ({"input": "A?", "tools": [{"type": name}]}, [item, CITES])
       for name, item in HOSTED.items()},
    "log probabilities": ({"input": "A?", "include": ["message.output_text.logprobs"],
                           "top_logprobs": 2}, [LOGPROBS]),
    "settings": ({"input": "A?", "temperature": 0, "top_p": 0.5, "max_output_tokens": 99,
                  "truncation": "auto", "service_tier": "flex"}, PLAIN),
    "names": ({"input": "A?", "metadata": {"a": "b"}, "safety_identifier": "u",
               "prompt_cache_key": "k"}, PLAIN),
    "a prompt of a version": ({"prompt": {"id": "pmpt_1", "version": "2",
                               "variables": {"city": "Rome"}}, "input": "A?"}, PLAIN),
    "a refusal": ({"input": "A?"}, [said({"type": "refusal", "refusal": "No."})]),
    "two messages": ({"input": "A?"}, [said(TEXT_PART), {**said(TEXT_PART), "id": "msg_b"}]),
    "all letters": ({"input": "\u0000 \u202e 漢 😀 \" \\ \r\n \u2028 \ufeff"},
                    [said({**TEXT_PART, "text": "漢 😀 \u2028 \"\\\n\r data: [DONE]\n\n"})]),
}  # fmt: skip


def asks(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks) or "A fuse?"}], **more}


def turns(*contents: Any, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    each = [{"role": roles[i % 2], "content": one} for i, one in enumerate(contents)]
    return {"messages": each, **more}


def words(said: str = "What is it?", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


ANSWER = [words("It melts.")]
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}
CACHED = {"cache_control": {"type": "ephemeral"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                      "data": PICTURE}}  # fmt: skip
NOTE = {"type": "document", "source": {"type": "text", "media_type": "text/plain",
        "data": "It melts."}, "title": "Fuses", "citations": {"enabled": True}}  # fmt: skip
AT_CHAR = {"type": "char_location", "cited_text": "It", "document_index": 0, "document_title": "F",
           "start_char_index": 0, "end_char_index": 2, "file_id": None}  # fmt: skip
AT_PAGE = {"type": "page_location", "cited_text": "It", "document_index": 0, "document_title": None,
           "start_page_number": 1, "end_page_number": 2, "file_id": None}  # fmt: skip
ON_WEB = {"type": "web_search_result_location", "cited_text": "It", "url": "http://u", "title": "t",
          "encrypted_index": "x"}  # fmt: skip
SEARCHES = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "f"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "http://u", "title": "t", "encrypted_content": "x",
         "page_age": None}]},
    words("It melts.", citations=[ON_WEB]),
]  # fmt: skip
RUNS = [
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "bash_code_execution",
     "input": {"command": "ls"}},
    {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_2", "content": {
        "type": "bash_code_execution_result", "stdout": "a", "stderr": "", "return_code": 0,
        "content": []}},
    words("Done."),
]  # fmt: skip
HIDDEN = {"type": "redacted_thinking", "data": "xyz"}
THINKS = {"thinking": {"type": "enabled", "budget_tokens": 1024}}

MESSAGES: dict[str, Shape] = {
    "a text": (asks(), ANSWER),
    "a block": (asks(words()), ANSWER),
    "two blocks": (asks(words("Look."), words()), ANSWER),
    "a system prompt": (asks(system="Brief."), ANSWER),
    "system blocks": (asks(system=[words("Brief.", **CACHED), words("Polite.")]), ANSWER),
    "a cached block": (asks(words("Look.", **CACHED), words()), ANSWER),
    "cached for an hour": (asks(words(cache_control={"type": "ephemeral", "ttl": "1h"})), ANSWER),
    "an image": (asks(IMAGE, words()), ANSWER),
    "an image by url": (asks({"type": "image", "source": {"type": "url", "url": "https://a/b"}},
                             words()), ANSWER),
    "two images": (asks(words("One:"), IMAGE, words("Two:"), IMAGE, words("Which?")), ANSWER),
    "a pdf": (asks(PDF, words()), ANSWER),
    "a pdf that is cited": (asks({**PDF, "citations": {"enabled": True}}, words()),
                            [words("It melts.", citations=[AT_PAGE])]),
    "a document that is cited": (asks(NOTE, words()), [
        words("First: ", citations=None), words("it melts.", citations=[AT_CHAR, AT_CHAR])]),
    "a document by url": (asks({"type": "document", "source": {"type": "url", "url": "https://a"}},
                               words()), ANSWER),
    "search results": (asks({"type": "search_result", "source": "http://u", "title": "t",
                             "content": [words("It melts.")]}, words()), ANSWER),
    "turns": (turns("A?", "B.", "C?"), ANSWER),
    "turns of blocks": (turns([words("A?")], [words("B.")], [words("C?")]), ANSWER),
    "a beginning of the answer": (turns("A? JSON.", "{"), [words('"a": 1}')]),
    "a tool": (asks(tools=[TOOL]), [USE]),
    "a cached tool": (asks(tools=[{**TOOL, **CACHED}]), [USE]),
    "a strict tool": (asks(tools=[{**TOOL, "strict": True, "description": "Weather."}]), [USE]),
    "any tool": (asks(tools=[TOOL], tool_choice={"type": "any"}), [USE]),
    "one tool": (asks(tools=[TOOL], tool_choice={"type": "tool", "name": "weather"}), [USE]),
    "no tool": (asks(tools=[TOOL], tool_choice={"type": "none"}), ANSWER),
    "one tool at a time": (asks(tools=[TOOL], tool_choice={
        "type": "auto", "disable_parallel_tool_use": True}), [words("I look."), USE]),
    "two uses": (asks(tools=[TOOL]), [words("I."), USE, {**USE, "id": "toolu_2", "input": {}}]),
    "a result": (turns("Warm?", [USE], [{"type": "tool_result", "tool_use_id": "toolu_1",
                                         "content": "30"}], tools=[TOOL]), ANSWER),
    "a result of blocks": (turns("Warm?", [USE], [{"type": "tool_result", "tool_use_id": "toolu_1",
                                 "content": [words("30"), IMAGE]}], tools=[TOOL]), ANSWER),
    "a result that failed": (turns("Warm?", [USE], [{"type": "tool_result", "is_error": True,
                             "tool_use_id": "toolu_1", "content": "no"}], tools=[TOOL]), ANSWER),
    "two results": (turns("Warm?", [USE, {**USE, "id": "toolu_2"}], [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "30"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "31"}, words("Well?")],
        tools=[TOOL]), ANSWER),
    "thinking": (asks(**THINKS), [THINKING, *ANSWER]),
    "hidden thinking": (asks(**THINKS), [HIDDEN, THINKING, *ANSWER]),
    "adaptive thinking": (asks(thinking={"type": "adaptive"},
                               output_config={"effort": "high"}), [THINKING, *ANSWER]),
    "thinking of before": (turns("A?", [THINKING, HIDDEN, words("B.")], "C?", **THINKS),
                           [THINKING, USE]),
    "thinking between uses": (asks(tools=[TOOL], **THINKS), [
        THINKING, words("I look."), USE, THINKING, {**USE, "id": "toolu_2"}]),
    "structured": (asks(output_config={"format": {"type": "json_schema", "schema": TALL}}),
                   [words('{"amperes": 16}')]),
    "settings": (asks(temperature=0, top_k=3, stop_sequences=["x"], service_tier="auto"), ANSWER),
    "names": (asks(metadata={"user_id": "u"}), ANSWER),
    "a search": (asks(tools=[{"type": "web_search_20250305", "name": "web_search"}]), SEARCHES),
    "code": (asks(tools=[{"type": "code_execution_20250825", "name": "code_execution"}]), RUNS),
    "two texts": (asks(), [words("It melts."), words(" Then it is dark.")]),
    "all letters": (asks(words("\u0000 \u202e 漢 😀 \" \\ \r\n \u2028")),
                    [words("漢 😀 \u2028 \"\\\n\r event: x\ndata: [DONE]\n\n")]),
}  # fmt: skip


def test_there_are_forty_of_each() -> None:
    assert len(RESPONSES) >= 40
    assert len(MESSAGES) >= 40


@dataclass
class Servers:
    """A fake upstream and the service before it, for all shapes."""

    upstream: Upstream
    url: str
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    fake = Upstream()
    with served(fake.app) as there:
        app = create_app(Settings(upstream=f"{there}/v1", semantic=False, shared=True))
        with (
            served(app) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="sk", max_retries=0) as one,
            anthropic.Anthropic(base_url=url, api_key="sk", max_retries=0) as two,
        ):
            yield Servers(fake, url, one, two)


def posted(servers: Servers, path: str, body: dict[str, Any]) -> httpx.Response:
    name = "anthropic-version"  # part of what is asked, so that of the client is sent
    version = {name: servers.anthropic.default_headers[name]} if path == "messages" else {}
    found = httpx.post(f"{servers.url}/v1/{path}", json=body, headers=version)
    assert found.is_success, found.text
    return found


@pytest.mark.parametrize("streams_first", [False, True])
@pytest.mark.parametrize("shape", RESPONSES)
def test_a_response_of_any_shape_is_the_same_fresh_and_cached(
    servers: Servers, shape: str, streams_first: bool
) -> None:
    asked, output = RESPONSES[shape]
    servers.upstream.output = output
    # a name of its own for each test; no answer depends on the field, so the key needs the model
    body = {"model": f"m {shape} {streams_first}", **asked}
    fresh = posted(servers, "responses", {**body, "stream": streams_first})
    assert fresh.headers["x-tiered-cache"] == "miss"
    assert fresh.content == servers.upstream.told[-1], "the bytes of the upstream"
    whole = last_response(fresh.content) if streams_first else fresh.json()
    wanted = Response.construct(**whole).model_dump(exclude={"created_at"}, warnings=False)
    calls = servers.upstream.calls

    extra = {name: value for name, value in asked.items() if name != "input"}
    known: dict[str, Any] = {"model": body["model"], "input": asked["input"], "extra_body": extra}
    found = servers.openai.responses.create(**known)
    assert found.model_dump(exclude={"created_at"}, warnings=False) == wanted
    with servers.openai.responses.stream(**known) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [one.sequence_number for one in events] == list(range(len(events)))
    assert pieces_of(events) == texts_of(output), "what is shown while it comes"
    got = final.model_dump(exclude={"created_at"}, warnings=False)
    assert without_parsed(got) == without_parsed(wanted)
    assert servers.upstream.calls == calls, "both were hits"


def pieces_of(events: list[Any]) -> dict[str, str]:
    """Return what the pieces of a stream add up to, by their kind."""
    found: dict[str, str] = {}
    for one in events:
        if one.type.endswith(".delta") and one.delta:
            kind = one.type.removeprefix("response.").removesuffix(".delta")
            found[kind] = found.get(kind, "") + one.delta
    return found


def texts_of(output: list[dict[str, Any]]) -> dict[str, str]:
    """Return the texts of a response, by the kind of the pieces in which they are streamed."""
    found: dict[str, str] = {}

    def add(kind: str, text: str) -> None:
        found[kind] = found.get(kind, "") + text

    for item in output:
        for part in item.get("content") or ():
            if part["type"] == "refusal":
                add("refusal", part["refusal"])
            else:
                add("output_text", part["text"])
        for part in item.get("summary") or ():
            add("reasoning_summary_text", part["text"])
        if item["type"] == "function_call":
            add("function_call_arguments", item["arguments"])
        if item["type"] == "custom_tool_call":
            add("custom_tool_call_input", item["input"])
    return found


def last_response(content: bytes) -> Any:
    lines = [one for one in content.decode().split("\n") if one.startswith("data: ")]
    return json.loads(lines[-1].removeprefix("data: "))["response"]


def without_parsed(value: Any) -> Any:
    """Drop what the client's stream adds to the model's own fields."""
    if isinstance(value, dict):
        return {n: without_parsed(v) for n, v in value.items() if n not in ("parsed_arguments",
                                                                           "parsed")}  # fmt: skip
    return [without_parsed(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("streams_first", [False, True])
@pytest.mark.parametrize("shape", MESSAGES)
def test_a_message_of_any_shape_is_the_same_fresh_and_cached(
    servers: Servers, shape: str, streams_first: bool
) -> None:
    asked, blocks = MESSAGES[shape]
    servers.upstream.blocks = blocks
    servers.upstream.reason = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
    body = {"model": f"m {shape} {streams_first}", "max_tokens": 4000, **asked}
    fresh = posted(servers, "messages", {**body, "stream": streams_first})
    assert fresh.headers["x-tiered-cache"] == "miss"
    assert fresh.content == servers.upstream.told[-1], "the bytes of the upstream"
    calls = servers.upstream.calls
    wanted = {"content": [strip(one) for one in blocks], "stop_reason": servers.upstream.reason}

    extra = {name: value for name, value in asked.items() if name != "messages"}
    turns_of = {"messages": asked["messages"], "extra_body": extra}
    known: dict[str, Any] = {"model": body["model"], "max_tokens": 4000, **turns_of}
    found = servers.anthropic.messages.create(**known)
    with servers.anthropic.messages.stream(**known) as stream:
        each = list(stream)
        final: Message = stream.get_final_message()
    events = [one.type for one in each]
    texts = [one.text for one in each if one.type == "text"]
    shown = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert "".join(texts) == shown, "what is shown while it comes"
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    for one in (found, final):
        told = one.model_dump(exclude_none=True, warnings=False)
        assert [strip(block) for block in told["content"]] == wanted["content"]
        assert told["stop_reason"] == wanted["stop_reason"]
        assert told["usage"]["output_tokens"] == 4
        assert told["usage"]["input_tokens"] == 9
    assert servers.upstream.calls == calls, "both were hits"


def strip(value: Any) -> Any:
    """Drop what is null, and what the client's stream adds."""
    if isinstance(value, dict):
        return {
            n: strip(v) for n, v in value.items() if v is not None and n != "parsed_output"
        }  # fmt: skip
    return [strip(one) for one in value] if isinstance(value, list) else value
