"""A hit has every attribute of the fresh answer, for the messages that the providers' models make.

What differs is listed in ``DIFFERS``: ids that name one response, the mark, and the cost of a hit.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_tiered_cache import TieredCache, cached_model

USAGE = {
    "input_tokens": 12,
    "output_tokens": 34,
    "total_tokens": 46,
    "input_token_details": {"cache_read": 4, "audio": 0},
    "output_token_details": {"reasoning": 8},
}
CALL = {"name": "weather", "args": {"city": "Rome"}, "id": "call_1", "type": "tool_call"}
LOGPROBS = {"content": [{"token": "Paris", "logprob": -0.1, "bytes": [80], "top_logprobs": []}]}

MESSAGES: dict[str, dict[str, Any]] = {
    "openai": {
        "content": "Paris.",
        "additional_kwargs": {"refusal": None},
        "response_metadata": {
            "token_usage": {
                "completion_tokens": 34,
                "prompt_tokens": 12,
                "total_tokens": 46,
                "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": None},
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            "model_provider": "openai",
            "model_name": "gpt-4o-mini-2024-07-18",
            "system_fingerprint": "fp_1",
            "id": "chatcmpl-1",
            "service_tier": "default",
            "finish_reason": "stop",
            "logprobs": LOGPROBS,
        },
        "usage_metadata": USAGE,
        "name": "helper",
    },
    "openai, tool calls": {
        "content": "",
        "additional_kwargs": {"refusal": None},
        "response_metadata": {"finish_reason": "tool_calls", "model_name": "gpt-4o"},
        "tool_calls": [CALL, {**CALL, "id": "call_2", "name": "time"}],
        "invalid_tool_calls": [
            {
                "name": "weather",
                "args": "{'city'",
                "id": "call_3",
                "error": "no JSON",
                "type": "invalid_tool_call",
            }
        ],
        "usage_metadata": USAGE,
    },
    "openai responses": {
        "content": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}]},
            {
                "type": "text",
                "text": "Paris.",
                "annotations": [
                    {"type": "url_citation", "url": "https://example.org", "title": "t"}
                ],
                "id": "msg_1",
            },
        ],
        "response_metadata": {
            "id": "resp_1",
            "created_at": 1.0,
            "status": "completed",
            "incomplete_details": None,
            "metadata": {},
            "object": "response",
            "model_name": "gpt-5",
            "model_provider": "openai",
        },
        "usage_metadata": USAGE,
    },
    "anthropic": {
        "content": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "sig"},
            {
                "type": "text",
                "text": "Paris.",
                "citations": [{"type": "char_location", "cited_text": "p", "document_index": 0}],
            },
        ],
        "response_metadata": {
            "id": "msg_01",
            "model": "claude-sonnet-5",
            "model_name": "claude-sonnet-5",
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "cache_creation": {"ephemeral_5m_input_tokens": 0},
                "input_tokens": 12,
                "output_tokens": 34,
                "service_tier": "standard",
            },
            "model_provider": "anthropic",
        },
        "usage_metadata": USAGE,
    },
    "anthropic, tool use": {
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
        ],
        "response_metadata": {"stop_reason": "tool_use", "model": "claude-sonnet-5"},
        "tool_calls": [{**CALL, "id": "toolu_1"}],
        "usage_metadata": USAGE,
    },
    "google": {
        "content": [{"type": "text", "text": "Paris.", "extras": {"signature": "c2ln"}}],
        "additional_kwargs": {"__gemini_function_call_thought_signatures__": {"call_1": "c2ln"}},
        "response_metadata": {
            "prompt_feedback": {"block_reason": 0, "safety_ratings": []},
            "finish_reason": "STOP",
            "model_name": "gemini-2.5-flash",
            "safety_ratings": [{"category": "HARM", "probability": "NEGLIGIBLE", "blocked": False}],
            "grounding_metadata": {"web_search_queries": ["paris"]},
            "model_provider": "google_genai",
        },
        "usage_metadata": USAGE,
    },
    "mistral": {
        "content": "Paris.",
        "response_metadata": {
            "token_usage": {"prompt_tokens": 12, "total_tokens": 46, "completion_tokens": 34},
            "model_name": "mistral-small-latest",
            "model": "mistral-small-latest",
            "finish_reason": "stop",
            "model_provider": "mistralai",
        },
        "usage_metadata": USAGE,
    },
    "groq": {
        "content": "Paris.",
        "additional_kwargs": {"reasoning_content": "Let me see."},
        "response_metadata": {
            "token_usage": {"completion_time": 0.1, "queue_time": 0.2, "total_tokens": 46},
            "model_name": "llama-3.3-70b-versatile",
            "system_fingerprint": "fp_2",
            "service_tier": "on_demand",
            "finish_reason": "stop",
            "logprobs": None,
        },
        "usage_metadata": USAGE,
    },
    "ollama": {
        "content": "Paris.",
        "response_metadata": {
            "model": "llama3.2",
            "created_at": "2026-01-01T00:00:00Z",
            "done": True,
            "done_reason": "stop",
            "total_duration": 123456789,
            "load_duration": 1,
            "prompt_eval_count": 12,
            "eval_count": 34,
            "logprobs": None,
            "model_name": "llama3.2",
            "model_provider": "ollama",
        },
        "usage_metadata": USAGE,
    },
    "bedrock": {
        "content": [{"type": "text", "text": "Paris."}],
        "response_metadata": {
            "ResponseMetadata": {
                "RequestId": "r-1",
                "HTTPStatusCode": 200,
                "HTTPHeaders": {"content-type": "application/json"},
                "RetryAttempts": 0,
            },
            "stopReason": "end_turn",
            "metrics": {"latencyMs": [512]},
            "model_provider": "bedrock_converse",
            "model_name": "anthropic.claude-3-haiku",
        },
        "usage_metadata": USAGE,
    },
}

DIFFERS = ("id", "response_metadata.id", "response_metadata.tiered_cache", "usage.total_cost")
"""What a hit has otherwise than the fresh answer; besides, ids of response items in blocks, and the
number of a tool call in a stream: a replay counts them from 0."""

RESPONSE_ITEMS = ("rs_", "msg_")


class Provider(BaseChatModel):
    """Gives one message, whole or as a stream of chunks."""

    message: dict[str, Any]
    calls: list[str]

    @property
    def _llm_type(self) -> str:
        return "provider"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": "m", "temperature": 0}

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.calls.append("generate")
        message = AIMessage(**copy.deepcopy(self.message), id="run-1")
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[Any]:
        self.calls.append("stream")
        whole = copy.deepcopy(self.message)
        calls = whole.pop("tool_calls", [])
        whole.pop("invalid_tool_calls", None)
        if isinstance(whole["content"], str):
            first, last = (
                {"content": whole["content"][:3]},
                {**whole, "content": whole["content"][3:]},
            )
        else:
            blocks = [{**block, "index": at} for at, block in enumerate(whole["content"])]
            first, last = {"content": blocks[:1]}, {**whole, "content": blocks[1:]}
        yield ChatGenerationChunk(message=AIMessageChunk(**first, id="run-1"))
        for at, call in enumerate(calls):
            part = {
                "name": call["name"],
                "args": '{"city": "Rome"}',
                "id": call["id"],
                "index": at,
            }
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", tool_call_chunks=[part], id="run-1")
            )
        yield ChatGenerationChunk(message=AIMessageChunk(**last, id="run-1", chunk_position="last"))


def comparable(message: BaseMessage) -> dict[str, Any]:
    """Return all attributes of a message but those of ``DIFFERS``."""
    fields: dict[str, Any] = copy.deepcopy(message.__dict__) | {"type": type(message).__name__}
    fields.pop("id")
    for name in ("id", "tiered_cache"):
        fields["response_metadata"].pop(name, None)
    (fields["usage_metadata"] or {}).pop("total_cost", None)
    if isinstance(fields["content"], list):
        for block in fields["content"]:
            if str(block.get("id", "")).startswith(RESPONSE_ITEMS):
                del block["id"]
    return fields


def ask(form: str, model: Any) -> AIMessage:
    """Return the answer, in one of LangChain's ways to ask."""
    if form == "ainvoke":
        found: AIMessage = asyncio.run(model.ainvoke("Which city?"))
        return found
    if form in ("stream", "astream"):
        parts = (
            list(model.stream("Which city?")) if form == "stream" else asyncio.run(all_of(model))
        )
        whole = parts[0]
        for part in parts[1:]:
            whole += part
        return whole
    return model.invoke("Which city?")


async def all_of(model: Any) -> list[Any]:
    return [chunk async for chunk in model.astream("Which city?")]


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
@pytest.mark.parametrize("provider", MESSAGES)
def test_a_hit_is_the_fresh_answer_attribute_by_attribute(provider: str, form: str) -> None:
    model = Provider(message=MESSAGES[provider], calls=[], cache=TieredCache(semantic=False))
    fresh, hit = ask(form, model), ask(form, model)
    assert model.calls == ["generate"]
    assert comparable(hit) == comparable(fresh)
    assert type(hit) is AIMessage
    assert hit.usage_metadata == {**USAGE, "total_cost": 0} or fresh.usage_metadata is None
    assert hit.content_blocks == [
        {k: v for k, v in block.items() if not str(v).startswith(RESPONSE_ITEMS) or k != "id"}
        for block in fresh.content_blocks
    ]


@pytest.mark.parametrize("form", ["stream", "astream"])
@pytest.mark.parametrize("provider", MESSAGES)
def test_a_replayed_stream_adds_up_to_the_fresh_one(provider: str, form: str) -> None:
    inner = Provider(message=MESSAGES[provider], calls=[])
    model = cached_model(inner, TieredCache(semantic=False))
    fresh, hit = ask(form, model), ask(form, model)
    assert inner.calls == ["stream"]
    assert comparable(hit) == comparable(fresh)
