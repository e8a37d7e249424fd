"""Explored candidates: the model is asked, and its fresh answer labels them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared_core import Answer, Explore, Hit, Miss, Request, ResponseCache, StoreError
from shared_core.learning import AnswerJudge, Judge
from shared_core.thresholds import Candidate, Decision, Label, Serve, Skip
from shared_core.thresholds import Explore as Try
from tests.fakes import fake_embed

RETURNS = Answer("You can return the book within 30 days at any desk of the library.")
REWORDED = Answer("Sure! Within 30 days you can return the book, at any desk of the library.")
OTHER = Answer("Press the green button on the printer and wait for the lamp.")
ASKED = "How do I return a book to the library?"


def request(question: str) -> Request:
    return Request.of(question, model="m")


@dataclass(frozen=True)
class Probing:
    """A policy that explores what is near, and serves once it has seen enough right labels."""

    serve_after: int = 1000
    k: int = 5
    learns: bool = True
    explores: bool = True
    floor: float = -1.0
    seen: list[Label] = field(default_factory=list)

    def for_embedder(self, embedder: str) -> Probing:
        return self

    def initial_state(self) -> int:
        return 0

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: int, rng: random.Random
    ) -> Decision:
        if not candidates or candidates[0].similarity < 0.5:
            return Skip("learning")
        if state >= self.serve_after:
            return Serve(0, (1.0,), 0.75)
        return Try(0, (candidates[0].similarity, float(len(question))))

    def learn(self, state: int, label: Label) -> int:
        self.seen.append(label)
        return state + label.right

    def settle(self, state: int) -> None:
        pass

    def describe(self, state: int) -> dict[str, Any]:
        return {"right": state}


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ResponseCache]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'answers.db'}"
    return lambda **options: ResponseCache.open(url, embedder=fake_embed, **options)


def ask(cache: ResponseCache, question: str, fresh: Answer, wait: bool = True) -> Any:
    """Ask as an app does; and wait for what is judged when the answer is stored."""
    outcome = cache.lookup(request(question))
    if not isinstance(outcome, Hit):
        cache.store(request(question), fresh)
        if wait:
            wait_for_judge(cache)
    return outcome


def wait_for_judge(cache: ResponseCache) -> None:
    semantic = cache._path.semantic
    assert semantic is not None
    assert semantic._labeler.drain()


@pytest.mark.parametrize(("fresh", "right"), [(RETURNS, True), (REWORDED, True), (OTHER, False)])
def test_the_fresh_answer_labels_the_candidate(
    make: Callable[..., ResponseCache], fresh: Answer, right: bool
) -> None:
    policy = Probing()
    cache = make(threshold=policy)
    ask(cache, ASKED, RETURNS)
    outcome = ask(cache, ASKED + " Please!", fresh)
    assert isinstance(outcome, Explore)
    assert outcome.candidate.answer == RETURNS
    (label,) = policy.seen
    assert label.right is right
    assert label.evidence == (outcome.similarity, float(len(ASKED) + 8))
    assert cache.stats().explores == 1


@pytest.mark.parametrize("judge", [lambda fresh, cached: None, lambda fresh, cached: 1 / 0])
def test_a_judge_that_does_not_know_or_fails_teaches_nothing(
    make: Callable[..., ResponseCache], judge: Judge
) -> None:
    policy = Probing()
    cache = make(threshold=policy, judge=judge)
    ask(cache, ASKED, RETURNS)
    ask(cache, ASKED + " Please!", RETURNS)
    assert policy.seen == []
    assert isinstance(cache.lookup(request(ASKED + " Please!")), Hit)


def test_the_judge_is_given_the_fresh_and_the_cached_answer(
    make: Callable[..., ResponseCache],
) -> None:
    given: list[tuple[Answer, Answer]] = []

    def judge(fresh: Answer, cached: Answer) -> bool:
        given.append((fresh, cached))
        return False

    cache = make(threshold=Probing(), judge=judge)
    ask(cache, ASKED, RETURNS)
    ask(cache, ASKED + " Please!", OTHER)
    assert given == [(OTHER, RETURNS)]


def test_equal_answers_share_a_group_and_others_do_not(make: Callable[..., ResponseCache]) -> None:
    cache = make(threshold=Probing())
    first, second, third = ASKED, ASKED + " Please!", ASKED + " Now?"
    for question, answer in ((first, RETURNS), (second, REWORDED), (third, OTHER)):
        ask(cache, question, answer)
    keys = [request(question).address("default").key for question in (first, second, third)]
    groups = [record.group for record in map(cache._store.get, keys) if record is not None]
    assert groups[0] == groups[1] != groups[2]


def test_an_answer_in_the_very_words_of_another_is_of_its_group_wherever_it_was_given(
    make: Callable[..., ResponseCache],
) -> None:
    cache = make(threshold=Probing())
    asked = [request(text) for text in (ASKED, "Where do I sign up for the choir?")]
    for one in asked:
        cache.store(one, RETURNS)
    records = [cache._store.get(one.address("default").key) for one in asked]
    assert len({record.group for record in records if record is not None}) == 1


def test_an_answer_that_was_never_looked_up_labels_nothing(
    make: Callable[..., ResponseCache],
) -> None:
    policy = Probing()
    cache = make(threshold=policy)
    cache.store(request(ASKED), RETURNS)
    cache.store(request(ASKED + " Please!"), OTHER)
    assert policy.seen == []


def test_lookup_and_store_may_run_in_other_threads(make: Callable[..., ResponseCache]) -> None:
    policy = Probing()
    cache = make(threshold=policy)

    async def scene() -> None:
        for question in (ASKED, ASKED + " Please!"):
            await cache.alookup(request(question))
            await cache.astore(request(question), RETURNS)

    asyncio.run(scene())
    assert [label.right for label in policy.seen] == [True]


def test_what_was_learnt_is_in_effect_and_feedback_carries_the_score(
    make: Callable[..., ResponseCache],
) -> None:
    policy = Probing(serve_after=2)
    cache = make(threshold=policy)
    for ending in ("", " Please!", " Please!!"):
        ask(cache, ASKED + ending, RETURNS)
    served = ask(cache, ASKED + " Please?", RETURNS)
    assert isinstance(served, Hit)
    cache.feedback(served.entry_id, False)
    assert policy.seen[-1] == Label(False, pytest.approx(served.similarity, abs=1e-4), (), 0.75)
    assert not isinstance(cache.lookup(request(ASKED + " Please?")), Hit), "others say the same"


def test_a_question_served_by_meaning_is_asked_for_real_at_its_third_appearance(
    make: Callable[..., ResponseCache],
) -> None:
    cache = make(threshold=Probing(serve_after=0))
    ask(cache, ASKED, RETURNS)
    outcomes = [ask(cache, ASKED + " Please!", OTHER) for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Hit, Hit, Explore, Hit]
    assert outcomes[0].answer == RETURNS
    assert outcomes[3].answer == OTHER
    assert str(outcomes[3].tier) == "exact"


def test_in_shadow_nothing_is_served_by_meaning_but_all_is_learnt(
    make: Callable[..., ResponseCache],
) -> None:
    cache = make(threshold=0.8, shadow=True)
    ask(cache, ASKED, RETURNS)
    assert isinstance(ask(cache, ASKED + " Please!", RETURNS), Explore)
    assert isinstance(ask(cache, ASKED + " Please?!", OTHER), Hit | Explore | Miss)
    assert isinstance(ask(cache, ASKED, RETURNS), Hit)


def test_a_question_about_now_counts_as_a_request_and_is_matched_with_nothing(
    make: Callable[..., ResponseCache],
) -> None:
    seen: list[tuple[str, int]] = []

    class Counting(Probing):
        def decide(
            self, question: str, candidates: Sequence[Candidate], state: int, rng: random.Random
        ) -> Decision:
            seen.append((question, len(candidates)))
            return Skip("learning")

    cache = make(threshold=Counting())
    ask(cache, ASKED, RETURNS)
    ask(cache, "Is the library open today?", OTHER)
    outcome = cache.lookup(request("Is the library open today, please?"))
    assert isinstance(outcome, Miss)
    assert outcome.reason == "time"
    assert [count for _, count in seen] == [0, 0, 0]
    assert [question for question, _ in seen[1:]] == [
        "Is the library open today?",
        "Is the library open today, please?",
    ]


def test_what_others_learnt_comes_beside_the_requests(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    teacher, pupil = (
        ResponseCache.open(url, embedder=fake_embed, threshold=Probing(serve_after=1))
        for _ in range(2)
    )
    ask(teacher, ASKED, RETURNS)
    assert isinstance(pupil.lookup(request(ASKED + " Please!")), Explore)
    ask(teacher, ASKED + " Please, please!", RETURNS)
    assert isinstance(pupil.lookup(request(ASKED + " Please!")), Explore)  # waits for no news
    pupil.flush()  # as its own thread does every second
    assert isinstance(pupil.lookup(request(ASKED + " Please!")), Hit)


def test_a_question_about_now_is_a_miss_for_that_reason_while_the_state_cannot_be_read(
    make: Callable[..., ResponseCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make(threshold=Probing())
    ask(cache, ASKED, RETURNS)

    def fails(namespace: str) -> Any:
        raise StoreError("gone")

    assert cache._path.semantic is not None
    monkeypatch.setattr(cache._path.semantic.labels, "state", fails)
    outcome = cache.lookup(request("Is the library open today?"))
    assert isinstance(outcome, Miss)
    assert outcome.reason == "time"
    assert cache.stats().errors == {"store": 1}


class Taught(Probing):
    """One that learns from stored answers, too."""

    def examine(self, question: str, candidates: Sequence[Candidate], state: int) -> Try | None:
        near = bool(candidates) and candidates[0].similarity >= 0.5
        return Try(0, (candidates[0].similarity,), "taught") if near else None


def test_stored_answers_are_held_against_older_ones_once(
    make: Callable[..., ResponseCache],
) -> None:
    policy = Taught()
    cache = make(threshold=policy)
    answers = {ASKED: RETURNS, ASKED + " Please!": REWORDED, ASKED + " Or not?": OTHER}
    for question, answer in answers.items():
        cache.store(request(question), answer)
    cache.store(request("Where is the choir?"), OTHER)
    assert policy.seen == []
    assert cache.learn() == 2
    assert [(label.right, label.fair) for label in policy.seen] == [(True, False), (False, False)]
    assert cache.learn() == 0
    cache.store(request(ASKED + " Today?"), RETURNS)
    cache.store(request(ASKED + " Again?"), RETURNS)
    assert cache.learn() >= 1
    assert cache.stats().explores == 0


def test_only_the_newest_answers_are_gone_through(make: Callable[..., ResponseCache]) -> None:
    policy = Taught()
    cache = make(threshold=policy)
    for number in range(6):
        cache.store(request(ASKED + " Please!" * number), RETURNS)
    assert cache.learn(most=2) == 2
    assert cache.learn() == 0


def test_a_policy_that_is_not_taught_and_a_store_that_fails_learn_nothing(
    make: Callable[..., ResponseCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(threshold=0.9)
    plain.store(request(ASKED), RETURNS)
    assert plain.learn() == 0
    cache = make(threshold=Taught())
    cache.store(request(ASKED), RETURNS)

    def fails(*_: Any) -> Any:
        raise StoreError("gone")

    monkeypatch.setattr(cache._store, "browse", fails)
    assert cache.learn() == 0


def test_the_judges_error_on_right_answers_is_counted_on_questions_in_the_same_words() -> None:
    cache = ResponseCache.open(embedder=fake_embed, threshold=Probing())
    ask(cache, ASKED, RETURNS)
    ask(cache, ASKED.upper(), OTHER)
    ask(cache, f"{ASKED}!", REWORDED)
    ask(cache, f"{ASKED} Please!", OTHER)
    semantic = cache._path.semantic
    assert semantic is not None
    assert semantic.describe("default")["judge_on_same_words"] == {"different": 1, "same": 1}


@dataclass(frozen=True)
class Weighing(Probing):
    """A policy that is given what the judge did not know, and what measures it."""

    weighs_unknown: bool = True


def test_what_the_judge_does_not_know_and_says_of_the_same_words_reaches_a_policy_that_weighs_it(
    make: Callable[..., ResponseCache],
) -> None:
    policy, plain = Weighing(), Probing()
    for one in (policy, plain):
        cache = make(threshold=one, namespace=type(one).__name__)
        ask(cache, ASKED, RETURNS)
        ask(cache, ASKED + " Please!", Answer("A refund takes a while. Ask the shop about books."))
        ask(cache, ASKED.upper(), OTHER)
    assert plain.seen == [label for label in policy.seen if not label.unknown and label.evidence]
    unknown = [label for label in policy.seen if label.unknown]
    assert [label.evidence != () for label in unknown] == [True]
    assert [(label.right, label.truth) for label in policy.seen if label.truth is not None] == [
        (False, True)
    ]


def test_a_judge_that_was_given_no_embedder_uses_that_of_the_cache() -> None:
    free, bound, by_words = AnswerJudge(), AnswerJudge(fake_embed), AnswerJudge(False)
    for judge in (free, bound, by_words):
        cache = ResponseCache.open(embedder=fake_embed, threshold=Probing(), judge=judge)
        semantic = cache._path.semantic
        assert semantic is not None
        used = judge._vectors._memo if judge._vectors else None
        assert (used is semantic.reader.memo) is (judge is free)
    assert by_words._vectors is None


def test_a_better_judge_checks_a_sample_of_what_the_default_one_says(
    make: Callable[..., ResponseCache],
) -> None:
    class Better:
        asked = 0

        def wants(self) -> bool:
            self.asked += 1
            return self.asked % 2 == 1

        def __call__(self, fresh: Answer, cached: Answer) -> bool:
            return False

    policy, better = Weighing(), Better()
    cache = make(threshold=policy, judge=AnswerJudge(embedder=False, check=better))
    ask(cache, ASKED, RETURNS)
    for n, answer in enumerate((REWORDED, REWORDED, RETURNS)):
        ask(cache, ASKED + " Please" + "!" * n + f" {n} ", answer)
    said = [(label.right, label.truth, label.error > 0) for label in policy.seen]
    assert said == [(True, False, True), (True, None, True), (True, None, False)]
    with pytest.raises(ValueError, match="check"):
        AnswerJudge(check="gpt")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Choosy(Probing):
    """Serves at once, and raises at every label whose similarity it does not like."""

    serve_after: int = 0
    settles: bool = True

    def learn(self, state: int, label: Label) -> int:
        if label.similarity < 0.9:
            raise ZeroDivisionError("a policy of somebody's own")
        return super().learn(state, label)

    def settle(self, state: int) -> None:
        if not self.settles:
            raise KeyError("settle")


@pytest.mark.parametrize("settles", [True, False])
def test_a_label_that_a_policy_raises_at_is_passed_over_and_the_next_ones_count(
    tmp_path: Path, settles: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    liked = [number % 7 == 0 for number in range(24)]  # more raise in a row than open a breaker
    labels = [Label(True, 0.95 if one else 0.6, score=0.75) for one in liked]
    with ResponseCache.open(url, embedder=fake_embed, threshold=Choosy(settles=settles)) as cache:
        ask(cache, ASKED, RETURNS)
        semantic = cache._path.semantic
        assert semantic is not None
        for label in labels:
            semantic.labels.learn("default", label)
        assert semantic.labels.state("default") == sum(liked)
        assert cache.stats().errors["policy"] >= len(liked) - sum(liked)
        assert isinstance(cache.lookup(request("How can I return a book to the library?")), Hit)
    with ResponseCache.open(url, embedder=fake_embed, threshold=Choosy(settles=settles)) as other:
        assert isinstance(other.lookup(request("How can I return a book to the library?")), Hit)
        assert other._path.semantic is not None
        assert other._path.semantic.labels.state("default") == sum(liked)


@pytest.mark.parametrize("is_check", [False, True])
def test_a_judge_that_cannot_say_whether_it_is_wanted_costs_labels_alone(
    is_check: bool, make: Callable[..., ResponseCache]
) -> None:
    class Broken:
        background = True

        def wants(self) -> bool:
            raise OSError("the budget cannot be read")

        def __call__(self, fresh: Answer, cached: Answer) -> bool:
            return True

    judge = AnswerJudge(embedder=False, check=Broken()) if is_check else Broken()
    cache = make(threshold=Weighing(), judge=judge)
    ask(cache, ASKED, RETURNS)
    for n in range(3):
        ask(cache, f"{ASKED} Please {n}", Answer(f"{REWORDED.text} {n}"))
    assert cache._path.semantic is not None
    assert cache._path.semantic._labeler.drain(5), "the thread goes on"
    assert cache.stats().errors["judge"], "counted"
