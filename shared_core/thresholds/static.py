"""One similarity for everything, chosen by the user."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.thresholds.policy import Candidate, Decision, Label, check_unit, serve_at

DEFAULT_SIMILARITY = 0.92
"""The default; ``docs/matching.md`` has the figures behind it."""


@dataclass(frozen=True, slots=True)
class Static:
    """Serve the nearest candidate at or above ``similarity`` whose question does not differ.

    Raises ValueError for a similarity outside 0..1.
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

    def suited_to(self, embedder: str) -> Static:
        """Return itself: its user chose the numbers for the embedder."""
        return self

    def start(self) -> None:
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
