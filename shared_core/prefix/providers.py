"""What providers ask of a prompt whose front they are to keep: which, how long, from what size on.

Below its smallest size a provider keeps nothing and says nothing, so a mark there is wasted. The
sizes are those of the providers' documentation of late 2026; ``mark(minimum=…)`` replaces them.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Provider = Literal["anthropic", "openai", "gemini", "bedrock", "automatic"]

LIFETIMES: Final[dict[str, tuple[str, ...]]] = {
    "anthropic": ("5m", "1h"),
    "bedrock": ("5m", "1h"),
    "openai": ("in_memory", "24h"),
    "gemini": (),
    "automatic": (),
}
"""What ``ttl`` may say; the providers without one keep fronts by themselves, or under a name."""

MOST_BREAKPOINTS = 4
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
