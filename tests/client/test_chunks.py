"""Chunks of a streamed completion, put together as providers of all kinds send them."""

from __future__ import annotations

from typing import Any

import pytest

from shared_core.openai_format import Gathered


def chunk(delta: dict[str, Any], index: int = 0, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def gathered(*chunks: dict[str, Any]) -> Gathered:
    found = Gathered()
    for one in chunks:
        found.note(one)
    return found


def test_texts_go_on_and_what_is_said_again_does_not() -> None:
    call = {"index": 0, "id": "call_1", "type": "function"}
    found = gathered(
        chunk({"role": "assistant", "content": "It "}),
        chunk({"role": "assistant", "content": "melts."}),
        chunk({"tool_calls": [{**call, "function": {"name": "f", "arguments": '{"a'}}]}),
        chunk({"tool_calls": [{**call, "function": {"arguments": '": 1}'}}]}),
        chunk({}, reason="tool_calls"),
    )
    (choice,) = found.completion()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "It melts.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
        ],
    }


def test_choices_and_tool_calls_are_told_apart_by_their_index() -> None:
    def call(index: int, text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    found = gathered(
        chunk({"content": "b"}, index=1),
        chunk({"content": "a"}, index=0),
        chunk(call(1, "y"), index=0),
        chunk(call(0, "x"), index=0),
        chunk(call(1, "z"), index=0),
    )
    first, second = found.completion()["choices"]
    assert (first["message"]["content"], second["message"]["content"]) == ("a", "b")
    texts = [one["function"]["arguments"] for one in first["message"]["tool_calls"]]
    assert texts == ["x", "yz"]


def test_it_is_whole_once_each_choice_said_why_it_ended() -> None:
    found = gathered(chunk({"content": "a"}), chunk({"content": "b"}, index=1))
    assert not found.is_whole
    found.note(chunk({}, reason="stop"))
    assert not found.is_whole
    found.note(chunk({}, index=1, reason="length"))
    assert found.is_whole
    assert not Gathered().is_whole


def test_model_and_usage_are_kept_whichever_chunk_says_them() -> None:
    usage = {"prompt_tokens": 3}
    found = gathered(
        {"model": "", "choices": []},
        {"model": "m", "choices": [], "usage": None},
        {"model": "m-2", "choices": [], "usage": usage},
    ).completion()
    assert (found["model"], found["usage"]) == ("m", usage)


@pytest.mark.parametrize(
    "odd", [{"error": {"message": "no"}}, chunk({"content": 3}), {"choices": [1]}, ["what?"]]
)
def test_what_cannot_be_put_together_raises(odd: Any) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        gathered(chunk({"content": "a"}), odd)
