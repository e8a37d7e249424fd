"""One similarity for everything, moved by what people say of the answers served."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.thresholds.policy import Candidate, Decision, Label, check_unit, serve_at

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

    From the tenth label on, every label is one evaluation: accuracy over the last ``window`` labels
    under ``low`` raises, over ``high`` lowers, between them leaves the threshold alone. It stays
    within ``minimum`` and ``maximum``. Accuracies and similarities are 0..1.

    Raises ValueError for crossed limits, a step <= 0, a window < 1 or values outside 0..1.
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

    def suited_to(self, embedder: str) -> Feedback:
        """Return itself: its user chose the numbers for the embedder."""
        return self

    def start(self) -> FeedbackState:
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
