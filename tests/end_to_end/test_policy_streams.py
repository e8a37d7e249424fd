"""The command that measures the policy on streams counts what the cache really answered."""

from __future__ import annotations

import gzip
import importlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_core.thresholds import Serve, Skip

pytest.importorskip("langchain_core")

STORE = "shared_core.stores.memory"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("policy_streams")


def measured(streams: Any, folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    file = folder / "found.json"
    code = streams.main(
        ["--streams", "made", "--cache", str(folder), "--json", str(file), *options]
    )
    return code, json.loads(file.read_text())


def counts(order: dict[str, Any]) -> tuple[int, int, int]:
    found = order["found"]
    return found.count(True), found.count(False), found.count(None)


def test_a_stream_is_answered_from_the_cache_and_rightly(
    streams: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = measured(streams, tmp_path, "--orders", "0,3")
    assert code == 0
    assert logging.root.manager.disable == logging.NOTSET  # it was silent, and is no more
    for order in found["orders"]:
        right, wrong, missed = counts(order)
        assert right > 100  # of 240 questions, 200 have been asked in other words before
        assert missed >= 40
        assert wrong == 0
        assert order["found"][0] is None
        assert order["labels"] > 0
        assert not order["passed_over"]
    (row,) = found["rows"]
    hits = [counts(order)[0] for order in found["orders"]]
    assert f"0 of {sum(hits)}" in row["wrong per hit"]
    assert row["over 2 % + 2 sd"] == "0 of 2"
    printed = capsys.readouterr().out
    assert "| made | 2 | 240 |" in printed
    _, again = measured(streams, tmp_path, "--orders", "3,0")
    assert [one["found"] for one in again["orders"]] == [
        one["found"] for one in reversed(found["orders"])
    ]


def test_an_answer_of_another_class_is_a_wrong_one(
    streams: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every question has a class of its own, so that each hit is wrong, and they soon end."""
    own = streams.made()
    own = replace(own, labels=[str(row) for row in range(len(own.texts))])
    monkeypatch.setattr(streams, "made", lambda: own)
    streams.one_set.cache_clear()
    code, found = measured(streams, tmp_path, "--orders", "0")
    streams.one_set.cache_clear()
    right, wrong, _ = counts(found["orders"][0])
    assert code == 0
    assert right == 0
    assert 0 < wrong < 40
    assert found["rows"][0]["over 2 % + 2 sd"] == "1 of 1"


@pytest.mark.parametrize("part", [("policy_streams", "Vectors.embed"), (STORE, "MemoryStore.put")])
def test_a_run_in_which_a_part_of_the_cache_failed_is_no_measure_and_says_so(
    streams: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    part: tuple[str, str],
) -> None:
    of, method = part[1].split(".")
    owner = getattr(importlib.import_module(part[0]), of)
    known, calls = getattr(owner, method), []

    def fails_at_times(self: Any, *args: Any) -> Any:
        calls.append(args)
        if len(calls) % 40 == 7:
            raise TimeoutError("too busy")
        return known(self, *args)

    monkeypatch.setattr(owner, method, fails_at_times)
    code, found = measured(streams, tmp_path, "--orders", "0", "--limit", "100")
    assert code == 1
    assert found["orders"][0]["passed_over"]
    assert "PASSED OVER" in capsys.readouterr().err


def test_a_text_without_a_vector_is_noticed(streams: Any) -> None:
    vectors = streams.Vectors(["a"], np.eye(1, 4, dtype=np.float32))
    assert vectors.embed(["a"]).shape == (1, 4)
    with pytest.raises(KeyError):
        vectors.embed(["a", "b"])
    assert vectors.unknown == 1


def test_a_judge_that_lies_often_ends_most_of_the_serving(streams: Any, tmp_path: Path) -> None:
    _, honest = measured(streams, tmp_path, "--orders", "1", "--limit", "150")
    _, lying = measured(streams, tmp_path, "--orders", "1", "--limit", "150", "--noise", "0.4")
    assert counts(lying["orders"][0])[0] < counts(honest["orders"][0])[0] / 2


@pytest.mark.slow
def test_several_processes_share_one_store_and_its_answers(streams: Any, tmp_path: Path) -> None:
    code, found = measured(streams, tmp_path, "--orders", "1", "--processes", "2")
    assert code == 0
    right, wrong, missed = counts(found["orders"][0])
    assert right + wrong + missed == 240
    assert right > 60
    assert wrong == 0


def test_answers_in_other_words_are_hits_of_the_same_class(streams: Any, tmp_path: Path) -> None:
    options = ("--orders", "1", "--limit", "150", "--reworded", "--prompt", "40")
    _, found = measured(streams, tmp_path, *options)
    same, other = found["orders"]
    assert (same["reworded"], other["reworded"]) == (False, True)
    assert counts(other)[1] == 0
    assert counts(other)[0] > 5


def test_an_answer_in_other_words_has_its_class_s_code_and_no_other(streams: Any) -> None:
    answers = [streams.answer_of(f"class {number}") for number in range(3000)]
    codes = [streams.code_in(answer) for answer in answers]
    assert len(set(codes)) == 3000
    rng = random.Random(0)
    for number in range(0, 3000, 100):
        others = {streams.answer_of(f"class {number}", rng) for _ in range(30)}
        assert len(others) > 5
        assert {streams.code_in(other) for other in others} == {codes[number]}


def test_from_the_middle_on_half_of_the_classes_have_another_answer(streams: Any) -> None:
    labels = [str(row % 10) for row in range(200)]
    later = streams.drifted(labels, 3)
    assert later[:100] == labels[:100]
    changed = {old for old, new in zip(labels, later, strict=True) if old != new}
    assert len(changed) == 5
    assert all(
        (new != old) is (old in changed) for old, new in zip(labels[100:], later[100:], strict=True)
    )


@pytest.fixture
def data(streams: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with a little of every set, and vectors without a model."""

    def embed(texts: Sequence[str], _: Path) -> Any:
        return streams.letters(list(texts))

    monkeypatch.setattr(streams, "embed", embed)
    for name in streams.PARTS:
        rows = [
            {"t": f"{name} text {i}", "c": i % 7, "s": "dev" if i % 3 else "held"}
            for i in range(90)
        ]
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    yield tmp_path
    streams.one_set.cache_clear()
    streams.mixed.cache_clear()


@pytest.mark.parametrize("name", ["banking77", "clinc150", "qqp", "mixed"])
def test_an_order_is_the_same_questions_in_another_order(
    streams: Any, data: Path, name: str
) -> None:
    first, again, other = (streams.load(data, name, "dev", order, data) for order in (0, 0, 4))
    assert first.texts == again.texts != other.texts
    of = [dict(zip(one.texts, one.labels, strict=True)) for one in (first, other)]
    assert of[0] == of[1]
    rows = dict(zip(first.texts, first.vectors, strict=True))
    assert all((rows[t] == v).all() for t, v in zip(other.texts, other.vectors, strict=True))
    assert len(first.texts) == (60 * len(streams.PARTS) if name == "mixed" else 60)


def test_a_split_has_its_own_rows_and_one_without_any_is_refused(streams: Any, data: Path) -> None:
    held = streams.load(data, "swaps", "held", 0, data)
    assert len(held.texts) == 30
    assert not {*held.texts} & {*streams.load(data, "swaps", "dev", 0, data).texts}
    with pytest.raises(SystemExit, match="nobody"):
        streams.load(data, "swaps", "nobody", 0, data)
    with pytest.raises(SystemExit, match="not there"):
        streams.load(data, "nothing", "dev", 0, data)


def test_the_prior_leaves_the_stream_s_own_sets_out_and_is_fitted_once(
    streams: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[set[str]] = []

    def fit(_: Path, left_out: frozenset[str], __: Path) -> Any:
        fitted.append(set(left_out))
        return streams.shipped()

    monkeypatch.setattr(streams, "fit_prior", fit)
    with gzip.open(data / "snips_slots.jsonl.gz", "wt") as file:
        file.write("")
    kept = data / "kept"
    assert streams.prior_of(data, "qqp", kept) is None
    for _ in range(2):
        assert streams.prior_of(data, "swaps", kept) is not None
        streams.prior_of(data, "mixed", kept)
    assert fitted == [{"swaps"}, {"banking77", "clinc150", "swaps"}]
    with gzip.open(data / "clinc150.jsonl.gz", "at") as file:
        file.write('{"t": "one more", "c": 1}\n')
    streams.prior_of(data, "swaps", kept)
    assert len(fitted) == 3  # other data, another prior


@pytest.mark.parametrize(
    ("wrong", "hits", "over"),
    [(29, 1000, True), (28, 1000, False), (11, 250, True), (3, 100, False), (5, 100, False),
     (6, 100, True), (0, 0, False), (1, 1, True), (1, 2, False)],
)  # fmt: skip
def test_what_is_over_the_target_is_so_by_two_standard_deviations(
    streams: Any, wrong: int, hits: int, over: bool
) -> None:
    assert streams.is_over(wrong, hits, 0.02) is over


def result(streams: Any, stream: str, found: Sequence[bool | None]) -> Any:
    return streams.Result(stream, False, 1, list(found))


def test_after_a_change_it_is_told_for_how_long_too_many_were_wrong(streams: Any) -> None:
    found: list[bool | None] = [True] * 2000
    assert streams.recovery(result(streams, "s", found), "hit", 0.02) == 0
    found[1000:1040] = [False] * 40
    assert streams.recovery(result(streams, "s", found), "hit", 0.02) == pytest.approx(520, abs=25)


def test_a_bar_is_met_by_what_was_measured(streams: Any, tmp_path: Path) -> None:
    options = type("Options", (), {"policy": streams.Timed()})
    good: list[bool | None] = [*[None] * 50, *[True] * 60, *[None] * 400, *[True] * 490]
    few: list[bool | None] = [*[None] * 501, *[True] * 499]
    met = [is_met for _, is_met in streams.bars([result(streams, "banking77", good)], options)]
    assert met == [True, True, True]
    poor = [is_met for _, is_met in streams.bars([result(streams, "banking77", few)], options)]
    assert poor == [False, True, False]
    bad = [*good[:-30], *[False] * 30]
    assert [m for _, m in streams.bars([result(streams, "banking77", bad)], options)][1] is False
    late = [*few[:-1], False]
    three = [result(streams, "atis_slots", some) for some in (few, late, late)]
    assert [m for _, m in streams.bars(three, options)] == [True, False]
    worst = [result(streams, "atis_slots", [*few[:-7], *[False] * 7])]
    assert [m for _, m in streams.bars(worst, options)] == [False, False]


class AlwaysServes:
    """A policy that serves whatever looks right."""

    max_error = 0.02

    def initial_state(self) -> Any:
        return type("State", (), {"wealth": None})()

    def settle(self, _: Any) -> None: ...

    def decide(self, _: str, candidates: Any, *__: Any) -> Any:
        return Serve(0, (), 0.0) if candidates[0].similarity >= 0.88 else Skip("far")


@pytest.mark.parametrize("world", ["independent", "correlated", "drift"])
def test_a_simulated_app_is_as_wrong_as_it_is_said_to_be(streams: Any, world: str) -> None:
    guarantee = importlib.import_module("guarantee")
    lives = [guarantee.live(AlwaysServes(), world, 0.03, 600, seed) for seed in range(40)]
    hits, wrong = sum(one.hits for one in lives), sum(one.wrong for one in lives)
    assert hits / (40 * 600) == pytest.approx(0.6, abs=0.02)
    truth = 0.06 if world == "drift" else 0.03
    assert wrong / hits == pytest.approx(truth, rel=0.35)
    over = sum(one.wrong > 0.02 * one.hits for one in lives)
    row = guarantee.row(world, lives, 0.02, False)
    assert f"over in the end {100 * over / 40:5.1f} %" in row
    assert all(one.ever_over for one in lives if one.wrong > 0.02 * one.hits)


def test_the_wrong_hits_by_meaning_of_two_replays_are_added_up(streams: Any) -> None:
    savings = importlib.import_module("savings")
    one, two = savings.Result(), savings.Result()
    one.hits.update(exact=500, semantic=40)
    two.hits.update(exact=500, semantic=60)
    two.wrong.update(semantic=2, exact=9)
    assert savings.wrong_by_meaning(one, two).startswith("2 of 100 (0.6 to 7.0 %)")
    assert savings.wrong_by_meaning(savings.Result()) == ""
    one.add(two)
    assert savings.wrong_of(one).startswith("11 of 1,100 hits")
