"""Chat completions as neutral answers and back: our own versioned JSON, no ids.

completion --answer_of--> Answer(text, payload) --message_of--> the assistant's message
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared_core.client_request import FORMAT
from shared_core.record import Answer, is_cut_off
from shared_core.usage import tokens_of

SHARED = "shared"
"""The tier of an answer that was awaited from an equal call under way."""

_PLAIN_FIELDS = frozenset({"role", "content"})


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """An answer of a chat model, from the cache or fresh.

    ``cached``: no call was made for it; ``cache_tier`` then says "exact", "semantic", or "shared"
    for the answer to an equal call that was under way. ``latency_ms`` is what the caller waited.
    ``cost`` is what this answer cost now in US dollars: 0.0 if cached, None without a price;
    ``saved`` what it would have cost. ``usage`` are the tokens of the call that made the answer,
    whenever that was; ``estimated`` if no provider counted them. ``message`` is the assistant's
    message as JSON, tool calls included: ready to go back into a conversation. ``entry_id`` is for
    ``cache.feedback``.
    """

    content: str
    cached: bool
    cache_tier: str | None
    latency_ms: float
    cost: float | None
    usage: Mapping[str, int] | None
    model: str
    message: Mapping[str, Any]
    finish_reason: str | None = None
    entry_id: str | None = None
    saved: float | None = None
    estimated: bool = False


def answer_of(completion: Any) -> Answer:
    """Return the answer that a completion gives: an object of the SDK, or the provider's JSON.

    One message that is its text and nothing else can be read by every framework. Raises ValueError
    for what is no completion, or one without a choice.
    """
    body = as_json(completion)
    choices = [_kept(choice) for choice in body.get("choices") or ()]
    if not choices:
        raise ValueError("a completion without a choice")
    first, message = choices[0], choices[0].get("message") or {}
    for choice in choices:
        choice.get("message", {}).pop("parsed", None)
    text = message.get("content") or ""
    plain = len(choices) == 1 and message.keys() <= _PLAIN_FIELDS and "logprobs" not in first
    reasons = {choice.get("finish_reason") for choice in choices}
    special = message.get("tool_calls") or message.get("function_call") or message.get("refusal")
    return Answer(
        text=text,
        payload=None if plain else json.dumps({"v": FORMAT, "choices": choices}),
        format="text" if plain else FORMAT,
        model=body.get("model") or None,
        usage=tokens_of(body.get("usage")),
        finish_reason=first.get("finish_reason"),
        exact_only=bool(special or not text or any(map(is_cut_off, reasons))),
    )


def as_json(found: Any) -> Mapping[str, Any]:
    """Return an object of the SDK as JSON, and JSON as it is. Raises ValueError for a list."""
    dump = getattr(found, "model_dump", None)
    body = dump(mode="json", exclude_unset=True, warnings=False) if callable(dump) else found
    if not isinstance(body, Mapping):
        raise ValueError(f"not an object of JSON: {type(found).__qualname__}")
    return body


def _kept(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a choice; log probabilities stay as they are, empty lists too."""
    rest = {name: item for name, item in choice.items() if name not in ("index", "logprobs")}
    kept: dict[str, Any] = _without_nothing(rest)
    if choice.get("logprobs"):
        kept["logprobs"] = choice["logprobs"]
    return kept


def _without_nothing(value: Any) -> Any:
    """Drop what is None or empty at any depth, which is as absent."""
    if isinstance(value, dict):
        kept = {name: _without_nothing(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item != []}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def message_of(answer: Answer) -> dict[str, Any]:
    """Return the assistant's message, the first if there are several.

    Raises ValueError if the payload is not what ``answer_of`` wrote.
    """
    return choices_of(answer)[0]["message"]  # type: ignore[no-any-return]  # it is JSON


def choices_of(answer: Answer) -> list[dict[str, Any]]:
    """Return all choices of an answer, as JSON. Raises ValueError as ``message_of`` does."""
    if answer.format != FORMAT:
        message = {"role": "assistant", "content": answer.text}
        return [{"message": message, "finish_reason": answer.finish_reason}]
    try:
        body = json.loads(answer.payload or "")
        choices: list[dict[str, Any]] = body["choices"]
        if body["v"] != FORMAT or not isinstance(choices[0]["message"], dict):
            raise ValueError("a payload of another version")
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f"not a payload of {FORMAT}: {type(error).__name__}") from None
    return choices
