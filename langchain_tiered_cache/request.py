"""Makes a ``Request`` of what LangChain hands to a cache: prompt and ``llm_string``.

prompt     -> neutral messages -> history and the last user message
last       -> question (matched by meaning) and the rest of it (scope)
llm_string -> canonical parameters (scope)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from langchain_tiered_cache.model import Model, read_model, says_all
from langchain_tiered_cache.prompt import is_stable, neutral_messages
from langchain_tiered_cache.runs import current_runs
from shared_core.canonical_messages import canonical_messages
from shared_core.material import is_material
from shared_core.request import Request

FORMAT = "langchain/1"
"""Format of answers that only LangChain can read."""

KEPT, LONGEST_KEPT = 512, 16_000
"""Newest prompts whose requests are kept, and the characters of the longest."""

Question = Callable[[str], str | tuple[str, Any] | None]
"""Says what a user's text asks. Given the text of the last user message, it returns

- the question, a part of that text: the rest of the text stays in the scope,
- or the question and a JSON value that stands in the scope for the rest,
- or None: this text is matched only exactly.
"""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What a prompt says: earlier messages, the text that asks, and what else the scope must hold.

    ``exact_only`` is a reason that no question extractor can lift; ``is_template`` one that it can.
    """

    history: list[dict[str, Any]]
    text: str | None
    context: dict[str, Any]
    exact_only: str | None = None
    is_template: bool = False
    is_stable: bool = True


@dataclass(frozen=True, slots=True)
class _Asked:
    """A text's question, what else of it belongs to the scope, why not to match by meaning."""

    question: str | None
    rest: Any = None
    exact_only: str | None = None


def parse(prompt: str, llm_string: str, question: Question | None = None) -> Request:
    """Build the request for a prompt, serialised messages or raw text.

    Whatever the two strings hold, the result is a request: in the worst case one that is matched
    only as it stands. Raises what ``question`` raises, and TypeError if what it
    returns is neither text, pair nor None.
    """
    if question is None and len(prompt) <= LONGEST_KEPT and says_all(llm_string):
        return _parse_once(prompt, llm_string)
    return _parse(prompt, llm_string, question)


@lru_cache(KEPT)
def _parse_once(prompt: str, llm_string: str) -> Request:
    """Parse what depends on nothing else: an update follows its lookup, and hits are repeats."""
    return _parse(prompt, llm_string, None)


def _parse(prompt: str, llm_string: str, question: Question | None) -> Request:
    try:
        model = read_model(llm_string, current_runs())
        parts = _read(prompt)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return _opaque(prompt, llm_string)
    asked = _ask(parts, question)
    try:
        return _request(parts, asked, model)
    except (TypeError, ValueError, RecursionError):
        return _opaque(prompt, llm_string)


def _read(prompt: str) -> _Prompt:
    messages = neutral_messages(prompt)
    if messages is None:
        reason = "opaque" if _is_json(prompt) else None
        is_template = "\n" in prompt.strip() or is_material(prompt)
        return _Prompt([], prompt, {"form": "completion"}, reason, is_template)
    stable = is_stable(prompt, messages)
    if not messages or messages[-1]["role"] != "user":
        return _Prompt(messages, None, {}, "not_user_text", is_stable=stable)
    last = canonical_messages(messages[-1:])[0]
    content = last.pop("content")
    del last["role"]
    context: dict[str, Any] = {"message": last} if last else {}
    if isinstance(content, str):
        return _Prompt(messages[:-1], content, context, None, is_material(content), stable)
    context["content"] = content
    texts = [part for part in map(_text, content) if part is not None]
    text = "\n\n".join(texts)
    reason = None if len(texts) == len(content) else "multimodal"
    return _Prompt(messages[:-1], text, context, reason, True, stable)


def _text(part: Any) -> str | None:
    """Return the text of a content part that is nothing but text."""
    if isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text":
        part = part["text"]
    return part if isinstance(part, str) else None


def _is_json(prompt: str) -> bool:
    if not prompt.lstrip().startswith(("[", "{")):
        return False
    try:
        json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt.startswith('[{"lc"')
    return True


def _ask(parts: _Prompt, question: Question | None) -> _Asked:
    """Find the question in the text that asks."""
    text = parts.text
    if text is None or parts.exact_only:
        return _Asked(text, None, parts.exact_only)
    if not text.strip():
        return _Asked(text, None, "not_user_text")
    if question is None:
        return _Asked(text, None, "template" if parts.is_template else None)
    match question(text):
        case None:
            return _Asked(text, None, "template")
        case (str(found), rest):
            return _Asked(found, {"given": rest})
        case str(found) if found.strip():
            start = text.rfind(found)
            rest = [text] if start < 0 else [text[:start], text[start + len(found) :]]
            return _Asked(found, None if rest == ["", ""] else {"text": rest})
        case other:
            raise TypeError(f"question= returned {type(other).__name__}, not text, pair or None")


def _request(parts: _Prompt, asked: _Asked, model: Model) -> Request:
    context = dict(parts.context)
    if asked.rest is not None:
        context["rest"] = asked.rest
        context.pop("content", None)
    request = Request.of(
        asked.question,
        history=parts.history,
        params=model.params,
        context=context or None,
        exact_only=asked.exact_only,
        format=FORMAT,
    )
    uncacheable = model.uncacheable if parts.is_stable else "unstable"
    return replace(request, uncacheable=uncacheable) if uncacheable else request


def _opaque(prompt: str, llm_string: str) -> Request:
    """Build the request that is nothing but these two strings."""
    return Request.of(
        prompt,
        params={"extra": {"llm_string": llm_string}},
        context={"form": "opaque"},
        exact_only="opaque",
        format=FORMAT,
    )
