"""Entries whose time is over: given by ``answer`` while one refresh runs, by nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared_core import Answer, Hit, Miss, Request, ResponseCache
from tests.fakes import Clock, fake_embed

ASKED = Request.of("How do I reset my password?", model="m")
REPHRASED = Request.of("How do I reset my password please?", model="m")
OPTIONS: dict[str, Any] = {
    "embedder": fake_embed,
    "threshold": 0.8,
    "ttl": 60,
    "stale_ttl": 600,
}


class Model:
    """Answers with a number that grows, when it is let."""

    def __init__(self) -> None:
        self.calls, self.gate = 0, threading.Event()
        self.gate.set()

    def __call__(self) -> str:
        self.calls += 1
        assert self.gate.wait(5)
        return f"answer {self.calls}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Iterator[ResponseCache]:
    with ResponseCache.open(clock=clock, **OPTIONS) as opened:
        yield opened


def until(true: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(500):
        if true():
            return
        waited.wait(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize("coalesce", [True, False])
def test_a_stale_answer_is_given_at_once_and_refreshed_once(clock: Clock, coalesce: bool) -> None:
    cache, model = ResponseCache.open(clock=clock, coalesce=coalesce, **OPTIONS), Model()
    assert cache.answer(ASKED, model).text == "answer 1"
    clock.now += 61
    model.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: cache.answer(ASKED, model).text, range(8)))
    assert texts == ["answer 1"] * 8
    until(lambda: model.calls == 2)
    model.gate.set()
    until(lambda: cache.answer(ASKED, model).text == "answer 2")
    assert model.calls == 2
    assert isinstance(cache.lookup(ASKED), Hit)
    cache.close()


async def test_on_a_loop_too(cache: ResponseCache, clock: Clock) -> None:
    model, gate = Model(), asyncio.Event()

    async def ask() -> str:
        if model.calls:
            await gate.wait()
        return model()

    assert (await cache.aanswer(ASKED, ask)).text == "answer 1"
    clock.now += 61
    answers = await asyncio.gather(*(cache.aanswer(ASKED, ask) for _ in range(20)))
    assert {answer.text for answer in answers} == {"answer 1"}
    gate.set()
    for _ in range(500):
        if (await cache.aanswer(ASKED, ask)).text == "answer 2":
            break
        await asyncio.sleep(0.01)
    assert model.calls == 2


def test_nobody_else_gets_a_stale_answer(cache: ResponseCache, clock: Clock) -> None:
    cache.store(ASKED, Answer("old"))
    assert isinstance(cache.lookup(REPHRASED), Hit)
    clock.now += 59
    assert isinstance(cache.lookup(ASKED), Hit)
    clock.now += 2
    assert isinstance(cache.lookup(ASKED), Miss)
    assert isinstance(cache.lookup(REPHRASED), Miss)
    assert cache.answer(REPHRASED, lambda: "new").text == "new"


def test_after_the_stale_time_it_is_gone(cache: ResponseCache, clock: Clock) -> None:
    cache.store(ASKED, Answer("old"))
    clock.now += 661
    assert cache.answer(ASKED, lambda: "new").text == "new"


def test_a_call_that_keeps_nothing_is_given_nothing_stale(
    cache: ResponseCache, clock: Clock
) -> None:
    cache.store(ASKED, Answer("old"))
    clock.now += 61
    assert cache.answer(ASKED, lambda: "new", write=False).text == "new"


@pytest.mark.slow
def test_a_refresh_that_fails_is_counted_logged_once_and_tried_again_after_a_rest(
    cache: ResponseCache,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def fail() -> str:
        nonlocal calls
        calls += 1
        raise ConnectionError("with the prompt in it")

    monkeypatch.setattr("shared_core.compute.FIRST_REST_S", 0.1)
    cache.store(ASKED, Answer("old"))
    clock.now += 61
    for n in (1, 2, 3):
        for _ in range(50):
            assert cache.answer(ASKED, fail).text == "old"
            until(lambda: cache.stats().errors.get("refresh") == n)  # noqa: B023 - called at once
        assert calls == n  # at none of the other hits
        time.sleep(0.1 * 2 ** (n - 1) + 0.05)  # a rest of 0.1 s, then twice as long
    assert len([one for one in caplog.records if "refresh" in one.getMessage()]) == 1
    assert "prompt" not in caplog.text
    model = Model()
    cache.answer(ASKED, model)
    until(lambda: cache.answer(ASKED, model).text != "old")


def test_one_process_refreshes_for_all(tmp_path: Any, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    model, other = Model(), Model()
    with (
        ResponseCache.open(url, clock=clock, **OPTIONS) as one,
        ResponseCache.open(url, clock=clock, **OPTIONS) as two,
    ):
        one.store(ASKED, Answer("old"))
        clock.now += 61
        model.gate.clear()
        assert one.answer(ASKED, model).text == "old"
        until(lambda: model.calls == 1)
        assert two.answer(ASKED, other).text == "old"
        until(lambda: len([t for t in threading.enumerate() if t.name.endswith("refresh")]) == 1)
        assert other.calls == 0
        model.gate.set()
        until(lambda: two.answer(ASKED, other).text == "answer 1")
        assert other.calls == 0


@pytest.mark.parametrize("value", [0, -1, "soon"])
def test_a_stale_ttl_that_makes_no_sense_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="stale_ttl"):
        ResponseCache.open(stale_ttl=value)
