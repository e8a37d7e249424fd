"""Logistic regression under a Gaussian prior, by Newton's method. Pure; numpy is imported here.

Loaded by the first fit, so that importing the package does not load numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import float64
from numpy.typing import NDArray

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
