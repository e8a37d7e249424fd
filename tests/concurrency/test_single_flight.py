"""Who waits for whom when the leading call fails, hangs, or cannot succeed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared_core import Answer, Request, ResponseCache
from shared_core.concurrency import Blocking, Flight, OnLoop, SingleFlight, ThreadRunner, finish
from shared_core.concurrency.single_flight import is_final


class ProviderError(Exception):
    """An error such as openai's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


class Outage:
    """A model that fails so many times, and notes how many calls had ended when one began."""

    def __init__(self, failures: float, error: Exception, seconds: float = 0.2) -> None:
        self.left, self.error, self.seconds = failures, error, seconds
        self.lock, self.ended, self.starts = threading.Lock(), 0, list[int]()

    def __call__(self) -> Answer:
        fails = self._begin()
        time.sleep(self.seconds)
        return self._end(fails)

    async def awaited(self) -> Answer:
        fails = self._begin()
        await asyncio.sleep(self.seconds)
        return self._end(fails)

    def _begin(self) -> bool:
        with self.lock:
            self.starts.append(self.ended)
            self.left -= 1
            return self.left >= 0

    def _end(self, fails: bool) -> Answer:
        with self.lock:
            self.ended += 1
        if fails:
            raise self.error
        return Answer("it works")

    @property
    def rounds(self) -> list[int]:
        """Return how many calls began together, round by round."""
        return [size for _, size in sorted(Counter(self.starts).items())]


def _nothing() -> tuple[Answer] | None:
    return None


REQUEST = Request.of("Is it there?", model="m", params={"temperature": 0})


def ask_together(cache: ResponseCache, model: Any, callers: int, is_async: bool) -> list[Any]:
    """Return what each caller got: an answer or an error."""
    if is_async:

        async def all() -> list[Any]:
            calls = (cache.aanswer(REQUEST, model.awaited) for _ in range(callers))
            return await asyncio.gather(*calls, return_exceptions=True)

        return asyncio.run(all())

    def ask(_: int) -> Any:
        try:
            return cache.answer(REQUEST, model)
        except ProviderError as error:
            return error

    with ThreadPoolExecutor(callers) as pool:
        return list(pool.map(ask, range(callers)))


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True])
def test_waiters_of_a_failed_leader_are_released_in_doubling_groups(is_async: bool) -> None:
    model = Outage(float("inf"), ProviderError(503))
    with ResponseCache.open(semantic=False) as cache:
        got = ask_together(cache, model, 16, is_async)
    assert all(isinstance(one, ProviderError) for one in got)
    assert model.rounds == [1, 1, 2, 4, 8]


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("failures", "rounds"),
    [
        pytest.param(1, [1, 1], marks=pytest.mark.slow),
        pytest.param(2, [1, 1, 2], marks=pytest.mark.slow),
        (5, [1, 1, 2, 4]),
    ],
)
def test_the_first_who_succeeds_answers_all_who_wait(
    failures: int, rounds: list[int], is_async: bool
) -> None:
    model = Outage(failures, ProviderError(500))
    with ResponseCache.open(semantic=False) as cache:
        got = ask_together(cache, model, 16, is_async)
    assert model.rounds == rounds
    assert sum(isinstance(one, ProviderError) for one in got) == failures
    assert got.count(Answer("it works")) == 16 - failures


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_error_that_asking_again_cannot_mend_goes_to_all_who_wait(
    status: int, is_async: bool
) -> None:
    error = ProviderError(status)
    model = Outage(1, error)
    with ResponseCache.open(semantic=False) as cache:
        got = ask_together(cache, model, 8, is_async)
        assert got == [error] * 8
        assert len(model.starts) == 1
        assert ask_together(cache, model, 8, is_async) == [Answer("it works")] * 8


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True])
def test_nobody_waits_longer_than_a_lease_from_its_own_start(is_async: bool) -> None:
    """Leaders that hang are waited for no longer than ones that fail."""
    lease, waited = 0.4, list[float]()

    def wait(flights: SingleFlight, delay: float) -> None:
        time.sleep(delay)
        start = time.monotonic()
        value, _ = finish(flights.join_or_lead(Blocking(), "k", _nothing))
        waited.append(time.monotonic() - start)
        assert value is None

    async def await_it(flights: SingleFlight, delay: float) -> None:
        await asyncio.sleep(delay)
        start = time.monotonic()
        value, _ = await flights.join_or_lead(OnLoop(ThreadRunner()), "k", _nothing)
        waited.append(time.monotonic() - start)
        assert value is None

    async def all_await(flights: SingleFlight, delays: list[float]) -> None:
        await asyncio.gather(*(await_it(flights, delay) for delay in delays))

    flights = SingleFlight(lease)
    _, hanging = finish(flights.join_or_lead(Blocking(), "k", _nothing))
    assert hanging is not None
    delays = [0.05 * number for number in range(8)]
    if is_async:
        in_another = threading.Thread(target=lambda: asyncio.run(all_await(flights, delays)))
        in_another.start()
        in_another.join()
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda delay: wait(flights, delay), delays))
    assert len(waited) == 8
    assert max(waited) < lease + 0.15


async def test_one_who_gives_up_as_it_is_to_lead_hands_the_lead_on() -> None:
    flights, runtime = SingleFlight(5.0), OnLoop(ThreadRunner())

    async def join() -> tuple[Any, Flight | None]:
        return await flights.join_or_lead(runtime, "k", _nothing)

    _, first = await asyncio.create_task(join())
    assert first is not None
    second, third = asyncio.create_task(join()), asyncio.create_task(join())
    await asyncio.sleep(0.05)
    second.cancel()
    flights.finish(first)  # the second, which is first in the queue, is to lead
    with pytest.raises(asyncio.CancelledError):
        await second
    value, flight = await asyncio.wait_for(third, 1)
    assert value is None
    assert flight is not None
    flights.finish(flight)


def test_a_flight_that_ended_leaves_nothing_behind() -> None:
    flights = SingleFlight(5.0)
    for error in (None, ProviderError(503), ProviderError(400)):
        for _ in range(3):
            _, flight = finish(flights.join_or_lead(Blocking(), "k", _nothing))
            assert flight is not None
            flights.finish(flight, error)
    assert flights._flights == {}


class _Holder:
    def __init__(self, **names: object) -> None:
        self.__dict__.update(names)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@pytest.mark.parametrize("name", ["status_code", "status", "code", "response", "botocore"])
def test_a_status_is_found_wherever_a_client_puts_it(name: str, status: int) -> None:
    def error_with(status: int) -> Exception:
        error: Any = Exception("refused")
        if name == "response":
            error.response = _Holder(status_code=status)
        elif name == "botocore":
            error.response = {"ResponseMetadata": {"HTTPStatusCode": status}}
        else:
            setattr(error, name, status)
        return error  # type: ignore[no-any-return]

    assert is_final(error_with(status))
    for other in (408, 409, 425, 429, 500, 502, 503, 529):
        assert not is_final(error_with(other))


@pytest.mark.parametrize(
    "error", [None, ValueError("400"), TimeoutError(), KeyboardInterrupt(), SystemExit(400)]
)
def test_an_error_without_a_status_is_not_final(error: BaseException | None) -> None:
    assert not is_final(error)
