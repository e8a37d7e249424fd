"""Measure ``rag_question``: hits and wrong answers, with the context in the scope or its version.

    python benchmarks/rag.py

12 documents, 40 questions with two paraphrases and one near miss each, in ``data/rag.jsonl``.
Every question is answered once; then paraphrases and near misses are asked, each with the two
documents that its own embedding retrieves. An answer served is wrong if the label of the question
it was given for differs. Needs sentence-transformers and the weights of all-MiniLM-L6-v2; about
half a minute.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration

from langchain_tiered_cache import TieredCache, rag_question
from shared_core.embedding import Embedder, resolve_embedder

DATA = Path(__file__).parent / "data" / "rag.jsonl"
THRESHOLDS = (0.75, 0.80, 0.85, 0.90, 0.95)
TEMPLATE = (
    "Use the following pieces of context to answer the question at the end. If you don't know the "
    "answer, just say that you don't know.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:"
)
MODEL = "[('_type', 'benchmark'), ('model', 'none'), ('temperature', 0.0)]"


@dataclass(frozen=True, slots=True)
class Ask:
    """One question as it is asked, with the label of its right answer."""

    prompt: str
    label: str


@dataclass(slots=True)
class Tally:
    """What one run served."""

    paraphrases: int = 0
    hits: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    served: int = 0

    @property
    def upper(self) -> float:
        """Return the upper end of the 95 % Wilson interval of wrong answers per answer served."""
        if not self.served:
            return 1.0
        n, p, z = self.served, len(self.wrong) / self.served, 1.96
        middle = p + z * z / (2 * n)
        return (middle + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def load() -> tuple[list[str], list[dict[str, Any]]]:
    """Read documents and questions."""
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    documents = [row["text"] for row in rows if "document" in row]
    return documents, [row for row in rows if "question" in row]


def prompts(texts: list[str], documents: list[str], embedder: Embedder) -> dict[str, str]:
    """Build each text's prompt, with the two documents nearest to it, nearest first."""
    near = embedder.embed(texts) @ embedder.embed(documents).T
    found = {}
    for text, row in zip(texts, near, strict=True):
        context = "\n\n".join(documents[i] for i in np.argsort(-row)[:2])
        message = HumanMessage(TEMPLATE.format(context=context, question=text))
        found[text] = dumps([message])
    return found


def run(
    mode: Literal["exact", "version"],
    threshold: float,
    embedder: Embedder,
    stored: list[Ask],
    later: list[tuple[Ask, bool]],
) -> Tally:
    """Store an answer per question, ask the rest, count."""
    question = rag_question(mode, version="1" if mode == "version" else None)
    tiered = TieredCache(question=question, embedder=embedder, threshold=threshold, timeout=5.0)
    for ask in stored:
        tiered.update(ask.prompt, MODEL, [ChatGeneration(message=AIMessage(ask.label))])
    tally = Tally()
    for ask, is_paraphrase in later:
        found = tiered.lookup(ask.prompt, MODEL)
        tally.paraphrases += is_paraphrase
        if found is None:
            continue
        tally.served += 1
        tally.hits += is_paraphrase and found[0].text == ask.label
        if found[0].text != ask.label:
            tally.wrong.append((ask.label, found[0].text))
    assert not tiered.errors, tiered.errors
    tiered.close()
    return tally


def main() -> None:
    """Print one line for each mode and threshold."""
    embedder = resolve_embedder(None)
    documents, rows = load()
    texts = [text for row in rows for text in (row["question"], *row["paraphrases"])]
    built = prompts([*texts, *(row["near_miss"] for row in rows)], documents, embedder)
    stored = [Ask(built[row["question"]], row["answer"]) for row in rows]
    later = [(Ask(built[text], row["answer"]), True) for row in rows for text in row["paraphrases"]]
    later += [(Ask(built[row["near_miss"]], row["near_miss_answer"]), False) for row in rows]
    random.Random(7).shuffle(later)
    print("context  threshold  paraphrases hit   served  wrong  wrong per hit (95 % upper)")
    for mode in ("exact", "version"):
        for threshold in THRESHOLDS:
            tally = run(mode, threshold, embedder, stored, later)
            rate = tally.hits / tally.paraphrases
            wrong = len(tally.wrong) / tally.served if tally.served else 0.0
            print(
                f"{mode:8} {threshold:9.2f}  {tally.hits:3} of {tally.paraphrases} ({rate:4.0%})"
                f"  {tally.served:7} {len(tally.wrong):6}  {wrong:6.1%} ({tally.upper:.1%})"
            )
            for asked, given in tally.wrong:
                print(f"         asked for: {asked}; given: {given}")


if __name__ == "__main__":
    main()
