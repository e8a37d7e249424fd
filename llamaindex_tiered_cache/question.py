"""Which part of a prompt asks, and which is material: only the first is matched by meaning.

predict(prompt, context_str=…) --asking--> chat(messages) --split--> question, and the rest in scope
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from shared_core.material import is_material

_QUESTION = "query_str"
"""What LlamaIndex's query and chat engines call the question in every template of theirs."""

_OBSERVATION = re.compile(r"\s*Observation:")
_VERDICT = re.compile(r"\bYES\b.{0,80}\bNO\b", re.DOTALL)

_question: ContextVar[str | None] = ContextVar("tiered_cache_question", default=None)


@dataclass(frozen=True, slots=True)
class Split:
    """A text's question, what else of the text the scope must hold, why only to match exactly."""

    question: str
    rest: list[str] | None = None
    exact_only: str | None = None


@contextmanager
def asking(prompt: Any, prompt_args: Mapping[str, Any]) -> Iterator[None]:
    """Say for a block which question its model calls are about, if the template names it."""
    given = prompt_args.get(_QUESTION, getattr(prompt, "kwargs", {}).get(_QUESTION))
    token = _question.set(given if isinstance(given, str) and given.strip() else None)
    try:
        yield
    finally:
        _question.reset(token)


def split(text: str) -> Split:
    """Find the question in the text that asks.

    Inside ``asking`` it is the question given there, cut out where it stands last; all the rest is
    compared byte for byte, so a cut at the wrong place loses hits and never serves a wrong answer.
    """
    given = _question.get()
    if given is not None and (start := text.rfind(given)) >= 0:
        rest = [text[:start], text[start + len(given) :]]
        if rest == ["", ""]:
            return Split(given, None, why_exact_only(given))
        if _VERDICT.search("".join(rest)):
            # The prompt of a judge: its "question" is an answer, where every word counts.
            return Split(given, rest, "verdict")
        return Split(given, rest, why_exact_only(given))
    return Split(text, None, why_exact_only(text))


def why_exact_only(text: str) -> str | None:
    """Return why a text is no question alone, as a ``Miss.reason``, or None."""
    if _OBSERVATION.match(text):
        return "not_user_text"  # what a tool said, in the prompt format of ReAct
    return "template" if is_material(text) else None
