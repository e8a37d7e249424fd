"""What the comparison reports is what was measured: ratios, verdicts, and who is left out."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CORE = "langchain-core InMemoryCache"


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_noise_that_both_meet_in_a_round_is_not_in_the_ratio() -> None:
    noise = [1.0 + (7 * i % 31) for i in range(200)]
    assert module("rounds").ratio([3 * one for one in noise], noise) == [3.0, 3.0, 3.0]


def test_noise_of_one_alone_widens_the_interval() -> None:
    noise = [1.0 + (7 * i % 31) for i in range(200)]
    _, low, high = module("rounds").ratio(noise, [2.0] * 200, 50)
    assert low < 8 < high


def test_a_bar_that_is_missed_is_called_missed() -> None:
    fast = {"ours": "A", "peer": "B", "tier": "hit", "bar": 2.0, "ratio": [2.1, 2.0, 2.2], "cpu": 2}
    slow = fast | {"ours": "C", "ratio": [1.9, 1.8, 2.3]}
    lines = list(module("report").bars({"tiers": {"bars": [fast, slow]}}))
    met = next(line for line in lines if "hit: A" in line)
    missed = next(line for line in lines if "hit: C" in line)
    assert met.endswith("| met |")
    assert missed.endswith("| **missed** |")


def test_the_questions_of_one_kind_are_none_of_another() -> None:
    asks = module("asks")
    stored = {asks.ask("stored", i, 500).question for i in range(500)}
    others = {asks.ask("other", i, 500).question for i in range(500)}
    reworded = {asks.ask("reworded", i, 500).question for i in range(2000)}
    assert (len(stored), len(others), len(reworded)) == (500, 500, 2000)
    assert not stored & others
    assert not stored & reworded


@pytest.mark.slow
def test_a_cache_in_a_process_of_its_own_is_judged_by_the_answers_it_gives() -> None:
    with module("worker").Worker(CORE, "", "made", 10) as worker:
        worker.tell("fill", start=0, count=3)
        told = worker.tell("look", kind="stored", numbers=[0, 2, 5])
        absent = worker.tell("look", kind="other", numbers=[0, 1])
        crowd = worker.tell("crowd", threads=4, seconds=0.1, kind="stored", start=0)
    assert (told["right"], told["wrong"], told["none"]) == (2, 0, 1)
    assert (absent["right"], absent["wrong"], absent["none"]) == (0, 0, 2)
    assert len(told["seconds"]) == 3
    assert 0 < crowd["served"] < crowd["done"]


@pytest.mark.slow
def test_a_peer_that_is_not_there_is_left_out_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = module("worker")
    monkeypatch.setattr(worker, "ENVIRONMENTS", tmp_path)
    names = ["BetterDB SemanticCache", CORE]
    with worker.workers(names, "", "made", 10) as running:
        assert list(running) == [CORE]
    assert "left out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cache_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    worker = module("worker")
    with pytest.raises(worker.Failed, match="redis"):
        worker.Worker("RedisVL SemanticCache", f"redis+nothing://{tmp_path}", "made", 10)


def test_of_the_table_of_identity_ours_shares_what_is_the_same_and_nothing_else() -> None:
    identity = module("identity")
    found = identity.ours().found()
    differs = {kind: found[kind] for kind in identity.DIFFERENT}
    assert differs.pop(identity.COMPLETION) == "not kept"
    assert set(differs.values()) == {False}
    assert {found[kind] for kind in identity.SAME} == {True}


def test_the_table_of_identity_says_why_a_cell_has_no_answer() -> None:
    identity = module("identity")
    kinds = [*identity.DIFFERENT, *identity.SAME]
    broken = identity.Peer("broken", dict, not_asked={kinds[0]: "-: nobody asks that"})
    page = identity.table({"broken": broken.found()}, {"absent": "no such thing"})
    assert f"| {kinds[0]} | - |" in page
    assert f"| {kinds[1]} | fails |" in page
    assert "- broken: `-`, nobody asks that" in page
    assert "- broken: `fails`, " in page
    assert "- absent was left out: no such thing" in page


def test_the_best_cosine_has_the_most_right_answers_of_those_with_few_wrong() -> None:
    best = module("quality").best
    rows = [(0.8, 90, 9), (0.9, 50, 1), (0.95, 40, 0), (0.99, 2, 0)]
    assert best([(s, {"hits": hits, "wrong": wrong}) for s, hits, wrong in rows]) == 0.9
    bad = [(s, {"hits": 10, "wrong": 5}) for s in (0.8, 0.99)]
    assert best(bad) == 0.99


def test_answers_to_classes_of_questions_are_all_different() -> None:
    answers = {module("quality").answer_of(f"class {i}") for i in range(500)}
    assert len(answers) == 500


def test_what_became_worse_is_told_if_it_is_certain() -> None:
    judged = module("compare_results").judged
    row = {"cache": "c", "setting": "default", "stream": "s", "system": False}
    old = {"rows": [row | {"requests": 1000, "hits": 500, "wrong": 5}]}
    worse = {"rows": [row | {"requests": 1000, "hits": 500, "wrong": 50}]}
    noise = {"rows": [row | {"requests": 1000, "hits": 505, "wrong": 6}]}
    assert [bad for bad, _ in judged(old, worse)] == [True]
    assert [bad for bad, _ in judged(worse, old)] == [False]
    assert not list(judged(old, noise))


def test_a_wrong_answer_costs_what_it_is_worth_to_the_reader() -> None:
    def row(cache: str, hits: int, wrong: int) -> dict[str, Any]:
        told = {"cache": cache, "setting": "default", "stream": "s", "system": False}
        return told | {"requests": 100, "hits": hits, "wrong": wrong}

    head, body = module("report").money([row("daring", 50, 5), row("careful", 20, 0)])
    by = dict(zip(head, zip(*body, strict=True), strict=True))
    names = by["cache"]
    free = dict(zip(names, by["a wrong answer at $0"], strict=True))
    dear = dict(zip(names, by["a wrong answer at $10"], strict=True))
    assert free == {"daring, default": "**5.00**", "careful, default": "8.00"}
    assert dear == {"daring, default": "505.00", "careful, default": "**8.00**"}
