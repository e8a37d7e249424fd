"""Define what a threshold policy is, and two plain ones: ``Static`` and ``Feedback``. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

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
    """Ask the model, and let its answer label the candidate at this index; ``reason`` says why.

    ``score`` is the log-odds that the candidate is right, if the policy knows them: a verifier is
    asked about those that are neither proven nor hopeless.
    """

    index: int
    evidence: tuple[float, ...] = ()
    reason: str = "learning"
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Ask the model; ``reason`` becomes that of the Miss."""

    reason: str


Decision = Serve | Explore | Skip


@dataclass(frozen=True, slots=True)
class Label:
    """A candidate of this similarity was right or wrong for the question it was held against.

    ``evidence`` and ``score`` are what the policy gave with its decision. ``fair``: chosen for a
    label by the policy's own chance. Others, such as of stored answers held against each other,
    teach what speaks for a candidate, and say nothing of how often what is served is wrong.

    ``unknown`` says that the judge did not know; then ``right`` means nothing, and only policies
    with the attribute ``weighs_unknown`` are given the label. ``truth`` is what a better judge said
    of the same two answers, or is known of them; with no ``evidence`` it measures the judge and is
    no label. ``error`` is the share of such words that the judge itself holds for false.
    """

    right: bool
    similarity: float
    evidence: tuple[float, ...] = ()
    score: float | None = None
    fair: bool = True
    unknown: bool = False
    truth: bool | None = None
    error: float = 0.0

    def to_json(self) -> str:
        """Spell the label for a store."""
        body = asdict(self)
        usual = {"fair": True, "unknown": False, "truth": None, "error": 0.0}
        body = {name: value for name, value in body.items() if value != usual.get(name, "")}
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Label | None:
        """Read a label; None if it is not one."""
        try:
            body = json.loads(text)
            score, truth = body.get("score"), body.get("truth")
            return cls(
                bool(body["right"]),
                float(body["similarity"]),
                tuple(map(float, body.get("evidence", ()))),
                None if score is None else float(score),
                body.get("fair", True) is not False,
                body.get("unknown", False) is True,
                None if truth is None else bool(truth),
                min(0.5, max(0.0, float(body.get("error", 0.0)))),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Policy(Protocol):
    """Decides which candidate may be served.

    A policy is immutable; what it learnt is a ``state`` that the cache keeps, folded from the
    labels of every process in the order in which the store numbered them.

        policy: Policy = Verified(max_error=0.05)
        cache = ResponseCache.open(threshold=policy)  # examples/own_policy.py has one of your own
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

    def for_embedder(self, embedder: str) -> Policy:
        """Return the policy for the cosines of an embedder of this name."""

    def initial_state(self) -> Any:
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


@runtime_checkable
class Teachable(Protocol):
    """A policy that learns from answers that are held against each other while nothing is asked."""

    def examine(self, question: str, candidates: Sequence[Candidate], state: Any) -> Explore | None:
        """Return which candidate an answer to the question would label; count and learn nothing."""


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


# One similarity for everything, chosen by the user.


DEFAULT_SIMILARITY = 0.92
"""The default; ``docs/matching.md`` has the figures behind it."""


@dataclass(frozen=True, slots=True)
class Static:
    """Serve the nearest candidate at or above ``similarity`` whose question does not differ.

    ``similarity`` is a cosine, 0..1; what it means depends on the embedder. Nothing is learnt.
    Raises ValueError for a similarity outside 0..1.

        cache = ResponseCache.open(threshold=Static(0.92))  # or threshold=0.92
    """

    similarity: float = DEFAULT_SIMILARITY
    k = 5
    learns = False
    explores = False

    def __post_init__(self) -> None:
        check_unit("Static(similarity)", self.similarity)

    @property
    def floor(self) -> float:
        """Return the threshold: what is below it is not served."""
        return self.similarity

    def for_embedder(self, embedder: str) -> Static:
        """Return itself: its user chose the numbers for the embedder."""
        return self

    def initial_state(self) -> None:
        """Return None: there is nothing to learn."""

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: Any, rng: random.Random
    ) -> Decision:
        """Serve at or above the threshold."""
        return serve_at(self.similarity, candidates)

    def learn(self, state: Any, label: Label) -> None:
        """Ignore the label."""

    def settle(self, state: Any) -> None:
        """Do nothing: nothing is ever due."""

    def describe(self, state: Any) -> Mapping[str, Any]:
        """Return the threshold."""
        return {"policy": "static", "threshold": self.similarity}


# One similarity for everything, moved by what people say of the answers served.


LABELS_NEEDED = 10


@dataclass(frozen=True, slots=True)
class FeedbackState:
    """The threshold now, the labels in the window (oldest first), and how many there ever were."""

    threshold: float
    window: tuple[bool, ...] = ()
    right: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Feedback:
    """Raise the threshold when too many of the newest labels are wrong, lower it when few are.

        cache = ResponseCache.open(threshold=Feedback(initial=0.95))

    It serves from the first request what is at or above ``initial``, and learns from
    ``cache.feedback(entry_id, correct)`` alone: without anybody, or a judge, who says of hits
    whether they were right, it stays where it begins.

    From the tenth label on, every label is one evaluation: accuracy over the last ``window`` labels
    under ``low`` raises, over ``high`` lowers, between them leaves the threshold alone. It stays
    within ``minimum`` and ``maximum``. Accuracies and similarities are 0..1.

    Raises ValueError for crossed limits, a step <= 0, a window < 1 or values outside 0..1.

    >>> Feedback(initial=0.9, minimum=0.85).maximum
    0.99
    """

    initial: float = 0.95
    minimum: float = 0.90
    maximum: float = 0.99
    step: float = 0.01
    window: int = 100
    low: float = 0.95
    high: float = 0.99
    k = 5
    learns = True
    explores = False

    def __post_init__(self) -> None:
        for name in ("initial", "minimum", "maximum", "low", "high"):
            check_unit(f"Feedback({name})", getattr(self, name))
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                "Feedback needs minimum <= initial <= maximum, not "
                f"{self.minimum!r}, {self.initial!r}, {self.maximum!r}"
            )
        if self.low > self.high:
            raise ValueError(f"Feedback needs low <= high, not {self.low!r} and {self.high!r}")
        if isinstance(self.step, bool) or not isinstance(self.step, (int, float)):
            raise ValueError(f"Feedback(step) must be a number, not {self.step!r}")
        if not self.step > 0:
            raise ValueError(f"Feedback(step) must be above 0, not {self.step!r}")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ValueError(
                f"Feedback(window) must be a whole number of at least 1 label, not {self.window!r}"
            )

    @property
    def floor(self) -> float:
        """Return the lowest that the threshold may be."""
        return self.minimum

    def for_embedder(self, embedder: str) -> Feedback:
        """Return itself: its user chose the numbers for the embedder."""
        return self

    def initial_state(self) -> FeedbackState:
        """Return the initial threshold and an empty window."""
        return FeedbackState(self.initial)

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        state: FeedbackState,
        rng: random.Random,
    ) -> Decision:
        """Serve at or above the threshold of now."""
        return serve_at(state.threshold, candidates)

    def learn(self, state: FeedbackState, label: Label) -> FeedbackState:
        """Add the label to the window and move the threshold by at most one step."""
        window = (*state.window, label.right)[-self.window :]
        threshold = state.threshold
        if state.right + state.wrong + 1 >= LABELS_NEEDED:
            accuracy = sum(window) / len(window)
            if accuracy < self.low:
                threshold = min(self.maximum, threshold + self.step)
            elif accuracy > self.high:
                threshold = max(self.minimum, threshold - self.step)
        return FeedbackState(
            round(threshold, 9),
            window,
            state.right + label.right,
            state.wrong + (not label.right),
        )

    def settle(self, state: FeedbackState) -> None:
        """Do nothing: nothing is ever due."""

    def describe(self, state: FeedbackState) -> Mapping[str, Any]:
        """Return the threshold, and the accuracy in the window."""
        return {
            "policy": "feedback",
            "threshold": state.threshold,
            "labels": state.right + state.wrong,
            "right": state.right,
            "wrong": state.wrong,
            "accuracy": sum(state.window) / len(state.window) if state.window else None,
        }
