"""Check what every threshold policy promises: pure decisions, and a state folded from labels.

class TestMyPolicy(PolicyConformance):
    @pytest.fixture
    def policy(self):
        return MyPolicy()
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from shared_core.guard import Guard
from shared_core.thresholds import Candidate, Decision, Explore, Label, Policy, Serve, Skip

ASKED = "How do I reset my password?"
QUESTIONS = (
    "how can I reset my password",
    "How do I change my password?",
    "How do I reset my passwords for 2 accounts?",
    "Why should I not reset my password?",
    "Where is the station?",
)
ODD_LABELS = (
    Label(True, 0.9),
    Label(False, 0.0),
    Label(True, 1.0, evidence=(1.0,)),
    Label(False, -1.0, evidence=(0.0,) * 99, score=0.5),
    Label(True, 0.5, score=2.0),
)
"""As another policy, or an older version of this one, left them in the store."""


def candidates(*similarities: float) -> list[Candidate]:
    """Return candidates of these cosines, the nearest first, with differences as the guard sees."""
    guard = Guard()
    return [
        Candidate(
            similarity,
            guard.differences(ASKED, QUESTIONS[i % len(QUESTIONS)]),
            QUESTIONS[i % len(QUESTIONS)],
            f"answer {i}",
        )
        for i, similarity in enumerate(sorted(similarities, reverse=True))
    ]


def label_of(decision: Decision, given: Sequence[Candidate], right: bool) -> Label | None:
    """Return the label that a judge's word makes of a decision, None for a candidate not chosen."""
    if isinstance(decision, Skip):
        return None
    score = decision.score if isinstance(decision, Serve) else None
    return Label(right, given[decision.index].similarity, decision.evidence, score)


class PolicyConformance:
    """What every policy does. Give a fixture ``policy`` that returns one."""

    @pytest.fixture
    def policy(self) -> Policy:
        raise NotImplementedError("give a fixture `policy` that returns your policy")

    def grown(self, policy: Policy, labels: int, seed: int = 0) -> Any:
        """Return a state after some labels of the policy's own decisions."""
        rng, state = random.Random(seed), policy.initial_state()
        for _ in range(labels):
            given = candidates(*(rng.uniform(0.6, 1.0) for _ in range(policy.k)))
            label = label_of(policy.decide(ASKED, given, state, rng), given, rng.random() < 0.9)
            if label is not None:
                state = policy.learn(state, label)
        policy.settle(state)
        return state

    @pytest.fixture(params=[0, 60], ids=["before any label", "after 60 decisions"])
    def state(self, policy: Policy, request: pytest.FixtureRequest) -> Any:
        return self.grown(policy, request.param)

    def test_it_says_what_it_wants_to_see(self, policy: Policy) -> None:
        assert policy.k >= 1
        assert -1 <= policy.floor <= 1
        assert isinstance(policy.learns, bool)
        assert isinstance(policy.explores, bool)
        assert policy.learns or not policy.explores

    def test_without_a_candidate_it_skips_and_says_why(self, policy: Policy, state: Any) -> None:
        decision = policy.decide(ASKED, [], state, random.Random(0))
        assert isinstance(decision, Skip)
        assert decision.reason

    def test_it_chooses_one_of_the_candidates_or_none(self, policy: Policy, state: Any) -> None:
        rng = random.Random(1)
        for n in (1, 2, policy.k, policy.k + 5):
            for _ in range(20):
                given = candidates(*(rng.uniform(-1.0, 1.0) for _ in range(n)))
                decision = policy.decide(ASKED, given, state, rng)
                assert isinstance(decision, (Serve, Explore, Skip))
                if isinstance(decision, Skip):
                    assert decision.reason
                else:
                    assert 0 <= decision.index < n
                if isinstance(decision, Explore):
                    assert policy.explores

    def test_it_serves_nothing_below_its_floor(self, policy: Policy, state: Any) -> None:
        for seed in range(50):
            given = candidates(policy.floor - 0.01, policy.floor - 0.1)
            decision = policy.decide(ASKED, given, state, random.Random(seed))
            assert not isinstance(decision, Serve)

    @pytest.mark.parametrize("labels", [0, 60])
    def test_states_that_saw_the_same_decide_the_same(self, policy: Policy, labels: int) -> None:
        one, other = (self.grown(policy, labels, seed=2) for _ in range(2))
        for seed in range(20):
            given = candidates(*(random.Random(seed).uniform(0.5, 1.0) for _ in range(3)))
            first, second = (
                policy.decide(ASKED, given, state, random.Random(seed)) for state in (one, other)
            )
            assert first == second

    def test_deciding_and_settling_teach_nothing(self, policy: Policy, state: Any) -> None:
        before = policy.describe(state)
        for seed in range(20):
            policy.decide(ASKED, candidates(0.99, 0.9), state, random.Random(seed))
            policy.settle(state)
        assert policy.describe(state) == before

    def test_every_process_learns_the_same_from_one_log(self, policy: Policy) -> None:
        rng, state, log = random.Random(3), policy.initial_state(), []
        for _ in range(60):
            given = candidates(*(rng.uniform(0.6, 1.0) for _ in range(policy.k)))
            label = label_of(policy.decide(ASKED, given, state, rng), given, rng.random() < 0.8)
            if label is not None:
                log.append(label.to_json())
                state = policy.learn(state, label)
        readers = [policy.initial_state(), policy.initial_state()]
        for text in log:
            read = Label.from_json(text)
            assert read is not None
            readers = [policy.learn(each, read) for each in readers]
        for each in (state, *readers):
            policy.settle(each)
            assert policy.describe(each) == policy.describe(state)
        for seed in range(20):
            given = candidates(0.97, 0.9, 0.8)
            first, second = (
                policy.decide(ASKED, given, each, random.Random(seed)) for each in readers
            )
            assert first == second

    @pytest.mark.parametrize("odd", ODD_LABELS, ids=range(len(ODD_LABELS)))
    def test_a_label_that_another_policy_left_does_no_harm(
        self, policy: Policy, odd: Label
    ) -> None:
        state = policy.initial_state()
        for _ in range(12):
            state = policy.learn(state, odd)
        policy.settle(state)
        json.dumps(policy.describe(state))
        assert policy.decide(ASKED, candidates(0.95), state, random.Random(0))

    def test_its_description_is_json_and_names_it(self, policy: Policy, state: Any) -> None:
        described = json.loads(json.dumps(policy.describe(state), allow_nan=False))
        assert isinstance(described["policy"], str)
        assert described["policy"]

    @pytest.mark.parametrize("embedder", ["all-MiniLM-L6-v2", "a model nobody knows", ""])
    def test_it_serves_the_cosines_of_any_embedder(self, policy: Policy, embedder: str) -> None:
        fitted = policy.for_embedder(embedder)
        assert fitted.k >= 1
        decision = fitted.decide(ASKED, candidates(0.9), fitted.initial_state(), random.Random(0))
        assert isinstance(decision, (Serve, Explore, Skip))
