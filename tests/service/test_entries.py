"""Search among what is stored: by words and by meaning, bounded, within one namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_core import Answer, Request, ResponseCache, Static
from shared_core.record import Hit, Tier
from shared_core.service.dashboard import search
from tests.fakes import Clock, FakeEmbedder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(store_url: str, clock: Clock) -> Iterator[ResponseCache]:
    with ResponseCache.open(
        store_url, clock=clock, embedder=FakeEmbedder(), threshold=Static(0.8), timeout=5.0
    ) as opened:
        yield opened


def keep(cache: ResponseCache, clock: Clock, *questions: str) -> None:
    for question in questions:
        clock.now += 1
        request = Request.of(question=question, model="m", system=f"scope {len(question) % 3}")
        cache.store(request, Answer("a" * 1000), tags=("t",))


def questions(cache: ResponseCache, query: str, by: str = "words", limit: int = 50) -> list[str]:
    return [one.question for one in search(cache, query, by, limit).entries]  # type: ignore[arg-type]


def test_words_are_found_in_any_order_and_case_the_newest_first(
    cache: ResponseCache, clock: Clock
) -> None:
    keep(cache, clock, "Reset my password", "my PASSWORD, how do I reset it?", "Reset the clock")
    found = search(cache, "password Reset", "words", 50)
    assert [one.question for one in found.entries] == [
        "my PASSWORD, how do I reset it?",
        "Reset my password",
    ]
    assert (found.seen, found.complete) == (3, True)
    first = found.entries[0]
    assert (first.model, first.tags, first.created, len(first.answer)) == (
        "m",
        ("t",),
        pytest.approx(clock.now - 1),
        300,
    )
    assert first.similarity is None


def test_meaning_finds_the_nearest_first_across_scopes(cache: ResponseCache, clock: Clock) -> None:
    keep(cache, clock, "reset my password here", "reset password", "bake bread at home")
    found = search(cache, "reset password", "meaning", 50).entries
    assert [one.question for one in found] == ["reset password", "reset my password here"]
    assert [one.similarity for one in found] == [
        pytest.approx(1.0, abs=2e-3),
        pytest.approx(0.707, abs=0.01),
    ]


def test_the_entry_id_deletes_the_entry(cache: ResponseCache, clock: Clock) -> None:
    keep(cache, clock, "one", "two")
    (entry,) = search(cache, "one", "words", 50).entries
    assert cache.invalidate(entry_id=entry.entry_id) == 1
    assert questions(cache, "o") == ["two"]


def test_only_the_namespace_in_force_is_searched(cache: ResponseCache, clock: Clock) -> None:
    keep(cache, clock, "mine")
    with cache.control(namespace="other"):
        keep(cache, clock, "their mine")
        assert questions(cache, "mine") == ["their mine"]
    assert questions(cache, "mine") == ["mine"]


def test_a_limit_keeps_the_best_of_all(cache: ResponseCache, clock: Clock) -> None:
    keep(cache, clock, *(f"question {number}" for number in range(60)))
    found = search(cache, "question", "words", 3)
    assert [one.question for one in found.entries] == [
        "question 59",
        "question 58",
        "question 57",
    ]
    assert (found.seen, found.complete) == (60, False)


def test_what_stands_in_the_place_of_an_answer_is_no_entry(
    cache: ResponseCache, clock: Clock
) -> None:
    cache.store(Request.of(question="reset my password", model="m"), Answer("yes"))
    hit = cache.lookup(Request.of(question="please reset my password", model="m"))
    assert isinstance(hit, Hit)
    assert hit.tier is Tier.SEMANTIC
    cache.feedback(hit.entry_id, False)
    cache.get_or_compute("password", lambda: 1)
    assert questions(cache, "password") == ["reset my password"]


def test_a_search_ends_when_its_time_is_over(cache: ResponseCache, clock: Clock) -> None:
    keep(cache, clock, "one", "two")
    times = iter([0.0, 1.0, 99.0])
    found = search(cache, "o", "words", 50, clock=lambda: next(times))
    assert (found.seen, found.complete) == (1, False)


def test_meaning_finds_nothing_without_a_semantic_tier() -> None:
    with ResponseCache.open("memory://", semantic=False) as cache:
        cache.store(Request.of(question="one", model="m"), Answer("yes"))
        assert questions(cache, "one", "meaning") == []
        assert questions(cache, "one") == ["one"]


def test_encrypted_entries_are_found(tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    url = f"sqlite:///{tmp_path}/sealed.db"
    with ResponseCache.open(url, semantic=False, encryption_key=Fernet.generate_key()) as cache:
        cache.store(Request.of(question="one", model="m"), Answer("yes"))
        assert questions(cache, "one") == ["one"]


def test_a_store_that_fails_finds_nothing_and_says_so(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ResponseCache.open("memory://", semantic=False, clock=clock) as cache:
        keep(cache, clock, "one")

        def fail(*_: object) -> None:
            raise OSError

        monkeypatch.setattr(cache.values, "browse", fail)
        found = search(cache, "one", "words", 50)
        assert (found.entries, found.seen, found.complete) == ([], 0, False)
        assert cache.stats().errors == {"store": 1}
