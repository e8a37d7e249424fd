"""The allowance that all calls of one lookup to its store share."""

from __future__ import annotations

import math

import pytest

from shared_core import resilience
from shared_core.resilience import bounded_wait, deadline, time_left


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose sum is what the clock shows."""
    passed = [0.0]
    monkeypatch.setattr(resilience.time, "monotonic", lambda: sum(passed))
    return passed


def test_a_wait_without_an_allowance_is_bounded_by_its_own_limit(passes: list[float]) -> None:
    for _ in range(2):
        with bounded_wait(3.0) as limit:
            assert limit == 3.0
            passes.append(2.0)
            assert time_left() == 1.0
    assert time_left() == math.inf


def test_all_waits_share_the_allowance_and_what_passes_between_them_is_free(
    passes: list[float],
) -> None:
    with deadline(5.0):
        with bounded_wait(3.0) as limit:
            assert limit == 3.0
            passes.append(3.0)
        passes.append(100.0)
        with bounded_wait(3.0) as limit:
            assert limit == 2.0
            passes.append(2.0)
        with bounded_wait(3.0) as limit:
            assert limit == 0.0
    with bounded_wait(3.0) as limit:
        assert limit == 3.0


def test_an_allowance_within_another_is_no_longer(passes: list[float]) -> None:
    with deadline(5.0), deadline(9.0), bounded_wait(8.0) as limit:
        assert limit == 5.0


def test_other_threads_have_allowances_of_their_own() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def left() -> float:
        with bounded_wait(3.0) as limit:
            return limit

    with deadline(1.0), ThreadPoolExecutor(1) as pool:
        assert left() == 1.0
        assert pool.submit(left).result() == 3.0
