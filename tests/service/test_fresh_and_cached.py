"""Through the proxy a hit is to the official clients what the fresh answer was.

What differs is listed in ``DIFFERS``, for bodies and streams, and in ``HEADERS``; nothing else may.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from shared_core import ResponseCache
from shared_core.service.app import create_app
from shared_core.service.settings import Settings

ASKED: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Which city?"}],
}
LOGPROBS = {"content": [{"token": "Pa", "logprob": -0.1, "bytes": [80], "top_logprobs": []}]}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
}
PLAIN: dict[str, Any] = {"role": "assistant", "content": "Paris.", "refusal": None}
MESSAGES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "text": ({**PLAIN, "annotations": []}, "stop", {}),
    "logprobs": (PLAIN, "stop", {"logprobs": True}),
    "tool calls": ({**PLAIN, "content": None, "tool_calls": [CALL]}, "tool_calls", {}),
    "a refusal": ({**PLAIN, "content": None, "refusal": "No."}, "stop", {}),
    "reasoning": ({**PLAIN, "reasoning_content": "Let me see."}, "stop", {}),
    "a source": (
        {
            **PLAIN,
            "annotations": [
                {
                    "type": "url_citation",
                    "url_citation": {
                        "start_index": 0,
                        "end_index": 2,
                        "title": "t",
                        "url": "https://example.org",
                    },
                }
            ],
        },
        "stop",
        {},
    ),
}
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 34,
    "total_tokens": 46,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
SENT = {
    "x-request-id": "req_1",
    "openai-organization": "org",
    "openai-processing-ms": "12",
    "x-ratelimit-remaining-requests": "9",
}

DIFFERS = {
    "id",  # names one response
    "created",  # says when it was made
    "usage.prompt_tokens_details.audio_tokens",  # the cache keeps no count of sound
    "choices.message.annotations",  # an empty list is left out
    "choices.logprobs.refusal",  # None in the whole that the client makes of chunks, else left out
}
"""What a hit has otherwise than the fresh answer."""

HEADERS = {*SENT, "content-length", "x-tiered-cache-reason"}
"""Headers that a miss has, of the upstream or of the lookup, and a hit has not."""


def whole(kind: str, number: int) -> dict[str, Any]:
    message, reason, _ = MESSAGES[kind]
    choice = {"index": 0, "message": message, "finish_reason": reason}
    choice["logprobs"] = LOGPROBS if kind == "logprobs" else None
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000 + number,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": USAGE,
        "system_fingerprint": "fp_1",
        "service_tier": "default",
    }


def chunks(kind: str, number: int) -> list[dict[str, Any]]:
    body = whole(kind, number)
    message, reason, _ = MESSAGES[kind]
    head = {name: body[name] for name in ("id", "created", "model", "system_fingerprint")}
    head |= {"object": "chat.completion.chunk", "service_tier": "default", "usage": None}

    def chunk(delta: dict[str, Any], ends: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": ends, "logprobs": None, **more}
        return {**head, "choices": [choice]}

    made = [chunk({"role": "assistant", "content": "", "refusal": None})]
    for name in ("reasoning_content", "refusal"):
        if message.get(name):
            made.append(chunk({name: message[name]}))
    if message["content"]:
        more = {"logprobs": LOGPROBS} if kind == "logprobs" else {}
        made += [chunk({"content": "Pa"}, **more), chunk({"content": "ris."})]
    if message.get("annotations"):
        made.append(chunk({"annotations": message["annotations"]}))
    for call in message.get("tool_calls", ()):
        made.append(chunk({"tool_calls": [{**call, "index": 0}]}))
    made.append(chunk({}, reason))
    return [*made, {**head, "choices": [], "usage": USAGE}]


class Provider:
    """Answers one kind of completions, and of messages; counts what it is asked."""

    def __init__(self, kind: str) -> None:
        self.kind, self.calls = kind, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        body = json.loads(request.content)
        if request.url.path.endswith("/messages"):
            return httpx.Response(200, json=said(self.calls), headers=SENT)
        if not body.get("stream"):
            return httpx.Response(200, json=whole(self.kind, self.calls), headers=SENT)
        lines = [json.dumps(one) for one in chunks(self.kind, self.calls)]
        text = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        return httpx.Response(200, text=text, headers={**SENT, "content-type": "text/event-stream"})


def said(number: int) -> dict[str, Any]:
    """Return a message of Anthropic."""
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "sig"},
            {"type": "text", "text": "Paris.", "citations": None},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "output_tokens": 34,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "service_tier": "standard",
        },
    }


@asynccontextmanager
async def proxied(provider: Provider, client: Callable[..., Any]) -> AsyncIterator[Any]:
    """Give one of the official clients, before the proxy, before the provider."""
    upstream = httpx.AsyncClient(transport=httpx.MockTransport(provider))
    cache = ResponseCache.open(semantic=False)
    app = create_app(Settings(upstream="http://provider/v1"), cache=cache, upstream=upstream)
    async with app.router.lifespan_context(app):
        of_sdk: Any = httpx if client is AsyncOpenAI else httpx2
        http = of_sdk.AsyncClient(transport=of_sdk.ASGITransport(app))
        base = "http://localhost/v1" if client is AsyncOpenAI else "http://localhost"
        async with client(api_key="sk-1", base_url=base, http_client=http, max_retries=0) as made:
            yield made


def differences(fresh: Any, hit: Any, path: str = "") -> set[str]:
    """Return the paths at which two JSON values differ, or one has nothing."""
    if isinstance(fresh, dict) and isinstance(hit, dict):
        names = {*fresh, *hit}
        return set().union(
            *(
                differences(fresh.get(name, ABSENT), hit.get(name, ABSENT), f"{path}{name}.")
                for name in names
            )
        )
    if isinstance(fresh, list) and isinstance(hit, list) and len(fresh) == len(hit):
        return set().union(*(differences(*pair, path) for pair in zip(fresh, hit, strict=True)))
    return set() if fresh == hit else {path.removesuffix(".")}


ABSENT = object()


@pytest.mark.parametrize("kind", MESSAGES)
async def test_a_completion_is_the_fresh_one_field_by_field(kind: str) -> None:
    provider, more = Provider(kind), MESSAGES[kind][2]
    async with proxied(provider, AsyncOpenAI) as client:
        make = client.chat.completions.with_raw_response.create
        fresh, hit = [await make(**ASKED, **more) for _ in range(2)]
    assert provider.calls == 1
    assert (fresh.headers["x-tiered-cache"], hit.headers["x-tiered-cache"]) == ("miss", "hit")
    one, other = fresh.parse(), hit.parse()
    assert type(one) is type(other)
    assert differences(one.to_dict(), other.to_dict()) <= DIFFERS
    assert other.id.startswith("chatcmpl-")
    assert other.system_fingerprint == "fp_1"
    assert other.usage.total_tokens == 46
    assert {*fresh.headers} - {*hit.headers} <= HEADERS


@pytest.mark.parametrize("kind", MESSAGES)
async def test_a_stream_comes_to_the_fresh_one(kind: str) -> None:
    provider, more = Provider(kind), MESSAGES[kind][2]
    found = []
    async with proxied(provider, AsyncOpenAI) as client:
        for _ in range(2):
            asked: Any = {**ASKED, **more, "stream_options": {"include_usage": True}}
            async with client.chat.completions.stream(**asked) as stream:
                found.append(await stream.get_final_completion())
    fresh, hit = found
    assert provider.calls == 1
    assert differences(fresh.to_dict(), hit.to_dict()) <= DIFFERS
    assert hit.usage.total_tokens == 46


async def test_a_message_of_anthropic_is_the_fresh_one_field_by_field() -> None:
    provider = Provider("text")
    async with proxied(provider, AsyncAnthropic) as client:
        make = client.messages.with_raw_response.create
        asked: Any = {"model": "claude-sonnet-5", "max_tokens": 99, "messages": ASKED["messages"]}
        fresh, hit = [await make(**asked) for _ in range(2)]
    assert provider.calls == 1
    one, other = await fresh.parse(), await hit.parse()
    assert type(one) is type(other)
    assert differences(one.to_dict(), other.to_dict()) <= DIFFERS
    assert other.id.startswith("msg_")
    assert {*fresh.headers} - {*hit.headers} <= HEADERS
