"""Fit what the verified policy should expect of an embedding model; loads numpy.

logs of (values, right) --logistic regression--> weights and their information --> Prior
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy import float64, int64
from numpy.typing import NDArray

from shared_core.guard import Guard
from shared_core.thresholds import (
    EDGES,
    FEATURES,
    FLOOR,
    STRATA,
    Candidate,
    Evidence,
    Fit,
    Gaussian,
    Prior,
    Verified,
    cold,
    fit,
    weigh,
)

if TYPE_CHECKING:
    from shared_core.record import Vector


class Labelled(Protocol):
    """A pair of questions and its label; ``LabelledPair`` is one."""

    @property
    def question(self) -> str: ...

    @property
    def cached(self) -> str: ...

    @property
    def same(self) -> bool | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """What was explored in one set: values (n, d), right (n,), objections (n,).

    d is that of ``features.FEATURES``. Logs of one ``name`` are of one set, seen in several ways.
    ``requests`` is how many were asked.
    """

    name: str
    values: NDArray[float64]
    right: NDArray[float64]
    objections: NDArray[int64]
    requests: int
    in_record: bool = True


COUNTS_FOR = 50.0
"""Labels that a prior counts for: more of them made streams unlike the logs learn too slowly, fewer
made the first labels weigh too much."""

LOG_COUNTS = 1000.0
"""Labels that each log counts for in the fit, however many it has."""

_STEPS = 100
SAME_COSINE = 1e-5
PARTS = 5
"""Rows without sets are dealt into so many; each is left out once for the record."""

MIN_OF_EACH = 10
"""Right ones, and wrong ones, without which a prior would say next to nothing."""


def prior_of_logs(logs: Sequence[Log], embedder: str, sources: Sequence[str] = ()) -> Prior:
    """Fit one prior to the logs, each of the same weight, with its record on sets left out."""
    fitted, information = _fitted(logs)
    return Prior(
        tuple(fitted.weights.tolist()),
        tuple(tuple(row) for row in information.tolist()),
        COUNTS_FOR,
        embedder,
        tuple(sources),
        strata_of(logs),
    )


def _fitted(logs: Sequence[Log]) -> tuple[Fit, NDArray[float64]]:
    values = np.concatenate([log.values for log in logs])
    right = np.concatenate([log.right for log in logs])
    shares = np.concatenate([np.full(len(log.right), LOG_COUNTS / len(log.right)) for log in logs])
    start = Gaussian(np.asarray(cold().mean), np.eye(len(FEATURES)))
    fitted = fit(values, right, start, start.mean, _STEPS, shares)
    return fitted, (fitted.precision - start.precision) / shares.sum()


def strata_of(logs: Sequence[Log]) -> tuple[tuple[float, float, float], ...]:
    """Return for each stratum the rate of wrong answers, labels it counts for, share of requests.

    Each set is scored by a prior of the others; of its candidates those count that nothing speaks
    against. The rate counts for the fewer labels the more it differs between sets.
    """
    found = []
    for name in sorted({log.name for log in logs if log.in_record}):
        weights = _fitted([log for log in logs if log.name != name])[0].weights
        own = [log for log in logs if log.name == name]
        values = np.concatenate([log.values[log.objections == 0] for log in own])
        right = np.concatenate([log.right[log.objections == 0] for log in own])
        place = np.searchsorted(EDGES, values @ weights, side="right")
        n = np.bincount(place, minlength=STRATA).astype(float)
        wrong = np.bincount(place, weights=1 - right, minlength=STRATA)
        found.append((n, wrong, n / sum(log.requests for log in own)))
    labels, wrong, shares = (np.array(each) for each in zip(*found, strict=True))
    rates, counts = zip(
        *(_beta(w, n) for w, n in zip(wrong.T.tolist(), labels.T.tolist(), strict=True)),
        strict=True,
    )
    counts = np.minimum(counts, np.maximum(1.0, labels.sum(0)))
    return tuple(zip(rates, counts.tolist(), shares.mean(0).tolist(), strict=True))


_RATES = tuple(0.001 * 1.12**step for step in range(61))
_COUNTS = (4.0, 6.0, 9.0, 13.0, 20.0, 30.0, 45.0, 70.0, 100.0, 150.0, 200.0)


def _beta(wrong: Sequence[float], of: Sequence[float]) -> tuple[float, float]:
    """Return mean and weight of the beta distribution from which the sets' rates most likely came.

    By maximum likelihood of the beta-binomial over a grid: what differs between sets is set apart
    from what is chance within one.
    """

    def likelihood(rate: float, count: float) -> float:
        a, b = rate * count, (1 - rate) * count
        whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
        return sum(
            math.lgamma(a + k) + math.lgamma(b + n - k) - math.lgamma(a + b + n) - whole
            for k, n in zip(wrong, of, strict=True)
        )

    return max(itertools.product(_RATES, _COUNTS), key=lambda pair: likelihood(*pair))


def prior_of_rows(rows: Sequence[Labelled], vectors: Mapping[str, Vector], embedder: str) -> Prior:
    """Fit a prior to labelled pairs of questions.

    Each question is held against its cached one and those of other rows that are farther away, as
    the policy would have; a row counts if the policy would then choose its answer. Raises
    ValueError for rows without questions, or too few that count.
    """
    pairs = [row for row in rows if row.same is not None and row.question in vectors]
    if not pairs:
        raise ValueError("a prior needs rows with question and cached, not similarities alone")
    found = _explored(pairs, vectors)
    right = sum(is_right for _, is_right in found)
    if min(right, len(found) - right) < MIN_OF_EACH:
        raise ValueError(
            f"a prior needs at least {MIN_OF_EACH} right and {MIN_OF_EACH} wrong candidates; "
            f"the rows tell of {right} right and {len(found) - right} wrong ones"
        )
    parts = [found[start::PARTS] for start in range(PARTS)]
    logs = [
        Log(
            f"part {number}",
            np.array([evidence.values for evidence, _ in part]),
            np.array([is_right for _, is_right in part], float64),
            np.array([evidence.objections for evidence, _ in part]),
            len(pairs) // PARTS + 1,
        )
        for number, part in enumerate(parts)
    ]
    return prior_of_logs(logs, embedder)


def _explored(
    pairs: Sequence[Labelled], vectors: Mapping[str, Vector]
) -> list[tuple[Evidence, bool]]:
    """Return the evidence for what each question would explore, and whether it is right."""
    groups = _groups(pairs)
    cached = list(dict.fromkeys(row.cached for row in pairs))
    matrix = np.stack([vectors[text] for text in cached])
    guard = Guard()
    found: list[tuple[Evidence, bool]] = []
    for row in pairs:
        cosines = matrix @ vectors[row.question]
        cosines[[text == row.question for text in cached]] = -1
        labelled = float(vectors[row.cached] @ vectors[row.question])
        cosines[cosines > labelled + SAME_COSINE] = -1  # they were not there when it was chosen
        near = [
            Candidate(
                float(cosines[at]),
                guard.differences(row.question, cached[at]),
                cached[at],
                groups[cached[at]],
            )
            for at in np.argsort(-cosines, kind="stable")[: Verified.k].tolist()
            if cosines[at] >= FLOOR
        ]
        best = weigh(row.question, near)
        if best is not None and best.group == groups[row.cached]:
            found.append((best, row.same is True))
    return found


def _groups(pairs: Sequence[Labelled]) -> dict[str, str]:
    """Return, for each question, one that stands for all that are the same as it."""
    parent = {text: text for row in pairs for text in (row.question, row.cached)}

    def top(text: str) -> str:
        while parent[text] != text:
            parent[text] = text = parent[parent[text]]
        return text

    for row in pairs:
        if row.same:
            parent[top(row.question)] = top(row.cached)
    return {text: top(text) for text in parent}
