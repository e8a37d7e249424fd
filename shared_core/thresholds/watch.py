"""What the verified policy keeps an eye on: changes of the world, and single answers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import blake2b

CHANGE = 0.25
"""Share of the right answers that a change worth noticing makes wrong."""

DOUBT = 0.03
"""Least share of wrong answers that is taken for granted, so that one stray label is no alarm."""

ALARM = 8.0
"""Log-likelihood ratio at which a change is believed: odds of 3000 to 1."""

GROUPS_KEPT = 10_000
SURE = 3.0
"""Log-odds from which on a wrong answer is held against its group: it should not have happened."""

DEBT = 2.0
"""Right labels that a group owes after each of those."""

STRETCH = 400.0
"""Hits after which a group that was never checked is surely checked."""


@dataclass(slots=True)
class Watch:
    """Notices that the world has changed: what was right is wrong more often than the scores say.

    A one-sided CUSUM (Page 1954) of the log-likelihood of a change over none. ``since`` counts the
    labels since the change began, if there was one.
    """

    sum: float = 0.0
    since: int = 0

    def notices(self, right: bool, score: float) -> bool:
        """Add a label whose candidate had this log-odds; tell whether a change is now believed."""
        error = max(DOUBT, 1 / (1 + math.exp(min(score, 30.0))))
        changed = error + CHANGE * (1 - error)
        self.sum += math.log((1 - changed) / (1 - error) if right else changed / error)
        self.since += 1
        if self.sum <= 0:
            self.sum, self.since = 0.0, 0
        return self.sum > ALARM

    @property
    def suspicion(self) -> float:
        """Return 0 when all is as expected, to 1 when a change is all but believed."""
        return self.sum / ALARM


@dataclass(slots=True)
class Groups:
    """What is known of single answers: which were wrong, and which were long not checked.

    One wrong answer among many is no reason to stop serving the rest, but it is one to check that
    very answer: it is served no more until right labels have paid its debt. ``unchecked`` counts
    hits since the latest label, in this process: whoever asks a thousand questions that all look
    like one is found out by the chance of being checked, which grows with it.
    """

    debts: dict[float, float] = field(default_factory=dict)
    unchecked: dict[float, int] = field(default_factory=dict)

    def label(self, group: float, right: bool, score: float) -> None:
        """Pay a part of the debt, or raise it if an answer was wrong that was sure to be right."""
        self.unchecked.pop(group, None)
        owed = self.debts.pop(group, 0.0)
        owed += -1 if right else DEBT * (score > SURE)
        if owed > 0:
            self.debts[group] = owed
            if len(self.debts) > GROUPS_KEPT:
                self.debts.pop(next(iter(self.debts)))

    def serve(self, group: float) -> None:
        """Count a hit."""
        if len(self.unchecked) > GROUPS_KEPT:
            self.unchecked.clear()
        self.unchecked[group] = self.unchecked.get(group, 0) + 1

    def urgency(self, group: float) -> float:
        """Return how much likelier than usual the next hit is to be checked, 0..1."""
        return min(1.0, self.unchecked.get(group, 0) / STRETCH)


def mark(group: str) -> float:
    """Return a number that names an answer group in a label; 0 for a group without a name."""
    digest = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return float(int.from_bytes(digest, "big")) if group else 0.0
