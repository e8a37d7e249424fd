"""What a threshold policy is: candidates in, a decision out; labels in, a new state out. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from shared_core.guard import Difference


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live neighbour in scope: cosine, and how its question differs where it matters.

    Candidates whose answers are equal have one ``group``.
    """

    similarity: float
    differences: tuple[Difference, ...] = ()
    question: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with the candidate at this index.

    ``evidence`` is what a label of this candidate would be learnt from, as numbers; ``score`` what
    feedback on this serving is learnt from, if all else is forgotten.
    """

    index: int
    evidence: tuple[float, ...] = ()
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Explore:
    """Ask the model, and let its answer label the candidate at this index; ``reason`` says why."""

    index: int
    evidence: tuple[float, ...] = ()
    reason: str = "learning"


@dataclass(frozen=True, slots=True)
class Skip:
    """Ask the model; ``reason`` becomes that of the Miss."""

    reason: str


Decision = Serve | Explore | Skip


@dataclass(frozen=True, slots=True)
class Label:
    """A candidate of this similarity was right or wrong for the question it was held against.

    ``evidence`` and ``score`` are what the policy gave with its decision.
    """

    right: bool
    similarity: float
    evidence: tuple[float, ...] = ()
    score: float | None = None

    def to_json(self) -> str:
        """Spell the label for a store."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Label | None:
        """Read a label; None if it is not one."""
        try:
            body = json.loads(text)
            score = body.get("score")
            return cls(
                bool(body["right"]),
                float(body["similarity"]),
                tuple(map(float, body.get("evidence", ()))),
                None if score is None else float(score),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Policy(Protocol):
    """Decides which candidate may be served.

    A policy is immutable; what it learnt is a ``state`` that the cache keeps, folded from the
    labels of every process in the order in which the store numbered them.
    """

    @property
    def k(self) -> int:
        """How many neighbours it wants to see."""

    @property
    def learns(self) -> bool:
        """Whether labels change its decisions."""

    @property
    def explores(self) -> bool:
        """Whether it has the model asked to label candidates, and wants answers grouped."""

    @property
    def floor(self) -> float:
        """Similarity below which it serves no candidate: differences are not looked for there."""

    def suited_to(self, embedder: str) -> Policy:
        """Return the policy for the cosines of an embedder of this name."""

    def start(self) -> Any:
        """Return the state before any label."""

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: Any, rng: random.Random
    ) -> Decision:
        """Choose among candidates, nearest first, for a question."""

    def learn(self, state: Any, label: Label) -> Any:
        """Return the state after one more label."""

    def settle(self, state: Any) -> None:
        """Do now what the labels make due, so that no decision has to."""

    def describe(self, state: Any) -> Mapping[str, Any]:
        """Return what a person wants to know of it, as JSON values."""


def serve_at(threshold: float, candidates: Sequence[Candidate]) -> Serve | Skip:
    """Choose the nearest candidate without differences at or above a cosine."""
    reason = "absent"
    for index, candidate in enumerate(candidates):
        if candidate.similarity < threshold - 1e-9:
            return Skip("threshold" if reason == "absent" else reason)
        if not candidate.differences:
            return Serve(index)
        reason = "guard"
    return Skip(reason)


def check_unit(name: str, value: float) -> float:
    """Return the value; raise ValueError unless it is a number in 0..1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a similarity from 0 to 1, not {value!r}")
    return float(value)
