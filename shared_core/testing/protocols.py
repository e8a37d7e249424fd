"""Check what every embedder, judge and policy promises.

An embedder returns vectors of one space, one per text, of length 1. A judge says True, False or
None, and gives no label that is wrong. A policy decides purely, and folds its state from labels.

class TestMyJudge(JudgeConformance):
    @pytest.fixture
    def judge(self):
        return my_judge
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from shared_core.embedding import Embedder, EmbedderError
from shared_core.guard import Guard
from shared_core.learning import Judge
from shared_core.record import Answer
from shared_core.thresholds import Candidate, Decision, Explore, Label, Policy, Serve, Skip

TEXTS = (
    "How do I reset my password?",
    "where is the station",
    "HOW DO I RESET MY PASSWORD",
    "Wie setze ich mein Passwort zurück?",
    "パスワードを忘れました",
    "42",
)
ODD_TEXTS = ("", " ", "\n\t", "🐈" * 40, "nul \0 inside", "word " * 5000)


class EmbedderConformance:
    """What every embedder does. Give a fixture ``embedder`` that returns one.

    Say which in a subclass:

        class TestMine(EmbedderConformance):
            @pytest.fixture
            def embedder(self):
                return MyEmbedder()
    """

    rounding = 1e-5
    """How far a text's vector may move with the batch that it is embedded in."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        raise NotImplementedError("give a fixture `embedder` that returns your embedder")

    def test_it_is_an_embedder(self, embedder: Embedder) -> None:
        embedder.embed(TEXTS[:1])  # some learn their dimension from the first vector
        assert isinstance(embedder, Embedder)
        assert isinstance(embedder.name, str)
        assert embedder.name
        assert embedder.dimension >= 1
        assert embedder.max_tokens is None or embedder.max_tokens >= 1

    @pytest.mark.parametrize("n", [1, 2, len(TEXTS)])
    def test_each_text_has_one_vector_of_length_one(self, embedder: Embedder, n: int) -> None:
        vectors = embedder.embed(TEXTS[:n])
        assert vectors.shape == (n, embedder.dimension)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(n), abs=1e-4)

    def test_a_text_has_one_vector_whatever_it_is_embedded_with(self, embedder: Embedder) -> None:
        together = embedder.embed(TEXTS)
        backwards = embedder.embed(TEXTS[::-1])[::-1]
        alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
        assert np.allclose(together, backwards, atol=self.rounding)
        assert np.allclose(together, alone, atol=self.rounding)

    def test_a_text_given_twice_has_the_same_vector_twice(self, embedder: Embedder) -> None:
        first, other, second = embedder.embed([TEXTS[0], TEXTS[1], TEXTS[0]])
        assert np.allclose(first, second, atol=self.rounding)
        assert not np.allclose(first, other, atol=self.rounding)

    def test_the_space_does_not_change(self, embedder: Embedder) -> None:
        embedder.embed(TEXTS[:1])
        before = embedder.name, embedder.dimension
        embedder.embed(TEXTS)
        assert (embedder.name, embedder.dimension) == before

    def test_the_texts_given_are_left_alone(self, embedder: Embedder) -> None:
        given = list(TEXTS)
        embedder.embed(given)
        assert given == list(TEXTS)

    @pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
    def test_an_odd_text_has_a_vector_or_is_refused(self, embedder: Embedder, text: str) -> None:
        try:
            (vector,) = embedder.embed([text])
        except EmbedderError:
            return
        assert np.isfinite(vector).all()
        assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-4)

    def test_threads_get_the_vectors_of_their_own_texts(self, embedder: Embedder) -> None:
        expected = embedder.embed(TEXTS)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: embedder.embed([TEXTS[i % len(TEXTS)]])[0], range(24)))
        for i, vector in enumerate(found):
            assert np.allclose(vector, expected[i % len(TEXTS)], atol=self.rounding)

    def test_what_it_says_of_a_texts_length_fits_what_it_reads(self, embedder: Embedder) -> None:
        count: Callable[[str], int] | None = getattr(embedder, "count_tokens", None)
        reads: Callable[[str], Any] | None = getattr(embedder, "reads", None)
        long = "word " * 5000
        if count is not None:
            assert 0 < count(TEXTS[0]) < count(long)
        if reads is not None:
            assert reads(TEXTS[0]) is True
            assert isinstance(reads(long), bool)
            if embedder.max_tokens is not None and embedder.max_tokens < len(long.split()):
                assert reads(long) is False


SAME_ANSWERS = (
    ("Restart the router, then wait two minutes.",) * 2,
    ("Restart the router, then wait two minutes.", "restart the router then wait two minutes"),
    ("  The museum opens at 9:30.\n", "The museum opens at 9:30."),
    ("Yes.", "yes"),
    ("パスワードを再設定してください。",) * 2,
)
"""Answers that say the same, and differ in spelling at most."""

OTHER_ANSWERS = (
    ("The museum opens at 9:30.", "The museum opens at 10:30."),
    ("The fare is 12 euros for adults.", "The fare is 21 euros for adults."),
    ("Yes, dogs are allowed in the park.", "No, dogs are not allowed in the park."),
    ("You may cancel the contract.", "You may not cancel the contract."),
    ("Paris", "Lisbon"),
    ("Open the settings and choose a new password.", "The capital of Portugal is Lisbon."),
    ("It was released on 2021-03-04.", "It was released on 2021-04-03."),
)
"""Answers of which a reader would learn different things."""

ODD_ANSWERS = ("", " \n", "?!", "🐈", "nul \0 inside", "lone \ud800 surrogate", "word " * 20_000)


class JudgeConformance:
    """What every judge does. Give a fixture ``judge`` that returns one.

    Say which in a subclass:

        class TestMine(JudgeConformance):
            @pytest.fixture
            def judge(self):
                return my_judge
    """

    @pytest.fixture
    def judge(self) -> Judge:
        raise NotImplementedError("give a fixture `judge` that returns your judge")

    @pytest.mark.parametrize(("one", "other"), SAME_ANSWERS)
    def test_answers_that_differ_in_spelling_are_never_judged_different(
        self, judge: Judge, one: str, other: str
    ) -> None:
        assert judge(Answer(one), Answer(other)) in (True, None)
        assert judge(Answer(other), Answer(one)) in (True, None)

    @pytest.mark.parametrize(("one", "other"), OTHER_ANSWERS)
    def test_answers_that_say_different_things_are_never_judged_the_same(
        self, judge: Judge, one: str, other: str
    ) -> None:
        assert judge(Answer(one), Answer(other)) in (False, None)
        assert judge(Answer(other), Answer(one)) in (False, None)

    def test_it_tells_some_answers_apart(self, judge: Judge) -> None:
        """A judge that never knows teaches nothing."""
        assert any(judge(Answer(one), Answer(other)) is True for one, other in SAME_ANSWERS)
        assert any(judge(Answer(one), Answer(other)) is False for one, other in OTHER_ANSWERS)

    @pytest.mark.parametrize("text", ODD_ANSWERS, ids=range(len(ODD_ANSWERS)))
    def test_any_text_gets_a_judgement(self, judge: Judge, text: str) -> None:
        for one, other in [(text, text), (text, "Paris"), ("Paris", text)]:
            found = judge(Answer(one), Answer(other))
            assert found is None or found is True or found is False
        assert judge(Answer(text), Answer(text)) is not False

    def test_the_answers_given_are_left_alone(self, judge: Judge) -> None:
        for one, other in (*SAME_ANSWERS, *OTHER_ANSWERS):
            given = Answer(one, usage={"input_tokens": 3}), Answer(other, model="gpt")
            before = deepcopy(given)
            judge(*given)
            assert given == before

    def test_it_judges_two_answers_the_same_way_again(self, judge: Judge) -> None:
        for one, other in (*SAME_ANSWERS, *OTHER_ANSWERS):
            first, again = (judge(Answer(one), Answer(other)) for _ in range(2))
            assert first is again


QUESTION = "How do I reset my password?"
CACHED_QUESTIONS = (
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
    Label(False, 0.5, evidence=(1.0,), unknown=True),
    Label(True, 0.5, evidence=(1.0,), truth=False, error=0.5),
    Label(False, 1.0, fair=False, truth=True),
)
"""As another policy, or an older version of this one, left them in the store."""


def candidates(*similarities: float) -> list[Candidate]:
    """Return candidates of these cosines, the nearest first, with differences as the guard sees."""
    guard = Guard()
    return [
        Candidate(
            similarity,
            guard.differences(QUESTION, CACHED_QUESTIONS[i % len(CACHED_QUESTIONS)]),
            CACHED_QUESTIONS[i % len(CACHED_QUESTIONS)],
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
    """What every policy does. Give a fixture ``policy`` that returns one.

    Say which in a subclass:

        class TestMine(PolicyConformance):
            @pytest.fixture
            def policy(self):
                return MyPolicy()
    """

    @pytest.fixture
    def policy(self) -> Policy:
        raise NotImplementedError("give a fixture `policy` that returns your policy")

    def grown(self, policy: Policy, labels: int, seed: int = 0) -> Any:
        """Return a state after some labels of the policy's own decisions."""
        rng, state = random.Random(seed), policy.initial_state()
        for _ in range(labels):
            given = candidates(*(rng.uniform(0.6, 1.0) for _ in range(policy.k)))
            label = label_of(policy.decide(QUESTION, given, state, rng), given, rng.random() < 0.9)
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
        decision = policy.decide(QUESTION, [], state, random.Random(0))
        assert isinstance(decision, Skip)
        assert decision.reason

    def test_it_chooses_one_of_the_candidates_or_none(self, policy: Policy, state: Any) -> None:
        rng = random.Random(1)
        for n in (1, 2, policy.k, policy.k + 5):
            for _ in range(20):
                given = candidates(*(rng.uniform(-1.0, 1.0) for _ in range(n)))
                decision = policy.decide(QUESTION, given, state, rng)
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
            decision = policy.decide(QUESTION, given, state, random.Random(seed))
            assert not isinstance(decision, Serve)

    @pytest.mark.parametrize("labels", [0, 60])
    def test_states_that_saw_the_same_decide_the_same(self, policy: Policy, labels: int) -> None:
        one, other = (self.grown(policy, labels, seed=2) for _ in range(2))
        for seed in range(20):
            given = candidates(*(random.Random(seed).uniform(0.5, 1.0) for _ in range(3)))
            first, second = (
                policy.decide(QUESTION, given, state, random.Random(seed)) for state in (one, other)
            )
            assert first == second

    def test_deciding_and_settling_teach_nothing(self, policy: Policy, state: Any) -> None:
        before = policy.describe(state)
        for seed in range(20):
            policy.decide(QUESTION, candidates(0.99, 0.9), state, random.Random(seed))
            policy.settle(state)
        assert policy.describe(state) == before

    def test_every_process_learns_the_same_from_one_log(self, policy: Policy) -> None:
        rng, state, log = random.Random(3), policy.initial_state(), []
        for _ in range(60):
            given = candidates(*(rng.uniform(0.6, 1.0) for _ in range(policy.k)))
            label = label_of(policy.decide(QUESTION, given, state, rng), given, rng.random() < 0.8)
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
                policy.decide(QUESTION, given, each, random.Random(seed)) for each in readers
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
        assert policy.decide(QUESTION, candidates(0.95), state, random.Random(0))

    def test_its_description_is_json_and_names_it(self, policy: Policy, state: Any) -> None:
        described = json.loads(json.dumps(policy.describe(state), allow_nan=False))
        assert isinstance(described["policy"], str)
        assert described["policy"]

    @pytest.mark.parametrize("embedder", ["all-MiniLM-L6-v2", "a model nobody knows", ""])
    def test_it_serves_the_cosines_of_any_embedder(self, policy: Policy, embedder: str) -> None:
        fitted = policy.for_embedder(embedder)
        assert fitted.k >= 1
        state = fitted.initial_state()
        decision = fitted.decide(QUESTION, candidates(0.9), state, random.Random(0))
        assert isinstance(decision, (Serve, Explore, Skip))
