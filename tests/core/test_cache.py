"""The cache on both embedded stores, blocking and awaited: the same cases for all four."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared_core import (
    Answer,
    Difference,
    Feedback,
    Guard,
    Hit,
    Miss,
    Request,
    ResponseCache,
    Static,
    StoreError,
)
from shared_core.controls import LookupEvent, StoreEvent
from tests.fakes import Clock, fake_embed

ASKED = "How do I reset my password?"
REPHRASED = "How do I reset my password please?"
OTHER = "Which planets have rings?"
ANSWER = Answer("Press the button.", usage={"input_tokens": 12, "output_tokens": 5})


def request(question: str = ASKED, **changes: Any) -> Request:
    return Request.of(question, **{"model": "gpt-4o-mini", "system": "Help.", **changes})


class Driver:
    """A cache whose every call goes through its blocking or its awaited form."""

    def __init__(self, cache: ResponseCache, awaited: bool) -> None:
        self.cache, self._awaited = cache, awaited

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self._awaited:
            return getattr(self.cache, name)
        twin = getattr(self.cache, "a" + name)
        return lambda *args, **kwargs: asyncio.run(twin(*args, **kwargs))


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'answers.db'}"


@pytest.fixture(params=["blocking", "awaited"])
def awaited(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "awaited")


@pytest.fixture
def make(url: str, awaited: bool) -> Iterator[Callable[..., Driver]]:
    made: list[ResponseCache] = []

    def open(**options: Any) -> Driver:
        # A busy machine may take longer than the default timeout, which would be a miss.
        options = {"embedder": fake_embed, "threshold": 0.8, "timeout": 5.0, **options}
        made.append(ResponseCache.open(url, **options))
        return Driver(made[-1], awaited)

    yield open
    for cache in made:
        cache.close()


@pytest.fixture
def driver(make: Callable[..., Driver]) -> Driver:
    return make()


def hit(driver: Driver, asked: Request) -> Hit:
    found = driver.lookup(asked)
    assert isinstance(found, Hit), found
    return found


def reason(driver: Driver, asked: Request) -> str:
    found = driver.lookup(asked)
    assert isinstance(found, Miss), found
    return found.reason


# -------------------------------------------------------------------------------------- tiers


def test_an_unknown_request_is_absent(driver: Driver) -> None:
    assert reason(driver, request()) == "new_scope"
    assert reason(driver, request()) == "absent"


def test_the_same_request_is_an_exact_hit(driver: Driver) -> None:
    entry_id = driver.store(request(), ANSWER)
    found = hit(driver, request())
    assert (found.answer, str(found.tier), found.similarity) == (ANSWER, "exact", 1.0)
    assert found.entry_id == entry_id
    assert 0 <= found.age < 60


def test_the_same_question_in_other_words_is_a_semantic_hit(driver: Driver) -> None:
    driver.store(request(), ANSWER)
    found = hit(driver, request(REPHRASED))
    assert (found.answer.text, str(found.tier)) == (ANSWER.text, "semantic")
    assert 0.8 <= found.similarity < 1


def test_another_question_is_below_the_threshold(driver: Driver) -> None:
    driver.store(request(), ANSWER)
    found = driver.lookup(request(OTHER))
    assert isinstance(found, Miss)
    assert found.reason == "threshold"
    assert found.similarity is not None
    assert found.similarity < 0.8


@pytest.mark.parametrize(
    "changes", [{"system": "Help!"}, {"model": "gpt-4o"}, {"params": {"seed": 1}}, {"context": 1}]
)
def test_another_scope_shares_nothing(driver: Driver, changes: dict[str, Any]) -> None:
    driver.store(request(), ANSWER)
    assert reason(driver, request(**changes)) == "new_scope"
    assert reason(driver, request(REPHRASED, **changes)) == "absent"


def test_a_question_that_differs_where_it_matters_is_refused(driver: Driver) -> None:
    driver.store(request("What was the revenue of the firm in 2024?"), ANSWER)
    assert reason(driver, request("What was the revenue of the firm in 2025?")) == "guard"


def test_without_a_guard_similarity_alone_decides(make: Callable[..., Driver]) -> None:
    driver = make(guard=False)
    driver.store(request("What was the revenue of the firm in 2024?"), ANSWER)
    assert hit(driver, request("What was the revenue of the firm in 2025?")).similarity > 0.8


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request(REPHRASED, params={"temperature": 0.5}), "temperature"),
        (request("What is the weather today?"), "time"),
        (request("Wo ist mein Paket?"), "language"),
        (Request.of(None, system="Help."), "not_user_text"),
        (request("  "), "not_user_text"),
        (Request("x", "{}", exact_only="multimodal"), "multimodal"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_only_matched_exactly_says_why(driver: Driver, asked: Request, why: str) -> None:
    assert reason(driver, asked) == why
    driver.store(asked, ANSWER)
    assert str(hit(driver, asked).tier) == "exact"


def test_a_guard_of_any_language_lets_other_languages_be_matched(
    make: Callable[..., Driver],
) -> None:
    driver = make(guard=Guard(any_language=True))
    driver.store(request("Wo ist mein Paket?"), ANSWER)
    assert str(hit(driver, request("wo ist mein Paket")).tier) == "semantic"


@pytest.mark.parametrize("finish_reason", ["length", "MAX_TOKENS", "content_filter"])
def test_an_answer_that_was_cut_off_is_kept_on_demand_for_the_same_request_alone(
    make: Callable[..., Driver], finish_reason: str
) -> None:
    driver = make(keep_cut=True)
    driver.store(request(), Answer("Press the", finish_reason=finish_reason))
    assert reason(driver, request(REPHRASED)) == "absent"
    assert hit(driver, request()).answer.text == "Press the"


def test_an_answer_in_a_framework_s_format_is_served_to_that_framework_alone(
    driver: Driver,
) -> None:
    driver.store(request(), Answer("…", payload="{}", format="one/1"))
    assert reason(driver, request()) == "format"
    assert reason(driver, request(REPHRASED)) == "absent"
    assert hit(driver, request(format="one/1")).answer.payload == "{}"
    assert hit(driver, request(REPHRASED, format="one/1")).answer.payload == "{}"


def test_a_request_without_identity_is_neither_read_nor_kept(driver: Driver) -> None:
    odd = Request("x", "{}", uncacheable="unstable")
    assert driver.store(odd, ANSWER) is None
    assert reason(driver, odd) == "unstable"


def test_semantic_false_never_calls_an_embedder(make: Callable[..., Driver]) -> None:
    def never(texts: list[str]) -> Any:
        raise AssertionError("called")

    driver = make(semantic=False, embedder=never)
    driver.store(request(), ANSWER)
    assert reason(driver, request(REPHRASED)) == "absent"
    assert hit(driver, request()).answer == ANSWER


def test_the_question_of_a_miss_is_embedded_once(make: Callable[..., Driver]) -> None:
    asked: list[str] = []

    def counting(texts: list[str]) -> Any:
        asked.extend(texts)
        return fake_embed(texts)

    driver = make(embedder=counting)
    driver.lookup(request())
    driver.store(request(), ANSWER)
    assert asked.count(ASKED) == 1


# ------------------------------------------------------------------------------- time and tags


def test_an_entry_lives_as_long_as_it_was_told_and_a_hit_does_not_extend_it(url: str) -> None:
    clock = Clock()
    with ResponseCache.open(url, embedder=fake_embed, ttl=10, clock=clock) as cache:
        cache.store(request(), ANSWER)
        clock.now += 9.9
        assert isinstance(cache.lookup(request()), Hit)
        clock.now += 0.2
        assert cache.lookup(request()) == Miss("absent")
        assert cache.lookup(request(REPHRASED)) == Miss("absent")
        cache.store(request(), ANSWER, ttl=math.inf)
        clock.now += 1e9
        assert isinstance(cache.lookup(request()), Hit)


def test_bump_makes_everything_under_a_tag_old(driver: Driver) -> None:
    driver.store(request(), ANSWER, tags=["docs", "v1"])
    driver.store(request(OTHER), ANSWER, tags=["else"])
    driver.cache.bump("docs")
    assert isinstance(driver.lookup(request()), Miss)
    assert isinstance(driver.lookup(request(REPHRASED)), Miss)
    assert hit(driver, request(OTHER))
    driver.store(request(), ANSWER, tags=["docs"])
    assert hit(driver, request())


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "forget",
    [
        lambda cache: cache.bump("docs"),
        lambda cache: cache.invalidate(tag="docs"),
        ResponseCache.clear,
    ],
    ids=["bump", "invalidate", "clear"],
)
def test_forgetting_where_no_tenant_is_named_warns_that_no_tenant_forgets(
    forget: Callable[[ResponseCache], object], required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with ResponseCache.open(semantic=False, namespace_required=required) as cache:
        with cache.control(namespace="alice"):
            cache.store(request(), ANSWER, tags=["docs"])
            cache.store(request(OTHER), ANSWER)
        forget(cache)
        warned = [record.getMessage() for record in caplog.records]
        assert len(warned) == required
        assert all("control(namespace=" in text for text in warned)
        with cache.control(namespace="alice"):
            assert isinstance(cache.lookup(request()), Hit)
            forget(cache)
            assert isinstance(cache.lookup(request()), Miss)
        assert len(caplog.records) == required


def _named(value: Any) -> str:
    """Name a case the same in every process: the order of a set is not."""
    return str(sorted(value) if isinstance(value, set) else value)[:30]


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({"model": "gpt-4o-mini"}, {"other model"}),
        ({"tag": "a"}, {"other model", "other scope"}),
        ({"tag": "a", "model": "gpt-4o"}, {"plain", "other model", "other scope"}),
        ({"scope": request()}, {"other model", "other scope"}),
        ({"older_than": 3600}, {"plain", "other model", "other scope"}),
        ({"older_than": -1}, set()),
        ({"entry_id": "made up"}, {"plain", "other model", "other scope"}),
        ({"similar_to": request(REPHRASED), "similarity": 0.8}, {"other model", "other scope"}),
        ({"similar_to": request(OTHER)}, {"plain", "other model", "other scope"}),
        ({"similar_to": request(), "tag": "b"}, {"plain", "other model", "other scope"}),
    ],
    ids=_named,
)
def test_invalidate_deletes_what_matches_and_counts_it(
    driver: Driver, which: dict[str, Any], left: set[str]
) -> None:
    entries = {
        "plain": request(),
        "other model": request(model="gpt-4o"),
        "other scope": request(system="Other."),
    }
    for name, entry in entries.items():
        driver.store(entry, ANSWER, tags=["a"] if name == "plain" else ["b"])
    assert driver.invalidate(**which) == len(entries) - len(left)
    assert {n for n, entry in entries.items() if isinstance(driver.lookup(entry), Hit)} == left


def test_invalidate_by_entry_id_deletes_one(driver: Driver) -> None:
    entry_id = driver.store(request(), ANSWER)
    driver.store(request(OTHER), ANSWER)
    assert driver.invalidate(entry_id=entry_id) == 1
    assert driver.invalidate(entry_id=entry_id) == 0
    assert hit(driver, request(OTHER))


def test_invalidate_of_nothing_in_particular_is_refused(driver: Driver) -> None:
    with pytest.raises(ValueError, match="clear"):
        driver.invalidate()


def test_clear_empties_one_namespace_and_keeps_what_was_learnt(make: Callable[..., Driver]) -> None:
    driver = make(threshold=Feedback(0.9))
    label(driver, 10, right=False)
    with driver.cache.control(namespace="other"):
        driver.store(request(), ANSWER)
    assert driver.clear() == 1 + 10  # the answer, and what it was refused to
    assert reason(driver, request()) == "absent"
    assert driver.cache.stats().policy["threshold"] == pytest.approx(0.91)
    assert driver.clear(learned=True) == 0
    assert driver.cache.stats().policy["threshold"] == pytest.approx(0.9)
    with driver.cache.control(namespace="other"):
        assert hit(driver, request())


# ------------------------------------------------------------------------------------ feedback


def label(driver: Driver, times: int, *, right: bool) -> None:
    """Serve a paraphrase again and again, each in new words, and say whether it was right."""
    driver.store(request(), ANSWER)
    for number in range(times):
        asked = request(f"{ASKED} {'please ' * (number % 2)}{'!' * number}?")
        found = driver.lookup(asked)
        assert isinstance(found, Hit), found
        assert str(found.tier) == "semantic"
        driver.feedback(found.entry_id, right)


def test_a_wrong_exact_answer_is_served_in_no_tier_until_it_is_stored_anew(driver: Driver) -> None:
    driver.store(request(), ANSWER)
    driver.feedback(hit(driver, request()).entry_id, False)
    assert reason(driver, request()) == "absent"
    assert reason(driver, request(REPHRASED)) == "absent"
    driver.store(request(), ANSWER)
    assert hit(driver, request())


def test_a_wrong_semantic_answer_is_refused_to_that_question_alone(driver: Driver) -> None:
    driver.store(request(), ANSWER)
    driver.feedback(hit(driver, request(REPHRASED)).entry_id, False)
    assert isinstance(driver.lookup(request(REPHRASED)), Miss)
    assert hit(driver, request())
    assert hit(driver, request(ASKED + " Please!"))
    driver.store(request(), Answer("Another answer."))
    assert hit(driver, request(REPHRASED)).answer.text == "Another answer."


def test_the_next_best_candidate_is_served_when_the_best_is_refused(driver: Driver) -> None:
    driver.store(request(), ANSWER)
    driver.store(request(ASKED + " Quick!"), Answer("second"))
    first = hit(driver, request(REPHRASED))
    assert first.answer == ANSWER
    driver.feedback(first.entry_id, False)
    assert hit(driver, request(REPHRASED)).answer.text == "second"


@pytest.mark.parametrize(
    "entry_id", ["", "nonsense", "0" * 64, "0" * 64 + "." + "1" * 64 + ".0.9000"]
)
def test_feedback_on_an_unknown_id_is_ignored(driver: Driver, entry_id: str) -> None:
    driver.feedback(entry_id, False)
    driver.feedback(entry_id, True)
    assert driver.cache.stats().errors == {}


def test_feedback_moves_the_threshold_from_the_tenth_label_on(make: Callable[..., Driver]) -> None:
    driver = make(threshold=Feedback(initial=0.9, minimum=0.85, maximum=0.92))
    label(driver, 9, right=True)
    assert driver.cache.stats().policy["threshold"] == pytest.approx(0.9)
    label(driver, 1, right=True)
    assert driver.cache.stats().policy["threshold"] == pytest.approx(0.89)
    stats = driver.cache.stats()
    assert (stats.labels, stats.error_per_hit) == (10, 0.0)
    assert stats.error_interval[1] == pytest.approx(0.278, abs=0.01)


def test_labels_reach_another_open_cache_and_outlive_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    policy = Feedback(initial=0.9, minimum=0.85)
    with (
        ResponseCache.open(url, embedder=fake_embed, threshold=policy) as one,
        ResponseCache.open(url, embedder=fake_embed, threshold=policy) as two,
    ):
        label(Driver(one, False), 12, right=True)
        assert one.stats().policy["threshold"] == pytest.approx(0.87)
        assert two.stats().policy["threshold"] == pytest.approx(0.87)
    with ResponseCache.open(url, embedder=fake_embed, threshold=policy) as third:
        assert third.stats().policy["threshold"] == pytest.approx(0.87)


# -------------------------------------------------------------------------- control and sight


def test_control_says_what_one_call_may_do(driver: Driver) -> None:
    cache = driver.cache
    with cache.control(write=False):
        assert driver.store(request(), ANSWER) is None
    driver.store(request(), ANSWER)
    with cache.control(read=False):
        assert reason(driver, request()) == "bypassed"
    with cache.control(namespace="tenant"):
        assert reason(driver, request()) == "new_scope"
        driver.store(request(), Answer("theirs"), tags=["x"])
        with cache.control(tags=["y"]):
            assert hit(driver, request()).answer == ANSWER
        assert hit(driver, request()).answer.text == "theirs"
    with cache.control(namespace=""):
        assert reason(driver, request()) == "namespace"
        assert driver.store(request(), ANSWER) is None
    assert hit(driver, request()).answer == ANSWER


def test_control_of_one_cache_is_not_that_of_another(make: Callable[..., Driver]) -> None:
    one, two = make(), make()
    two.store(request(), ANSWER)
    with one.cache.control(read=False):
        assert hit(two, request())


def test_trace_and_hooks_see_how_a_lookup_ended(make: Callable[..., Driver]) -> None:
    seen: list[LookupEvent] = []

    def broken(event: LookupEvent) -> None:
        raise RuntimeError("a hook of the user's")

    driver = make(hooks=[broken, seen.append])
    with driver.cache.trace() as trace:
        driver.lookup(request())
        entry_id = driver.store(request(), ANSWER)
        driver.lookup(request())
    driver.lookup(request(OTHER))
    missed, stored, found = trace.events
    assert isinstance(missed, LookupEvent)
    assert isinstance(stored, StoreEvent)
    assert isinstance(found, LookupEvent)
    assert (missed.outcome, missed.reason, found.outcome) == ("miss", "new_scope", "hit")
    assert stored.entry_id == found.entry_id == entry_id
    assert found.usage == ANSWER.usage
    assert ASKED not in repr(trace.events)
    assert [event.outcome for event in seen] == ["miss", "hit", "miss"]
    assert driver.cache.stats().errors == {"hook": 3}


def test_stats_add_up(driver: Driver) -> None:
    driver.lookup(request())
    driver.store(request(), ANSWER)
    for asked in (request(), request(), request(REPHRASED), request(OTHER)):
        driver.lookup(asked)
    stats = driver.cache.stats()
    assert (stats.lookups, stats.hits, stats.stores) == (5, 3, 1)
    assert stats.hits_by_tier == {"exact": 2, "semantic": 1}
    assert stats.rates_by_tier == {"exact": 0.4, "semantic": 0.2}
    assert stats.hit_rate == 0.6
    assert stats.misses == {"new_scope": 1, "threshold": 1}
    assert stats.tokens_saved == {"input_tokens": 36, "output_tokens": 15}
    assert stats.latency["exact"]["p50"] > 0
    assert stats.breakers == {"store": "closed", "embedder": "closed"}
    assert stats.policy == {"policy": "static", "threshold": 0.8}


def test_stats_of_all_add_up_what_every_object_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with (
        ResponseCache.open(url, semantic=False) as one,
        ResponseCache.open(url, semantic=False) as two,
        ResponseCache.open(url, semantic=False, namespace="else") as other,
    ):
        one.store(request(), ANSWER)
        for cache in (one, two, two, other):
            cache.lookup(request())
        two.flush()
        other.flush()
        assert one.stats(all=True).hits_by_tier["exact"] == 3
        assert one.stats().hits_by_tier["exact"] == 1
    with ResponseCache.open(url, semantic=False) as later:
        assert later.stats(all=True).lookups == 3


# ------------------------------------------------------------------------------ get or compute


def test_answer_asks_the_model_once_and_then_never(driver: Driver) -> None:
    calls: list[int] = []

    def model() -> Answer:
        calls.append(1)
        return ANSWER

    assert driver.answer(request(), model) == ANSWER
    assert driver.answer(request(), model) == ANSWER
    assert driver.answer(request(REPHRASED), model) == ANSWER
    assert len(calls) == 1
    assert driver.answer(request(), model, read=False) == ANSWER
    assert len(calls) == 2


def test_controls_of_an_answer_change_only_what_they_name(driver: Driver) -> None:
    with driver.cache.control(namespace="tenant"):
        driver.answer(request(), lambda: "theirs")
        driver.answer(request(OTHER), lambda: "kept for all", write=False)
    assert reason(driver, request()) == "new_scope"
    with driver.cache.control(namespace="tenant"):
        assert hit(driver, request()).answer.text == "theirs"
        assert isinstance(driver.lookup(request(OTHER)), Miss)


def test_answer_takes_a_model_that_wants_the_request_and_returns_text(driver: Driver) -> None:
    assert driver.answer(request(), lambda asked: asked.question.upper()).text == ASKED.upper()


def test_answer_takes_a_coroutine_function() -> None:
    async def model(asked: Request) -> str:
        await asyncio.sleep(0)
        return "later"

    cache = ResponseCache.open(semantic=False)
    assert asyncio.run(cache.aanswer(request(), model)).text == "later"
    with pytest.raises(TypeError, match="async"):
        cache.answer(request(OTHER), model)


def test_what_the_model_raises_is_raised_and_nothing_is_kept(driver: Driver) -> None:
    def broken() -> Answer:
        raise RuntimeError("no credit")

    with pytest.raises(RuntimeError, match="no credit"):
        driver.answer(request(), broken)
    assert driver.answer(request(), lambda: ANSWER) == ANSWER


def test_get_or_compute_keeps_any_json_value(driver: Driver) -> None:
    calls: list[int] = []

    def compute() -> Any:
        calls.append(1)
        return {"rows": [1, 2.5, None], "name": "ü"}

    first = driver.get_or_compute("report:1", compute, tags=["reports"])
    assert first == ({"rows": [1, 2.5, None], "name": "ü"}, True)
    assert driver.get_or_compute("report:1", compute) == (first[0], False)
    first[0]["rows"].clear()
    assert driver.get_or_compute("report:1", compute)[0]["rows"] == [1, 2.5, None]
    driver.cache.bump("reports")
    assert driver.get_or_compute("report:1", compute)[1]
    assert driver.get_or_compute("none", lambda: None) == (None, True)
    assert driver.get_or_compute("none", lambda: 1) == (None, False)
    assert driver.invalidate(key_prefix="report:") == 1
    assert driver.get_or_compute("report:1", compute)[1]
    with driver.cache.control(namespace="else"):
        assert driver.get_or_compute("report:1", compute)[1]


def test_get_or_compute_heeds_what_control_says(driver: Driver) -> None:
    control = driver.cache.control
    driver.get_or_compute("k", lambda: 1)
    with control(read=False):
        assert driver.get_or_compute("k", lambda: 2) == (2, True)
    with control(write=False):
        driver.get_or_compute("unkept", lambda: 1)
    assert driver.get_or_compute("unkept", lambda: 2) == (2, True)
    with control(tags=["t"]):
        driver.get_or_compute("tagged", lambda: 1)
    driver.cache.bump("t")
    assert driver.get_or_compute("tagged", lambda: 2) == (2, True)
    with control(namespace=""):
        driver.get_or_compute("nobody's", lambda: 1)
        assert driver.get_or_compute("nobody's", lambda: 2) == (2, True)


def test_who_asks_for_its_own_key_while_computing_it_does_not_wait_for_itself(
    driver: Driver,
) -> None:
    inner = driver.cache

    def nested() -> Any:
        return inner.get_or_compute("k", lambda: "inner")[0]

    assert driver.get_or_compute("k", nested) == ("inner", True)


def test_get_or_compute_refuses_what_it_cannot_keep(driver: Driver) -> None:
    with pytest.raises(TypeError, match="object"):
        driver.get_or_compute("x", object)
    with pytest.raises(ValueError, match="key"):
        driver.get_or_compute("", lambda: 1)


def test_thirty_threads_that_ask_the_same_make_one_call(url: str) -> None:
    calls: list[int] = []
    everyone_waits = threading.Event()

    def model() -> Answer:
        calls.append(1)
        everyone_waits.wait(5)
        return ANSWER

    with ResponseCache.open(url, semantic=False) as cache:
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(cache.answer(request(), model)))
            for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        everyone_waits.set()
        for thread in threads:
            thread.join(10)
        assert answers == [ANSWER] * 30
        assert len(calls) == 1


def test_two_hundred_tasks_that_ask_the_same_make_one_call(url: str) -> None:
    calls: list[int] = []

    async def model() -> Answer:
        calls.append(1)
        await asyncio.sleep(0.05)
        return ANSWER

    async def ask() -> list[Answer]:
        return await asyncio.gather(*(cache.aanswer(request(), model) for _ in range(200)))

    with ResponseCache.open(url, semantic=False) as cache:
        assert asyncio.run(ask()) == [ANSWER] * 200
    assert len(calls) == 1


def test_a_cancelled_leader_leaves_its_followers_to_ask_for_themselves() -> None:
    calls: list[str] = []

    async def slow() -> str:
        calls.append("slow")
        await asyncio.sleep(30)
        return "never"

    async def quick() -> str:
        calls.append("quick")
        return "own"

    async def scene() -> str:
        leader = asyncio.create_task(cache.aanswer(request(), slow))
        while not calls:
            await asyncio.sleep(0)
        follower = asyncio.create_task(cache.aanswer(request(), quick))
        await asyncio.sleep(0.05)
        leader.cancel()
        return (await follower).text

    cache = ResponseCache.open(semantic=False)
    assert asyncio.run(scene()) == "own"
    assert calls == ["slow", "quick"]


def test_a_follower_waits_no_longer_than_the_lease() -> None:
    cache = ResponseCache.open(semantic=False, lease=0.05)
    release = threading.Event()
    started = threading.Event()

    def slow() -> str:
        started.set()
        release.wait(10)
        return "late"

    leader = threading.Thread(target=cache.answer, args=(request(), slow))
    leader.start()
    started.wait(5)
    assert cache.answer(request(), lambda: "own").text == "own"
    release.set()
    leader.join(10)


# ------------------------------------------------------------------------------ never breaks


class Broken:
    """A store of which every method fails, until it is mended."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.broken, self.calls = inner, True, 0

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.broken:
                raise StoreError("the disk is gone")
            return getattr(self.inner, name)(*args, **kwargs)

        return call


def test_a_store_that_fails_is_a_miss_everywhere(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    cache = driver.cache
    store = Broken(cache._store)
    cache._store = cache._path._store = store  # type: ignore[assignment]
    cache._path.semantic._store = store  # type: ignore[union-attr, assignment]
    assert reason(driver, request()) == "store"
    assert driver.store(request(), ANSWER) is None
    assert driver.answer(request(), lambda: ANSWER) == ANSWER
    assert driver.get_or_compute("k", lambda: 1) == (1, True)
    assert driver.invalidate(tag="x") == 0
    assert driver.clear(learned=True) == 0
    driver.feedback("0" * 64, False)
    cache.bump("x")
    assert driver.cache.stats().errors["store"] >= 5
    assert cache.stats().breakers["store"] == "open"
    calls = store.calls
    assert reason(driver, request()) == "store"
    assert store.calls == calls
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    store.broken = False
    cache._path.breaker._try_probe()  # instead of waiting until its thread does
    driver.store(request(), ANSWER)
    assert hit(driver, request())
    assert cache.stats().breakers["store"] == "closed"


def test_an_embedder_that_fails_leaves_the_exact_tier(
    make: Callable[..., Driver], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(texts: list[str]) -> Any:
        raise RuntimeError("out of memory")

    driver = make(embedder=broken)
    assert reason(driver, request()) == "embedder"
    driver.store(request(), ANSWER)
    assert hit(driver, request())
    assert reason(driver, request(REPHRASED)) == "embedder"
    assert driver.cache.stats().errors["embedder"] >= 1
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_no_log_above_debug_holds_what_an_error_of_others_says(
    make: Callable[..., Driver], caplog: pytest.LogCaptureFixture
) -> None:
    def knows_no_text(texts: list[str]) -> Any:
        raise KeyError(texts[0])

    with caplog.at_level("INFO"):
        assert reason(make(embedder=knows_no_text), request()) == "embedder"
    assert "KeyError" in caplog.text
    assert "password" not in caplog.text


class BrokenGuard(Guard):
    def differences(self, asked: str, cached: str) -> tuple[Difference, ...]:
        raise RuntimeError("a guard of the user's")


@dataclass(frozen=True)
class BrokenPolicy(Static):
    def decide(self, *_: Any) -> Any:
        raise RuntimeError("a policy of the user's")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"guard": BrokenGuard()}, "guard"), ({"threshold": BrokenPolicy()}, "policy")],
    ids=["guard", "policy"],
)
def test_a_guard_or_policy_that_raises_is_a_miss(
    make: Callable[..., Driver], options: dict[str, Any], why: str
) -> None:
    driver = make(**options)
    driver.store(request(), ANSWER)
    assert reason(driver, request(REPHRASED)) == why
    assert driver.cache.stats().errors == {why: 1}
    assert hit(driver, request())


def test_the_right_neighbour_is_found_behind_many_that_differ(make: Callable[..., Driver]) -> None:
    driver = make(threshold=0.5)
    driver.store(request("What did the firm earn in the year 2024?"), ANSWER)
    for year in range(2001, 2021):
        driver.store(request(f"What did the firm earn in {year} ?"), Answer(str(year)))
    assert hit(driver, request("What did the firm earn in 2024?")).answer == ANSWER


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"lease": math.inf}, "lease"),
        ({"timeout": math.inf}, "timeout"),
        ({"threshold": Static}, "threshold"),
        ({"guard": Guard}, "guard"),
        ({"hooks": 3}, "hooks"),
        ({"threshold": 1.5}, "1.5"),
        ({"threshold": -0.1}, "-0.1"),
        ({"threshold": "high"}, "high"),
        ({"threshold": True}, "True"),
        ({"threshold": math.nan}, "nan"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": "1h"}, "1h"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"lease": 0}, "lease"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_entries": 1.5}, "max_entries"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": None}, "namespace"),
        ({"treshold": 0.9}, "threshold"),
        ({"maxentries": 5}, "max_entries"),
        ({"load": "eager"}, "background"),
        ({"hit_usage": "drop"}, "keep"),
        ({"semantic": "yes"}, "semantic"),
        ({"guard": 5}, "guard"),
        ({"hooks": [1]}, "hooks"),
        ({"encryption_key": "short"}, "Fernet"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        ResponseCache.open("memory://", **options)


@pytest.mark.parametrize(
    "url", ["", "memory", "mongodb://x", "sqlite://", "sqlite:///", "://", None]
)
def test_a_wrong_url_is_named_with_its_remedy(url: str) -> None:
    with pytest.raises(ValueError, match="memory://"):
        ResponseCache.open(url)


@pytest.mark.parametrize("tags", ["docs", [""], [1]])
def test_a_wrong_tag_is_refused(driver: Driver, tags: Any) -> None:
    with pytest.raises(ValueError, match="tag"):
        driver.store(request(), ANSWER, tags=tags)


def test_durations_may_be_timedeltas() -> None:
    options = ResponseCache.open(lease=timedelta(seconds=5), timeout=timedelta(seconds=1)).options
    assert (options.lease, options.timeout) == (5.0, 1.0)


def test_a_float_means_static_and_a_policy_is_itself() -> None:
    assert ResponseCache.open(threshold=0.97).options.policy == Static(0.97)
    assert ResponseCache.open(threshold=Feedback()).options.policy == Feedback()


def test_question_and_answer_are_unreadable_at_rest_with_a_key(tmp_path: Path) -> None:
    from cryptography.fernet import Fernet

    url, secret = f"sqlite:///{tmp_path / 'sealed.db'}", Fernet.generate_key()
    with ResponseCache.open(url, embedder=fake_embed, encryption_key=secret) as cache:
        cache.store(request(), ANSWER)
        assert isinstance(cache.lookup(request()), Hit)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"password" not in files
    assert b"button" not in files
    other = Fernet.generate_key()
    for options in ({}, {"encryption_key": other}):
        with ResponseCache.open(url, embedder=fake_embed, threshold=0.8, **options) as stranger:
            assert isinstance(stranger.lookup(request()), Miss)
            assert isinstance(stranger.lookup(request(REPHRASED)), Miss)
            stranger.store(request(), Answer("not theirs"))
            stranger.clear()
    with ResponseCache.open(url, embedder=fake_embed, encryption_key=secret) as cache:
        assert hit(Driver(cache, False), request()).answer == ANSWER
        with cache.trace() as trace:
            cache.lookup(request())
        assert trace.events[0].namespace == "default"
