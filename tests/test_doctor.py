"""What the doctor finds, and the command line around it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from shared_core import ResponseCache, doctor
from shared_core.cli import app
from shared_core.doctor import Finding, examine


def about(findings: list[Finding], start: str) -> Finding:
    return next(finding for finding in findings if finding.text.startswith(start))


def test_a_package_that_is_absent_comes_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "usearch" else "9.9.9")
    found = about(examine(), "[ann]")
    assert (found.level, found.remedy) == ("absent", "pip install 'tiered-llm-cache[ann]'")


def test_a_langchain_with_a_known_hole_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.2.4")
    assert about(examine(), "langchain-core 1.2.4").level == "warning"


def test_without_sentence_transformers_the_semantic_tier_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = about(examine(), "semantic tier")
    assert found.level == "missing"
    assert found.remedy == "pip install 'tiered-llm-cache[embeddings,offline]'"


def test_the_demo_names_all_that_it_lacks_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    missing = doctor.missing_for_demo()
    assert missing is not None
    assert missing.remedy == "pip install 'tiered-llm-cache[embeddings,langchain,cli]'"


def test_a_file_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    assert about(examine(f"sqlite:///{path}"), "store").level == "ok"
    assert not path.exists()


def test_a_file_that_is_there_is_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'my answers.db'}"
    cache = ResponseCache.open(url, semantic=False)
    cache.get_or_compute("key", lambda: 1)
    cache.close()
    found = about(examine(url), "store: sqlite")
    assert found.level == "ok"
    assert "entries" in found.text


@pytest.mark.parametrize(
    "url", ["ftp://host", "nonsense", "sqlite:///no/such/folder/answers.db", "sqlite:///{file}"]
)
def test_a_store_that_cannot_be_used_is_missing(url: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, but a text of some length" * 50)
    found = about(examine(url.format(file=tmp_path / "text.db")), "store")
    assert found.level == "missing"


@pytest.mark.parametrize(
    ("environment", "url", "warned"),
    [
        ({"WEB_CONCURRENCY": "4"}, "memory://", True),
        ({"GUNICORN_CMD_ARGS": "--bind :80 --workers=3"}, "memory://", True),
        ({"GUNICORN_CMD_ARGS": "-w 3"}, "memory://", True),
        ({"WEB_CONCURRENCY": "1"}, "memory://", False),
        ({"WEB_CONCURRENCY": "many"}, "memory://", False),
        ({}, "memory://", False),
        ({"WEB_CONCURRENCY": "4"}, "sqlite:///answers.db", False),
    ],
)
def test_a_cache_per_worker_is_warned_of(
    environment: dict[str, str], url: str, warned: bool
) -> None:
    found = [one for one in examine(url, environment) if one.text.startswith("memory://")]
    assert [one.level for one in found] == ["warning"] * warned


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["doctor", f"sqlite:///{tmp_path}/nowhere/answers.db"])
    assert ran.exit_code == 1
    assert "there is no folder" in ran.output
    assert "mkdir -p" in ran.output


@pytest.mark.model
def test_the_command_finds_this_installation_in_order() -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    ran = CliRunner().invoke(app, ["doctor"])
    assert ran.exit_code == 0, ran.output
    assert "model: all-MiniLM-L6-v2" in ran.output


def test_the_demo_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    lack = Finding("missing", "the demo needs rich", "pip install 'tiered-llm-cache[cli]'")
    monkeypatch.setattr(doctor, "missing_for_demo", lambda: lack)
    ran = CliRunner().invoke(app, ["demo"])
    assert ran.exit_code == 1
    assert "pip install 'tiered-llm-cache[cli]'" in ran.output
