"""Which part of what is asked is the question: one rule for every way into a cache."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.request import FindQuestion, Request, split_question, why_exact_only

ASKED = "How do I change a fuse?"
PICTURE = {"type": "image_url", "image_url": {"url": "data:a"}}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def last_line(text: str) -> str:
    return text.rsplit("\n", 1)[-1]


WORDS = st.text(st.characters(categories=("Ll", "Lu", "Nd")), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ASKED, None),
        ("I am at home.\nWhat is this?", None),
        ("One question: why?", None),
        ("Yes, and no other fuse is there?", None),
        ("Is the observation: dark right?", None),
        ("", "not_user_text"),
        (" \n\t", "not_user_text"),
        ([], "not_user_text"),
        ([{"type": "text", "text": " "}], "not_user_text"),
        ("Observation: [1, 2]", "not_user_text"),
        ("Thought: I look.\n  Observation: rain", "not_user_text"),
        ("Read this.\n\nWhy?", "template"),
        ("<sources id=1>a</sources> Why?", "template"),
        ("Passages: a. Query: b?", "template"),
        (["a", "b"], "template"),
        ("Answer YES if it holds, else NO: a fuse melts", "verdict"),
        ("Does it hold? yes/no", "verdict"),
        ('Reply "Yes" or "No": does it hold?', "verdict"),
        ("Reply **true** or **false**.", "verdict"),
        ([{"type": "text", "text": ASKED}, PICTURE], "multimodal"),
        ([PICTURE], "multimodal"),
    ],
    ids=str,
)
def test_why_what_a_user_said_is_matched_only_exactly(content: Any, reason: str | None) -> None:
    assert split_question([user(content)]).exact_only == reason


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (ASKED, None),
        (f"{ASKED}\n", None),
        ("Translate:\nThe fuse melts.", "template"),
        ('{"question": "why?"}', "opaque"),
        ("[INST] why? [/INST]", None),
    ],
)
def test_why_a_completion_model_s_prompt_is_matched_only_exactly(
    prompt: str, reason: str | None
) -> None:
    assert split_question([user(prompt)], is_completion=True).exact_only == reason


@pytest.mark.parametrize("role", ["assistant", "tool", "system", "function", "developer"])
def test_what_a_user_did_not_say_is_no_question(role: str) -> None:
    messages = [user(ASKED), {"role": role, "content": ASKED}]
    found = split_question(messages)
    reason = "agent_turn" if role in ("tool", "function") else "not_user_text"
    assert (found.question, found.exact_only) == (None, reason)
    assert list(found.history) == messages


def test_what_else_a_message_holds_is_material() -> None:
    found = split_question([user("Hi"), user(ASKED, name="Ada")])
    assert (found.question, found.material) == (ASKED, {"message": {"name": "Ada"}})
    assert list(found.history) == [user("Hi")]


def test_a_question_that_is_found_leaves_the_rest_in_the_scope() -> None:
    found = split_question([user("Fuses melt.\n\nWhy?")], last_line)
    assert (found.question, found.exact_only) == ("Why?", None)
    assert found.material == {"rest": {"text": ["Fuses melt.\n\n", ""]}}


@pytest.mark.parametrize(
    ("text", "find", "reason"),
    [
        ("Say YES or NO.\n\nFuses melt.", last_line, "verdict"),
        ("Say YES or NO.\n\nFuses melt.", lambda _: ("Fuses melt.", {}), "verdict"),
        ("It rains.\nObservation: rain", last_line, "not_user_text"),
        (ASKED, lambda _: None, "template"),
        ([{"type": "text", "text": ASKED}, PICTURE], last_line, "multimodal"),
    ],
)
def test_a_found_question_does_not_lift_every_reason(
    text: Any, find: FindQuestion, reason: str
) -> None:
    assert split_question([user(text)], find).exact_only == reason


@pytest.mark.parametrize(("lifts", "reason"), [(True, None), (False, "template")])
def test_a_template_inside_of_the_question_is_lifted_by_who_named_it(
    lifts: bool, reason: str | None
) -> None:
    text = "Material.\n\nOne thing.\n\nAnother thing."
    found = split_question([user(text)], lambda _: "One thing.\n\nAnother thing.", lifts=lifts)
    assert found.exact_only == reason


@given(st.lists(WORDS, min_size=1, max_size=12))
def test_a_lone_text_part_is_the_text(words: list[str]) -> None:
    text = " ".join(words)
    assert split_question([user([{"type": "text", "text": text}])]) == split_question([user(text)])


@given(st.lists(WORDS, max_size=6), st.lists(WORDS, max_size=6))
def test_whatever_stands_around_a_tool_s_words_they_are_no_question(
    before: list[str], after: list[str]
) -> None:
    text = " ".join(before) + "\nObservation: " + " ".join(after)
    assert why_exact_only(text) == "not_user_text"


@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["\n\n", "\n \t\n", "\r\n\r\n"]))
def test_a_blank_line_between_texts_is_a_template(words: list[str], gap: str) -> None:
    text = " ".join(words)
    assert why_exact_only(f"{text}{gap}{text}") == "template"


def test_a_split_becomes_the_request_that_its_parts_make() -> None:
    split = split_question([user("Hi"), user("Fuses melt.\n\nWhy?")], last_line)
    by_hand = Request.of(
        "Why?",
        history=[user("Hi")],
        params={"model": "gpt"},
        context={"form": "f", "rest": {"text": ["Fuses melt.\n\n", ""]}},
        format="x/1",
    )
    assert split.request({"model": "gpt"}, "x/1", form="f") == by_hand
