"""A question-answering app on LlamaIndex with the cache before its LLM. No key, no network.

    python examples/rag.py [--url sqlite:///rag.db]

A handbook of 36 short texts (written for this example, MIT like the rest) is indexed; questions are
asked, repeated, put in other words, and asked again after a document has changed; an answer is
streamed; an agent uses a tool. The model is a stand-in that copies the best sentence out of the
context and takes 0.8 s, as a hosted one might. Embeddings are real: sentence-transformers and the
weights of all-MiniLM-L6-v2 are needed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode

from llamaindex_tiered_cache import CachedEmbedding, install
from shared_core import LookupEvent, ResponseCache, Trace
from shared_core.embedding import resolve_embedder

HANDBOOK = Path(__file__).parent / "bicycle_handbook.txt"
QUESTION = "How often should I check the tyre pressure?"
PARAPHRASE = "How often do I need to check my tyre pressure?"
OTHER = "How often should I check the chain for wear?"


class LocalEmbedding(BaseEmbedding):
    """The local sentence-transformers model as LlamaIndex wants it."""

    _embedder: Any = PrivateAttr(default_factory=lambda: resolve_embedder(None))

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._embedder.embed(texts).tolist()
        return rows

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class Model:
    """A stand-in for a hosted model: slow, and only as clever as its context."""

    def __init__(self, latency: float) -> None:
        self.latency, self.calls = latency, 0

    def __call__(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        """Answer the last message, or call the first tool."""
        self.calls += 1
        time.sleep(self.latency)
        last = messages[-1]
        if kwargs.get("tools") and last.role is not MessageRole.TOOL:
            bars = {"tyre_width": 28}
            call = ToolCallBlock(
                tool_call_id=f"call_{self.calls}",
                tool_name=kwargs["tools"][0].metadata.name,
                tool_kwargs=bars,
            )
            return ChatMessage(role=MessageRole.ASSISTANT, blocks=[call])
        if last.role is MessageRole.TOOL:
            return ChatMessage(f"Pump it to {last.content}.", role=MessageRole.ASSISTANT)
        return ChatMessage(best_sentence(last.content or ""), role=MessageRole.ASSISTANT)


def best_sentence(prompt: str) -> str:
    """Return the sentence of a prompt's context that shares most words with its query."""
    context, _, query = prompt.rpartition("Query:")
    asked = set(re.findall(r"\w{4,}", query.lower()))
    material = re.split(r"-{5,}", context)[1]
    lines = material.splitlines()  # a title is a line of its own
    sentences = [one for line in lines for one in re.findall(r"[A-Z][^.]*(?:\.\d[^.]*)*\.", line)]
    found: str = max(sentences, key=lambda one: len(asked & set(re.findall(r"\w+", one.lower()))))
    return found


def pressure(tyre_width: int) -> str:
    """Tell the pressure in bar for a tyre of this width in millimetres."""
    return "5.5 bar" if tyre_width <= 28 else "3.5 bar"  # noqa: PLR2004 - as the handbook says


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the app did: what it was told, how long it took, what the cache did."""

    name: str
    answer: str
    seconds: float
    model_calls: int
    tiers: tuple[str, ...]


class App:
    """A RAG query engine and an agent, whose LLM has the cache before it."""

    def __init__(self, cache: ResponseCache, latency: float) -> None:
        self.cache, self.model = cache, Model(latency)
        Settings.llm = MockFunctionCallingLLM(response_generator=self.model, is_chat_model=True)
        self.llm = install(cache)
        self.embedding = CachedEmbedding(LocalEmbedding(model_name="all-MiniLM-L6-v2"), cache)
        self.texts = [text.strip() for text in HANDBOOK.read_text().split("\n\n")]
        self.steps: list[Step] = []

    def engine(self, **options: Any) -> Any:
        """Index the handbook as it is now; texts that did not change are not embedded again."""
        nodes = [TextNode(text=text) for text in self.texts]
        index = VectorStoreIndex(nodes, embed_model=self.embedding)
        return index.as_query_engine(similarity_top_k=2, **options)

    def step(self, name: str, run: Callable[[], Any]) -> None:
        """Do one thing and note what happened."""
        calls, started = self.model.calls, time.perf_counter()
        with self.cache.trace() as trace:
            answer = str(run())
        seconds = time.perf_counter() - started
        self.steps.append(Step(name, answer, seconds, self.model.calls - calls, tiers(trace)))

    def ask_agent(self) -> str:
        """Ask the agent, which calls a tool before it answers."""

        async def run() -> str:
            agent = FunctionAgent(tools=[pressure], llm=self.llm, system_prompt="Help riders.")
            memory = ChatMemoryBuffer.from_defaults(token_limit=3000)
            return str(await agent.run("What pressure for my 28 mm tyre?", memory=memory))

        return asyncio.run(run())


def tiers(trace: Trace) -> tuple[str, ...]:
    """Return what each lookup found: the tier, or why there was nothing."""
    events = [event for event in trace.events if isinstance(event, LookupEvent)]
    return tuple(str(event.tier or event.reason or event.outcome) for event in events)


def session(cache: ResponseCache, latency: float) -> list[Step]:
    """Run the app's day and return what happened."""
    before = Settings._llm
    app = App(cache, latency)
    engine = app.engine()
    app.step("a question", lambda: engine.query(QUESTION))
    app.step("the same", lambda: engine.query(QUESTION))
    app.step("in other words", lambda: engine.query(PARAPHRASE))
    app.step("another question", lambda: engine.query(OTHER))
    stream = app.engine(streaming=True)
    app.step("streamed", lambda: "".join(stream.query(QUESTION).response_gen))
    app.texts = [text.replace("every two weeks", "every week") for text in app.texts]
    changed = app.engine()
    app.step("document changed", lambda: changed.query(QUESTION))
    app.step("in other words", lambda: changed.query(PARAPHRASE))
    app.step("an agent", app.ask_agent)
    app.step("the agent again", app.ask_agent)
    Settings._llm = before
    return app.steps


def main() -> None:
    """Print what happened, as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="memory://", help="where answers are kept")
    parser.add_argument("--latency", type=float, default=0.8, help="seconds per model call")
    given = parser.parse_args()
    with ResponseCache.open(given.url, threshold=0.85) as cache:
        cache.preload()
        print(f"{'':17} {'seconds':>8} {'model calls':>12}  the cache said")
        for step in session(cache, given.latency):
            said = ", ".join(step.tiers)
            print(f"{step.name:17} {step.seconds:8.3f} {step.model_calls:12}  {said}")
            print(f"{'':17} {step.answer}")
        print(f"\n{cache.stats().hits} hits, {cache.stats().lookups} lookups")


if __name__ == "__main__":
    main()
