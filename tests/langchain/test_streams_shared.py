"""One model call for all who stream the same at a time; without it, each asks for itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from pydantic import PrivateAttr

from langchain_tiered_cache import TieredCache, cached_model
from tests.langchain.chat_models import Chat

pytestmark = pytest.mark.slow

CALL_S = 0.3
SOON_S = 5.0
"""Far below the lease of 30 s."""


class Streamer(Chat):
    """Streams two words and its call's number, with a pause before the last; may break there."""

    pause: float = CALL_S
    breaks: int = 0

    def _words(self, messages: list[BaseMessage]) -> tuple[list[str], str, bool]:
        self._seen.append(messages)
        return ["one ", "two "], str(self.calls), self.calls <= self.breaks

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        words, last, breaks = self._words(messages)
        for word in words:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        time.sleep(self.pause)
        if breaks:
            raise ConnectionError
        yield ChatGenerationChunk(message=AIMessageChunk(last))

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        words, last, breaks = self._words(messages)
        for word in words:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        await asyncio.sleep(self.pause)
        if breaks:
            raise ConnectionError
        yield ChatGenerationChunk(message=AIMessageChunk(last))


def streamed(model: Any) -> str:
    return "".join(chunk.text for chunk in model.stream("q"))


async def astreamed(model: Any) -> str:
    return "".join([chunk.text async for chunk in model.astream("q")])


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


def test_streams_of_threads_share_one_call(tiered: TieredCache) -> None:
    model = cached_model(Streamer(), tiered)
    with ThreadPoolExecutor(16) as pool:
        texts = set(pool.map(lambda _: streamed(model), range(16)))
    assert (texts, model.calls) == ({"one two 1"}, 1)
    assert tiered.cache.stats().coalesced == 15


async def test_streams_of_tasks_share_one_call(tiered: TieredCache) -> None:
    model = cached_model(Streamer(), tiered)
    started = time.monotonic()
    texts = set(await asyncio.gather(*(astreamed(model) for _ in range(100))))
    assert (texts, model.calls) == ({"one two 1"}, 1)
    assert time.monotonic() - started < SOON_S


def test_streams_of_event_loops_and_threads_and_invokes_share_one_call(
    tiered: TieredCache,
) -> None:
    model = cached_model(Streamer(), tiered)

    async def some() -> list[str]:
        return await asyncio.gather(*(astreamed(model) for _ in range(5)))

    with ThreadPoolExecutor(12) as pool:
        loops = [pool.submit(asyncio.run, some()) for _ in range(4)]
        alone = [pool.submit(streamed, model) for _ in range(4)]
        time.sleep(0.1)
        whole = [pool.submit(model.invoke, "q") for _ in range(4)]
        texts = {text for done in loops for text in done.result()}
        texts |= {done.result() for done in alone}
        texts |= {done.result().text for done in whole}
    assert (texts, model.calls) == ({"one two 1"}, 1)


def test_a_follower_of_a_stream_that_is_left_asks_itself(tiered: TieredCache) -> None:
    model = cached_model(Streamer(), tiered)
    leader: Any = model.stream("q")
    next(leader)
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(streamed, model)
        time.sleep(0.1)
        assert not follower.done()
        leader.close()
        assert follower.result(SOON_S) == "one two 2"
    assert streamed(model) == "one two 2"
    assert model.calls == 2


async def test_a_follower_of_an_asynchronous_stream_that_is_left_asks_itself(
    tiered: TieredCache,
) -> None:
    model = cached_model(Streamer(), tiered)
    leader: Any = model.astream("q")
    await anext(leader)
    follower = asyncio.create_task(astreamed(model))
    await asyncio.sleep(0.1)
    assert not follower.done()
    await leader.aclose()
    assert await asyncio.wait_for(follower, SOON_S) == "one two 2"


def test_followers_of_a_stream_that_breaks_ask_themselves(tiered: TieredCache) -> None:
    model = cached_model(Streamer(breaks=1), tiered)
    with ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        streams = [pool.submit(streamed, model) for _ in range(4)]
        errors = [one.exception(SOON_S) for one in streams]
    assert [type(error) for error in errors if error] == [ConnectionError]
    assert time.monotonic() - started < SOON_S
    assert streamed(model).startswith("one two")


async def test_followers_of_an_asynchronous_stream_that_breaks_ask_themselves(
    tiered: TieredCache,
) -> None:
    model = cached_model(Streamer(breaks=1), tiered)
    calls = asyncio.gather(*(astreamed(model) for _ in range(4)), return_exceptions=True)
    found = await asyncio.wait_for(calls, SOON_S)
    assert [type(one) for one in found].count(ConnectionError) == 1
    assert sum(isinstance(one, str) for one in found) == 3


async def test_a_follower_of_a_stream_that_is_cancelled_asks_itself(tiered: TieredCache) -> None:
    model = cached_model(Streamer(), tiered)
    leader = asyncio.create_task(astreamed(model))
    await asyncio.sleep(0.05)
    follower = asyncio.create_task(astreamed(model))
    await asyncio.sleep(0.05)
    leader.cancel()
    assert await asyncio.wait_for(follower, SOON_S) == "one two 2"
    assert (await asyncio.gather(leader, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )


def test_the_chunks_of_the_leader_pass_while_others_wait(tiered: TieredCache) -> None:
    gate = threading.Event()

    class Gated(Streamer):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            for number, chunk in enumerate(super()._stream(*args, **kwargs)):
                if number == 1:
                    assert gate.wait(SOON_S)
                yield chunk

    model = cached_model(Gated(pause=0), tiered)
    leader = model.stream("q")
    assert next(leader).text == "one "
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(streamed, model)
        gate.set()
        assert [chunk.text for chunk in leader if chunk.text] == ["two ", "1"]
        assert follower.result(SOON_S) == "one two 1"
    assert model.calls == 1


def test_a_stream_inside_of_another_of_the_same_does_not_wait(tiered: TieredCache) -> None:
    model = cached_model(Streamer(pause=0), tiered)
    outer = model.stream("q")
    next(outer)
    started = time.monotonic()
    assert streamed(model) == "one two 2"
    assert time.monotonic() - started < SOON_S
    assert "".join(chunk.text for chunk in outer) == "two 1"


async def test_a_task_that_streams_the_same_twice_at_a_time_does_not_wait(
    tiered: TieredCache,
) -> None:
    model = cached_model(Streamer(pause=0), tiered)
    outer = model.astream("q")
    await anext(outer)
    assert await asyncio.wait_for(astreamed(model), SOON_S) == "one two 2"
    assert "".join([chunk.text async for chunk in outer]) == "two 1"


class Completer(BaseLLM):
    """A completion model that streams."""

    breaks: int = 0
    _count: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "completer-of-tests"

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        raise AssertionError("it streams")

    def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
        self._count.append(prompt)
        number = len(self._count)
        yield GenerationChunk(text="one ")
        time.sleep(CALL_S)
        if number <= self.breaks:
            raise ConnectionError
        yield GenerationChunk(text=str(number))


def test_streams_of_completions_share_one_call_and_free_the_others_when_it_breaks(
    tiered: TieredCache,
) -> None:
    model = cached_model(Completer(), tiered)
    with ThreadPoolExecutor(4) as pool:
        texts = set(pool.map(lambda _: "".join(model.stream("q")), range(4)))
    assert (texts, model._count) == ({"one 1"}, ["q"])
    broken = cached_model(Completer(breaks=1), TieredCache(semantic=False))
    with ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        streams = [pool.submit(lambda: "".join(broken.stream("q"))) for _ in range(4)]
        errors = [one.exception(SOON_S) for one in streams]
    assert [type(error) for error in errors if error] == [ConnectionError]
    assert time.monotonic() - started < SOON_S


class AsyncCompleter(Completer):
    """One that streams asynchronously of its own."""

    async def _astream(self, prompt: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self._count.append(prompt)
        number = len(self._count)
        yield GenerationChunk(text="one ")
        await asyncio.sleep(CALL_S)
        if number <= self.breaks:
            raise ConnectionError
        yield GenerationChunk(text=str(number))


async def test_asynchronous_streams_of_completions_too(tiered: TieredCache) -> None:
    async def text(model: Any) -> str:
        return "".join([chunk async for chunk in model.astream("q")])

    model = cached_model(AsyncCompleter(), tiered)
    assert set(await asyncio.gather(*(text(model) for _ in range(20)))) == {"one 1"}
    assert model._count == ["q"]
    broken = cached_model(AsyncCompleter(breaks=1), TieredCache(semantic=False))
    calls = asyncio.gather(*(text(broken) for _ in range(4)), return_exceptions=True)
    found = await asyncio.wait_for(calls, SOON_S)
    assert [type(one) for one in found].count(ConnectionError) == 1
    assert sum(isinstance(one, str) for one in found) == 3
