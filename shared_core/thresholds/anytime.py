"""Certify pools of candidates at every look: the bound of ``Verified(guarantee="anytime")``. Pure.

labels, each weighed by 1 / chance --bets against "too many are wrong"--> wealth --> certified pools
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared_core.thresholds.bounds import EDGES

FIRST, EVERY = 13, 2
"""Pools are tested from this edge down, every second: above it are too few requests to test."""

TESTED = EDGES[FIRST::-EVERY]
"""The thresholds in the order of their tests, highest first; fixed before any label."""

RATES = (0.02, 0.1, 0.25, 0.5, 0.75)
"""Shares of wrong answers that are bet on, as parts of the allowed one."""


@dataclass(slots=True)
class Wealth:
    """What bets against "at least ``max_error`` of this pool is wrong" have made of 1.

    A label x (1: wrong) of a request that had the chance c to be labelled, when the least chance of
    any was b, multiplies the wealth of a bet on the rate q by

        1 + (b / c) (d - x) (d - q) / (d (1 - d))        d = max_error

    which is at most 1 on average if d of the pool or more are wrong: b / c makes up for the choice
    of what is labelled. The wealth is the mean over several q, so that none need be chosen. By
    Ville's inequality it ever reaches 1 / a with probability a at most: no matter how often one
    looks, a pool that reaches it is certified with confidence 1 - a (Waudby-Smith and Ramdas, JRSS
    B 2024). Pools are certified from the highest threshold down, one after the other, so that the
    confidence holds for all together (fixed sequence; Angelopoulos et al., "Learn then test").

    ``shares`` are the weights of RATES in that mean, for each pool: a prior that knows the pool
    bets on what it expects. Whatever they are, the bound holds.
    """

    max_error: float
    confidence: float
    shares: tuple[tuple[float, ...], ...]
    logs: list[list[float]] = field(init=False)
    certified: int = 0

    def __post_init__(self) -> None:
        self.logs = [[math.log(share) for share in pool] for pool in self.shares]

    def add(self, score: float, wrong: bool, weight: float) -> None:
        """Bet on a label of a candidate that had this log-odds; ``weight`` is b / c, 0..1."""
        d = self.max_error
        for pool, threshold in enumerate(TESTED):
            if score >= threshold:
                self.logs[pool] = [
                    log + math.log1p(weight * (d - wrong) * (1 - rate) / (1 - d))
                    for log, rate in zip(self.logs[pool], RATES, strict=True)
                ]
        while self.certified < len(TESTED) and self.wealth(self.certified) >= self.goal:
            self.certified += 1

    def wealth(self, pool: int) -> float:
        """Return the wealth of a pool, by its place in TESTED."""
        return math.fsum(math.exp(min(log, 600.0)) for log in self.logs[pool])

    @property
    def goal(self) -> float:
        """Return the wealth that certifies."""
        return 1 / (1 - self.confidence)

    @property
    def threshold(self) -> float:
        """Return the lowest certified log-odds; infinite if there is none."""
        return TESTED[self.certified - 1] if self.certified else math.inf

    def labels_needed(self) -> float:
        """Return how many right labels more would certify the next pool."""
        if self.certified == len(TESTED):
            return 0.0
        d, logs = self.max_error, self.logs[self.certified]
        gains = [math.log1p(d * (1 - rate) / (1 - d)) for rate in RATES]
        low, high = 0.0, 1e4
        while high - low > 0.5:  # noqa: PLR2004 - of a label
            middle = (low + high) / 2
            grown = (log + middle * gain for log, gain in zip(logs, gains, strict=True))
            reached = math.fsum(math.exp(min(log, 600.0)) for log in grown) >= self.goal
            low, high = (low, middle) if reached else (middle, high)
        return max(1.0, high)


def shares_for(expected: Sequence[float], max_error: float) -> tuple[tuple[float, ...], ...]:
    """Return the weights of the bets where public data expects such rates of wrong ones, per pool.

    Half of the wealth is spread evenly, half on the rates nearest to the expected one.
    """
    found = []
    for rate in expected:
        near = [math.exp(-abs(part - rate / max_error) / 0.2) for part in RATES]
        found.append(tuple(0.5 / len(RATES) + 0.5 * one / sum(near) for one in near))
    return tuple(found)
