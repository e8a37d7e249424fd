"""The demo tells the truth: it ends well when all is as expected, and not otherwise."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest

pytest.importorskip("rich")
pytest.importorskip("langchain_core")

from rich.console import Console

from shared_core.cli import demo
from shared_core.embedding import Embedder


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(demo, "MODEL_S", (0.0, 0.0))
    return Console(file=StringIO(), width=200)


def told(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.model
def test_the_session_goes_as_expected(console: Console, model_embedder: Embedder) -> None:
    code = demo.run_demo(console)
    text = told(console)
    assert code == 0, text
    for word in ("policy: ", "exact", "semantic", "model (guard)", "another process", "$0.000"):
        assert word in text
    assert "NO" not in text


@pytest.mark.model
@pytest.mark.parametrize(
    "wrong",
    [
        {"expected": "semantic"},
        {"answer_to": "How long is the coast?"},
    ],
)
def test_an_expectation_that_is_not_met_is_told_and_is_the_exit_code(
    wrong: dict[str, str],
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    model_embedder: Embedder,
) -> None:
    first, again = demo.BY_DEFAULT[:2]
    monkeypatch.setattr(demo, "BY_DEFAULT", (first, replace(again, **wrong)))
    monkeypatch.setattr(demo, "AT_A_SIMILARITY", ())
    monkeypatch.setattr(demo, "AFTER_RESTART", ())
    monkeypatch.setattr(demo, "OTHER_PROCESS", ())
    monkeypatch.setattr(demo, "_in_another_process", lambda url, steps: [])
    assert demo.run_demo(console) == 1
    assert "NO: " in told(console)
