"""The notebooks: their data, that .py and .ipynb are in step, and what they show when they run."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbclient")

import nbformat

from notebooks.execute import SOURCES, read, run
from notebooks.questions import (
    Question,
    labelled_pairs,
    log_of_requests,
    public_set,
    stream,
    written,
)

MAX_BYTES = 200_000

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|tornado|jupyter).*")

FACTS = {
    "01_quickstart_langchain": "dict(by_tier=stats.hits_by_tier, "
    "again=taken_back.response_metadata['tiered_cache']['hit'], "
    "varied=varied.response_metadata['tiered_cache']['hit'])",
    "02_threshold_tuning": "dict(threshold=guarded.threshold, error=guarded.point.error, "
    "upper=guarded.point.interval[1], refused=refused.threshold, "
    "objects=[objects[~same].mean(), objects[same].mean()], "
    "f1=np.mean(found['best F1'], axis=0)[1], "
    "tuned=np.mean(found['tune, 5 % per hit'], axis=0)[1])",
    "03_adaptive_thresholds": "dict(runs={n: [int((r != 0).sum()), int((r < 0).sum())] "
    "for n, r in runs.items()}, after={n: [int((r[1600:] != 0).sum()), int((r[1600:] < 0).sum())]"
    " for n, r in drifted.items()}, third=[*said])",
    "04_scope_and_guards": "dict(outcomes=[*outcomes.values()], near_dropped=["
    "int(np.sum(near & ~same & drops)), int(np.sum(near & ~same))])",
    "05_your_own_data": "dict(calls=len(calls), labels=len(labels), threshold=found.threshold, "
    "wrong=found.point.interval[1], strict=strict.threshold, agree=[agree, both_know], "
    "tier=mark['tier'], saved=a_day(found.point))",
    "06_llamaindex_quickstart": "dict(served=served, over=over_documents, taken=taken_back, "
    "hits=stats.hits)",
}
"""What the test below wants to know of each, as an expression over its names."""


def q(text: str, group: int) -> Question:
    return Question(text, group, f"answer {group}")


def test_the_written_questions_are_151_groups_of_four_wordings() -> None:
    questions = written()
    assert Counter(Counter(one.group for one in questions).values()) == {4: 151}
    assert len({one.text for one in questions}) == len(questions) == 604
    assert len({(one.group, one.answer) for one in questions}) == 151
    assert len({one.answer for one in questions}) == 151


def test_pairs_are_the_wordings_of_a_group_and_the_nearest_of_another() -> None:
    questions = [q("a", 0), q("b", 0), q("c", 1)]
    vectors = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    pairs = labelled_pairs(questions, vectors)
    assert pairs == [("a", "b", True), ("a", "c", False), ("b", "c", False), ("c", "b", False)]


def test_a_log_holds_each_request_against_the_nearest_before_it() -> None:
    questions = [q("a", 0), q("b", 1), q("c", 0)]
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    assert log_of_requests(questions, vectors) == [("b", "a", False), ("c", "a", True)]


def test_a_stream_has_no_wording_twice_and_is_the_same_for_the_same_seed() -> None:
    requests = stream(written(), 1500, seed=3)
    assert len({one.text for one in requests}) == len(requests) == 1500
    assert requests == stream(written(), 1500, seed=3)
    assert requests != stream(written(), 1500, seed=4)
    groups = {one.text: one.group for one in written()}
    assert all(groups[one.text] == one.group for one in requests if one.text in groups)


def test_a_public_set_is_read_by_folder_and_name(tmp_path: Path) -> None:
    rows = [
        {"t": "how?", "c": "way"},
        {"t": "why?", "c": "cause"},
        {"t": "in which way?", "c": "way"},
    ]
    with gzip.open(tmp_path / "small.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    questions = public_set(tmp_path, "small")
    assert [one.text for one in questions] == ["how?", "why?", "in which way?"]
    assert [one.group for one in questions] == [0, 1, 0]
    assert questions[0].answer == questions[2].answer != questions[1].answer


def test_there_are_no_other_notebooks() -> None:
    assert [source.stem for source in SOURCES] == list(FACTS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_in_step_with_its_source(source: Path) -> None:
    kept = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    cells = [(cell.cell_type, cell.source) for cell in read(source).cells]
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == cells, "run `make notebooks`"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_kept_small_with_its_figures_and_without_errors(source: Path) -> None:
    path = source.with_suffix(".ipynb")
    kept = nbformat.read(path, as_version=4)
    outputs = [output for cell in kept.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert complaints(outputs) == []
    assert path.stat().st_size < MAX_BYTES
    assert not re.search(r"/(?:home|tmp|work|Users)/", path.read_text())


def complaints(outputs: list[Any]) -> list[str]:
    """Return what was raised or written to stderr."""
    raised = [output.ename for output in outputs if output.output_type == "error"]
    return raised + [output.text for output in outputs if output.get("name") == "stderr"]


@pytest.fixture(scope="module")
def facts_of() -> Any:
    """Run a notebook from its source and return the facts of it."""

    def facts(name: str) -> dict[str, Any]:
        notebook = read(next(source for source in SOURCES if source.stem == name))
        asked = f"import json; print(json.dumps({FACTS[name]}, default=float))"
        notebook.cells.append(nbformat.v4.new_code_cell(asked))
        run(notebook)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert complaints(outputs) == []
        found: dict[str, Any] = json.loads(outputs[-1].text)
        return found

    return facts


@pytest.mark.slow
@pytest.mark.model
def test_the_quickstart_serves_both_tiers_and_no_answer_that_was_taken_back(facts_of: Any) -> None:
    facts = facts_of("01_quickstart_langchain")
    assert facts["by_tier"]["exact"] > 30
    assert facts["by_tier"]["semantic"] > 10
    assert facts["again"] is False
    assert facts["varied"] is False


@pytest.mark.slow
@pytest.mark.model
def test_tuning_keeps_its_target_or_names_no_threshold(facts_of: Any) -> None:
    facts = facts_of("02_threshold_tuning")
    assert facts["threshold"] is not None
    assert facts["error"] < 0.05
    assert facts["tuned"] < 0.05 < facts["f1"]
    assert facts["refused"] is None
    assert facts["objects"][0] > 2 * facts["objects"][1]


@pytest.mark.slow
@pytest.mark.model
def test_verified_keeps_its_bound_and_stops_serving_what_changed(facts_of: Any) -> None:
    facts = facts_of("03_adaptive_thresholds")
    for name, bound in (("Verified(0.05)", 0.05), ("Verified(0.02), default", 0.02)):
        hits, wrong = facts["runs"][name]
        assert hits > 600
        assert wrong <= bound * hits
    after = facts["after"]  # 400 requests after half of the answers changed
    assert after["Static(0.92)"][1] > 150
    assert after["Verified(0.05)"][1] < 20
    hits, wrong = after["Verified(0.05), and a bump"]
    assert hits > 3 * after["Verified(0.05)"][0]
    assert wrong < 0.1 * hits
    assert facts["third"] == ["semantic", "semantic", "audit", "exact"]


@pytest.mark.slow
@pytest.mark.model
def test_a_system_prompt_changes_no_hit_and_ruins_a_cache_that_embeds_it(facts_of: Any) -> None:
    facts = facts_of("04_scope_and_guards")
    *of_json, without, behind = facts["outcomes"]
    assert of_json[-1][1] > 0.9 * sum(of_json[-1])
    assert without == behind
    assert without[0] > 5 * without[1]
    dropped, near = facts["near_dropped"]
    assert dropped > 0.6 * near


@pytest.mark.slow
@pytest.mark.model
def test_own_data_becomes_a_policy_that_serves(facts_of: Any) -> None:
    facts = facts_of("05_your_own_data")
    assert (facts["calls"], facts["tier"]) == (1000, "semantic")
    assert facts["labels"] > 400
    assert facts["threshold"] < 0.9
    assert facts["wrong"] < 0.06
    assert facts["strict"] is None
    agree, both_know = facts["agree"]
    assert agree > 0.98 * both_know > 350
    dollars, wrong = facts["saved"]
    assert dollars > 0.5
    assert wrong < 200


@pytest.mark.slow
@pytest.mark.model
def test_llamaindex_hits_and_a_changed_document_does_not(facts_of: Any) -> None:
    facts = facts_of("06_llamaindex_quickstart")
    assert facts["served"][1:3] == ["exact", "semantic"]
    assert facts["served"][4] == "model (guard)"
    assert facts["over"] == ["model (new_scope)", "exact"] * 2
    assert facts["taken"].startswith("model")
    assert facts["hits"] >= 9


def test_labels_are_kept_and_found_again_by_keys_and_by_what_is_known(tmp_path: Path) -> None:
    from notebooks.labelling import Labels
    from shared_core.learning import LoggedCall, LoggedPair

    def call(text: str) -> LoggedCall:
        return LoggedCall(1, "", ({"role": "user", "content": text},))

    pairs = [LoggedPair(call(f"q {n}"), call(f"c {n}"), 0.9) for n in range(4)]
    file = tmp_path / "labels.csv"
    labels = Labels(pairs, file)
    widget = labels.widget()
    key = widget.children[2].children[0]
    for letter in ("y", "x", "s", "N"):
        key.value = letter
        assert key.value == ""
    assert labels == {("q 0", "c 0"): True, ("q 2", "c 2"): False}
    assert "q 3" in widget.children[1].value
    again = Labels(pairs, file)
    assert again == labels
    again.fill(lambda text: text[-1] if "3" in text else None)
    assert Labels(pairs, file)["q 3", "c 3"] is True
    assert [pair.questions[0] for pair in again.open()] == ["q 1"]
