"""What may be sent when: no window ever holds more, refusals are waited out, nothing is lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from itertools import pairwise
from typing import Any

import pytest

from shared_core.client.provider import (
    _WINDOW_S,
    Dispatch,
    RateLimit,
    RateLimited,
    Retries,
    Waiting,
    refusal_of,
)
from tests.client.virtual_time import VirtualLoop, run


class Response:
    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


class StatusError(Exception):
    def __init__(self, status: int, code: str | None = None, **headers: str) -> None:
        super().__init__(status)
        self.status_code, self.code = status, code
        self.response = Response({name.replace("_", "-"): v for name, v in headers.items()})


class Sleeper:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def most_in_a_window(times: Sequence[float], weights: Sequence[int] | None = None) -> int:
    """Return the most that any window of 60 s holds, the end left out."""
    amounts = weights or [1] * len(times)
    rows = sorted(zip(times, amounts, strict=True))
    return max(
        sum(n for at, n in rows if start <= at < start + _WINDOW_S - 1e-6) for start, _ in rows
    )


def limit_on(loop: VirtualLoop, requests: int | None, tokens: int | None = None) -> RateLimit:
    return RateLimit(requests, tokens, clock=loop.time)


@pytest.mark.parametrize("limit", [1, 7, 60])
def test_no_window_ever_holds_more_requests(limit: int) -> None:
    loop = VirtualLoop()
    rate, times, rng = limit_on(loop, limit), list[float](), random.Random(limit)

    async def one(start: float) -> None:
        await asyncio.sleep(start)
        await rate.await_turn()
        times.append(loop.time())

    async def all_of_them() -> None:
        await asyncio.gather(*(one(rng.uniform(0, 200)) for _ in range(limit * 6)))

    run(all_of_them(), loop)
    assert len(times) == limit * 6
    assert most_in_a_window(times) == limit


def test_no_window_ever_holds_more_tokens() -> None:
    loop = VirtualLoop()
    rate, sent, rng = limit_on(loop, None, 1000), list[tuple[float, int]](), random.Random(1)

    async def one() -> None:
        tokens = rng.choice([1, 50, 300, 999])
        await rate.await_turn(tokens)
        sent.append((loop.time(), tokens))

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(60)))

    run(all_of_them(), loop)
    assert len(sent) == 60
    assert 900 <= most_in_a_window([at for at, _ in sent], [n for _, n in sent]) <= 1000


def test_a_request_larger_than_the_limit_is_sent_alone() -> None:
    clock = Sleeper()
    rate = RateLimit(tokens_per_minute=100, clock=clock, sleep=clock.sleep)
    times = []
    for tokens in (10, 5000, 10):
        rate.wait(tokens)
        times.append(clock())
    assert times == pytest.approx([0, 60, 120], abs=0.01)


def test_what_a_request_really_took_makes_room_or_takes_it() -> None:
    clock = Sleeper()
    rate = RateLimit(tokens_per_minute=100, clock=clock, sleep=clock.sleep)
    rate.settle(rate.wait(100), 10)
    rate.wait(90)
    assert clock() == 0
    rate.wait(1)
    assert clock() == pytest.approx(60, abs=0.01)


def test_what_was_sent_late_leaves_the_window_late() -> None:
    clock = Sleeper()
    rate = RateLimit(1, clock=clock)
    first, second = rate.book(), rate.book()
    clock.now = 50
    assert rate.delay(first) == 0
    clock.now = 60
    assert rate.delay(second) == pytest.approx(50)
    clock.now = 110
    assert rate.delay(second) == 0


def test_nobody_is_overtaken() -> None:
    loop = VirtualLoop()
    rate, times = limit_on(loop, 3, 100), [0.0] * 20

    async def one(number: int, tokens: int) -> None:
        await rate.await_turn(tokens)
        times[number] = loop.time()

    async def all_of_them() -> None:
        await asyncio.gather(*(one(n, 90 if n % 2 else 1) for n in range(20)))

    run(all_of_them(), loop)
    assert all(late > early - 0.01 for early, late in pairwise(times))
    assert max(times) > 5 * _WINDOW_S


def test_a_pause_moves_everything_back_and_keeps_the_rate() -> None:
    loop = VirtualLoop()
    rate, times = limit_on(loop, 10), list[float]()

    async def one() -> None:
        await rate.await_turn()
        times.append(loop.time())

    async def pausing() -> None:
        await asyncio.sleep(30)
        rate.pause(100)
        await asyncio.sleep(50)
        rate.pause(100)  # ends at 180

    async def all_of_them() -> None:
        await asyncio.gather(pausing(), *(one() for _ in range(40)))

    run(all_of_them(), loop)
    assert len(times) == 40
    assert not [at for at in times if 30 < at < 180]
    assert most_in_a_window(times) == 10
    assert max(times) == pytest.approx(180 + 180 - 30, abs=0.1), "not later than need be"


def test_one_limit_serves_threads() -> None:
    clock, lock = Sleeper(), threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.now += seconds / 8

    rate, times = RateLimit(5, clock=clock, sleep=sleep), list[float]()

    def one(_: int) -> None:
        rate.wait()
        times.append(clock.now)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(30)))
    assert len(times) == 30
    assert max(times) >= 5 * _WINDOW_S - 1e-6, "the last five cannot go before"


def test_a_slot_holds_no_chain_of_all_before_it() -> None:
    clock = Sleeper()
    rate = RateLimit(2, 50, clock=clock, sleep=clock.sleep)
    slots = [rate.wait(10) for _ in range(100)]
    assert all(slot.sent and not slot.after for slot in slots)


@pytest.mark.parametrize("limit", [0, -1, True])
def test_a_limit_that_makes_no_sense_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="requests_per_minute must be at least 1"):
        RateLimit(limit)
    with pytest.raises(ValueError, match="tokens_per_minute must be at least 1"):
        RateLimit(tokens_per_minute=limit)


# ------------------------------------------------------------------------------------- retrying


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StatusError(429, retry_after="3"), RateLimited(429, 3.0)),
        (StatusError(429, retry_after_ms="1500", retry_after="9"), RateLimited(429, 1.5)),
        (StatusError(503, retry_after=formatdate(1_000_030, usegmt=True)), RateLimited(503, 30.0)),
        (StatusError(503, retry_after=formatdate(999_000, usegmt=True)), RateLimited(503, 0.0)),
        (StatusError(429, retry_after="soon"), RateLimited(429)),
        (StatusError(429, retry_after="-1"), RateLimited(429)),
        (StatusError(500), RateLimited(500)),
        (StatusError(408), RateLimited(408)),
        (StatusError(429, "insufficient_quota"), None),
        (StatusError(500, x_should_retry="false"), None),
        (StatusError(400, x_should_retry="true"), RateLimited(400)),
        (StatusError(400), None),
        (StatusError(401), None),
        (ConnectionResetError(), RateLimited()),
        (TimeoutError(), RateLimited()),
        (ValueError("no"), None),
    ],
    ids=str,
)
def test_what_a_failure_says_of_another_try(error: Exception, expected: RateLimited | None) -> None:
    assert refusal_of(error, clock=lambda: 1_000_000.0) == expected


def dispatched(errors: list[Exception | None], **options: Any) -> tuple[Sleeper, list[float]]:
    """Return the clock and the times at which a call that fails so was made."""
    clock, times = Sleeper(), list[float]()
    rate = RateLimit(clock=clock, sleep=clock.sleep)
    dispatch = Dispatch(
        rate, Retries(**options), waiting=Waiting(sleep=clock.sleep), rng=random.Random(1)
    )

    def send() -> str:
        times.append(clock())
        error = errors[len(times) - 1]
        if error is not None:
            raise error
        return "answer"

    with dispatch.call(send) as (found, _):
        assert found == "answer"
    return clock, times


def test_waits_grow_and_vary() -> None:
    _, times = dispatched([StatusError(500)] * 5 + [None], attempts=6, first=1, most=4)
    waits = [late - early for early, late in pairwise(times)]
    assert all(0 <= wait <= limit for wait, limit in zip(waits, [1, 2, 4, 4, 4], strict=True))
    assert len(set(waits)) == 5


def test_retry_after_is_waited_out_and_counts_no_attempt() -> None:
    refused = [StatusError(429, retry_after="7")] * 4
    _, times = dispatched([*refused, None], attempts=2, patience=60)
    waits = [late - early for early, late in pairwise(times)]
    assert len(waits) == 4
    assert all(7 <= wait <= 7.5 for wait in waits)


@pytest.mark.parametrize(
    ("error", "options", "attempts"),
    [
        (StatusError(500), {"attempts": 3}, 3),
        (StatusError(400), {"attempts": 3}, 1),
        (StatusError(429, retry_after="10"), {"attempts": 3, "patience": 25}, 3),
        (StatusError(429, retry_after="1000"), {"patience": 120}, 1),
    ],
)
def test_the_last_error_is_raised(
    error: StatusError, options: dict[str, Any], attempts: int
) -> None:
    made = []

    clock = Sleeper()
    rate = RateLimit(clock=clock, sleep=clock.sleep)
    dispatch = Dispatch(rate, Retries(**options), waiting=Waiting(sleep=clock.sleep))

    def send() -> None:
        made.append(1)
        raise error

    with pytest.raises(StatusError) as raised, dispatch.call(send):
        pytest.fail("there is no answer")
    assert raised.value is error
    assert len(made) == attempts


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"first": 0}, {"first": 9, "most": 1}, {"patience": -1}]
)
def test_retries_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Retries(**options)


# ------------------------------------------------------------------------------------- dispatch


class Provider:
    """Allows so many requests in any 60 s and refuses the others; keeps when they came."""

    def __init__(self, loop: VirtualLoop, allowed: int, down_until: float = 0.0) -> None:
        self.loop, self.allowed, self.down_until = loop, allowed, down_until
        self.times: list[float] = []
        self.taken: list[float] = []
        self.refused = self.under_way = self.most = 0

    async def __call__(self, number: int) -> int:
        now = self.loop.time()
        self.times.append(now)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.3)
        self.under_way -= 1
        recent = [at for at in self.taken if at > now - _WINDOW_S]
        if now < self.down_until or len(recent) >= self.allowed:
            self.refused += 1
            end = self.down_until if now < self.down_until else recent[0] + _WINDOW_S
            raise StatusError(429, retry_after=str(max(1, round(end - now + 0.5))))
        self.taken.append(now)
        return number


def storm(provider: Provider, rate: RateLimit | None, requests: int, **options: Any) -> list[int]:
    waiting = Waiting(asleep=asyncio.sleep)
    dispatch = Dispatch(rate, waiting=waiting, rng=random.Random(3), **options)

    async def one(number: int) -> int:
        async with dispatch.acall(lambda: provider(number)) as (answer, _):
            return answer

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(one, range(requests)))

    return run(all_of_them(), provider.loop)


def test_a_storm_of_refusals_loses_no_request_and_keeps_the_rate() -> None:
    loop = VirtualLoop()
    provider = Provider(loop, allowed=60, down_until=20)
    answers = storm(
        provider, limit_on(loop, 60), 500, concurrency=32, retries=Retries(patience=1000)
    )
    assert answers == list(range(500))
    assert provider.refused > 0
    assert most_in_a_window(provider.times) <= 60, "refused ones count as sent"


def test_without_a_limit_of_its_own_a_storm_is_outlived_by_retry_after() -> None:
    loop = VirtualLoop()
    provider = Provider(loop, allowed=20)
    rate = limit_on(loop, None)
    assert storm(provider, rate, 100, retries=Retries(patience=1000)) == list(range(100))
    assert provider.refused > 0


@pytest.mark.parametrize("concurrency", [1, 5])
def test_never_more_than_the_bound_are_under_way(concurrency: int) -> None:
    loop = VirtualLoop()
    provider = Provider(loop, allowed=10_000)
    storm(provider, limit_on(loop, None), 40, concurrency=concurrency)
    assert provider.most == concurrency


def test_a_call_that_waits_to_be_tried_again_holds_no_place() -> None:
    loop = VirtualLoop()
    failed = list[int]()

    async def send(number: int) -> float:
        if number == 0 and not failed:
            failed.append(1)
            raise StatusError(500)
        return loop.time()

    dispatch = Dispatch(limit_on(loop, None), Retries(first=30, most=30), 1, rng=random.Random(3))

    async def one(number: int) -> float:
        async with dispatch.acall(lambda: send(number)) as (at, _):
            return at

    async def both() -> list[float]:
        return await asyncio.gather(one(0), one(1))

    late, soon = run(both(), loop)
    assert soon < 1 < late


def test_a_place_is_held_until_the_block_ends() -> None:
    dispatch = Dispatch(concurrency=1)
    entered, done = threading.Event(), threading.Event()

    def other() -> None:
        entered.set()
        with dispatch.call(lambda: "second"):
            done.set()

    with dispatch.call(lambda: "first"):
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(5)
        assert not done.wait(0.05)
    assert done.wait(5)
    thread.join()
