"""The risk plan: the lowest score from which on serving is known to keep the promise. Pure.

labels, arrivals --pool above each threshold--> exact binomial test --> the lowest that passes
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Per = Literal["hit", "request"]

NOTHING = math.inf
"""The threshold above which there is no score: serve nothing."""

MARGINS: Mapping[Per, float] = {"hit": 0.85, "request": 1.0}
"""Share of the allowed rate that an estimate may reach: the largest of many pools that pass looks
better than it is, however many labels it has. Per request, what is not served makes up for it."""

FRACTION_STEPS = 200
MOST_LABELS = 1e5
TINY = 1e-300
EPSILON = 1e-10


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), for a, b > 0.

    By the continued fraction of DLMF 8.17.22 (modified Lentz), on the side where it converges fast.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    upper, lower = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = lower
    for m in range(1, FRACTION_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            lower = 1 / _away_from_zero(1 + term * lower)
            upper = _away_from_zero(1 + term / upper)
            change = upper * lower
            value *= change
        if abs(change - 1) < EPSILON:
            break
    return min(1.0, math.exp(front) * value / a)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY


def chance_of_so_few(wrong: float, of: float, rate: float) -> float:
    """Return P(at most ``wrong`` of ``of`` are wrong) when each is with probability ``rate``.

    The binomial tail as a beta integral, so that counts may be fractions. A rate is refuted with
    confidence 1 - a when this is at most a: the test that Clopper and Pearson's bound inverts.
    """
    if of <= wrong:
        return 1.0
    return 1.0 - beta_cdf(rate, wrong + 1, of - wrong)


def interval(wrong: float, of: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate, two-sided; counts may be fractions."""
    if of <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if wrong <= 0 else _quantile(tail, wrong, of - wrong + 1)
    high = 1.0 if wrong >= of else _quantile(1 - tail, wrong + 1, of - wrong)
    return low, high


def _quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < share else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of all that scores at or above ``threshold``.

    ``labels`` of it are known, ``wrong`` of these were wrong; what the model believes counts like
    ``believed`` labels more, of which ``believed_wrong`` were wrong. ``share`` of all requests fall
    into the pool. ``shift`` is how much oftener than the labels the requests are expected to be
    wrong: labels come from what was not yet served, which scores lower, so it is mostly below 1.
    """

    threshold: float
    labels: float
    wrong: float
    share: float
    shift: float = 1.0
    believed: float = 0.0
    believed_wrong: float = 0.0

    @property
    def rate(self) -> float:
        """Return the share of wrong ones among what is known and believed."""
        of = self.labels + self.believed
        return (self.wrong + self.believed_wrong) / of if of else 1.0

    @property
    def error(self) -> float:
        """Return the estimated share of wrong answers, were all of it served."""
        return min(1.0, self.shift * self.rate)

    def error_between(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval of that share by the labels alone, two-sided."""
        low, high = interval(self.wrong, self.labels, confidence)
        return min(1.0, self.shift * low), min(1.0, self.shift * high)


@dataclass(frozen=True, slots=True)
class Promise:
    """At most ``max_error`` of the hits, or of the requests, are wrong, with this confidence."""

    max_error: float
    per: Per
    confidence: float

    def allowed(self, pool: Pool) -> float:
        """Return the rate of wrong labels at which serving the pool would break the promise."""
        of = 1.0 if self.per == "hit" else pool.share
        return min(1.0, self.max_error / max(of * pool.shift, 1e-9))

    def is_kept_by(self, pool: Pool) -> bool:
        """Tell whether the labels refute that serving the pool would break the promise."""
        if pool.rate > MARGINS[self.per] * self.allowed(pool):
            return False
        return self._refutes(pool, pool.labels + pool.believed)

    def labels_needed(self, pool: Pool) -> float:
        """Return how many labels would do if they go on as they were; infinite if none would."""
        if pool.rate > MARGINS[self.per] * self.allowed(pool):
            return math.inf
        low = high = max(1.0, pool.labels + pool.believed)
        while not self._refutes(pool, high) and high < MOST_LABELS:
            low, high = high, 2 * high
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (low, middle) if self._refutes(pool, middle) else (middle, high)
        return high - pool.believed if high < MOST_LABELS else math.inf

    def _refutes(self, pool: Pool, of: float) -> bool:
        chance = chance_of_so_few(pool.rate * of, of, self.allowed(pool))
        return chance <= 1 - self.confidence


def choose(pools: Sequence[Pool], promise: Promise) -> Pool | None:
    """Return the largest pool that keeps the promise; ``pools`` from the highest threshold down."""
    return next((pool for pool in reversed(pools) if promise.is_kept_by(pool)), None)
