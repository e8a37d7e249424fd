"""Marked prompts of LangChain's chat models and agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from pydantic import Field

from langchain_tiered_cache.prefix import mark_messages, marked, prefix_middleware

HANDBOOK = "Every loan ends after four weeks and can be renewed twice. " * 120
EPHEMERAL = {"type": "ephemeral"}


class Model(BaseChatModel):
    """A chat model of some provider that keeps what it was sent."""

    provider: str = "anthropic"
    name_of_model: str = "claude-sonnet-5"
    sent: list[tuple[list[BaseMessage], dict[str, Any]]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "kept"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.name_of_model}

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.sent.append((messages, kwargs))
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Four weeks."))])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.sent.append((messages, kwargs))
        for word in ("Four ", "weeks."):
            yield ChatGenerationChunk(message=AIMessageChunk(word))

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)


PROMPT = [SystemMessage(HANDBOOK), HumanMessage("How long is a loan?")]
MARKED = [{"type": "text", "text": HANDBOOK, "cache_control": EPHEMERAL}]


def test_a_marked_model_sends_the_breakpoint_and_answers_as_before() -> None:
    model = Model()
    assert marked(model).invoke(PROMPT).content == "Four weeks."
    messages, _ = model.sent[0]
    assert messages[0].content == MARKED
    assert messages[1] is PROMPT[1]
    assert PROMPT[0].content == HANDBOOK


async def test_streams_batches_and_asynchronous_calls_are_marked_too() -> None:
    model = Model()
    runnable = marked(model)
    assert [chunk.content for chunk in runnable.stream(PROMPT) if chunk.content] == [
        "Four ",
        "weeks.",
    ]
    assert [m.content async for m in runnable.astream(PROMPT) if m.content] == ["Four ", "weeks."]
    await runnable.ainvoke(PROMPT)
    runnable.batch([PROMPT, PROMPT])
    assert [messages[0].content for messages, _ in model.sent] == [MARKED] * 5


def test_it_stands_in_a_chain() -> None:
    model = Model()
    prompt = ChatPromptTemplate.from_messages([SystemMessage(HANDBOOK), ("user", "{question}")])
    (prompt | marked(model)).invoke({"question": "How long?"})
    assert model.sent[0][0][0].content == MARKED
    marked(model).invoke("Just a text")
    assert model.sent[1][0][0].content == "Just a text"


def test_tools_that_are_bound_get_a_breakpoint_and_stay_bound() -> None:
    model = Model()
    tools = [{"name": "loans", "description": HANDBOOK, "input_schema": {"type": "object"}}]
    marked(model.bind_tools(tools, tool_choice="auto"), ttl="1h").invoke(PROMPT)
    sent = model.sent[0][1]
    assert sent["tools"] == [dict(tools[0], cache_control={"type": "ephemeral", "ttl": "1h"})]
    assert sent["tool_choice"] == "auto"


@pytest.mark.parametrize("name", ["openai", "azure"])
def test_openais_key_goes_beside_the_messages(name: str) -> None:
    model = Model(provider=name, name_of_model="gpt-4o-mini")
    marked(model, ttl="24h").invoke(PROMPT)
    messages, sent = model.sent[0]
    assert len(sent["prompt_cache_key"]) == 32
    assert sent["prompt_cache_retention"] == "24h"
    assert messages == PROMPT


def test_gemini_is_asked_by_the_name_of_what_it_keeps() -> None:
    model = Model(provider="google_genai")
    marked(model, cached_content="cachedContents/abc").invoke(PROMPT)
    assert model.sent[0] == ([PROMPT[1]], {"cached_content": "cachedContents/abc"})


def test_bedrocks_cache_point_follows_the_system_prompt() -> None:
    model = Model(provider="amazon_bedrock", name_of_model="anthropic.claude-sonnet-4-5")
    marked(model).invoke(PROMPT)
    assert model.sent[0][0][0].content[1] == {"cachePoint": {"type": "default"}}


def test_models_of_other_providers_get_the_order_alone() -> None:
    model = Model(provider="ollama")
    dynamic = SystemMessage("Today is Monday.", additional_kwargs={"dynamic": True})
    marked(model).invoke([dynamic, *PROMPT])
    messages, sent = model.sent[0]
    texts = [part["text"] for part in messages[0].content]
    assert texts == [HANDBOOK, "Today is Monday."]
    assert messages[0].additional_kwargs == {}
    assert sent == {}


def test_a_conversation_keeps_its_messages_with_calls_and_ids() -> None:
    call = {"name": "loans", "args": {}, "id": "1"}
    turns = [
        *PROMPT,
        AIMessage("", tool_calls=[call], id="a"),
        ToolMessage("4 weeks", tool_call_id="1"),
    ]
    messages, found = mark_messages(turns, "anthropic", model="claude-sonnet-5")
    assert found.breakpoints == 3
    assert messages[2] is turns[2]
    assert messages[3].tool_call_id == "1"  # type: ignore[attr-defined]
    assert messages[3].content == [{"type": "text", "text": "4 weeks", "cache_control": EPHEMERAL}]


def test_what_is_no_chat_model_and_wrong_options_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must be a chat model"):
        marked(PROMPT_CHAIN)
    with pytest.raises(ValueError, match="ttl of anthropic"):
        marked(Model(), ttl="24h")


PROMPT_CHAIN: Any = ChatPromptTemplate.from_messages([("user", "{question}")])


def test_the_middleware_marks_what_an_agent_sends() -> None:
    agents = pytest.importorskip("langchain.agents")
    model = Model()
    agent = agents.create_agent(model, system_prompt=HANDBOOK, middleware=[prefix_middleware()])
    answer = agent.invoke({"messages": [PROMPT[1]]})
    assert answer["messages"][-1].content == "Four weeks."
    assert model.sent[0][0][0].content == MARKED
    key = Model(provider="openai")
    agents.create_agent(key, system_prompt=HANDBOOK, middleware=[prefix_middleware()]).invoke(
        {"messages": [PROMPT[1]]}
    )
    assert "prompt_cache_key" in key.sent[0][1]
