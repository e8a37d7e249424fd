"""The example app: what it answers, what it asks the model, and that nothing old is served."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from shared_core import ResponseCache
from shared_core.embedding import Embedder
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = [*MARKS, pytest.mark.model]

EXAMPLE = Path(__file__).parents[2] / "examples" / "rag.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the example, which is no package."""
    spec = importlib.util.spec_from_file_location("example_rag", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "example_rag", module)
    spec.loader.exec_module(module)
    return module


def test_the_app_saves_calls_and_never_answers_from_a_changed_document(
    module: Any, model_embedder: Embedder
) -> None:
    with ResponseCache.open(embedder=model_embedder, threshold=0.85, timeout=5.0) as cache:
        steps = module.session(cache, latency=0)
    assert [(step.name, step.model_calls, step.tiers) for step in steps] == [
        ("a question", 1, ("new_scope",)),
        ("the same", 0, ("exact",)),
        ("in other words", 0, ("semantic",)),
        ("another question", 1, ("new_scope",)),
        ("streamed", 0, ("exact",)),
        ("document changed", 1, ("new_scope",)),
        ("in other words", 0, ("semantic",)),
        ("an agent", 2, ("new_scope", "agent_turn")),
        ("the agent again", 0, ("exact", "exact")),
    ]
    answers = [step.answer for step in steps]
    assert all("every two weeks" in answers[i] for i in (0, 1, 2, 4))
    assert all("every week" in answers[i] for i in (5, 6))
    assert answers[7] == answers[8] == "Pump it to 5.5 bar."
