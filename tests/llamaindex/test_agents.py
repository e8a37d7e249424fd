"""Whole runs of agents: the final answer is known, if all that the run did may be skipped."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCall,
)
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context

from llamaindex_tiered_cache import cached_agent
from shared_core import ResponseCache, Static, Verified
from tests.fakes import fake_embed
from tests.llamaindex.fakes import FakeLLM, Reply, calling, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here
from tests.soak import FULL

pytestmark = [
    *MARKS,
    pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key"),
]

QUESTION = "How warm is it in Rome?"
REWORDED = "how warm is it in rome"
ANSWER = "It is weather of Rome: 21"


class Looks:
    """What tools did, and whether they fail: all that they hold."""

    def __init__(self, unit: str = "") -> None:
        self.done, self.fails, self.unit = list[str](), False, unit

    def tool(self, name: str) -> FunctionTool:
        def look(city: str) -> str:
            """Look something up."""
            self.done.append(name)
            if self.fails:
                raise ValueError("no")
            return f"{name} of {city}: 21{self.unit}"

        return FunctionTool.from_defaults(look, name=name)


def script(uses: list[str], is_react: bool) -> Reply:
    """Return what a model says that uses these tools, one after the other, and answers then."""

    def reply(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
        begin = max(
            at
            for at, one in enumerate(messages)
            if one.role is MessageRole.USER and "Observation:" not in (one.content or "")
        )
        results = [
            (one.content or "").removeprefix("Observation: ")
            for one in messages[begin + 1 :]
            if one.role is MessageRole.TOOL or "Observation:" in (one.content or "")
        ]
        if len(results) < len(uses):
            use = uses[len(results)]
            if not is_react:
                return calling(use, f"c{len(messages)}", city="Rome")
            return said(f'Thought: I look.\nAction: {use}\nAction Input: {{"city": "Rome"}}')
        text = f"It is {results[-1]}" if results else "It is so"
        return said(f"Thought: I know.\nAnswer: {text}" if is_react else text)

    return reply


class Weather:
    """An agent with two tools, and what it did."""

    def __init__(self, cache: ResponseCache, form: str = "FunctionAgent", **options: Any) -> None:
        self.looks, self.uses = Looks(options.pop("unit", "")), options.pop("uses", ["weather"])
        is_react = form.startswith("ReAct")
        self.llm = FakeLLM(script(self.uses, is_react), model=options.pop("model", "m"))
        looks = [self.looks.tool(name) for name in ("weather", "forecast", "send_note")]
        terms = {
            name: options.pop(name)
            for name in ("versions", "may_write", "namespace")
            if name in options
        }
        safe, prompt = options.pop("safe", {"weather": 3600}), options.pop("prompt", "Be brief.")
        kind: Any = ReActAgent if is_react else FunctionAgent
        made: Any = kind(
            name="Clerk",
            description="Knows the weather.",
            tools=looks,
            llm=self.llm,
            system_prompt=prompt,
            streaming=not form.endswith("at once"),
            **({} if "Workflow" in form else options),
        )
        if "Workflow" in form:
            made = AgentWorkflow(agents=[made], **options)
        self.agent = cached_agent(made, cache, tools=safe, **terms)

    @property
    def tools(self) -> list[str]:
        return self.looks.done

    async def ask(self, question: str = QUESTION, **kwargs: Any) -> AgentOutput:
        found: AgentOutput = await self.agent.run(question, **kwargs)
        return found

    @property
    def did(self) -> tuple[int, int]:
        return len(self.llm.calls), len(self.tools)


FORMS = [
    "FunctionAgent",
    "FunctionAgent at once",
    "ReActAgent",
    "ReActAgent at once",
    "AgentWorkflow",
    "ReActAgent in an AgentWorkflow",
]


@pytest.fixture
def cache() -> Iterator[ResponseCache]:
    with ResponseCache.open(embedder=fake_embed, threshold=Static(0.7)) as cache:
        yield cache


@pytest.mark.parametrize("again", [QUESTION, REWORDED])
@pytest.mark.parametrize("form", FORMS)
async def test_a_known_run_calls_no_model_and_no_tool(
    form: str, again: str, cache: ResponseCache
) -> None:
    agent = Weather(cache, form)
    first = await agent.ask()
    assert agent.did == (2, 1)
    assert first.response.content == ANSWER
    with cache.trace() as trace:
        second = await agent.ask(again)
    assert agent.did == (2, 1)
    assert second.response.content == ANSWER
    assert second.tool_calls == []
    assert trace.hits_by_tier == {"exact" if again == QUESTION else "semantic": 1}


async def test_a_known_run_streams_its_answer(cache: ResponseCache) -> None:
    agent = Weather(cache)
    seen = []
    for question in (QUESTION, REWORDED):
        handler = agent.agent.run(question)
        events = [one async for one in handler.stream_events()]
        await handler
        seen.append(events)
    texts = ["".join(e.delta for e in events if isinstance(e, AgentStream)) for events in seen]
    assert texts == [ANSWER, ANSWER]
    assert sum(isinstance(e, AgentStream) for e in seen[1]) > 1
    assert [any(isinstance(e, ToolCall) for e in events) for events in seen] == [True, False]
    assert agent.did == (2, 1)


async def test_each_call_of_a_model_is_looked_up_once(cache: ResponseCache) -> None:
    agent = Weather(cache)
    await agent.ask()
    assert (cache.stats().lookups, cache.stats().hits) == (2, 0)
    await agent.ask(REWORDED)
    assert (cache.stats().lookups, cache.stats().hits) == (3, 1)


@pytest.mark.parametrize(
    ("uses", "safe", "calls"),
    [
        (["forecast"], {"weather": 3600}, 2),
        (["weather", "forecast"], {"weather": 3600}, 4),
        (["forecast", "weather"], {"weather": None}, 4),
        (["weather"], (), 2),
        (["send_note"], {"send_note": None}, 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["FunctionAgent", "ReActAgent"])
async def test_a_run_that_used_a_tool_not_named_or_one_that_writes_is_not_kept(
    form: str, uses: list[str], safe: Any, calls: int, cache: ResponseCache
) -> None:
    agent = Weather(cache, form, uses=uses, safe=safe)
    for question in (QUESTION, REWORDED):
        await agent.ask(question)
    assert len(agent.tools) == calls
    assert len(agent.llm.calls) == 2 * (len(uses) + 1)


async def test_a_tool_that_writes_is_skipped_if_its_author_says_so(cache: ResponseCache) -> None:
    options: dict[str, Any] = {"uses": ["send_note"], "safe": ["send_note"]}
    agent = Weather(cache, may_write=["send_note"], **options)
    for question in (QUESTION, REWORDED):
        await agent.ask(question)
    assert agent.did == (2, 1)


async def test_a_run_with_several_tools_is_kept_if_all_of_them_may_be_skipped(
    cache: ResponseCache,
) -> None:
    agent = Weather(cache, uses=["weather", "forecast"], safe={"weather": 60, "forecast": 3600})
    for question in (QUESTION, REWORDED):
        await agent.ask(question)
    assert agent.did == (3, 2)
    kept = [one for one in cache._store.browse("default")[0] if one.answer.text.startswith("It")]
    lives = {round((one.expires or 0) - one.created) for one in kept}
    assert 60 in lives, "the shortest of their times"
    assert 3600 not in lives


async def test_a_run_in_which_a_tool_failed_is_not_kept(cache: ResponseCache) -> None:
    agent = Weather(cache)
    agent.looks.fails = True
    assert "no" in str((await agent.ask()).response.content)
    agent.looks.fails = False
    assert (await agent.ask(REWORDED)).response.content == ANSWER
    assert len(agent.tools) == 2


async def test_a_tool_that_is_given_the_context_is_not_skipped(
    cache: ResponseCache, caplog: pytest.LogCaptureFixture
) -> None:
    seen = list[int]()

    async def weather(ctx: Context, city: str) -> str:
        """Look something up."""
        seen.append(1)
        return "21"

    weather.__annotations__["ctx"] = Context
    agent = Weather(cache)
    made = FunctionAgent(tools=[weather], llm=agent.llm)
    cached = cached_agent(made, cache, tools=["weather"])
    for question in (QUESTION, REWORDED, QUESTION):
        await cached.run(question)
    assert len(seen) == 3
    assert [one.getMessage() for one in caplog.records] == [
        "no answer is kept of runs that use weather, which is given the context of the run"
    ]


class Index:
    """Something with a handle, which nobody can read."""

    def __init__(self, text: str) -> None:
        self.text, self.handle = text, iter([])
        self.lock = open(__file__)  # noqa: SIM115 - closed by the test

    def search(self, city: str) -> str:
        """Look something up."""
        return self.text


async def test_a_tool_that_cannot_be_read_is_known_by_its_version(
    cache: ResponseCache, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index("21")
    llm = Weather(cache, uses=["search"]).llm
    tool = FunctionTool.from_defaults(index.search, name="search")

    async def calls(version: str | None) -> int:
        before = len(llm.calls)
        given: Any = {"versions": {"search": version}} if version else {}
        made = cached_agent(FunctionAgent(tools=[tool], llm=llm), cache, tools=["search"], **given)
        await made.run(REWORDED)
        return len(llm.calls) - before

    await calls(None)
    assert "versions=" in caplog.text
    assert [await calls(version) for version in ("7", "7", "8", "7")] == [1, 0, 1, 0]
    index.lock.close()


async def test_a_turn_of_a_conversation_depends_on_those_before(cache: ResponseCache) -> None:
    agent, memory = Weather(cache), ChatMemoryBuffer.from_defaults(token_limit=10_000)
    for expected in ((2, 1), (4, 2)):
        assert (await agent.ask(memory=memory)).response.content == ANSWER
        assert agent.did == expected
    history = [ChatMessage(role="user", content="Hi"), said("Hello")]
    await agent.ask(chat_history=history)
    assert agent.did == (6, 3)
    await agent.ask(REWORDED, chat_history=history)
    assert agent.did == (6, 3)


async def test_what_a_context_holds_survives_json_and_is_then_not_kept(
    cache: ResponseCache,
) -> None:
    agent = Weather(cache)
    ctx = Context(agent.agent)
    await agent.ask(ctx=ctx)
    again = Context.from_dict(agent.agent, json.loads(json.dumps(ctx.to_dict())))
    assert (await agent.ask("And now?", ctx=again)).response.content == ANSWER


async def test_an_agent_whose_run_broke_off_begins_anew(cache: ResponseCache) -> None:
    agent = Weather(cache, uses=["weather"] * 3)
    ctx = Context(agent.agent)
    with pytest.raises(Exception, match="Max iterations"):
        await agent.ask(ctx=ctx, max_iterations=2)
    agent.uses[:] = ["weather"]
    await agent.ask("And in Oslo?", ctx=ctx)
    assert cache.stats().errors == {}


@pytest.mark.parametrize("form", ["FunctionAgent", "AgentWorkflow"])
async def test_tenants_share_no_runs(form: str, cache: ResponseCache) -> None:
    agent = Weather(cache, form)
    for namespace, expected in (("a", 2), ("a", 2), ("b", 4), (None, 6), ("b", 6)):
        named = nullcontext() if namespace is None else cache.control(namespace=namespace)
        with named:
            await agent.ask(REWORDED)
        assert len(agent.llm.calls) == expected
    assert len(Weather(cache, namespace="a").llm.calls) == 0


async def test_the_state_of_a_workflow_is_part_of_what_must_be_equal(cache: ResponseCache) -> None:
    for state, expected in (({"user": "a"}, 2), ({"user": "a"}, 0), ({"user": "b"}, 2)):
        agent = Weather(cache, "AgentWorkflow", initial_state=state)
        await agent.ask()
        assert len(agent.llm.calls) == expected


async def test_a_run_that_was_handed_over_is_not_kept(cache: ResponseCache) -> None:
    def reply(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:
        if any("handoff" in str(one.blocks) for one in messages):
            return said("It is so")
        return calling("handoff", to_agent="b", reason="as asked")

    llm = FakeLLM(reply)
    agents = [
        FunctionAgent(name=name, description=name, llm=llm, tools=[Looks().tool("weather")])
        for name in "ab"
    ]
    flow = cached_agent(
        AgentWorkflow(agents=agents, root_agent="a"), cache, tools=["weather", "handoff"]
    )
    for question in (QUESTION, REWORDED):
        await flow.run(question)
    assert len(llm.calls) == 4


async def test_a_run_that_is_audited_goes_through_and_labels_the_answer_it_might_have_got() -> None:
    with ResponseCache.open(
        embedder=fake_embed, threshold=Verified(start="own"), judge=lambda a, b: a.text == b.text
    ) as cache:
        agent = Weather(cache)
        for question in (QUESTION, REWORDED):
            assert (await agent.ask(question)).response.content == ANSWER
        assert agent.did == (4, 2)
        policy = cache.stats().policy
        assert (policy["right"], policy["wrong"]) == (1, 0)


async def test_many_runs_at_a_time_do_not_mix(cache: ResponseCache) -> None:
    agent = Weather(cache)
    found = await asyncio.gather(*(agent.ask(one) for one in [QUESTION, REWORDED] * 3))
    assert {one.response.content for one in found} == {ANSWER}


async def test_a_store_that_fails_fails_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ResponseCache.open(semantic=False)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(cache._store, "get", fail)
    monkeypatch.setattr(cache._store, "put", fail)
    agent = Weather(cache)
    for _ in range(2):
        assert (await agent.ask()).response.content == ANSWER


def test_a_cached_agent_is_an_agent_of_its_own_class_and_leaves_the_other_as_it_was(
    cache: ResponseCache,
) -> None:
    llm = FakeLLM()
    made = FunctionAgent(name="a", llm=llm, tools=[])
    cached = cached_agent(made, cache)
    assert isinstance(cached, FunctionAgent)
    assert type(cached).__name__ == "FunctionAgent"
    assert made.llm is llm
    again = cached_agent(cached, cache)
    assert type(again) is type(cached)
    assert again.llm is cached.llm


@pytest.mark.parametrize("form", ["FunctionAgent", "AgentWorkflow"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
async def test_a_copied_agent_shares_the_cache(
    form: str, copied: Any, cache: ResponseCache
) -> None:
    agent = Weather(cache, form)
    await agent.ask()
    calls = len(cache.stats().misses)
    found = await copied(agent.agent).run(QUESTION)
    assert found.response.content == ANSWER
    assert len(cache.stats().misses) == calls
    assert cache.stats().hits == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"agent": "x"}, "agent"),
        ({"tools": "weather"}, "tools"),
        ({"tools": {"weather": -1}}, "weather"),
        ({"versions": {"wether": 1}}, "wether"),
        ({"may_write": ["wether"]}, "wether"),
        ({"namespace": ""}, "namespace"),
        ({"cache": 3}, "cache"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(given: dict[str, Any], says: str) -> None:
    agent = FunctionAgent(llm=FakeLLM(), tools=[])
    with pytest.raises(ValueError, match=says):
        cached_agent(**{"agent": agent, "tools": ["weather"], **given})


PLAIN: dict[str, Any] = {
    "prompt": "Be brief.",
    "model": "m",
    "unit": "",
    "state": {},
    "history": [],
    "question": QUESTION,
    "safe": ("weather",),
}
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(min_size=1, max_size=20).filter(str.strip),
        "model": st.sampled_from(["m", "n", "o"]),
        "unit": st.sampled_from(["", " C", " F"]),
        "state": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), max_size=2),
        "question": st.sampled_from([QUESTION, "How cold is it in Oslo?", "How warm is 2?"]),
        "history": st.lists(st.text(min_size=1, max_size=9).filter(str.strip), max_size=2),
        "safe": st.sampled_from([("weather",), ("weather", "forecast")]),
    },
)


async def share_nothing(changes: list[dict[str, Any]], form: str) -> None:
    """Run agents one after the other: only one that is equal in everything may know the answer."""
    seen = list[dict[str, Any]]()
    with ResponseCache.open(semantic=False) as cache:
        for change in changes:
            case = PLAIN | change
            agent = Weather(
                cache,
                form,
                prompt=case["prompt"],
                model=case["model"],
                unit=case["unit"],
                initial_state=case["state"],
                safe=dict.fromkeys(case["safe"]),
            )
            history = [ChatMessage(role="user", content=one) for one in case["history"]]
            found = await agent.ask(case["question"], chat_history=history)
            assert found.response.content == ANSWER + case["unit"]
            if case in seen:
                assert agent.did == (0, 0)
            else:
                assert len(agent.tools) == 1
            seen.append(case)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["FunctionAgent", "ReActAgent"])
@settings(max_examples=125 if FULL else 15, deadline=None)
@given(changes=st.lists(CHANGES, min_size=4, max_size=5))
def test_runs_that_differ_in_anything_share_nothing(
    form: str, changes: list[dict[str, Any]]
) -> None:
    asyncio.run(share_nothing(changes, form))
