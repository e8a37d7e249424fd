"""Fit what the verified policy should expect of an embedding model; loads numpy.

logs of (values, right) --logistic regression--> weights and their information --> Prior
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy import float64
from numpy.typing import NDArray

from shared_core.guard import Guard
from shared_core.learning.pairs import LabelledPair
from shared_core.thresholds import (
    FEATURES,
    FLOOR,
    Candidate,
    Gaussian,
    Prior,
    Verified,
    Vocabulary,
    cold,
    content,
    fit,
    weigh,
)

if TYPE_CHECKING:
    from shared_core.record import Vector


Log = tuple[NDArray[float64], NDArray[float64]]
"""The values (n, d) of candidates, d as ``evidence.FEATURES``, and whether (n,) each was right."""

COUNTS_FOR = 20.0
"""Labels that a prior counts for: more of them made streams unlike the logs learn too slowly."""

LOG_COUNTS = 1000.0
"""Labels that each log counts for in the fit, however many it has."""

STEPS = 100
SAME_COSINE = 1e-5
LEAST_OF_EACH = 10
"""Right ones, and wrong ones, without which a prior would say next to nothing."""


def prior_of_logs(logs: Sequence[Log], embedder: str, sources: Sequence[str] = ()) -> Prior:
    """Fit one prior to the logs, each of the same weight."""
    values = np.concatenate([log[0] for log in logs])
    right = np.concatenate([log[1] for log in logs])
    shares = np.concatenate([np.full(len(log[1]), LOG_COUNTS / len(log[1])) for log in logs])
    start = Gaussian(np.asarray(cold().mean), np.eye(len(FEATURES)))
    fitted = fit(values, right, start, start.mean, STEPS, shares)
    information = (fitted.precision - start.precision) / shares.sum()
    return Prior(
        tuple(fitted.weights.tolist()),
        tuple(tuple(row) for row in information.tolist()),
        COUNTS_FOR,
        embedder,
        tuple(sources),
    )


def prior_of_rows(
    rows: Sequence[LabelledPair], vectors: Mapping[str, Vector], embedder: str
) -> Prior:
    """Fit a prior to labelled pairs of questions.

    Each question is held against its cached one and those of other rows that are farther away, as
    the policy would have; a row counts if the policy would then choose its answer. Raises
    ValueError for rows without questions, or too few that count.
    """
    pairs = [row for row in rows if row.same is not None and row.question in vectors]
    if not pairs:
        raise ValueError("a prior needs rows with question and cached, not similarities alone")
    values, right = _explored(pairs, vectors)
    of_each = min(sum(right), len(right) - sum(right))
    if of_each < LEAST_OF_EACH:
        raise ValueError(
            f"a prior needs at least {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong candidates; "
            f"the rows tell of {sum(right)} right and {len(right) - sum(right)} wrong ones"
        )
    return prior_of_logs([(np.array(values), np.array(right, float64))], embedder)


def _explored(
    pairs: Sequence[LabelledPair], vectors: Mapping[str, Vector]
) -> tuple[list[tuple[float, ...]], list[bool]]:
    """Return the values of what each question would explore, and whether it is right."""
    groups = _groups(pairs)
    cached = list(dict.fromkeys(row.cached for row in pairs))
    matrix = np.stack([vectors[text] for text in cached])
    guard, vocabulary = Guard(), Vocabulary()
    values: list[tuple[float, ...]] = []
    right: list[bool] = []
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
        best = weigh(row.question, near, vocabulary)
        vocabulary.add(content(row.question))
        if best is not None and best.group == groups[row.cached]:
            values.append(best.values)
            right.append(row.same is True)
    return values, right


def _groups(pairs: Sequence[LabelledPair]) -> dict[str, str]:
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
