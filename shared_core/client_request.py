"""Makes a ``Request`` of what chat completions are called with: the key that LangChain's has.

messages   -> history and the last user message -> question (by meaning) and the rest (scope)
parameters -> canonical parameters (scope)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.canonical_messages import canonical_messages
from shared_core.material import is_material
from shared_core.parameter_names import PARAMETER_NAMES
from shared_core.request import Request

FORMAT = "openai/1"
"""Format of answers that only this client can read; also the version of their payloads."""

Message = Mapping[str, Any]

_TRANSPORT = frozenset(
    {
        "extra_headers", "timeout", "stream", "stream_options", "metadata", "store",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    }
)  # fmt: skip
"""Arguments that no answer depends on."""

_NOT_GIVEN = frozenset({"NotGiven", "Omit"})
"""Classes of the SDK's marks for arguments that are left out."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom a client asks: ``query`` is what it adds to every URL, such as Azure's version."""

    provider: str
    base_url: str
    query: Mapping[str, Any]


def request_of(
    endpoint: Endpoint, messages: Sequence[Any], arguments: Mapping[str, Any]
) -> Request:
    """Build the request of one call.

    Raises TypeError or ValueError for arguments without a JSON form: such a call has no identity.
    """
    params = _parameters(endpoint, arguments)
    neutral = [plain_message(message) for message in messages]
    if not neutral or neutral[-1].get("role") != "user":
        return Request.of(
            None, history=neutral, params=params, exact_only="not_user_text", format=FORMAT
        )
    last = canonical_messages(neutral[-1:])[0]
    content = last.pop("content")
    del last["role"]
    context: dict[str, Any] = {"message": last} if last else {}
    if isinstance(content, str):
        question = content
        reason = "template" if is_material(content) else None
    else:
        texts = [part for part in content if isinstance(part, str)]
        question = "\n\n".join(texts)
        reason = "template" if len(texts) == len(content) else "multimodal"
        context["content"] = content
    if not question.strip():
        reason = reason or "not_user_text"
    return Request.of(
        question,
        history=neutral[:-1],
        params=params,
        context=context or None,
        exact_only=reason,
        format=FORMAT,
    )


def plain_message(message: Any) -> dict[str, Any]:
    """Return a message as a dictionary, whether it is one or an object of the SDK."""
    dump = getattr(message, "model_dump", None)
    found = dump(mode="json", exclude_none=True) if callable(dump) else message
    if not isinstance(found, Mapping):
        raise TypeError(f"a message must be a mapping, not {type(message).__qualname__}")
    return dict(found)


def text_of(messages: Sequence[Any]) -> str:
    """Return all text of messages, for an estimate of their tokens."""
    texts = []
    for message in messages:
        content = plain_message(message).get("content")
        parts = [content] if isinstance(content, str) else content or []
        for part in parts:
            text = part.get("text") if isinstance(part, Mapping) else part
            texts.append(text if isinstance(text, str) else "")
    return "\n".join(texts)


def _parameters(endpoint: Endpoint, arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        name: value
        for name, value in arguments.items()
        if name not in _TRANSPORT and type(value).__name__ not in _NOT_GIVEN
    }
    given |= given.pop("extra_body", None) or {}
    extra: dict[str, Any] = {}
    if endpoint.query:
        extra["query"] = dict(endpoint.query)
    if more := given.pop("extra_query", None):
        extra["query"] = {**extra.get("query", {}), **more}
    known: dict[str, Any] = {"provider": endpoint.provider, "base_url": endpoint.base_url}
    for name, value in given.items():
        canonical = PARAMETER_NAMES.get(name)
        if value is None:
            continue
        if canonical is None or known.get(canonical, value) != value:
            extra[name] = value
        else:
            known[canonical] = {"effort": value} if name == "reasoning_effort" else value
    return {**known, "extra": extra}
