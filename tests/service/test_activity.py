"""What happened lately: counted by every worker, seen as one, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.fernet import Fernet

from shared_core import Answer, Request, ResponseCache, Static
from shared_core.controls import LookupEvent
from shared_core.record import Hit, Tier
from shared_core.service.activity import (
    BINS,
    DAY_S,
    MAX_HITS,
    MAX_VERDICTS,
    ROWS_READ,
    Activity,
    Tally,
    Verdict,
    latency_bin,
    percentiles,
    similarity_bin,
)
from shared_core.stores import StoreError
from tests.fakes import Clock, FakeEmbedder

ASKED = "How do I reset my password, please?"
STORED = "How do I reset my password?"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def opened(
    url: str, activity: Activity, clock: Clock, **options: object
) -> Iterator[ResponseCache]:
    with ResponseCache.open(
        url,
        clock=clock,
        embedder=FakeEmbedder(),
        threshold=Static(0.8),
        hooks=(activity,),
        **options,
    ) as cache:
        activity.open(cache)
        try:
            yield cache
        finally:
            activity.close()


def ask(cache: ResponseCache, question: str) -> object:
    return cache.lookup(Request.of(question=question, model="m"))


def serve(cache: ResponseCache, activity: Activity) -> Hit:
    """Store an answer, and have it served to a question in other words."""
    cache.store(Request.of(question=STORED, model="m"), Answer("Click on it."))
    hit = ask(cache, ASKED)
    assert isinstance(hit, Hit)
    assert hit.tier is Tier.SEMANTIC
    activity.record_hit(ASKED, hit, "default")
    return hit


def totals(picture: dict[str, object]) -> dict[str, int]:
    minutes = picture["minutes"]
    assert isinstance(minutes, list)
    names = ("exact", "semantic", "explore", "miss")
    return {name: sum(one[name] for one in minutes) for name in names}


def test_lookups_are_counted_by_minute_and_tier(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        serve(cache, activity)
        ask(cache, STORED)
        clock.now += 60
        ask(cache, "Where is Paris?")
        picture = activity.picture()
    assert totals(picture) == {"exact": 1, "semantic": 1, "explore": 0, "miss": 1}
    assert [one["exact"] + one["semantic"] for one in picture["minutes"]] == [2, 0]
    first, second = picture["minutes"]
    assert second["time"] - first["time"] == 60
    assert first["time"] <= clock.now - 60 < first["time"] + 60


def test_what_is_older_than_a_day_is_gone(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        hit = serve(cache, activity)
        activity.record_verdict(hit.entry_id, True)
        activity.took("upstream", 0.5)
        clock.now += DAY_S - 120
        assert activity.picture()["recent"]
        clock.now += 3600 + 240
        picture = activity.picture()
    assert totals(picture) == dict.fromkeys(("exact", "semantic", "explore", "miss"), 0)
    assert picture["recent"] == []
    assert picture["parts"] == {}
    assert sum(picture["similarity"]["hit"]["bins"]) == 0


def test_similarities_are_counted_by_outcome_and_exact_hits_are_left_out(clock: Clock) -> None:
    activity = Activity(clock=clock)

    def tell(outcome: str, similarity: float, tier: Tier | None = None) -> None:
        activity(LookupEvent(outcome, "k", "default", "m", 0.1, tier, similarity=similarity))

    tell("hit", 1.0, Tier.EXACT)
    tell("hit", 0.99, Tier.SEMANTIC)
    tell("explore", 0.5)
    tell("explore", 0.524)
    tell("miss", 0.3)
    found = activity.picture()["similarity"]
    assert found["hit"] == {"bins": [0] * 19 + [1], "below": 0}
    assert found["explore"] == {"bins": [2] + [0] * 19, "below": 0}
    assert found["miss"] == {"bins": [0] * BINS, "below": 1}


@pytest.mark.parametrize(
    ("similarity", "number"), [(0.5, 0), (0.525, 1), (0.925, 17), (0.9749, 18), (1.0, 19)]
)
def test_a_similarity_is_counted_in_the_bin_that_begins_at_or_below_it(
    similarity: float, number: int
) -> None:
    assert similarity_bin(similarity) == number


def test_a_hit_by_meaning_is_shown_with_both_questions(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        hit = serve(cache, activity)
        (shown,) = activity.picture()["recent"]
    assert shown == {
        "entry_id": hit.entry_id,
        "namespace": "default",
        "asked": ASKED,
        "stored": STORED,
        "answer": "Click on it.",
        "similarity": round(hit.similarity, 4),
        "time": clock.now,
        "times": 1,
        "model": "",
        "verdict": None,
    }


def test_an_exact_hit_is_not_shown(clock: Clock) -> None:
    activity = Activity(clock=clock)
    activity.record_hit("q", Hit(Answer("a"), Tier.EXACT, 1.0, "0" * 64, 0.0), "default")
    assert activity.picture()["recent"] == []


def test_the_same_hit_again_is_one_row_that_counts(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        hit = serve(cache, activity)
        clock.now += 5
        activity.record_hit(ASKED, hit, "default")
        (shown,) = activity.picture()["recent"]
    assert (shown["times"], shown["time"]) == (2, clock.now)


def test_the_namespaces_in_use_are_known(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        ask(cache, "of the cache's own")
        clock.now += 1
        with cache.control(namespace="default:part"):
            ask(cache, "of a part")
        assert activity.picture()["namespaces"] == ["default:part", "default"]
        for number in range(500):
            clock.now += 1
            with cache.control(namespace=f"n{number:03}"):
                ask(cache, "of another")
        assert activity.picture()["namespaces"] == [
            f"n{number:03}" for number in range(499, 299, -1)
        ]


def test_of_another_tenant_nothing_is_shown_but_counts(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        serve(cache, activity)
        for tenant, shown in (("default", 1), ("defaul", 0), ("default:part", 0)):
            picture = activity.picture(tenant)
            assert len(picture["recent"]) == len(picture["namespaces"]) == shown
            assert totals(picture)["semantic"] == 1


def test_no_text_is_kept_where_questions_are_not_recorded(clock: Clock) -> None:
    activity = Activity(record_questions=False, clock=clock)
    with opened("memory://", activity, clock) as cache:
        serve(cache, activity)
        activity.flush()
        (shown,) = activity.picture()["recent"]
        rows = row_bodies(cache)
    assert (shown["asked"], shown["stored"], shown["answer"]) == (None, None, None)
    assert len(rows) == 1
    assert b"password" not in rows[0]
    assert b"Click" not in rows[0]


def row_bodies(cache: ResponseCache) -> list[bytes]:
    keys, _ = cache.values.scan("activity:")
    return list(cache.values.get_many(keys).values())


def test_rows_are_encrypted_when_the_cache_is(clock: Clock) -> None:
    activity, other = Activity(clock=clock), Activity(clock=clock)
    key = Fernet.generate_key()
    with opened("memory://", activity, clock, encryption_key=key) as cache:
        serve(cache, activity)
        activity.flush()
        (row,) = row_bodies(cache)
        other.open(cache)
        assert other.picture()["recent"][0]["asked"] == ASKED
    assert b"password" not in row
    assert b"semantic" not in row


def test_rows_that_cannot_be_read_are_passed_over(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        cache.values.put_many({"activity:default:other": b"not a row"})
        ask(cache, "anything")
        picture = activity.picture()
    assert totals(picture)["miss"] == 1
    assert picture["workers"] == 1


def test_several_workers_and_a_restart_are_seen_as_one(store_url: str, clock: Clock) -> None:
    first, second, third = (Activity(clock=clock) for _ in range(3))
    with opened(store_url, first, clock) as cache:
        hit = serve(cache, first)
        second.open(cache)
        second(LookupEvent("hit", "k", "default", "m", 0.1, Tier.EXACT))
        clock.now += 1
        second.record_hit(ASKED, hit, "default")
        second.record_verdict(hit.entry_id, False)
        for one in (first, second):
            one.close()
        third.open(cache)
        picture = third.picture()
    assert totals(picture) == {"exact": 1, "semantic": 1, "explore": 0, "miss": 0}
    assert picture["workers"] == 3
    assert picture["complete"] is True
    (shown,) = picture["recent"]
    assert (shown["times"], shown["verdict"], shown["stored"]) == (2, "wrong", STORED)


def test_the_last_verdict_counts_whoever_took_it(clock: Clock) -> None:
    first, second = Activity(clock=clock), Activity(clock=clock)
    with opened("memory://", first, clock) as cache:
        second.open(cache)
        hit = serve(cache, first)
        first.record_verdict(hit.entry_id, False)
        clock.now += 1
        second.record_verdict(hit.entry_id, True)
        first.flush()
        second.flush()
        assert [one.picture()["recent"][0]["verdict"] for one in (first, second)] == ["right"] * 2


def test_recent_hits_and_verdicts_are_bounded(clock: Clock) -> None:
    activity = Activity(clock=clock)
    for number in range(2000):
        entry_id = f"{number:064x}.{number:064x}.0.9000"
        hit = Hit(Answer("a" * 10_000), Tier.SEMANTIC, 0.9, entry_id, 1.0)
        activity.record_hit("q" * 100_000, hit, "default")
        activity.record_verdict(entry_id, True)
        activity.record_verdict("not an id", True)
        clock.now += 1
        if number % 40 == 0:
            activity.picture()
    recent = activity.picture()["recent"]
    assert len(recent) == MAX_HITS
    assert recent[0]["entry_id"].startswith(f"{1999:064x}")
    assert len(recent[0]["asked"]) == 1000
    assert len(recent[0]["answer"]) == 300
    tally = Tally()
    for number in range(2 * MAX_VERDICTS):
        tally.judge(f"{number}", Verdict(True, clock.now))
    assert len(tally.verdicts) == MAX_VERDICTS


def test_a_full_day_of_one_worker_is_a_row_of_bounded_size(clock: Clock) -> None:
    tally = Tally()
    for minute in range(3 * 24 * 60):
        for outcome in ("exact", "semantic", "explore", "miss"):
            tally.count(outcome, clock.now + 60 * minute)
        for similarity in range(40):
            tally.count_similarity("miss", similarity / 40, clock.now + 60 * minute)
        tally.count_latency("upstream", minute / 1000, clock.now + 60 * minute)
    tally.forget(clock.now + 3 * DAY_S)
    assert len(tally.minutes) <= 24 * 60 + 1
    assert len(tally.as_json()) < 120_000
    assert Tally.from_json(tally.as_json()) == tally


def test_rows_of_many_restarts_do_not_make_a_picture_endless(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        for _ in range(ROWS_READ + 50):
            other = Activity(clock=clock)
            other.open(cache)
            other.took("upstream", 1.0)
            other.close()
        picture = activity.picture()
    assert picture["workers"] == 1 + ROWS_READ


class Failing:
    """A store whose values fail while it is told so."""

    def __init__(self, store: object) -> None:
        self._store, self.fails = store, False

    def __getattr__(self, name: str) -> object:
        if self.fails and name in ("put_many", "scan", "get_many", "get"):
            return self._fail
        return getattr(self._store, name)

    @staticmethod
    def _fail(*_: object, **__: object) -> None:
        raise StoreError("it is down")


def test_a_failing_store_loses_nothing_but_the_others_part(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity, other = Activity(clock=clock), Activity(clock=clock)
    cache = ResponseCache.open("memory://", clock=clock, semantic=False, hooks=(activity,))
    store = Failing(cache.values)
    monkeypatch.setattr(ResponseCache, "values", store)
    with cache:
        activity.open(cache)
        other.open(cache)
        ask(cache, "one")
        other.took("upstream", 1.0)
        other.flush()
        store.fails = True
        ask(cache, "two")
        activity.flush()
        picture = activity.picture()
        assert totals(picture)["miss"] == 2
        assert (picture["workers"], picture["complete"]) == (1, False)
        assert cache.stats().errors["activity"] >= 2
        store.fails = False
        activity.flush()
        assert len(row_bodies(cache)) == 2
        assert totals(other.picture())["miss"] == 2


def test_a_row_is_written_by_the_thread_beside_the_requests(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_core.stats.PERIOD_S", 0.01)
    written = threading.Event()
    who: list[str] = []
    activity = Activity(clock=clock)
    cache = ResponseCache.open("memory://", clock=clock, semantic=False, hooks=(activity,))
    with cache:
        activity.open(cache)
        put_many = cache.values.put_many

        def put(items: dict[str, bytes], ttl: float | None = None) -> None:
            who.append(threading.current_thread().name)
            put_many(items, ttl)
            written.set()

        monkeypatch.setattr(cache.values, "put_many", put)
        ask(cache, "one")
        assert who == []
        assert written.wait(10)
        activity.close()
    assert who[0] == "tiered-cache"


def test_nothing_is_written_when_nothing_happened(clock: Clock) -> None:
    activity = Activity(clock=clock)
    with opened("memory://", activity, clock) as cache:
        ask(cache, "one")
        activity.flush()
        before = row_bodies(cache)
        cache.values.delete_many(cache.values.scan("activity:")[0])
        activity.flush()
        assert before
        assert row_bodies(cache) == []


def test_a_forked_child_counts_as_another_worker(clock: Clock) -> None:
    activity = Activity(clock=clock)
    activity.took("upstream", 1.0)
    activity.renew_after_fork()
    assert activity.picture()["parts"] == {}


def test_percentiles_are_true_to_a_tenth() -> None:
    tally = Tally()
    for number in range(1, 1001):
        tally.count_latency("upstream", number / 1000, 0)
    found = percentiles(tally.latencies[0]["upstream"])
    assert found == {
        "p50": pytest.approx(0.5, rel=0.1),
        "p90": pytest.approx(0.9, rel=0.1),
        "p99": pytest.approx(0.99, rel=0.1),
    }
    assert latency_bin(0.0) == 0


def test_counting_a_lookup_takes_microseconds(clock: Clock) -> None:
    import time

    activity = Activity(clock=clock)
    event = LookupEvent("miss", "k", "default", "m", 0.1, similarity=0.7)
    activity(event)
    took = []
    for _ in range(300):
        started = time.perf_counter()
        activity(event)
        took.append(time.perf_counter() - started)
    activity.close()
    assert sorted(took)[len(took) // 10] < 50e-6
