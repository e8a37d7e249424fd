"""Token counts and finish reason, wherever an integration puts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

_COUNTS: Mapping[str, str] = {
    "prompt_tokens": "input_tokens",
    "input_tokens": "input_tokens",
    "prompt_token_count": "input_tokens",
    "prompt_eval_count": "input_tokens",
    "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens",
    "candidates_token_count": "output_tokens",
    "eval_count": "output_tokens",
    "total_tokens": "total_tokens",
    "total_token_count": "total_tokens",
}
"""A provider's name of a count to the neutral one."""

_HOLDERS = ("usage", "usage_metadata", "token_usage")
_REASONS = ("finish_reason", "stop_reason", "done_reason", "stopReason")


def usage_of(response: ChatResponse | CompletionResponse) -> dict[str, int] | None:
    """Return the token counts of a response, or None if it tells none."""
    for source in (response.additional_kwargs, response.raw):
        for place in (source, *(_get(source, name) for name in _HOLDERS)):
            found = {
                neutral: count
                for name, neutral in _COUNTS.items()
                if isinstance(count := _get(place, name), int) and not isinstance(count, bool)
            }
            if found:
                return found
    return None


def without_usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields without token counts."""
    return {
        name: value
        for name, value in fields.items()
        if name not in _COUNTS and name not in _HOLDERS
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
