"""Hold what the verified policy learnt: labels, arrivals, the model fitted to them, the plan.

Loaded by the first lookup, so that importing the package does not load numpy.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy import bool_, float64, int64
from numpy.typing import NDArray

from shared_core.thresholds.bounds import (
    EDGES,
    LEAST,
    NEVER_WRONG,
    NOTHING,
    STRATA,
    TESTED,
    Groups,
    JudgeError,
    JudgeRecord,
    Pool,
    Promise,
    Stratum,
    Watch,
    Wealth,
    pools_of,
    shares_for,
)
from shared_core.thresholds.features import FEATURES

# Logistic regression under a Gaussian prior, by Newton's method. Pure; numpy is imported here.
#
# Loaded by the first fit, so that importing the package does not load numpy.


Array = NDArray[float64]

MIN_STEP = 1e-3
MIN_GAIN = 1e-5
MAX_LEVERAGE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """What is believed of d weights: mean (d,) and precision (d, d)."""

    mean: Array
    precision: Array


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The mode of the posterior (d,) and its precision (d, d)."""

    weights: Array
    precision: Array


def sigmoid(scores: Array) -> Array:
    """Return the probability of each log-odds."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))


def fit(
    values: Array,
    right: Array,
    prior: Gaussian,
    start: Array,
    steps: int,
    shares: Array | None = None,
) -> Fit:
    """Return the mode of the posterior of the weights, at most ``steps`` Newton steps from start.

    ``values`` is (n, d), ``right`` (n,) of 0 and 1, ``shares`` (n,) how much each example counts.
    A step is halved until the posterior grows, so that a bad start cannot diverge.
    """
    counts = np.ones(len(right)) if shares is None else shares

    def loss(weights: Array) -> float:
        away, scores = weights - prior.mean, _scores(values, weights)
        cost = counts @ (np.logaddexp(0, scores) - right * scores)
        return float(0.5 * away @ prior.precision @ away + cost)

    weights, current = start, loss(start)
    for _ in range(steps):
        chance = sigmoid(_scores(values, weights))
        slope = prior.precision @ (weights - prior.mean)
        slope += np.einsum("ij,i->j", values, counts * (chance - right))
        step = np.linalg.solve(_precision(values, counts * chance * (1 - chance), prior), slope)
        size = 1.0
        while (reached := loss(weights - size * step)) > current and size > MIN_STEP:
            size /= 2
        if reached > current:
            break
        weights, gain, current = weights - size * step, current - reached, reached
        if gain < MIN_GAIN * (1 + abs(current)):
            break
    chance = sigmoid(_scores(values, weights))
    return Fit(weights, _precision(values, counts * chance * (1 - chance), prior))


BLOCK = 256
"""Rows of one product: more of them would wake BLAS's threads, which on busy cores takes 20 ms."""


def _precision(values: Array, information: Array, prior: Gaussian) -> Array:
    precision = prior.precision.copy()
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        precision += (block * information[start : start + BLOCK, None]).T @ block
    return precision


def _scores(values: Array, weights: Array) -> Array:
    return np.asarray(np.einsum("ij,j->i", values, weights))


def scores_left_out(fitted: Fit, values: Array, right: Array) -> Array:
    """Return the log-odds (n,) that each example would have, had the fit not seen it.

    One Newton step away from the example: z - h (y - p) / (1 - h p (1 - p)), with h = x' P^-1 x
    (Rad and Maleki 2020, "A scalable estimate of the out-of-sample prediction error via
    approximate leave-one-out"). Without it the examples that pulled the weights most would look
    best explained.
    """
    scores = _scores(values, fitted.weights)
    chance = sigmoid(scores)
    inverse = np.linalg.inv(fitted.precision)
    spread = [values[at : at + BLOCK] @ inverse for at in range(0, len(values), BLOCK)]
    influence = np.einsum("ij,ij->i", np.concatenate(spread or [values]), values)
    leverage = np.minimum(MAX_LEVERAGE, influence * chance * (1 - chance))
    return np.asarray(scores - influence * (right - chance) / (1 - leverage))


D = len(FEATURES)
NO_CANDIDATE = (0.0,) * (2 + D)

WINDOW = 1000
"""Labels that the model is fitted to; older ones are forgotten."""

ARRIVALS = 500
"""Requests that tell how scores are spread."""

ARRIVALS_NEEDED = 100
"""Below as many, a young process lets the labels stand for the requests."""

STEPS = 8
"""Newton steps of one fit at most. It begins at the prior: the same labels give the same fit."""

LABELS_PER_FIT = 60
"""Of so many labels one more makes a fit due; of fewer each does."""

OVERDUE = 50
"""Labels since the last fit after which a decision does not wait for others to make it."""

OUTWEIGHED, PROOF = 2.5, 0.7
"""What speaks against a candidate is outweighed when own labels show, with this confidence, that at
most so many times ``max_error`` of what has it is wrong; all together must keep the promise."""

SHIFTS = tuple(0.1 * step for step in range(41))
"""How much worse than public data says an app may be, in log-odds."""

APART, NEARLY_RIGHT = 0.8, 0.1
"""Standard deviation, in log-odds, of how sets differ from what the others say of them where at
most this share is wrong."""

OWN, BORROWED = 8, 2.0
"""Labels of a kind itself without which it is not outweighed, and for how many times as many those
of all other kinds count at most: where one kind does not matter, others seldom do."""

REPORTS, MIN_WRONG = 50, 3
"""Labels by feedback of which, while there are fewer than 50, up to two that say "wrong" end
nothing: people report what is wrong sooner than what is right. Each raises the threshold by a
stratum."""

LABELS_BEFORE_DRIFT = 100
"""Labels that must be known of a world before a change of it can be noticed."""


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Weights of evidence, and what may be served. Never changed, only replaced.

    ``pools`` are all that were looked at, highest threshold first; ``proven`` says for each
    objection that own labels have outweighed, by its bit, from which score on.
    """

    weights: tuple[float, ...]
    serving: Pool | None = None
    pools: tuple[Pool, ...] = ()
    proven: Mapping[int, float] = field(default_factory=dict)
    idle: bool = False  # nothing that was asked lately is as good as what may be served
    judge: JudgeError = NEVER_WRONG  # the limits of its errors that the plan reckons with

    @property
    def threshold(self) -> float:
        """Return the lowest log-odds that is served."""
        return NOTHING if self.serving is None else self.serving.threshold

    def threshold_of(self, objections: int) -> float:
        """Return the lowest log-odds that is served of what has these objections."""
        lowest, bit = self.threshold, 1
        while bit <= objections:
            if objections & bit:
                lowest = max(lowest, self.proven.get(bit, NOTHING))
            bit <<= 1
        return lowest

    def score(self, values: Sequence[float]) -> float:
        """Return the log-odds that a candidate is right."""
        return sum(w * v for w, v in zip(self.weights, values, strict=True))


class RingBuffer:
    """The newest rows of (size, d)."""

    def __init__(self, size: int, d: int) -> None:
        self._rows, self._added = np.zeros((size, d)), 0

    def __len__(self) -> int:
        return min(self._added, len(self._rows))

    def add(self, row: Sequence[float]) -> None:
        """Put a row in the place of the oldest."""
        self._rows[self._added % len(self._rows)] = row
        self._added += 1

    def rows(self) -> Array:
        """Return the rows that are there, oldest first, as a copy."""
        size, added = len(self._rows), self._added
        if added <= size:
            return self._rows[:added].copy()
        return np.roll(self._rows, -(added % size), axis=0)

    def keep(self, newest: int) -> None:
        """Drop all but the newest rows."""
        kept = self.rows()[max(0, len(self) - newest) :]
        self._rows[: len(kept)] = kept
        self._added = len(kept)


@dataclass(frozen=True, slots=True)
class Belief:
    """What public data says of each stratum, lowest first: rate, labels it counts for, share."""

    rates: tuple[float, ...]
    labels: tuple[float, ...]
    shares: tuple[float, ...]

    def expected_above(self, thresholds: Sequence[float]) -> list[float]:
        """Return the share of wrong answers expected above each threshold."""
        found = []
        for threshold in thresholds:
            lowest = bisect_right(EDGES, threshold)
            shares, rates = self.shares[lowest:], self.rates[lowest:]
            wrong = sum(share * rate for share, rate in zip(shares, rates, strict=True))
            found.append(wrong / max(sum(shares), 1e-9))
        return found

    def excess(self, scores: Array, right: Array, judge: JudgeError) -> float:
        """Return by how many log-odds an app's labels are wrong oftener than public data says.

        ``scores`` (n,) are log-odds. It is the mode, not below 0, under a standard normal prior:
        sets of another kind are off by one shift in all strata.
        """
        of, wrong = _strata_of(scores), _strata_of(scores, 1 - right)

        def likelihood(by: float) -> float:
            said = np.array([judge.labelled_wrong(rate) for rate in self.shifted(by).rates])
            return float(wrong @ np.log(said) + (of - wrong) @ np.log1p(-said) - by**2 / 2)

        return max(SHIFTS, key=likelihood)

    def doubt(self, scores: Array) -> float:
        """Return how much of that excess, in log-odds, is not known of what is nearly always right.

        An app may differ there alone, so that its labels there count, weighed by what each says of
        a common shift, and not the many of what is often wrong. Before it has LEAST of them, little
        was served, a quarter of it is checked, and the mean of all sets will do; then not much may
        be served for long on few labels.
        """
        rates = np.array(self.rates)
        labels, near = _strata_of(scores), rates <= NEARLY_RIGHT
        of, said = float(labels[near].sum()), float((labels * rates * (1 - rates))[near].sum())
        begun = max(0.0, 1 - LEAST / max(of, 1.0))
        return begun * APART / math.sqrt(1 + APART**2 * said)

    def shifted(self, by: float) -> Belief:
        """Return the belief where every stratum is wrong oftener, by so many log-odds."""
        said = np.log(self.rates) - np.log1p(-np.asarray(self.rates))
        return replace(self, rates=tuple(sigmoid(said + by).tolist()))

    def at_most(self, most: float) -> Belief:
        """Return the belief, counting for at most so many labels in each stratum."""
        return replace(self, labels=tuple(min(most, n) for n in self.labels))


@dataclass(slots=True)
class Learned:
    """The state of one namespace. It grows in place; ``model`` is replaced as a whole.

    What labels changed is the same in every process that folded the same labels. ``arrivals``,
    ``has_served`` and the unchecked hits of ``groups`` are what this process alone saw.
    """

    prior: Gaussian
    belief: Belief
    model: LinearModel
    watch: Watch = field(default_factory=Watch)
    groups: Groups = field(default_factory=Groups)
    right: int = 0
    wrong: int = 0
    changes: int = 0
    has_served: bool = False
    doubted: bool = False  # public data does not count, or not any more
    wealth: Wealth | None = None  # only certified pools are served
    judged: JudgeRecord = field(default_factory=JudgeRecord)
    stopped: str = ""  # why nothing is served that was served before
    since_fit: int = 0
    labels: RingBuffer = field(
        default_factory=lambda: RingBuffer(WINDOW, 3 + D)
    )  # chance, right, objections, values
    objected: RingBuffer = field(
        default_factory=lambda: RingBuffer(WINDOW // 2, 3 + D)
    )  # the same, of what something speaks against: it is rare, and kept for longer
    taught: RingBuffer = field(
        default_factory=lambda: RingBuffer(WINDOW // 2, 1 + D)
    )  # right, values: labels that were not chosen by chance
    feedback: RingBuffer = field(default_factory=lambda: RingBuffer(WINDOW // 4, 2))  # score, right
    unknown: RingBuffer = field(
        default_factory=lambda: RingBuffer(WINDOW, 1 + D)
    )  # objections, values: what the judge was asked about and did not know
    arrivals: RingBuffer = field(
        default_factory=lambda: RingBuffer(ARRIVALS, 2 + D)
    )  # candidate?, objections, values

    @classmethod
    def start(
        cls, prior: Gaussian, belief: Belief, promise: Promise, public: bool, certify: bool
    ) -> Learned:
        """Return the state before any label.

        ``public``: what is believed may be served; ``certify``: only what labels certified may.
        """
        state = cls(prior, belief, LinearModel(tuple(prior.mean.tolist())), doubted=not public)
        if certify:
            expected = belief.expected_above(TESTED)
            shares = shares_for(expected, promise.max_error)
            state.wealth = Wealth(promise.max_error, promise.confidence, shares)
        state.model = refit(state, promise, 0.0)
        return state

    def arrive(self, values: Sequence[float] | None, objections: int = 0) -> None:
        """Count a request, and the evidence for its best candidate if it has one."""
        self.arrivals.add(NO_CANDIDATE if values is None else (1.0, objections, *values))

    def add(
        self,
        right: bool,
        score: float,
        chance: float,
        group: float,
        objections: float,
        least: float,
        values: Sequence[float],
    ) -> None:
        """Add a label of a candidate that had this log-odds and chance of being explored.

        ``least`` is the lowest chance that any candidate had at that time. What had none and was
        labelled all the same, as in shadow mode, is bet on by nobody.
        """
        kept = self.objected if objections else self.labels
        kept.add((max(chance, 1e-3), float(right), objections, *values))
        if group:
            self.groups.label(group, right, score)
        if not objections and self.wealth is not None and chance > 0:
            rate = self.model.judge.labelled_wrong(self.wealth.max_error)
            self.wealth.add(score, not right, min(1.0, least / chance), rate)
        self._count(right, score)

    def add_unknown(self, objections: float, values: Sequence[float]) -> None:
        """Add a candidate of which the judge did not know whether it was right."""
        self.unknown.add((objections, *values))
        self.since_fit += 1

    def add_taught(self, right: bool, values: Sequence[float]) -> None:
        """Add a label that was not chosen by chance: the weights are fitted to it, no more."""
        self.taught.add((float(right), *values))
        self.count(right)
        self.since_fit += 1

    def add_scored(self, right: bool, score: float) -> None:
        """Add a label of which no more than the log-odds is known."""
        self.feedback.add((score, float(right)))
        self._count(right, score)

    def count(self, right: bool) -> None:
        """Count a label that nothing can be learnt from."""
        self.right, self.wrong = self.right + right, self.wrong + (not right)

    def _count(self, right: bool, score: float) -> None:
        self.count(right)
        self.since_fit += 1
        if not right and score >= self.model.threshold:
            self.since_fit = WINDOW  # it would have been served: think again at once
        if self.known < LABELS_BEFORE_DRIFT:
            self.watch = Watch()  # what surprises so early is that the prior does not fit
        elif self.watch.notices(right, score, replace(self.model.judge, heard=1.0)):
            self.changes += 1
            self.doubted = True
            self.stopped = "what was right is wrong now"
            if self.wealth is not None:
                self.wealth = replace(self.wealth, certified=0)
            self.labels.keep(self.watch.since)
            self.objected.keep(0)
            self.taught.keep(0)
            self.feedback.keep(0)
            self.unknown.keep(self.watch.since)
            self.watch = Watch()
            self.model = LinearModel(self.model.weights)
            self.since_fit = WINDOW

    @property
    def known(self) -> int:
        """Return how many labels are kept that were chosen by a known chance."""
        return len(self.labels) + len(self.objected)

    @property
    def is_due(self) -> bool:
        """Tell whether enough labels came since the last fit."""
        return self.since_fit >= max(1, (self.known + len(self.unknown)) // LABELS_PER_FIT)

    @property
    def is_overdue(self) -> bool:
        """Tell whether so many came that whoever keeps the state seems not to settle it."""
        return self.since_fit >= OVERDUE

    def replan(self, model: LinearModel) -> None:
        """Go on with another model; note why nothing is served any more, if so."""
        if model.serving is not None:
            self.stopped = ""
        elif self.model.serving is not None:
            self.stopped = "more labels were wrong than was expected"
        self.model, self.since_fit = model, 0


LIKE_BEFORE = 25.0
"""Requests that the shares of public data count for."""


def refit(state: Learned, promise: Promise, noise: float) -> LinearModel:
    """Fit the weights to the labels, and plan what to serve.

    Labels are what a judge says. ``noise`` of them are believed to say the opposite of the truth;
    what was checked measures it, and the candidates that the judge did not know of are weighed.
    """
    rows = np.concatenate([state.labels.rows(), state.objected.rows()])
    right, objections, values = rows[:, 1], rows[:, 2].astype(int), rows[:, 3:]
    taught = state.taught.rows()
    fitted = fit(
        np.concatenate([values, taught[:, 1:]]),
        np.concatenate([right, taught[:, 0]]),
        state.prior,
        state.prior.mean,
        STEPS,
    )
    scores = scores_left_out(fitted, values, right) if len(rows) else np.zeros(0)
    heard = _heard(state, fitted, scores, right, objections, promise.confidence)
    judge = state.judged.limits(noise, promise.confidence, heard)
    promise = replace(promise, judge=judge)
    proven: dict[int, float] = {}
    if state.wealth is None:  # what is certified are candidates that nothing speaks against
        proven = _proven(scores, right, objections, promise)
    able = _eligible(scores, objections, proven)
    arrived, (feedback, reports) = state.arrivals.rows(), _weighed(state.feedback.rows())
    if len(arrived) >= ARRIVALS_NEEDED:
        seen, shares = _scores(arrived[:, 2:], fitted.weights), np.ones(len(arrived))
        kept = (arrived[:, 0] > 0) & _eligible(seen, arrived[:, 1].astype(int), proven)
    else:  # a label that had a chance of 1 in 50 stands for 50 requests
        seen, shares, kept = scores, np.asarray(1 / rows[:, 0]), able
    of_right, of_wrong = 1 - judge.false_different, judge.false_same  # as the judge would say it
    said = of_wrong + feedback[:, 1] * (of_right - of_wrong)
    known = np.concatenate([scores[able], feedback[:, 0]]), np.concatenate([right[able], said])
    clean = objections == 0
    before = _scores(values[clean], state.prior.mean)
    excess = 0.0
    if len(rows):  # the fit takes it up as labels come; half of what it took is not relied upon
        there = state.belief.excess(before, right[clean], judge)
        left = min(there, state.belief.excess(scores[clean], right[clean], judge))
        excess = (there + left) / 2
    cautious = NormalDist().inv_cdf(promise.confidence)
    belief = state.belief.shifted(excess + cautious * state.belief.doubt(before))
    belief = belief.at_most(1.0) if state.doubted else belief
    strata = _strata(*known, (seen[kept], shares[kept], float(shares.sum())), belief, judge)
    pools = pools_of(strata)
    if state.wealth is None:
        able_to = [
            one
            for one in reversed(pools)
            if promise.is_expected_of(one)
            and (not state.doubted or (one.labels >= LEAST and promise.is_kept_by(one)))
        ]
    else:
        able_to = [one for one in pools if one.threshold == state.wealth.threshold]
    serving = able_to[min(reports, len(able_to) - 1)] if able_to else None
    idle = (
        serving is not None and len(rows) >= LEAST and not (seen[kept] >= serving.threshold).any()
    )
    weights = tuple(fitted.weights.tolist())
    return LinearModel(weights, serving, tuple(pools), proven, bool(idle), judge)


def _weighed(feedback: Array) -> tuple[Array, int]:
    """Return the feedback (n, 2) that counts like labels, and how many strata it costs beside."""
    if len(feedback) >= REPORTS:
        return feedback, 0
    wrong = int((feedback[:, 1] == 0).sum())
    return (feedback if wrong >= MIN_WRONG else feedback[:0]), min(wrong, MIN_WRONG - 1)


LIKE_HEARD = 10.0
"""Candidates that it counts for that a judge knows of wrong ones as often as of right ones."""

MIN_HEARD = 0.05
ROUNDS_OF_EM = 30


def _heard(
    state: Learned,
    fitted: Fit,
    scores: Array,
    right: Array,
    objections: NDArray[int64],
    confidence: float,
) -> float:
    """Return how often the judge knows of wrong candidates, to how often of right ones, 0..1.

    Labels are missing where it does not. It is taken to know of right ones equally often whatever
    their score, and of wrong ones too: then what is unknown in strata of many wrong labels and of
    few tells both shares (by expectation and maximisation), and checked words tell them as well.
    Never above 1: what is unknown makes nothing look better.
    """
    rows = state.unknown.rows()
    if not len(rows):
        return 1.0
    clear = objections == 0
    silent = _strata_of(_scores(rows[:, 1:], fitted.weights)[rows[:, 0] == 0])
    wrong = _strata_of(scores[clear], 1 - right[clear])
    true = _strata_of(scores[clear], right[clear])
    said = state.judged.said
    checked = {t: [said.get((word, t), 0) for word in (True, False, None)] for t in (True, False)}
    total = float(silent.sum() + wrong.sum() + true.sum())
    usual = (1 + float((wrong + true).sum())) / (1 + total)
    knows = {True: usual, False: usual}
    of = dict.fromkeys(knows, 1.0)
    amounts = {True: true, False: wrong}
    share = (wrong + 0.5) / (wrong + true + 1)
    for _ in range(ROUNDS_OF_EM):
        missed = share * (1 - knows[False]), (1 - share) * (1 - knows[True])
        bad = silent * missed[0] / np.maximum(missed[0] + missed[1], 1e-9)
        hidden = {True: silent - bad, False: bad}
        share = (wrong + bad + 0.5) / (wrong + true + silent + 1)
        for truth, seen in amounts.items():
            known = float(seen.sum()) + sum(checked[truth][:2]) + LIKE_HEARD * usual
            of[truth] = known + float(hidden[truth].sum()) + checked[truth][2]
            of[truth] += LIKE_HEARD * (1 - usual)
            knows[truth] = min(1.0, known / of[truth])
    spread = sum((1 - knows[t]) / max(knows[t] * of[t], 1e-9) for t in knows)
    cautious = math.exp(-NormalDist().inv_cdf(confidence) * math.sqrt(spread))
    return min(1.0, max(MIN_HEARD, cautious * knows[False] / max(knows[True], 1e-9)))


def _strata_of(scores: Array, weights: Array | None = None) -> Array:
    """Return how much falls into each stratum, lowest first."""
    places = np.searchsorted(EDGES, scores, side="right")
    return np.bincount(places, weights=weights, minlength=STRATA).astype(float)


def _proven(
    scores: Array, right: Array, objections: NDArray[int64], promise: Promise
) -> dict[int, float]:
    """Return for each objection from which score on own labels outweigh it, if they do.

    Its own labels alone, or with some of other objections that it borrows, must refute that too
    many are wrong.
    """
    proven: dict[int, float] = {}
    most = min(0.5, OUTWEIGHED * promise.max_error)
    promise = Promise(most, "hit", PROOF, promise.judge)
    wrong = 1 - right
    bit, every = 1, int(np.bitwise_or.reduce(objections)) if len(objections) else 0
    while bit <= every:
        has = (objections & bit) > 0
        if has.sum() >= OWN:
            for edge in EDGES:
                own, others = has & (scores >= edge), ~has & (objections > 0) & (scores >= edge)
                n, there = float(own.sum()), float(others.sum())
                if n < OWN:
                    break
                borrowed = min(BORROWED * n, there) / max(there, 1.0)
                alone, helped = wrong[own].sum(), wrong[own].sum() + borrowed * wrong[others].sum()
                for bad, of in ((alone, n), (helped, n + borrowed * there)):
                    pool = Pool(edge, of, float(bad), of / len(scores))
                    if of >= LEAST and promise.is_kept_by(pool):
                        proven[bit] = edge
                if bit in proven:
                    break
        bit <<= 1
    return proven


def _eligible(
    scores: Array, objections: NDArray[int64], proven: Mapping[int, float]
) -> NDArray[bool_]:
    """Return which (n,) of the candidates no objection bars."""
    least = np.full(len(scores), -np.inf)
    bit, every = 1, int(np.bitwise_or.reduce(objections)) if len(objections) else 0
    while bit <= every:
        least[(objections & bit) > 0] = np.maximum(
            least[(objections & bit) > 0], proven.get(bit, NOTHING)
        )
        bit <<= 1
    return np.asarray(scores >= least)


def _strata(
    scores: Array,
    right: Array,
    seen: tuple[Array, Array, float],
    belief: Belief,
    judge: JudgeError,
) -> list[Stratum]:
    """Return the strata, lowest first, of labels (n,) and of requests, each with its weight.

    What is believed is put as the judge would say it.
    """
    labels, wrong = _strata_of(scores), _strata_of(scores, 1 - right)
    arrived, weights, total = seen
    counts = _strata_of(arrived, weights)
    shares = (counts + LIKE_BEFORE * np.asarray(belief.shares)) / (total + LIKE_BEFORE)
    return [
        Stratum(share, n, bad, believed, believed * judge.labelled_wrong(rate))
        for share, n, bad, believed, rate in zip(
            shares.tolist(),
            labels.tolist(),
            wrong.tolist(),
            belief.labels,
            belief.rates,
            strict=True,
        )
    ]
