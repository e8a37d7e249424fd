"""What a user is told: why nothing was answered, what would mend it, and how far learning is."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from shared_core import Answer, Explore, Hit, Miss, Request, ResponseCache, Static
from shared_core.advice import LASTING, Milestones, advice_of, changes
from shared_core.record import fresh_mark
from shared_core.semantic import RECENT
from shared_core.thresholds import Candidate, Decision, Label, Verified
from shared_core.thresholds import Explore as Try
from tests.fakes import fake_embed


def scope(system: str, *history: dict[str, str], **params: Any) -> str:
    return Request.of("What is open?", "m", system, history, params).scope


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (scope("It is 9:15 now."), scope("It is 10:02 now."), "system message (a date or time"),
        (scope("On 2026-03-01."), scope("On 2026-04-17."), "system message (a date or time"),
        (scope("Today is Monday."), scope("Today is Friday."), "system message (a date or time"),
        (scope("At 1767225600."), scope("At 1767229999."), "system message (a date or time"),
        (scope("User 4f9a2c71b0."), scope("User 88ab01ff3d."), "system message (an id"),
        (
            scope("Trace 0b5f6a1e-9c1d-4f0e-8a51-0c9f6f0a0a01"),
            scope("Trace c5b7e2d4-1a2b-4c3d-9e8f-7a6b5c4d3e2f"),
            "system message (an id",
        ),
        (scope("You have 3 credits."), scope("You have 17 credits."), "system message (a number"),
        (scope("Be kind."), scope("Be brief."), "system message"),
        (scope("", user="ann"), scope("", user="bob"), "the setting 'user'"),
        (scope("", seed=1), scope("", seed=2), "the setting 'seed'"),
        (
            scope("", default_headers={"x-trace": "a"}),
            scope("", default_headers={"x-trace": "b"}),
            "the header 'x-trace'",
        ),
        (
            scope("", {"role": "user", "content": "a"}),
            scope("", {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
            "the conversation before the question",
        ),
        (
            Request.of("q", context={"passages": ["a"]}).scope,
            Request.of("q", context={"passages": ["b"]}).scope,
            "the context of the request",
        ),
        ("no JSON", "at all", "a part of the prompt"),
    ],
)
def test_the_part_of_the_prompt_that_changes_is_named(one: str, other: str, named: str) -> None:
    assert named in changes(one, other)
    assert named in changes(other, one)


def test_two_parts_that_change_are_both_named() -> None:
    found = changes(scope("Be kind.", user="ann"), scope("Be brief.", user="bob"))
    assert "the system message" in found
    assert "the setting 'user'" in found


def asked(number: int, system: str) -> Request:
    return Request.of(f"How do I reach door number {number}?", "m", system)


def open_cache(**options: Any) -> ResponseCache:
    return ResponseCache.open(embedder=fake_embed, threshold=Static(0.8), **options)


def test_a_clock_in_the_system_prompt_is_warned_of_once_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "tiered_cache"), open_cache() as cache:
        for number in range(3 * RECENT):
            request = asked(number, f"You help Jolanda. It is 9:{number:02d}.")
            outcome = cache.lookup(request)
            assert isinstance(outcome, Miss)
            assert outcome.reason == "new_scope"
            cache.store(request, Answer("Up the stairs."))
        advice = cache.stats().advice
    (warned,) = [record.getMessage() for record in caplog.records]
    assert "the system message (a date or time in it) changes" in warned
    assert "the system message (a date or time in it)" in advice
    assert "Jolanda" not in warned + advice, "no text of a prompt is logged"


def test_where_scopes_recur_nobody_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tiered_cache"), open_cache() as cache:
        reasons = []
        for number in range(3 * RECENT):
            outcome = cache.lookup(asked(number, f"You help with floor {number % 6}."))
            reasons.append(getattr(outcome, "reason", None))
        assert "new" not in cache.stats().advice
    assert reasons[:6] == ["new_scope"] * 6
    assert "new_scope" not in reasons[6:]
    assert not caplog.records


def test_a_scope_in_the_store_is_not_new_to_another_process(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    with open_cache(url=url) as first:
        first.store(asked(1, "a"), Answer("Up."))
    with open_cache(url=url) as second:
        assert second.lookup(asked(2, "b")) == Miss("new_scope")
        near = second.lookup(Request.of("Who wrote it?", "m", "a"))
        assert isinstance(near, Miss)
        assert near.reason != "new_scope"


def test_the_mark_of_a_fresh_answer_says_why_it_is_fresh() -> None:
    miss = Miss("threshold", 0.71, progress="3 of about 80 labels")
    assert fresh_mark("id", miss) == {
        "hit": False,
        "entry_id": "id",
        "reason": "threshold",
        "similarity": 0.71,
        "progress": "3 of about 80 labels",
    }
    assert fresh_mark(None) == {"hit": False, "entry_id": None}


def test_while_learning_a_miss_says_how_far_it_is() -> None:
    with ResponseCache.open(embedder=fake_embed, threshold=Verified()) as cache:
        cache.store(asked(1, "a"), Answer("Up."))
        outcome = cache.lookup(Request.of("How can I reach door number 1?", "m", "a"))
    assert isinstance(outcome, (Explore, Miss))
    assert outcome.progress is not None
    assert "label" in outcome.progress


# ------------------------------------------------------------------------------------ advice

VERIFIED = {"policy": "verified", "share_served": 0.0, "labels": 0}


@pytest.mark.parametrize(
    ("counts", "policy", "said"),
    [
        ({"lookups": 400, "misses:temperature": 312}, {}, "312 of 400 requests have a temperature"),
        ({"lookups": 400, "misses:language": 390}, {}, "language"),
        ({"lookups": 400, "misses:time": 390}, {}, "now or today"),
        ({"lookups": 400, "misses:new_scope": 390}, {}, "nothing was asked before"),
        ({"lookups": 9}, {"new_scopes": "the header 'x'"}, "the header 'x'"),
        ({"lookups": 900}, {"policy": "feedback", "labels": 0}, "cache.feedback"),
        (
            {"lookups": 900, "explores": 500},
            {**VERIFIED, "labels": 12, "learning": "12 of about 80 labels"},
            "Labels have stalled",
        ),
        (
            {"lookups": 900, "explores": 20},
            {**VERIFIED, "labels": 18, "learning": "18 of about 80 labels"},
            "18 of about 80 labels",
        ),
        (
            {"lookups": 400, "hits:exact": 312},
            {**VERIFIED, "share_served": 0.09},
            "312 of 400 questions were exact repeats; about 9 %",
        ),
        (
            {"lookups": 400, "hits:exact": 100, "hits:semantic": 50},
            {**VERIFIED, "share_served": 0.2},
            "50 more were answered by meaning",
        ),
        ({"lookups": 49, "misses:temperature": 49}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_advice_says_what_holds_the_cache_back(
    counts: dict[str, int], policy: dict[str, Any], said: str
) -> None:
    advice = advice_of(counts, policy)
    assert said in advice if said else not advice
    assert advice.count(". ") <= 2, "one or two sentences"


# -------------------------------------------------------------------------------- milestones


def state(labels: int, learning: str | None, rests_on: str | None = None) -> dict[str, Any]:
    return {
        "share_served": 0.0,
        "labels": labels,
        "right": labels,
        "wrong": 0,
        "learning": learning,
        "rests_on": rests_on,
    }


def test_milestones_are_logged_and_the_end_of_serving_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Milestones()
    with caplog.at_level(logging.INFO, "tiered_cache"):
        told.note(state(0, "0 labels, too few"))
        told.note(state(1, "1 of about 80 labels"))
        told.note(state(2, "2 of about 80 labels"))
        told.note(state(80, None, "80 labels of your own"))
        told.note(state(81, None, "81 labels of your own"))
        told.note(state(90, "90 labels, and too many of them wrong"))
        told.note({"policy": "static"})
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("INFO", "labels: 1 (1 right, 0 wrong); 1 of about 80 labels"),
        ("INFO", "answers are served by meaning now: this rests on labels of your own"),
        ("WARNING", "nothing is served by meaning any more: 90 labels, and too many of them wrong"),
    ]


def test_the_end_of_serving_is_said_once_until_it_has_lasted_for_a_while_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    milestones, labels = Milestones(), 900
    milestones.note(state(labels, None, "public data"))
    with caplog.at_level(logging.INFO, "tiered_cache"):
        for number in range(30):  # an app at the limit: it ends and begins with every other label
            labels += 1
            milestones.note(state(labels, "stopped" if number % 2 == 0 else None, "public data"))
        flickering, labels = len(caplog.messages), labels + LASTING
        milestones.note(state(labels, None, "public data"))
        milestones.note(state(labels + 1, "stopped again"))
    assert flickering == 1
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "nothing is served by meaning any more: stopped"),
        ("INFO", "answers are served by meaning again: this rests on public data"),
        ("WARNING", "nothing is served by meaning any more: stopped again"),
    ]


def test_that_own_labels_take_over_from_public_data_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Milestones()
    with caplog.at_level(logging.INFO, "tiered_cache"):
        told.note(state(0, None, "public data"))
        told.note(state(412, None, "412 labels of your own"))
    assert caplog.messages == ["what is served by meaning rests on labels of your own now"]


@dataclass(frozen=True)
class Counting:
    """A policy that explores everything and says how many labels it has."""

    k, floor, learns, explores = 5, 0.5, True, True

    def for_embedder(self, embedder: str) -> Counting:
        return self

    def initial_state(self) -> int:
        return 0

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: int, rng: random.Random
    ) -> Decision:
        from shared_core.thresholds import Skip

        return Try(0, (1.0,)) if candidates else Skip("absent")

    def learn(self, state: int, label: Label) -> int:
        return state + 1

    def settle(self, state: int) -> None: ...

    def describe(self, state: int) -> dict[str, Any]:
        return {"share_served": 0.0, "labels": state, "right": state, "learning": f"{state} labels"}


def test_the_first_label_of_a_cache_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    asked_first, again = asked(1, "a"), Request.of("How may I reach door number 1?", "m", "a")
    with (
        caplog.at_level(logging.INFO, "tiered_cache"),
        ResponseCache.open(embedder=fake_embed, threshold=Counting()) as cache,  # type: ignore[arg-type]
    ):
        cache.store(asked_first, Answer("Up the stairs and left."))
        assert isinstance(cache.lookup(again), Explore)
        cache.store(again, Answer("Up the stairs and left."))
        assert isinstance(cache.lookup(again), Hit)
    assert any("labels: 1" in message for message in caplog.messages)
