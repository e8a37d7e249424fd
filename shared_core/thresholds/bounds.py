"""Bound the risk of serving from a score on, and watch for change: statistics without numpy.

labels, arrivals --pool above each threshold--> estimate and exact test --> the lowest that passes
labels --bets against "too many of this pool are wrong"--> wealth --> pools certified at every look
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from statistics import NormalDist
from typing import Literal

Per = Literal["hit", "request"]

NOTHING = math.inf
"""The threshold above which there is no score: serve nothing."""

MARGINS: Mapping[Per, float] = {"hit": 0.85, "request": 1.0}
"""Share of the allowed rate that an estimate may reach: the largest of many pools that pass looks
better than it is, however many labels it has. Per request, what is not served makes up for it."""

WORST = 4.0
"""How many times the allowed rate what is served may be wrong where it is wrong most often: good
luck elsewhere must not be spent on candidates of which one in twelve is wrong."""

LEAST = 20
"""Labels of its own without which nothing is proven by an app's own labels."""

FRACTION_STEPS = 200
MAX_LABELS = 1e5
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
    low = 0.0 if wrong <= 0 else quantile(tail, wrong, of - wrong + 1)
    high = 1.0 if wrong >= of else quantile(1 - tail, wrong + 1, of - wrong)
    return low, high


def quantile(share: float, a: float, b: float) -> float:
    """Return the value below which this share of a beta distribution lies; a, b > 0."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < share else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class JudgeError:
    """How far a judge's labels are from the truth, as limits that a promise reckons with.

    ``false_same``: of its words on wrong candidates, the share that says "right", at most;
    ``false_different``: of those on right ones, the share that says "wrong", at least. ``heard``:
    how often it has a word on wrong candidates, to how often on right ones, at least; 1 at most.
    """

    false_same: float = 0.0
    false_different: float = 0.0
    heard: float = 1.0

    def labelled_wrong(self, wrong: float) -> float:
        """Return the share of labels that say "wrong" where this share of candidates is wrong."""
        seen, right = self.heard * wrong, 1 - wrong
        said = seen * (1 - self.false_same) + right * self.false_different
        return said / max(seen + right, TINY)

    def truly_wrong(self, labelled: float) -> float:
        """Return the share of wrong candidates where this share of labels says "wrong"."""
        more = labelled - self.false_different
        of = self.heard * (1 - self.false_same - labelled) + more
        return min(1.0, max(0.0, more / of)) if of > TINY else float(more > 0)


NEVER_WRONG = JudgeError()

LIKE_CHECKED = 20.0
"""Checked words that what is believed of a judge counts for, once some were checked."""


@dataclass(slots=True)
class JudgeRecord:
    """What a judge said where the truth is known, and what it says of its own errors.

    ``said`` counts its words, None for "not known", by the truth beside them.
    """

    said: dict[tuple[bool | None, bool], int] = field(default_factory=dict)
    doubts: float = 0.0
    words: int = 0

    def check(self, word: bool | None, truth: bool) -> None:
        """Count a word that was checked."""
        self.said[word, truth] = self.said.get((word, truth), 0) + 1

    def add(self, error: float) -> None:
        """Count a word "right" that the judge holds for false with this probability."""
        self.doubts, self.words = self.doubts + error, self.words + 1

    def of(self, truth: bool) -> tuple[int, int]:
        """Return how many checked words there were on such candidates, and how many were false."""
        right, wrong = self.said.get((True, truth), 0), self.said.get((False, truth), 0)
        return right + wrong, wrong if truth else right

    def limits(self, noise: float, confidence: float, heard: float) -> JudgeError:
        """Return the limits of its errors; ``noise`` is what is believed of both kinds."""
        believed = max(noise, self.doubts / self.words if self.words else 0.0)
        (wrong, same), (right, different) = self.of(truth=False), self.of(truth=True)
        most = _limit(confidence, same, wrong, believed) if wrong else believed
        least = noise
        if right:
            found = different + noise > 0
            least = _limit(1 - confidence, different, right, noise) if found else 0.0
        return JudgeError(min(most, 0.5), min(least, 0.4), heard)


def _limit(confidence: float, false: int, of: int, believed: float) -> float:
    """Return the quantile of a share, of which this was believed and so much was counted."""
    a = false + LIKE_CHECKED * believed + 0.5
    return quantile(confidence, a, of - false + LIKE_CHECKED * (1 - believed) + 0.5)


@dataclass(frozen=True, slots=True)
class Pool:
    """What is known of all that scores at or above ``threshold``.

    ``labels`` of it are known, ``wrong`` of these say wrong; ``share`` of all requests fall into
    it. ``expected`` is the share of wrong answers were all of it served, as estimated from strata,
    with its standard deviation ``spread``; by default the share of wrong labels. ``lowest`` is that
    share in its lowest stratum.
    """

    threshold: float
    labels: float
    wrong: float
    share: float
    expected: float | None = None
    spread: float = 0.0
    believed: float = 0.0
    lowest: float = 0.0

    @property
    def rate(self) -> float:
        """Return the share of wrong ones among the labels."""
        return self.wrong / self.labels if self.labels else 1.0

    @property
    def error(self) -> float:
        """Return the estimated share of wrong answers, were all of it served."""
        return self.rate if self.expected is None else self.expected

    def error_between(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval of that share by the labels alone, two-sided."""
        return interval(self.wrong, self.labels, confidence)


@dataclass(frozen=True, slots=True)
class Stratum:
    """The candidates whose scores lie between two edges.

    ``share`` of all requests fall into it; ``labels`` of it are known, ``wrong`` of these were
    wrong. What public data says of it counts like ``believed`` labels more, of which
    ``believed_wrong`` were wrong.
    """

    share: float
    labels: float
    wrong: float
    believed: float
    believed_wrong: float

    @property
    def weight(self) -> float:
        """Return the labels and what counts like labels."""
        return self.labels + self.believed

    @property
    def rate(self) -> float:
        """Return the expected share of wrong answers."""
        return (self.wrong + self.believed_wrong) / self.weight


EDGES = tuple(
    math.log(chance / (1 - chance))
    for chance in (
        *(0.2, 0.4, 0.5, 0.6, 0.7, 0.78, 0.84, 0.88, 0.91, 0.935, 0.955),
        *(0.97, 0.98, 0.987, 0.992, 0.996),
    )
)
"""Log-odds between the strata, lowest first; thresholds are chosen among them."""

STRATA = 1 + len(EDGES)


def pools_of(strata: Sequence[Stratum]) -> list[Pool]:
    """Return the pools above each edge, highest first; ``strata`` are STRATA, lowest first.

    A stratum's rate has a beta distribution; what scores lower is never taken for better (pool
    adjacent violators: Ayer et al. 1955).
    """
    rates = _not_falling([(one.rate, one.weight) for one in reversed(strata)])
    pools: list[Pool] = []
    labels = wrong = share = expected = variance = believed = 0.0
    for one, rate, edge in zip(reversed(strata), rates, reversed(EDGES), strict=False):
        labels, wrong, share = labels + one.labels, wrong + one.wrong, share + one.share
        believed += one.believed
        expected += one.share * rate
        variance += one.share**2 * rate * (1 - rate) / (one.weight + 1)
        of = max(share, 1e-9)
        pools.append(
            Pool(
                edge, labels, wrong, share, expected / of, math.sqrt(variance) / of, believed, rate
            )
        )
    return pools


def _not_falling(rates: Sequence[tuple[float, float]]) -> list[float]:
    """Return the rates, each given with its weight; one that falls is pooled with the last."""
    blocks: list[tuple[float, float, int]] = []
    for rate, weight in rates:
        blocks.append((rate, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (last, much, some), (first, more, others) = blocks.pop(), blocks.pop()
            mean = (first * more + last * much) / (more + much)
            blocks.append((mean, more + much, others + some))
    return [rate for rate, _, count in blocks for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Promise:
    """At most ``max_error`` of the hits, or of the requests, are wrong, with this confidence.

    The counts and rates of pools are of labels, and labels are what a judge says: the promise is
    held to what ``judge`` would say if it were just kept.
    """

    max_error: float
    per: Per
    confidence: float
    judge: JudgeError = NEVER_WRONG

    def allowed(self, pool: Pool) -> float:
        """Return the rate of wrong answers at which serving the pool would break the promise."""
        of = 1.0 if self.per == "hit" else pool.share
        return min(1.0, self.max_error / max(of, 1e-9))

    def is_expected_of(self, pool: Pool) -> bool:
        """Tell whether the estimate, with its spread, keeps the promise, down to the lowest."""
        if pool.error > self.judge.labelled_wrong(MARGINS[self.per] * self.allowed(pool)):
            return False
        if pool.lowest > self.judge.labelled_wrong(min(1.0, WORST * self.allowed(pool))):
            return False
        cautious = NormalDist().inv_cdf(self.confidence)
        return pool.error + cautious * pool.spread <= self.judge.labelled_wrong(self.allowed(pool))

    def is_kept_by(self, pool: Pool) -> bool:
        """Tell whether the labels alone refute that serving the pool would break the promise."""
        return self._is_likely(pool) and self._refutes(pool, pool.labels)

    def labels_needed(self, pool: Pool) -> float:
        """Return how many labels would do if they go on as they were; infinite if none would."""
        if not self._is_likely(pool):
            return math.inf
        low = high = max(1.0, pool.labels)
        while not self._refutes(pool, high) and high < MAX_LABELS:
            low, high = high, 2 * high
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (low, middle) if self._refutes(pool, middle) else (middle, high)
        return high if high < MAX_LABELS else math.inf

    def _is_likely(self, pool: Pool) -> bool:
        return pool.rate <= self.judge.labelled_wrong(MARGINS[self.per] * self.allowed(pool))

    def _refutes(self, pool: Pool, of: float) -> bool:
        chance = chance_of_so_few(pool.rate * of, of, self.judge.labelled_wrong(self.allowed(pool)))
        return chance <= 1 - self.confidence


# What the verified policy keeps an eye on: changes of the world, and single answers. Pure.


CHANGE = 0.25
"""Share of the right answers that a change worth noticing makes wrong."""

DOUBT = 0.03
"""Least share of wrong answers that is taken for granted, so that one stray label is no alarm."""

ALARM = 8.0
"""Log-likelihood ratio at which a change is believed: odds of 3000 to 1."""

MAX_GROUPS = 10_000
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

    def notices(self, right: bool, score: float, judge: JudgeError) -> bool:
        """Add a label whose candidate had this log-odds; tell whether a change is now believed."""
        error = max(DOUBT, 1 / (1 + math.exp(min(score, 30.0))))
        error, changed = (
            judge.labelled_wrong(error),
            judge.labelled_wrong(error + CHANGE * (1 - error)),
        )
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
            if len(self.debts) > MAX_GROUPS:
                self.debts.pop(next(iter(self.debts)))

    def serve(self, group: float) -> None:
        """Count a hit."""
        if len(self.unchecked) > MAX_GROUPS:
            self.unchecked.clear()
        self.unchecked[group] = self.unchecked.get(group, 0) + 1

    def urgency(self, group: float) -> float:
        """Return how much likelier than usual the next hit is to be checked, 0..1."""
        return min(1.0, self.unchecked.get(group, 0) / STRETCH)


def group_number(group: str) -> float:
    """Return a number that names an answer group in a label; 0 for a group without a name."""
    digest = blake2b(group.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return float(int.from_bytes(digest, "big")) if group else 0.0


# Certify pools of candidates at every look: the bound of ``Verified(guarantee="anytime")``.
#
# labels, each weighed by 1 / chance --bets against "too many are wrong"--> wealth --> certified


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
    bets on what it expects. Whatever they are, the bound holds. Where a judge's labels err, d is
    the share of labels that say "wrong" where ``max_error`` of the pool is, as it was known before.
    """

    max_error: float
    confidence: float
    shares: tuple[tuple[float, ...], ...]
    logs: list[list[float]] = field(init=False)
    certified: int = 0

    def __post_init__(self) -> None:
        self.logs = [[math.log(share) for share in pool] for pool in self.shares]

    def add(self, score: float, wrong: bool, weight: float, bound: float | None = None) -> None:
        """Bet on a label of a candidate that had this log-odds; ``weight`` is b / c, 0..1.

        ``bound`` is the share of labels that say "wrong" where ``max_error`` of the pool is.
        """
        d = self.max_error if bound is None else min(0.5, bound)
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
