"""The batcher: what becomes one call, what is sent together, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from shared_core.client.batcher import Batcher, BatcherClosed
from shared_core.client.provider import Dispatch, RateLimit, Retries
from tests.client.test_limits import Provider, most_in_a_window
from tests.client.virtual_time import VirtualLoop, run


class Model:
    """Answers after a while; keeps what it was asked, and when."""

    def __init__(self, loop: VirtualLoop, seconds: float = 1.0) -> None:
        self.loop, self.seconds = loop, seconds
        self.calls: list[tuple[float, str]] = []
        self.failing: set[str] = set()
        self.under_way = self.most = 0

    async def __call__(self, request: str) -> str:
        self.calls.append((round(self.loop.time(), 6), request))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        if request in self.failing:
            raise LookupError(request)
        return f"answer to {request}"

    @property
    def asked(self) -> list[str]:
        return [request for _, request in self.calls]


def batched(scenario: Callable[[Batcher[str, str], Model], Any], **options: Any) -> Any:
    loop = VirtualLoop()
    model = Model(loop)

    async def play() -> Any:
        options.setdefault("key", lambda request: request)
        async with Batcher(model, clock=loop.time, **options) as batcher:
            return await scenario(batcher, model)

    return run(play(), loop)


def first_word(request: str) -> str:
    return request.split(maxsplit=1)[0]


def test_a_thousand_requests_over_fifty_keys_are_fifty_calls() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        requests = [f"question {n % 50}" for n in range(1000)]
        random.Random(1).shuffle(requests)
        answers = await asyncio.gather(*map(batcher.ask, requests))
        assert answers == [f"answer to {request}" for request in requests]
        assert Counter(model.asked) == Counter(set(requests))
        stats = batcher.stats()
        assert (stats.requests, stats.calls, stats.saved) == (1000, 50, 950)
        assert (stats.batches, stats.mean_size, stats.waiting) == (5, 10.0, 0)

    batched(scenario)


def test_a_batch_is_sent_when_its_window_ends() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        async def later(request: str, seconds: float) -> str:
            await asyncio.sleep(seconds)
            return await batcher.ask(request)

        await asyncio.gather(later("a", 0), later("b", 0.03), later("c", 0.06))
        assert model.calls == [(0.05, "a"), (0.05, "b"), (0.11, "c")]

    batched(scenario)


def test_a_full_batch_is_sent_at_once_and_holds_no_more() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        await asyncio.gather(*(batcher.ask(str(n)) for n in range(7)))
        assert [at for at, _ in model.calls] == [0, 0, 0, 0, 0, 0, 0.05]
        assert batcher.stats().batches == 3

    batched(scenario, most=3)


def test_a_request_joins_an_equal_one_that_is_under_way() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        first = asyncio.ensure_future(batcher.ask("a"))
        await asyncio.sleep(0.5)
        assert await batcher.ask("a") == await first == "answer to a"
        assert model.asked == ["a"]
        await batcher.ask("a")
        assert model.asked == ["a", "a"], "an answer that was given is the cache's to keep"

    batched(scenario)


def test_the_first_of_a_prefix_goes_ahead_and_the_rest_follow_in_order() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        requests = ["p 1", "q 1", "p 2", "p 3", "q 2"]
        await asyncio.gather(*map(batcher.ask, requests))
        assert model.calls == [
            (0.05, "p 1"),
            (0.05, "q 1"),
            (1.05, "p 2"),
            (1.05, "p 3"),
            (1.05, "q 2"),
        ]

    batched(scenario, prefix=first_word)


def test_a_warm_prefix_makes_nobody_wait() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        await asyncio.gather(batcher.ask("p 1"), batcher.ask("p 2"))
        await asyncio.gather(batcher.ask("p 3"), batcher.ask("p 4"))
        assert len({at for at, _ in model.calls[2:]}) == 1
        await asyncio.sleep(301)
        await asyncio.gather(batcher.ask("p 5"), batcher.ask("p 6"))
        assert len({at for at, _ in model.calls[4:]}) == 2, "the provider has let go of it"

    batched(scenario, prefix=first_word, warm_for=300)


def test_the_rest_are_sent_though_the_first_fails() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        model.failing = {"p 1"}
        results = await asyncio.gather(
            *map(batcher.ask, ["p 1", "p 1", "p 2"]), return_exceptions=True
        )
        assert [type(one) for one in results] == [LookupError, LookupError, str]
        assert batcher.stats().waiting == 0
        model.failing = set()
        assert await batcher.ask("p 1") == "answer to p 1", "an error is not kept"

    batched(scenario, prefix=first_word)


def test_no_more_batches_are_in_flight_than_allowed() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        await asyncio.gather(*(batcher.ask(str(n)) for n in range(40)))
        assert model.most == 8
        assert batcher.stats().most_in_flight == 4
        assert model.asked == [str(n) for n in range(40)]

    batched(scenario, most=2, in_flight=4)


def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        one, two = (asyncio.ensure_future(batcher.ask("a")) for _ in range(2))
        await asyncio.sleep(0.5)
        one.cancel()
        assert await two == "answer to a"
        alone = asyncio.ensure_future(batcher.ask("b"))
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.sleep(2)
        assert batcher.stats().waiting == 0

    batched(scenario)


def test_closing_answers_all_who_wait() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        waiting = [asyncio.ensure_future(batcher.ask(str(n))) for n in range(25)]
        await asyncio.sleep(0)
        await batcher.aclose()
        assert [await one for one in waiting] == [f"answer to {n}" for n in range(25)]
        with pytest.raises(BatcherClosed):
            await batcher.ask("late")

    batched(scenario, in_flight=1)


def test_closing_in_a_hurry_tells_all_who_wait() -> None:
    async def scenario(batcher: Batcher[str, str], model: Model) -> None:
        waiting = [asyncio.ensure_future(batcher.ask(str(n))) for n in range(25)]
        await asyncio.sleep(0)
        await batcher.aclose(patience=1.5)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in results] == [str] * 10 + [BatcherClosed] * 15
        assert model.under_way == 0
        assert batcher.stats().in_flight == 0

    batched(scenario, in_flight=1)


def test_a_call_that_cancels_itself_is_an_error_of_its_callers_alone() -> None:
    loop = VirtualLoop()

    async def call(request: str) -> str:
        if request == "a":
            raise asyncio.CancelledError
        return request

    async def play() -> list[Any]:
        async with Batcher(call, key=str) as batcher:
            return await asyncio.gather(*map(batcher.ask, "ab"), return_exceptions=True)

    lost, found = run(play(), loop)
    assert isinstance(lost, BatcherClosed)
    assert found == "b"


def test_a_batcher_on_another_loop_says_so() -> None:
    async def call(request: str) -> str:
        return request

    batcher = Batcher(call, key=str)
    run(batcher.ask("a"), VirtualLoop())
    with pytest.raises(RuntimeError, match="one event loop"):
        run(batcher.ask("a"), VirtualLoop())


@pytest.mark.parametrize(
    "options", [{"window": -1}, {"most": 0}, {"in_flight": 0}, {"warm_for": -1}]
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    async def call(request: str) -> str:
        return request

    with pytest.raises(ValueError, match="must be"):
        Batcher(call, key=str, **options)


def test_a_storm_of_refusals_loses_nobody_in_a_batch() -> None:
    loop = VirtualLoop()
    provider = Provider(loop, allowed=30, down_until=15)
    dispatch = Dispatch(
        RateLimit(30, clock=loop.time), Retries(patience=10_000), 20, rng=random.Random(5)
    )

    async def call(number: int) -> int:
        async with dispatch.acall(lambda: provider(number)) as (answer, _):
            return answer

    async def play() -> list[int]:
        async with Batcher(call, key=int, prefix=lambda n: n % 7, clock=loop.time) as batcher:
            return await asyncio.gather(*(batcher.ask(n % 200) for n in range(600)))

    assert run(play(), loop) == [n % 200 for n in range(600)]
    assert len(provider.taken) == 200
    assert provider.refused > 0
    assert most_in_a_window(provider.times) <= 30
