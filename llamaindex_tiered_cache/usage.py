"""Token counts and finish reason, wherever an integration puts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from shared_core.usage import COUNTS, HOLDERS, tokens_of

_REASONS = ("finish_reason", "stop_reason", "done_reason", "stopReason")


def usage_of(response: ChatResponse | CompletionResponse) -> dict[str, int] | None:
    """Return the token counts of a response, or None if it tells none."""
    return tokens_of(response.additional_kwargs, response.raw)


def without_usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields without token counts."""
    return {
        name: value for name, value in fields.items() if name not in COUNTS and name not in HOLDERS
    }


def finish_reason_of(response: ChatResponse | CompletionResponse) -> str | None:
    """Return why the model stopped, as its provider spells it, or None."""
    choices = _get(response.raw, "choices") or _get(response.raw, "candidates")
    first = choices[0] if isinstance(choices, (list, tuple)) and choices else None
    for source in (response.additional_kwargs, response.raw, first):
        for name in _REASONS:
            reason = _get(source, name)
            reason = getattr(reason, "name", reason)
            if isinstance(reason, str) and reason:
                return reason
    return None


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return (
        None if source is None or isinstance(source, (str, type)) else getattr(source, name, None)
    )
