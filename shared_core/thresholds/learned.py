"""What the verified policy learnt: labelled evidence, recent arrivals, the model and plan of now.

Loaded by the first lookup, so that importing the package does not load numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shared_core.thresholds.evidence import NAMES, Vocabulary
from shared_core.thresholds.logistic import Array, Gaussian, fit, scores_left_out, sigmoid
from shared_core.thresholds.risk import NOTHING, Pool, Promise, choose

D = len(NAMES)
NOBODY = (0.0,) * (1 + D)
GROUPS_KEPT = 10_000
SURE = 3.0
ARRIVALS_NEEDED = 100


@dataclass(frozen=True, slots=True)
class Tuning:
    """Figures of the policy that are no user's business."""

    window: int = 1000  # labels that the model is fitted to
    arrivals: int = 500  # requests that tell how scores are spread
    pseudo: float = 40.0  # labels that the model's own estimate counts for in a pool
    least: int = 20  # labels of its own that a pool needs
    flat: float = 0.002  # error that no score rules out
    most_between: int = 25  # labels between two fits, when there are many
    change: float = 0.25  # how much oftener wrong a change of the world makes what was right
    alarm: float = 8.0  # log-likelihood ratio at which a change is believed
    doubt: float = 0.03  # least error that the watch on changes believes in
    debt: float = 2.0  # right answers that a group owes after one that was surely right and wrong
    stretch: float = 400.0  # hits after which a group that was never checked is surely checked


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
    """The newest rows of (size, d)."""

    def __init__(self, size: int, d: int) -> None:
        self._rows, self.added = np.zeros((size, d)), 0

    def __len__(self) -> int:
        return min(self.added, len(self._rows))

    def add(self, row: Sequence[float]) -> None:
        """Put a row in the place of the oldest."""
        self._rows[self.added % len(self._rows)] = row
        self.added += 1

    def rows(self) -> Array:
        """Return the rows that are there, oldest first, as a copy."""
        size, added = len(self._rows), self.added
        if added <= size:
            return self._rows[:added].copy()
        return np.roll(self._rows, -(added % size), axis=0)

    def keep(self, newest: int) -> None:
        """Drop all but the newest rows."""
        kept = self.rows()[len(self) - newest :]
        self._rows[: len(kept)] = kept
        self.added = len(kept)


@dataclass(slots=True)
class Watch:
    """Notices that the world has changed: what was right is wrong more often than the scores say.

    A one-sided CUSUM (Page 1954) of the likelihood of a change over none. ``since`` is the number of
    labels since the change began, if there was one.
    """

    change: float
    doubt: float
    sum: float = 0.0
    since: int = 0

    def add(self, right: bool, score: float) -> None:
        """Add a label whose candidate had this log-odds."""
        error = max(self.doubt, 1 / (1 + math.exp(min(score, 30.0))))
        changed = error + self.change * (1 - error)
        self.sum += math.log((1 - changed) / (1 - error) if right else changed / error)
        self.since += 1
        if self.sum <= 0:
            self.sum, self.since = 0.0, 0


@dataclass(slots=True)
class Groups:
    """What is known of single answers: who owes right answers, and who was long not checked.

    One wrong answer among many is no reason to stop serving the rest, but it is one to check that
    very answer: it is served no more until ``debts`` of it are paid by right labels. ``unchecked``
    counts hits since the latest label, in this process.
    """

    debts: dict[float, float] = field(default_factory=dict)
    unchecked: dict[float, int] = field(default_factory=dict)

    def label(self, group: float, right: bool, score: float, debt: float) -> None:
        """Pay a part of the debt, or raise it if a likely answer was wrong."""
        self.unchecked.pop(group, None)
        owed = self.debts.pop(group, 0.0)
        owed = owed - 1 if right else owed + debt * (score > SURE)
        if owed > 0:
            self.debts[group] = owed
            if len(self.debts) > GROUPS_KEPT:
                self.debts.pop(next(iter(self.debts)))

    def serve(self, group: float) -> None:
        """Count a hit."""
        if len(self.unchecked) > GROUPS_KEPT:
            self.unchecked.clear()
        self.unchecked[group] = self.unchecked.get(group, 0) + 1


@dataclass(slots=True)
class Learned:
    """The state of one namespace. It grows in place; ``model`` is replaced as a whole."""

    prior: Gaussian
    tuning: Tuning
    model: Model
    watch: Watch
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    groups: Groups = field(default_factory=Groups)
    right: int = 0
    wrong: int = 0
    changes: int = 0
    since_fit: int = 0
    labels: Ring = field(init=False)  # chance of having been explored, right, values
    feedback: Ring = field(init=False)  # score, right
    arrivals: Ring = field(init=False)  # whether there was a candidate, values

    def __post_init__(self) -> None:
        self.labels = Ring(self.tuning.window, 2 + D)
        self.feedback = Ring(self.tuning.window // 4, 2)
        self.arrivals = Ring(self.tuning.arrivals, 1 + D)

    @classmethod
    def start(cls, prior: Gaussian, tuning: Tuning) -> Learned:
        """Return the state before any label."""
        watch = Watch(tuning.change, tuning.doubt)
        return cls(prior, tuning, Model(tuple(prior.mean.tolist())), watch)

    def arrive(self, values: Sequence[float] | None) -> None:
        """Count a request, and the evidence for its best candidate if it has one."""
        self.arrivals.add(NOBODY if values is None else (1.0, *values))

    def add(self, right: bool, case: Sequence[float]) -> None:
        """Add a label with what ``Verified.decide`` gave as evidence."""
        score, chance, group, *values = case
        self.labels.add((chance, float(right), *values))
        if group:
            self.groups.label(group, right, score, self.tuning.debt)
        self._count(right, score)

    def add_feedback(self, right: bool, score: float) -> None:
        """Add a label of which no more than the score is known."""
        self.feedback.add((score, float(right)))
        self._count(right, score)

    def _count(self, right: bool, score: float) -> None:
        self.right, self.wrong = self.right + right, self.wrong + (not right)
        self.since_fit += 1
        self.watch.add(right, score)
        if self.watch.sum > self.tuning.alarm:
            self.changes += 1
            self.labels.keep(min(len(self.labels), self.watch.since))
            self.feedback.keep(0)
            self.watch.sum, self.watch.since = 0.0, 0
            self.model = Model(self.model.weights)
            self.since_fit = self.tuning.window

    @property
    def is_due(self) -> bool:
        """Tell whether enough labels came since the last fit."""
        return self.since_fit >= min(self.tuning.most_between, max(5, len(self.labels) // 10))


def refit(state: Learned, promise: Promise, noise: float) -> Model:
    """Fit the weights to the labels, and plan what to serve."""
    rows = state.labels.rows()
    right, values = rows[:, 1], rows[:, 2:]
    fitted = fit(values, right, state.prior, np.asarray(state.model.weights), steps=3)
    scores = scores_left_out(fitted, values, right)
    arrived, told = state.arrivals.rows(), state.feedback.rows()
    if len(arrived) >= ARRIVALS_NEEDED:
        seen, shares = arrived[:, 1:] @ fitted.weights, np.ones(len(arrived))
        seen[arrived[:, 0] == 0] = -np.inf
    else:  # a young process: labels stand for requests, each for those that were not explored too
        seen, shares = scores, 1 / rows[:, 0]
    known = np.concatenate([scores, told[:, 0]]), np.concatenate([right, told[:, 1]])
    pools = pool(*known, seen, shares, state.tuning, noise)
    return Model(tuple(fitted.weights.tolist()), choose(pools, promise), tuple(pools))


def pool(
    scores: Array, right: Array, seen: Array, shares: Array, tuning: Tuning, noise: float
) -> list[Pool]:
    """Pool labels and arrivals above each of some thirty thresholds, highest first.

    ``scores`` and ``right`` (n,) are those of the labels, ``seen`` (m,) the scores of arrivals, each
    of which counts ``shares`` (m,). ``noise`` of the labels are expected to say the opposite.
    """
    order, arrival = np.argsort(-scores), np.argsort(-seen)
    scores, right, seen, shares = scores[order], right[order], seen[arrival], shares[arrival]
    expected = np.cumsum(1 - sigmoid(scores) + tuning.flat)
    wrong = np.cumsum(1 - right)
    count = np.concatenate([[0.0], np.cumsum(shares)])
    seen_expected = np.concatenate([[0.0], np.cumsum(shares * (1 - sigmoid(seen) + tuning.flat))])
    pools, at = [], tuning.least
    while at <= len(scores):
        threshold = float(scores[at - 1])
        above = int(np.searchsorted(-seen, -threshold, side="right"))
        of_labels = float(expected[at - 1]) / at
        of_seen = float(seen_expected[above] / count[above]) if above else of_labels
        known = max(0.0, float(wrong[at - 1]) - noise * at) / (1 - 2 * noise)
        pools.append(
            Pool(
                threshold,
                at + tuning.pseudo,
                known + tuning.pseudo * of_labels,
                float((count[above] + 1) / (count[-1] + 1)),
                of_seen / of_labels,
            )
        )
        at += max(1, at // 6)
    return pools
