"""Messages through the cache's own JSON: equal when read back, but for ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel

from langchain_tiered_cache.answers import FORMAT, LONGEST_PATTERN, answer_of, generations_of
from shared_core import Answer

USAGE = {
    "input_tokens": 7,
    "output_tokens": 3,
    "total_tokens": 10,
    "output_token_details": {"reasoning": 1},
}
CALL = {"name": "weather", "args": {"city": "Rome", "days": [1, 2]}, "id": "call_1"}

MESSAGES: dict[str, AIMessage] = {
    "text": AIMessage("Hello."),
    "unicode": AIMessage("naïve ☃ 😀"),
    "usage": AIMessage("a", usage_metadata=USAGE),
    "metadata": AIMessage("a", response_metadata={"model_name": "m", "logprobs": {"a": [-0.5]}}),
    "name": AIMessage("a", name="bob"),
    "tool calls": AIMessage("", tool_calls=[CALL, {**CALL, "id": "call_2"}]),
    "invalid tool calls": AIMessage(
        "", invalid_tool_calls=[{"name": "f", "args": "{", "id": "call_3", "error": "no JSON"}]
    ),
    "blocks": AIMessage(
        [
            {"type": "reasoning", "reasoning": "because", "extras": {"signature": "s"}},
            {"type": "text", "text": "so", "annotations": [{"type": "citation", "url": "u"}]},
            {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
            "bare text",
        ]
    ),
    "tool use blocks": AIMessage(
        [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}],
        tool_calls=[CALL],
    ),
    "additional": AIMessage("a", additional_kwargs={"reasoning_content": "r", "refusal": None}),
    "lc in data": AIMessage("a", additional_kwargs={"x": {"lc": 1, "type": "constructor"}}),
    "chunk": AIMessageChunk(
        "a", chunk_position="last", response_metadata={"finish_reason": "stop"}
    ),
}


def through(generations: list[Generation]) -> list[Generation]:
    answer = answer_of(generations)
    assert answer is not None
    return generations_of(answer)


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_read_back_equal(name: str) -> None:
    message = MESSAGES[name]
    kind = ChatGenerationChunk if isinstance(message, AIMessageChunk) else ChatGeneration
    generation = kind(message=message, generation_info={"finish_reason": "stop"})
    assert through([generation]) == [generation]
    assert through([generation])[0] is not generation


@pytest.mark.parametrize("kind", [Generation, GenerationChunk])
def test_plain_generations_read_back_equal(kind: type[Generation]) -> None:
    generations = [kind(text="a", generation_info={"reason": "test"}), kind(text="b")]
    assert through(generations) == generations


def spoil(value: Any) -> None:
    """Change everything in a value that can be changed."""
    if isinstance(value, BaseModel):
        for fields in (value.__dict__, value.model_extra or {}):
            spoil(fields)
    elif isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value.clear()
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.clear()


@pytest.mark.parametrize("name", MESSAGES)
def test_what_one_caller_changes_reaches_no_other(name: str) -> None:
    message = MESSAGES[name]
    kind = ChatGenerationChunk if isinstance(message, AIMessageChunk) else ChatGeneration
    info = {"reason": {"of": ["test"]}}
    answer = answer_of([kind(message=message, generation_info=info)])
    assert answer is not None
    whole = [one.model_dump() for one in generations_of(answer)]
    for _ in range(2):
        (spoilt,) = generations_of(answer)
        spoil(spoilt)
    assert [one.model_dump() for one in generations_of(answer)] == whole


def test_a_long_answer_reads_back_equal() -> None:
    generations: list[Generation] = [ChatGeneration(message=AIMessage("long " * LONGEST_PATTERN))]
    assert through(generations) == generations


def test_extras_of_tool_calls_survive() -> None:
    message = AIMessage("", tool_calls=[CALL])
    message.tool_calls[0]["extras"] = {"signature": "s"}  # type: ignore[typeddict-unknown-key]
    assert through([ChatGeneration(message=message)])[0].message == message  # type: ignore[attr-defined]


def test_provider_response_ids_are_dropped() -> None:
    message = AIMessage(
        [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "text", "text": "a", "id": "msg_1"},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"},
            {"type": "tool_call", **CALL, "extras": {"item_id": "fc_1"}},
        ],
        id="resp_1",
        response_metadata={"id": "resp_1", "model_name": "m"},
        additional_kwargs={
            "__openai_function_call_ids__": {"call_1": "fc_1"},
            "reasoning": {"id": "rs_2", "summary": []},
        },
        tool_calls=[CALL],
    )
    (again,) = through([ChatGeneration(message=message)])
    assert again.message.id is None  # type: ignore[attr-defined]
    text = repr(again)
    assert not any(id in text for id in ("resp_1", "rs_1", "rs_2", "msg_1", "fc_1"))
    assert "call_1" in text
    assert message.response_metadata["id"] == "resp_1", "the caller's own message is not touched"


class Parsed(BaseModel):
    x: int


def test_a_parsed_model_is_kept_as_its_fields() -> None:
    message = AIMessage('{"x": 1}', additional_kwargs={"parsed": Parsed(x=1)})
    (again,) = through([ChatGeneration(message=message)])
    assert again.message.additional_kwargs == {"parsed": {"x": 1}}  # type: ignore[attr-defined]


class OwnMessage(AIMessage):
    pass


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("a", additional_kwargs={"x": b"bytes"}),
        AIMessage("a", additional_kwargs={"x": object()}),
        AIMessage("a", response_metadata={"x": (1, 2)}),
        AIMessage("a", response_metadata={"x": float("nan")}),
        AIMessage("a", response_metadata={"x": {1: 2}}),
        OwnMessage("a"),
        HumanMessage("a"),
    ],
    ids=["bytes", "object", "tuple", "nan", "number as key", "own class", "not an answer"],
)
def test_what_does_not_read_back_equal_is_not_stored(message: Any) -> None:
    assert answer_of([ChatGeneration(message=message)]) is None


def test_no_generations_are_not_stored() -> None:
    assert answer_of([]) is None


def answer(message: AIMessage) -> Answer:
    found = answer_of([ChatGeneration(message=message)])
    assert found is not None
    return found


def test_only_plain_text_is_served_to_other_frameworks() -> None:
    plain = ("text", "unicode", "usage", "metadata", "chunk")
    for name, message in MESSAGES.items():
        if not isinstance(message, AIMessageChunk):
            assert answer(message).format == ("text" if name in plain else FORMAT), name
    two = answer_of([Generation(text="a"), Generation(text="b")])
    assert two is not None
    assert two.format == FORMAT


def test_an_answer_says_its_model_its_usage_and_why_it_ended() -> None:
    metadata = {"model_name": "m", "finish_reason": "stop"}
    found = answer(AIMessage("a", usage_metadata=USAGE, response_metadata=metadata))
    assert (found.text, found.model, found.finish_reason) == ("a", "m", "stop")
    assert found.usage == {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "reasoning_tokens": 1,
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (MESSAGES["text"], False),
        (MESSAGES["tool calls"], True),
        (MESSAGES["invalid tool calls"], True),
        (MESSAGES["tool use blocks"], True),
        (AIMessage("I won't.", additional_kwargs={"refusal": "no"}), True),
        (AIMessage(""), True),
        (AIMessage("a", response_metadata={"finish_reason": "length"}), True),
        (AIMessage("a", response_metadata={"stop_reason": "max_tokens"}), True),
        (AIMessage("a", response_metadata={"finish_reason": "MAX_TOKENS"}), True),
        (AIMessage("a", response_metadata={"status": "incomplete"}), True),
        (AIMessage("a", response_metadata={"stopReason": "end_turn"}), False),
    ],
)
def test_tool_calls_refusals_and_cut_off_answers_fit_no_other_wording(
    message: AIMessage, expected: bool
) -> None:
    assert answer(message).exact_only is expected


@pytest.mark.parametrize("payload", [None, '{"v":"llamaindex/1","x":1}'])
def test_a_text_answer_of_another_framework_becomes_a_message(payload: str | None) -> None:
    (generation,) = generations_of(
        Answer("Hello.", payload=payload, model="m", finish_reason="stop")
    )
    assert isinstance(generation, ChatGeneration)
    assert generation.message == AIMessage(
        "Hello.", response_metadata={"finish_reason": "stop", "model_name": "m"}
    )


@pytest.mark.parametrize(
    "body",
    [
        {"v": FORMAT},
        {"v": FORMAT, "generations": [{"kind": "PromptTemplate", "text": "a"}]},
        {"v": FORMAT, "generations": [{"kind": "Generation", "text": 5}]},
        {"v": FORMAT, "generations": [{"kind": "ChatGeneration", "message": {"kind": "X"}}]},
        {"v": FORMAT, "generations": 7},
    ],
)
def test_a_payload_that_nobody_wrote_is_refused(body: dict[str, Any]) -> None:
    payload = json.dumps(body, separators=(",", ":"))
    with pytest.raises(ValueError, match=r"payload|validation"):
        generations_of(Answer("a", payload=payload))


def test_a_rich_answer_without_a_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="no payload"):
        generations_of(Answer("a", format="llamaindex/1", payload="{}"))
