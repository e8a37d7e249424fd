"""Labels that lie, and labels that are missing where it suits: the promise reckons with both."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.thresholds.bounds import (
    RATES,
    TESTED,
    JudgeError,
    JudgeRecord,
    Pool,
    Promise,
    Wealth,
)
from shared_core.thresholds.estimator import Learned
from shared_core.thresholds.policy import Candidate, Explore, Label, Serve
from shared_core.thresholds.verified import Verified

RATES_OF_ERROR = (0.004, 0.01, 0.02, 0.03, 0.05)
LIVES = 10
REQUESTS = 1200


@dataclass
class Liar:
    """Says what is right, but for shares of the wrong and the right ones; or that it is unknown."""

    same_of_wrong: float = 0.0
    different_of_right: float = 0.0
    unknown_of_wrong: float = 0.0
    unknown_of_right: float = 0.0
    checked: float = 0.0

    def label(self, right: bool, rng: random.Random, evidence: Any) -> Label:
        lies = rng.random() < (self.different_of_right if right else self.same_of_wrong)
        unknown = rng.random() < (self.unknown_of_right if right else self.unknown_of_wrong)
        truth = right if rng.random() < self.checked else None
        word = (right is not lies) and not unknown
        return Label(word, 0.9, evidence, unknown=unknown, truth=truth)


@dataclass
class Lives:
    """What became of some apps, in each of which another share of what looks right is wrong."""

    policy: Verified
    liar: Liar
    hits: int = 0
    wrong: int = 0
    over: int = 0
    states: list[Learned] = field(default_factory=list)

    def run(self) -> Lives:
        for seed in range(LIVES):
            hits, wrong = self.live(random.Random(seed), RATES_OF_ERROR[seed % 5])
            self.hits, self.wrong = self.hits + hits, self.wrong + wrong
            slack = 2 * math.sqrt(self.policy.max_error * hits) + 1
            self.over += wrong > self.policy.max_error * hits + slack
        return self

    def live(self, rng: random.Random, rate: float) -> tuple[int, int]:
        state, hits, wrong = self.policy.initial_state(), 0, 0
        for n in range(REQUESTS):
            looks_right = rng.random() < 0.6
            right = rng.random() >= (rate if looks_right else 0.6)
            near = rng.uniform(0.88, 1.0), f"how can I use the thing{n} here"
            far = rng.uniform(0.45, 0.8), f"what is the other{n} price"
            similarity, cached = near if looks_right else far
            candidate = Candidate(similarity, (), cached, f"answer {rng.randrange(60)}")
            question = f"how do I use the thing{n} here"
            self.policy.settle(state)
            decision = self.policy.decide(question, [candidate], state, rng)
            if isinstance(decision, Serve):
                hits, wrong = hits + 1, wrong + (not right)
            elif isinstance(decision, Explore):
                label = self.liar.label(right, rng, decision.evidence)
                state = self.policy.learn(state, label)
        self.states.append(state)
        return hits, wrong


@pytest.mark.slow
@pytest.mark.parametrize(
    ("liar", "least"),
    [
        (Liar(same_of_wrong=0.1, checked=0.2), 200),
        (Liar(same_of_wrong=0.3, checked=0.2), 100),
        (Liar(different_of_right=0.05, checked=0.3), 60),
        (Liar(0.1, 0.1, checked=0.3), 20),
        (Liar(unknown_of_wrong=0.5), 60),
        (Liar(unknown_of_wrong=0.8, unknown_of_right=0.2, checked=0.2), 20),
        (Liar(unknown_of_wrong=0.3, unknown_of_right=0.6), 100),
    ],
    ids=str,
)
def test_the_promise_holds_whatever_the_judge_says_falsely_or_not_at_all(
    liar: Liar, least: int
) -> None:
    """In nine of ten apps within two standard deviations; with hits, where lies are measured."""
    lives = Lives(Verified(0.02, start="own"), liar).run()
    assert lives.over <= 1
    assert lives.wrong <= 0.02 * lives.hits + 2 * math.sqrt(0.02 * lives.hits)
    assert lives.hits >= least * LIVES


@pytest.mark.slow
def test_what_is_unknown_of_wrong_ones_alone_would_flatter_if_it_were_left_out() -> None:
    """The same judge, its unknown words kept from the policy: the promise is broken at once."""

    class Silent(Liar):
        def label(self, right: bool, rng: random.Random, evidence: Any) -> Label:
            found = super().label(right, rng, evidence)
            return Label(right, 0.0) if found.unknown else found  # counts, and teaches nothing

    liar = Silent(unknown_of_wrong=0.8, unknown_of_right=0.2)
    lives = Lives(Verified(0.02, start="own"), liar).run()
    assert lives.wrong > 0.024 * lives.hits


@pytest.mark.slow
def test_what_is_unknown_weighs_on_the_bound_at_every_moment_too() -> None:
    liar = Liar(unknown_of_wrong=0.6)
    lives = Lives(Verified(0.02, start="own", guarantee="anytime"), liar).run()
    assert lives.over == 0
    assert all(state.model.judge.heard < 0.6 for state in lives.states)


SHARES = st.floats(0, 0.4)


@given(SHARES, SHARES, st.floats(0.05, 1), st.floats(0, 1))
def test_what_would_be_told_gives_back_what_is_true(
    same: float, different: float, heard: float, wrong: float
) -> None:
    judge = JudgeError(same, different, heard)
    assert judge.truly_wrong(judge.labelled_wrong(wrong)) == pytest.approx(wrong, abs=1e-6)
    assert judge.labelled_wrong(min(1.0, wrong + 0.01)) >= judge.labelled_wrong(wrong) - 1e-12


@given(st.floats(0.001, 0.2), SHARES, st.floats(0.05, 1))
def test_lies_for_right_and_silence_on_wrong_ones_make_the_promise_harder_to_keep(
    rate: float, same: float, heard: float
) -> None:
    plain = Promise(rate, "hit", 0.7)
    strict = Promise(rate, "hit", 0.7, JudgeError(same, 0.0, heard))
    for labels, wrong in ((20, 0), (60, 1), (400, 3), (1000, 20)):
        pool = Pool(0, labels, wrong, 0.5)
        assert plain.is_kept_by(pool) or not strict.is_kept_by(pool)
        assert plain.is_expected_of(pool) or not strict.is_expected_of(pool)


def test_known_false_alarms_let_labels_prove_what_they_would_not() -> None:
    pool = Pool(0, 1000, 55, 0.5, spread=0.005)
    assert not Promise(0.02, "hit", 0.7).is_kept_by(pool)
    knows = Promise(0.02, "hit", 0.7, JudgeError(false_different=0.05))
    assert knows.is_kept_by(pool)
    assert knows.is_expected_of(pool)
    assert not knows.is_kept_by(Pool(0, 1000, 80, 0.5))


def test_limits_close_in_on_the_truth_as_words_are_checked() -> None:
    found = []
    for each in (5, 50, 500):
        record = JudgeRecord()
        for n in range(20 * each):
            record.check(n % 20 < 2, truth=False)  # a tenth of the wrong ones is called the same
            record.check(n % 20 >= 1, truth=True)
        found.append(record.limits(0.0, 0.7, 1.0))
    same, different = [f.false_same for f in found], [f.false_different for f in found]
    assert 0.1 < same[2] < 0.11
    assert different == sorted(different)
    assert 0.045 < different[2] < 0.05


def test_without_checks_what_is_believed_counts_and_right_labels_say_what_they_doubt() -> None:
    record = JudgeRecord()
    assert record.limits(0.05, 0.7, 1.0) == JudgeError(0.05, 0.05)
    for error in (0.1, 0.0, 0.02):
        record.add(error)
    assert record.limits(0.0, 0.7, 1.0) == JudgeError(pytest.approx(0.04), 0.0)


def test_a_bet_on_labels_of_a_judge_that_calls_wrong_ones_right_wins_less() -> None:
    even = ((1 / len(RATES),) * len(RATES),) * len(TESTED)
    plain, wary = Wealth(0.02, 0.95, even), Wealth(0.02, 0.95, even)
    for _ in range(50):
        plain.add(9.0, False, 1.0)
        wary.add(9.0, False, 1.0, JudgeError(0.3, 0.0, 0.5).labelled_wrong(0.02))
    assert 1 < wary.wealth(0) < plain.wealth(0)
