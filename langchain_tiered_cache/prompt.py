"""Reads LangChain's serialised prompt into neutral messages: plain JSON, no object is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared_core.canonical_messages import VOLATILE_MESSAGE_FIELDS

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
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _neutral(dump: Mapping[str, Any]) -> dict[str, Any]:
    if dump["lc"] != 1 or dump["type"] != "constructor":
        raise ValueError("not a message")
    given = dump["kwargs"]
    kind = given["type"]
    if given.keys() == _PLAIN and kind in _ROLES:
        return {"role": _ROLES[kind], "content": given["content"]}
    more = _sent(given)
    fields = {name: given[name] for name in given if name not in VOLATILE_MESSAGE_FIELDS}
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
    if fields.get("tool_calls") or fields.get("invalid_tool_calls"):
        sent.pop("tool_calls", None)
    reasoning = sent.get("reasoning")
    if isinstance(reasoning, dict):  # its id names an item on the provider's server, not its text
        sent["reasoning"] = {name: value for name, value in reasoning.items() if name != "id"}
    return sent


def is_stable(prompt: str, messages: list[dict[str, Any]]) -> bool:
    """Tell whether every object in the messages has an identity beyond this process."""
    return '"not_implemented"' not in prompt or not _has_address(messages)


def _has_address(value: Any) -> bool:
    if isinstance(value, dict):
        if value.get("lc") == 1 and value.get("type") == "not_implemented":
            return " at 0x" in value.get("repr", " at 0x")
        return any(map(_has_address, value.values()))
    return isinstance(value, list) and any(map(_has_address, value))
