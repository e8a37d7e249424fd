"""Answers whose time is over: given where the model can be called, while it is asked once anew."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, Generation, GenerationChunk, LLMResult
from pydantic import BaseModel, Field, PrivateAttr

from langchain_tiered_cache import TieredCache, cached_model
from langchain_tiered_cache.middleware import TieredCacheMiddleware
from shared_core.compute import MAX_REFRESHES
from tests.fakes import Clock
from tests.langchain.chat_models import Chat

FORMS = ["invoke", "ainvoke", "stream", "astream"]
each_form = pytest.mark.parametrize("form", FORMS)


class Numbered(Chat):
    """Answers with the number of its call, whole or in two chunks, when it is let."""

    gate: Any = None
    down: threading.Event = Field(default_factory=threading.Event)

    def _next(self, messages: list[BaseMessage]) -> str:
        self._seen.append(messages)
        number = self.calls
        if self.gate is not None and number > 1:
            assert self.gate.wait(5)
        if self.down.is_set():
            raise ConnectionError("with the prompt in it")
        return f"answer {number}"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        text = self._next(messages)
        result = super()._generate(messages, *args, **kwargs)
        self._seen.pop()
        result.generations[0].message = AIMessage(text)
        return result

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in self._next(messages).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in (await asyncio.to_thread(self._next, messages)).split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[one.name for one in tools], **kwargs)


async def ask(form: str, model: Any, question: Any = "q", config: Any = None) -> Any:
    """Return the message, of a stream the sum of its chunks."""
    match form:
        case "invoke":
            return model.invoke(question, config)
        case "ainvoke":
            return await model.ainvoke(question, config)
        case "stream":
            chunks = list(model.stream(question, config))
        case _:
            chunks = [chunk async for chunk in model.astream(question, config)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def text_of(answer: Any) -> str:
    return str(getattr(answer, "text", answer)).strip()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tiered(clock: Clock) -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False, clock=clock, ttl=60, stale_ttl=600)
    yield cache
    cache.close()


@each_form
async def test_a_cached_model_gives_the_old_answer_and_asks_once(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    gate = threading.Event()
    model = cached_model(Numbered(gate=gate), tiered)
    assert text_of(await ask(form, model)) == "answer 1"
    clock.now += 61
    old = [await ask(form, model) for _ in range(5)]
    assert [text_of(one) for one in old] == ["answer 1"] * 5
    assert old[0].response_metadata["tiered_cache"]["stale"] is True
    gate.set()
    await until(lambda: tiered.cache.stats().stores == 2)
    fresh = await ask(form, model)
    assert text_of(fresh) == "answer 2"
    assert "stale" not in fresh.response_metadata["tiered_cache"]
    assert model.calls == 2
    assert not tiered.cache.stats().errors


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_an_agent_with_the_middleware_too(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    model = Numbered()
    agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)])
    state: Any = {"messages": [("user", "hi")]}

    async def answer() -> str:
        found = agent.invoke(state) if form == "invoke" else await agent.ainvoke(state)
        return str(found["messages"][-1].text)

    assert await answer() == "answer 1"
    clock.now += 61
    assert await answer() == "answer 1"
    await until(lambda: tiered.cache.stats().stores == 2)
    assert (await answer(), model.calls) == ("answer 2", 2)


@each_form
async def test_with_set_llm_cache_alone_nothing_stale_is_given(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    model = Numbered(cache=tiered)
    assert text_of(await ask(form, model)) == "answer 1"
    clock.now += 61
    assert text_of(await ask(form, model)) == "answer 2"


async def test_who_waits_for_a_refresh_gets_its_answer(tiered: TieredCache, clock: Clock) -> None:
    gate = threading.Event()
    own = Numbered(gate=gate)
    model = cached_model(own, tiered)
    model.invoke("q")
    clock.now += 61
    model.invoke("q")
    await until(lambda: own.calls == 2)
    with ThreadPoolExecutor(1) as pool:
        plain = pool.submit(Numbered(cache=tiered).invoke, "q")
        await asyncio.sleep(0.05)
        gate.set()
        assert plain.result(5).text == "answer 2"


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_model_that_the_model_calls_is_not_refreshed_with_its_answers(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    """The inner one is called by its own cache alone, which cannot: it gets nothing stale."""
    inner = Chat(cache=tiered, settings={"of": "inner"}, reply=lambda _: AIMessage(f"{clock.now}"))

    class Outer(Numbered):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            inner.invoke("q")
            return super()._generate(messages, *args, **kwargs)

    model = cached_model(Outer(), tiered)
    first, then = str(clock.now), str(clock.now + 61)
    assert inner.invoke("q").text == first
    clock.now += 61
    assert text_of(await ask(form, model)) == "answer 1"
    assert inner.invoke("q").text == then
    assert inner.calls == 2
    assert tiered.cache.stats().stores == 3


class City(BaseModel):
    """A city."""

    name: str


@each_form
async def test_structured_output_and_its_tenant_are_refreshed_where_they_were(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    own = Numbered()
    bound = cached_model(own, tiered).bind(response_format=City)
    config: Any = {"metadata": {"tiered_cache": {"namespace": "a", "ttl": 60}}}
    assert text_of(await ask(form, bound, config=config)) == "answer 1"
    clock.now += 61
    assert text_of(await ask(form, bound, config=config)) == "answer 1"
    await until(lambda: tiered.cache.stats().stores == 2)
    assert text_of(await ask(form, bound, config=config)) == "answer 2"
    assert own.calls == 2
    assert text_of(await ask(form, bound)) == "answer 3", "another tenant's"


@each_form
async def test_a_refresh_that_fails_is_counted_and_tried_again(
    form: str,
    tiered: TieredCache,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared_core.compute.FIRST_REST_S", 0.01)
    model = cached_model(Numbered(), tiered)
    await ask(form, model)
    clock.now += 61
    model.down.set()
    for number in (1, 2):
        assert text_of(await ask(form, model)) == "answer 1"
        await until(lambda: tiered.cache.stats().errors.get("refresh") == number)  # noqa: B023
        await asyncio.sleep(0.02)
    assert "prompt" not in caplog.text


async def test_refreshes_at_a_time_are_bounded(tiered: TieredCache, clock: Clock) -> None:
    gate = threading.Event()
    model = cached_model(Numbered(), tiered)
    questions = [f"q{number}" for number in range(MAX_REFRESHES + 4)]
    for question in questions:
        model.invoke(question)
    clock.now += 61
    model.gate = gate
    for question in questions:
        assert model.invoke(question).response_metadata["tiered_cache"]["stale"]
    first = len(questions) + MAX_REFRESHES
    await until(lambda: model.calls == first)
    await asyncio.sleep(0.05)
    assert model.calls == first
    gate.set()
    await until(lambda: tiered.cache.stats().stores == first)
    for question in questions:
        model.invoke(question)
    await until(lambda: model.calls == 2 * len(questions))


def test_one_process_refreshes_for_all(tmp_path: Path, clock: Clock) -> None:
    """As other processes would see it: another cache on the same file."""
    url, gate = f"sqlite:///{tmp_path / 'answers.db'}", threading.Event()
    options: Any = {"semantic": False, "clock": clock, "ttl": 60, "stale_ttl": 600}
    one, other = TieredCache(url, **options), TieredCache(url, **options)
    first, second = cached_model(Numbered(gate=gate), one), cached_model(Numbered(), other)
    first.invoke("q")
    clock.now += 61
    first.invoke("q")
    while first.calls < 2:
        time.sleep(0.01)
    for _ in range(3):
        assert second.invoke("q").text == "answer 1"
        time.sleep(0.05)
    gate.set()
    while second.invoke("q").text != "answer 2":
        time.sleep(0.01)
    assert second.calls == 0
    one.close()
    other.close()


class Completion(BaseLLM):
    """A completion model that numbers its answers, whole or streamed."""

    _count: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "completion-of-tests"

    def _next(self, prompt: str) -> str:
        self._count.append(prompt)
        return f"{prompt} {len(self._count)}"

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        return LLMResult(generations=[[Generation(text=self._next(one))] for one in prompts])

    def _stream(self, prompt: str, *args: Any, **kwargs: Any) -> Iterator[GenerationChunk]:
        yield GenerationChunk(text=self._next(prompt))


@each_form
async def test_completions_are_refreshed_for_the_arguments_of_their_call(
    form: str, tiered: TieredCache, clock: Clock
) -> None:
    model = cached_model(Completion(), tiered)
    hot = model.bind(temperature=1)
    assert [text_of(await ask(form, one)) for one in (model, hot)] == ["q 1", "q 2"]
    clock.now += 61
    assert text_of(await ask(form, hot)) == "q 2"
    await until(lambda: tiered.cache.stats().stores == 3)
    assert text_of(await ask(form, hot)) == "q 3"
    assert text_of(await ask(form, model)) == "q 1", "the other is refreshed by its own lookup"
    await until(lambda: tiered.cache.stats().stores == 4)


async def test_each_prompt_of_a_completion_call_is_refreshed(
    tiered: TieredCache, clock: Clock
) -> None:
    model = cached_model(Completion(), tiered)
    assert model.batch(["a", "b"]) == ["a 1", "b 2"]
    clock.now += 61
    assert model.batch(["a", "b"]) == ["a 1", "b 2"]
    await until(lambda: tiered.cache.stats().stores == 4)
    assert {text[0] for text in model.batch(["a", "b"])} == {"a", "b"}
    assert sorted(model._count) == ["a", "a", "b", "b"]


EXITING = """
import sys, time
from langchain_tiered_cache import TieredCache, cached_model
from tests.langchain.chat_models import Chat
from tests.fakes import Clock
from langchain_core.messages import AIMessage

def reply(messages):
    if model.calls > 1:
        time.sleep(60)
    return AIMessage("old")

clock = Clock()
cache = TieredCache(semantic=False, clock=clock, ttl=60, stale_ttl=600)
model = cached_model(Chat(reply=reply), cache)
model.invoke("q")
clock.now += 61
assert model.invoke("q").text == "old"
while model.calls < 2:
    time.sleep(0.01)
if len(sys.argv) > 1:
    cache.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("closes", [[], ["close"]])
def test_a_refresh_does_not_keep_a_process_from_ending(closes: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", EXITING, *closes],
        timeout=50,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
