"""Hold what the verified policy learnt: labels, arrivals, the model fitted to them, the plan.

Loaded by the first lookup, so that importing the package does not load numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy import float64
from numpy.typing import NDArray

from shared_core.thresholds.bounds import NOTHING, Groups, Pool, Promise, Watch, choose
from shared_core.thresholds.features import FEATURES, Vocabulary

# Logistic regression under a Gaussian prior, by Newton's method. Pure; numpy is imported here.
#
# Loaded by the first fit, so that importing the package does not load numpy.


Array = NDArray[float64]

STEP_LEAST = 1e-3
GAIN_LEAST = 1e-5
LEVERAGE_MOST = 0.9


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
        away, scores = weights - prior.mean, values @ weights
        cost = counts @ (np.logaddexp(0, scores) - right * scores)
        return float(0.5 * away @ prior.precision @ away + cost)

    weights, current = start, loss(start)
    for _ in range(steps):
        chance = sigmoid(values @ weights)
        slope = prior.precision @ (weights - prior.mean) + values.T @ (counts * (chance - right))
        step = np.linalg.solve(_precision(values, counts * chance * (1 - chance), prior), slope)
        size = 1.0
        while (reached := loss(weights - size * step)) > current and size > STEP_LEAST:
            size /= 2
        if reached > current:
            break
        weights, gain, current = weights - size * step, current - reached, reached
        if gain < GAIN_LEAST * (1 + abs(current)):
            break
    chance = sigmoid(values @ weights)
    return Fit(weights, _precision(values, counts * chance * (1 - chance), prior))


def _precision(values: Array, information: Array, prior: Gaussian) -> Array:
    return np.asarray(prior.precision + (values * information[:, None]).T @ values)


def scores_left_out(fitted: Fit, values: Array, right: Array) -> Array:
    """Return the log-odds (n,) that each example would have, had the fit not seen it.

    One Newton step away from the example: z - h (y - p) / (1 - h p (1 - p)), with h = x' P^-1 x
    (Rad and Maleki 2020, "A scalable estimate of the out-of-sample prediction error via
    approximate leave-one-out"). Without it the examples that pulled the weights most would look
    best explained.
    """
    scores = values @ fitted.weights
    chance = sigmoid(scores)
    influence = np.einsum("ij,ij->i", values @ np.linalg.inv(fitted.precision), values)
    leverage = np.minimum(LEVERAGE_MOST, influence * chance * (1 - chance))
    return np.asarray(scores - influence * (right - chance) / (1 - leverage))


D = len(FEATURES)
NO_CANDIDATE = (0.0,) * (1 + D)

WINDOW = 1000
"""Labels that the model is fitted to; older ones are forgotten."""

ARRIVALS = 500
"""Requests that tell how scores are spread."""

ARRIVALS_NEEDED = 100
"""Below as many, a young process lets the labels stand for the requests."""

STEPS = 8
"""Newton steps of one fit at most; from the fit before, one or two do."""

BETWEEN_FITS = 25
"""Labels from one fit to the next at most; fewer while there are few."""

LEAST = 20
"""Labels of its own that a pool needs, whatever the model believes."""

ERROR_FLOOR = 0.002
"""Share of wrong answers that no score rules out."""

LABELS_BEFORE_DRIFT = 100
"""Labels that must be known of a world before a change of it can be noticed."""

FINENESS = 6
"""The next threshold is tried a sixth of the labels farther down."""


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Weights of evidence, and the pool that may be served. Never changed, only replaced."""

    weights: tuple[float, ...]
    serving: Pool | None = None
    pools: tuple[Pool, ...] = ()

    @property
    def threshold(self) -> float:
        """Return the lowest log-odds that is served."""
        return NOTHING if self.serving is None else self.serving.threshold

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


@dataclass(slots=True)
class Learned:
    """The state of one namespace. It grows in place; ``model`` is replaced as a whole.

    What labels changed is the same in every process that folded the same labels. ``vocabulary``,
    ``arrivals`` and the unchecked hits of ``groups`` are what this process alone saw.
    """

    prior: Gaussian
    believed: float  # labels that the model's own estimate counts for in a pool
    model: LinearModel
    watch: Watch = field(default_factory=Watch)
    groups: Groups = field(default_factory=Groups)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    right: int = 0
    wrong: int = 0
    changes: int = 0
    since_fit: int = 0
    labels: RingBuffer = field(
        default_factory=lambda: RingBuffer(WINDOW, 2 + D)
    )  # chance, right, values
    feedback: RingBuffer = field(default_factory=lambda: RingBuffer(WINDOW // 4, 2))  # score, right
    arrivals: RingBuffer = field(
        default_factory=lambda: RingBuffer(ARRIVALS, 1 + D)
    )  # candidate?, values

    @classmethod
    def start(cls, prior: Gaussian, believed: float) -> Learned:
        """Return the state before any label."""
        return cls(prior, believed, LinearModel(tuple(prior.mean.tolist())))

    def arrive(self, values: Sequence[float] | None) -> None:
        """Count a request, and the evidence for its best candidate if it has one."""
        self.arrivals.add(NO_CANDIDATE if values is None else (1.0, *values))

    def add(
        self, right: bool, score: float, chance: float, group: float, values: Sequence[float]
    ) -> None:
        """Add a label of a candidate that had this log-odds and chance of being explored."""
        self.labels.add((max(chance, 1e-3), float(right), *values))
        if group:
            self.groups.label(group, right, score)
        self._count(right, score)

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
        if len(self.labels) < LABELS_BEFORE_DRIFT:
            self.watch = Watch()  # what surprises so early is that the prior does not fit
        elif self.watch.notices(right, score):
            self.changes += 1
            self.labels.keep(self.watch.since)
            self.feedback.keep(0)
            self.watch = Watch()
            self.model = LinearModel(self.model.weights)
            self.since_fit = WINDOW

    @property
    def is_due(self) -> bool:
        """Tell whether enough labels came since the last fit."""
        return self.since_fit >= min(BETWEEN_FITS, max(5, len(self.labels) // 10))


def refit(state: Learned, promise: Promise, noise: float) -> LinearModel:
    """Fit the weights to the labels, and plan what to serve."""
    rows = state.labels.rows()
    right, values = rows[:, 1], rows[:, 2:]
    fitted = fit(values, right, state.prior, np.asarray(state.model.weights), STEPS)
    scores = scores_left_out(fitted, values, right)
    arrived, told = state.arrivals.rows(), state.feedback.rows()
    if len(arrived) >= ARRIVALS_NEEDED:
        seen, shares = arrived[:, 1:] @ fitted.weights, np.ones(len(arrived))
        seen[arrived[:, 0] == 0] = -np.inf
    else:  # a label that had a chance of 1 in 50 stands for 50 requests
        seen, shares = scores, 1 / rows[:, 0]
    scores = np.concatenate([scores, told[:, 0]])
    right = np.concatenate([right, told[:, 1]])
    pools = pool(scores, right, seen, shares, state.believed, noise)
    return LinearModel(tuple(fitted.weights.tolist()), choose(pools, promise), tuple(pools))


def pool(
    scores: Array,
    right: Array,
    seen: Array,
    shares: Array,
    believed: float = 0.0,
    noise: float = 0.0,
) -> list[Pool]:
    """Pool labels and arrivals above each of some thirty thresholds, highest first.

    ``scores`` and ``right`` (n,) are of the labels, ``seen`` (m,) the scores of arrivals, each of
    which counts ``shares`` (m,). What the scores say themselves counts like ``believed`` labels.
    ``noise`` of the labels are expected to say the opposite of the truth:
    wrong = (told wrong - noise n) / (1 - 2 noise).
    """
    order, arrival = np.argsort(-scores), np.argsort(-seen)
    scores, right, seen, shares = scores[order], right[order], seen[arrival], shares[arrival]
    expected = np.cumsum(1 - sigmoid(scores) + ERROR_FLOOR)
    wrong = np.cumsum(1 - right)
    count = np.concatenate([[0.0], np.cumsum(shares)])
    expected_seen = np.concatenate([[0.0], np.cumsum(shares * (1 - sigmoid(seen) + ERROR_FLOOR))])
    pools, at = [], LEAST
    while at <= len(scores):
        threshold = float(scores[at - 1])
        above = int(np.searchsorted(-seen, -threshold, side="right"))
        of_labels = float(expected[at - 1]) / at
        of_seen = float(expected_seen[above] / count[above]) if above else of_labels
        pools.append(
            Pool(
                threshold=threshold,
                labels=at,
                wrong=max(0.0, float(wrong[at - 1]) - noise * at) / (1 - 2 * noise),
                share=float((count[above] + 1) / (count[-1] + 1)),
                shift=of_seen / of_labels,
                believed=believed,
                believed_wrong=believed * of_labels,
            )
        )
        at += math.ceil(at / FINENESS)
    return pools
