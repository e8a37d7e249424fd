"""Responses as JSON and back: equal, or not kept at all."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ChatResponse,
    CitableBlock,
    CitationBlock,
    CompletionResponse,
    DocumentBlock,
    ImageBlock,
    LogProb,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel

from llamaindex_tiered_cache.answers import Retention, answer_of, chunks_of, response_of
from shared_core import Answer

KEPT = Retention()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0")
TEXT = TextBlock(text="a")


def assistant(*blocks: Any, **more: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role="assistant", blocks=list(blocks)), **more)


def kept(response: Any, terms: Retention = KEPT) -> Answer:
    answer = answer_of(response, terms)
    assert answer is not None
    return answer


EQUAL = {
    "text": assistant(TEXT),
    "empty text": assistant(TextBlock(text="")),
    "no blocks": assistant(),
    "half a character": assistant(TextBlock(text="\ud800")),
    "texts": assistant(TEXT, TextBlock(text="b")),
    "unicode": assistant(TextBlock(text="☃ 😀 \u2028 \x00")),
    "thought": assistant(ThinkingBlock(content="hm", num_tokens=3), TEXT),
    "signed thought": assistant(ThinkingBlock(additional_information={"signature": "s"}), TEXT),
    "tool call": assistant(ToolCallBlock(tool_call_id="1", tool_name="t", tool_kwargs={"a": [1]})),
    "tool call in text": assistant(ToolCallBlock(tool_name="t", tool_kwargs='{"a": 1}')),
    "words and a call": assistant(TEXT, ToolCallBlock(tool_call_id="1", tool_name="t")),
    "words and an image": assistant(TEXT, ImageBlock(image=PNG)),
    "image": assistant(ImageBlock(image=PNG)),
    "image url": assistant(ImageBlock(url="https://example.com/a.png")),
    "audio": assistant(AudioBlock(audio=base64.b64encode(b"wave"), format="wav")),
    "document": assistant(DocumentBlock(data=base64.b64encode(b"%PDF-1"), title="t")),
    "citable": assistant(CitableBlock(title="t", source="s", content=[TEXT])),
    "citation": assistant(
        CitationBlock(cited_content=TEXT, source="s", title="t", additional_location_info={"a": 1})
    ),
    "logprobs": assistant(TEXT, logprobs=[[LogProb(token="a", logprob=-0.1, bytes=[97])]]),
    "delta": assistant(TEXT, delta="a"),
    "additional": assistant(TEXT, additional_kwargs={"seen": [1, {"a": None}]}),
    "completion": CompletionResponse(text="a", delta="a", additional_kwargs={"b": 1}),
}


@pytest.mark.parametrize("name", EQUAL)
def test_responses_read_back_equal(name: str) -> None:
    response = EQUAL[name]
    assert response_of(kept(response), type(response)) == response


class Thing(BaseModel):
    """An object of a provider's package."""

    a: int = 1


def with_more(**more: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage("a", role="assistant", additional_kwargs=more))


class Message(ChatMessage):
    """A message of somebody's own."""


@pytest.mark.parametrize(
    "response",
    [
        with_more(thing=object()),
        with_more(thing=Thing()),
        with_more(thing=(1, 2)),
        with_more(thing={1: 2}),
        with_more(thing=math.nan),
        with_more(tool_calls=[Thing()]),
        assistant(TEXT, additional_kwargs={"thing": Thing()}),
        assistant(ToolCallBlock(tool_name="t", tool_kwargs={"a": math.nan})),
        assistant(TEXT, logprobs=[[LogProb(token="a", logprob=-math.inf)]]),
        ChatResponse(message=Message(role="assistant", content="a")),
    ],
    ids=lambda response: repr(response)[:60],
)
def test_what_does_not_read_back_equal_is_not_kept(response: ChatResponse) -> None:
    assert answer_of(response, KEPT) is None


def test_objects_beside_tool_call_blocks_are_left_out() -> None:
    response = assistant(TextBlock(text=""), ToolCallBlock(tool_call_id="1", tool_name="t"))
    response.message.additional_kwargs["tool_calls"] = [Thing()]
    back = response_of(kept(response), ChatResponse)
    assert back.message.blocks == response.message.blocks
    assert back.message.additional_kwargs == {}


def test_raw_comes_back_with_its_attributes() -> None:
    fields = {
        "id": "resp_1",
        "model": "m",
        "usage": {"total_tokens": 3, "details": None},
        "choices": [{"message": {"content": "a"}, "items": [1, [2]]}],
    }
    raw = response_of(kept(assistant(TEXT, raw=fields)), ChatResponse).raw
    assert raw == {**fields, "id": None}, "the id names the response that another got"
    assert raw.usage.total_tokens == 3
    assert raw.usage.details is None
    assert raw.choices[0].message.content == "a"
    assert raw.model_dump() == raw
    with pytest.raises(AttributeError, match="nothing"):
        _ = raw.nothing


def test_raw_of_a_class_comes_back_with_its_attributes() -> None:
    assert response_of(kept(assistant(TEXT, raw=Thing())), ChatResponse).raw.a == 1


def test_raw_without_a_form_is_left_out_and_the_answer_is_kept() -> None:
    for raw in (object(), {"a": object()}, {"a": math.nan}, "text", 3):
        assert response_of(kept(assistant(TEXT, raw=raw)), ChatResponse).raw is None


def test_the_text_is_kept_once_though_raw_repeats_it() -> None:
    text = "word " * 400
    alone = kept(assistant(TextBlock(text=text)))
    with_raw = kept(assistant(TextBlock(text=text), raw={"choices": [{"text": text}]}))
    assert len(with_raw.payload or "") < len(alone.payload or "") + 200
    assert response_of(with_raw, ChatResponse).raw.choices[0].text == text


def test_all_of_raw_is_kept_on_demand() -> None:
    response = assistant(TEXT, raw=Thing())
    assert response_of(kept(response, Retention(raw=True)), ChatResponse).raw == {"a": 1}
    assert answer_of(assistant(TEXT, raw=object()), Retention(raw=True)) is None


@pytest.mark.parametrize(
    ("response", "format"),
    [
        (EQUAL["text"], "text"),
        (EQUAL["completion"], "text"),
        (assistant(TEXT, additional_kwargs={"prompt_tokens": 1}), "text"),
        (EQUAL["thought"], "llamaindex/1"),
        (EQUAL["tool call"], "llamaindex/1"),
        (EQUAL["texts"], "llamaindex/1"),
        (with_more(refusal="no"), "llamaindex/1"),
        (ChatResponse(message=ChatMessage("a", role="user")), "llamaindex/1"),
    ],
    ids=str,
)
def test_only_plain_texts_are_for_all_frameworks(response: Any, format: str) -> None:
    assert kept(response).format == format


@pytest.mark.parametrize(
    ("raw", "reason", "exact_only"),
    [
        ({"choices": [{"finish_reason": "stop"}]}, "stop", False),
        ({"choices": [{"finish_reason": "length"}]}, "length", True),
        ({"stop_reason": "max_tokens"}, "max_tokens", True),
        ({"done_reason": "stop"}, "stop", False),
        (None, None, False),
    ],
    ids=str,
)
def test_a_text_that_was_cut_off_is_for_the_very_request(
    raw: Any, reason: str | None, exact_only: bool
) -> None:
    answer = kept(assistant(TEXT, raw=raw))
    assert (answer.finish_reason, answer.exact_only) == (reason, exact_only)


def test_a_stream_that_said_more_than_its_message_is_not_for_all_frameworks() -> None:
    whole = answer_of(assistant(TEXT), KEPT, [("a", None)])
    more = answer_of(assistant(TEXT), KEPT, [("b", None), ("a", None)])
    assert whole is not None
    assert more is not None
    assert (whole.format, whole.text) == ("text", "a")
    assert (more.format, more.text) == ("llamaindex/1", "ba")


@pytest.mark.parametrize(
    "name", ["tool call", "words and a call", "words and an image", "empty text", "no blocks"]
)
def test_what_fits_no_other_wording_is_for_the_very_request(name: str) -> None:
    assert kept(EQUAL[name]).exact_only


@pytest.mark.parametrize(
    "more",
    [
        {"additional_kwargs": {"prompt_tokens": 3, "completion_tokens": 2}},
        {"raw": {"usage": {"input_tokens": 3, "output_tokens": 2}}},
        {"raw": {"usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 2}}},
        {"raw": {"prompt_eval_count": 3, "eval_count": 2}},
    ],
    ids=str,
)
def test_token_counts_are_found_where_providers_put_them(more: dict[str, Any]) -> None:
    assert kept(assistant(TEXT, **more)).usage == {"input_tokens": 3, "output_tokens": 2}


def test_answers_of_another_framework_are_read_as_text() -> None:
    answer = Answer("a", payload='{"v":"langchain/1"}')
    assert response_of(answer, ChatResponse) == assistant(TEXT)
    assert response_of(answer, CompletionResponse) == CompletionResponse(text="a")
    (chunk,) = chunks_of(answer, ChatResponse)
    assert (chunk.delta, chunk.message.content) == ("a", "a")


@pytest.mark.parametrize(
    "answer",
    [
        Answer("a", format="langchain/1"),
        Answer("a", payload='{"v":"llamaindex/1"}', format="llamaindex/1"),
        Answer("a", payload='{"v":"llamaindex/1","message":{"role":"x"}}'),
        Answer("a", payload='{"v":"llamaindex/1","text":"a"}'),
        Answer("a", payload='{"v":"llamaindex/1"'),
    ],
    ids=str,
)
def test_what_cannot_be_read_raises_value_error(answer: Answer) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the text, it is a miss
        response_of(answer, ChatResponse)


def test_payloads_are_versioned_json() -> None:
    payload = kept(EQUAL["tool call"]).payload
    assert payload is not None
    assert json.loads(payload)["v"] == "llamaindex/1"
