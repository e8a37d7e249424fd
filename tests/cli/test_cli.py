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


def test_tune_as_json_has_the_curve(labelled: Path) -> None:
    code, output = run("tune", labelled, "--json")
    body = json.loads(output)
    assert (code, body["threshold"], body["rows"]) == (0, 0.71, 400)
    assert {"threshold", "served", "wrong", "hit_rate", "error", "interval"} <= body["curve"][
        0
    ].keys()
    assert "log" not in body


def test_pairs_that_nobody_has_labelled_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    rows = [f"q {n},c {n},{'true' if n % 2 else ''},0.9" for n in range(20)]
    file.write_text("\n".join(["question,cached,same,similarity", *rows]))
    code, output = run("tune", file, "--json")
    assert (code, json.loads(output)["rows"]) == (1, 10)
    file.write_text("question,cached,same,similarity\na,b,,0.9\n")
    code, output = run("tune", file)
    assert code == 1
    assert "tiered-cache review asks for the labels" in output.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "{log}", "--prior"], "--prior is for --export"),
        (["tune", "{pairs}", "--pairs", "x.csv"], "this file holds pairs already"),
        (["tune", "{none}"], "cannot be read"),
        (["tune", "{empty}"], "holds no call of a model"),
        (["warm", "{none}", "sqlite:///{folder}/a.db"], "cannot be read"),
        (["warm", "{log}", "memory://"], "name a file or a server"),
        (["learn", "sqlite:///{folder}/a.db", "{none}"], "cannot be read"),
        (["learn", "nonsense"], "not understood"),
        (["inspect", "memory://", "why?"], "lives inside the app"),
        (["inspect", "sqlite:///{folder}/a.db", "why?"], "there is no file"),
        (["review", "sqlite:///{folder}/a.db"], "there is no file"),
        (["review", "{none}"], "cannot be read"),
        (["review", "{log}"], "it must name question, cached and same"),
        (["key", "ann", "--role", "boss"], "role"),
    ],
)
def test_errors_come_before_anything_is_done_or_shown(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    places = {name: tmp_path / f"{name}.csv" for name in ("log", "pairs", "none", "empty")}
    places["log"].write_text("question,answer\na,b\n")
    places["pairs"].write_text("question,cached,same\na,b,true\n")
    places["empty"].write_text("question\n")
    asked = [one.format(folder=tmp_path, **places) for one in arguments]
    code, output = run(*asked)
    assert code == 1
    assert message in output.replace("\n", " ")
    assert "%|" not in output, "no bar was begun"
    assert not (tmp_path / "a.db").exists()


def test_doctor_and_key_as_json(answers: str) -> None:
    code, output = run("doctor", answers, "--json")
    findings = json.loads(output)
    assert code == any(one["level"] == "missing" for one in findings)
    assert all(one.keys() == {"level", "text", "remedy"} for one in findings)
    assert any(one["text"].startswith("advice: ") for one in findings)
    code, output = run("key", "ann", "--json")
    assert (code, json.loads(output).keys()) == (0, {"key", "line"})


def test_warm_as_json_counts_what_became_of_the_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [
        {"run_type": "llm", "inputs": {"question": "q"}, "outputs": {"answer": "a"}},
        {"run_type": "tool", "inputs": {}, "outputs": {}},
        {"run_type": "llm", "outputs": {}},
    ]
    log.write_text("\n".join(map(json.dumps, rows)))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    ran = CliRunner().invoke(app, ["warm", str(log), url, "--model", "m", "--exact", "--json"])
    body = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert {name: body[name] for name in ("rows", "stored", "bad", "other")} == {
        "rows": 3, "stored": 1, "bad": 1, "other": 1
    }  # fmt: skip
    assert "line 3: it has no 'inputs'" in ran.stderr
    assert "1 lines passed over: a run of type tool" in ran.stderr


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
    code, output = run("learn", url, "--json")
    assert (code, json.loads(output)) == (0, {"labels": 0, "labels_in_all": 2, "stored": 0})
    log = tmp_path / "log.csv"
    log.write_text("question,answer,model\nCan I reset my password?,Use the link.,m\n")
    code, output = run("learn", url, log, "--json")
    assert (code, json.loads(output)["stored"]) == (0, 1)


@pytest.mark.model
def test_tune_reads_a_log_and_review_labels_its_pairs(
    tmp_path: Path, model_embedder: object
) -> None:
    log, pairs = tmp_path / "log.jsonl", tmp_path / "pairs.csv"
    asked = ["How do I reset my {}?", "How can I reset my {}?", "How do I reset my {}?"]
    things = ("password", "router", "phone", "watch")
    rows = [
        {
            "messages": [{"role": "user", "content": one.format(thing)}],
            "model": "m",
            "response": f"See the page on {thing}s.",
        }
        for one in asked
        for thing in things
    ]  # fmt: skip
    rows[4]["response"] = "Ask at the desk, they know; it takes long."
    log.write_text("\n".join(map(json.dumps, rows)))
    code, output = run("tune", log, "--pairs", pairs)
    assert code == 1
    assert "12 calls: 4 exact repeats, 7 with an earlier question in their scope, 1 with" in output
    body = json.loads(CliRunner().invoke(app, ["tune", str(log), "--json"]).stdout)
    assert body["log"]["pairs"] == 7
    known = pairs.read_text().count(",true,") + pairs.read_text().count(",false,")
    ran = CliRunner().invoke(app, ["review", str(pairs), "--json"], input="y\n" * 7)
    told = json.loads(ran.stdout)
    assert (told["right"], told["left"]) == (7 - known, 0)
    assert json.loads(run("tune", pairs, "--json")[1])["rows"] == 7


COMMANDS = ("demo", "doctor", "inspect", "key", "learn", "review", "stats", "tune", "warm")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_says_what_is_in_it(command: str) -> None:
    code, output = run(command, "--help")
    assert code == 0
    assert "--json" in output
    assert "--json: " in output


def test_there_are_no_other_commands() -> None:
    names = {one.callback.__name__ for one in app.registered_commands if one.callback}
    assert names == {*COMMANDS, "serve"}


@pytest.mark.slow
@pytest.mark.model
def test_every_command_runs_as_a_process(tmp_path: Path, model_embedder: object) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    log = tmp_path / "log.csv"
    log.write_text(
        "question,answer,model\nHow do I pay?,By card or by invoice.,m\n"
        "How can I pay?,By card or by invoice.,m\n"
    )
    for arguments, code, key in (
        (["warm", log, url], 0, "stored"),
        (["learn", url], 0, "labels"),
        (["inspect", url, "How do I pay?"], 0, "outcome"),
        (["review", url], 0, "left"),
        (["stats", url], 0, "lookups"),
        (["doctor", url], None, None),
        (["key", "ann"], 0, "key"),
        (["tune", log], 1, "verdict"),
    ):
        command = [sys.executable, "-m", "shared_core.cli", *map(str, arguments), "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, input="s\ns\n")
        assert "Traceback" not in ran.stderr, arguments
        body = json.loads(ran.stdout)
        assert code in (None, ran.returncode), (arguments, ran.stderr)
        assert key is None or key in body
