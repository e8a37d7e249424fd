"""Labelled questions for the notebooks: those written for them, or a public set from a folder.

file -> [Question] -> pairs for histograms | a log of requests for tuning | a stream of requests
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy import float32
from numpy.typing import NDArray

from shared_core.embedding import resolve_embedder

WRITTEN = Path(__file__).parent / "data" / "questions.jsonl"

FRAMES = (
    "Hello, {}",
    "{} Thanks in advance!",
    "A quick question: {}",
    "I would like to know: {}",
    "{} I could not find it anywhere.",
)
"""What people write around a question; none of it changes what is asked."""

BATCH = 64

Vectors = NDArray[float32]
Pair = tuple[str, str, bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the group of all that have the same answer."""

    text: str
    group: int
    answer: str


def written() -> list[Question]:
    """Return the 604 questions of this folder: 151 groups of four wordings, many nearly alike."""
    with WRITTEN.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [Question(row["t"], row["c"], row["a"]) for row in rows]


def public_set(folder: Path, name: str) -> list[Question]:
    """Read ``<name>.jsonl.gz`` with rows ``{"t": question, "c": class}``; a class is an answer.

    Raises OSError for a file that is not there, KeyError for rows without these names.
    """
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    numbers: dict[str, int] = {}
    return [
        Question(row["t"], numbers.setdefault(str(row["c"]), len(numbers)), f"Answer {row['c']}")
        for row in rows
    ]


class Embedded:
    """The default embedder, with texts embedded beforehand in batches; others when they come.

    It goes by the model's name, as its vectors are the model's.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._model = resolve_embedder(None)
        self._known: dict[str, Vectors] = {}
        wanted = sorted(
            set(texts), key=lambda text: (len(text), text)
        )  # a batch pads to its longest
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            self._known.update(zip(batch, self._model.embed(batch), strict=True))
        self.name, self.dimension = self._model.name, self._model.dimension
        self.max_tokens = self._model.max_tokens
        self.count_tokens = self._model.count_tokens

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 (n, d), rows of length 1."""
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        if text not in self._known:
            self._known[text] = self._model.embed([text])[0]
        return self._known[text]


def labelled_pairs(questions: Sequence[Question], vectors: Vectors) -> list[Pair]:
    """Pair the wordings of each group (same), and each question with the nearest of another.

    ``vectors`` (n, d) are of length 1. The second kind are hard negatives: of all that must not be
    served, the one most like the question.
    """
    groups = np.array([one.group for one in questions])
    cosines = vectors @ vectors.T
    cosines[groups[:, None] == groups] = -1.0
    same = [
        (one.text, other.text, True)
        for at, one in enumerate(questions)
        for other in questions[at + 1 :]
        if one.group == other.group
    ]
    nearest = cosines.argmax(axis=1)
    return same + [
        (one.text, questions[at].text, False) for one, at in zip(questions, nearest, strict=True)
    ]


def log_of_requests(questions: Sequence[Question], vectors: Vectors) -> list[Pair]:
    """Pair each question with the nearest that was asked before it: what a cache would hold.

    ``vectors`` (n, d) are of length 1. The first question has none before it, and no pair.
    """
    cosines = vectors @ vectors.T
    nearest = [int(cosines[at, :at].argmax()) for at in range(1, len(questions))]
    return [
        (one.text, questions[at].text, one.group == questions[at].group)
        for one, at in zip(questions[1:], nearest, strict=True)
    ]


def stream(questions: Sequence[Question], requests: int, seed: int) -> list[Question]:
    """Return that many requests in an order of arrival, no two of the same wording.

    Each question comes as it is, and as often within frames, drawn by chance, as makes up the
    number.
    """
    rng = random.Random(seed)
    framed = [replace(one, text=frame.format(one.text)) for one in questions for frame in FRAMES]
    rng.shuffle(framed)
    chosen = [*questions, *framed][:requests]
    rng.shuffle(chosen)
    return chosen
