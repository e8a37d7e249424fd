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

FLOOR = 0.4
ALERT = 0.25


@dataclass(frozen=True, slots=True)
class Verified:
    max_error: float = 0.02
    per: Per = "hit"
    prior: Prior | None = None
    label_noise: float = 0.0
    audit: float = 0.01
    confidence: float = 0.75
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
        model, group = state.model, mark(best.group)
        score = model.score(best.values)
        served = score >= model.threshold and group not in state.groups.debts
        chance = 1.0
        if served:
            chance = min(1.0, self.audit + ALERT * (state.watch.sum / state.tuning.alarm) ** 2 + state.groups.unchecked.get(group, 0) / state.tuning.stretch)
        evidence = (round(score, 4), chance, group, *best.values)
        if served and rng.random() >= chance:
            if group: state.groups.serve(group)
            return Serve(best.index, evidence, round(score, 4))
        return Explore(best.index, evidence)

    def learn(self, state: Learned, label: Label) -> Learned:
        from shared_core.thresholds.learned import refit

        if len(label.evidence) == 3 + len(NAMES):
            state.add(label.right, label.evidence)
        else:
            state.add_feedback(label.right, label.score)
        if state.is_due:
            state.since_fit = 0
            state.model = refit(state, Promise(self.max_error, self.per, self.confidence), self.label_noise)
        return state

from hashlib import blake2b
def mark(group):
    if not group or group[0]=="#": return 0.0
    return float(int.from_bytes(blake2b(group.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big"))
