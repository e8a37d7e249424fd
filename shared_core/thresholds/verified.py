"""The verified policy: serve what the labels prove, ask the model about the rest."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared_core.thresholds.evidence import NAMES, content, weigh
from shared_core.thresholds.policy import Candidate, Decision, Explore, Label, Serve, Skip
from shared_core.thresholds.prior import Prior, cold, shipped
from shared_core.thresholds.risk import NOTHING, Per, Promise, interval

if TYPE_CHECKING:
    from shared_core.thresholds.learned import Learned

FLOOR = 0.5


@dataclass(frozen=True, slots=True)
class Verified:
    max_error: float = 0.02
    per: Per = "hit"
    prior: Prior | None = None
    label_noise: float = 0.0
    audit: float = 0.02
    confidence: float = 0.9
    tuning: Any = None
    k = 10
    learns = True

    def start(self) -> Learned:
        from shared_core.thresholds.learned import Learned, Tuning

        return Learned.start((self.prior or cold()).gaussian(), self.tuning or Tuning())

    def decide(self, question: str, candidates: Sequence[Candidate], state: Learned, rng: random.Random) -> Decision:
        near = [c for c in candidates if c.similarity >= FLOOR]
        best = weigh(question, near, state.vocabulary)
        state.vocabulary.add(content(question))
        state.arrive(None if best is None else best.values)
        if best is None:
            return Skip("guard" if near else "threshold" if candidates else "absent")
        model = state.model
        score = model.score(best.values)
        served = score >= model.threshold
        chance = self.audit if served else 1.0
        evidence = (round(score, 4), chance, *best.values)
        if served and rng.random() >= self.audit:
            return Serve(best.index, evidence, round(score, 4))
        return Explore(best.index, evidence)

    def learn(self, state: Learned, label: Label) -> Learned:
        from shared_core.thresholds.learned import refit

        if len(label.evidence) == 2 + len(NAMES):
            score, chance, *values = label.evidence
            state.add(label.right, score, chance, values)
        else:
            state.add_feedback(label.right, label.score)
        if state.is_due:
            state.since_fit = 0
            state.model = refit(state, Promise(self.max_error, self.per, self.confidence), self.label_noise)
        return state
