"""Token counts as providers and frameworks tell them, under neutral names.

Neutral: ``input_tokens`` (the whole prompt), of which ``cached_tokens`` were read out of the
provider's own prompt cache and ``cache_write_tokens`` written into it; ``output_tokens``, of which
``reasoning_tokens``; ``total_tokens``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_INPUT = (
    "prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount", "inputTokens",
    "prompt_eval_count",
)  # fmt: skip
_OUTPUT = (
    "completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount",
    "outputTokens", "eval_count",
)  # fmt: skip
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount", "totalTokens")
_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
"""Gemini counts them beside its output."""

_REASONING = ("reasoning_tokens", "reasoning", *_THOUGHTS)

_READ_BESIDE = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN_BESIDE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
"""Anthropic and Bedrock, in this order, count these beside their input tokens, not among them."""

_BESIDE_WHAT = ("input_tokens", "inputTokens")

_READ = (
    "cache_read",  # LangChain
    "cached_tokens",  # OpenAI, Mistral, and our own
    *_READ_BESIDE,
    "cached_content_token_count",  # Gemini, its SDK
    "cachedContentTokenCount",  # Gemini, as sent
    "prompt_cache_hit_tokens",  # DeepSeek
)
_WRITTEN = (
    "cache_creation",  # LangChain
    "cache_write_tokens",  # OpenAI from gpt-5.6 on, and our own
    *_WRITTEN_BESIDE,
)
_BY_LIFETIME = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Anthropic's counts of what was written for five minutes and for an hour."""

_HOLDERS = ("usage", "usage_metadata", "usageMetadata", "token_usage")
_INPUT_DETAILS = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = (
    "output_token_details", "completion_tokens_details", "output_tokens_details",
)  # fmt: skip

COUNTS = frozenset({*_INPUT, *_OUTPUT, *_TOTAL, *_READ, *_WRITTEN, *_THOUGHTS})
HOLDERS = frozenset({*_HOLDERS, *_INPUT_DETAILS, *_OUTPUT_DETAILS})
"""Names of counts, and of what holds them."""


@dataclass(frozen=True, slots=True)
class CachedTokens:
    """Prompt tokens ``read`` out of the provider's cache, and ``written`` into it."""

    read: int = 0
    written: int = 0


def cached_tokens(usage: Any) -> CachedTokens:
    """Read what a provider's prompt cache had in a usage, or in a response or message with one.

    Mappings and objects, of OpenAI, Anthropic, Gemini, Bedrock, DeepSeek, LangChain and LlamaIndex.
    Zero for what is not told.
    """
    return _cached(list(_places(usage, (*_HOLDERS, "response_metadata", *_INPUT_DETAILS), 3)))


def tokens_of(*sources: Any) -> dict[str, int] | None:
    """Return the neutral counts of a call, None if no source tells any.

    A source is a usage, or a response or message that holds one, of whoever ``cached_tokens``
    reads. The first that tells of a provider's prompt cache goes before those that do not.
    """
    found: dict[str, int] | None = None
    for source in sources:
        for place in _places(source, _HOLDERS, 1):
            counted = _neutral(place)
            if "cached_tokens" in counted or "cache_write_tokens" in counted:
                return counted
            found = found or counted or None
    return found


def _neutral(usage: Any) -> dict[str, int]:
    """Return what one usage tells. No count of what a cache had is without one of the input."""
    named = ((name, _count(usage, (name,))) for name in _INPUT)
    name, asked = next(((name, n) for name, n in named if n is not None), ("", None))
    answered, total = _count(usage, _OUTPUT), _count(usage, _TOTAL)
    if answered is not None:
        answered += _count(usage, _THOUGHTS) or 0
    cached = CachedTokens()
    if asked is not None:
        cached = _cached(list(_places(usage, _INPUT_DETAILS, 1)))
        beside = (_count(usage, _READ_BESIDE) or 0) + (_count(usage, _WRITTEN_BESIDE) or 0)
        if beside and (name in _BESIDE_WHAT or (total or 0) >= asked + (answered or 0) + beside):
            asked += beside
            total = None if total is None else asked + (answered or 0)
    reasoning = [_count(place, _REASONING) for place in _places(usage, _OUTPUT_DETAILS, 1)]
    counts = {
        "input_tokens": asked,
        "output_tokens": answered,
        "total_tokens": total,
        "cached_tokens": cached.read or None,
        "cache_write_tokens": cached.written or None,
        "reasoning_tokens": next(filter(None, reasoning), None),
    }
    told = {name: count for name, count in counts.items() if count is not None}
    return told if told.keys() - {"reasoning_tokens"} else {}


def _cached(places: list[Any]) -> CachedTokens:
    written = _first(places, _WRITTEN)
    if not written:
        written = sum(_first(places, (name,)) for name in _BY_LIFETIME)
    return CachedTokens(_first(places, _READ), written)


def _places(source: Any, within: tuple[str, ...], depth: int) -> Iterator[Any]:
    if source is None:
        return
    yield source
    for name in within if depth else ():
        yield from _places(_get(source, name), within, depth - 1)


def _first(places: list[Any], names: tuple[str, ...]) -> int:
    """Return the first count above zero: frameworks tell one count in several places."""
    counts = (_count(place, (name,)) for place in places for name in names)
    return next((n for n in counts if n), 0)


def _count(source: Any, names: tuple[str, ...]) -> int | None:
    counts = (_get(source, name) for name in names)
    return next(
        (n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None
    )


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return None if isinstance(source, (str, type)) else getattr(source, name, None)
