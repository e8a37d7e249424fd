"""What the verified policy learnt: labelled evidence, recent arrivals, the model and plan of now.

Loaded by the first lookup, so that importing the package does not load numpy.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shared_core.thresholds.evidence import NAMES, Vocabulary
from shared_core.thresholds.logistic import Array, Gaussian, fit, scores_left_out, sigmoid
from shared_core.thresholds.risk import NOTHING, Pool, Promise, choose

D = len(NAMES)


@dataclass(frozen=True, slots=True)
class Tuning:
    """Figures of the policy that are not a user's business; README of the benchmark has the why."""

    window: int = 2000  # labels that the model is fitted to
    arrivals: int = 500  # requests that say how scores are spread
    pseudo: float = 10.0  # labels that the model's own estimate counts for
    least: int = 20  # labels of its own that a pool needs
    flat: float = 0.01  # error that no score rules out, when labels stand for requests
    alarm: float = 4.0  # standard deviations of surprise at which the past is dropped
    surprise: int = 60  # labels that surprise is measured on, and that are kept then
    most_between: int = 25  # labels between two fits, when there are many


@dataclass(frozen=True, slots=True)
class Model:
    """Weights of evidence, and the pool that may be served. Never changed, only replaced."""

    weights: tuple[float, ...]
    serving: Pool | None = None
    pools: tuple[Pool, ...] = ()

    @property
    def threshold(self) -> float:
        """Return the lowest log-odds that is served."""
        return NOTHING if self.serving is None else self.serving.threshold

    def score(self, values: Sequence[float]) -> float:
        """Return the log-odds that the candidate is right."""
        return sum(w * v for w, v in zip(self.weights, values, strict=True))


class Ring:
    """The newest rows of (size, d), in any order."""

    def __init__(self, size: int, d: int) -> None:
        self._rows, self.added = np.zeros((size, d)), 0

    def add(self, row: Sequence[float]) -> None:
        """Put a row in the place of the oldest."""
        self._rows[self.added % len(self._rows)] = row
        self.added += 1

    def rows(self) -> Array:
        """Return the rows that are there, oldest first, as a copy."""
        size = len(self._rows)
        if self.added <= size:
            return self._rows[: self.added].copy()
        return np.roll(self._rows, -(self.added % size), axis=0)

    def keep(self, newest: int) -> None:
        """Drop all but the newest rows."""
        kept = self.rows()[-newest:] if newest else self._rows[:0]
        self._rows[: len(kept)] = kept
        self.added = len(kept)


@dataclass(slots=True)
class Learned:
    """The state of one namespace. It grows in place; ``model`` is replaced as a whole."""

    prior: Gaussian
    tuning: Tuning
    model: Model
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    right: int = 0
    wrong: int = 0
    alarms: int = 0
    requests: int = 0
    since_fit: int = 0
    surprises: deque[tuple[float, float]] = field(default_factory=deque)
    labels: Ring = field(init=False)  # chance of being explored, right, values
    feedback: Ring = field(init=False)  # score, right
    arrivals: Ring = field(init=False)  # 1 if there was a candidate, values

    def __post_init__(self) -> None:
        self.labels = Ring(self.tuning.window, 2 + D)
        self.feedback = Ring(self.tuning.window // 4, 2)
        self.arrivals = Ring(self.tuning.arrivals, 1 + D)

    @classmethod
    def start(cls, prior: Gaussian, tuning: Tuning) -> Learned:
        """Return the state before any label."""
        return cls(prior, tuning, Model(tuple(prior.mean.tolist())))

    def arrive(self, values: Sequence[float] | None) -> None:
        """Count a request, and the evidence for its best candidate if it has one."""
        self.requests += 1
        self.arrivals.add([0.0] * (1 + D) if values is None else (1.0, *values))

    def add(self, right: bool, score: float, chance: float, values: Sequence[float]) -> None:
        """Add a label of a candidate that was explored with this chance."""
        self.right, self.wrong = self.right + right, self.wrong + (not right)
        self.labels.add((chance, float(right), *values))
        self.since_fit += 1
        self._watch(score, right)

    def add_feedback(self, right: bool, score: float | None) -> None:
        """Add a label of which no more than the score is known."""
        self.right, self.wrong = self.right + right, self.wrong + (not right)
        if score is not None:
            self.feedback.add((score, float(right)))
            self.since_fit += 1
            self._watch(score, right)

    def _watch(self, score: float, right: bool) -> None:
        """Drop the past when the latest labels are more often wrong than the model can explain."""
        self.surprises.append((1 / (1 + math.exp(min(score, 30.0))), 1.0 - right))
        if len(self.surprises) > self.tuning.surprise:
            self.surprises.popleft()
        excess = sum(wrong - expected for expected, wrong in self.surprises)
        spread = sum(expected * (1 - expected) for expected, _ in self.surprises)
        if excess > self.tuning.alarm * math.sqrt(spread + 1):
            self.alarms += 1
            self.labels.keep(len(self.surprises))
            self.feedback.keep(0)
            self.surprises.clear()
            self.model = Model(self.model.weights)
            self.since_fit = self.tuning.window

    @property
    def is_due(self) -> bool:
        """Tell whether enough labels came since the last fit."""
        known = min(self.labels.added, self.tuning.window)
        return self.since_fit >= min(self.tuning.most_between, max(5, known // 10))


def refit(state: Learned, promise: Promise, noise: float) -> Model:
    """Fit the weights to the labels, and plan what to serve."""
    rows = state.labels.rows()
    right, values = rows[:, 1], rows[:, 2:]
    start = np.asarray(state.model.weights)
    fitted = fit(values, right, state.prior, start, steps=3)
    scores = scores_left_out(fitted, values, right)
    told = state.feedback.rows()
    arrived = state.arrivals.rows()
    there = arrived[:, 0] > 0
    seen = arrived[there, 1:] @ fitted.weights
    pools = pool(
        np.concatenate([scores, told[:, 0]]),
        np.concatenate([right, told[:, 1]]),
        seen,
        max(1, len(arrived)),
        state.tuning,
        noise,
    )
    return Model(tuple(fitted.weights.tolist()), choose(pools, promise), tuple(pools))


def pool(
    scores: Array, right: Array, seen: Array, requests: int, tuning: Tuning, noise: float
) -> list[Pool]:
    """Pool labels and arrivals above each of some thirty thresholds, highest first."""
    order = np.argsort(-scores)
    scores, right = scores[order], right[order]
    expected = np.cumsum(1 - sigmoid(scores) + tuning.flat)
    wrong = np.cumsum(1 - right)
    seen = np.sort(seen)[::-1]
    seen_expected = np.concatenate([[0.0], np.cumsum(1 - sigmoid(seen) + tuning.flat)])
    pools, at = [], tuning.least
    while at <= len(scores):
        threshold = float(scores[at - 1])
        above = int(np.searchsorted(-seen, -threshold, side="right"))
        of_labels = float(expected[at - 1]) / at
        of_seen = float(seen_expected[above]) / above if above else of_labels
        known = max(0.0, (float(wrong[at - 1]) - noise * at) / (1 - 2 * noise))
        pools.append(
            Pool(
                threshold,
                at + tuning.pseudo,
                known + tuning.pseudo * (of_labels - tuning.flat),
                (above + 1) / (requests + 1),
                of_seen / of_labels,
            )
        )
        at += max(1, at // 6)
    return pools
