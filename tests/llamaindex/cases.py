"""The call paths of LlamaIndex, each as a function of an LLM; shared by tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core import SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.evaluation import CorrectnessEvaluator, FaithfulnessEvaluator
from llama_index.core.llms.llm import LLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool

from tests.llamaindex.fakes import FakeEmbedding, calling, said

QUESTION = "How often should I descale the kettle?"
TEXTS = [
    "Descale the kettle once a month with a spoon of citric acid.",
    "The toaster has two slots and seven browning levels.",
    "The heater warms a room of up to 20 square metres.",
]


class City(BaseModel):
    """A city."""

    name: str
    people: int


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"31 C in {city}"


def oracle(messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatMessage:  # noqa: PLR0911
    """Answer as each path needs it, from what is said last."""
    last = messages[-1]
    text = "\n".join(one.content or "" for one in messages)
    names = [tool.metadata.name for tool in kwargs.get("tools") or []]
    if last.role is MessageRole.TOOL:
        return said(f"It is {last.content}.")
    if "City" in names:
        return calling("City", name="Rome", people=3)
    if "weather" in names:
        return calling("weather", city="Rome")
    if "Observation: 31 C" in text:
        return said("Thought: I can answer.\nAnswer: 31 C in Rome.")
    if "You have access to a wide variety of tools" in text or "## Tools" in text:
        return said('Thought: I need a tool.\nAction: weather\nAction Input: {"city": "Rome"}')
    if "YES or NO" in text:
        return said("YES")
    if "# Generated Answer" in (last.content or ""):
        return said("5\nIt is right.")
    return said(f"Answer to {len(text)} characters ending in {text[-40:]!r}")


def index() -> VectorStoreIndex:
    nodes = [TextNode(text=text, id_=f"node-{i}") for i, text in enumerate(TEXTS)]
    return VectorStoreIndex(nodes, embed_model=FakeEmbedding())


def query(mode: str, **options: Any) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        return str(index().as_query_engine(llm=llm, response_mode=mode, **options).query(QUESTION))

    return ask


def aquery(mode: str, **options: Any) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        async def answer() -> str:
            engine = index().as_query_engine(llm=llm, response_mode=mode, **options)
            found: Any = await engine.aquery(QUESTION)
            if options.get("streaming"):
                return "".join([token async for token in found.async_response_gen()])
            return str(found)

        return asyncio.run(answer())

    return ask


def memory() -> ChatMemoryBuffer:
    """Return a memory without a database, whose threads would outlive the test."""
    return ChatMemoryBuffer.from_defaults(token_limit=3000)


def _chat_engine(kind: Any, llm: LLM) -> Any:
    if kind is SimpleChatEngine:
        return SimpleChatEngine.from_defaults(llm=llm, memory=memory())
    if kind is CondenseQuestionChatEngine:
        engine = index().as_query_engine(llm=llm)
        return kind.from_defaults(query_engine=engine, llm=llm, memory=memory())
    retriever = index().as_retriever()
    return kind.from_defaults(retriever=retriever, llm=llm, memory=memory())


def chat(kind: Any) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        engine = _chat_engine(kind, llm)
        return "\n".join(str(engine.chat(text)) for text in (QUESTION, "And the toaster?"))

    return ask


def stream_chat(kind: Any) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        engine = _chat_engine(kind, llm)
        return "".join(engine.stream_chat(QUESTION).response_gen)

    return ask


def achat(kind: Any) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        async def answer() -> str:
            return str(await _chat_engine(kind, llm).achat(QUESTION))

        return asyncio.run(answer())

    return ask


def agent(kind: Any, streaming: bool = True) -> Callable[[LLM], str]:
    def ask(llm: LLM) -> str:
        async def answer() -> str:
            tool = FunctionTool.from_defaults(weather)
            made = kind(name="a", description="d", tools=[tool], llm=llm, streaming=streaming)
            return str(await made.run("Is it warm in Rome?", memory=memory()))

        return asyncio.run(answer())

    return ask


def workflow(llm: LLM) -> str:
    async def answer() -> str:
        tool = FunctionTool.from_defaults(weather)
        made = AgentWorkflow.from_tools_or_functions([tool], llm=llm, system_prompt="Help.")
        return str(await made.run("Is it warm in Rome?", memory=memory()))

    return asyncio.run(answer())


PROMPT = PromptTemplate("Name a city in {country}.")


def structured(llm: LLM) -> str:
    return repr(llm.structured_predict(City, PROMPT, country="Italy"))


def astructured(llm: LLM) -> str:
    return repr(asyncio.run(llm.astructured_predict(City, PROMPT, country="Italy")))


def structured_stream(llm: LLM) -> str:
    *_, last = llm.stream_structured_predict(City, PROMPT, country="Italy")
    return repr(last)


def as_structured(llm: LLM) -> str:
    return repr(llm.as_structured_llm(City).complete("Name a city.").raw)


def predict_and_call(llm: LLM) -> str:
    tool = FunctionTool.from_defaults(weather)
    return str(llm.predict_and_call([tool], user_msg="Is it warm in Rome?"))


def faithfulness(llm: LLM) -> str:
    found = FaithfulnessEvaluator(llm=llm).evaluate(response="Monthly.", contexts=TEXTS[:1])
    return f"{found.passing} {found.score}"


def correctness(llm: LLM) -> str:
    evaluator = CorrectnessEvaluator(llm=llm)
    found = evaluator.evaluate(query=QUESTION, response="Monthly.", reference="Once a month.")
    return f"{found.passing} {found.score}"


def summary(llm: LLM) -> str:
    nodes = [TextNode(text=text) for text in TEXTS]
    engine = SummaryIndex(nodes).as_query_engine(llm=llm, response_mode="tree_summarize")
    return str(engine.query(QUESTION))


MODES = ("compact", "refine", "tree_summarize", "simple_summarize", "accumulate")

CASES: dict[str, Callable[[LLM], str]] = {
    **{f"query {mode}": query(mode) for mode in MODES},
    **{f"aquery {mode}": aquery(mode) for mode in MODES},
    **{f"query {mode} streaming": query(mode, streaming=True) for mode in MODES[:4]},
    **{f"aquery {mode} streaming": aquery(mode, streaming=True) for mode in MODES[:4]},
    "summary index": summary,
    **{
        f"{way.__name__} {kind.__name__}": way(kind)
        for kind in (
            SimpleChatEngine,
            ContextChatEngine,
            CondenseQuestionChatEngine,
            CondensePlusContextChatEngine,
        )
        for way in (chat, stream_chat, achat)
    },
    "FunctionAgent": agent(FunctionAgent),
    "FunctionAgent at once": agent(FunctionAgent, streaming=False),
    "ReActAgent": agent(ReActAgent),
    "ReActAgent at once": agent(ReActAgent, streaming=False),
    "AgentWorkflow": workflow,
    "structured_predict": structured,
    "astructured_predict": astructured,
    "stream_structured_predict": structured_stream,
    "as_structured_llm": as_structured,
    "predict_and_call": predict_and_call,
    "FaithfulnessEvaluator": faithfulness,
    "CorrectnessEvaluator": correctness,
}
