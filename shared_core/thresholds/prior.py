"""Keep what Verified believes before the first label: weights, and how far they were right.

sets of labelled questions --fit--> weights --on sets left out--> wrong answers per stratum
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from shared_core.thresholds.bounds import STRATA
from shared_core.thresholds.features import FEATURES

if TYPE_CHECKING:
    from shared_core.thresholds.estimator import Belief, Gaussian

SHIPPED = "prior.json"
RIDGE = 0.5
"""Precision of every weight that the sets behind a prior say nothing of."""

UNKNOWN = (0.5, 1.0, 1 / STRATA)
"""Of a stratum that nothing is known of: the rate of wrong answers, labels, share of requests."""


@dataclass(frozen=True, slots=True)
class Prior:
    """A normal distribution of the d weights in the order of ``features.FEATURES``, and its record.

    ``mean`` is (d,). ``information`` is (d, d): what one label says of the weights, on average over
    the sets behind the prior; it counts as much as ``labels`` labels. ``strata`` is the record of
    the prior on sets that were left out, for each stratum of scores, lowest first: the share of
    wrong answers, how many labels that knowledge counts for, and the share of requests that fall
    into it; empty if there is none. ``embedder`` names the model whose cosines it is meant for,
    ``sources`` the sets and their licences.

    Raises ValueError for another number of weights or strata.
    """

    mean: tuple[float, ...]
    information: tuple[tuple[float, ...], ...]
    labels: float = 20.0
    embedder: str = ""
    sources: tuple[str, ...] = ()
    strata: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        d = len(FEATURES)
        if len(self.mean) != d or [len(row) for row in self.information] != [d] * d:
            raise ValueError(f"Prior needs {d} weights and {d} x {d} information: fit it anew")
        if len(self.strata) not in (0, STRATA):
            raise ValueError(f"Prior needs {STRATA} strata or none, not {len(self.strata)}")

    def gaussian(self) -> Gaussian:
        """Return it as arrays."""
        import numpy as np

        from shared_core.thresholds.estimator import Gaussian

        information = self.labels * np.asarray(self.information)
        return Gaussian(np.asarray(self.mean), RIDGE * np.eye(len(FEATURES)) + information)

    def belief(self, most: float) -> Belief:
        """Return what it knows of each stratum, as at most so many labels."""
        from shared_core.thresholds.estimator import Belief

        rates, labels, shares = zip(*(self.strata or (UNKNOWN,) * STRATA), strict=True)
        return Belief(rates, labels, shares).at_most(most)

    def to_json(self) -> str:
        """Spell it; the information, which is symmetric, by its upper half."""
        upper = [round(v, 6) for i, row in enumerate(self.information) for v in row[i:]]
        body = {
            "embedder": self.embedder,
            "sources": self.sources,
            "labels": self.labels,
            "features": FEATURES,
            "mean": [round(value, 6) for value in self.mean],
            "strata": [[round(value, 6) for value in one] for one in self.strata],
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
            strata = tuple((float(r), float(n), float(f)) for r, n, f in body.get("strata", ()))
            labels, embedder = float(body["labels"]), str(body["embedder"])
            return cls(mean, rows, labels, embedder, sources, strata)
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
