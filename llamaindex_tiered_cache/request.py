"""Messages -> Request.

Makes a ``Request`` of what an LLM endpoint is called with.

messages -> history and the last user message -> question (by meaning) and the rest of it (scope)
LLM object, arguments -> canonical parameters (scope)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from io import IOBase
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ContentBlock,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import LLM

from llamaindex_tiered_cache.components import Unstable, has_default_prompting, parameters_of, plain
from shared_core.request import Request, canonical_messages, is_prompt_template

# LlamaIndex chat messages as neutral ones: what the model is told, and nothing volatile.


_DATA_FIELDS = ("image", "audio", "video", "data")

_NEVER_SENT = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "usage", "tiered_cache"}
)
"""Of an earlier turn's ``additional_kwargs``: counts that no integration sends back."""


def neutral_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages as ``{"role", "content"}`` and, where set, tool calls and what else is sent.

    Raises Unstable for content without an identity, and OSError for a file that cannot be read.
    """
    return [_neutral(message) for message in messages]


def _neutral(message: ChatMessage) -> dict[str, Any]:
    calls = [_call(block) for block in message.blocks if isinstance(block, ToolCallBlock)]
    parts = [
        _part(block)
        for block in message.blocks
        if not isinstance(block, (ToolCallBlock, CachePoint))  # a cache point changes no answer
    ]
    more = {
        name: value for name, value in message.additional_kwargs.items() if name not in _NEVER_SENT
    }
    legacy = plain(more.pop("tool_calls", None))  # beside blocks they say the same once more
    found: dict[str, Any] = {"role": message.role.value, "content": parts or ""}
    if calls or legacy:
        found["tool_calls"] = calls or legacy
    for name in ("tool_call_id", "name"):
        if isinstance(more.get(name), str):
            found[name] = more.pop(name)
    if more:
        found["additional_kwargs"] = plain(more)
    return found


def _call(block: ToolCallBlock) -> dict[str, Any]:
    return {"id": block.tool_call_id, "name": block.tool_name, "args": plain(block.tool_kwargs)}


def _part(block: ContentBlock) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    dump: dict[str, Any] = {"type": block.block_type}
    for name in type(block).model_fields:
        value = getattr(block, name)
        if value is None or name in ("block_type", "num_tokens"):
            continue
        if isinstance(value, IOBase):
            raise Unstable("an open file")
        if name == "path":
            dump["path"] = sha256(Path(value).read_bytes()).hexdigest()
        elif name in _DATA_FIELDS and isinstance(value, bytes):
            dump[name] = sha256(value).hexdigest()
        elif name == "url":
            dump["url"] = str(value)
        else:
            dump[name] = _nested(value)
    return dump


def _nested(value: Any) -> Any:
    """Return what a block holds: plain values, or blocks."""
    if isinstance(value, list):
        return [_nested(item) for item in value]
    if hasattr(value, "block_type"):
        return _part(value)
    return plain(value)


def text_of_system(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the text of a leading system message, or None."""
    if not messages or messages[0]["role"] not in ("system", "developer"):
        return None
    content = messages[0]["content"]
    texts = [part["text"] for part in content if part["type"] == "text"] if content else []
    return texts[0] if len(texts) == 1 else None


# Which part of a prompt asks, and which is material: only the first is matched by meaning.
#
# predict(prompt, context_str=…) --asking--> chat(messages) --split--> question, and the rest in
#     scope


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
    return "template" if is_prompt_template(text) else None


FORMAT = "llamaindex/1"
"""Format of answers that only LlamaIndex can read; also the mark and version of every payload."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError, OSError)


def chat_request(llm: LLM, messages: Sequence[ChatMessage], call: Mapping[str, Any]) -> Request:
    """Build the request of a chat endpoint; one that has no stable identity is uncacheable."""
    try:
        neutral = neutral_messages(messages)
        params = parameters_of(llm, call, system=text_of_system(neutral))
        if not neutral or neutral[-1]["role"] != "user":
            return _request(None, params, history=neutral, exact_only="not_user_text")
        return _asked(neutral, params)
    except _UNREADABLE:
        return _uncacheable(llm)


def completion_request(llm: LLM, prompt: str, formatted: bool, call: Mapping[str, Any]) -> Request:
    """Build the request of a completion endpoint, as ``chat_request`` does."""
    context: dict[str, Any] = {"form": "completion"}
    try:
        if not formatted and not has_default_prompting(llm):
            context["formatted"] = False
        found = split(prompt)
        if found.rest is not None:
            context["rest"] = {"text": found.rest}
        return _request(
            found.question,
            parameters_of(llm, call),
            context=context,
            exact_only=found.exact_only,
        )
    except _UNREADABLE:
        return _uncacheable(llm)


def _asked(neutral: list[dict[str, Any]], params: Mapping[str, Any]) -> Request:
    """Build the request whose last message is a user's."""
    last = canonical_messages(neutral[-1:])[0]
    content = last.pop("content")
    del last["role"]
    context: dict[str, Any] = {"message": last} if last else {}
    if isinstance(content, str):
        found = split(content)
        if found.rest is not None:
            context["rest"] = {"text": found.rest}
    else:
        texts = [part for part in content if isinstance(part, str)]
        reason = "template" if len(texts) == len(content) else "multimodal"
        found = Split("\n\n".join(texts), None, reason)
        context["content"] = content
    return _request(
        found.question,
        params,
        history=neutral[:-1],
        context=context or None,
        exact_only=found.exact_only,
    )


def _request(
    question: str | None,
    params: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    context: Mapping[str, Any] | None = None,
    exact_only: str | None = None,
) -> Request:
    return Request.of(
        question,
        history=history,
        params=params,
        context=context,
        exact_only=exact_only,
        format=FORMAT,
    )


def _uncacheable(llm: LLM) -> Request:
    """Build the request that is neither looked up nor stored."""
    model = llm.metadata.model_name
    return Request(None, "", model, "unstable", FORMAT, uncacheable="unstable")
