"""Policies as pure functions: who is served, and how labels move a threshold."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.guard import Difference
from shared_core.thresholds import Candidate, Feedback, Label, Policy, Serve, Skip, Static

OTHER_YEAR = (Difference("number", ("2024",), ("2025",)),)
RNG = random.Random(0)


def decide(policy: Policy, *candidates: Candidate) -> Any:
    return policy.decide("q", candidates, policy.initial_state(), RNG)


@pytest.mark.parametrize("policy", [Static(0.9), Feedback(initial=0.9)])
def test_the_nearest_candidate_without_differences_at_the_threshold_is_served(
    policy: Policy,
) -> None:
    assert decide(policy) == Skip("absent")
    assert decide(policy, Candidate(0.8999)) == Skip("threshold")
    assert decide(policy, Candidate(0.9)) == Serve(0)
    assert decide(policy, Candidate(0.99, OTHER_YEAR)) == Skip("guard")
    assert decide(policy, Candidate(0.99, OTHER_YEAR), Candidate(0.95)) == Serve(1)
    assert decide(policy, Candidate(0.99, OTHER_YEAR), Candidate(0.5)) == Skip("guard")


def test_static_learns_nothing() -> None:
    policy = Static(0.9)
    assert not policy.learns
    policy.learn(policy.initial_state(), Label(False, 0.95))
    assert decide(policy, Candidate(0.9)) == Serve(0)


def after(policy: Feedback, labels: list[bool]) -> float:
    state = policy.initial_state()
    for right in labels:
        state = policy.learn(state, Label(right, 0.95))
    return state.threshold


def test_feedback_waits_for_ten_labels_and_then_moves_one_step_a_label() -> None:
    policy = Feedback()
    assert after(policy, [True] * 9) == 0.95
    assert after(policy, [True] * 10) == 0.94
    assert after(policy, [True] * 11) == 0.93
    assert after(policy, [True] * 100) == 0.90
    assert after(policy, [False] * 10) == 0.96
    assert after(policy, [False] * 100) == 0.99


def test_feedback_stays_where_accuracy_is_between_low_and_high() -> None:
    policy = Feedback(window=100, low=0.95, high=0.99)
    labels = ([True] * 24 + [False]) * 20
    at_100 = after(policy, labels[:100])
    assert after(policy, labels) == at_100


def test_feedback_forgets_labels_that_left_the_window() -> None:
    policy = Feedback(window=10)
    raised = after(policy, [False] * 10)
    assert raised == 0.96
    assert after(policy, [False] * 10 + [True] * 10) < after(policy, [False] * 10 + [True] * 9)


def test_a_short_window_waits_for_the_tenth_label_too() -> None:
    assert after(Feedback(window=3), [True] * 9) == 0.95
    assert after(Feedback(window=3), [False] * 7 + [True] * 3) == 0.94


@given(
    st.lists(st.booleans(), max_size=150),
    st.floats(0.5, 0.9),
    st.floats(0.001, 0.3),
    st.integers(1, 40),
)
def test_feedback_never_leaves_its_limits_nor_moves_more_than_a_step(
    labels: list[bool], minimum: float, step: float, window: int
) -> None:
    policy = Feedback(minimum=minimum, step=step, window=window)
    state = policy.initial_state()
    for right in labels:
        moved = policy.learn(state, Label(right, 0.9))
        assert minimum - 1e-9 <= moved.threshold <= policy.maximum + 1e-9
        assert abs(moved.threshold - state.threshold) <= step + 1e-9
        assert len(moved.window) <= window
        state = moved


@pytest.mark.parametrize(
    "options",
    [
        {"initial": 0.5},
        {"minimum": 0.96},
        {"maximum": 0.94},
        {"minimum": 0.99, "maximum": 0.9},
        {"step": 0},
        {"step": -0.1},
        {"step": "a"},
        {"window": 2.5},
        {"window": 0},
        {"low": 0.99, "high": 0.9},
        {"high": 1.1},
        {"initial": "x"},
    ],
    ids=str,
)
def test_feedback_with_limits_that_make_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Feedback(**options)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.booleans(), st.floats(-1, 1), st.lists(finite, max_size=4), st.none() | finite)
def test_labels_survive_a_store(
    right: bool, similarity: float, evidence: list[float], score: float | None
) -> None:
    label = Label(right, similarity, tuple(evidence), score)
    assert Label.from_json(label.to_json()) == label


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"right": 1}', "\x00"])
def test_what_is_no_label_is_none(text: str) -> None:
    assert Label.from_json(text) is None
