"""Tell a provider what front of a prompt to keep: ``mark(messages, provider="anthropic", …)``.

messages -> static before dynamic -> breakpoints, where the provider wants them -> Marked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, get_args

from shared_core.prefix.layout import MARKERS, Count, Layout, Spot, is_markable, parts_of
from shared_core.prefix.providers import (
    LIFETIMES,
    MOST_BREAKPOINTS,
    Provider,
    is_nova,
    minimum_tokens,
    takes_breakpoints,
)
from shared_core.request import canonical_json
from shared_core.token_budget import estimate_tokens

KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Marked:
    """A prompt as the provider is to see it.

    ``messages`` are the given ones, in order and with breakpoints; ``tools`` likewise; ``params``
    go beside them; ``breakpoints`` counts those set. ``body()`` is the provider's own request.
    """

    provider: Provider
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    breakpoints: int = 0

    def body(self) -> dict[str, Any]:
        """Return keyword arguments for the provider's own SDK, without model and limits."""
        from shared_core.prefix.bodies import body

        return body(self)


def mark(
    messages: Sequence[Mapping[str, Any]],
    provider: Provider,
    *,
    model: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    ttl: str | None = None,
    key: str | None = None,
    cached_content: str | None = None,
    minimum: int | None = None,
    count: Count = estimate_tokens,
) -> Marked:
    """Put static parts first, and mark where the front ends that the provider is to keep.

    A system message, or a part of one, is dynamic if it says so: ``{"type": "text", "text":
    f"Today is {day}.", "dynamic": True}``. Nothing else is ever moved. Messages or tools that hold
    breakpoints already keep those, and get no others.

    - anthropic, bedrock: at most four breakpoints, each if the front up to there has ``minimum``
      tokens by ``count``: after the static system prompt, the tools and, in a conversation, this
      turn and the one before. ``ttl`` "5m" or "1h" is that of system prompt and tools
    - openai: ``prompt_cache_key``, a digest of tools and static system prompt unless ``key`` is
      given; ``ttl`` "in_memory" or "24h" is its retention. From gpt-5.6 on a breakpoint, too
    - gemini: ``cached_content``, the name under which the static system prompt is kept there; it is
      left out here then
    - automatic: order alone, for providers that need no more

    Raises ValueError for a provider or ttl that is not known, and for what Gemini would refuse.
    """
    if provider not in get_args(Provider):
        raise ValueError(f"provider must be one of {', '.join(LIFETIMES)}, not {provider!r}")
    if ttl is not None and ttl not in LIFETIMES[provider]:
        known = " or ".join(map(repr, LIFETIMES[provider])) or "None"
        raise ValueError(f"ttl of {provider} must be {known}, not {ttl!r}")
    if cached_content is not None and provider != "gemini":
        raise ValueError(f"cached_content is of gemini, not of {provider}")
    layout = Layout.of(messages)
    offered = [dict(tool) for tool in tools]
    if provider == "gemini" and cached_content is not None:
        return _named(layout, offered, cached_content)
    params: dict[str, Any] = {}
    if provider == "openai":
        params = _openai_params(layout, offered, key, ttl)
    marked_by_hand = layout.is_marked() or any(name in one for one in offered for name in MARKERS)
    if marked_by_hand or not takes_breakpoints(provider, model):
        return Marked(provider, layout.messages, offered, params)
    least = minimum_tokens(provider, model) if minimum is None else minimum
    ttl = None if is_nova(model) else ttl
    places = _places(layout, offered, provider, model, least, count)
    return _marked(layout, offered, places, provider, ttl, params)


def _places(
    layout: Layout,
    tools: list[dict[str, Any]],
    provider: Provider,
    model: str,
    least: int,
    count: Count,
) -> list[Spot | None]:
    """Choose the breakpoints, the most useful first; None is the end of the tools."""
    of_tools = sum(count(canonical_json(tool)) for tool in tools)
    wanted: list[Spot | None] = []
    end = layout.static_end
    if end is not None and is_markable(parts_of(layout.messages[end.message])[end.part]):
        wanted.append(end)
    if tools and provider != "openai" and not is_nova(model):
        wanted.append(None)
    if provider != "openai":  # which marks the end of a conversation by itself
        wanted += layout.conversation_ends()
    long_enough = [
        spot
        for spot in wanted
        if of_tools + (sum(map(count, layout.front(spot))) if spot else 0) >= least
    ]
    return long_enough[:MOST_BREAKPOINTS]


def _marked(
    layout: Layout,
    tools: list[dict[str, Any]],
    places: list[Spot | None],
    provider: Provider,
    ttl: str | None,
    params: dict[str, Any],
) -> Marked:
    messages = layout.messages
    for spot in places:
        if spot is None:
            tools = _after_tools(tools, provider, ttl)
            continue
        # A longer lifetime may not follow a shorter one: what grows has the shortest.
        lifetime = ttl if spot == layout.static_end else None
        parts = parts_of(messages[spot.message])
        if provider == "bedrock":
            parts.insert(spot.part + 1, _cache_point(lifetime))
        else:
            parts[spot.part] |= _inline(provider, lifetime)
        messages[spot.message] = {**messages[spot.message], "content": parts}
    return Marked(provider, messages, tools, params, len(places))


def _inline(provider: Provider, ttl: str | None) -> dict[str, Any]:
    if provider == "openai":
        return {"prompt_cache_breakpoint": {"mode": "explicit"}}
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}


def _cache_point(ttl: str | None) -> dict[str, Any]:
    return {"cachePoint": {"type": "default"} | ({"ttl": ttl} if ttl else {})}


def _after_tools(
    tools: list[dict[str, Any]], provider: Provider, ttl: str | None
) -> list[dict[str, Any]]:
    if provider == "bedrock":
        return [*tools, _cache_point(ttl)]
    return [*tools[:-1], tools[-1] | _inline(provider, ttl)]


def _openai_params(
    layout: Layout, tools: list[dict[str, Any]], key: str | None, ttl: str | None
) -> dict[str, Any]:
    """Return the key by which requests of one front reach one machine, and the retention."""
    params: dict[str, Any] = {}
    front = [] if layout.static_end is None else list(layout.front(layout.static_end))
    if key is None and (front or tools):
        key = sha256(canonical_json([tools, front]).encode()).hexdigest()[:KEY_DIGITS]
    if key is not None:
        params["prompt_cache_key"] = key
    if ttl is not None:
        params["prompt_cache_retention"] = ttl
    return params


def _named(layout: Layout, tools: list[dict[str, Any]], name: str) -> Marked:
    """Leave to Gemini what it keeps under a name; it refuses system prompt and tools beside it."""
    ahead = layout.messages[: layout.ahead]
    end = layout.static_end
    if ahead and end != Spot(layout.ahead - 1, len(parts_of(ahead[-1])) - 1):
        raise ValueError(
            "gemini takes no system prompt beside cached_content: put its dynamic parts into the "
            "user's message"
        )
    if tools:
        raise ValueError("gemini takes no tools beside cached_content: put them into the content")
    return Marked("gemini", layout.messages[layout.ahead :], [], {"cached_content": name})
