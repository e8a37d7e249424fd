"""LlamaIndex chat messages as neutral ones: what the model is told, and nothing volatile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from llamaindex_tiered_cache.components import Unstable, plain

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
