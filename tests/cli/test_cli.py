"""The commands ``learn``, ``stats`` and ``tune``: what they print, write, and how they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from shared_core import Answer, Request, ResponseCache, Static, Verified, policy_from_json
from shared_core.cli import app
from tests.core.test_stats import fill
from tests.house.test_imports import HEAVY
from tests.learning.test_tuning import log, pairs


def run(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, [str(one) for one in arguments])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


@pytest.fixture
def answers(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    fill(url, threshold=Verified(0.02))
    return url


def test_stats_prints_what_a_person_asks_first(answers: str) -> None:
    code, output = run("stats", answers)
    assert code == 0
    assert output.startswith("lookups            60\n")
    assert "of about" in output
    assert "verified: max_error 0.02, per hit" in output


def test_stats_as_json_is_one_object(answers: str) -> None:
    code, output = run("stats", answers, "--json")
    body = json.loads(output)
    assert (code, body["lookups"], body["policy"]["policy"]) == (0, 60, "verified")
    assert {"error_per_hit", "error_interval", "error_per_request", "shadow"} <= body.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memory://"], "call cache.stats() there"),
        (["sqlite:////no/such/answers.db"], "there is no file"),
        (["nonsense"], "not understood"),
    ],
)
def test_stats_of_nothing_says_why_and_fails(arguments: list[str], message: str) -> None:
    code, output = run("stats", *arguments)
    assert code == 1
    assert message in output
    assert "Traceback" not in output


def test_stats_of_another_tenant_are_not_shown(answers: str) -> None:
    code, output = run("stats", answers, "--namespace", "other")
    assert code == 1
    assert "nothing was counted in namespace 'other'" in output


def test_stats_loads_no_model(answers: str) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom shared_core.cli import app\n"
        f"assert CliRunner().invoke(app, ['stats', {answers!r}]).exit_code == 0\n"
        f"print(*set(sys.modules) & set({HEAVY!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, ""), ran.stderr


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    file = tmp_path / "log.jsonl"
    rows = log((0.95, 300, 0), (0.7, 50, 50))
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_tune_prints_the_curve_and_exports_a_policy(labelled: Path, tmp_path: Path) -> None:
    written = tmp_path / "policy.json"
    code, output = run("tune", labelled, "--max-error", "0.02", "--export", written)
    assert code == 0, output
    assert "<- lowest that is shown to do" in output
    assert "at or above 0.71, at most 2 % wrong per hit, with 95 % confidence" in output
    assert policy_from_json(written.read_text()) == Static(0.71)
    assert json.loads(written.read_text())["about"]["rows"] == 400


def test_tune_that_finds_nothing_fails_and_writes_nothing(labelled: Path, tmp_path: Path) -> None:
    written = tmp_path / "policy.json"
    code, output = run("tune", labelled, "--max-error", "0.001", "--export", written)
    assert code == 1
    assert "too few labels" in output
    assert not written.exists()
    assert run("tune", labelled, "--max-error", "0.001")[0] == 1


def test_tune_per_request_is_another_question(labelled: Path) -> None:
    assert "wrong per request" in run("tune", labelled, "--per", "request")[1]
    code, output = run("tune", labelled, "--per", "user")
    assert (code, "Verified(per)" in output) == (1, True)


def test_tune_names_the_line_and_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("question,cached,same\na,b,true\nc,d,perhaps\n")
    code, output = run("tune", file)
    assert code == 1
    assert f"{file}, line 3: same is 'perhaps'; give true, false" in output.replace("\n", " ")
    assert run("tune", tmp_path / "none.csv")[0] == 1
    assert run("tune", file, "--prior")[0] == 1


@pytest.mark.model
def test_tune_embeds_pairs_and_exports_a_prior(tmp_path: Path, model_embedder: object) -> None:
    file, written = tmp_path / "pairs.jsonl", tmp_path / "policy.json"
    file.write_text("\n".join(map(json.dumps, pairs())))
    code, output = run("tune", file, "--max-error", "0.1", "--export", written, "--prior")
    assert code == 0, output
    policy = policy_from_json(written.read_text())
    assert isinstance(policy, Verified)
    assert policy.prior is not None
    assert policy.prior.embedder == "all-MiniLM-L6-v2"


@pytest.mark.model
def test_learn_holds_the_answers_of_a_file_against_each_other(
    tmp_path: Path, model_embedder: object
) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    link, fee = Answer("Use the link in the mail that we sent."), Answer("Nothing at all.")
    with ResponseCache.open(url) as cache:
        for question, answer in (
            ("How do I reset my password?", link),
            ("How can I reset my password?", link),
            ("How can I reset my passport?", fee),
        ):
            cache.store(Request.of(question, model="m"), answer)
    assert run("learn", url) == (0, "2 labels, 2 in all\n")
    assert run("learn", url) == (0, "0 labels, 2 in all\n")
    assert run("learn", "nonsense")[0] == 1
