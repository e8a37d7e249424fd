"""Reuse the unchanging front of a prompt: how much of it is known, and how to tell a provider.

Where no answer can be reused, the front of the prompt still can: providers charge a tenth for
tokens that they have read before. ``PrefixCache`` knows what was sent, ``mark`` says to a provider
what to keep, ``cached_tokens`` reads what it did.
"""

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names
from shared_core.prefix.known import PrefixCache, PrefixCounts, SystemPromptCache
from shared_core.prefix.marking import Marked, Provider, mark
from shared_core.prefix.token_budget import NoRoomError, TokenBudget
from shared_core.record import PrefixMatch
from shared_core.usage import CachedTokens, cached_tokens

if TYPE_CHECKING:
    from shared_core.prefix.chunks import ChunkCache
    from shared_core.prefix.kv_reuse import KVPrefixCache
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"ChunkCache": "chunks", "KVPrefixCache": "kv_reuse"}
    )

__all__ = [
    "CachedTokens",
    "ChunkCache",
    "KVPrefixCache",
    "Marked",
    "NoRoomError",
    "PrefixCache",
    "PrefixCounts",
    "PrefixMatch",
    "Provider",
    "SystemPromptCache",
    "TokenBudget",
    "cached_tokens",
    "mark",
]
