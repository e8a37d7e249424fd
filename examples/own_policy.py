"""A threshold policy of one's own: strict for long questions, lenient for short ones.

    python examples/own_policy.py

A policy is pure: ``decide`` chooses among candidates, ``learn`` folds a label into a new state. The
suite ``shared_core.testing.PolicyConformance`` checks both.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared_core import Answer, Request, ResponseCache
from shared_core.thresholds import Candidate, Decision, Label, Policy, Serve, Skip


@dataclass(frozen=True, slots=True)
class ByLength:
    """Serve the nearest candidate at or above a cosine that depends on the question's length."""

    short: float = 0.90
    long: float = 0.97
    words: int = 12
    k = 3
    learns = False
    explores = False

    @property
    def floor(self) -> float:
        """Return the lower of the two cosines: nothing below it is served."""
        return min(self.short, self.long)

    def for_embedder(self, embedder: str) -> Policy:
        """Return itself: the cosines were chosen for the embedder in use."""
        return self

    def initial_state(self) -> None:
        """Return no state: nothing is learnt."""

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: Any, rng: random.Random
    ) -> Decision:
        """Serve the nearest candidate without differences, if it is near enough."""
        wanted = self.long if len(question.split()) > self.words else self.short
        for index, candidate in enumerate(candidates):
            if candidate.similarity >= wanted and not candidate.differences:
                return Serve(index)
        return Skip("threshold" if candidates else "absent")

    def learn(self, state: Any, label: Label) -> None:
        """Ignore the label."""

    def settle(self, state: Any) -> None:
        """Do nothing: nothing is ever due."""

    def describe(self, state: Any) -> Mapping[str, Any]:
        """Return the settings, for ``stats()``."""
        return {"policy": "by length", "short": self.short, "long": self.long}


def letters(texts: Sequence[str]) -> Any:
    """Embed texts by their letters, so that the example needs no model."""
    rows = np.ones((len(texts), 128))
    for row, text in zip(rows, texts, strict=True):
        for letter in text.lower():
            row[ord(letter) % 128] += 1
    return rows


def main() -> None:
    """Ask the same thing in two wordings."""
    with ResponseCache.open(threshold=ByLength(), embedder=letters) as cache:
        for question in ("How do I reset my password?", "How can I reset my password?"):
            request = Request.of(question, model="demo", params={"temperature": 0})
            outcome = cache.lookup(request)
            print(f"{question:32} {type(outcome).__name__}")
            cache.store(request, Answer("Follow the link in the e-mail."))


if __name__ == "__main__":
    main()
