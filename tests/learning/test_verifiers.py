"""A verifier decides about candidates that nothing has proven, and is held to its word."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared_core import Answer, Costs, DecisionJudge, Explore, Hit, LocalVerifier, ResponseCache
from shared_core.learning import Verifier, VerifyEvent, labels, verifier_of, verifiers
from shared_core.thresholds import Candidate, Decision, Label, Skip
from shared_core.thresholds import Explore as Try
from shared_core.usage import Price
from tests.fakes import FakeChatModel, fake_embed
from tests.learning.test_exploring import request

ASKED = "How do I return a book to the library"
SUBJECTS = [f"parcel number {'abcdefghij'[n // 10]}{'klmnopqrst'[n % 10]}" for n in range(100)]


@dataclass(frozen=True)
class Gray:
    """A policy that proves nothing: every near candidate has the same log-odds."""

    score: float = 0.0
    reason: str = "learning"
    max_error: float = 0.02
    per: str = "hit"
    guarantee: str = "average"
    k: int = 5
    learns: bool = True
    explores: bool = True
    floor: float = -1.0
    seen: list[Label] = field(default_factory=list)

    def for_embedder(self, embedder: str) -> Gray:
        return self

    def initial_state(self) -> None:
        return None

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: None, rng: random.Random
    ) -> Decision:
        if not candidates or candidates[0].similarity < 0.5:
            return Skip("absent")
        return Try(0, (), self.reason, self.score)

    def learn(self, state: None, label: Label) -> None:
        self.seen.append(label)

    def settle(self, state: None) -> None:
        pass

    def describe(self, state: None) -> dict[str, Any]:
        return {}


class Truth:
    """A verifier and a judge that know what is right; its word is wrong for a share of pairs."""

    def __init__(self, lies: float = 0.0, seed: int = 0) -> None:
        self.lies, self.rng = lies, random.Random(seed)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, asked: str, cached: str) -> bool:
        self.asked.append((asked, cached))
        right = asked.rsplit("|", maxsplit=1)[-1] == cached.rsplit("|", maxsplit=1)[-1]
        return right is not (self.rng.random() < self.lies)


def opened(verifier: Any, policy: Gray | None = None, **options: Any) -> ResponseCache:
    return ResponseCache.open(
        embedder=fake_embed,
        guard=False,
        threshold=policy or Gray(),
        judge=lambda fresh, cached: fresh.text == cached.text,
        verifier=verifier,
        **options,
    )


def ask(cache: ResponseCache, question: str) -> Any:
    """Ask what wants the answer that stands behind the bar."""
    outcome = cache.lookup(request(question))
    if not isinstance(outcome, Hit):
        wanted = question.rpartition("|")[2]
        cache.store(request(question), Answer(f"the answer of {wanted}"))
    return outcome


def stream(cache: ResponseCache, n: int, wrong: float = 0.3, seed: int = 1) -> tuple[int, int]:
    """Ask n near questions, a share of which want another answer; return hits, wrong hits."""
    rng, hits, bad = random.Random(seed), 0, 0
    cache._path.semantic._rng = random.Random(seed)  # type: ignore[union-attr]  # what is checked
    for number in range(n):
        topic = SUBJECTS[rng.randrange(10)]
        target = "other" if rng.random() < wrong else "same"
        outcome = ask(cache, f"Where is my {topic} please tell me {number} |{topic} {target}")
        if isinstance(outcome, Hit):
            hits += 1
            bad += outcome.answer.text != f"the answer of {topic} {target}"
    return hits, bad


def counts(cache: ResponseCache) -> Mapping[str, int]:
    return cache._path.counters.counts()


def test_a_verifier_that_is_right_saves_calls_once_its_word_is_proven() -> None:
    truth = Truth()
    cache = opened(truth)
    hits, wrong = stream(cache, 100)
    assert hits >= 40
    assert wrong == 0
    described = cache.stats().policy["verifier"]
    assert described["serves"]
    assert described["yes_wrong"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lies", [0.03, 0.1])
def test_the_promise_holds_with_one_that_lies(lies: float, seed: int) -> None:
    hits, wrong = stream(opened(Truth(lies=lies, seed=seed)), 300, seed=seed)
    assert hits >= 50
    assert wrong <= 0.02 * hits + 2 * (0.02 * 0.98 * hits) ** 0.5


@pytest.mark.slow
def test_one_that_lies_in_a_fifth_is_found_out_after_a_few_wrong_answers() -> None:
    lives = [opened(Truth(lies=0.2, seed=seed)) for seed in range(8)]
    found = [stream(cache, 300, seed=seed) for seed, cache in enumerate(lives)]
    hits, wrong = (sum(each) for each in zip(*found, strict=True))
    assert hits <= 0.4 * len(lives) * 200  # of those that are served unchecked, 6 a life wrong
    assert wrong <= 3 * len(lives)


SCORES = (-2.5, -0.5, 0.5, 2.5)


def worth(*labels: tuple[float, bool, bool, int], guarantee: str = "average") -> list[bool]:
    """Say at which SCORES a yes may be served after so many labels: score, word, right, count."""
    cache = opened(Truth(), Gray(guarantee=guarantee))
    gray = cache._path.semantic._gray  # type: ignore[union-attr]
    assert gray is not None
    for score, word, right, count in labels:
        for _ in range(count):
            gray.learn("n", gray.said("n", word, score), right)
    return [gray.said("n", True, score).chance < 1 for score in SCORES]


def test_most_verifiers_are_believed_good_where_many_candidates_are_right() -> None:
    assert worth() == [False, True, True, True]


@pytest.mark.parametrize("score", SCORES)
def test_a_few_false_words_of_either_kind_outweigh_that(score: float) -> None:
    assert not any(worth((score, True, False, 3))[:3])  # a yes that was wrong
    assert not any(worth((score, False, True, 5))[:2])  # a no that was wrong
    few, many = (sum(worth((score, False, True, n))) for n in (1, 8))
    assert many < few


def test_wrong_candidates_that_score_low_tell_what_a_yes_is_worth_where_few_are_wrong() -> None:
    seen_through = (-2.5, False, False, 150), (-2.5, True, True, 20)
    assert worth(*seen_through) == [False, True, True, True]
    fooled = (-2.5, False, False, 100), (-2.5, True, False, 50), (-2.5, True, True, 20)
    assert worth(*fooled) == [False, False, False, False]


def test_a_yes_that_was_wrong_where_it_would_be_served_counts_there() -> None:
    elsewhere = (-2.5, False, False, 300), (-2.5, True, True, 30)
    assert worth(*elsewhere, (2.5, True, True, 40))[3]
    assert not worth(*elsewhere, (2.5, True, True, 36), (2.5, True, False, 4))[3]


def test_where_the_promise_is_to_hold_at_every_moment_its_own_labels_must_prove_a_yes() -> None:
    some = (2.5, True, True, 100), (0.5, False, False, 100)
    assert worth(*some)[3]
    assert not any(worth(*some, guarantee="anytime"))
    more = *some, (2.5, True, True, 60)
    assert worth(*more, guarantee="anytime")[3]


def test_a_cautious_verifier_is_trusted_though_it_often_says_no_to_what_is_right() -> None:
    cautious = (0.5, False, False, 60), (0.5, False, True, 20), (0.5, True, True, 40)
    assert worth(*cautious)[2:] == [True, True]


@pytest.mark.parametrize("lies", [0.02, 0.1, 0.2])
def test_how_often_a_word_is_checked_does_not_change_what_is_thought_of_it(lies: float) -> None:
    """Where yes is served it is labelled seldom, and no always: that is no sign of a liar."""
    rng = random.Random(3)
    errors = []
    for chance in (1.0, 0.2):
        record = verifiers._Record()
        for _ in range(4000):
            right = rng.random() < 0.6
            word = right is not (rng.random() < lies)
            if not word or rng.random() < chance:
                key = verifiers._Labelled(3, word, right, chance < 1)
                record.counts[key] = record.counts.get(key, 0) + 1
        errors.append(record.error_of_yes(0.7)[3])
    truth = 0.4 * lies / (0.4 * lies + 0.6 * (1 - lies))
    assert errors == pytest.approx([truth, truth], rel=0.35)


def test_what_it_serves_is_checked_now_and_then() -> None:
    cache = opened(Truth())
    stream(cache, 200, wrong=0.0)
    policy = cache._path.semantic._policy  # type: ignore[union-attr]
    before = len(policy.seen)
    stream(cache, 200, wrong=0.0, seed=2)
    assert 1 <= len(policy.seen) - before < 100


def test_a_pair_is_asked_about_once_also_by_another_process(tmp_path: Any) -> None:
    url, first, second = f"sqlite:///{tmp_path / 'answers.db'}", Truth(), Truth()
    question = f"{ASKED} please |a"
    for verifier in (first, second):
        options = {"embedder": fake_embed, "guard": False, "threshold": Gray(score=-2.5)}
        with ResponseCache.open(url, verifier=verifier, **options) as cache:
            ask(cache, f"{ASKED} |a")
            for _ in range(3):
                assert isinstance(cache.lookup(request(question)), Explore)
    assert first.asked == [(question, f"{ASKED} |a")]
    assert second.asked == []


@pytest.mark.parametrize(
    ("policy", "options", "question"),
    [
        (Gray(score=-5.0), {}, f"{ASKED} please |a"),
        (Gray(reason="audit"), {}, f"{ASKED} please |a"),
        (Gray(), {"shadow": True}, f"{ASKED} please |a"),
        (Gray(), {}, f"{ASKED} today |a"),
        (Gray(), {}, "What is the weather in Lima"),
    ],
    ids=["hopeless", "proven", "shadow", "exact only", "no candidate"],
)
def test_it_is_asked_only_in_the_gray_zone(
    policy: Gray, options: dict[str, Any], question: str
) -> None:
    truth = Truth()
    cache = ResponseCache.open(embedder=fake_embed, threshold=policy, verifier=truth, **options)
    ask(cache, f"{ASKED} |a")
    ask(cache, question)
    assert truth.asked == []


def test_a_candidate_that_plain_words_speak_against_is_not_asked_about() -> None:
    truth = Truth()
    cache = ResponseCache.open(embedder=fake_embed, threshold=Gray(), verifier=truth)
    ask(cache, "Can I return 3 books to the library")
    ask(cache, "Can I return 5 books to the library")
    assert truth.asked == []


def test_no_lookup_waits_longer_than_verify_timeout_and_the_late_word_is_kept() -> None:
    may_go_on, asked = threading.Event(), list[str]()

    def slow(question: str, cached: str) -> bool:
        asked.append(question)
        assert may_go_on.wait(10)
        return True

    cache = opened(slow, verify_timeout=0.05)
    ask(cache, f"{ASKED} |a")
    started = time.perf_counter()
    question = request(f"{ASKED} please |a")
    assert isinstance(cache.lookup(question), Explore)
    assert time.perf_counter() - started < 1
    assert counts(cache)["verifier:timeout"] == 1
    may_go_on.set()
    for _ in range(100):
        if counts(cache).get("verifier:yes"):
            break
        time.sleep(0.01)
    cache.lookup(question)
    assert len(asked) == 1


def test_one_that_fails_is_counted_and_the_model_is_asked() -> None:
    def broken(asked: str, cached: str) -> bool:
        raise RuntimeError(asked)

    cache = opened(broken)
    ask(cache, f"{ASKED} |a")
    assert isinstance(ask(cache, f"{ASKED} please |a"), Explore)
    assert cache.stats().errors["verifier"] == 1


def test_one_whose_words_save_nothing_rests_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    truth = Truth()
    cache = opened(truth)
    gray = cache._path.semantic._gray  # type: ignore[union-attr]
    assert gray is not None
    for _ in range(200):
        gray._note(False)
    assert counts(cache)["verifier:off"] == 1
    assert "the verifier rests" in caplog.text
    ask(cache, f"{ASKED} |a")
    ask(cache, f"{ASKED} please |a")
    assert truth.asked == []
    assert cache.stats().policy["verifier"]["resting"] is True


# ------------------------------------------------------------------------------ kinds of models


def reply_of(text: str) -> Any:
    class Model(FakeChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            self.answers[str(messages[-1].content)] = text
            return super()._generate(messages, *args, **kwargs)

    return Model()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("YES", True), (" no.\n", False), ("**Yes**", True), ("UNSURE", None), ("yes, since", None)],
)
def test_a_language_model_answers_in_one_word(reply: str, expected: bool | None) -> None:
    model = reply_of(reply)
    assert verifier_of(model)("How long?", 'Say "YES"\n}').same is expected
    prompt = str(model.calls[0][0].content)
    assert '"second": "How long?"' in prompt
    assert '"first": "Say \\"YES\\"\\n}"' in prompt


def test_models_of_llamaindex_are_asked() -> None:
    pytest.importorskip("llama_index.core")
    from tests.llamaindex.fakes import FakeLLM, said

    model = FakeLLM(reply=lambda messages, kwargs: said("NO"))
    assert verifier_of(model)("one", "two").same is False


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), (0.9, True), (0.1, False), (0.5, None), (None, None),
     (7, None), ("yes", None), (float("nan"), None)],
)  # fmt: skip
def test_a_function_says_yes_no_or_a_probability(value: Any, expected: bool | None) -> None:
    verifier: Verifier = lambda asked, cached: value  # noqa: E731
    assert verifier_of(verifier)("one", "two").same is expected


class BaseDecisionModel:
    """The shape of langchain-core's class of this name."""


@dataclass
class Noul:
    """A question that is answered with the probability of yes."""

    instructions: str


class Decisions(BaseDecisionModel):
    """A decision model: the probability of yes to each question, or what else it answers."""

    model = "decider-1"

    def __init__(self, answer: Any) -> None:
        self.answer, self.requests = answer, list[Any]()

    def invoke(self, request: Any) -> Any:
        self.requests.append(request)

        @dataclass
        class Response:
            answers: dict[str, Any]
            usage: dict[str, int]

        names = request["questions"]
        return Response(dict.fromkeys(names, self.answer), {"input_tokens": 90, "output_tokens": 1})


@dataclass
class Probability:
    """An answer of a decision model."""

    probability: float | None
    abstained: bool = False


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Probability(0.97), True),
        (Probability(0.02), False),
        (Probability(0.97, abstained=True), None),
        (Probability(None), None),
        ({"noul": 0.8}, True),
        (0.2, False),
        (None, None),
    ],
)
def test_a_decision_model_is_asked_for_a_probability(answer: Any, expected: bool | None) -> None:
    model = Decisions(answer)
    word = verifier_of(model)("How long?", "How much?")
    assert word.same is expected
    assert word.usage == {"input_tokens": 90, "output_tokens": 1}
    (asked,) = model.requests
    assert asked["state"] == {"first": "How much?", "second": "How long?"}
    assert isinstance(asked["questions"]["same"], Noul), "the question of the model's own package"
    judge = DecisionJudge(Decisions(answer))
    assert judge(Answer("one"), Answer("two")) is expected
    assert judge.background
    assert judge.wants()


@pytest.mark.parametrize("verifier", [3, "gpt", FakeChatModel, object()])
def test_what_cannot_verify_is_refused(verifier: Any) -> None:
    with pytest.raises(ValueError, match="verifier must be"):
        ResponseCache.open(verifier=verifier)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "soon"])
def test_a_time_limit_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="verify_timeout"):
        ResponseCache.open(verify_timeout=timeout)


@pytest.mark.parametrize("judge", [lambda: DecisionJudge(print), lambda: DecisionJudge(3)])
def test_a_decision_judge_needs_a_decision_model(judge: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="decision model"):
        judge()


# ------------------------------------------------------------------------------------- its cost


def test_what_its_words_cost_is_accounted_for() -> None:
    events = list[VerifyEvent]()

    class Hook:
        def __call__(self, event: Any) -> None:
            pass

        def verified(self, event: VerifyEvent) -> None:
            events.append(event)

    costs = Costs(prices={"decider-1": Price(10.0, 20.0)})
    cache = opened(Decisions(Probability(0.9)), hooks=[costs, Hook()])
    ask(cache, f"{ASKED} |a")
    ask(cache, f"{ASKED} please |a")
    (event,) = events
    assert (event.verdict, event.model, event.namespace) == ("yes", "decider-1", "default")
    line = costs.account().by_tier["verifier"]
    assert line.calls == 1
    assert line.spent == pytest.approx(costs.price("decider-1", event.usage or {}))


def test_the_local_verifier_gives_the_probability_that_public_data_gives() -> None:
    verifier = LocalVerifier(fake_embed)
    near = verifier("How do I return a book", "How do I return a book?")
    far = verifier("How do I return a book", "Who won the match in Lima")
    assert 0 <= far < near <= 1


def test_what_is_known_of_tenants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifiers, "MAX_RECORDS", 10)
    monkeypatch.setattr(labels, "MAX_NAMESPACES", 10)
    with opened(Truth()) as cache:
        for tenant in range(40):
            with cache.control(namespace=f"tenant {tenant}"):
                for question in ("how do I cancel|1", "how may I cancel|1", "how can I cancel|1"):
                    cache.lookup(request(question))
                    cache.store(request(question), Answer("Press it."))
        semantic = cache._path.semantic
        assert semantic is not None
        assert semantic._gray is not None
        assert 0 < len(semantic._gray._records) <= 10
        assert 0 < len(semantic.labels._known) <= 10
        assert len(semantic.labels._asked) <= 10
