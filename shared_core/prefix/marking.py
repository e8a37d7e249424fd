"""Tell a provider what front of a prompt to keep: ``mark(messages, provider="anthropic")``.

messages -> static before dynamic -> breakpoints, where the provider wants them -> Marked
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from shared_core.prefix.token_budget import Count, estimate_tokens
from shared_core.request import canonical_json

# A prompt's messages with what never changes in front, and where that front ends.
#
# Only parts of the system messages in front are moved, and only if some are marked as dynamic: the
# order of a conversation is its meaning.


_Part = dict[str, Any]

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
        static, dynamic = list[_Part](), list[_Part]()
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
                yield _text_of(part)

    def is_marked(self) -> bool:
        """Say whether breakpoints are set already: then their author has decided."""
        return any(
            name in part
            for message in self.messages
            for part in parts_of(message)
            for name in MARKERS
        )


def parts_of(message: Mapping[str, Any]) -> list[_Part]:
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


def _text_of(part: Mapping[str, Any]) -> str:
    """Return what of a part can be counted: its text, or a tool's result or call as JSON."""
    if "text" in part:
        return str(part["text"])
    if part.get("type") in ("tool_use", "tool_result") or "toolUse" in part or "toolResult" in part:
        return json.dumps(part, default=str)
    return ""


# What providers ask of a prompt whose front they are to keep: which, how long, from what size on.
#
# Below its smallest size a provider keeps nothing and says nothing, so a mark there is wasted. The
# sizes are those of the providers' documentation of late 2026; ``mark(minimum=…)`` replaces them.


Provider = Literal["anthropic", "openai", "gemini", "bedrock", "automatic"]

LIFETIMES: Final[dict[str, tuple[str, ...]]] = {
    "anthropic": ("5m", "1h"),
    "bedrock": ("5m", "1h"),
    "openai": ("in_memory", "24h"),
    "gemini": (),
    "automatic": (),
}
"""What ``ttl`` may say; the providers without one keep fronts by themselves, or under a name."""

MAX_BREAKPOINTS = 4
"""Of Anthropic and Bedrock, tools and system included."""

_CLAUDE_MINIMUM = (
    (re.compile(r"opus-5|fable-5|mythos-5"), 512),
    (re.compile(r"opus-4-[56](?!\d)|haiku-4-5"), 4096),
    (re.compile(r"opus-4-7|3-5-haiku|3-haiku|haiku-3"), 2048),
)
_OTHER_MINIMUM = 1024
_BEDROCK_OPUS_4_7 = 4096

_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_EXPLICIT_SINCE = (5, 6)


def minimum_tokens(provider: Provider, model: str) -> int:
    """Return how long a front must be, in tokens, for this model's provider to keep it."""
    name = model.lower().replace(".", "-")
    if provider == "bedrock" and "opus-4-7" in name:
        return _BEDROCK_OPUS_4_7
    if provider in ("anthropic", "bedrock"):
        return next((least for which, least in _CLAUDE_MINIMUM if which.search(name)), 1024)
    return _OTHER_MINIMUM


def takes_breakpoints(provider: Provider, model: str) -> bool:
    """Say whether the end of a front is to be marked in the prompt itself.

    OpenAI's models before gpt-5.6 find the longest known front by themselves; later ones only at a
    breakpoint. Bedrock refuses marks for models that are neither Claude nor Nova.
    """
    match provider:
        case "anthropic":
            return True
        case "bedrock":
            return not model or "claude" in model.lower() or is_nova(model)
        case "openai":
            found = _GPT.search(model.lower())
            return found is not None and (int(found[1]), int(found[2] or 0)) >= _EXPLICIT_SINCE
        case _:
            return False


def is_nova(model: str) -> bool:
    """Say whether a Bedrock model is of the Nova family: no marks on tools, one lifetime."""
    return "amazon.nova" in model.lower()


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

        marked = mark(messages, "anthropic", model="claude-sonnet-5", ttl="1h")
        client.messages.create(model="claude-sonnet-5", max_tokens=500, **marked.body())
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
    return long_enough[:MAX_BREAKPOINTS]


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


# A marked prompt as the provider's own SDK takes it.
#
# Texts are translated; content parts in the provider's own form, tool calls and results among them,
# go through as they are.


def body(marked: Marked) -> dict[str, Any]:
    """Return the keyword arguments that carry messages, tools and params."""
    match marked.provider:
        case "anthropic":
            return _anthropic(marked)
        case "bedrock":
            return _bedrock(marked)
        case "gemini":
            return _gemini(marked)
        case _:
            return _with("tools", marked.tools, {"messages": marked.messages}) | marked.params


def _split(marked: Marked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part the system prompt's parts from the messages."""
    system = [m for m in marked.messages if m["role"] in ("system", "developer")]
    others = [m for m in marked.messages if m["role"] not in ("system", "developer")]
    return [part for message in system for part in parts_of(message)], others


def _with(name: str, value: Any, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, name: value} if value else given


def _anthropic(marked: Marked) -> dict[str, Any]:
    system, messages = _split(marked)
    given = _with("system", system, {"messages": messages})
    return _with("tools", marked.tools, given) | marked.params


def _bedrock(marked: Marked) -> dict[str, Any]:
    """For ``converse`` of bedrock-runtime."""
    system, messages = _split(marked)
    turns = [
        {"role": m["role"], "content": [_bedrock_part(part) for part in parts_of(m)]}
        for m in messages
    ]
    given = _with("system", [_bedrock_part(part) for part in system], {"messages": turns})
    return _with("toolConfig", {"tools": marked.tools} if marked.tools else None, given)


def _bedrock_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": part["text"]} if part.get("type") == "text" else dict(part)


def _gemini(marked: Marked) -> dict[str, Any]:
    """For ``models.generate_content`` of google-genai."""
    system, messages = _split(marked)
    roles = {"assistant": "model", "ai": "model"}
    contents = [
        {
            "role": roles.get(m["role"], m["role"]),
            "parts": [_gemini_part(part) for part in parts_of(m)],
        }
        for m in messages
    ]
    config = dict(marked.params)
    config = _with("system_instruction", [_gemini_part(part) for part in system], config)
    config = _with("tools", marked.tools, config)
    return _with("config", config, {"contents": contents})


def _gemini_part(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": part["text"]} if part.get("type") == "text" else dict(part)
