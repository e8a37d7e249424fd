"""Measure RAG through LlamaIndex: hits and wrong answers by what stands in the scope.

    python benchmarks/llamaindex_rag.py

12 documents, 40 questions with two paraphrases and one near miss each, in ``data/rag.jsonl``. Every
question is answered once; then paraphrases and near misses are asked. An answer served is wrong if
the label of the question it was given for differs. Three ways: ``cached_llm`` (the context as it
stands in the prompt), ``CachedQueryEngine`` without a version (the nodes found, in any order) and
with one (no node at all). Needs sentence-transformers and the weights of all-MiniLM-L6-v2; about a
minute.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.schema import TextNode

from llamaindex_tiered_cache import CachedQueryEngine, cached_llm
from shared_core import ResponseCache
from shared_core.embedding import Embedder, resolve_embedder

DATA = Path(__file__).parent / "data" / "rag.jsonl"
WAYS = ("context", "nodes", "version")
THRESHOLDS = (0.75, 0.80, 0.85, 0.90, 0.95)
NODES = 2


class Local(BaseEmbedding):
    """The local model, which embeds each text once."""

    _embedder: Embedder = PrivateAttr()
    _known: dict[str, list[float]] = PrivateAttr(default_factory=dict)

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(model_name="local")
        self._embedder = embedder

    def learn(self, texts: Sequence[str]) -> None:
        """Embed texts ahead, as one batch."""
        self._known.update(zip(texts, self._embedder.embed(list(texts)).tolist(), strict=True))

    def _get_text_embedding(self, text: str) -> list[float]:
        if text not in self._known:
            self.learn([text])
        return self._known[text]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class Labels(CustomLLM):
    """An LLM that gives each question its label, and counts."""

    labels: dict[str, str]
    _asked: list[str] = PrivateAttr(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=False, model_name="labels")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        question = prompt.rsplit("Query: ", 1)[-1].split("\n", 1)[0].strip()
        self._asked.append(question)
        return CompletionResponse(text=self.labels[question])

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise AssertionError("nobody streams here")


@dataclass(slots=True)
class Tally:
    """What one run served."""

    paraphrases: int = 0
    hits: int = 0
    served: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    @property
    def upper(self) -> float:
        """Return the upper end of the 95 % Wilson interval of wrong answers per answer served."""
        if not self.served:
            return 1.0
        n, p, z = self.served, len(self.wrong) / self.served, 1.96
        middle = p + z * z / (2 * n)
        return (middle + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def engine_of(way: str, index: VectorStoreIndex, llm: Labels, cache: ResponseCache) -> Any:
    """Return the query engine for a way of caching."""
    if way == "context":
        return index.as_query_engine(llm=cached_llm(llm, cache), similarity_top_k=NODES)
    engine: BaseQueryEngine = index.as_query_engine(llm=llm, similarity_top_k=NODES)
    return CachedQueryEngine(engine, cache, version="1" if way == "version" else None)


def run(
    way: str,
    threshold: float,
    index: VectorStoreIndex,
    labels: dict[str, str],
    stored: list[str],
    later: list[tuple[str, bool]],
    embedder: Embedder,
) -> Tally:
    """Answer the stored questions, ask the rest, count."""
    llm = Labels(labels=labels)
    cache = ResponseCache.open(embedder=embedder, threshold=threshold, timeout=5.0)
    engine = engine_of(way, index, llm, cache)
    for text in stored:
        engine.query(text)
    tally = Tally()
    for text, is_paraphrase in later:
        before = len(llm._asked)
        with cache.control(write=False):
            answer = str(engine.query(text))
        tally.paraphrases += is_paraphrase
        if len(llm._asked) > before:
            continue
        tally.served += 1
        tally.hits += is_paraphrase and answer == labels[text]
        if answer != labels[text]:
            tally.wrong.append((labels[text], answer))
    assert not cache.stats().errors, cache.stats().errors
    cache.close()
    return tally


def main() -> None:
    """Print one line for each way and threshold."""
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    documents = [row["text"] for row in rows if "document" in row]
    asked = [row for row in rows if "question" in row]
    labels = {
        text: row["answer"] for row in asked for text in (row["question"], *row["paraphrases"])
    }
    labels |= {row["near_miss"]: row["near_miss_answer"] for row in asked}
    later = [(text, True) for row in asked for text in row["paraphrases"]]
    later += [(row["near_miss"], False) for row in asked]
    random.Random(7).shuffle(later)
    embedder = resolve_embedder(None)
    local = Local(embedder)
    local.learn([*documents, *labels])
    nodes = [TextNode(text=text) for text in documents]
    index = VectorStoreIndex(nodes, embed_model=local)
    print("in scope  threshold  paraphrases hit   served  wrong  wrong per hit (95 % upper)")
    for way in WAYS:
        for threshold in THRESHOLDS:
            stored = [row["question"] for row in asked]
            tally = run(way, threshold, index, labels, stored, later, embedder)
            rate = tally.hits / tally.paraphrases
            wrong = len(tally.wrong) / tally.served if tally.served else 0.0
            print(
                f"{way:8} {threshold:9.2f}  {tally.hits:3} of {tally.paraphrases} ({rate:4.0%})"
                f"  {tally.served:10} {len(tally.wrong):6}  {wrong:6.1%} ({tally.upper:.1%})"
            )
            for right, given in tally.wrong:
                print(f"          asked for: {right}; given: {given}")


if __name__ == "__main__":
    main()
