"""What the suites of langchain-redis' and langgraph-redis' caches state, and this project promises.

Each class bears the name of the classes there whose behaviour it states; the tests are our own.
What those suites state besides, and why it is not here:

- names, prefixes and keys in Redis, index names, the clients' own options: how a record is stored
  is no promise; what they are for, caches that do not see each other, is ``namespace=``
- ``LangCacheSemanticCache``: a managed service
- a distance threshold that the user finds by hand: ``threshold=`` takes one, and its own tests say
  what it does; the default learns what may be served
- stored JSON of other shapes (plain dicts, numbers, LangChain's own constructors): only what this
  cache wrote is read, anything else is a miss, since a store is not to be trusted to build objects
- ``cache_final_only``: a message that calls tools is kept, and is served to the very same request
  alone
- raising when the store fails (``graceful_degradation=False``): a cache never breaks the app
- tools that are cached unless excluded, or by their names, prefixes and metadata, and arguments
  that prevent it or do not count (``timestamp``, ``request_id``): tools are kept only if the app
  names them, and every argument counts
- an empty ``response_metadata`` on a hit: what the provider said stays, but for ids of its own and
  usage; chains read it
- conversation memory, routers, middleware stacks: no caches
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.tools import BaseTool, tool

from langchain_tiered_cache import TieredCache
from langchain_tiered_cache.middleware import TieredCacheMiddleware
from tests.fakes import Clock, fake_embed
from tests.langchain.chat_models import Chat

LLM = "[('_type', 'peer'), ('model', 'm'), ('temperature', 0.0), ('stop', None)]"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tiered(store_url: str, clock: Clock) -> Iterator[TieredCache]:
    cache = TieredCache(store_url, embedder=fake_embed, threshold=0.8, timeout=5, clock=clock)
    yield cache
    cache.close()


def texts(found: Any) -> Any:
    return None if found is None else [one.text for one in found]


class TestRedisCache:
    def test_what_is_updated_is_looked_up_and_cleared(self, tiered: TieredCache) -> None:
        tiered.update("prompt", LLM, [Generation(text="answer")])
        assert tiered.lookup("prompt", LLM) == [Generation(text="answer")]
        assert tiered.lookup("prompt", LLM.replace("'m'", "'other'")) is None
        assert tiered.lookup("something else", LLM) is None
        tiered.clear()
        assert tiered.lookup("prompt", LLM) is None

    async def test_awaited_too(self, tiered: TieredCache) -> None:
        await tiered.aupdate("prompt", LLM, [Generation(text="answer")])
        assert await tiered.alookup("prompt", LLM) == [Generation(text="answer")]
        await tiered.aclear()
        assert await tiered.alookup("prompt", LLM) is None

    def test_a_ttl_ends_and_a_hit_does_not_extend_it(self, store_url: str, clock: Clock) -> None:
        cache = TieredCache(store_url, semantic=False, ttl=60, timeout=5, clock=clock)
        cache.update("prompt", LLM, [Generation(text="answer")])
        clock.now += 40
        assert texts(cache.lookup("prompt", LLM)) == ["answer"]
        clock.now += 40
        assert cache.lookup("prompt", LLM) is None
        cache.close()

    def test_chat_messages_are_found_by_their_messages(self, tiered: TieredCache) -> None:
        prompts = [dumps([HumanMessage(text)]) for text in ("Hello", "How are you?")]
        for prompt, text in zip(prompts, ("hello to you", "very well"), strict=True):
            tiered.update(prompt, LLM, [ChatGeneration(message=AIMessage(text))])
        for prompt, text in zip(prompts, ("hello to you", "very well"), strict=True):
            (found,) = tiered.lookup(prompt, LLM) or []
            assert isinstance(found, ChatGeneration)
            assert found.message.content == text


class TestRedisSemanticCache:
    def test_another_wording_is_answered_and_another_question_is_not(
        self, tiered: TieredCache
    ) -> None:
        tiered.update("what is the capital of france", LLM, [Generation(text="Paris")])
        assert texts(tiered.lookup("what is the capital of france please", LLM)) == ["Paris"]
        assert tiered.lookup("who wrote the play about a prince", LLM) is None
        tiered.clear()
        assert tiered.lookup("what is the capital of france please", LLM) is None

    def test_set_llm_cache_answers_a_similar_prompt(self, tiered: TieredCache) -> None:
        set_llm_cache(tiered)
        try:
            llm = FakeListLLM(responses=["Jupiter", "another"])
            first = llm.invoke("which planet of our solar system is the largest")
            again = llm.invoke("which planet of our solar system is the largest then")
            assert (first, again) == ("Jupiter", "Jupiter")
        finally:
            set_llm_cache(None)

    def test_two_namespaces_of_one_store_see_nothing_of_each_other(self, store_url: str) -> None:
        names = ["one", "two"]
        options: Any = {"semantic": False, "timeout": 5}
        caches = [TieredCache(store_url, namespace=name, **options) for name in names]
        for cache, name in zip(caches, names, strict=True):
            cache.update("prompt", LLM, [Generation(text=name)])
        assert [texts(cache.lookup("prompt", LLM)) for cache in caches] == [["one"], ["two"]]
        caches[0].clear()
        assert texts(caches[1].lookup("prompt", LLM)) == ["two"]
        for cache in caches:
            cache.close()


# ---------------------------------------------------------------------------- provider metadata


def served(tiered: TieredCache, message: AIMessage) -> AIMessage:
    """Return the message as a second call gets it."""
    model = Chat(cache=tiered, reply=lambda messages: message.model_copy(deep=True))
    model.invoke("q")
    found = model.invoke("q")
    assert found.response_metadata["tiered_cache"]["hit"] is True
    assert model.calls == 1
    return found


class TestProviderMetadata:
    def test_ids_of_responses_and_of_their_blocks_are_not_served(self, tiered: TieredCache) -> None:
        blocks: list[Any] = [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
            {"type": "text", "text": "42", "id": "msg_1", "annotations": []},
        ]
        metadata = {"id": "resp_1", "model_name": "gpt-4o", "status": "completed"}
        message = AIMessage(blocks, id="resp_1", response_metadata=metadata)
        found = served(tiered, message)
        assert found.text == "42"
        assert "resp_1" not in dumps(found)
        assert all("id" not in block for block in found.content if isinstance(block, dict))
        assert found.response_metadata["model_name"] == "gpt-4o"

    def test_ids_of_chat_completions_are_not_served(self, tiered: TieredCache) -> None:
        metadata = {"id": "chatcmpl-1", "finish_reason": "stop", "model_name": "gpt-4o"}
        found = served(tiered, AIMessage("42", id="run-1", response_metadata=metadata))
        assert "chatcmpl-1" not in dumps(found)
        assert found.response_metadata["finish_reason"] == "stop"

    def test_ids_of_anthropic_messages_are_not_served(self, tiered: TieredCache) -> None:
        metadata = {"id": "msg_01", "stop_reason": "end_turn", "model_name": "claude"}
        found = served(tiered, AIMessage("42", id="msg_01", response_metadata=metadata))
        assert "msg_01" not in dumps(found)

    def test_plain_content_stays_what_it_was(self, tiered: TieredCache) -> None:
        assert served(tiered, AIMessage("just a text")).content == "just a text"

    def test_each_hit_has_an_id_of_its_own(self, tiered: TieredCache) -> None:
        model = Chat(cache=tiered)
        assert len({model.invoke("q").id for _ in range(4)}) == 4

    def test_ids_of_tool_calls_stay_since_results_name_them(self, tiered: TieredCache) -> None:
        calls: list[Any] = [{"name": "f", "args": {}, "id": "call_1", "type": "tool_call"}]
        assert served(tiered, AIMessage("", tool_calls=calls)).tool_calls == calls


# ----------------------------------------------------------------------- middleware, model calls


def request_of(model: Chat, *messages: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model, messages=list(messages), tools=[], state={"messages": []})


class TestSemanticCacheMiddleware:
    @pytest.fixture
    def middleware(self, tiered: TieredCache) -> TieredCacheMiddleware:
        return TieredCacheMiddleware(tiered)

    async def asked(self, middleware: TieredCacheMiddleware, model: Chat, *messages: Any) -> Any:
        async def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
            return ModelResponse(result=[await request.model.ainvoke(request.messages)])

        return await middleware.awrap_model_call(request_of(model, *messages), handler)

    async def test_a_hit_is_what_the_handler_returns_and_calls_no_model(
        self, middleware: TieredCacheMiddleware
    ) -> None:
        model = Chat()
        for _ in range(2):
            found = await self.asked(middleware, model, HumanMessage("q"))
            assert isinstance(found, ModelResponse), "by which an agent goes on"
            assert found.result[0].text == "You said: q"
        assert model.calls == 1

    async def test_a_similar_prompt_is_answered_and_other_entities_are_not(
        self, middleware: TieredCacheMiddleware
    ) -> None:
        model = Chat()
        await self.asked(middleware, model, HumanMessage("where is my order 1001 from march"))
        for text in ("where is my order 1002 from march", "tell me a joke"):
            found = await self.asked(middleware, model, HumanMessage(text))
            assert found.result[0].text == f"You said: {text}"
        await self.asked(middleware, model, HumanMessage("where is my order 1001 from march then"))
        assert model.calls == 3

    async def test_a_request_with_tool_results_is_not_answered_as_the_one_before_it(
        self, middleware: TieredCacheMiddleware
    ) -> None:
        call: Any = {"name": "weather", "args": {"place": "Tokyo"}, "id": "c1"}
        replies = iter([AIMessage("", tool_calls=[call]), AIMessage("sunny"), AIMessage("rain")])
        model = Chat(reply=lambda messages: next(replies))
        question = HumanMessage("weather in Tokyo?")
        asked = (await self.asked(middleware, model, question)).result[0]
        for result in ("25 degrees", "5 degrees"):
            told = ToolMessage(result, tool_call_id="c1")
            found = await self.asked(middleware, model, question, asked, told)
            assert not found.result[0].tool_calls
        assert (model.calls, found.result[0].text) == (3, "rain")

    async def test_a_store_that_fails_is_passed_over(
        self, tiered: TieredCache, middleware: TieredCacheMiddleware
    ) -> None:
        model = Chat()
        tiered.cache.close()
        for _ in range(2):
            found = await self.asked(middleware, model, HumanMessage("q"))
            assert found.result[0].text == "You said: q"

    async def test_an_empty_list_of_messages_is_the_models_to_answer(
        self, middleware: TieredCacheMiddleware
    ) -> None:
        model = Chat(reply=lambda messages: AIMessage("nothing was said"))
        assert (await self.asked(middleware, model)).result[0].text == "nothing was said"


# ----------------------------------------------------------------------- middleware, tool calls


class ToolBench:
    """Two tools whose calls are counted, behind the middleware."""

    def __init__(self, tiered: TieredCache, **options: Any) -> None:
        self.calls: list[str] = []
        named: dict[str, Any] = {"tools": ["search", "find"], "key": lambda _: "the bench"}
        self.middleware = TieredCacheMiddleware(tiered, **(named | options))
        self.ids = itertools.count()

        def counted(name: str) -> BaseTool:
            def run(**arguments: Any) -> str:
                self.calls.append(name)
                return f"{name} {arguments} {len(self.calls)}"

            schema = {"type": "object", "properties": {}, "additionalProperties": True}
            function: Callable[..., str] = run
            return tool(name, description=name, args_schema=schema)(function)

        self.tools = {name: counted(name) for name in ("search", "find", "delete")}

    async def __call__(self, name: str, **arguments: Any) -> ToolMessage:
        call: Any = {"name": name, "args": arguments, "id": f"c{next(self.ids)}"}
        request = ToolCallRequest(call, self.tools[name], {}, None)  # type: ignore[arg-type]

        async def handler(request: ToolCallRequest) -> ToolMessage:
            text = self.tools[name].func(**request.tool_call["args"])  # type: ignore[attr-defined]
            return ToolMessage(text, name=name, tool_call_id=request.tool_call["id"])

        found = await self.middleware.awrap_tool_call(request, handler)
        assert isinstance(found, ToolMessage)
        return found


class TestToolCache:
    @pytest.fixture
    def bench(self, tiered: TieredCache) -> ToolBench:
        return ToolBench(tiered)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"q": "paris"}, {"q": "london"}),
            ({"id": "alpha-a"}, {"id": "alpha-b"}),
            ({"n": 1}, {"n": 2}),
            ({"n": 1}, {"n": "1"}),
            ({"n": 1}, {"n": 1, "more": True}),
            ({"at": {"x": 1, "y": 2}}, {"at": {"x": 1, "y": 3}}),
            ({"q": ""}, {}),
            ({"q": None}, {}),
        ],
    )
    async def test_other_arguments_share_nothing(
        self, one: dict[str, Any], other: dict[str, Any], bench: ToolBench
    ) -> None:
        found = [(await bench("search", **given)).text for given in (one, other, one, other)]
        assert found[:2] == found[2:]
        assert found[0] != found[1]
        assert len(bench.calls) == 2

    async def test_other_tools_share_nothing(self, bench: ToolBench) -> None:
        for _ in range(2):
            assert (await bench("search", q="a")).text.startswith("search")
            assert (await bench("find", q="a")).text.startswith("find")
        assert bench.calls == ["search", "find"]

    async def test_the_order_of_arguments_does_not_count(self, bench: ToolBench) -> None:
        await bench("search", a=1, b=2)
        await bench("search", b=2, a=1)
        assert bench.calls == ["search"]

    async def test_many_equal_calls_are_one(self, bench: ToolBench) -> None:
        found = [await bench("search", q="a") for _ in range(10)]
        assert len({one.text for one in found}) == 1
        assert bench.calls == ["search"]

    async def test_a_hit_answers_the_call_that_asked(self, bench: ToolBench) -> None:
        first, second = await bench("search", q="a"), await bench("search", q="a")
        assert (second.name, second.content) == ("search", first.content)
        assert (first.tool_call_id, second.tool_call_id) == ("c0", "c1")

    async def test_tools_that_nobody_named_are_always_called(self, bench: ToolBench) -> None:
        for _ in range(3):
            await bench("delete", id=1)
        assert bench.calls == ["delete"] * 3

    async def test_each_tool_has_its_ttl(self, tiered: TieredCache, clock: Clock) -> None:
        bench = ToolBench(tiered, tools={"search": 60, "find": None})
        for _ in range(2):
            await bench("search", q="a")
            await bench("find", q="a")
            clock.now += 61
        assert bench.calls == ["search", "find", "search"]

    async def test_a_store_that_fails_is_passed_over(
        self, tiered: TieredCache, bench: ToolBench
    ) -> None:
        tiered.cache.close()
        for _ in range(2):
            assert (await bench("search", q="a")).text.startswith("search")


class TestCreateAgentWithMiddleware:
    async def test_an_agent_whose_answer_is_stored_calls_no_model(
        self, tiered: TieredCache
    ) -> None:
        model = Chat()
        agent = create_agent(model, middleware=[TieredCacheMiddleware(tiered)])
        for _ in range(2):
            state: Any = await agent.ainvoke({"messages": [("user", "hi")]})
            assert [one.text for one in state["messages"]] == ["hi", "You said: hi"]
        assert model.calls == 1
