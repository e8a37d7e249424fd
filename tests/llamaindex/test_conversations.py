"""``history=standalone(model)`` through LlamaIndex: models, and chat engines that condense."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import Response
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    SimpleChatEngine,
)
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache, Static, standalone
from tests.fakes import fake_embed
from tests.llamaindex.fakes import FakeLLM, said
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

FREE = "How many projects can I have on the free plan?"
FIRST = ("I am on the free plan.", "How many projects can I have?")
SECOND = ("Hi, we use the free plan.", "And how many projects are there?")


class Rewriter:
    """A model as LlamaIndex's are, which knows the plan."""

    model = "small"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(self, prompt: str) -> Any:
        self.asked.append(json.loads(prompt[prompt.rindex("\n{\n") :])["last message"])
        return said(FREE).blocks[0]  # a block has a text, as a response does


def opened(rewriter: Rewriter) -> ResponseCache:
    return ResponseCache.open(
        history=standalone(rewriter), threshold=Static(0.9), embedder=fake_embed
    )


def talk(first: str, question: str) -> list[ChatMessage]:
    roles = (MessageRole.SYSTEM, MessageRole.USER, MessageRole.ASSISTANT, MessageRole.USER)
    texts = ("You help.", first, "Good to know.", question)
    return [ChatMessage(role=role, content=text) for role, text in zip(roles, texts, strict=True)]


def chat(llm: Any, messages: list[ChatMessage]) -> str:
    return str(llm.chat(messages).message.content)


def achat(llm: Any, messages: list[ChatMessage]) -> str:
    return str(asyncio.run(llm.achat(messages)).message.content)


def stream(llm: Any, messages: list[ChatMessage]) -> str:
    return "".join(chunk.delta or "" for chunk in llm.stream_chat(messages))


def astream(llm: Any, messages: list[ChatMessage]) -> str:
    async def all_of() -> str:
        return "".join([one.delta or "" async for one in await llm.astream_chat(messages)])

    return asyncio.run(all_of())


@pytest.mark.parametrize("ask", [chat, achat, stream, astream])
def test_a_follow_up_is_served_in_every_way_of_asking(ask: Any) -> None:
    rewriter, inner = Rewriter(), FakeLLM()
    llm = cached_llm(inner, opened(rewriter))
    first = ask(llm, talk(*FIRST))
    assert ask(llm, talk(*SECOND)) == first
    assert len(llm.calls) == 1
    assert rewriter.asked == [FIRST[1], SECOND[1]]


def test_a_simple_chat_engine_is_served_from_another_ones_conversation() -> None:
    rewriter = Rewriter()
    llm = cached_llm(FakeLLM(), opened(rewriter))
    answers = []
    for said_first, question in (FIRST, SECOND):
        history = talk(said_first, question)[1:3]
        engine = SimpleChatEngine.from_defaults(
            llm=llm, system_prompt="You help.", chat_history=history
        )
        answers.append(str(engine.chat(question)))
    assert answers[0] == answers[1]
    assert len(llm.calls) == 1


class Known(CustomQueryEngine):
    """A query engine that asks its model the condensed question alone."""

    llm: Any

    def custom_query(self, query_str: str) -> Response:
        told = self.llm.chat([ChatMessage(role=MessageRole.USER, content=query_str)])
        return Response(str(told.message.content))


def test_an_engine_that_condenses_itself_is_not_rewritten_twice() -> None:
    rewriter = Rewriter()
    llm = cached_llm(FakeLLM(lambda messages, kwargs: said(FREE)), opened(rewriter))
    for said_first, question in (FIRST, SECOND):
        engine = CondenseQuestionChatEngine.from_defaults(
            query_engine=Known(llm=llm), llm=llm, chat_history=talk(said_first, question)[1:3]
        )
        engine.chat(question)
    assert rewriter.asked == []


class Shelf(BaseRetriever):
    """Finds one text for every question, and says what it was asked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.asked = text, list[str]()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str)
        return [NodeWithScore(node=TextNode(text=self.text, id_="node"), score=1.0)]


def condensing(llm: Any, shelf: Shelf, first: str, question: str) -> Any:
    history = talk(first, question)[1:3]
    return CondensePlusContextChatEngine.from_defaults(
        retriever=shelf, llm=llm, system_prompt="You help.", chat_history=history
    )


WAYS = {
    "chat": lambda engine, text: str(engine.chat(text)),
    "achat": lambda engine, text: str(asyncio.run(engine.achat(text))),
    "stream_chat": lambda engine, text: "".join(engine.stream_chat(text).response_gen),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_context_engine_condenses_by_its_own_prompt_and_answers_as_asked_alone(way: str) -> None:
    rewriter, shelf = Rewriter(), Shelf("The free plan holds three projects.")
    llm = cached_llm(
        FakeLLM(lambda messages, kwargs: said(FREE if len(messages) == 1 else "Three.")),
        opened(rewriter),
    )
    for said_first, question in (FIRST, SECOND):
        engine = condensing(llm, shelf, said_first, question)
        assert WAYS[way](engine, question) == "Three."
    assert shelf.asked == [FREE, FREE], "its own condensing is asked of the model each time"
    assert rewriter.asked == [FIRST[1], SECOND[1]], "and is itself not rewritten"
    assert len(llm.calls) == 3, "the second conversation has its answer from the first"


def test_an_answer_from_other_retrieved_texts_is_not_shared() -> None:
    llm = cached_llm(
        FakeLLM(lambda messages, kwargs: said(FREE if len(messages) == 1 else "Three.")),
        opened(Rewriter()),
    )
    for talked, text in ((FIRST, "Three projects."), (SECOND, "Five projects.")):
        condensing(llm, Shelf(text), *talked).chat(talked[1])
    assert len(llm.calls) == 4
