"""The fuse between the cache and what can fail."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from shared_core.resilience import FAILURES_TO_OPEN, CircuitBreaker, Unavailable, swallow
from tests.fakes import Clock


class DownError(Exception):
    down = True


def fails(error: Exception) -> None:
    raise error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted() -> list[str]:
    return []


@pytest.fixture
def breaker(clock: Clock, counted: list[str]) -> CircuitBreaker:
    return CircuitBreaker("store", counted.append, rest=10, clock=clock)


def test_what_works_passes_through(breaker: CircuitBreaker) -> None:
    assert breaker.call(max, 1, 2) == 2
    assert breaker.state == "closed"


def test_a_failure_is_counted_and_said_once_until_it_works_again(
    breaker: CircuitBreaker, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with pytest.raises(Unavailable):
            breaker.call(fails, RuntimeError("odd"))
    assert counted == ["store"] * 3
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    breaker.call(int)
    with pytest.raises(Unavailable):
        breaker.call(fails, RuntimeError("odd"))
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_part_that_is_down_is_left_alone_and_then_tried_by_one_call(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    calls: list[int] = []
    with pytest.raises(Unavailable):
        breaker.call(fails, DownError())
    assert breaker.state == "open"
    with pytest.raises(Unavailable):
        breaker.call(calls.append, 1)
    clock.now += 10
    assert breaker.state == "half-open"
    with pytest.raises(Unavailable):
        breaker.call(fails, DownError())
    with pytest.raises(Unavailable):
        breaker.call(calls.append, 2)
    clock.now += 10
    breaker.call(calls.append, 3)
    assert breaker.state == "closed"
    breaker.call(calls.append, 4)
    assert calls == [3, 4]


def test_a_part_that_fails_in_a_row_is_left_alone(breaker: CircuitBreaker) -> None:
    for number in range(FAILURES_TO_OPEN):
        assert breaker.state == "closed", number
        with pytest.raises(Unavailable):
            breaker.call(fails, ValueError())
    assert breaker.state == "open"


def test_keyboard_interrupts_are_not_swallowed(breaker: CircuitBreaker, counted: list[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker.call(interrupted)
    assert counted == []


def test_a_hook_that_raises_is_counted_and_dropped(counted: list[str]) -> None:
    swallow(counted.append, "hook", fails, RuntimeError("x"))
    assert counted == ["hook"]


class RefusalError(Exception):
    down = False


class LockedOutError(Exception):
    down, rest = True, 30.0


def test_refusals_of_a_part_that_works_never_open_the_fuse_and_are_said_once_a_minute(
    breaker: CircuitBreaker, clock: Clock, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3 * FAILURES_TO_OPEN):
        with pytest.raises(Unavailable):
            breaker.call(fails, RefusalError("full"))
        breaker.call(int)
    assert breaker.state == "closed"
    assert len(counted) == 3 * FAILURES_TO_OPEN
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    clock.now += 60
    with pytest.raises(Unavailable):
        breaker.call(fails, RefusalError("full"))
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]


def test_an_error_may_say_how_long_its_part_is_left_alone(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    with pytest.raises(Unavailable):
        breaker.call(fails, LockedOutError())
    clock.now += 29
    assert breaker.state == "open"
    clock.now += 1
    assert breaker.state == "half-open"


def seconds_pass_until(come_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not come_true():
        assert time.monotonic() < end, "it never came true"
        threading.Event().wait(0.002)


def probing() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "tiered-cache probed"]


def test_an_open_fuse_with_a_probe_lets_no_call_through_until_the_probe_works(
    counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    probes: list[int] = []
    works = threading.Event()

    def probe() -> None:
        probes.append(1)
        if not works.is_set():
            raise DownError

    breaker = CircuitBreaker("probed", counted.append, rest=0.01, probe=probe)
    for _ in range(2):  # it opens and closes more than once
        with pytest.raises(Unavailable):
            breaker.call(fails, DownError())
        seconds_pass_until(lambda: len(probes) >= 3)
        with pytest.raises(Unavailable):
            breaker.call(pytest.fail, "a request tried the part")
        works.set()
        seconds_pass_until(lambda: breaker.state == "closed")
        assert breaker.call(int) == 0
        seconds_pass_until(lambda: not probing())
        works.clear()
        probes.clear()
    assert counted == ["probed"] * 2  # what no request saw is not counted
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"] * 2


@pytest.mark.parametrize("drop", [False, True], ids=["closed", "dropped"])
def test_a_fuse_that_is_no_longer_used_probes_no_more(counted: list[str], drop: bool) -> None:
    breaker = CircuitBreaker("probed", counted.append, rest=0.01, probe=lambda: fails(DownError()))
    with suppress(Unavailable):
        breaker.call(fails, DownError())
    assert len(probing()) == 1
    if drop:
        del breaker
    else:
        breaker.close()
    seconds_pass_until(lambda: gc.collect() >= 0 and not probing())


def test_without_a_thread_to_probe_a_request_tries_the_part(
    clock: Clock, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    breaker = CircuitBreaker("probed", counted.append, rest=10, clock=clock, probe=int)
    with pytest.raises(Unavailable):
        breaker.call(fails, DownError())
    clock.now += 10
    assert breaker.call(max, 1, 2) == 2
    assert breaker.state == "closed"
