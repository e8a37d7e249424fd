"""The bound that holds at every moment: coverage and power by simulation, whatever is labelled."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from shared_core.stats import wilson
from shared_core.thresholds.bounds import RATES, TESTED, Pool, Wealth, shares_for
from shared_core.thresholds.policy import Candidate, Explore, Label, Serve
from shared_core.thresholds.verified import Verified
from tests.thresholds.test_verified import Stream, steep

EVEN = ((1 / len(RATES),) * len(RATES),) * len(TESTED)
HIGH = TESTED[0] + 0.1
LIVES = 200


def life(rng: random.Random, rate: float, labels: int, wealth: Wealth, chances: bool) -> int:
    """Return how many labels it took to certify the first pool, 0 if it never was.

    With ``chances``, what is wrong is twice as likely as the rest to be labelled, and each label
    says so.
    """
    for number in range(labels):
        wrong, least, chance = rng.random() < rate, 0.02, 0.02
        if chances and rng.random() < 0.5:  # a kind of question that is labelled more often
            chance = 0.04
            wrong = rng.random() < 2 * rate
        elif chances:
            wrong = False
        if chances and rng.random() >= chance / 0.04:
            continue  # not labelled
        wealth.add(HIGH, wrong, least / chance)
        if wealth.certified:
            return number + 1
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "expected"), [(0.02, 0.0), (0.02, 0.3), (0.025, 0.01)])
def test_what_is_worse_than_the_bound_is_certified_in_one_life_of_twenty_at_most(
    rate: float, expected: float
) -> None:
    """Lives of 500 labels, looked at after each, whatever public data expects."""
    rng, shares = random.Random(5), shares_for([expected] * len(TESTED), 0.02)
    certified = sum(
        life(rng, rate, 500, Wealth(0.02, 0.95, shares), chances=False) > 0 for _ in range(LIVES)
    )
    assert wilson(certified, LIVES)[0] <= 0.05


@pytest.mark.slow
def test_what_is_labelled_oftener_because_it_looks_worse_is_made_up_for() -> None:
    """At the bound on average; unweighed, the labels would look worse than the requests."""
    rng = random.Random(6)
    certified = sum(
        life(rng, 0.02, 800, Wealth(0.02, 0.95, EVEN), chances=True) > 0 for _ in range(LIVES)
    )
    assert wilson(certified, LIVES)[0] <= 0.05


def test_what_is_good_is_certified_and_sooner_where_public_data_expects_it() -> None:
    def median(shares: tuple[tuple[float, ...], ...]) -> int:
        rng = random.Random(7)
        found = sorted(
            life(rng, 0.004, 2000, Wealth(0.02, 0.95, shares), chances=False) or 9999
            for _ in range(30)
        )
        return found[15]

    even, informed = median(EVEN), median(shares_for([0.004] * len(TESTED), 0.02))
    assert informed <= even < 500


def test_pools_are_certified_from_the_highest_down() -> None:
    wealth = Wealth(0.02, 0.95, EVEN)
    assert wealth.threshold == math.inf
    for _ in range(1000):
        wealth.add(TESTED[1], wrong=False, weight=1.0)
    assert wealth.certified == 0, "of the highest pool nothing is known"
    needed = math.ceil(wealth.labels_needed())
    for _ in range(needed):
        assert wealth.certified == 0
        wealth.add(HIGH, wrong=False, weight=1.0)
    assert wealth.certified >= 2
    assert wealth.threshold <= TESTED[1]


def test_nothing_is_served_before_it_is_certified_nor_what_is_not() -> None:
    stream = Stream(Verified(0.05, guarantee="anytime"), steep, 0, lowest=0.7)
    told = ""
    while stream.hits == 0 and len(stream.served) < 3000:
        told = told or str(stream.policy.describe(stream.state)["learning"])
        decision = stream.ask(stream.rng.uniform(0.7, 1.0))
        assert isinstance(decision, Explore | Serve)
        if isinstance(decision, Serve):
            assert stream.state.wealth is not None
            assert decision.score is not None
            assert decision.score >= stream.state.wealth.threshold
    assert stream.hits == 1
    assert "certify" in told
    assert stream.policy.describe(stream.state)["guarantee"] == "anytime"


def test_the_bound_at_every_moment_is_that_of_its_own_confidence() -> None:
    state = Verified(guarantee="anytime", confidence=0.99).initial_state()
    assert state.wealth is not None
    assert state.wealth.goal == pytest.approx(100)
    with pytest.raises(ValueError, match=r"Verified\(guarantee\)"):
        Verified(guarantee="always")  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.parametrize("guarantee", ["average", "anytime"])
@pytest.mark.parametrize("right", [True, False])
def test_a_label_that_was_not_chosen_by_chance_is_learnt_and_certifies_nothing(
    guarantee: Any, right: bool
) -> None:
    policy = Verified(guarantee=guarantee)
    state = policy.initial_state()
    bets = None if state.wealth is None else [list(pool) for pool in state.wealth.logs]
    question = "how do I reset my password"
    state.model = replace(state.model, serving=Pool(-9.0, 0, 0, 1.0))
    first = policy.decide(question, [Candidate(0.99, (), question, "g")], state, random.Random(1))
    assert isinstance(first, Serve), "the first hit of a process is not checked, but in shadow mode"
    policy.settle(policy.learn(state, Label(right, 0.99, first.evidence)))
    assert state.known == 1
    assert bets is None or (state.wealth is not None and state.wealth.logs == bets)
