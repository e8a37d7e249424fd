"""A hit has every attribute of the fresh response, for the objects that the providers' SDKs make.

What differs is listed in ``DIFFERS`` and ``DIFFERS_IN_STREAMS``, path by path, and nothing else.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LogProb,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel, PrivateAttr
from llama_index.core.prompts import PromptTemplate
from openai.types.chat import ChatCompletion

from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache
from tests.llamaindex.fakes import FakeLLM, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

COUNTS = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
CALL = ToolCallBlock(tool_call_id="call_1", tool_name="weather", tool_kwargs={"city": "Rome"})


class Usage(BaseModel):
    """What Mistral's SDK says of tokens."""

    prompt_tokens: int = 12
    completion_tokens: int = 34
    total_tokens: int = 46


def chat_completion(model: str, reason: str = "stop", **more: Any) -> ChatCompletion:
    """Return what OpenAI's SDK, and Groq's, give."""
    message: dict[str, Any] = {"role": "assistant", "content": "Paris.", "refusal": None}
    if reason == "tool_calls":
        function = {"name": "weather", "arguments": '{"city": "Rome"}'}
        message |= {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    details = {"completion_tokens_details": {"reasoning_tokens": 8}}
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "created": 1,
            "object": "chat.completion",
            "model": model,
            "choices": [choice],
            "usage": {**COUNTS, **details},
            "system_fingerprint": "fp_1",
            "service_tier": "default",
            **more,
        }
    )


def anthropic(content: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    """Return ``raw`` of LlamaIndex's Anthropic: the fields of the SDK's message, as objects."""
    usage = {"input_tokens": 12, "output_tokens": 34, "cache_read_input_tokens": 4}
    given = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5"}
    whole = {**given, "content": content, "stop_reason": reason, "usage": usage}
    return dict(AnthropicMessage.model_validate(whole))


PROVIDERS: dict[str, dict[str, Any]] = {
    "openai": {
        "raw": chat_completion("gpt-4o-mini"),
        "additional_kwargs": COUNTS,
        "logprobs": [[LogProb(token="Paris", logprob=-0.1, bytes=[80])]],
    },
    "openai, tool calls": {
        "blocks": [TextBlock(text=""), CALL],
        "raw": chat_completion("gpt-4o-mini", "tool_calls"),
        "additional_kwargs": COUNTS,
    },
    "anthropic": {
        "blocks": [ThinkingBlock(content="Let me see.", additional_information={"signature": "s"})],
        "raw": anthropic([{"type": "text", "text": "Paris."}], "end_turn"),
    },
    "anthropic, tool use": {
        "blocks": [TextBlock(text="I look."), CALL],
        "raw": anthropic(
            [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            ],
            "tool_use",
        ),
    },
    "google": {
        "raw": {
            "content": {"parts": [{"text": "Paris."}], "role": "model"},
            "finish_reason": "STOP",
            "safety_ratings": None,
            "usage_metadata": {
                "prompt_token_count": 12,
                "candidates_token_count": 34,
                "total_token_count": 46,
            },
            "grounding_metadata": {"web_search_queries": ["paris"]},
            "response_id": "r-1",
        },
        "additional_kwargs": COUNTS,
    },
    "mistral": {
        "raw": {
            "id": "cmpl-1",
            "model": "mistral-small-latest",
            "object": "chat.completion",
            "usage": Usage(),
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Paris."}}],
        },
    },
    "groq": {
        "raw": chat_completion(
            "llama-3.3-70b-versatile", service_tier="auto", x_groq={"id": "req_1"}
        ),
        "additional_kwargs": COUNTS,
    },
    "ollama": {
        "raw": {
            "model": "llama3.2",
            "created_at": "2026-01-01T00:00:00Z",
            "done": True,
            "done_reason": "stop",
            "total_duration": 123456789,
            "prompt_eval_count": 12,
            "eval_count": 34,
            "message": {"role": "assistant", "content": "Paris.", "tool_calls": None},
            "usage": COUNTS,
        },
        "additional_kwargs": {"thinking": "Let me see."},
    },
    "bedrock": {
        "raw": {
            "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": 200, "RetryAttempts": 0},
            "output": {"message": {"role": "assistant", "content": [{"text": "Paris."}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 12, "outputTokens": 34, "totalTokens": 46},
            "metrics": {"latencyMs": 512},
        },
        "additional_kwargs": {**COUNTS, "status": [], "tool_call_id": []},
    },
}

DIFFERS = {
    "raw.id",  # names the response that somebody else got
    "additional_kwargs.tiered_cache",  # the mark
}
"""What a hit has otherwise than the fresh response."""

DIFFERS_IN_STREAMS = DIFFERS | {
    "raw",  # of every chunk but the last, which has it
    "logprobs",  # likewise
}


class Provider(FakeLLM):
    """Gives one response, whole or as a stream."""

    _made: dict[str, Any] = PrivateAttr()

    def __init__(self, made: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._made = made

    def _answer(
        self, name: str, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> ChatResponse:
        self._calls.append((name, list(messages)))
        made = copy.deepcopy(self._made)
        blocks = made.pop("blocks", [])
        message = ChatMessage(role="assistant", blocks=[*blocks, TextBlock(text="It is Paris.")])
        return ChatResponse(message=message, **made)

    def _chunks(self, response: ChatResponse) -> list[ChatResponse]:
        chunks = super()._chunks(response)
        for chunk in chunks:
            chunk.raw, chunk.logprobs = response.raw, response.logprobs
        return chunks


def differences(fresh: Any, hit: Any, path: str = "") -> set[str]:
    """Return the paths at which a hit has not what the fresh response has, or more than that.

    An object of an SDK is read by its attributes, a mapping by its items; a hit must give both.
    """
    if path == "additional_kwargs.tiered_cache" or hit is None:
        return {path} if fresh != hit else set()
    if isinstance(fresh, list) and isinstance(hit, list) and len(fresh) == len(hit):
        return set().union(*(differences(*pair, path) for pair in zip(fresh, hit, strict=True)))
    pairs: dict[str, tuple[Any, Any]] = {}
    if isinstance(fresh, BaseModel):
        names = {*type(fresh).model_fields, *(fresh.model_extra or {})}
        pairs = {name: (getattr(fresh, name), getattr(hit, name, ABSENT)) for name in names}
    elif isinstance(fresh, dict) and isinstance(hit, dict):
        pairs = {n: (fresh.get(n, ABSENT), hit.get(n, ABSENT)) for n in {*fresh, *hit}}
    elif type(fresh) is not type(hit) or fresh != hit:
        return {path}
    inner = f"{path}." if path else ""
    return set().union(*(differences(*pair, inner + name) for name, pair in pairs.items()))


ABSENT = object()


@pytest.fixture
def cache() -> ResponseCache:
    return ResponseCache.open(semantic=False)


def ask(form: str, llm: Any) -> list[Any]:
    """Return the response, or the chunks, in one of LlamaIndex's ways to ask."""
    given: Any = [ChatMessage("Which city?")] if "chat" in form else "Which city?"
    call = getattr(llm, form)

    async def run() -> list[Any]:
        found = await call(given)
        return [one async for one in found] if "stream" in form else [found]

    if form.startswith("a"):
        return asyncio.run(run())
    return list(call(given)) if "stream" in form else [call(given)]


WHOLE = ("chat", "achat")
STREAMED = ("stream_chat", "astream_chat")


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_hit_is_the_fresh_response_attribute_by_attribute(
    provider: str, form: str, cache: ResponseCache
) -> None:
    inner = Provider(PROVIDERS[provider])
    llm = cached_llm(inner, cache)
    (fresh,), (hit,) = ask(form, llm), ask(form, llm)
    assert len(inner.calls) == 1
    assert type(hit) is ChatResponse
    found = differences(fresh, hit)
    assert found <= DIFFERS
    has_id = isinstance(fresh.raw, BaseModel) or "id" in fresh.raw
    assert found == DIFFERS - (set() if has_id else {"raw.id"})
    assert hit.raw.get("id") is None


@pytest.mark.parametrize("form", STREAMED)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_replayed_stream_is_the_fresh_one_chunk_by_chunk(
    provider: str, form: str, cache: ResponseCache
) -> None:
    inner = Provider(PROVIDERS[provider])
    llm = cached_llm(inner, cache)
    fresh, hit = ask(form, llm), ask(form, llm)
    assert len(inner.calls) == 1
    assert len(hit) == len(fresh)
    for one, other in zip(fresh[:-1], hit[:-1], strict=True):
        assert differences(one, other) <= DIFFERS_IN_STREAMS
        assert (other.raw, other.logprobs) == (None, None)
    assert differences(fresh[-1], hit[-1]) <= DIFFERS


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_reads_the_tokens_of_a_fresh_response_reads_those_of_a_hit(
    provider: str, cache: ResponseCache
) -> None:
    llm = cached_llm(Provider(PROVIDERS[provider]), cache)
    (fresh,), (hit,) = ask("chat", llm), ask("chat", llm)
    assert hit.additional_kwargs["tiered_cache"]["usage"]["output_tokens"] == 34
    raw = fresh.raw
    usage = raw.get("usage") if isinstance(raw, dict) else raw.usage
    if isinstance(usage, BaseModel):
        read = {name for name in type(usage).model_fields if getattr(usage, name) is not None}
        for name in read:
            assert not differences(getattr(usage, name), getattr(hit.raw.usage, name))
    elif usage is not None:
        assert hit.raw["usage"] == usage


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def test_a_structured_output_is_the_fresh_one(cache: ResponseCache) -> None:
    def reply(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
        call = ToolCallBlock(
            tool_call_id="c", tool_name="City", tool_kwargs={"name": "Rome", "people": 3}
        )
        return ChatMessage(role="assistant", blocks=[TextBlock(text=""), call])

    inner = FakeLLM(reply)
    llm = cached_llm(inner, cache)
    ask = lambda: llm.structured_predict(City, PromptTemplate("Which city?"))  # noqa: E731
    fresh, hit = ask(), ask()
    assert len(inner.calls) == 1
    assert fresh == hit == City(name="Rome", people=3)
    assert type(hit) is City


class Completing(FakeLLM):
    """A completion model that says more than text."""

    chat_model: bool = False

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._calls.append(("complete", []))
        return CompletionResponse(
            text="Paris.",
            raw=chat_completion("m"),
            additional_kwargs=dict(COUNTS),
            logprobs=[[LogProb(token="P", logprob=-0.1, bytes=[80])]],
        )

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        whole, said = self.complete(prompt), ""
        for delta in ("Par", "is."):
            said += delta
            yield whole.model_copy(update={"text": said, "delta": delta})

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        return self.complete(prompt)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        async def chunks() -> AsyncGenerator[CompletionResponse, None]:
            for chunk in self.stream_complete(prompt):
                yield chunk

        return chunks()


@pytest.mark.parametrize("form", ["complete", "acomplete", "stream_complete", "astream_complete"])
def test_a_completion_is_the_fresh_one(form: str, cache: ResponseCache) -> None:
    inner = Completing()
    llm = cached_llm(inner, cache)
    fresh, hit = ask(form, llm), ask(form, llm)
    assert len(inner.calls) == 1
    assert len(fresh) == len(hit)
    assert differences(fresh[-1], hit[-1]) == DIFFERS
    for one, other in zip(fresh[:-1], hit[:-1], strict=True):
        assert differences(one, other) <= DIFFERS_IN_STREAMS


def test_with_the_mark_alone_a_hit_says_tokens_there_only() -> None:
    cache = ResponseCache.open(semantic=False, hit_usage="mark")
    llm = cached_llm(Provider(PROVIDERS["openai"]), cache)
    (fresh,), (hit,) = ask("chat", llm), ask("chat", llm)
    counts = {f"additional_kwargs.{name}" for name in COUNTS}
    assert differences(fresh, hit) == DIFFERS | counts
    assert said("x").additional_kwargs == {}
