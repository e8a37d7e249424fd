"""``history=standalone(model)`` through LangChain: invoke, ainvoke, streams, the middleware."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tiered_cache import TieredCache, cached_model
from shared_core import Static, standalone
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat

FREE = "How many projects can I have on the free plan?"
FIRST = ("I am on the free plan.", "How many projects can I have?")
SECOND = ("Hi, we use the free plan.", "And how many projects are there?")
TRAP = ("Hi, we use the team plan.", "And how many projects are there, please?")


class Rewriter:
    """A model that knows the plan of a conversation."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str:
        data = json.loads(prompt[prompt.rindex("\n{\n") :])
        self.asked.append(data["last message"])
        plan = "team" if "team" in json.dumps(data["conversation"]) else "free"
        return FREE.replace("free", plan)


def talk(said: str, question: str, system: str = "You help.") -> list[BaseMessage]:
    return [
        SystemMessage(system), HumanMessage(said), AIMessage("Good to know."),
        HumanMessage(question),
    ]  # fmt: skip


@pytest.fixture
def rewriter() -> Rewriter:
    return Rewriter()


@pytest.fixture
def cache(rewriter: Rewriter) -> Iterator[TieredCache]:
    opened = TieredCache(history=standalone(rewriter), threshold=Static(0.9), embedder=fake_embed)
    set_llm_cache(opened)
    yield opened
    set_llm_cache(None)
    opened.close()


def invoke(model: Any, messages: list[BaseMessage]) -> str:
    return str(model.invoke(messages).text)


def ainvoke(model: Any, messages: list[BaseMessage]) -> str:
    return str(asyncio.run(model.ainvoke(messages)).text)


def stream(model: Any, messages: list[BaseMessage]) -> str:
    return "".join(chunk.text for chunk in model.stream(messages))


def astream(model: Any, messages: list[BaseMessage]) -> str:
    async def all_of() -> str:
        return "".join([chunk.text async for chunk in model.astream(messages)])

    return asyncio.run(all_of())


@pytest.mark.parametrize("ask", [invoke, ainvoke, stream, astream])
def test_a_follow_up_is_served_in_every_way_of_asking(
    cache: TieredCache, rewriter: Rewriter, ask: Any
) -> None:
    model = cached_model(Chat(), cache)
    first = ask(model, talk(*FIRST))
    assert ask(model, talk(*SECOND)) == first
    assert ask(model, talk(*TRAP)) != first
    assert model.calls == 2
    assert len(rewriter.asked) == 3
    assert ask(model, talk(*FIRST)) == first  # exactly: nobody is asked
    assert len(rewriter.asked) == 3


def test_the_mark_says_that_it_was_by_meaning(cache: TieredCache) -> None:
    model = Chat()
    model.invoke(talk(*FIRST))
    mark = model.invoke(talk(*SECOND)).response_metadata["tiered_cache"]
    assert mark["hit"] is True
    assert mark["tier"] == "semantic"
    cache.feedback(mark["entry_id"], False)
    assert model.invoke(talk(*SECOND)).response_metadata["tiered_cache"]["hit"] is False


def test_system_prompts_and_settings_stay_apart(cache: TieredCache) -> None:
    model, other = Chat(), Chat(settings={"top_p": 0.5})
    model.invoke(talk(*FIRST))
    model.invoke(talk(*SECOND, system="You help members."))
    other.invoke(talk(*SECOND))
    assert (model.calls, other.calls) == (2, 1)


def test_a_tool_loop_is_left_alone(cache: TieredCache, rewriter: Rewriter) -> None:
    call = {"name": "find", "args": {}, "id": "1"}
    told = [
        HumanMessage("Where is order 12?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("In Oslo.", tool_call_id="1"),
        AIMessage("In Oslo."),
        HumanMessage("And when does it arrive?"),
    ]
    Chat().invoke(told)
    assert rewriter.asked == []


def test_a_chain_that_condenses_questions_itself_is_not_rewritten_twice(
    cache: TieredCache, rewriter: Rewriter
) -> None:
    system = "Given a chat history and the latest question, formulate a standalone question."
    Chat().invoke(talk(*FIRST, system=system))
    assert rewriter.asked == []


def test_a_chat_model_rewrites_and_is_not_asked_through_the_cache() -> None:
    small = Chat(settings={"model": "small"}, reply=lambda messages: AIMessage(FREE))
    opened = TieredCache(history=standalone(small), threshold=Static(0.9), embedder=fake_embed)
    set_llm_cache(opened)
    try:
        model = Chat()
        model.invoke(talk(*FIRST))
        model.invoke(talk(*SECOND))
    finally:
        set_llm_cache(None)
        opened.close()
    assert (model.calls, small.calls) == (1, 2)
    assert opened.cache.stats().lookups == 2


def test_the_middleware_of_agents_serves_follow_ups_too(
    cache: TieredCache, rewriter: Rewriter
) -> None:
    agents = pytest.importorskip("langchain.agents")
    from langchain_tiered_cache.middleware import TieredCacheMiddleware

    set_llm_cache(None)
    model = Chat()
    agent = agents.create_agent(model, middleware=[TieredCacheMiddleware(cache)])
    for said in (FIRST, SECOND):
        agent.invoke({"messages": talk(*said)[1:]})
    assert model.calls == 1
    assert len(rewriter.asked) == 2
