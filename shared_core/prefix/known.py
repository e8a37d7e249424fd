"""How much of a prompt was sent before: whole messages, then blocks of the first one that differs.

    root -hash-> message -hash-> message -hash-> …        one look-up for each message
                                     '-hash-> block -> block -> …   for the one that differs

A key is the hash of the key before it and of a text, so that it stands for all in front of it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared_core.forking import renew_after_fork
from shared_core.options import Seconds, seconds
from shared_core.prefix.prompt import Messages, Prompt, prompt_of
from shared_core.record import PrefixMatch
from shared_core.request import Request
from shared_core.token_budget import BYTES_PER_TOKEN, estimate_tokens


@dataclass(frozen=True, slots=True)
class PrefixCounts:
    """What a prefix cache did and holds.

    ``hits`` are look-ups that found any known front, ``tokens`` what those fronts held in all, out
    of ``tokens_asked``, both estimated; ``entries`` and ``blocks`` are there now.
    """

    lookups: int
    hits: int
    tokens: int
    tokens_asked: int
    entries: int
    blocks: int


@dataclass(slots=True)
class _Message:
    """A message in its place behind others: when it was last asked for, and its blocks' keys."""

    used: float
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A match, and the keys of the messages in it."""

    match: PrefixMatch
    path: list[int]


class PrefixCache:
    """The fronts of prompts that were sent; safe for threads, empty in a forked child.

    - ``max_blocks``: most blocks and messages held; the least recently asked for go first, the end
      of a prompt before its front
    - ``ttl``: seconds after its last use at which a front is forgotten, None for never. The default
      is the five minutes for which providers keep one at least
    - ``block_tokens``: estimated tokens of a block

    It holds hashes of 64 bits, no text. Raises ValueError for limits that make no sense.

        prefixes = PrefixCache()
        cache = ResponseCache.open("sqlite:///answers.db", prefix=prefixes)
        cache.lookup(request).prefix  # PrefixMatch(messages=1, blocks=16, …, share=0.97)
    """

    def __init__(
        self,
        max_blocks: int = 200_000,
        ttl: Seconds | None = timedelta(minutes=5),
        block_tokens: int = 64,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("max_blocks", max_blocks), ("block_tokens", block_tokens)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        self._terms: tuple[Any, ...] = (max_blocks, ttl, block_tokens)
        self._most, self._clock = max_blocks, clock
        self._size = block_tokens * BYTES_PER_TOKEN
        self._ttl = float("inf") if ttl is None else seconds("ttl", ttl)
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Start empty: another thread of the parent may have been inside."""
        self._lock = threading.Lock()
        self._messages: OrderedDict[int, _Message] = OrderedDict()
        self._blocks: dict[int, _Message] = {}
        self._held = 0  # messages and their blocks; a block of two messages counts twice
        self._lookups = self._hits = self._tokens = self._asked = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was told; what it knows is of this process."""
        return PrefixCache, self._terms

    def match(self, source: Request | Messages, namespace: str = "") -> PrefixMatch:
        """Return the longest front that is known; its whole messages count as used.

        Raises TypeError or ValueError for messages that are none.
        """
        prompt = prompt_of(source, namespace)
        with self._lock:
            return self._match(prompt, self._clock()).match

    def note(self, source: Request | Messages, namespace: str = "") -> PrefixMatch:
        """Return the longest front that is known, then remember the whole prompt.

        Raises TypeError or ValueError for messages that are none.
        """
        prompt = prompt_of(source, namespace)
        with self._lock:
            now = self._clock()
            found = self._match(prompt, now)
            self._remember(prompt, found.path, now)
            return found.match

    def counts(self) -> PrefixCounts:
        """Return what it did and holds."""
        with self._lock:
            return PrefixCounts(
                self._lookups,
                self._hits,
                self._tokens,
                self._asked,
                len(self._messages),
                len(self._blocks),
            )

    def clear(self) -> None:
        """Forget every prompt; the counts stay."""
        with self._lock:
            self._messages.clear()
            self._blocks.clear()
            self._held = 0

    def _match(self, prompt: Prompt, now: float) -> _Found:
        found = self._find(prompt, now - self._ttl)
        self._touch(found.path, now)
        match = found.match
        self._lookups += 1
        self._hits += match.blocks > 0
        self._tokens += match.tokens_estimate
        self._asked += sum(estimate_tokens(text) for _, text in prompt.messages)
        return found

    def _find(self, prompt: Prompt, oldest: float) -> _Found:
        key, path = hash(prompt.root), list[int]()
        blocks = tokens = 0
        for role, text in prompt.messages:
            known = self._messages.get(after := hash((key, role, text)))
            if known is None or known.used < oldest:
                matched = self._find_blocks(hash((key, role)), text, oldest)
                blocks += matched
                tokens += estimate_tokens(text[: matched * self._size])
                break
            path.append(after)
            key = after
            blocks += max(1, -(-len(text) // self._size))
            tokens += estimate_tokens(text)
        asked = sum(estimate_tokens(text) for _, text in prompt.messages)
        share = tokens / asked if asked else 0.0
        return _Found(PrefixMatch(len(path), blocks, tokens, share), path)

    def _find_blocks(self, key: int, text: str, oldest: float) -> int:
        known, size = self._blocks, self._size
        holders = []
        for start in range(0, len(text) - size + 1, size):
            key = hash((key, text[start : start + size]))
            holder = known.get(key)
            if holder is None:
                break
            holders.append(holder)
        while holders and holders[-1].used < oldest:
            holders.pop()
        return len(holders)

    def _touch(self, path: list[int], now: float) -> None:
        """Make messages the newest, the first of the prompt last: it is to go after the others."""
        for key in reversed(path):
            self._messages[key].used = now
            self._messages.move_to_end(key)

    def _remember(self, prompt: Prompt, path: list[int], now: float) -> None:
        key = path[-1] if path else hash(prompt.root)
        new = []
        for role, text in prompt.messages[len(path) :]:
            blocks, block = [], hash((key, role))
            for start in range(0, len(text) - self._size + 1, self._size):
                blocks.append(block := hash((block, text[start : start + self._size])))
            key = hash((key, role, text))
            self._forget(key)  # expired, it may still be there
            message = self._messages[key] = _Message(now, tuple(blocks))
            self._held += 1 + len(blocks)
            self._blocks.update(dict.fromkeys(blocks, message))
            new.append(key)
        self._touch([*path, *new], now)
        while self._held > self._most:
            self._forget(next(iter(self._messages)))

    def _forget(self, key: int) -> None:
        message = self._messages.pop(key, None)
        if message is None:
            return
        self._held -= 1 + len(message.blocks)
        for block in message.blocks:
            if self._blocks.get(block) is message:  # else a newer message holds it too
                del self._blocks[block]
