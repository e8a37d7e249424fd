"""Answers drawn by chance are each caller's own, until one is stored, or has a number."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage

from langchain_tiered_cache import TieredCache
from shared_core import Answer, Hit, Miss, Request, ResponseCache
from tests.langchain.chat_models import Chat

SAMPLED: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 1},
    {"temperature": 1e-3, "top_p": 0.5},
    {"temperature": 2.0, "n": 2},
    {"temperature": 0.7, "seed": None},
]
ALIKE: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.0, "top_p": 0.9},
    {"temperature": 0.7, "seed": 7},
    {"temperature": 1, "seed": 0},
]


class Slow:
    """A model whose answers are numbered, and come when all who ask together are there."""

    def __init__(self, callers: int) -> None:
        self.calls, self.lock = 0, threading.Lock()
        self.together = threading.Barrier(callers)

    def __call__(self) -> Answer:
        with self.lock:
            self.calls += 1
            number = self.calls
        try:
            self.together.wait(0.5)
        except threading.BrokenBarrierError:
            pass
        return Answer(f"sample {number}")

    async def awaited(self) -> Answer:
        self.calls += 1
        number = self.calls
        await asyncio.sleep(0.2)
        return Answer(f"sample {number}")


def ask_together(cache: ResponseCache, request: Request, is_async: bool, model: Slow) -> list[str]:
    if is_async:

        async def all() -> list[Answer]:
            return await asyncio.gather(*(cache.aanswer(request, model.awaited) for _ in range(5)))

        return [one.text for one in asyncio.run(all())]
    with ThreadPoolExecutor(5) as pool:
        found = pool.map(lambda _: cache.answer(request, model), range(5))
        return [one.text for one in found]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("params", SAMPLED)
def test_five_who_ask_at_a_time_get_five_samples(params: dict[str, Any], is_async: bool) -> None:
    request = Request.of("Roll a die.", model="m", params=params)
    with ResponseCache.open(semantic=False) as cache:
        assert len(set(ask_together(cache, request, is_async, Slow(5)))) == 5
        # what begins after one was stored is answered by it
        assert isinstance(cache.lookup(request), Hit)


@pytest.mark.slow
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("params", ALIKE)
def test_five_who_ask_for_what_is_no_sample_share_one_call(
    params: dict[str, Any], is_async: bool
) -> None:
    request, model = Request.of("Roll a die.", model="m", params=params), Slow(1)
    with ResponseCache.open(semantic=False) as cache:
        assert len(set(ask_together(cache, request, is_async, model))) == 1
    assert model.calls == 1


@settings(max_examples=100)
@given(
    st.floats(1e-6, 2) | st.integers(1, 2),
    st.dictionaries(
        st.sampled_from(["top_p", "max_tokens", "n", "user", "presence_penalty"]),
        st.integers(2, 9),
    ),
    st.none() | st.integers(),
)
def test_every_temperature_above_0_without_a_seed_makes_samples(
    temperature: float, more: dict[str, int], seed: int | None
) -> None:
    params = {"temperature": temperature, **more, "seed": seed}
    assert Request.of("q", model="m", params=params).is_sample == (seed is None)
    assert not Request.of("q", model="m", params={**params, "temperature": 0}).is_sample


def _numbered() -> Any:
    numbers = iter(range(1000))

    def reply(_: list[BaseMessage]) -> AIMessage:
        number = next(numbers)
        time.sleep(0.3)
        return AIMessage(f"sample {number}")

    return reply


@pytest.mark.parametrize(("temperature", "samples"), [(0.9, 5), (0.0, 1)])
def test_a_batch_of_five_gives_five_samples_through_langchain(
    temperature: float, samples: int
) -> None:
    with TieredCache(semantic=False).cache as cache:
        model = Chat(
            cache=TieredCache(cache=cache),
            reply=_numbered(),
            settings={"temperature": temperature},
        )
        found = model.batch(["x"] * 5, config={"max_concurrency": 5})
        assert len({one.content for one in found}) == samples


def test_a_sample_s_number_is_part_of_its_identity() -> None:
    request = Request.of("Roll a die.", model="m", params={"temperature": 1})
    with ResponseCache.open(semantic=False) as cache:
        for number in range(3):
            cache.answer(request, lambda number=number: f"sample {number}", sample=number)  # type: ignore[misc]
        for number in range(3):
            with cache.control(sample=number):
                found = cache.lookup(request)
            assert isinstance(found, Hit)
            assert found.answer.text == f"sample {number}"
        assert isinstance(cache.lookup(request), Miss)
        assert cache.clear() == 3


@pytest.mark.parametrize("is_async", [False, True])
def test_those_who_want_the_sample_of_one_number_share_one_call(is_async: bool) -> None:
    request, model = Request.of("q", model="m", params={"temperature": 1}), Slow(1)
    with ResponseCache.open(semantic=False) as cache, cache.control(sample=4):
        if is_async:
            got = ask_together(cache, request, True, model)
        else:
            with ThreadPoolExecutor(5) as pool:
                tasks = [
                    pool.submit(lambda: cache.answer(request, model, sample=4)) for _ in range(5)
                ]
                got = [one.result().text for one in tasks]
    assert len(set(got)) == 1


def test_langchain_s_metadata_name_a_sample() -> None:
    model = Chat(cache=TieredCache(semantic=False), reply=_numbered(), settings={"temperature": 1})

    def ask(number: int) -> Any:
        return model.invoke("x", config={"metadata": {"tiered_cache": {"sample": number}}}).content

    first = [ask(0), ask(1)]
    assert first[0] != first[1]
    assert [ask(0), ask(1)] == first


@pytest.mark.parametrize("number", ["1", 1.5, True, [1]])
def test_a_number_that_is_none_is_refused(number: Any) -> None:
    with ResponseCache.open() as cache, pytest.raises(ValueError, match="sample"):
        cache.control(sample=number)
