"""A prompt's messages with what never changes in front, and where that front ends.

Only parts of the system messages in front are moved, and only if some are marked as dynamic:
the order of a conversation is its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Part = dict[str, Any]
Count = Callable[[str], int]

MARKERS = ("cache_control", "cachePoint", "prompt_cache_breakpoint")
_SYSTEM = ("system", "developer")
_NEVER_MARKED = ("thinking", "redacted_thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place for a breakpoint: after a part of a message."""

    message: int
    part: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Messages, static before dynamic; ``ahead`` of them are system messages.

    ``static_end`` is the end of what never changes in those, None if all of it does.
    """

    messages: list[dict[str, Any]]
    ahead: int
    static_end: Spot | None

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> Layout:
        """Put static parts of the leading system messages before those marked ``"dynamic": True``.

        The mark, of a whole message or of a part, is taken away. If there is one, all leading
        system messages become a single one. Raises ValueError for a message without a role.
        """
        for message in messages:
            if not isinstance(message, Mapping) or not message.get("role"):
                raise ValueError(f'a message must be a mapping with a "role", not {message!r}')
        ahead = 0
        while ahead < len(messages) and messages[ahead]["role"] in _SYSTEM:
            ahead += 1
        static, dynamic = list[Part](), list[Part]()
        for message in messages[:ahead]:
            for part in parts_of(message):
                changes = part.pop("dynamic", False) or message.get("dynamic")
                (dynamic if changes else static).append(part)
        rest = [{k: v for k, v in message.items() if k != "dynamic"} for message in messages]
        if dynamic:
            rest[:ahead] = [{**rest[0], "content": static + dynamic}]
            end = Spot(0, len(static) - 1) if static else None
            return cls(rest, 1, end)
        end = Spot(ahead - 1, len(parts_of(rest[ahead - 1])) - 1) if static else None
        return cls(rest, ahead, end)

    def conversation_ends(self) -> Iterator[Spot]:
        """Yield where this prompt ends and where the one before it did, if it goes on from one.

        The first is what the next turn will find, the second what this one finds. A prompt of a
        single turn has neither: nobody asks its question again.
        """
        answered = [n for n, one in enumerate(self.messages) if one["role"] in ("assistant", "ai")]
        if not answered or answered[-1] < self.ahead:
            return
        for at in (len(self.messages) - 1, answered[-1] - 1):
            if at >= self.ahead:
                parts = parts_of(self.messages[at])
                usable = [n for n, part in enumerate(parts) if is_markable(part)]
                if usable:
                    yield Spot(at, usable[-1])

    def front(self, end: Spot) -> Iterator[str]:
        """Yield the texts up to and with a spot."""
        for at, message in enumerate(self.messages[: end.message + 1]):
            parts = parts_of(message)
            for part in parts[: end.part + 1] if at == end.message else parts:
                yield text_of(part)

    def is_marked(self) -> bool:
        """Say whether breakpoints are set already: then their author has decided."""
        return any(
            name in part
            for message in self.messages
            for part in parts_of(message)
            for name in MARKERS
        )


def parts_of(message: Mapping[str, Any]) -> list[Part]:
    """Return the content of a message as parts; a text is one of them."""
    content = message.get("content")
    if not content:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{"type": "text", "text": p} if isinstance(p, str) else dict(p) for p in content]


def is_markable(part: Mapping[str, Any]) -> bool:
    """Say whether a breakpoint may stand after a part: not after thoughts or an empty text."""
    if part.get("type") in _NEVER_MARKED:
        return False
    return "text" not in part or bool(str(part["text"]).strip())


def text_of(part: Mapping[str, Any]) -> str:
    """Return what of a part can be counted: its text, or a tool's result or call as JSON."""
    if "text" in part:
        return str(part["text"])
    if part.get("type") in ("tool_use", "tool_result") or "toolUse" in part or "toolResult" in part:
        return json.dumps(part, default=str)
    return ""
