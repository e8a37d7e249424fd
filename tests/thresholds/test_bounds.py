"""The mathematics of the verified policy: exact tails, intervals, the fit."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_core.thresholds.bounds import (
    EDGES,
    MARGINS,
    NEVER_WRONG,
    STRATA,
    JudgeError,
    Pool,
    Promise,
    Stratum,
    chance_of_so_few,
    interval,
    pools_of,
)
from shared_core.thresholds.estimator import (
    Belief,
    Gaussian,
    RingBuffer,
    _proven,
    fit,
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


def test_the_labels_that_are_needed_are_the_fewest_that_would_do() -> None:
    promise = Promise(0.05, "hit", 0.9)
    assert promise.labels_needed(Pool(0, 20, 0, 0.5)) == pytest.approx(45, abs=0.2)
    assert promise.labels_needed(Pool(0, 20, 2, 0.5)) == math.inf


def strata(*top: Stratum) -> list[Stratum]:
    """Return strata of which the highest are given, highest first, and the rest hopeless."""
    rest = [Stratum(0.01, 0, 0, 1.0, 0.5)] * (STRATA - len(top))
    return [*rest, *reversed(top)]


def test_a_pool_is_estimated_stratum_by_stratum_as_the_requests_are_spread() -> None:
    """Most labels are from below, most requests from above: the mean of labels would mislead."""
    first, second, *_ = pools_of(
        strata(Stratum(0.6, 10, 0, 90, 0.0), Stratum(0.2, 100, 10, 0.0, 0.0))
    )
    assert (first.threshold, second.threshold) == (EDGES[-1], EDGES[-2])
    assert (second.labels, second.wrong, second.believed) == (110, 10, 90)
    assert second.share == pytest.approx(0.8)
    assert first.error == 0.0
    assert second.error == pytest.approx(0.2 * 0.1 / 0.8)
    assert second.spread == pytest.approx(0.2 * math.sqrt(0.1 * 0.9 / 101) / 0.8)


def test_a_higher_stratum_that_looks_worse_than_a_lower_one_is_pooled_with_it() -> None:
    good, bad = Stratum(0.1, 90, 1, 0.0, 0.0), Stratum(0.1, 10, 1, 0.0, 0.0)
    as_expected, odd = pools_of(strata(good, bad)), pools_of(strata(bad, good))
    assert [pool.error for pool in as_expected[:2]] == pytest.approx([1 / 90, (1 / 90 + 0.1) / 2])
    assert [pool.error for pool in odd[:2]] == pytest.approx([2 / 100, 2 / 100])


def test_the_estimate_must_keep_the_promise_with_its_spread() -> None:
    promise = Promise(0.02, "hit", 0.84)
    assert promise.is_expected_of(Pool(0, 100, 1, 0.5, 0.01, 0.009))
    assert not promise.is_expected_of(Pool(0, 100, 1, 0.5, 0.01, 0.011))
    assert not promise.is_expected_of(Pool(0, 9000, 1, 0.5, 0.018, 0.0)), "the luckiest of many"
    assert Promise(0.02, "request", 0.84).is_expected_of(Pool(0, 100, 1, 0.5, 0.03, 0.009))


def test_nothing_is_served_where_many_are_wrong_however_right_the_rest_is() -> None:
    promise = Promise(0.02, "hit", 0.7)
    known = [(0.02, 100, 10), (0.02, 100, 6), (0.5, 1000, 2)]  # share, labels, wrong; lowest first
    strata = [Stratum(0, 1, 1, 0, 0)] * (STRATA - 3) + [Stratum(*one, 0, 0) for one in known]
    high, low, lowest = pools_of(strata)[:3]
    assert (high.lowest, low.lowest, lowest.lowest) == pytest.approx((0.002, 0.06, 0.1))
    assert lowest.error + lowest.spread < MARGINS["hit"] * promise.max_error
    assert [promise.is_expected_of(one) for one in (high, low, lowest)] == [True, True, False]


STEADY = Belief(
    tuple(float(sigmoid(np.array(-1.0 - edge))) for edge in (EDGES[0] - 1, *EDGES)),
    (80.0,) * STRATA,
    (0.1,) * STRATA,
)


@pytest.mark.parametrize("off", [-1.5, 0.0, 0.6, 1.2])
def test_how_much_worse_an_app_is_than_public_data_is_read_from_all_labels(off: float) -> None:
    rng = np.random.default_rng(4)
    scores = rng.uniform(EDGES[0], EDGES[-1], 3000)
    rates = np.array(STEADY.rates)[np.searchsorted(EDGES, scores, side="right")]
    right = (rng.random(3000) >= sigmoid(np.log(rates / (1 - rates)) + off)).astype(float)
    expected = max(0.0, off)
    assert STEADY.excess(scores, right, NEVER_WRONG) == pytest.approx(expected, abs=0.2)
    flipped = np.where(rng.random(3000) < 0.1, 1 - right, right)
    assert STEADY.excess(scores, flipped, JudgeError(0.1, 0.1)) == pytest.approx(expected, abs=0.3)


def test_few_labels_say_little_of_the_kind_of_app() -> None:
    at = np.full(6, EDGES[3])
    assert STEADY.excess(at[:0], at[:0], NEVER_WRONG) == 0.0
    assert STEADY.excess(at[:1], np.zeros(1), NEVER_WRONG) < 0.8
    assert STEADY.excess(at, np.zeros(6), NEVER_WRONG) < 2.5
    assert STEADY.shifted(0.0).rates == pytest.approx(STEADY.rates)
    assert STEADY.shifted(1.0).rates > STEADY.rates


HIGH = EDGES[-1] + 1


def outweighed(**labels: str) -> set[int]:
    """Return which objections, by bit, own labels have outweighed: r or w of high scores."""
    told = [(int(bit[1:]), label == "r") for bit, some in labels.items() for label in some]
    objections, right = (np.array(each) for each in zip(*told, strict=True))
    promise = Promise(0.02, "hit", 0.7)
    scores = np.full(len(told), HIGH)
    return set(_proven(scores, right.astype(float), objections, promise))


def test_an_objection_is_outweighed_by_own_labels_of_its_kind_and_others_help() -> None:
    assert outweighed(_4="r" * 30) == {4}
    assert not outweighed(_4="r" * 18)
    assert not outweighed(_4="r" * 30 + "www")
    assert outweighed(_4="r" * 10, _8="r" * 30) == {4, 8}
    assert outweighed(_4="r" * 5, _8="r" * 30) == {8}, "too few of its own"
    assert not outweighed(_4="r" * 12, _8="r" * 15 + "w" * 15), "others do not help it"
    assert outweighed(_4="r" * 30, _8="w" * 200) == {4}, "its own labels are enough"


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
