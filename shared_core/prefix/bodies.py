"""A marked prompt as the provider's own SDK takes it.

Texts are translated; content parts in the provider's own form, tool calls and results among them,
go through as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared_core.prefix.layout import parts_of

if TYPE_CHECKING:
    from shared_core.prefix.marking import Marked


def body(marked: Marked) -> dict[str, Any]:
    """Return the keyword arguments that carry messages, tools and params."""
    match marked.provider:
        case "anthropic":
            return _anthropic(marked)
        case "bedrock":
            return _bedrock(marked)
        case "gemini":
            return _gemini(marked)
        case _:
            return _with("tools", marked.tools, {"messages": marked.messages}) | marked.params


def _split(marked: Marked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part the system prompt's parts from the messages."""
    system = [m for m in marked.messages if m["role"] in ("system", "developer")]
    others = [m for m in marked.messages if m["role"] not in ("system", "developer")]
    return [part for message in system for part in parts_of(message)], others


def _with(name: str, value: Any, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, name: value} if value else given


def _anthropic(marked: Marked) -> dict[str, Any]:
    system, messages = _split(marked)
    given = _with("system", system, {"messages": messages})
    return _with("tools", marked.tools, given) | marked.params


def _bedrock(marked: Marked) -> dict[str, Any]:
    """For ``converse`` of bedrock-runtime."""
    system, messages = _split(marked)
    turns = [
        {"role": m["role"], "content": [_bedrock_part(part) for part in parts_of(m)]}
        for m in messages
    ]
    given = _with("system", [_bedrock_part(part) for part in system], {"messages": turns})
    return _with("toolConfig", {"tools": marked.tools} if marked.tools else None, given)


def _bedrock_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": part["text"]} if part.get("type") == "text" else dict(part)


def _gemini(marked: Marked) -> dict[str, Any]:
    """For ``models.generate_content`` of google-genai."""
    system, messages = _split(marked)
    roles = {"assistant": "model", "ai": "model"}
    contents = [
        {
            "role": roles.get(m["role"], m["role"]),
            "parts": [_gemini_part(part) for part in parts_of(m)],
        }
        for m in messages
    ]
    config = dict(marked.params)
    config = _with("system_instruction", [_gemini_part(part) for part in system], config)
    config = _with("tools", marked.tools, config)
    return _with("config", config, {"contents": contents})


def _gemini_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": part["text"]} if part.get("type") == "text" else dict(part)
