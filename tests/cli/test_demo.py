"""The demo tells the truth: it ends well when all is as expected, and not otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest

pytest.importorskip("rich")
pytest.importorskip("langchain_core")
pytest.importorskip("typer")

from rich.console import Console
from typer.testing import CliRunner

from shared_core.cli import app, demo
from shared_core.embedding import Embedder

pytestmark = pytest.mark.model


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch, model_embedder: Embedder) -> None:
    monkeypatch.setattr(demo, "MODEL_S", (0.0, 0.0))
    monkeypatch.setattr(demo, "PAUSE_S", 0.0)


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_play_goes_as_expected_and_shows_each_kind_of_outcome(terminal: bool) -> None:
    console = Console(file=StringIO(), width=100, force_terminal=terminal)
    played = demo.run_demo(console)
    text = printed(console)
    assert played.ok, text
    for words in (
        "cache, the same words: ",
        "cache, by meaning (0.9",
        "refused its nearest answer: another date (2025, not 2024)",
        "refused its nearest answer: the opposite",
        "the visitor says that this is wrong",
        "answered by the cache: ",
        "At 10,000 such questions a day: $",
    ):
        assert words in text
    assert "NOT" not in text
    assert ("\x1b[" in text) is terminal


def test_as_json_it_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = CliRunner().invoke(app, ["demo", "--json"])
    body = json.loads(ran.stdout)
    assert (ran.exit_code, body["ok"]) == (0, True)
    assert body["hits"] == sum(step["served_by"] != "model" for step in body["steps"]) >= 8
    served = [(step["served_by"], step["answer"]) for step in body["steps"]]
    reported = served.index(("exact", "Two working days."))
    assert body["steps"][reported + 1]["answer"].startswith("Five working days")


@pytest.mark.parametrize("wrong", [{"expected": ("semantic",)}, {"topic": "library"}])
def test_what_is_not_as_expected_is_said_and_is_the_exit_code(
    wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, *_ = demo.SCRIPT[0].steps
    act = replace(demo.SCRIPT[0], steps=(first, replace(again, **wrong)))
    monkeypatch.setattr(demo, "SCRIPT", (act,))
    ran = CliRunner().invoke(app, ["demo"])
    assert ran.exit_code == 1
    assert "NOT as expected: " in ran.stdout
