"""A threshold from labels: the lowest that is shown to keep the bound, or a refusal that helps."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_core import Answer, Feedback, Static, Verified, policy_from_json, policy_to_json, tune
from shared_core.learning import LoggedCall, Neighbours, Tuning, neighbours_of, read_rows
from shared_core.learning.tuning import lowest, rows_of, tuning_lines
from shared_core.thresholds.bounds import Pool, interval
from shared_core.thresholds.verified import FEATURES, Prior, cold
from tests.fakes import FakeEmbedder, fake_embed


def log(*parts: tuple[float, int, int]) -> list[dict[str, Any]]:
    """Return rows of (similarity, right ones, wrong ones)."""
    return [
        {"similarity": similarity, "same": same}
        for similarity, right, wrong in parts
        for same in [True] * right + [False] * wrong
    ]


# ---------------------------------------------------------------------------------- threshold


def test_the_lowest_threshold_that_the_labels_support_is_chosen() -> None:
    found = tune(log((0.95, 200, 0), (0.85, 200, 1), (0.75, 100, 30)), max_error=0.02)
    assert found.threshold == 0.76
    assert found.policy() == Static(0.76)
    assert found.point is not None
    assert (found.point.served, found.point.wrong) == (401, 1)


def test_a_threshold_is_not_chosen_for_its_observed_share_alone() -> None:
    """5 of 300 is 1.7 %, but would happen with 3 % wrong in one of ten samples."""
    found = tune(log((0.95, 295, 5), (0.6, 0, 200)), max_error=0.02)
    assert found.threshold is None
    assert interval(5, 300)[1] > 0.03


def test_per_request_the_rows_without_a_hit_count() -> None:
    rows = log((0.95, 95, 5), (0.5, 0, 900))
    assert tune(rows, 0.02, per="hit").threshold is None
    found = tune(rows, 0.02, per="request")
    assert found.threshold == 0.51
    assert found.point is not None
    assert found.point.error == pytest.approx(0.005)
    assert found.point.interval == interval(5, 1000)


def test_a_request_without_a_candidate_is_a_request() -> None:
    rows: list[dict[str, Any]] = [*log((0.95, 95, 5)), *[{"same": None}] * 900]
    found = tune(rows, 0.02, per="request")
    assert found.threshold is not None
    assert len(found.rows) == 1000
    assert found.barred == 0
    assert tune(log((0.95, 95, 5)), 0.02, per="request").threshold is None


def test_the_curve_is_what_the_labels_say() -> None:
    found = tune(log((0.95, 60, 0), (0.85, 30, 10)), max_error=0.1)
    at = {point.threshold: point for point in found.curve}
    assert max(at) == 0.95
    assert (at[0.9].hit_rate, at[0.9].precision, at[0.9].error) == (0.6, 1.0, 0.0)
    assert at[0.9].recall == pytest.approx(60 / 90)
    assert (at[0.8].hit_rate, at[0.8].precision, at[0.8].recall) == (1.0, 0.9, 1.0)
    assert at[0.8].interval == interval(10, 100)


@pytest.mark.slow
def test_the_choice_is_wrong_no_oftener_than_it_says() -> None:
    """Draws logs whose true error rises slowly as the threshold falls, and looks at the choices."""
    rng, broken, chosen, runs = random.Random(5), 0, 0, 60
    for _ in range(runs):
        rows = []
        for _ in range(800):
            similarity = rng.uniform(0.5, 1.0)
            rows.append({"similarity": similarity, "same": rng.random() > (1 - similarity) / 4})
        threshold = tune(rows, 0.05, confidence=0.8).threshold
        if threshold is not None:
            chosen += 1
            broken += (1 - threshold) / 8 > 0.05  # the mean error from the threshold to 1
    assert chosen > 0.9 * runs
    assert 0 < broken <= 0.2 * runs + 2 * math.sqrt(0.2 * 0.8 * runs)


def test_after_a_pool_that_failed_the_test_begins_anew_once_at_a_much_larger_one() -> None:
    failed = Pool(0.95, 200, 10, 1.0)
    fine, finer = Pool(0.9, 500, 1, 1.0), Pool(0.8, 800, 4, 1.0)
    assert lowest([Pool(0.95, 200, 0, 1.0), fine], 0.02, 0.95) == fine
    assert lowest([failed, fine], 0.02, 0.95) is None
    assert lowest([failed, fine, finer], 0.02, 0.95) == finer
    assert lowest([failed, Pool(0.9, 800, 40, 1.0), Pool(0.8, 9000, 5, 1.0)], 0.02, 0.95) is None


# ------------------------------------------------------------------------------------ refusal


def test_too_few_labels_are_refused_with_how_many_more_would_do() -> None:
    found = tune(log((0.95, 50, 0), (0.6, 10, 40)), max_error=0.02)
    assert found.threshold is None
    assert "0 of 50 are wrong at or above 0.95" in found.verdict
    more = int(found.verdict.partition("about ")[2].partition(" more")[0].replace(",", ""))
    enough = 1 + (100 + more) / 100
    again = log((0.95, round(50 * enough), 0), (0.6, round(10 * enough), round(40 * enough)))
    assert tune(again, max_error=0.02).threshold is not None
    with pytest.raises(ValueError, match="too few labels"):
        found.policy()


def test_labels_that_are_wrong_too_often_are_refused_and_no_more_are_asked_for() -> None:
    found = tune(log((0.95, 80, 20), (0.6, 10, 40)), max_error=0.02)
    assert found.threshold is None
    assert "do not help" in found.verdict
    assert "20 of 100 are wrong at or above 0.95" in found.verdict


def test_rows_that_can_never_be_served_are_refused() -> None:
    found = tune([("Is 5 odd?", "Is 6 odd?", False)], embedder=fake_embed)
    assert (found.threshold, found.barred, found.curve) == (None, 1, ())
    assert "no row could be served" in found.verdict


# --------------------------------------------------------------------------------------- rows


QUESTIONS = [
    ("how do I return a book", "how do I return a book please", True),
    ("how do I return a book", "where is the printer of the hall", False),
]


def test_pairs_are_held_against_each_other_as_the_cache_would() -> None:
    found = tune(QUESTIONS, 0.5, embedder=fake_embed, confidence=0.5)
    near = float(fake_embed([QUESTIONS[0][0]])[0] @ fake_embed([QUESTIONS[0][1]])[0])
    assert found.curve[0].threshold == math.floor(near * 100) / 100
    assert found.curve[0].served == 1
    assert found.embedder.startswith("fake_embed@")


@pytest.mark.parametrize(
    "barred",
    [
        ("Flights on May 3", "Flights on May 4", False),
        ("what is the weather today", "what is the weather like today", True),
        ("word " * 60 + "one", "word " * 60 + "two", True),
    ],
)
def test_what_the_cache_would_not_match_is_served_at_no_threshold(
    barred: tuple[str, str, bool],
) -> None:
    found = tune([*QUESTIONS, barred], 0.5, embedder=FakeEmbedder(max_tokens=32))
    assert found.barred == 1
    assert max(point.served for point in found.curve) <= 2


def test_without_the_guard_its_differences_are_served() -> None:
    rows = [("Flights on May 3", "Flights on May 4", False)]
    assert tune(rows, embedder=fake_embed, guard=False).barred == 0


def test_repeats_and_exact_repeats_do_not_count_as_more_labels() -> None:
    rows = rows_of([*QUESTIONS, *QUESTIONS, ("same text", "same text", True)])
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no labelled rows"),
        ([("a", "b")], "row 1 has 2 items"),
        (["a b true"], "row 1 is 'a b true'"),
        ([{"question": "a", "cached": "b"}], "row 1 has no 'same'"),
        ([{"similarity": 0.9, "same": "maybe"}], "same is 'maybe'; give true, false"),
        ([{"similarity": 1.5, "same": True}], "similarity is 1.5; give a cosine"),
        ([{"similarity": "near", "same": True}], "similarity is 'near'"),
        ([("a", "", True)], "row 1 has neither two questions nor a similarity"),
        ([(1, "b", True)], "must be texts"),
        ([*QUESTIONS, (*QUESTIONS[0][:2], False)], "row 3 contradicts row 1"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune(rows, embedder=fake_embed)


@pytest.mark.parametrize(
    "options",
    [{"max_error": 0}, {"max_error": 1}, {"per": "user"}, {"confidence": 1}, {"confidence": 0}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        tune(log((0.9, 5, 0)), **options)


@pytest.mark.parametrize(
    ("far", "safer"), [(0.7, "0.71 and 0.95"), (0.84, "0.85 and 0.95"), (0.945, None)]
)
def test_the_highest_threshold_that_serves_the_same_rows_is_named(
    far: float, safer: str | None
) -> None:
    found = tune(
        [{"similarity": 0.955, "same": True}] * 300 + [{"similarity": far, "same": False}] * 99
    )
    said = [line for line in tuning_lines(found) if line.startswith("no row lies between")]
    assert [safer in line for line in said] == [True] * (safer is not None), said


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from(["hit", "request"]),
)
def test_any_log_has_an_answer_and_a_curve_that_grows(
    rows: list[tuple[float, bool]], per: Any
) -> None:
    found = tune([{"similarity": s, "same": same} for s, same in rows], 0.3, per, confidence=0.6)
    assert (found.threshold is None) == (found.point is None)
    served = [point.served for point in found.curve]
    assert served == sorted(served)
    assert all(0 <= p.interval[0] <= p.error <= p.interval[1] <= 1 for p in found.curve)
    assert list(tuning_lines(found))[-1] == found.verdict


# -------------------------------------------------------------------------------------- files


def test_files_of_both_kinds_hold_the_same_rows(tmp_path: Path) -> None:
    lined, tabled = tmp_path / "pairs.jsonl", tmp_path / "pairs.csv"
    named = [dict(zip(("question", "cached", "same"), row, strict=True)) for row in QUESTIONS]
    lined.write_text("\n".join([json.dumps(named[0]), "", json.dumps(QUESTIONS[1])]))
    tabled.write_text(
        "same,cached,question,who\n"
        + "\n".join(f'{same},"{cached}",{asked},ann' for asked, cached, same in QUESTIONS)
    )
    assert read_rows(lined) == read_rows(tabled) == rows_of(QUESTIONS)


def test_a_csv_of_a_log_needs_no_questions(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("similarity,same\n0.91,yes\n0.8,0\n,\n")
    assert [(row.similarity, row.same) for row in read_rows(file)] == [
        (0.91, True),
        (0.8, False),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"similarity": 0.9, "same": true}\n{"same": tru}', r"line 2 is no JSON"),
        ("a.jsonl", '\n\n{"similarity": 0.9}', r"line 3 has no 'same'"),
        ("a.jsonl", "", "holds no labelled row"),
        ("a.csv", "question,answer\na,b\n", "line 1 names question, answer; a first line must"),
        ("a.csv", "similarity,same\n0.9,true\n0.8,perhaps\n", "line 3: same is 'perhaps'"),
        ("b.csv", "", "line 1 names nothing"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_what_to_do(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name)


def test_a_file_that_is_not_there_or_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "raw.csv").write_bytes(b"\xff\xfe\x00question")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        read_rows(tmp_path / "raw.csv")


# ------------------------------------------------------------------------------ prior, policy


THINGS = ("book", "printer", "parcel", "invoice", "laptop", "ticket", "garden", "kitchen")
ASKS = ("return a", "repair the", "insure my", "sell an old")


def pairs() -> list[tuple[str, str, bool]]:
    """Return questions of a few forms, where the thing and the deed tell who is the same."""
    rows = []
    for deed in ASKS:
        for thing, other in zip(THINGS, THINGS[1:] + THINGS[:1], strict=True):
            rows.append((f"how do I {deed} {thing}", f"please tell how to {deed} {thing}", True))
            rows.append((f"I want to {deed} {thing}", f"please tell how to {deed} {other}", False))
    return rows


def test_a_prior_is_fitted_to_pairs_and_speaks_for_near_and_against_far_ones() -> None:
    found = tune(pairs(), 0.05, embedder=fake_embed)
    prior = found.prior()
    assert prior.embedder == found.embedder
    policy = Verified(0.05, prior=prior)
    weights = dict(zip(FEATURES, prior.mean, strict=True))
    assert weights != dict(zip(FEATURES, cold().mean, strict=True))
    assert policy.initial_state().model.weights == pytest.approx(prior.mean)
    assert policy.for_embedder("another:8") is policy


def test_a_prior_is_refused_where_the_rows_say_too_little() -> None:
    with pytest.raises(ValueError, match="not similarities alone"):
        tune(log((0.9, 50, 50)), 0.05).prior()
    with pytest.raises(ValueError, match="at least 10 right and 10 wrong"):
        tune(pairs()[:12], 0.05, embedder=fake_embed).prior()


@pytest.mark.parametrize(
    "policy", [Static(0.87), Feedback(initial=0.93), Verified(0.03, "request", prior=cold())]
)
def test_a_policy_survives_its_json(policy: Any) -> None:
    again = policy_from_json(policy_to_json(policy, rows=12, verdict="fine"))
    assert again == policy
    assert type(again) is type(policy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "this is no policy"),
        ("[1]", "this is no policy"),
        ("nonsense", "Expecting value"),
        (policy_to_json(Static()).replace('"static"', '"best"'), "'best' is not known"),
        (policy_to_json(Static()).replace('"similarity"', '"distance"'), "not understood"),
        (policy_to_json(Static(0.9)).replace("0.9", "9"), "from 0 to 1"),
    ],
)
def test_what_is_no_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_from_json(text)


@pytest.mark.model
def test_on_real_embeddings_a_threshold_and_a_prior_are_found(model_embedder: Any) -> None:
    found: Tuning = tune(pairs(), 0.2, embedder=model_embedder, confidence=0.8)
    assert found.threshold is not None
    assert found.point is not None
    assert found.point.error <= 0.2
    assert found.embedder == "all-MiniLM-L6-v2"
    assert isinstance(found.prior(), Prior)


# --------------------------------------------------------------------------- pairs that a log holds


def logged(question: str, answer: str | None = None, **more: Any) -> LoggedCall:
    system = more.pop("system", "shop")
    messages = ({"role": "system", "content": system}, {"role": "user", "content": question})
    told = None if answer is None else Answer(answer)
    return LoggedCall(1, "", messages, told, more.pop("model", "m"), **more)


def neighbours(*calls: LoggedCall, **options: Any) -> Neighbours:
    return neighbours_of(calls, fake_embed, **{"judge": False, **options})


def test_every_call_of_a_log_is_accounted_for() -> None:
    found = neighbours(
        logged("how do I pay"),
        logged("how do I pay please"),
        logged("how do I pay"),
        logged("what is new today"),
        logged("how do I pay", params={"temperature": 1}),
        logged("how do I pay", system="bank"),
        logged("how do I pay", model="n"),
        logged("Context: x\n\nQuestion: how do I pay?"),
        logged("wie kann ich hier bitte bezahlen und womit"),
    )
    assert [pair.questions for pair in found.pairs] == [("how do I pay please", "how do I pay")]
    assert (found.repeats, found.alone, found.calls) == (1, 3, 9)
    assert found.unmatched == {"time": 1, "temperature": 1, "template": 1, "language": 1}


def test_a_pair_is_the_nearest_before_it_to_which_the_guard_does_not_object() -> None:
    calls = [
        logged("can I return a book of 2024", time=3.0),
        logged("how do I return a book", time=1.0),
        logged("can I return a book of 2025", time=4.0),
        logged("may I return books", time=2.0),
        logged(
            "hello hello please do tell me whether I can return a book of 2025 thanks", time=2.5
        ),
    ]
    pairs = {pair.questions: pair for pair in neighbours(*calls).pairs}
    asked = "can I return a book of 2025"
    ((_, cached),) = [both for both in pairs if both[0] == asked]
    assert cached == "hello hello please do tell me whether I can return a book of 2025 thanks"
    assert [both[1] for both in pairs if both[0] == "may I return books"] == [
        "how do I return a book"
    ]
    bare = [pair for pair in neighbours(*calls, guard=False).pairs if pair.questions[0] == asked]
    assert bare[0].questions[1] == "can I return a book of 2024"
    assert bare[0].similarity > pairs[asked, cached].similarity
    assert bare[0].differences == ()


def test_a_judge_tells_what_it_can_and_labels_go_before_it(tmp_path: Path) -> None:
    answers = ("By card.", "By card.", "Never.", None)
    texts = ("how do I pay", "how do I pay please", "please how do I pay", "how can I pay")
    calls = [logged(text, answer) for text, answer in zip(texts, answers, strict=True)]
    found = neighbours(*calls, judge=lambda a, b: True if a.text == b.text else None)
    assert sorted(str(pair.same) for pair in found.pairs) == ["None", "None", "True"]
    assert [row.same for row in found.rows() if row.question] == [True]
    unsure = next(pair for pair in found.pairs if pair.same is None)
    rows = {
        (row.question, row.cached): row.same for row in found.rows({unsure.questions: False}, True)
    }
    assert rows[unsure.questions] is False
    assert sum(value is True for value in rows.values()) == 2
    assert rows["", ""] is None, "the first had no neighbour"
    found.write(tmp_path / "pairs.csv")
    kept = read_rows(tmp_path / "pairs.csv")
    assert [(row.question, row.cached, row.same) for row in kept] == [
        (row.question, row.cached, row.same) for row in found.rows() if row.question
    ]
    assert kept[0].similarity == pytest.approx(found.rows()[0].similarity, abs=1e-4)


WORDS = ("open", "lend", "paint", "carry", "clean")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(WORDS), st.sampled_from(WORDS)),
        max_size=30,
    )
)
def test_no_pair_crosses_a_scope_or_looks_ahead(asked: list[tuple[str, str, str]]) -> None:
    calls = [
        logged(f"how do I {verb} the {thing}", "yes", system=system, time=float(at))
        for at, (system, verb, thing) in enumerate(asked)
    ]
    found = neighbours(*random.Random(0).sample(calls, len(calls)))
    assert found.calls == len(calls)
    for pair in found.pairs:
        assert pair.asked.messages[0] == pair.cached.messages[0]
        assert (pair.cached.time or 0) < (pair.asked.time or 0)
        assert pair.questions[0] != pair.questions[1]
    distinct = {(call.messages[0]["content"], call.question) for call in calls}
    assert len(found.pairs) + found.alone == len(distinct)
    assert found.alone == len({system for system, _ in distinct})
