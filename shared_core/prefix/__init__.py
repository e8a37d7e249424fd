"""The unchanging front of a prompt: how much of it is known, and how to tell a provider of it.

Where no answer can be reused, the front of the prompt still can: providers charge a tenth for
tokens that they have read before. ``PrefixCache`` knows what was sent, ``mark`` says to a provider
what to keep, ``cached_tokens`` reads what it did.
"""

from shared_core.prefix.known import PrefixCache, PrefixCounts, SystemPromptCache
from shared_core.prefix.marking import Marked, mark
from shared_core.record import PrefixMatch
from shared_core.usage import CachedTokens, cached_tokens

__all__ = [
    "CachedTokens",
    "Marked",
    "PrefixCache",
    "PrefixCounts",
    "PrefixMatch",
    "SystemPromptCache",
    "cached_tokens",
    "mark",
]
