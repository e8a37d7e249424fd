"""What a question would hit, why not, and what people say of served pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from shared_core import (
    Answer,
    Explore,
    Feedback,
    Hit,
    Miss,
    Request,
    ResponseCache,
    Static,
    Verified,
    standalone,
)
from shared_core.cli import app, review
from shared_core.cli.review import Examiner, Inspection, Letter, review_file, review_store
from shared_core.guard import KINDS
from shared_core.record import EntryId
from shared_core.thresholds import Policy
from tests.fakes import FakeEmbedder

STORED = {
    "how do I cancel my order": "Press Cancel.",
    "can I return a book of 2024": "No.",
    "how do I turn on the lights": "Press On.",
}


def of(question: str, system: str = "shop") -> Request:
    return Request.of(question, model="m", system=system)


def opened(url: str, policy: Policy | float = 0.9, **options: Any) -> ResponseCache:
    return ResponseCache.open(url, threshold=policy, embedder=FakeEmbedder(), **options)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'answers.db'}"


def stored(url: str, policy: Policy | float = 0.9) -> str:
    with opened(url, policy) as cache:
        for question, answer in STORED.items():
            cache.store(of(question), Answer(answer))
        cache.store(of("who wrote it", "library"), Answer("Nobody knows."))
    return url


def inspected(
    url: str, question: str, policy: Policy | float | None = None, **more: Any
) -> Inspection:
    with Examiner(url, policy=policy, embedder=FakeEmbedder()) as examiner:
        return examiner.inspect(question, **more)


QUESTIONS = [
    "how do I cancel my order",
    "how do I cancel my order please",
    "can I return a book of 2025",
    "how do I turn off the lights",
    "where is the moon made of cheese",
    "what is the weather today",
    "wie kann ich meine Bestellung stornieren bitte",
    "word " * 60,
    "Context: something\n\nQuestion: what is it?",
]


@pytest.mark.parametrize(
    "policy", [Static(0.8), Static(0.99), Feedback(), Verified(), Verified(start="own")]
)
def test_an_inspection_says_what_a_lookup_then_does(policy: Policy, url: str) -> None:
    stored(url, policy)
    told = [inspected(url, question, policy) for question in QUESTIONS]
    with opened(url, policy) as cache:
        for question, found in zip(QUESTIONS, told, strict=True):
            outcome = cache.lookup(of(question))
            if isinstance(outcome, Hit):
                assert (found.outcome, found.tier, found.answer) == (
                    "hit",
                    str(outcome.tier),
                    outcome.answer.text,
                )
                assert found.similarity == pytest.approx(outcome.similarity, abs=1e-3)
            else:
                assert isinstance(outcome, (Explore, Miss))
                assert (found.outcome, found.tier) == ("miss", None)
                reasons = {found.reason, "absent" if found.reason == "learning" else found.reason}
                assert outcome.reason in reasons, question
            assert found.why.endswith(".")
            assert found.what_to_do
            assert list(found.lines())


def test_the_policy_is_the_one_that_the_cache_told_of(url: str) -> None:
    with opened(url, Static(0.77)) as cache:
        cache.lookup(of("a question"))
        cache.store(of("a question"), Answer("an answer"))
    assert inspected(url, "a question").policy["threshold"] == 0.77
    assert inspected(url, "a question", 0.5).policy["threshold"] == 0.5
    assert review.policy_of({"policy": "feedback"}) == Feedback()
    told = Verified(0.1, "request").describe(Verified().initial_state())
    assert review.policy_of(told) == Verified(0.1, "request")
    assert review.policy_of({"policy": "verified", "max_error": 7}) == Verified()


def test_neighbours_are_of_one_scope_and_say_what_sets_them_apart(url: str) -> None:
    stored(url)
    found = inspected(url, "can I return a book of 2025", 0.5)
    assert found.reason == "guard"
    assert "another date (2025, not 2024)" in found.why
    assert found.neighbours[0].question == "can I return a book of 2024"
    assert "who wrote it" not in [one.question for one in found.neighbours]
    assert (found.scopes, found.entries) == (2, 4)
    other = inspected(
        url, "who wrote it then", 0.5, scope=inspected(url, "who wrote it").scope or ""
    )
    assert [one.question for one in other.neighbours] == ["who wrote it"]
    assert inspected(url, "who wrote it", model="another").reason == "empty"


def test_what_feedback_took_back_is_said(url: str) -> None:
    stored(url, 0.8)
    asked = of("how do I cancel my order please")
    with opened(url, 0.8) as cache:
        hit = cache.lookup(asked)
        assert isinstance(hit, Hit)
        cache.feedback(hit.entry_id, False)
    found = inspected(url, asked.question or "", 0.8)
    assert (found.outcome, found.reason) == ("miss", "refused")
    assert found.neighbours[0].refused
    assert inspected(url, "please how do I cancel my order", 0.8).outcome == "hit"


def test_answers_of_another_embedder_are_named(url: str) -> None:
    stored(url)
    with Examiner(url, embedder=FakeEmbedder("other")) as examiner:
        assert examiner.inspect("how do I cancel").reason == "other_embedder"


def test_every_kind_of_difference_has_words() -> None:
    assert review._KINDS.keys() == KINDS


def test_an_inspection_changes_nothing(url: str, tmp_path: Path) -> None:
    stored(url)
    before = (tmp_path / "answers.db").read_bytes()
    inspected(url, "how do I cancel my order now please", 0.5)
    assert (tmp_path / "answers.db").read_bytes() == before


# ---------------------------------------------------------------------------------------- review


def verdicts(*letters: Letter) -> tuple[list[str], Any]:
    seen: list[str] = []
    said: Iterator[Letter] = iter(letters)

    def ask(text: str) -> Letter:
        seen.append(text)
        return next(said)

    return seen, ask


@pytest.fixture
def pairs(url: str) -> str:
    with opened(url, Feedback(initial=0.9, minimum=0.8)) as cache:
        for word in ("order", "parcel", "ticket"):
            with cache.control(read=False):
                cache.store(of(f"how do I cancel my {word}"), Answer(f"Cancel the {word}."))
                cache.store(
                    of(f"how do I cancel my {word} please"), Answer(f"Press Cancel {word}.")
                )
        cache.lookup(of("how do I cancel my order"))
    return url


def test_served_pairs_are_judged_once_and_the_policy_learns(pairs: str) -> None:
    def reviewed(ask: Any) -> review.Reviewed:
        policy = Feedback(initial=0.9, minimum=0.8)
        return review_store(pairs, ask, policy=policy, embedder=FakeEmbedder())

    seen, ask = verdicts("y", "n", "s")
    assert reviewed(ask) == review.Reviewed(1, 1, 1, 1)
    assert "asked:   how do I cancel my ticket please" in seen[0]
    assert "cached:  how do I cancel my ticket" in seen[0]
    assert "answer:  Cancel the ticket." in seen[0]
    assert "(model:  Press Cancel ticket.)" in seen[0]
    with opened(pairs, Feedback(initial=0.9, minimum=0.8)) as cache:
        policy = cache.stats().policy
        assert (policy["right"], policy["wrong"]) == (1, 1)
    seen, ask = verdicts("q")
    assert reviewed(ask) == review.Reviewed(0, 0, 0, 1)
    assert len(seen) == 1


def test_a_file_of_pairs_gets_its_labels_at_once(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text('question,cached,same,note\n"a, b",c,,x\nd,e,true,y\nf,g,,z\nh,i,,\n')

    def ask(text: str) -> Letter:
        if "asked:   f" in text:
            assert '"a, b",c,true,x' in file.read_text()
            return "n"
        return "y" if "a, b" in text else "q"

    assert review_file(file, ask) == review.Reviewed(1, 1, 0, 1)
    assert file.read_text().splitlines()[1:] == [
        '"a, b",c,true,x',
        "d,e,true,y",
        "f,g,false,z",
        "h,i,,",
    ]


class WithFake(Examiner):
    def __init__(self, url: str, namespace: str, policy: Any, embedder: Any) -> None:
        super().__init__(url, namespace, policy, FakeEmbedder())


def test_both_commands_speak_to_people_and_to_programs(
    pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "Examiner", WithFake)
    asked = "how do I cancel my parcel soon please"
    ran = CliRunner().invoke(app, ["inspect", pairs, asked, "--threshold", "0.8"])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("hit (semantic, similarity 0.")
    assert "static: threshold 0.8" in ran.stdout
    body = json.loads(CliRunner().invoke(app, ["inspect", pairs, asked, "--json"]).stdout)
    assert {
        *("question", "outcome", "tier", "reason", "why", "what_to_do", "answer", "similarity"),
        *("chance", "needed", "neighbours", "scope", "scopes", "entries", "policy"),
    } == body.keys()
    ran = CliRunner().invoke(
        app, ["review", pairs, "--threshold", "0.9", "--json"], input="huh?\ny\nN\n"
    )
    assert json.loads(ran.stdout) == {"right": 1, "wrong": 1, "skipped": 0, "left": 1}
    ran = CliRunner().invoke(app, ["review", pairs, "--threshold", "0.9"], input="s\n")
    assert ran.stdout == "0 right, 0 wrong, 1 skipped, 1 left to judge\n"


def test_rewritten_follow_ups_are_reviewed_as_their_kind_and_hit_nobody_exactly(url: str) -> None:
    texts = {
        "And for members?": "how do members cancel",
        "And members?": "how do members cancel it",
    }
    history = [
        {"role": "user", "content": "how do I cancel"},
        {"role": "assistant", "content": "."},
    ]

    def rewrite(prompt: str) -> str:
        return next(alone for asked, alone in texts.items() if asked in prompt)

    with opened(url, Static(0.5), history=standalone(rewrite)) as cache:
        for asked in texts:
            follow_up = Request.of(asked, model="m", system="shop", history=history)
            cache.lookup(follow_up)
            cache.store(follow_up, Answer("Press Leave."))
    with Examiner(url, policy=Static(0.5), embedder=FakeEmbedder()) as examiner:
        (pair,) = examiner.served_pairs()
        serving = EntryId.parse(pair.entry_id)
        assert serving is not None
        assert serving.rewritten
        assert examiner.inspect("how do members cancel").tier == "semantic"
