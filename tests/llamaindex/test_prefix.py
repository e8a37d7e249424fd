"""Marked prompts of LlamaIndex's LLMs."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import httpx
import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
)

from llamaindex_tiered_cache import cached_llm
from llamaindex_tiered_cache.prefix import mark_messages, marked_llm
from tests.llamaindex.fakes import FakeLLM, echo

HANDBOOK = "Every loan ends after four weeks and can be renewed twice. " * 120
SYSTEM = ChatMessage(role=MessageRole.SYSTEM, content=HANDBOOK)
ASK = ChatMessage(role=MessageRole.USER, content="How long is a loan?")
POINT = CachePoint(cache_control=CacheControl(type="ephemeral"))


def kept() -> tuple[Any, list[tuple[list[ChatMessage], dict[str, Any]]]]:
    sent: list[tuple[list[ChatMessage], dict[str, Any]]] = []

    def reply(messages: Any, kwargs: Any) -> ChatMessage:
        sent.append((list(messages), dict(kwargs)))
        return echo(messages, kwargs)

    return FakeLLM(reply=reply), sent


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_a_cache_point_follows_the_static_system_prompt(provider: Any) -> None:
    dynamic = ChatMessage(
        role=MessageRole.SYSTEM, content="Today is Monday.", additional_kwargs={"dynamic": True}
    )
    messages, params = mark_messages([dynamic, SYSTEM, ASK], provider)
    assert messages[0].blocks == [
        TextBlock(text=HANDBOOK),
        POINT,
        TextBlock(text="Today is Monday."),
    ]
    assert messages[1] == ASK
    assert params == {}
    assert len(SYSTEM.blocks) == 1


def test_blocks_that_are_no_text_keep_their_place_and_a_point_that_is_there_is_kept() -> None:
    image = ImageBlock(url="https://example.org/shelf.png")
    asked = ChatMessage(role=MessageRole.USER, blocks=[image, TextBlock(text="What is it?")])
    before = ChatMessage(role=MessageRole.SYSTEM, blocks=[TextBlock(text=HANDBOOK), POINT])
    messages, _ = mark_messages([before, asked], "anthropic")
    assert messages[0].blocks == before.blocks
    assert messages[1].blocks == asked.blocks


async def test_every_chat_endpoint_is_marked() -> None:
    llm, sent = kept()
    marked = marked_llm(llm, provider="anthropic")
    assert marked.chat([SYSTEM, ASK]).message.content == "You said: How long is a loan?"
    await marked.achat([SYSTEM, ASK])
    list(marked.stream_chat([SYSTEM, ASK]))
    [part async for part in await marked.astream_chat([SYSTEM, ASK])]
    assert [messages[0].blocks[-1] for messages, _ in sent] == [POINT] * 4


def test_it_is_of_the_llms_class_shares_its_state_and_can_be_copied() -> None:
    llm, sent = kept()
    marked = marked_llm(llm, provider="anthropic")
    assert isinstance(marked, FakeLLM)
    assert marked.class_name() == llm.class_name()
    for one in (copy.copy(marked), marked.model_copy(), marked_llm(marked, provider="anthropic")):
        one.chat([SYSTEM, ASK])
        assert sent[-1][0][0].blocks == [TextBlock(text=HANDBOOK), POINT]


def test_it_can_be_pickled() -> None:
    from llama_index.core.llms import MockLLM

    marked = pickle.loads(pickle.dumps(marked_llm(MockLLM(max_tokens=5), provider="openai")))  # noqa: S301
    assert marked.max_tokens == 5
    assert type(marked).__name__ == "MarkedMockLLM"


def test_behind_a_cache_it_marks_only_what_the_cache_does_not_answer() -> None:
    llm, sent = kept()
    cached = cached_llm(marked_llm(llm, provider="anthropic"))
    first = cached.chat([SYSTEM, ASK])
    second = cached.chat([SYSTEM, ASK])
    assert first.message.content == second.message.content
    assert len(sent) == 1
    assert sent[0][0][0].blocks[-1] == POINT


def test_openais_integration_sends_the_key() -> None:
    module = pytest.importorskip("llama_index.llms.openai")
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        message = {"role": "assistant", "content": "Four weeks."}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        return httpx.Response(200, json={**body, "choices": choices})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        llm = module.OpenAI(model="gpt-4o-mini", api_key="none", http_client=http)
        marked_llm(llm, ttl="24h").chat([SYSTEM, ASK])
    assert len(sent[0]["prompt_cache_key"]) == 32
    assert sent[0]["prompt_cache_retention"] == "24h"


def test_what_makes_no_sense_is_refused_at_once() -> None:
    wrong: Any = "gpt-4o"
    with pytest.raises(ValueError, match="must be an LLM"):
        marked_llm(wrong)
    with pytest.raises(ValueError, match="ttl of anthropic"):
        marked_llm(FakeLLM(), provider="anthropic", ttl="24h")
    with pytest.raises(ValueError, match="at construction"):
        marked_llm(FakeLLM(), provider="gemini", cached_content="cachedContents/abc")
    with pytest.raises(ValueError, match="mark first"):
        marked_llm(cached_llm(FakeLLM()))
