"""Messages of any framework in one canonical form, without what differs between two runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

VOLATILE_MESSAGE_FIELDS = frozenset(
    {"id", "response_metadata", "usage_metadata", "artifact", "example", "type", "tiered_cache"}
)
"""What differs between two runs of one conversation and never reaches the model."""

VOLATILE_PART_FIELDS = frozenset({"cache_control", "index"})

_NOTHING: tuple[Any, ...] = (None, [], {})


def canonical_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bring messages into canonical form.

    Volatile fields go, tool calls become ``{id, name, args}`` in either framework's spelling, and
    their ids are numbered in order of appearance, so that which result answers which call stays and
    the provider's random ids do not.
    """
    numbers: dict[str, str] = {}
    return [_message(message, numbers) for message in messages]


def _message(message: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not message.get("role"):
        raise ValueError('a message must be a mapping with a "role", such as "user" or "assistant"')
    kept = {
        name: value
        for name, value in message.items()
        if name not in VOLATILE_MESSAGE_FIELDS and value not in _NOTHING
    }
    kept.setdefault("content", "")
    if "tool_calls" in kept:
        kept["tool_calls"] = [_tool_call(call, numbers) for call in kept["tool_calls"]]
    if "tool_call_id" in kept:
        kept["tool_call_id"] = numbers.setdefault(kept["tool_call_id"], f"call_{len(numbers)}")
    if isinstance(kept["content"], (list, tuple)):
        kept["content"] = _content(kept["content"], kept.get("role") == "assistant")
    if numbers:
        for name in kept.keys() - {"role", "tool_calls", "tool_call_id"}:
            if not isinstance(kept[name], str):
                kept[name] = _renumbered(kept[name], numbers)
    return kept


def _tool_call(call: Mapping[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    function = call.get("function") or {}
    args = call.get("args", function.get("arguments"))
    if isinstance(args, str):
        with suppress(ValueError):  # a model may write what is not JSON: compared as text
            args = json.loads(args, parse_float=_finite, parse_constant=_finite)
    identifier = call.get("id") or f"unnamed {len(numbers)}"
    return {
        "id": numbers.setdefault(identifier, f"call_{len(numbers)}"),
        "name": call.get("name", function.get("name")),
        "args": args,
    }


def _finite(number: str) -> float:
    """Read a number of JSON; Python's reader takes NaN and infinities, which JSON does not have."""
    if not math.isfinite(found := float(number)):
        raise ValueError(number)
    return found


def _content(parts: Sequence[Any], of_assistant: bool) -> Any:
    """Drop what is volatile in content parts; a lone text part is the text itself."""
    kept = [_part(part, of_assistant) for part in parts]
    return kept[0] if len(kept) == 1 and isinstance(kept[0], str) else kept


def _part(part: Any, of_assistant: bool) -> Any:
    if not isinstance(part, Mapping):
        return part
    kept = {
        name: value
        for name, value in part.items()
        if name not in VOLATILE_PART_FIELDS
        and value is not None
        and not (name == "id" and _is_volatile_id(part, value, of_assistant))
    }
    if kept.keys() == {"type", "text"} and kept["type"] == "text":
        return kept["text"]
    return kept


def _is_volatile_id(part: Mapping[str, Any], value: Any, of_assistant: bool) -> bool:
    if part.keys() <= {"type", "id"}:
        return False  # the id is all there is of the part
    if part.get("type") in ("tool_use", "tool_call"):
        return False  # renumbered instead
    return of_assistant or str(value).startswith("lc_")


def _renumbered(value: Any, numbers: Mapping[str, str]) -> Any:
    """Replace every string that is a tool-call id, keys included."""
    if isinstance(value, str):
        return numbers.get(value, value)
    if isinstance(value, Mapping):
        return {numbers.get(k, k): _renumbered(v, numbers) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renumbered(item, numbers) for item in value]
    return value
