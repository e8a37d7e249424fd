"""Compute how much room a prompt leaves for the answer, and trim history until there is enough.

    window - what is held back - prompt  --cap-->  Room(tokens)

By default tokens are estimated; pass the model's own count as ``count`` where it matters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.usage import BYTES_PER_TOKEN

Count = Callable[[str], int]
_Message = Mapping[str, Any]

MESSAGE_TOKENS = 4
"""What a chat format adds around a message: role and separators."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text as a quarter of its UTF-8 bytes, rounded up.

    Near the count of current tokenizers for English prose; for code, other scripts and long numbers
    it can be half of theirs.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // BYTES_PER_TOKEN)


def counted_text(message: _Message) -> str:
    """Return what of a message takes tokens, as text: content, and tool calls as JSON.

    Parts that are no text, such as images, are left out: only their provider can count them.
    """
    content = message.get("content") or ""
    parts = [content] if isinstance(content, (str, Mapping)) else content
    texts = [part if isinstance(part, str) else str(part.get("text") or "") for part in parts]
    if calls := message.get("tool_calls"):
        texts.append(json.dumps(calls, default=str))
    return "\n".join(texts)


class NoRoomError(ValueError):
    """The prompt leaves too little of the window; the message says by how many tokens.

    Drop the oldest turns then:

        try:
            room = budget.room(messages)
        except NoRoomError:
            room = budget.room(budget.trim(messages))
    """


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens left for the answer, and those of the prompt; ``is_estimate``: nobody counted them."""

    tokens: int
    prompt_tokens: int
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """The context window of a model, in tokens.

    - ``reserve``: share of the window held back, for what the count does not see: a chat format's
      own tokens, tool definitions, the error of an estimate
    - ``cap``: most tokens that the model writes in one answer, None for no limit of its own
    - ``count``: tokens of a text, such as ``lambda text: len(encoding.encode(text))``

    Raises ValueError for a window or cap below 1, or a reserve outside [0, 1).

        budget = TokenBudget(8192, cap=1024)
        room = budget.room([{"role": "user", "content": "What is a fuse?"}])
        model.invoke(..., max_tokens=room.tokens)
    """

    window: int
    reserve: float = 0.2
    cap: int | None = None
    count: Count = estimate_tokens

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("cap", self.cap)):
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and not (name == "cap" and value is None):
                raise ValueError(f"{name} must be a number of tokens of at least 1, not {value!r}")
        if not 0 <= self.reserve < 1:
            raise ValueError(f"reserve must be a share from 0 to below 1, not {self.reserve!r}")
        if not callable(self.count):
            raise ValueError(f"count must be a callable: text -> tokens, not {self.count!r}")

    @property
    def usable(self) -> int:
        """Return the tokens of the window that are not held back."""
        return self.window - math.ceil(self.window * self.reserve)

    def tokens(self, prompt: str | Sequence[_Message]) -> int:
        """Count the tokens of a text, or of messages with what a chat format adds to each."""
        if isinstance(prompt, str):
            return self.count(prompt)
        return sum(self.count(counted_text(message)) + MESSAGE_TOKENS for message in prompt)

    def room(self, prompt: str | Sequence[_Message]) -> Room:
        """Return how many tokens the answer may have. Raises NoRoomError if there is not one."""
        used = self.tokens(prompt)
        left = self.usable - used
        is_estimate = self.count is estimate_tokens
        if left < 1:
            about = "about " if is_estimate else ""
            raise NoRoomError(
                f"the prompt takes {about}{used} tokens, and only {self.usable} of the window's "
                f"{self.window} are usable (reserve={self.reserve}): shorten it by {1 - left} or "
                "more, lower the reserve, or choose a model with a larger window"
            )
        return Room(left if self.cap is None else min(left, self.cap), used, is_estimate)

    def trim(self, messages: Sequence[_Message], answer: int = 1) -> list[_Message]:
        """Drop the oldest turns until the answer has room for ``answer`` tokens.

        A turn is a user's message and all that follows up to the next one, so a tool's result never
        loses its call. The system messages in front and the last turn always stay. Raises
        NoRoomError if they alone leave too little, ValueError if the cap is below ``answer``.
        """
        if self.cap is not None and answer > self.cap:
            raise ValueError(f"answer={answer} tokens are more than the cap of {self.cap}")
        front, turns = _front_and_turns(messages)
        spare = self.usable - answer - self.tokens(front)
        kept: list[Sequence[_Message]] = []
        for turn in reversed(turns):
            spare -= self.tokens(turn)
            if spare < 0 and kept:
                break
            kept.insert(0, turn)
            if spare < 0:
                raise NoRoomError(
                    f"the system messages and the last turn alone leave {answer + spare} of the "
                    f"{self.usable} usable tokens, and the answer is to have {answer}"
                )
        return [*front, *(message for turn in kept for message in turn)]


def _front_and_turns(
    messages: Sequence[_Message],
) -> tuple[Sequence[_Message], list[Sequence[_Message]]]:
    ahead = 0
    while ahead < len(messages) and messages[ahead].get("role") in ("system", "developer"):
        ahead += 1
    asked = [at for at in range(ahead, len(messages)) if messages[at].get("role") == "user"]
    starts = sorted({ahead, *asked}) if ahead < len(messages) else []
    ends = [*starts[1:], len(messages)]
    return messages[:ahead], [messages[a:b] for a, b in zip(starts, ends, strict=True)]
