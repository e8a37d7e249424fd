"""The fuse between the cache and what can fail."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from shared_core.resilience import FAILURES_TO_OPEN, Fuse, Unavailable, quietly
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
def fuse(clock: Clock, counted: list[str]) -> Fuse:
    return Fuse("store", counted.append, rest=10, clock=clock)


def test_what_works_passes_through(fuse: Fuse) -> None:
    assert fuse.call(max, 1, 2) == 2
    assert fuse.state == "closed"


def test_a_failure_is_counted_and_said_once_until_it_works_again(
    fuse: Fuse, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with pytest.raises(Unavailable):
            fuse.call(fails, RuntimeError("odd"))
    assert counted == ["store"] * 3
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    fuse.call(int)
    with pytest.raises(Unavailable):
        fuse.call(fails, RuntimeError("odd"))
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_a_part_that_is_down_is_left_alone_and_then_tried_by_one_call(
    fuse: Fuse, clock: Clock
) -> None:
    calls: list[int] = []
    with pytest.raises(Unavailable):
        fuse.call(fails, DownError())
    assert fuse.state == "open"
    with pytest.raises(Unavailable):
        fuse.call(calls.append, 1)
    clock.now += 10
    assert fuse.state == "half-open"
    with pytest.raises(Unavailable):
        fuse.call(fails, DownError())
    with pytest.raises(Unavailable):
        fuse.call(calls.append, 2)
    clock.now += 10
    fuse.call(calls.append, 3)
    assert fuse.state == "closed"
    fuse.call(calls.append, 4)
    assert calls == [3, 4]


def test_a_part_that_fails_in_a_row_is_left_alone(fuse: Fuse) -> None:
    for number in range(FAILURES_TO_OPEN):
        assert fuse.state == "closed", number
        with pytest.raises(Unavailable):
            fuse.call(fails, ValueError())
    assert fuse.state == "open"


def test_keyboard_interrupts_are_not_swallowed(fuse: Fuse, counted: list[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse.call(interrupted)
    assert counted == []


def test_a_hook_that_raises_is_counted_and_dropped(counted: list[str]) -> None:
    quietly(counted.append, "hook", fails, RuntimeError("x"))
    assert counted == ["hook"]


class RefusalError(Exception):
    down = False


class LockedOutError(Exception):
    down, rest = True, 30.0


def test_refusals_of_a_part_that_works_never_open_the_fuse_and_are_said_once_a_minute(
    fuse: Fuse, clock: Clock, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3 * FAILURES_TO_OPEN):
        with pytest.raises(Unavailable):
            fuse.call(fails, RefusalError("full"))
        fuse.call(int)
    assert fuse.state == "closed"
    assert len(counted) == 3 * FAILURES_TO_OPEN
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    clock.now += 60
    with pytest.raises(Unavailable):
        fuse.call(fails, RefusalError("full"))
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]


def test_an_error_may_say_how_long_its_part_is_left_alone(fuse: Fuse, clock: Clock) -> None:
    with pytest.raises(Unavailable):
        fuse.call(fails, LockedOutError())
    clock.now += 29
    assert fuse.state == "open"
    clock.now += 1
    assert fuse.state == "half-open"


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

    fuse = Fuse("probed", counted.append, rest=0.01, probe=probe)
    for _ in range(2):  # it opens and closes more than once
        with pytest.raises(Unavailable):
            fuse.call(fails, DownError())
        seconds_pass_until(lambda: len(probes) >= 3)
        with pytest.raises(Unavailable):
            fuse.call(pytest.fail, "a request tried the part")
        works.set()
        seconds_pass_until(lambda: fuse.state == "closed")
        assert fuse.call(int) == 0
        seconds_pass_until(lambda: not probing())
        works.clear()
        probes.clear()
    assert counted == ["probed"] * 2  # what no request saw is not counted
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"] * 2


@pytest.mark.parametrize("drop", [False, True], ids=["closed", "dropped"])
def test_a_fuse_that_is_no_longer_used_probes_no_more(counted: list[str], drop: bool) -> None:
    fuse = Fuse("probed", counted.append, rest=0.01, probe=lambda: fails(DownError()))
    with suppress(Unavailable):
        fuse.call(fails, DownError())
    assert len(probing()) == 1
    if drop:
        del fuse
    else:
        fuse.close()
    seconds_pass_until(lambda: gc.collect() >= 0 and not probing())


def test_without_a_thread_to_probe_a_request_tries_the_part(
    clock: Clock, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    fuse = Fuse("probed", counted.append, rest=10, clock=clock, probe=int)
    with pytest.raises(Unavailable):
        fuse.call(fails, DownError())
    clock.now += 10
    assert fuse.call(max, 1, 2) == 2
    assert fuse.state == "closed"
