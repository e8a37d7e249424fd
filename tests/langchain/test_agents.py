"""Whole runs of agents: the final answer is known, if all that the run did may be skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.prebuilt import ToolRuntime
from pydantic import BaseModel

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.middleware import TieredCacheMiddleware, _used
from shared_core import ResponseCache, Static, Verified
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat
from tests.soak import FULL

QUESTION = "How warm is it in Rome?"
REWORDED = "how warm is it in rome"


class Weather:
    """An agent with two tools, and what it did."""

    def __init__(self, tiered: TieredCache, name: str = "weather", **options: Any) -> None:
        self.models, self.tools = list[str](), list[str]()
        self.fails, self.unit = False, options.pop("unit", "")
        looks: list[BaseTool] = [self._tool(name) for name in ("weather", "forecast")]
        self.model = Calling(reply=self._reply, settings={"model": options.pop("model", "m")})
        self.name, prompt = name, options.pop("system_prompt", "Be brief.")
        self.agent = create_agent(
            self.model,
            looks,
            system_prompt=prompt,
            middleware=[
                TieredCacheMiddleware(
                    tiered,
                    answers=options.pop("answers", True),
                    tools=options.pop("safe", {"weather": 3600}),
                )
            ],
            **options,
        )

    def _tool(self, name: str) -> BaseTool:
        def look(city: str) -> str:
            """Look something up."""
            self.tools.append(name)
            if self.fails:
                raise ValueError("no")
            return f"{name} of {city}: 21{self.unit}"

        made: BaseTool = tool(name)(look)
        made.handle_tool_error = True
        return made

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        self.models.append(messages[-1].text)
        if isinstance(messages[-1], ToolMessage):
            return AIMessage(f"It is: {messages[-1].text}")
        call = {"name": self.name, "args": {"city": "Rome"}, "id": f"c{len(self.models)}"}
        return AIMessage("", tool_calls=[{**call, "type": "tool_call"}])

    def ask(self, question: str = QUESTION, **kwargs: Any) -> BaseMessage:
        state = {"messages": [*kwargs.pop("history", []), HumanMessage(question)]}
        found: BaseMessage = self.agent.invoke(state, **kwargs)["messages"][-1]
        return found

    async def aask(self, question: str = QUESTION) -> BaseMessage:
        state = {"messages": [HumanMessage(question)]}
        found: BaseMessage = (await self.agent.ainvoke(state))["messages"][-1]
        return found

    @property
    def did(self) -> tuple[int, int]:
        return len(self.models), len(self.tools)


class Calling(Chat):
    """A model that takes tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(embedder=fake_embed, threshold=Static(0.7))
    yield cache
    cache.close()


@pytest.mark.parametrize(("again", "tier"), [(QUESTION, "exact"), (REWORDED, "semantic")])
def test_a_known_run_calls_no_model_and_no_tool(again: str, tier: str, tiered: TieredCache) -> None:
    agent = Weather(tiered)
    first = agent.ask()
    assert agent.did == (2, 1)
    second = agent.ask(again)
    assert agent.did == (2, 1)
    assert second.text == first.text == "It is: weather of Rome: 21"
    assert second.response_metadata["tiered_cache"]["tier"] == tier
    assert second.id != first.id


async def test_a_known_run_that_is_awaited_calls_nothing(tiered: TieredCache) -> None:
    agent = Weather(tiered)
    first = await agent.aask()
    assert (await agent.aask(REWORDED)).text == first.text
    assert agent.did == (2, 1)


def test_a_known_run_streams_its_answer(tiered: TieredCache) -> None:
    agent = Weather(tiered)
    agent.ask()
    state = {"messages": [HumanMessage(REWORDED)]}
    chunks = [one.text for one, _ in agent.agent.stream(state, stream_mode="messages")]
    assert "".join(chunks) == "It is: weather of Rome: 21"
    assert agent.did == (2, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "forecast"},
        {"safe": {"weather": 3600}, "name": "forecast"},
        {"safe": {}},
        {"answers": False, "safe": {}},
    ],
    ids=str,
)
def test_a_run_that_used_a_tool_not_named_is_not_kept(
    options: dict[str, Any], tiered: TieredCache
) -> None:
    agent = Weather(tiered, **options)
    agent.ask()
    agent.ask(REWORDED)
    assert agent.did[1] == 2, "the tool is called again"


def test_a_run_with_a_failed_tool_is_not_kept(tiered: TieredCache) -> None:
    agent = Weather(tiered)
    agent.fails = True
    with pytest.raises(ValueError, match="no"):
        agent.ask()
    agent.fails = False
    assert agent.ask(REWORDED).text == "It is: weather of Rome: 21"
    assert len(agent.tools) == 2


def test_an_answer_ends_with_the_shortest_of_its_tools() -> None:
    tiered = TieredCache(semantic=False)
    agent = Weather(tiered, safe={"weather": 60, "forecast": 3600})
    agent.ask()
    kept = [
        record
        for record in tiered.cache._store.browse("default")[0]
        if record.answer.text.startswith("It is")
    ]
    lives = sorted(round((record.expires or 0) - record.created) for record in kept)
    assert lives[0] == 60


def test_a_tool_that_is_given_the_state_is_not_skipped(tiered: TieredCache) -> None:
    seen = list[int]()

    @tool
    def weather(city: str, runtime: ToolRuntime[Any, Any]) -> str:
        """Look something up."""
        seen.append(1)
        return "21"

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage("warm")
        call = {"name": "weather", "args": {"city": "Rome"}, "id": "c", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])

    middleware = TieredCacheMiddleware(tiered, answers=True, tools=["weather"])
    agent = create_agent(Calling(reply=reply), [weather], middleware=[middleware])
    for question in (QUESTION, REWORDED):
        agent.invoke({"messages": [HumanMessage(question)]})
    assert len(seen) == 2


def test_a_tool_that_cannot_be_read_is_skipped_by_its_version(tiered: TieredCache) -> None:
    seen, handle = list[str](), iter("abc")

    @tool
    def weather(city: str, runtime: ToolRuntime[Any, Any]) -> str:
        """Look something up."""
        seen.append(city)
        return "21" if handle else ""

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage("warm")
        call = {"name": "weather", "args": {"city": "Rome"}, "id": "c", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])

    for version, runs in ((1, 1), (1, 1), (2, 2)):
        middleware = TieredCacheMiddleware(
            tiered, answers=True, tools=["weather"], versions={"weather": version}
        )
        agent = create_agent(Calling(reply=reply), [weather], middleware=[middleware])
        agent.invoke({"messages": [HumanMessage(REWORDED)]})
        assert len(seen) == runs


PLAIN: dict[str, Any] = {
    "system_prompt": "Be brief.",
    "model": "m",
    "unit": "",
    "context": None,
    "question": QUESTION,
    "history": [],
    "safe": ("weather",),
}
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "system_prompt": st.text(min_size=1, max_size=20),
        "model": st.sampled_from(["m", "n", "o"]),
        "unit": st.sampled_from(["", " C", " F"]),
        "context": st.sampled_from([None, {"user": "a"}, {"user": "b"}]),
        "question": st.sampled_from([QUESTION, "How cold is it in Oslo?", "How warm is 2?"]),
        "history": st.lists(st.text(min_size=1, max_size=9), max_size=2),
        "safe": st.sampled_from([("weather",), ("weather", "forecast")]),
    },
)


def share_nothing(changes: list[dict[str, Any]]) -> None:
    """Run agents one after the other: only one that is equal in everything may know the answer."""
    tiered, seen = TieredCache(semantic=False), list[dict[str, Any]]()
    for change in changes:
        case = PLAIN | change
        agent = Weather(
            tiered,
            system_prompt=case["system_prompt"],
            model=case["model"],
            unit=case["unit"],
            safe=dict.fromkeys(case["safe"]),
        )
        history = [HumanMessage(one) for one in case["history"]]
        found = agent.ask(case["question"], history=history, context=case["context"])
        assert found.text == f"It is: weather of Rome: 21{case['unit']}"
        if case in seen:
            assert agent.did == (0, 0)
        else:
            assert agent.did[0] > 0
        seen.append(case)
    tiered.close()


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.lists(CHANGES, min_size=2, max_size=4))
def test_runs_that_differ_in_anything_share_nothing(changes: list[dict[str, Any]]) -> None:
    share_nothing(changes)


@pytest.mark.slow
@settings(max_examples=250 if FULL else 50, deadline=None)
@given(st.lists(CHANGES, min_size=4, max_size=5))
def test_many_runs_that_differ_share_nothing(changes: list[dict[str, Any]]) -> None:
    share_nothing(changes)


def test_each_call_of_a_model_and_of_a_tool_is_looked_up_once(tiered: TieredCache) -> None:
    agent = Weather(tiered)
    agent.ask()
    stats = tiered.cache.stats()
    assert (stats.lookups, sum(stats.misses.values()), stats.hits) == (3, 3, 0)
    agent.ask(REWORDED)
    stats = tiered.cache.stats()
    assert (stats.lookups, sum(stats.misses.values()), stats.hits) == (4, 3, 1)


@pytest.mark.parametrize("is_awaited", [False, True])
def test_the_first_call_of_a_run_is_serialised_once(
    is_awaited: bool, tiered: TieredCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[int]()
    strings = Calling._get_llm_string
    monkeypatch.setattr(
        Calling,
        "_get_llm_string",
        lambda *args, **kwargs: made.append(1) or strings(*args, **kwargs),
    )
    agent = Weather(tiered)
    for calls in (3, 1):  # the run's answer is kept under its first call, spelt anew at the end
        made.clear()
        asyncio.run(agent.aask()) if is_awaited else agent.ask()
        assert len(made) == calls


def test_calls_of_a_model_hit_exactly_where_the_whole_run_may_not_be_skipped(
    tiered: TieredCache,
) -> None:
    models = list[int]()

    @tool
    def forecast(city: str) -> str:
        """Look something up."""
        return "21"

    def reply(messages: list[BaseMessage]) -> AIMessage:
        models.append(1)
        if isinstance(messages[-1], ToolMessage):
            return AIMessage("warm")
        call = {"name": "forecast", "args": {"city": "Rome"}, "id": "c", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])

    agent = create_agent(
        Calling(reply=reply), [forecast], middleware=[TieredCacheMiddleware(tiered, answers=True)]
    )
    for _ in range(2):
        agent.invoke({"messages": [HumanMessage(QUESTION)]})
    assert len(models) == 2
    agent.invoke({"messages": [HumanMessage(REWORDED)]})
    assert len(models) == 4


def test_an_answer_whose_time_is_over_is_made_anew_by_a_whole_run() -> None:
    now = [1000.0]
    cache = ResponseCache.open(semantic=False, stale_ttl=9_000, clock=lambda: now[0])
    agent = Weather(TieredCache(cache=cache), safe={"weather": 60})
    agent.ask()
    now[0] += 61
    agent.models.clear()
    agent.ask()
    assert agent.did[1] == 2
    agent.ask()
    assert agent.did[1] == 2


def test_a_run_that_is_audited_goes_through_and_labels_the_answer_it_might_have_got() -> None:
    policy = Verified(start="own")  # which explores before it serves
    with TieredCache(
        embedder=fake_embed, threshold=policy, judge=lambda a, b: a.text == b.text
    ) as c:
        agent = Weather(c)
        first, second = agent.ask(), agent.ask(REWORDED)
        assert second.text == first.text
        assert agent.did == (4, 1), "a result of the same tool is known"
        assert c.cache.stats().policy["right"] == 1
        assert c.cache.stats().policy["wrong"] == 0


def test_coroutines_of_many_runs_do_not_mix(tiered: TieredCache) -> None:
    agent = Weather(tiered)

    async def all_of() -> list[str]:
        return [one.text for one in await asyncio.gather(*(agent.aask() for _ in range(5)))]

    assert set(asyncio.run(all_of())) == {"It is: weather of Rome: 21"}


def test_answers_must_be_a_choice(tiered: TieredCache) -> None:
    with pytest.raises(ValueError, match="answers"):
        TieredCacheMiddleware(tiered, answers="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lives", "ttl", "age", "left"),
    [
        ({"weather": 3600}, None, 3000, 600), ({"weather": 3600}, None, 0, 3600),
        ({"weather": None}, 3600, 3000, 600), ({"weather": 3600}, 1800, 3000, 600),
        ({"weather": None}, 3600, 0, 3600), ({"weather": None}, None, 3000, None),
    ],
)  # fmt: skip
async def test_an_answer_does_not_outlive_a_result_that_came_from_the_cache(
    lives: dict[str, float | None], ttl: float | None, age: float, left: float | None
) -> None:
    now = 1000.0
    tiered = TieredCache(semantic=False, clock=lambda: now, ttl=ttl)
    for awaited in (False, True):
        agent = Weather(tiered, safe=lives)
        tiered.cache.clear()
        agent.ask("Is it warm in Rome?")
        now += age
        asked = agent.aask() if awaited else asyncio.to_thread(agent.ask)
        assert (await asked).text == "It is: weather of Rome: 21"
        assert len(agent.tools) == 1, "the result came from the cache"
        now += (left or 10**9) - 1
        await agent.aask()
        assert len(agent.tools) == 1, "it holds as long as the result"
        if left is not None:
            now += 2
            await agent.aask()
            assert len(agent.tools) == 2, "and no longer"


class Cities(BaseModel):
    """What tools that have no signature are given."""

    first: str
    second: str = ""


@pytest.mark.parametrize("function", [max, min, getattr], ids=lambda one: one.__name__)
def test_a_tool_whose_function_has_no_signature_works_and_is_not_kept(
    function: Any, tiered: TieredCache
) -> None:
    made = StructuredTool(name="weather", description="d", func=function, args_schema=Cities)
    middleware = TieredCacheMiddleware(tiered, answers=True, tools=["weather"])
    model = Calling(reply=lambda messages: AIMessage("warm"))
    agent = create_agent(model, [made], middleware=[middleware])
    found = agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"][-1]
    assert found.text == "warm"


@pytest.mark.parametrize("mark", [None, "x", {}, {"age": None}, {"age": "old"}])
def test_marks_of_others_on_a_tool_s_result_break_nothing(mark: Any) -> None:
    call = {"name": "weather", "args": {}, "id": "c", "type": "tool_call"}
    result = ToolMessage("21", tool_call_id="c", response_metadata={"tiered_cache": mark})
    assert _used([AIMessage("", tool_calls=[call]), result]) == {"weather": 0.0}


@pytest.mark.parametrize("when", ["before the tool", "after the tool"])
def test_an_answer_is_not_kept_for_what_a_tool_became_during_its_run(
    when: str, tiered: TieredCache
) -> None:
    known = {"Rome": "21"}

    @tool
    def weather(city: str) -> str:
        """Look something up."""
        return known[city]

    class Meanwhile(AgentMiddleware[Any, Any, Any]):
        """Another thread, which brings what the tool knows up to date."""

        def before_model(self, state: Any, runtime: Any) -> None:
            if when == "after the tool" and isinstance(state["messages"][-1], ToolMessage):
                known["Rome"] = "30"

        def after_model(self, state: Any, runtime: Any) -> None:
            if when == "before the tool":
                known["Rome"] = "30"

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage(f"It is {messages[-1].text}")
        call = {"name": "weather", "args": {"city": "Rome"}, "id": "c", "type": "tool_call"}
        return AIMessage("", tool_calls=[call])

    middleware = TieredCacheMiddleware(tiered, answers=True, tools=["weather"])
    agent = create_agent(Calling(reply=reply), [weather], middleware=[Meanwhile(), middleware])
    said = [
        agent.invoke({"messages": [HumanMessage(one)]})["messages"][-1].text
        for one in (QUESTION, QUESTION, REWORDED)
    ]
    assert said[1:] == ["It is 30", "It is 30"]
