"""When two answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.learning import same_answer
from shared_core.record import Answer


def judge(one: str, two: str) -> bool | None:
    verdict = same_answer(Answer(one), Answer(two))
    assert same_answer(Answer(two), Answer(one)) is verdict
    return verdict


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Yes.", "yes"),
        ("No", "No."),
        ("Paris", "paris."),
        ("42", "42."),
        (
            "You can return the book within 30 days at any desk of the library.",
            "Sure! You can return the book at any desk of the library within 30 days. "
            "Let me know if you need anything else.",
        ),
        ("1. Open settings.\n2. Choose privacy.", "Open settings. Choose privacy."),
    ],
)
def test_equal_answers_in_other_words(one: str, two: str) -> None:
    assert judge(one, two) is True


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Yes.", "No."),
        ("Yes, it is safe to take both.", "No, it is safe to take both only with food."),
        ("Paris", "London"),
        ("42", "43"),
        ("You can return the book within 30 days.", "You can return the book within 14 days."),
        ("You can return an opened box.", "You cannot return an opened box."),
        ("The desk is in the north hall.", "Press the green button and wait for the lamp."),
    ],
)
def test_answers_that_differ(one: str, two: str) -> None:
    assert judge(one, two) is not True


@pytest.mark.parametrize(("one", "two"), [("", ""), ("", "Paris"), ("I do.", "You do.")])
def test_nothing_to_compare_is_not_known(one: str, two: str) -> None:
    assert judge(one, two) is None


@given(st.text(), st.text())
def test_any_two_texts_have_a_verdict_and_a_text_equals_itself(one: str, two: str) -> None:
    assert judge(one, two) in (True, False, None)
    assert judge(one, one) is not False
