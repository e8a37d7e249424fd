"""Make a ``Request`` of what an LLM's endpoint is called with.

messages -> history and the last user message -> question (by meaning) and the rest of it (scope)
LLM object, arguments -> canonical parameters (scope)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM

from llamaindex_tiered_cache.components import has_default_prompting, parameters_of, plain
from shared_core.request import FindQuestion, Request, split_question
from shared_core.state_places import Unreadable

# LlamaIndex chat messages as neutral ones: what the model is told, and nothing volatile.


_DATA_FIELDS = ("image", "audio", "video", "data")

_NEVER_SENT = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "usage", "tiered_cache"}
)
"""Of an earlier turn's ``additional_kwargs``: counts that no integration sends back."""


def neutral_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return messages as ``{"role", "content"}`` and, where set, tool calls and what else is sent.

    Raises Unreadable for content without an identity, OSError for a file that cannot be read.
    """
    return [_neutral(message) for message in messages]


def _neutral(message: ChatMessage) -> dict[str, Any]:
    calls = [_call(block) for block in message.blocks if type(block) is ToolCallBlock]
    parts = [
        _part(block)
        for block in message.blocks
        if type(block) not in (ToolCallBlock, CachePoint)  # a cache point changes no answer
    ]
    more = {
        name: value for name, value in message.additional_kwargs.items() if name not in _NEVER_SENT
    }
    legacy = [_legacy(call) for call in more.pop("tool_calls", None) or ()]
    said = {call["id"] for call in calls}  # beside blocks they say the same once more
    calls += [call for call in legacy if not _is_said(call, said)]
    found: dict[str, Any] = {"role": message.role.value, "content": parts or ""}
    if calls:
        found["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if isinstance(more.get(name), str):
            found[name] = more.pop(name)
    if more:
        found["additional_kwargs"] = plain(more)
    return found


def _legacy(call: Any) -> Any:
    """Return a provider's call as JSON: an object of its SDK, whose fields are all public."""
    is_of_sdk = isinstance(call, BaseModel) and type(call).__module__.startswith("openai.")
    return call.model_dump(mode="json", exclude_none=True) if is_of_sdk else plain(call)


def _is_said(call: Any, said: set[Any]) -> bool:
    """Tell whether a provider's call of a function is among the blocks of a message."""
    known = {"id", "type", "function", "index"}
    return (
        isinstance(call, dict)
        and call.get("id") in said
        and call.keys() <= known
        and call.get("type") in (None, "function")
    )


def _call(block: ToolCallBlock) -> dict[str, Any]:
    return {"id": block.tool_call_id, "name": block.tool_name, "args": plain(block.tool_kwargs)}


def _part(block: ContentBlock) -> dict[str, Any]:
    if type(block) is TextBlock:
        return {"type": "text", "text": block.text}
    dump: dict[str, Any] = {"type": block.block_type}
    if not type(block).__module__.startswith("llama_index.core."):  # it may send anything
        dump["object"] = plain(block)["object"]
    for name in type(block).model_fields:
        value = getattr(block, name)
        if value is None or name in ("block_type", "num_tokens"):
            continue
        if isinstance(value, IOBase):
            raise Unreadable("an open file")
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


# The question that a template of LlamaIndex's engines names.
#
# predict(prompt, query_str=…) --asking--> chat(messages) --split_question(find)--> question


_QUESTION = "query_str"
"""What LlamaIndex's query and chat engines call the question in every template of theirs."""

_question: ContextVar[str | None] = ContextVar("tiered_cache_question", default=None)


@contextmanager
def asking(prompt: Any, prompt_args: Mapping[str, Any]) -> Iterator[None]:
    """Say for a block which question its model calls are about, if the template names it."""
    given = prompt_args.get(_QUESTION, getattr(prompt, "kwargs", {}).get(_QUESTION))
    token = _question.set(given if isinstance(given, str) and given.strip() else None)
    try:
        yield
    finally:
        _question.reset(token)


def _finder(text: object) -> FindQuestion | None:
    """Return what finds the question that ``asking`` names, None where it is no part of the text.

    It is cut out where it stands last; all the rest is compared byte for byte, so a cut at the
    wrong place loses hits and never serves a wrong answer.
    """
    given = _question.get()
    if given is None or not isinstance(text, str) or given not in text:
        return None
    return lambda _: given


FORMAT = "llamaindex/1"
"""Format of answers that only LlamaIndex can read; also the mark and version of every payload."""

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError, RecursionError, OSError)


def chat_request(
    llm: LLM,
    messages: Sequence[ChatMessage],
    call: Mapping[str, Any],
    ignore: frozenset[str] = frozenset(),
) -> Request:
    """Build the request of a chat endpoint; one that has no stable identity is uncacheable.

    ``ignore`` names headers on which no answer depends.
    """
    try:
        neutral = neutral_messages(messages)
        params = parameters_of(llm, call, system=text_of_system(neutral), ignore=ignore)
        find = _finder(_only_text(neutral))
        return split_question(neutral, find, lifts=False).request(params, FORMAT)
    except _UNREADABLE:
        return _uncacheable(llm)


def _only_text(messages: Sequence[Mapping[str, Any]]) -> object:
    """Return the text of the last message, None if it is not a single one."""
    parts: list[dict[str, Any]] = (messages[-1]["content"] if messages else None) or []
    return parts[0].get("text") if len(parts) == 1 else None


def completion_request(
    llm: LLM,
    prompt: str,
    formatted: bool,
    call: Mapping[str, Any],
    ignore: frozenset[str] = frozenset(),
) -> Request:
    """Build the request of a completion endpoint, as ``chat_request`` does."""
    context: dict[str, Any] = {"form": "completion"}
    try:
        if not formatted and not has_default_prompting(llm):
            context["formatted"] = False
        asked = [{"role": "user", "content": prompt}]
        split = split_question(asked, _finder(prompt), lifts=False, is_completion=True)
        return split.request(parameters_of(llm, call, ignore=ignore), FORMAT, **context)
    except _UNREADABLE:
        return _uncacheable(llm)


def _uncacheable(llm: LLM) -> Request:
    """Build the request that is neither looked up nor stored."""
    model = llm.metadata.model_name
    return Request(None, "", model, "unstable", FORMAT, uncacheable="unstable")
