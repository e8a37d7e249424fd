"""An answer that the next step cannot use is not read again: retries ask the model anew."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda
from pydantic import BaseModel

from langchain_tiered_cache import TieredCache, cached_model
from tests.langchain.chat_models import Chat

GOOD, BAD = '{"name": "Rome", "people": 3}', "Rome has three people."


class City(BaseModel):
    """A city."""

    name: str
    people: int


def replies(*texts: str) -> Callable[[list[BaseMessage]], AIMessage]:
    """Return a reply that goes through texts, and stays at the last."""
    left = list(texts)
    return lambda _: AIMessage(left.pop(0) if len(left) > 1 else left[0])


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


PARSERS: dict[str, Callable[[], Any]] = {
    "json": JsonOutputParser,
    "pydantic": lambda: PydanticOutputParser(pydantic_object=City),
    "function": lambda: RunnableLambda(lambda message: json.loads(message.content)),
}


def chain(model: Any, parser: str, attempts: int = 3) -> Runnable[Any, Any]:
    prompt = ChatPromptTemplate.from_messages([("human", "Describe {city}.")])
    steps = prompt | model | PARSERS[parser]()
    return steps.with_retry(stop_after_attempt=attempts, wait_exponential_jitter=False)


async def ask(asked: Runnable[Any, Any], form: str, value: Any) -> Any:
    if form == "invoke":
        return asked.invoke(value)
    if form == "ainvoke":
        return await asked.ainvoke(value)
    if form == "batch":
        return asked.batch([value])[0]
    return (await asked.abatch([value]))[0]


FORMS = ["invoke", "ainvoke", "batch", "abatch"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parser", PARSERS)
async def test_a_retry_asks_the_model_anew(tiered: TieredCache, parser: str, form: str) -> None:
    model = Chat(cache=tiered, reply=replies(BAD, BAD, GOOD))
    found = await ask(chain(model, parser), form, {"city": "Rome"})
    assert found in ({"name": "Rome", "people": 3}, City(name="Rome", people=3))
    assert model.calls == 3
    # the answer that was good is kept
    await ask(chain(model, parser), form, {"city": "Rome"})
    assert model.calls == 3
    assert tiered.cache.stats().hits == 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_hit_that_fails_is_dropped_and_asked_anew(tiered: TieredCache, form: str) -> None:
    """Somebody who does not parse it stored the answer; who does gets another."""
    model = Chat(cache=tiered, reply=replies(BAD, GOOD))
    await ask(model, form, "Human: Describe Rome.")
    prompt = ChatPromptTemplate.from_messages([("human", "Describe {city}.")])
    await ask(prompt | model, form, {"city": "Rome"})
    calls = model.calls
    found = await ask(chain(model, "json"), form, {"city": "Rome"})
    assert found == json.loads(GOOD)
    assert model.calls <= calls + 1


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_that_failed_is_not_served_to_the_next_run(
    tiered: TieredCache, form: str
) -> None:
    model = Chat(cache=tiered, reply=replies(BAD, GOOD))
    with pytest.raises(OutputParserException):
        await ask(chain(model, "json", attempts=1), form, {"city": "Rome"})
    assert await ask(chain(model, "json", attempts=1), form, {"city": "Rome"}) == json.loads(GOOD)
    assert model.calls == 2


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_of_a_run_that_went_well_stays(tiered: TieredCache, form: str) -> None:
    """A failure elsewhere drops nothing."""
    model = Chat(cache=tiered, reply=replies(GOOD))
    await ask(chain(model, "json"), form, {"city": "Rome"})
    broken = RunnableLambda(lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await ask(broken, form, 1)
    with pytest.raises(ZeroDivisionError):
        await ask(chain(model, "json") | broken, form, {"city": "Rome"})
    await ask(chain(model, "json"), form, {"city": "Rome"})
    assert model.calls == 1


def parsed(chunks: Iterator[Any]) -> Iterator[Any]:
    yield json.loads("".join(chunk.content for chunk in chunks))


async def aparsed(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield json.loads("".join([chunk.content async for chunk in chunks]))


@pytest.mark.parametrize("form", ["stream", "astream"])
async def test_a_stream_that_a_parser_refuses_is_asked_anew(tiered: TieredCache, form: str) -> None:
    inner = Chat(reply=replies(BAD, GOOD))
    steps = cached_model(inner, tiered) | RunnableGenerator(parsed, aparsed)
    found: list[Any] = []
    for _ in range(3):
        with suppress(ValueError):
            if form == "stream":
                found += steps.stream("Describe Rome.")
            else:
                found += [one async for one in steps.astream("Describe Rome.")]
    assert found == [json.loads(GOOD)] * 2
    assert inner.calls == 2


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
@pytest.mark.parametrize("method", ["function_calling", "json_mode"])
async def test_structured_output_with_retries_asks_anew(form: str, method: Any) -> None:
    import httpx
    from langchain_openai import ChatOpenAI

    texts = ['{"name": "Rome"}', GOOD]
    asked: list[Any] = []

    def server(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body)
        text = texts[min(len(asked), len(texts)) - 1]
        call = {"id": "c", "type": "function", "function": {"name": "City", "arguments": text}}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
        return httpx.Response(200, json={**whole, "choices": [choice]})

    tiered = TieredCache(semantic=False)
    set_llm_cache(tiered)
    try:
        transport = httpx.MockTransport(server)
        model = ChatOpenAI(
            model="gpt-4o-mini",
            temperature=0,
            api_key="sk",  # type: ignore[arg-type]
            http_client=httpx.Client(transport=transport),
            http_async_client=httpx.AsyncClient(transport=transport),
        )
        structured = model.with_structured_output(City, method=method).with_retry(
            stop_after_attempt=3, wait_exponential_jitter=False
        )
        for _ in range(2):
            assert await ask(structured, form, "Describe Rome as JSON.") == City(
                name="Rome", people=3
            )
        assert len(asked) == 2
    finally:
        set_llm_cache(None)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([GOOD, BAD, "", "no JSON", "name: Rome"]), min_size=1, max_size=6))
def test_whatever_a_model_says_in_turn_no_answer_that_failed_is_served(texts: list[str]) -> None:
    tiered = TieredCache(semantic=False)
    model = Chat(cache=tiered, reply=replies(*texts, GOOD))
    for _ in range(len(texts) + 1):
        before = model.calls
        try:
            chain(model, "json", attempts=1).invoke({"city": "Rome"})
        except OutputParserException:
            assert model.calls == before + 1  # never a hit
    assert chain(model, "json", attempts=1).invoke({"city": "Rome"}) == json.loads(GOOD)
    tiered.close()
