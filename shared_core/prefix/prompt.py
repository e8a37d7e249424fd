"""A prompt as a prefix cache reads it: where it starts, then role and text of every message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.canonical_messages import canonical_messages
from shared_core.request import Request, canonical_json

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to a model, front first.

    ``root`` is all that stands before the messages: two prompts of other roots share no front.
    """

    root: tuple[str, ...]
    messages: list[tuple[str, str]]


def prompt_of(source: Request | Messages, namespace: str = "") -> Prompt:
    """Read a request, or messages ``{"role": …, "content": …}``.

    The root of a request is namespace, provider, address, model and tools: what a provider keeps of
    one model it does not use for another, and tools stand before the messages. Raises ValueError or
    TypeError for messages that are none.
    """
    if not isinstance(source, Request):
        return Prompt((namespace,), [_told(message) for message in canonical_messages(source)])
    scope = json.loads(source.scope) if source.scope else {}
    params = scope.get("params") or {}
    names = ("provider", "base_url", "model", "tools", "tool_choice")
    messages = [_told(message) for message in scope.get("messages") or ()]
    context = scope.get("context")
    if source.question is not None or context is not None:
        around = canonical_json(context) if context is not None else ""
        messages.append(("user", around + (source.question or "")))
    return Prompt((namespace, *(canonical_json(params.get(name)) for name in names)), messages)


def _told(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the role and all else of a canonical message, as text."""
    content = message["content"]
    text = content if isinstance(content, str) else canonical_json(content)
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    return str(message["role"]), text + canonical_json(rest) if rest else text
