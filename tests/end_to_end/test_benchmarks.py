"""What the comparison reports is what was measured: ratios, verdicts, and who is left out."""

from __future__ import annotations

import gzip
import importlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
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


def test_each_file_of_the_folder_says_in_a_line_what_it_is_for() -> None:
    lines = list(module("run").purposes())
    assert len(lines) == len(list(BENCHMARKS.glob("*.py")))
    assert all(len(line[26:].strip()) > 20 for line in lines)


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


GRID = (0.8, 0.84, 0.88, 0.9, 0.92, 0.94, 0.96)


@pytest.mark.parametrize("at", range(len(GRID) + 1))
def test_the_best_cosine_is_the_lowest_with_few_wrong_answers(at: int) -> None:
    tried = []

    def run(cosine: float) -> dict[str, int]:
        tried.append(cosine)
        return {"hits": 100, "wrong": 2 if GRID.index(cosine) >= at else 3}

    assert module("quality").best(run, GRID) == GRID[min(at, len(GRID) - 1)]
    assert len(tried) == len(set(tried)) <= 3


def test_the_halves_of_a_stream_have_no_class_in_common(tmp_path: Path) -> None:
    rows = [{"t": f"question {i} of {i % 40}", "c": f"class {i % 40}"} for i in range(400)]
    with gzip.open(tmp_path / "made.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    stream = module("quality").halved(tmp_path, "made")
    halves = [{answer for _, answer in half} for half in (stream.develop, stream.judge)]
    assert len(stream.develop) + len(stream.judge) == 400
    assert len(halves[0]) + len(halves[1]) == 40
    assert not halves[0] & halves[1]


def test_the_replay_repeats_questions_and_its_halves_have_other_topics() -> None:
    stream = module("quality").telephone((200, 300))
    assert (len(stream.develop), len(stream.judge)) == (200, 300)
    assert len({row[0] for row in stream.judge}) < 200
    assert not {row[1] for row in stream.judge} & {row[1] for row in stream.develop}
    assert stream.judge[0][2][0]["role"] == "system"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module("rounds"), "RESULTS", tmp_path)
    where = {"date": "2026-11-28", "load": [0.0]}
    return lambda: module("quality").Kept(where)


def test_a_run_of_some_caches_and_sets_replaces_these_rows_and_keeps_the_others(kept: Any) -> None:
    def put(hits: int, **key: Any) -> None:
        row = {"setting": "default", "hits": hits}
        kept().put("rows", [key | row, key | row | {"setting": "best"}], **key)

    one = {"cache": "a", "stream": "qqp", "system": False}
    others = [one | {"cache": "b"}, one | {"stream": "swaps"}, one | {"system": True}]
    for key in (one, *others):
        put(1, **key)
    put(2, **one)
    rows = kept().tables["rows"]
    assert len(rows) == 8
    assert all((row["hits"] == 2) is (row.items() >= one.items()) for row in rows)
    assert kept().has(**one)
    assert not kept().has(**one | {"cache": "c"})


def test_a_cache_that_fails_is_kept_with_the_reason_until_it_has_rows(kept: Any) -> None:
    key = {"cache": "a", "stream": "qqp", "system": False}
    kept().put("rows", [], "no such module", **key)
    assert kept().tables["left out"][0]["reason"] == "no such module"
    assert not kept().has(**key)
    kept().put("rows", [key | {"setting": "default"}], **key)
    assert not kept().tables["left out"]


def test_a_cache_whose_environment_is_missing_is_listed_with_that_reason(
    kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = module("quality")
    monkeypatch.setattr(module("worker"), "ENVIRONMENTS", tmp_path)

    class Server:
        judged = quality.Machine.judged

        @contextmanager
        def worker(self, cache: str, **setting: Any) -> Iterator[Any]:
            with module("worker").Worker(cache, "", "made", 0, **setting) as started:
                yield started

    run = quality.Run(Server(), kept(), {"s": ""}, (0.9,), ())
    run.judge("BetterDB SemanticCache", quality.Stream("s", [], []))
    (left,) = kept().tables["left out"]
    assert left["reason"] == "its environment is not installed"
    found = {"rows": [], "near": [], "left out": [left]}
    page = "\n".join(module("quality_report").last_lines(found))
    assert "- BetterDB SemanticCache on s: its environment is not installed" in page
    assert "LlamaIndex has no cache of answers" in page


def test_ours_and_others_are_all_that_is_judged() -> None:
    quality = module("quality")
    assert sorted(quality.named("ours") + quality.named("others")) == sorted(quality.JUDGED)
    assert quality.named("RedisVL SemanticCache") == ["RedisVL SemanticCache"]
    with pytest.raises(SystemExit, match="nobody"):
        quality.named("nobody")


TOY = """
from contender import Contender, Entry


def build(setting):
    answers = {}
    least = 3 if setting.similarity is None else 5

    def look(ask):
        return next((a for q, a in answers.items() if q[:least] == ask.question[:least]), None)

    return Contender(lambda ask, answer: answers.update({ask.question: answer}), look)


ENTRIES = {"toy": Entry(build, ("langchain-core",), judged="tuned")}
"""


def toy(folder: Path) -> Any:
    (folder / "toy.py").write_text(TOY)
    return module("contenders").of_others(str(folder))["toy"]


def test_a_contender_is_one_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module("contenders").ENTRIES, "toy", toy(tmp_path))
    served = module("worker").Served("toy", str(tmp_path), "", "made", 0)
    pairs = [("red apple", "red pear", True), ("red apple", "blue", False)]
    assert served.pairs(pairs)["served"] == [False, False]  # at 0.92
    same = {served.setting.answers[one] for one in ("red apple", "red pear")}
    assert served.setting.answers["blue"] not in same  # a made-up verifier knows what is right
    requests = [["red apple", "A"], ["red pear", "B"], ["green pear", "C"], ["red apple", "A"]]
    assert served.replay(requests, "", 0.9) == {"texts": [None, None, None, "A"]}
    assert served.replay(requests, "") == {"texts": [None, "A", None, "A"]}
    assert served.pairs(pairs)["served"] == [True, False]  # at its default


@pytest.mark.slow
def test_a_contender_of_ones_own_is_judged_like_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = module("quality")
    monkeypatch.setitem(module("contenders").ENTRIES, "toy", toy(tmp_path))
    monkeypatch.setenv("CONTENDERS", str(tmp_path))
    develop = [["red apple", "A"], ["red pear", "B"]]
    judge = [["blue sky", "A"], ["blue sea", "A"], ["blue eyes", "B"]]

    class Server:
        url = ""

        @contextmanager
        def worker(self, cache: str, **setting: Any) -> Iterator[Any]:
            with module("worker").Worker(cache, "", "made", 0, **setting) as started:
                yield started

    rows = quality.Machine.judged(Server(), "toy", quality.Stream("s", develop, judge), "", (0.9,))
    found = [(row["setting"], row["similarity"], row["hits"], row["wrong"]) for row in rows]
    assert found == [("default", None, 2, 1), ("best", 0.9, 2, 1)]


def test_answers_to_classes_of_questions_are_all_different() -> None:
    answers = {module("quality").answer_of(f"class {i}") for i in range(500)}
    assert len(answers) == 500


def row(hits: int, wrong: int, **key: Any) -> dict[str, Any]:
    told = {"cache": "c", "setting": "default", "stream": "s", "system": False, "requests": 1000}
    return told | key | {"hits": hits, "wrong": wrong}


def test_what_became_worse_is_told_if_it_is_certain() -> None:
    judged = module("compare_results").judged
    old, worse, noise = ({"rows": [row(*of)]} for of in ((500, 5), (500, 50), (505, 6)))
    fewer = {"rows": [row(300, 3)]}
    assert [bad for bad, _ in judged(old, worse)] == [True]
    assert [bad for bad, _ in judged(worse, old)] == [False]
    assert [bad for bad, _ in judged(old, fewer)] == [True]
    assert not list(judged(old, noise))


def test_near_misses_and_shared_calls_that_changed_are_told() -> None:
    compare = module("compare_results")
    near = [{"cache": "c", "served": {"trap: swap": [2, 100], "same": [50, 100]}}]
    later = [{"cache": "c", "served": {"trap: swap": [30, 100], "same": [90, 100]}}]
    assert [bad for bad, _ in compare.traps(near, later)] == [True, False]
    old = {"same": ["retries"], "found": {"peer 1.0 Cache": {"model": False, "retries": True}}}
    new = {"same": ["retries"], "found": {"peer 1.1 Cache": {"model": True, "retries": False}}}
    assert [bad for bad, _ in compare.shared(old, new)] == [True, True]
    assert [bad for bad, _ in compare.shared(new, old)] == [False, False]


def test_results_are_compared_with_the_dated_ones_before(tmp_path: Path) -> None:
    compare = module("compare_results")

    def tiers(date: str, p10: float) -> dict[str, Any]:
        rows = [{"cache": "c", "tier": "exact hit", "p10": p10, "cpu": 10.0}]
        return {"conditions": {"date": date}, "rows": rows}

    (tmp_path / "tiers.json").write_text(json.dumps(tiers("2026-11-28", 30.0)))
    for date, p10 in (("2026-11-14", 99.0), ("2026-11-21", 20.0), ("2026-11-28", 30.0)):
        (tmp_path / f"{date}.json").write_text(json.dumps({"tiers": tiers(date, p10)}))
    old = compare.last(tmp_path)
    assert old.name == "2026-11-21.json"
    found = compare.told(compare.results(old), compare.results(tmp_path), 1.15)
    assert found == [(True, "tiers: c, exact hit: p10 20.0 -> 30.0 (1.50 x)")]


def test_only_what_became_worse_of_ours_is_an_alarm() -> None:
    alarming = module("compare_results").alarming
    assert alarming([(True, "tiers: TieredCache, redis, exact hit: p10 1.0 -> 2.0 (2.00 x)")])
    assert alarming([(True, "identity: ours: model: now shared")])
    assert not alarming([(False, "tiers: TieredCache, redis, exact hit: p10 2.0 -> 1.0 (0.50 x)")])
    assert not alarming([(True, "tiers: RedisVL SemanticCache, exact hit: p10 1 -> 2 (2.00 x)")])


def test_more_a_second_is_better() -> None:
    old, new = ({"rows": [{"cache": "c", "callers": 8, "rate": rate}]} for rate in (100.0, 200.0))
    assert [bad for bad, _ in module("compare_results").timed("throughput", old, new, 1.15)] == [
        False
    ]


PEER_2 = row(400, 8, cache="peer", setting="best")


@pytest.mark.parametrize(
    ("ours", "others", "met"),
    [
        (row(450, 9), [PEER_2, row(900, 300)], True),
        (row(400, 8), [PEER_2], True),
        (row(390, 7), [PEER_2], False),  # fewer right answers than one that keeps 2 %
        (row(500, 11), [PEER_2], False),  # above 2 % where another is not
        (row(500, 11), [row(0, 0), row(600, 60)], True),  # no hits are no merit
        (row(500, 60), [row(300, 18)], False),  # significantly more wrong than one with 60 %
        (row(500, 60), [row(200, 5)], True),  # than one that serves less than half as much
        (row(50, 6), [row(45, 3)], True),  # more, but not significantly
    ],
)
def test_the_first_bar_is_computed_as_it_is_worded(
    ours: dict[str, Any], others: list[dict[str, Any]], met: bool
) -> None:
    assert (module("quality_report").first_bar(ours, others) == "") is met


def test_the_first_bar_is_told_by_stream_and_in_the_table_of_bars() -> None:
    report, ours = module("quality_report"), "TieredCache, default"
    rows = [
        row(450, 9, cache=ours),
        PEER_2,
        row(100, 1, cache=ours, stream="t"),
        row(200, 1, stream="t"),
    ]
    found = report.first_bars(rows)
    assert found["s"] == {ours: ""}
    assert found["t"] == {ours: "99 right answers, c has 199"}
    line = next(iter(module("report").judged(rows)))
    assert line[1:3] == ("all 2", "1, not on t")
    assert line[-1] == "**missed**"


def test_a_wrong_answer_costs_what_it_is_worth_to_the_reader() -> None:
    report = module("quality_report")
    caches = {"daring": (0.45, 0.05), "careful": (0.2, 0.0), "dull": (0.1, 0.0)}
    head, body = report.money(caches, [0.0, 10.0], 0.01)
    by = dict(zip(head, zip(*body, strict=True), strict=True))
    free = dict(zip(by["cache"], by["a wrong answer at $0"], strict=True))
    dear = dict(zip(by["cache"], by["a wrong answer at $10"], strict=True))
    assert free == {"daring": "**5.00**", "careful": "2.00", "dull": "1.00"}
    assert dear == {"daring": "-495.00", "careful": "**2.00**", "dull": "1.00"}


def test_the_cheapest_cache_at_a_price_is_the_one_that_saves_the_most_there() -> None:
    report, rng = module("quality_report"), random.Random(3)
    for _ in range(200):
        caches = {f"c{i}": (rng.random() / 2, rng.random() / 3) for i in range(6)}
        found = report.cheapest(caches, 0.01)
        assert [start for start, _ in found] == sorted({start for start, _ in found})
        ends = [*(start for start, _ in found[1:]), found[-1][0] + 1]
        for (start, name), end in zip(found, ends, strict=True):
            price = (start + end) / 2
            most = max(caches | {"no cache": (0.0, 0.0)}, key=lambda one: report.saved(
                (caches | {"no cache": (0.0, 0.0)})[one], price))  # fmt: skip
            assert most == name


def test_the_bars_that_a_benchmark_prints_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = module("report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    bar = module("lookups").Bar
    printed = [bar("memory hit", 26.0, 25, 27, "us", most=28), bar("a / b", 1, 1, 1, "x", least=2)]
    (tmp_path / "lookups.txt").write_text("\n".join(map(str, printed)))
    line = "ours hit                   p10     357  p50     489 us  0.95 x  1.0 HGETALL"
    (tmp_path / "redis_lookups.txt").write_text(f"{line}\nours exact   p10 1 p50 2 us 1.4 x\n")
    met, slow, machinery = (one for one in report.bars({}) if ".py: " in one)
    assert "memory hit | at most 28 us |" in met
    assert met.endswith("| met |")
    assert slow.endswith("| **missed** |")
    assert "at most 0.9 | 0.95 |" in machinery
    assert machinery.endswith("| **missed** |")


def test_the_numbers_of_the_readme_are_those_of_the_results() -> None:
    readme, load = module("readme_numbers"), module("rounds").load
    found = {name: load(name) for name in ("quality", "identity", "tiers")}
    assert readme.block(found) in readme.README.read_text()


def test_the_readme_says_how_many_times_as_long_a_peer_takes() -> None:
    def row(cache: str, tier: str, p10: float) -> dict[str, Any]:
        return {"cache": cache, "tier": tier, "p10": p10}

    readme = module("readme_numbers")
    rows = [row("TieredCache, redis", "semantic hit", 5000.0)]
    rows += [row("RedisVL SemanticCache", "semantic hit", 12_500.0)]
    rows += [row(name, "exact hit", 80.0) for name in set(readme.EXACT.values())]
    rows += [row("langchain-redis RedisCache", "exact hit", 60.0)]
    rows += [row("RedisVL SemanticCache", "exact hit", 9.0)]
    tiers = {"rows": rows}
    semantic = readme.hits(tiers, "semantic hit", {"": "TieredCache, redis"}, "")
    assert semantic[1:] == ("5.0 ms", "RedisVL 2.5 times as long")
    exact = readme.hits(tiers, "exact hit", readme.EXACT, "")
    assert exact[1:] == ("0.08 and 0.08 ms", "langchain-redis 0.8 times as long")
