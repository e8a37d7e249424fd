"""The small examples run, and what they define keeps the promises of its protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from shared_core.learning import Judge
from shared_core.stores import Store, open_store
from shared_core.testing import (
    BoundedStoreConformance,
    FakeClock,
    JudgeConformance,
    PolicyConformance,
)
from shared_core.thresholds import Policy

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> dict[str, Any]:
    """Return what an example defines."""
    return run_path(str(EXAMPLES / f"{name}.py"))


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    load(name)["main"]()
    return capsys.readouterr().out.splitlines()


def test_the_policy_serves_the_other_wording(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split()[-1] for line in printed("own_policy", capsys)] == ["Miss", "Hit"]


def test_the_store_counts_what_is_asked_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    calls = dict(line.split() for line in printed("own_store", capsys))
    assert calls["put"] == "1"
    assert int(calls["get"]) >= 2


def test_the_judge_compares_values(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = [line.split()[-1] for line in printed("own_judge", capsys)]
    assert verdicts == ["True", "False", "True"]


class TestOwnPolicy(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        made: Policy = load("own_policy")["ByLength"]()
        return made


class TestOwnStore(BoundedStoreConformance):
    @pytest.fixture
    def open_one(self, clock: FakeClock) -> Callable[..., Store]:
        counted = load("own_store")["CountedStore"]
        return lambda **options: counted(open_store("memory://", clock=clock, **options))


class TestOwnJudge(JudgeConformance):
    @pytest.fixture
    def judge(self) -> Judge:
        made: Judge = load("own_judge")["same_json"]
        return made
