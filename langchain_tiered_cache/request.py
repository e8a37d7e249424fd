"""Make a ``Request`` of what LangChain hands to a cache: a prompt string and an ``llm_string``.

prompt     -> neutral messages -> history and the last user message
last       -> question (matched by meaning) and the rest of it (scope)
llm_string -> canonical parameters (scope)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from langchain_tiered_cache.call_context import current_runs
from langchain_tiered_cache.llm_string import ModelReading, read_model, read_string
from shared_core.request import (
    VOLATILE_MESSAGE_FIELDS,
    FindQuestion,
    Request,
    canonical_parameters,
    split_question,
)

# Reads LangChain's serialised prompt into neutral messages: plain JSON, no object is built.


_ROLES = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "function",
    "FunctionMessageChunk": "function",
}
_PLAIN = {"content", "type"}
"""What most messages have and nothing else; none of it needs a second look."""
_ROLE_GIVEN = ("chat", "ChatMessageChunk")

_VOLATILE = VOLATILE_MESSAGE_FIELDS | {"type", "example"}
"""Fields of a message that are read elsewhere, or reach no model."""

_OPENAI_ROLE = "__openai_role__"

_NEVER_SENT = frozenset(
    {
        "parsed", "token_usage", "usage", "stop_reason", "stop_sequence", "model_id", "model_name",
        "finish_reason", "logprobs", "cached", "__openai_function_call_ids__", _OPENAI_ROLE,
    }
)  # fmt: skip
"""Of an earlier turn's ``additional_kwargs``: what no provider package sends back to the model."""


def neutral_messages(prompt: str) -> list[dict[str, Any]] | None:
    """Return the messages of a chat prompt, or None if the prompt is not one.

    A message is ``{"role", "content"}`` and, where set, ``tool_calls``, ``tool_call_id``, ``name``
    and what else reaches the model.
    """
    if not prompt.startswith("["):
        return None
    try:
        return [_neutral(dump) for dump in json.loads(prompt)]
    except _UNREADABLE:
        return None


def _neutral(dump: Mapping[str, Any]) -> dict[str, Any]:
    if dump["lc"] != 1 or dump["type"] != "constructor":
        raise ValueError("not a message")
    given = dump["kwargs"]
    kind = given["type"]
    if given.keys() == _PLAIN and kind in _ROLES:
        return {"role": _ROLES[kind], "content": given["content"]}
    more = _sent(given)
    fields = {name: given[name] for name in given if name not in _VOLATILE}
    role = fields.pop("role") if kind in _ROLE_GIVEN else _ROLES.get(kind)
    if not isinstance(role, str) or "content" not in fields:
        raise ValueError("not a message")
    if role == "system" and given.get("additional_kwargs", {}).get(_OPENAI_ROLE):
        role = "developer"
    if fields.get("status") == "success":
        del fields["status"]
    for name in ("additional_kwargs", "tool_call_chunks", "chunk_position"):
        fields.pop(name, None)
    if more:
        fields["additional_kwargs"] = more
    return {"role": role, **fields}


def _sent(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return of ``additional_kwargs`` what may reach the model and is not said elsewhere."""
    sent = {
        name: value
        for name, value in (fields.get("additional_kwargs") or {}).items()
        if value is not None and name not in _NEVER_SENT
    }
    parsed = [*(fields.get("tool_calls") or ()), *(fields.get("invalid_tool_calls") or ())]
    if parsed and "tool_calls" in sent:
        said = {call.get("id") for call in parsed}
        sent["tool_calls"] = [call for call in sent["tool_calls"] if not _is_said(call, said)]
        if not sent["tool_calls"]:
            del sent["tool_calls"]
    reasoning = sent.get("reasoning")
    if isinstance(reasoning, dict):  # its id names an item on the provider's server, not its text
        sent["reasoning"] = {name: value for name, value in reasoning.items() if name != "id"}
    return sent


def _is_said(call: Any, said: set[Any]) -> bool:
    """Tell whether a provider's call of a function is among those that LangChain parsed."""
    known = {"id", "type", "function", "index"}
    return (
        isinstance(call, dict)
        and call.get("id") in said
        and call.keys() <= known
        and call.get("type") in (None, "function")
    )


def is_stable(prompt: str, messages: list[dict[str, Any]]) -> bool:
    """Tell whether every object in the messages has an identity beyond this process."""
    return '"not_implemented"' not in prompt or not _has_address(messages)


def _has_address(value: Any) -> bool:
    if isinstance(value, dict):
        if value.get("lc") == 1 and value.get("type") == "not_implemented":
            return " at 0x" in value.get("repr", " at 0x")
        return any(map(_has_address, value.values()))
    return isinstance(value, list) and any(map(_has_address, value))


_FORMAT = "langchain/1"
"""Format of answers that only LangChain can read."""

Question: TypeAlias = FindQuestion
"""What ``question=`` may be: says what a user's text asks."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError)

MAX_PARSED, LONGEST_PARSED = 512, 16_000
"""Newest prompts whose requests are kept, and the characters of the longest."""


NO_HEADERS: frozenset[str] = frozenset()


def parse(
    prompt: str,
    llm_string: str,
    question: Question | None = None,
    *,
    hidden: str | None = None,
    ignore: frozenset[str] = NO_HEADERS,
) -> Request:
    """Build the request for a prompt, serialised messages or raw text.

    ``hidden`` is the digest of what the model has and the string does not say, "" if that is
    nothing, None if it is not known; ``ignore`` names headers on which no answer depends.

    Whatever the two strings hold, the result is a request: in the worst case one that is matched
    only as it stands. Raises what ``question`` raises, and TypeError if what it
    returns is neither text, pair nor None.

    >>> parse("What is a fuse?", "[('model', 'm'), ('temperature', 0.0)]").question
    'What is a fuse?'
    """
    try:
        found = read_string(llm_string, ignore)
        if not isinstance(found, ModelReading):
            found = read_model(llm_string, current_runs(), ignore)
    except _UNREADABLE:
        return _opaque(prompt, llm_string, hidden)
    if question is None and found.is_remembered and len(prompt) <= LONGEST_PARSED:
        return _parse_once(prompt, llm_string, found, hidden)
    return _parse(prompt, llm_string, found, hidden, question)


@lru_cache(MAX_PARSED)
def _parse_once(prompt: str, llm_string: str, model: ModelReading, hidden: str | None) -> Request:
    """Parse what depends on nothing else: an update follows its lookup, and hits are repeats."""
    return _parse(prompt, llm_string, model, hidden, None)


def _parse(
    prompt: str, llm_string: str, model: ModelReading, hidden: str | None, question: Question | None
) -> Request:
    messages = neutral_messages(prompt)
    is_completion = messages is None
    if messages is None:
        messages = [{"role": "user", "content": prompt}]
    try:
        model = _with_hidden(model, hidden)
        stable = is_completion or is_stable(prompt, messages)
        asked = split_question(messages, is_completion=is_completion)
    except _UNREADABLE:
        return _opaque(prompt, llm_string, hidden)
    if is_completion and prompt.startswith('[{"lc"'):  # messages that cannot be read
        asked = asked._replace(exact_only="opaque")
    elif question is not None:
        asked = split_question(messages, question, is_completion=is_completion)
    form = {"form": "completion"} if is_completion else {}
    try:
        request = asked.request(model.params, _FORMAT, **form)
    except (TypeError, ValueError, RecursionError):
        return _opaque(prompt, llm_string, hidden)
    uncacheable = model.uncacheable if stable else "unstable"
    return replace(request, uncacheable=uncacheable) if uncacheable else request


@lru_cache(MAX_PARSED)
def _with_hidden(model: ModelReading, hidden: str | None) -> ModelReading:
    """Return the model with what it hides; a model that hides what nobody has read is unstable."""
    if hidden is None and model.hides:
        return replace(model, uncacheable=model.uncacheable or "unstable")
    if not hidden:
        return model
    extra = {**model.params.get("extra", {}), "hidden settings": hidden}
    return replace(model, params=canonical_parameters({**model.params, "extra": extra}))


def _opaque(prompt: str, llm_string: str, hidden: str | None = None) -> Request:
    """Build the request that is nothing but these two strings, and what the model hides."""
    return Request.of(
        prompt,
        params={"extra": {"llm_string": llm_string, "hidden settings": hidden or None}},
        context={"form": "opaque"},
        exact_only="opaque",
        format=_FORMAT,
    )


# ``rag_question``: finds the question in the usual RAG templates.
#
# "<instructions> <context block> Question: <question> Answer:"   and its variants
# -> question (matched by meaning) + instructions and context (scope)


_QUESTION = re.compile(r"(?<![\w\"'])(?:question|query)[ \t]*:", re.IGNORECASE)
_CONTEXT = re.compile(
    r"(?<![\w\"'])(?:context|documents?|sources?|passages?)[ \t]*:", re.IGNORECASE
)
_PIECES = re.compile(r"\bpieces of (?:retrieved )?context\b", re.IGNORECASE)
_ANSWER = re.compile(
    r"^[ \t]*(?:[\w ]{1,20} )?(?:answer|response)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_BLOCK = re.compile(
    r"<(context|documents?|sources?|passages?)>(.*)</\1>", re.IGNORECASE | re.DOTALL
)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class _Span:
    """A half-open range of characters."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Parts:
    """Where in a text the context block and the question are."""

    context: _Span
    question: _Span


def rag_question(
    context: Literal["exact", "version"] = "exact", version: str | int | None = None
) -> Question:
    """Return a ``question=`` for prompts that hold retrieved context and a question in one message.

    Known are: labels ("Context: … Question: …" in either order, as in the hub's rlm/rag-prompt),
    "Use the following pieces of context …" with the context between instructions and question, and
    a block in tags such as ``<context>``. A text of any other shape, or one that can be read in two
    ways, is matched only exactly.

    With ``context="exact"`` an answer is reused only for the very same context. With "version" the
    index version stands in for the context: a paraphrase hits although it retrieved other chunks,
    and an answer is served that the chunks of this prompt might not support. Change ``version``
    whenever the index or the retriever changes.

    Raises ValueError for another ``context``, or one without its ``version``.

        cache = TieredCache("sqlite:///answers.db", question=rag_question("exact"))
    """
    if context not in ("exact", "version"):
        raise ValueError(f'context must be "exact" or "version", not {context!r}')
    if context == "version" and (version is None or version == ""):
        raise ValueError('context="version" needs version=, the version of your index')
    if context == "exact" and version is not None:
        raise ValueError('version= is of use with context="version" alone')

    return RagQuestion(version if context == "version" else None)


@dataclass(frozen=True, slots=True)
class RagQuestion:
    """Finds the question in a text; ``version`` stands in for the context unless it is None."""

    version: str | int | None = None

    def __call__(self, text: str) -> tuple[str, Any] | None:
        """Return the question and what stands in the scope for the rest, or None."""
        parts = _labelled(text) if _BLOCK.search(text) is None else _tagged(text)
        if parts is None:
            return None
        asked = _stripped(text, parts.question)
        if asked.start >= asked.end or _PARAGRAPH.search(text[asked.start : asked.end]):
            return None
        spans = sorted([parts.context, asked], key=lambda span: span.start)
        if spans[0].end > spans[1].start:
            return None
        frame = [text[: spans[0].start], text[spans[0].end : spans[1].start], text[spans[1].end :]]
        block = text[parts.context.start : parts.context.end]
        stands_in = {"text": block} if self.version is None else {"version": self.version}
        is_first = parts.context.start < asked.start
        return text[asked.start : asked.end], [frame, stands_in, is_first]


def _stripped(text: str, span: _Span) -> _Span:
    inner = text[span.start : span.end]
    left = len(inner) - len(inner.lstrip())
    return _Span(span.start + left, span.start + max(left, len(inner.rstrip())))


def _labelled(text: str) -> _Parts | None:
    """Find "Question:" and the context before or after it; None if there are two of either."""
    questions = list(_QUESTION.finditer(text))
    contexts = list(_CONTEXT.finditer(text))
    if len(questions) != 1 or len(contexts) > 1:
        return None
    label = questions[0]
    if not contexts:
        return _pieces(text, label)
    if contexts[0].start() < label.start():
        end = _answer_after(text, label.end())
        return _Parts(_Span(contexts[0].end(), label.start()), _Span(label.end(), end))
    end = _last_answer(text, contexts[0].end())
    asked = _Span(label.end(), _line_start(text, label.end(), contexts[0].start()))
    return _Parts(_Span(contexts[0].end(), end), asked)


def _pieces(text: str, label: re.Match[str]) -> _Parts | None:
    """Find the context after "Use the following pieces of context" and a blank line."""
    piece = _PIECES.search(text, 0, label.start())
    gap = _PARAGRAPH.search(text, piece.end(), label.start()) if piece else None
    if gap is None:
        return None
    end = _answer_after(text, label.end())
    return _Parts(_Span(gap.end(), label.start()), _Span(label.end(), end))


def _tagged(text: str) -> _Parts | None:
    """Find a block in tags and, outside it, the question: labelled, or all that follows."""
    block = _BLOCK.search(text)
    if block is None or text.lower().count(f"<{block[1].lower()}>") > 1:
        return None
    inside = _Span(block.start(2), block.end(2))
    outside = [m for m in _QUESTION.finditer(text) if not block.start() < m.start() < block.end()]
    if len(outside) > 1:
        return None
    if not outside:
        return _Parts(inside, _Span(block.end(), _answer_after(text, block.end())))
    start = outside[0].end()
    end = block.start() if start < block.start() else _answer_after(text, start)
    return _Parts(inside, _Span(start, end))


def _answer_after(text: str, start: int) -> int:
    """Return where the question ends that starts here: at the answer's label, or with the text."""
    found = _ANSWER.search(text, start)
    return found.start() if found else len(text)


def _last_answer(text: str, start: int) -> int:
    """Return where a context block ends that starts here: at the last answer's label."""
    found = list(_ANSWER.finditer(text, start))
    return found[-1].start() if found else len(text)


def _line_start(text: str, start: int, position: int) -> int:
    """Return the start of the line: "Use this context:" is no part of a question above it."""
    line = text.rfind("\n", start, position) + 1
    return line or position
