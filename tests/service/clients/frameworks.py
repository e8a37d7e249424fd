"""OpenAI's Agents SDK, PydanticAI and LangChain's models, each asking twice and as a stream.

It runs in an environment of its own (``make test-clients``), by ``tests.service.clients.run``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner
from agents import set_tracing_disabled as without_tracing
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticResponses
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

URL = os.environ["SERVICE"]
QUESTION = "What is a fuse?"

Ask = Callable[[], Awaitable[str]]


async def case(name: str, ask: Ask, stream: Ask) -> None:
    """Ask twice, then twice as a stream: all of it is one answer."""
    for first, then, how in ((ask, stream, "asked first"), (stream, ask, "streamed first")):
        os.environ["CASE"] = how  # what is asked below differs by it
        print(f"case {name}, {how}", flush=True)
        input()
        said = [await one() for one in (first, first, then, then)]
        assert said[0], name
        assert len({*said}) == 1, (name, said)
        print(f"end {name}, {how}", flush=True)
        input()


def asked() -> str:
    return f"{QUESTION} {os.environ['CASE']}"


def of_agents(model: Any, name: str) -> tuple[str, Ask, Ask]:
    agent = Agent(name="electrician", instructions=f"Be brief, {name}.", model=model)

    async def ask() -> str:
        return str((await Runner.run(agent, asked())).final_output)

    async def stream() -> str:
        found = Runner.run_streamed(agent, asked())
        async for _ in found.stream_events():
            pass
        return str(found.final_output)

    return name, ask, stream


def of_pydantic(model: Any, name: str) -> tuple[str, Ask, Ask]:
    agent = PydanticAgent(model, instructions=f"Be brief, {name}.")

    async def ask() -> str:
        return (await agent.run(asked())).output

    async def stream() -> str:
        async with agent.run_stream(asked()) as found:
            return "".join([one async for one in found.stream_text(delta=True)])

    return name, ask, stream


def of_langchain(model: Any, name: str) -> tuple[str, Ask, Ask]:
    def messages() -> list[tuple[str, str]]:
        return [("system", f"Be brief, {name}."), ("human", asked())]

    async def ask() -> str:
        return str((await model.ainvoke(messages())).text)

    async def stream() -> str:
        pieces: AsyncIterator[Any] = model.astream(messages())
        return "".join([str(one.text) async for one in pieces])

    return name, ask, stream


async def main() -> None:
    without_tracing(True)
    sdk = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="sk", max_retries=0)
    provider = OpenAIProvider(openai_client=sdk)
    claude = AnthropicProvider(base_url=URL, api_key="sk")
    known: dict[str, Any] = {"api_key": "sk", "max_retries": 0, "temperature": 0}
    gpt: dict[str, Any] = {"model": "gpt-4o-mini", "base_url": f"{URL}/v1", **known}
    for one in (
        of_agents(OpenAIResponsesModel("gpt-4o-mini", sdk), "Agents SDK by responses"),
        of_agents(OpenAIChatCompletionsModel("gpt-4o-mini", sdk), "Agents SDK by completions"),
        of_pydantic(OpenAIChatModel("gpt-4o-mini", provider=provider), "PydanticAI by completions"),
        of_pydantic(PydanticResponses("gpt-4o-mini", provider=provider), "PydanticAI by responses"),
        of_pydantic(AnthropicModel("claude-haiku-4-5", provider=claude), "PydanticAI by messages"),
        of_langchain(ChatOpenAI(**gpt), "LangChain by completions"),
        of_langchain(ChatOpenAI(**gpt, use_responses_api=True), "LangChain by responses"),
        of_langchain(
            ChatAnthropic(model="claude-haiku-4-5", base_url=URL, **known), "LangChain by messages"
        ),
    ):
        await case(*one)


asyncio.run(main())
