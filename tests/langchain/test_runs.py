"""Who asks: what the metadata of one call says to the cache, however the call is made."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import RunnableConfig, RunnableLambda

from langchain_tiered_cache import TieredCache, call_context
from langchain_tiered_cache.call_context import current_runs
from tests.langchain.chat_models import Chat, prompt_of

FORMS = ["invoke", "ainvoke", "batch", "abatch", "stream", "astream", "chain", "achain"]


def says(**told: Any) -> RunnableConfig:
    return {"metadata": {"tiered_cache": told}}


async def ask(form: str, model: Chat, question: str, config: RunnableConfig) -> Any:
    """Call a model in one of the ways that there are."""
    asked: Any = model
    if form.endswith("chain"):
        asked = RunnableLambda(lambda text: [HumanMessage(str(text))]) | model
    if form in ("invoke", "chain"):
        return asked.invoke(question, config)
    if form == "batch":
        return asked.batch([question], config)[0]
    if form == "abatch":
        return (await asked.abatch([question], config))[0]
    if form == "stream":
        (chunk,) = asked.stream(question, config)
        return chunk
    if form == "astream":
        (chunk,) = [chunk async for chunk in asked.astream(question, config)]
        return chunk
    return await asked.ainvoke(question, config)


def was_hit(answer: BaseMessage) -> bool:
    return bool(answer.response_metadata["tiered_cache"]["hit"])


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


@pytest.mark.parametrize("form", FORMS)
async def test_a_namespace_reaches_lookup_and_update(form: str, tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    assert not was_hit(await ask(form, model, "q", says(namespace="a")))
    assert not was_hit(await ask(form, model, "q", says(namespace="b")))
    assert not was_hit(await ask(form, model, "q", {}))
    for config in (says(namespace="a"), says(namespace="b"), RunnableConfig()):
        assert was_hit(await ask(form, model, "q", config))
    with tiered.cache.control(namespace="a"):
        assert tiered.cache.clear() == 1


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_read_write_ttl_and_tags_hold_for_one_call(form: str, tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    await ask(form, model, "q", says(write=False))
    assert not was_hit(await ask(form, model, "q", says(tags=["t"])))
    assert was_hit(await ask(form, model, "q", {}))
    assert not was_hit(await ask(form, model, "q", says(read=False, tags=["t"])))
    assert tiered.cache.invalidate(tag="t") == 1
    await ask(form, model, "q", says(ttl=1e-9))
    assert not was_hit(await ask(form, model, "q", {}))


def test_what_the_call_does_not_name_stays_as_control_says(tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    with tiered.cache.control(namespace="a", tags=["t"]):
        model.invoke("q", says(ttl=60))
    assert not was_hit(model.invoke("q"))
    with tiered.cache.control(namespace="a"):
        assert tiered.cache.invalidate(tag="t") == 1


@pytest.mark.parametrize(
    "told",
    [
        {"namespace": ""},
        {"namespace": None},
        {"namespace": 7},
        {"namespace": ["a"]},
        {"namespce": "a"},
        "a",
        ["namespace", "a"],
    ],
)
@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_namespace_that_is_none_is_a_miss_and_keeps_nothing(
    told: Any, form: str, tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = Chat(cache=tiered)
    await ask(form, model, "q", {})
    with caplog.at_level(logging.WARNING, "tiered_cache"):
        for _ in range(3):
            answer = await ask(form, model, "q", {"metadata": {"tiered_cache": told}})
            assert not was_hit(answer)
    assert len(caplog.records) == 1
    assert tiered.cache.clear() == 1, "the one of the call without metadata"
    assert model.calls == 4


@pytest.mark.parametrize(
    ("told", "hits"),
    [
        ({"ttl": -1, "write": True}, True),
        ({"ttl": "soon"}, True),
        ({"tags": "t"}, True),
        ({"tags": [""]}, True),
        ({"write": "no"}, True),
        ({"read": "no"}, False),
    ],
)
def test_a_wrong_value_is_warned_of_once_and_what_hangs_on_it_left_out(
    told: Any, hits: bool, tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    model = Chat(cache=tiered)
    model.invoke("known")
    with caplog.at_level(logging.WARNING, "tiered_cache"):
        assert was_hit(model.invoke("known", says(**told))) is hits
        model.invoke("new", says(**told))
    assert len(caplog.records) == 1
    assert was_hit(model.invoke("new")) is not hits, "with a wrong ttl nothing is kept"


@pytest.mark.slow
async def test_two_tenants_never_share_an_answer(tiered: TieredCache) -> None:
    """2,000 calls, in all forms, at random and at the same time; each answer names its asker."""
    rng = random.Random(7)
    owner: dict[str, str] = {}

    async def one(number: int) -> int:
        tenant, form = rng.choice(["a", "b", ""]), rng.choice(FORMS)
        question = f"q{rng.randrange(40)}"
        model = Chat(cache=tiered, reply=lambda messages: _signed(tenant, messages))
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        config = says(namespace=tenant) if tenant else RunnableConfig()
        answer = await ask(form, model, question, config)
        owner[str(number)] = tenant
        return answer.text.split("|")[0] != tenant

    async def together(numbers: range) -> int:
        return sum(await asyncio.gather(*map(one, numbers)))

    shared = sum([await together(range(start, start + 50)) for start in range(0, 2000, 50)])
    assert (shared, len(owner)) == (0, 2000)
    assert tiered.cache.stats().hits > 1000
    assert not tiered.errors


def _signed(tenant: str, messages: list[BaseMessage]) -> Any:
    from langchain_core.messages import AIMessage

    return AIMessage(f"{tenant}|{messages[-1].text}")


async def test_many_prompts_of_one_call_stay_with_its_tenant(tiered: TieredCache) -> None:
    model = Chat(cache=tiered)
    prompts: list[list[BaseMessage]] = [[HumanMessage(f"q{n}")] for n in range(40)]
    for tenant in "ab":
        await model.agenerate(prompts, metadata=says(namespace=tenant)["metadata"])
        model.generate(prompts, metadata=says(namespace=tenant)["metadata"])
    assert model.calls == 80
    assert tiered.cache.clear() == 0, "nothing under the default name"


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_nested_calls_of_other_tenants_change_nothing(form: str, tiered: TieredCache) -> None:
    """The outer model asks forty times for others before it answers."""
    inner = Chat(cache=tiered)

    class Outer(Chat):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            for n in range(40):
                inner.invoke(f"inner {n}", says(namespace="other"))
            return super()._generate(messages, *args, **kwargs)

        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            for n in range(40):
                await inner.ainvoke(f"inner {n}", says(namespace="other"))
            return Chat._generate(self, messages, *args, **kwargs)

    outer = Outer(cache=tiered, settings={"model": "outer"})
    await ask(form, outer, "q", says(namespace="mine"))
    assert was_hit(await ask(form, outer, "q", says(namespace="mine")))
    with tiered.cache.control(namespace="other"):
        assert tiered.cache.clear() == 40


async def test_a_direct_lookup_after_a_call_is_nobodys(tiered: TieredCache) -> None:
    from tests.langchain.chat_models import prompt_of

    model = Chat(cache=tiered)
    seen: list[tuple[str, str]] = []
    lookup = tiered.alookup

    async def spy(prompt: str, llm_string: str) -> Any:
        seen.append((prompt, llm_string))
        return await lookup(prompt, llm_string)

    tiered.alookup = spy  # type: ignore[method-assign]
    await model.ainvoke("q", says(namespace="a"))
    assert seen[0][0] == prompt_of(HumanMessage("q"))
    assert tiered.lookup(*seen[0]) is None
    assert await lookup(*seen[0]) is None


@pytest.mark.parametrize("fails", [False, True])
async def test_runs_are_forgotten_when_they_end(fails: bool, tiered: TieredCache) -> None:
    def reply(messages: list[BaseMessage]) -> Any:
        assert len(current_runs()) == 1
        if fails:
            raise KeyError(messages[-1].text)
        return _signed("", messages)

    model = Chat(cache=tiered, reply=reply)
    for n in range(3):
        await asyncio.gather(model.ainvoke(f"{n}"), return_exceptions=True)
        try:
            model.invoke(f"sync {n}")
        except KeyError:
            assert fails
    assert current_runs() == ()


# ------------------------------------------------------------------------- completion models


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_completion_models_tenant_is_known_in_a_chain(
    form: str, tiered: TieredCache
) -> None:
    llm = FakeListLLM(responses=["1", "2", "3"], cache=tiered)
    chain = RunnableLambda(str) | llm

    async def answer(config: RunnableConfig) -> str:
        return chain.invoke("q", config) if form == "invoke" else await chain.ainvoke("q", config)

    assert [await answer(says(namespace=name)) for name in "aabb"] == ["1", "1", "2", "2"]
    assert not tiered.errors


@pytest.mark.parametrize("form", ["invoke", "ainvoke", "batch"])
async def test_a_completion_models_tenant_that_comes_late_keeps_nothing(
    form: str, tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    llm = FakeListLLM(responses=list("123456789"), cache=tiered)
    for name in "ab":
        if form == "invoke":
            llm.invoke("q", says(namespace=name))
        elif form == "ainvoke":
            await llm.ainvoke("q", says(namespace=name))
        else:
            llm.batch(["q", "r"], [says(namespace=name), says(namespace="c")])
    assert len(caplog.records) == 1
    assert "cache.control" in caplog.text
    for name in ("a", "b", "c", "default"):
        with tiered.cache.control(namespace=name):
            assert tiered.cache.clear() == 0


async def test_the_apps_own_callbacks_are_called_all_the_same(tiered: TieredCache) -> None:
    """With any inline handler, LangChain would leave the others out of a completion's start."""
    seen: list[str] = []

    class Own(AsyncCallbackHandler):
        async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append("start")

        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append("end")

    await FakeListLLM(responses=["a"], cache=tiered).ainvoke("q", {"callbacks": [Own()]})
    assert seen == ["start", "end"]


def test_lookups_by_hand_leave_nothing_behind_in_their_context(tiered: TieredCache) -> None:
    llm_string = Chat()._get_llm_string()
    before = call_context._askings.get()
    for number in range(100):
        assert tiered.lookup(prompt_of(HumanMessage(f"{number}?")), llm_string) is None
    assert call_context._askings.get() == before


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_lookup_and_an_update_by_hand_inside_of_an_equal_call_leave_it_its_own(
    form: str, tiered: TieredCache
) -> None:
    def reply(messages: list[BaseMessage]) -> AIMessage:
        pair = prompt_of(*messages), model._get_llm_string()
        tiered.lookup(*pair)
        tiered.update(*pair, [ChatGeneration(message=AIMessage("by hand"))])
        return AIMessage("by the model")

    model = Chat(cache=tiered, reply=reply)
    await ask(form, model, "Who?", says(namespace="tenant"))
    assert (await ask(form, model, "Who?", says(namespace="tenant"))).text == "by the model"
    by_hand = tiered.lookup(prompt_of(HumanMessage("Who?")), model._get_llm_string())
    assert by_hand is not None
    assert by_hand[0].text == "by hand"
