"""The mathematics of the verified policy: exact tails, intervals, the fit."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.thresholds.bounds import Pool, Promise, chance_of_so_few, choose, interval
from shared_core.thresholds.estimator import (
    Gaussian,
    RingBuffer,
    fit,
    pool,
    scores_left_out,
    sigmoid,
)


def binomial(wrong: int, of: int, rate: float) -> float:
    return sum(math.comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(wrong + 1))


@given(st.integers(1, 400), st.floats(0.001, 0.999), st.data())
def test_the_tail_of_whole_counts_is_the_binomial_one(
    of: int, rate: float, data: st.DataObject
) -> None:
    wrong = data.draw(st.integers(0, of))
    expected = binomial(wrong, of, rate)
    assert chance_of_so_few(wrong, of, rate) == pytest.approx(expected, abs=1e-8)


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    assert interval(0, 50) == pytest.approx((0.0, 0.07112), abs=1e-5)
    assert interval(3, 200) == pytest.approx((0.003104, 0.043208), abs=1e-5)
    assert interval(50, 50) == pytest.approx((0.92888, 1.0), abs=1e-5)
    assert interval(0, 0) == (0.0, 1.0)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """1,000 samples of 80 at a rate of 0.04."""
    rng, covered = random.Random(0), 0
    for _ in range(1000):
        low, high = interval(sum(rng.random() < 0.04 for _ in range(80)), 80)
        covered += low <= 0.04 <= high
    assert covered >= 950


def test_a_pool_keeps_the_promise_per_hit_only_with_enough_labels() -> None:
    promise = Promise(0.05, "hit", 0.9)
    assert not promise.is_kept_by(Pool(0, 44, 0, 0.5))
    assert promise.is_kept_by(Pool(0, 45, 0, 0.5))
    assert not promise.is_kept_by(Pool(0, 75, 1, 0.5))
    assert promise.is_kept_by(Pool(0, 77, 1, 0.5))


def test_per_request_a_smaller_share_may_be_wrong_more_often() -> None:
    promise = Promise(0.02, "request", 0.9)
    assert promise.is_kept_by(Pool(0, 60, 5, 0.1))
    assert not promise.is_kept_by(Pool(0, 60, 5, 0.9))


def test_the_largest_pool_that_keeps_the_promise_is_chosen() -> None:
    pools = [Pool(3.0, 20, 0, 0.1), Pool(2.0, 100, 1, 0.3), Pool(1.0, 300, 60, 0.6)]
    assert choose(pools, Promise(0.05, "hit", 0.9)) == pools[1]
    assert choose(pools, Promise(0.001, "hit", 0.9)) is None
    assert choose([], Promise(0.05, "hit", 0.9)) is None


def test_the_labels_that_are_needed_are_the_fewest_that_would_do() -> None:
    promise = Promise(0.05, "hit", 0.9)
    assert promise.labels_needed(Pool(0, 20, 0, 0.5)) == pytest.approx(45, abs=0.2)
    assert promise.labels_needed(Pool(0, 20, 2, 0.5)) == math.inf
    assert promise.labels_needed(Pool(0, 20, 0, 0.5, 1.0, 10, 0)) == pytest.approx(35, abs=0.2)


def test_pools_count_labels_and_arrivals_above_their_thresholds() -> None:
    scores = np.linspace(5, -5, 200)
    right = (scores > 0).astype(float)
    seen = np.linspace(5, -5, 1000)
    pools = pool(scores, right, seen, np.ones(1000))
    assert [each.labels for each in pools] == sorted(each.labels for each in pools)
    for each in pools:
        assert each.labels == (scores >= each.threshold).sum()
        assert each.wrong == ((scores >= each.threshold) & (right == 0)).sum()
        assert each.share == pytest.approx((seen >= each.threshold).mean(), abs=0.01)
        assert each.shift == pytest.approx(1.0, abs=0.05)


def test_labels_from_the_edge_are_not_taken_for_what_is_served() -> None:
    """Labels at log-odds 2, arrivals mostly at 6: these are expected to be wrong far less often."""
    scores, right = np.full(100, 2.0), np.r_[np.zeros(12), np.ones(88)]
    seen = np.r_[np.full(900, 6.0), np.full(100, 2.0)]
    (*_, widest) = pool(scores, right, seen, np.ones(1000))
    assert widest.shift == pytest.approx(0.13, abs=0.02)
    assert widest.error < 0.02


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = np.c_[np.ones(n), rng.normal(size=(n, 3))]
    chance = sigmoid(values @ np.array([0.5, 2.0, -1.0, 0.0]))
    return values, (rng.random(n) < chance).astype(float)


WEAK = Gaussian(np.zeros(4), 0.1 * np.eye(4))


def test_the_fit_finds_the_weights_that_made_the_data() -> None:
    values, right = data(20_000)
    fitted = fit(values, right, WEAK, WEAK.mean, 30)
    assert fitted.weights == pytest.approx([0.5, 2.0, -1.0, 0.0], abs=0.08)
    slope = WEAK.precision @ fitted.weights + values.T @ (sigmoid(values @ fitted.weights) - right)
    assert np.abs(slope).max() < 1.0


def test_without_data_the_fit_is_the_prior() -> None:
    prior = Gaussian(np.array([1.0, 2.0, 3.0, 4.0]), np.eye(4))
    fitted = fit(np.zeros((0, 4)), np.zeros(0), prior, np.zeros(4), 30)
    assert fitted.weights == pytest.approx(prior.mean)


def test_a_bad_start_does_not_diverge() -> None:
    values, right = data(300)
    good = fit(values, right, WEAK, WEAK.mean, 50).weights
    assert fit(values, right, WEAK, np.array([40.0, -40.0, 40.0, 40.0]), 50).weights == (
        pytest.approx(good, abs=1e-2)
    )


def test_left_out_scores_are_those_of_fits_without_the_example() -> None:
    values, right = data(60)
    fitted = fit(values, right, WEAK, WEAK.mean, 30)
    approximate = scores_left_out(fitted, values, right)
    exact = []
    for out in range(60):
        rest = np.arange(60) != out
        refitted = fit(values[rest], right[rest], WEAK, fitted.weights, 30)
        exact.append(values[out] @ refitted.weights)
    of_all = values @ fitted.weights
    assert np.abs(approximate - exact).max() < 0.2
    assert np.abs(approximate - exact).mean() < 0.2 * np.abs(of_all - exact).mean()


def test_a_ring_keeps_the_newest_rows_in_order() -> None:
    ring = RingBuffer(3, 1)
    for number in range(5):
        ring.add([float(number)])
    assert ring.rows().ravel().tolist() == [2.0, 3.0, 4.0]
    ring.keep(2)
    assert ring.rows().ravel().tolist() == [3.0, 4.0]
    ring.add([5.0])
    ring.add([6.0])
    assert ring.rows().ravel().tolist() == [4.0, 5.0, 6.0]
    ring.keep(10)
    assert len(ring) == 3
