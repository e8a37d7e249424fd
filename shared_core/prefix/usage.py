"""How many tokens of a prompt a provider read out of its cache, by its own account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_READ = (
    "cache_read",  # LangChain
    "cached_tokens",  # OpenAI, Mistral
    "cache_read_input_tokens",  # Anthropic
    "cached_content_token_count",  # Gemini, its SDK
    "cachedContentTokenCount",  # Gemini, as sent
    "cacheReadInputTokens",  # Bedrock
    "prompt_cache_hit_tokens",  # DeepSeek
)
_WRITTEN = (
    "cache_creation",  # LangChain
    "cache_write_tokens",  # OpenAI from gpt-5.6 on
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
)
_BY_LIFETIME = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Anthropic's counts of what was written for five minutes and for an hour."""

_WITHIN = (
    "usage", "usage_metadata", "usageMetadata", "token_usage", "response_metadata",
    "input_token_details", "prompt_tokens_details", "input_tokens_details",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CachedTokens:
    """Prompt tokens ``read`` out of the provider's cache, and ``written`` into it."""

    read: int = 0
    written: int = 0


def cached_tokens(usage: Any) -> CachedTokens:
    """Read a provider's counts in a usage, or in a response or message that holds one.

    Mappings and objects, of OpenAI, Anthropic, Gemini, Bedrock, DeepSeek, LangChain and LlamaIndex.
    Zero for what is not told.
    """
    places = list(_places(usage, 3))
    written = _first(places, _WRITTEN)
    if not written:
        written = sum(_first(places, (name,)) for name in _BY_LIFETIME)
    return CachedTokens(_first(places, _READ), written)


def _places(source: Any, depth: int) -> Iterator[Any]:
    if source is None:
        return
    yield source
    for name in _WITHIN if depth else ():
        yield from _places(_get(source, name), depth - 1)


def _first(places: list[Any], names: tuple[str, ...]) -> int:
    """Return the first count above zero: frameworks tell one count in several places."""
    counts = (_get(place, name) for place in places for name in names)
    return next((n for n in counts if isinstance(n, int) and n > 0), 0)


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return None if isinstance(source, (str, type)) else getattr(source, name, None)
