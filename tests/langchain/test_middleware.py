"""Agents: model calls and named tools from the cache, and the state of a graph left whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolRuntime
from pydantic import BaseModel

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.middleware import TieredCacheMiddleware
from tests.langchain.chat_models import Chat


class Bound(Chat):
    """A model that takes tools, and counts its calls in a field of its own too."""

    count: int = 0

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        from langchain_core.utils.function_calling import convert_to_openai_tool

        return self.bind(tools=[convert_to_openai_tool(one) for one in tools], **kwargs)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return super()._generate(*args, **kwargs)


@pytest.fixture
def tiered() -> Iterator[TieredCache]:
    cache = TieredCache(semantic=False)
    yield cache
    cache.close()


async def run(form: str, agent: Any, question: str, **kwargs: Any) -> dict[str, Any]:
    state = {"messages": [{"role": "user", "content": question}]}
    if form == "invoke":
        found: dict[str, Any] = agent.invoke(state, **kwargs)
    else:
        found = await agent.ainvoke(state, **kwargs)
    return found


FORMS = pytest.mark.parametrize("form", ["invoke", "ainvoke"])


@FORMS
async def test_an_agents_model_call_is_answered_from_the_cache(
    form: str, tiered: TieredCache
) -> None:
    model = Bound()
    agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)])
    first, second = [(await run(form, agent, "hi"))["messages"][-1] for _ in range(2)]
    assert (first.text, second.text) == ("You said: hi", "You said: hi")
    assert first.id != second.id
    assert second.response_metadata["tiered_cache"]["hit"] is True
    assert (model.calls, model.count) == (1, 1), "the app's own object counts"
    assert model.cache is None, "and is left as it was"


@FORMS
async def test_whatever_the_model_gets_keeps_answers_apart(form: str, tiered: TieredCache) -> None:
    @tool
    def look(word: str) -> str:
        """Look a word up."""
        return word

    @tool("look")
    def look_elsewhere(word: str) -> str:
        """Look a word up, elsewhere."""
        return word

    class Out(BaseModel):
        x: int

    model = Bound()
    kinds: list[dict[str, Any]] = [
        {},
        {"system_prompt": "Be brief."},
        {"system_prompt": "Be long."},
        {"tools": [look]},
        {"tools": [look_elsewhere]},
        {"tools": [look, look_elsewhere.model_copy(update={"name": "other"})]},
    ]
    for _ in range(2):
        for kind in kinds:
            agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)], **kind)
            await run(form, agent, "hi")
    assert model.calls == len(kinds)
    await run(form, create_agent(Bound(settings={"model": "b"}), middleware=[]), "hi")
    other = Bound(settings={"model": "b"})
    await run(form, create_agent(other, middleware=[TieredCacheMiddleware(tiered)]), "hi")
    assert other.calls == 1


@FORMS
async def test_structured_output_is_whole_on_a_hit(form: str, tiered: TieredCache) -> None:
    class Out(BaseModel):
        x: int

    def reply(messages: list[BaseMessage]) -> AIMessage:
        return AIMessage("", tool_calls=[{"name": "Out", "args": {"x": 7}, "id": "1"}])

    model = Bound(reply=reply)
    agent = create_agent(
        model, response_format=ToolStrategy(Out), middleware=[TieredCacheMiddleware(tiered)]
    )
    found = [(await run(form, agent, "hi"))["structured_response"] for _ in range(2)]
    assert found == [Out(x=7), Out(x=7)]
    assert model.calls == 1


def test_a_model_without_cache_stays_without(tiered: TieredCache) -> None:
    model = Bound(cache=False)
    agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)])
    for _ in range(2):
        asyncio.run(run("invoke", agent, "hi"))
    assert model.calls == 2


# --------------------------------------------------------------------------------- whose call


@dataclass
class Context:
    tenant: str
    request: int = 0


@FORMS
async def test_contexts_share_nothing_unless_told_what_of_them_counts(
    form: str, tiered: TieredCache
) -> None:
    model = Bound()
    contexts = [Context("a"), Context("b"), Context("a", 1), None, Context("a")]

    async def calls(middleware: TieredCacheMiddleware) -> int:
        before = model.calls
        agent = create_agent(model, middleware=[middleware], context_schema=Context)
        for context in contexts:
            await run(form, agent, "hi", context=context)
        return model.calls - before

    assert await calls(TieredCacheMiddleware(tiered)) == 4

    def tenant(context: Context | None) -> str:
        return f"tenant {context.tenant}" if context else "none"

    assert await calls(TieredCacheMiddleware(tiered, namespace=tenant)) == 3
    assert await calls(TieredCacheMiddleware(tiered, namespace="all")) == 1


@pytest.mark.parametrize(
    "namespace",
    [lambda context: None, lambda context: "", lambda context: context.nothing, None],
    ids=["none", "empty", "raises", "no JSON"],
)
def test_a_context_that_names_nobody_is_a_miss(
    namespace: Callable[[Any], str] | None,
    tiered: TieredCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Bound()
    agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered, namespace=namespace)])
    for _ in range(2):
        asyncio.run(run("invoke", agent, "hi", context={"connection": object()}))
    assert model.calls == 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"tools": "search"}, "search"),
        ({"tools": {"search": -1}}, "search"),
        ({"namespace": ""}, "namespace"),
        ({"namespace": 3}, "3"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, named: str, tiered: TieredCache) -> None:
    with pytest.raises(ValueError, match=named):
        TieredCacheMiddleware(tiered, **arguments)
    with pytest.raises(ValueError, match="TieredCache"):
        TieredCacheMiddleware(tiered.cache)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------- tools


def calling(name: str, number: int = 1, **args: Any) -> Callable[[list[BaseMessage]], AIMessage]:
    """Make a model that calls one tool, some times at once, and then repeats what came of it."""

    def reply(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage(f"It says {messages[-1].text}")
        calls = [
            {"name": name, "args": args, "id": f"call {n} {id(messages)}"} for n in range(number)
        ]
        return AIMessage("", tool_calls=calls)

    return reply


class Tools:
    """A tool that counts its calls, in the forms that there are."""

    def __init__(self) -> None:
        self.calls = 0

    def search(self) -> BaseTool:
        @tool(response_format="content_and_artifact")
        def search(word: str) -> tuple[str, Any]:
            """Search."""
            self.calls += 1
            if word == "fails":
                raise ValueError
            return f"{word} {self.calls}", object() if word == "object" else {"n": self.calls}

        search.handle_tool_error = True
        return search


@FORMS
async def test_a_named_tools_result_is_kept_for_equal_arguments(
    form: str, tiered: TieredCache
) -> None:
    tools = Tools()

    async def ask(word: str, **kwargs: Any) -> list[BaseMessage]:
        agent = create_agent(
            Bound(reply=calling("search", word=word)),
            tools=[tools.search()],
            middleware=[TieredCacheMiddleware(tiered, tools={"search": 60})],
        )
        found: list[BaseMessage] = (await run(form, agent, f"look for {word}", **kwargs))[
            "messages"
        ]
        return found

    fresh, again = [await ask("a") for _ in range(2)]
    assert (fresh[-1].text, again[-1].text, tools.calls) == ("It says a 1", "It says a 1", 1)
    result = again[-2]
    assert isinstance(result, ToolMessage)
    assert isinstance(again[-3], AIMessage)
    assert result.tool_call_id == again[-3].tool_calls[0]["id"]
    assert (result.name, result.artifact) == ("search", {"n": 1})
    assert result.response_metadata["tiered_cache"]["hit"] is True
    await ask("b")
    await ask("a", context={"tenant": "other"})
    assert tools.calls == 3


@FORMS
async def test_equal_tool_calls_at_a_time_are_one(form: str, tiered: TieredCache) -> None:
    tools = Tools()
    agent = create_agent(
        Bound(reply=calling("search", number=3, word="a")),
        tools=[tools.search()],
        middleware=[TieredCacheMiddleware(tiered, tools=["search"])],
    )
    messages = (await run(form, agent, "look"))["messages"]
    assert [one.text for one in messages if isinstance(one, ToolMessage)] == ["a 1"] * 3
    assert len({one.tool_call_id for one in messages if isinstance(one, ToolMessage)}) == 3


@pytest.mark.parametrize("named", [[], ["other"]])
def test_other_tools_are_never_kept(named: list[str], tiered: TieredCache) -> None:
    tools = Tools()
    middleware = [TieredCacheMiddleware(tiered, tools=named)]
    agent = create_agent(
        Bound(reply=calling("search", word="a")), tools=[tools.search()], middleware=middleware
    )
    for n in range(2):
        asyncio.run(run("invoke", agent, "look"))
        assert tools.calls == n + 1


def test_what_json_cannot_hold_is_not_kept(tiered: TieredCache) -> None:
    tools = Tools()
    agent = create_agent(
        Bound(reply=calling("search", word="object")),
        tools=[tools.search()],
        middleware=[TieredCacheMiddleware(tiered, tools=["search"])],
    )
    for n in range(2):
        asyncio.run(run("invoke", agent, "look"))
        assert tools.calls == n + 1


def test_a_failed_tool_call_is_not_kept(tiered: TieredCache) -> None:
    calls: list[str] = []

    @tool
    def search(word: str) -> ToolMessage:
        """Search."""
        calls.append(word)
        return ToolMessage("it broke", tool_call_id="", status="error")

    agent = create_agent(
        Bound(reply=calling("search", word="a")),
        tools=[search],
        middleware=[TieredCacheMiddleware(tiered, tools=["search"])],
    )
    for n in range(2):
        asyncio.run(run("invoke", agent, "look"))
        assert len(calls) == n + 1


def test_a_tool_that_sees_more_than_its_arguments_is_not_kept(
    tiered: TieredCache, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    @tool
    def search(word: str, runtime: ToolRuntime) -> str:
        """Search what was said."""
        calls.append(word)
        return f"{len(runtime.state['messages'])}"

    @tool
    def note(word: str, id: Annotated[str, InjectedToolCallId]) -> str:
        """Note a word."""
        calls.append(id)
        return word

    for one in (search, note):
        agent = create_agent(
            Bound(reply=calling(one.name, word="a")),
            tools=[one],
            middleware=[TieredCacheMiddleware(tiered, tools=["search", "note"])],
        )
        for _ in range(2):
            asyncio.run(run("invoke", agent, "look"))
    assert len(calls) == 4
    assert len(caplog.records) == 1


# ---------------------------------------------------------------------------------- the state


@FORMS
async def test_repeated_questions_of_a_thread_keep_its_state_whole(
    form: str, tiered: TieredCache
) -> None:
    model = Chat(cache=tiered, reply=lambda messages: AIMessage(f"to {messages[-1].text}"))

    def node(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"][-1:])]}

    async def anode(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"][-1:])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", node if form == "invoke" else anode)
    graph.set_entry_point("model")
    saver = InMemorySaver()
    app = graph.compile(checkpointer=saver)
    thread: Any = {"configurable": {"thread_id": "1"}}
    for question in ("hi", "other", "hi"):
        state = await run(form, app, question, config=thread)
    texts = ["hi", "to hi", "other", "to other", "hi", "to hi"]
    assert [message.text for message in state["messages"]] == texts
    assert model.calls == 2
    resumed = graph.compile(checkpointer=saver).get_state(thread).values["messages"]
    assert [message.text for message in resumed] == texts


@FORMS
async def test_a_conversation_repeated_is_answered_from_the_cache(
    form: str, tiered: TieredCache
) -> None:
    model = Bound(reply=lambda messages: AIMessage(f"{len(messages)}", id=f"{id(messages)}"))
    middleware = [TieredCacheMiddleware(tiered)]
    calls = []
    for attempt in range(3):
        agent = create_agent(model, middleware=middleware, checkpointer=InMemorySaver())
        before = model.calls
        for question in ("first", "second"):
            thread: Any = {"configurable": {"thread_id": f"{attempt}"}}
            state = await run(form, agent, question, config=thread)
        assert [message.text for message in state["messages"]] == ["first", "1", "second", "3"]
        calls.append(model.calls - before)
    assert calls == [2, 0, 0]


@pytest.mark.parametrize("form", ["stream", "astream"])
async def test_an_agents_stream_of_messages_is_answered_too(form: str, tiered: TieredCache) -> None:
    model = Bound()
    agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)])
    state: Any = {"messages": [("user", "hi")]}
    for _ in range(2):
        if form == "stream":
            chunks = list(agent.stream(state, stream_mode="messages"))
        else:
            chunks = [one async for one in agent.astream(state, stream_mode="messages")]
        assert "".join(chunk.text for chunk, _ in chunks) == "You said: hi"
    assert model.calls == 1
