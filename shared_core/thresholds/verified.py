"""Serve what the labels prove and ask the model about the rest: the verified policy.

candidates --weigh--> evidence --model--> score --plan--> Serve | Explore
labels --fit--> model --pool--> plan
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from shared_core.thresholds.bounds import Per, Promise, mark
from shared_core.thresholds.features import FEATURES, content, weigh
from shared_core.thresholds.policy import Candidate, Decision, Explore, Label, Serve, Skip

if TYPE_CHECKING:
    from shared_core.thresholds.estimator import Gaussian, Learned, LinearModel


# What the verified policy believes before its first label: a prior on the weights.


SHIPPED = "prior.json"
RIDGE = 0.5
"""Precision of every weight that the sets behind a prior say nothing of."""


@dataclass(frozen=True, slots=True)
class Prior:
    """A normal distribution of the d weights, in the order of ``evidence.FEATURES``.

    ``mean`` is (d,). ``information`` is (d, d): what one label says of the weights, on average over
    the sets behind the prior; it counts as much as ``labels`` labels. ``embedder`` names the model
    whose cosines it is meant for, ``sources`` the sets and their licences.
    """

    mean: tuple[float, ...]
    information: tuple[tuple[float, ...], ...]
    labels: float = 20.0
    embedder: str = ""
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        d = len(FEATURES)
        if len(self.mean) != d or [len(row) for row in self.information] != [d] * d:
            raise ValueError(f"Prior needs {d} weights and {d} x {d} information: fit it anew")

    def gaussian(self) -> Gaussian:
        """Return it as arrays."""
        import numpy as np

        from shared_core.thresholds.estimator import Gaussian

        information = self.labels * np.asarray(self.information)
        return Gaussian(np.asarray(self.mean), RIDGE * np.eye(len(FEATURES)) + information)

    def to_json(self) -> str:
        """Spell it; the information, which is symmetric, by its upper half."""
        upper = [round(v, 6) for i, row in enumerate(self.information) for v in row[i:]]
        body = {
            "embedder": self.embedder,
            "sources": self.sources,
            "labels": self.labels,
            "features": FEATURES,
            "mean": [round(value, 6) for value in self.mean],
            "information": upper,
        }
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Prior:
        """Read one. Raises ValueError if it is none, or was fitted for other features."""
        body: dict[str, Any] = json.loads(text)
        try:
            if tuple(body["features"]) != FEATURES:
                raise ValueError("the prior was fitted for other features: fit it anew")
            mean = tuple(map(float, body["mean"]))
            rows = _square(list(map(float, body["information"])), len(FEATURES))
            sources = tuple(map(str, body["sources"]))
            return cls(mean, rows, float(body["labels"]), str(body["embedder"]), sources)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not a prior of the verified policy: {error!r}") from error


def _square(upper: Sequence[float], d: int) -> tuple[tuple[float, ...], ...]:
    starts = [row * d - row * (row - 1) // 2 for row in range(d)]
    return tuple(tuple(upper[starts[min(i, j)] + abs(i - j)] for j in range(d)) for i in range(d))


def cold() -> Prior:
    """Return the prior of an embedder that is not known: a higher cosine is better, no more."""
    d = len(FEATURES)
    mean = {"bias": -3.0, "cosine": 3.0}
    rows = tuple(tuple(0.5 if i == j else 0.0 for j in range(d)) for i in range(d))
    return Prior(tuple(mean.get(name, 0.0) for name in FEATURES), rows, labels=1.0)


@lru_cache(maxsize=1)
def shipped() -> Prior:
    """Return the prior of the default embedder, fitted by ``benchmarks/fit_prior.py``."""
    return Prior.from_json(files(__package__).joinpath(SHIPPED).read_text("utf-8"))


FLOOR = 0.4
"""Cosine below which no candidate is looked at, whatever speaks for it."""

PRIOR_WEIGHT = 0.5
"""Labels of a pool that the model's own estimate counts for, for each that the prior counts for."""

ALERT = 0.25
"""Share of hits that is checked more when a change of the world is all but believed."""

AUDITED_OF_WRONG = 0.5
MOST_AUDITED = 0.05
"""Half as many hits are asked for real as are expected to be wrong, up to a share of all: where
more goes wrong, more labels are needed to know how much, and each saves more."""

CONFIDENCE: Mapping[Per, float] = {"hit": 0.7, "request": 0.65}
"""Of the test that lets a pool be served. Requests that pass while nothing is served yet count for
the promise per request, so that it is kept with less."""

TINY = 1e-9
FORMAT = 1.0
"""First number of the evidence; labels of another format only count."""

FRONT = 4
"""Numbers before the values: format, score, chance of being explored, group."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Serve a neighbour only if labels show that at most ``max_error`` of what is served is wrong.

    ``per`` "hit": of the answers served; "request": of all requests, as the literature counts.
    ``prior`` is what is believed before the first label; by default what was fitted for
    all-MiniLM-L6-v2. ``label_noise`` is the share of labels known to say the opposite of the truth,
    0 to below 0.5. ``confidence`` is that of the test which lets a pool of candidates be served, by
    default ``CONFIDENCE``; ``audit`` the least share of hits that is asked for real all the same.

    The promise is on the average over the traffic, not on a single question or user, and holds as
    far as the latest labels speak for the next requests.

    >>> Verified(max_error=0.02).per
    'hit'

    Raises ValueError for a value outside its range.
    """

    max_error: float = 0.02
    per: Per = "hit"
    prior: Prior | None = None
    label_noise: float = 0.0
    confidence: float | None = None
    audit: float = 0.015
    k = 10
    learns = True
    explores = True
    floor = FLOOR

    def __post_init__(self) -> None:
        _check("max_error", self.max_error, 0, 1, "above 0 and below 1")
        _check("label_noise", self.label_noise, -TINY, 0.5, "from 0 to below 0.5")
        if self.confidence is not None:
            _check("confidence", self.confidence, 0.5 - TINY, 1, "from 0.5 to below 1")
        _check("audit", self.audit, 0, 1, "above 0 and below 1")
        if self.per not in CONFIDENCE:
            raise ValueError(f'Verified(per) must be "hit" or "request", not {self.per!r}')

    def for_embedder(self, embedder: str) -> Verified:
        """Return the policy for an embedder of this name.

        Cosines of another embedder mean other things: a policy that was given no ``prior`` then
        begins with hardly any.
        """
        known = self.prior is not None or embedder.partition(":")[0] == shipped().embedder
        return self if known else replace(self, prior=cold())

    def start(self) -> Learned:
        """Return the state before any label."""
        from shared_core.thresholds.estimator import Learned

        prior = self.prior or shipped()
        return Learned.start(prior.gaussian(), PRIOR_WEIGHT * prior.labels)

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        state: Learned,
        rng: random.Random,
    ) -> Decision:
        """Serve the candidate with the best case if such cases are proven, else explore it.

        The reason is "learning" until something may be served, "risk" for a candidate below that,
        and "audit" for one above that is asked for real all the same.
        """
        self.settle(state)
        near = [one for one in candidates if one.similarity >= FLOOR]
        best = weigh(question, near, state.vocabulary)
        state.vocabulary.add(content(question))
        state.arrive(best.values if best else None)
        model = state.model
        reason = "learning" if model.serving is None else "risk"
        if best is None:
            return Skip("guard" if near else reason if candidates else "absent")
        group = mark(best.group)
        score = round(model.score(best.values), 4)
        chance = 1.0
        if score >= model.threshold and group not in state.groups.debts:
            reason = "audit"
            alert = ALERT * state.watch.suspicion**2
            chance = min(1.0, self._audited(model) + alert + state.groups.urgency(group))
        evidence = (FORMAT, score, round(chance, 4), group, *best.values)
        if rng.random() < chance:
            return Explore(best.index, evidence, reason)
        if group:
            state.groups.serve(group)
        return Serve(best.index, evidence, score)

    def learn(self, state: Learned, label: Label) -> Learned:
        """Add a label to the state, in place, and return it; the fit waits for ``settle``."""
        evidence = label.evidence
        if (
            len(evidence) == FRONT + len(FEATURES)
            and evidence[0] == FORMAT
            and all(map(math.isfinite, evidence))
        ):
            _, score, chance, group, *values = evidence
            state.add(label.right, score, chance, group, values)
        elif label.score is not None and math.isfinite(label.score):
            state.add_scored(label.right, label.score)
        else:
            state.count(label.right)
        return state

    def settle(self, state: Learned) -> None:
        """Fit the model and the plan if enough labels came; else do nothing.

        Every decision does this first. Whoever folded many labels may do it before, so that no
        lookup waits for the fit.
        """
        if state.is_due:
            from shared_core.thresholds.estimator import refit

            state.since_fit = 0
            state.model = refit(state, self._promise, self.label_noise)

    def describe(self, state: Learned) -> Mapping[str, Any]:
        """Return labels, errors with their 95 % intervals and the plan of now, as JSON values.

        The interval is of the labels alone, the estimate also of what the model believes.
        """
        self.settle(state)
        model = state.model
        serving = model.serving
        told: dict[str, Any] = {
            "policy": "verified",
            "max_error": self.max_error,
            "per": self.per,
            "labels": state.right + state.wrong,
            "right": state.right,
            "wrong": state.wrong,
            "changes_noticed": state.changes,
            "learning": None if serving else self._progress(state, model),
            "serves_from": None,
            "share_served": 0.0,
            "error_per_hit": None,
            "error_per_hit_95": None,
            "error_per_request": None,
            "error_per_request_95": None,
        }
        if serving is not None:
            low, high = serving.error_between()
            share = serving.share
            told |= {
                "serves_from": round(1 / (1 + math.exp(-serving.threshold)), 4),
                "share_served": round(share, 4),
                "error_per_hit": round(serving.error, 5),
                "error_per_hit_95": [round(low, 5), round(high, 5)],
                "error_per_request": round(serving.error * share, 5),
                "error_per_request_95": [round(low * share, 5), round(high * share, 5)],
            }
        return told

    def _audited(self, model: LinearModel) -> float:
        """Return the share of hits to ask for real: more where more are expected to be wrong."""
        error = 0.0 if model.serving is None else model.serving.error
        return max(self.audit, min(MOST_AUDITED, AUDITED_OF_WRONG * error))

    @property
    def _promise(self) -> Promise:
        confidence = CONFIDENCE[self.per] if self.confidence is None else self.confidence
        return Promise(self.max_error, self.per, confidence)

    def _progress(self, state: Learned, model: LinearModel) -> str:
        """Say how many labels there are and, if it can be told, how many will do."""
        known = len(state.labels)
        promise = self._promise
        needed = [known * promise.labels_needed(pool) / pool.labels for pool in model.pools]
        about = min(needed, default=math.inf)
        if math.isfinite(about):
            return f"{known} of about {max(known + 1, round(about))} labels"
        if model.pools:
            return f"{known} labels, and too many of them wrong"
        return f"{known} labels, too few to tell how many it takes"


def _check(name: str, value: object, above: float, below: float, expected: str) -> None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (known and above < value < below):  # type: ignore[operator]  # a number is compared
        raise ValueError(f"Verified({name}) must be a number {expected}, not {value!r}")
