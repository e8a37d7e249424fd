"""Find how much of a prompt was sent before: messages, then blocks of the first that differs.

    root -hash-> message -hash-> message -hash-> …        one look-up for each message
                                     '-hash-> block -> block -> …   for the one that differs

A key is the hash of the key before it and of a text, so that it stands for all in front of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from shared_core.concurrency import (
    Blocking,
    OnLoop,
    Runtime,
    SingleFlight,
    ThreadRunner,
    called_with,
    finish,
    free_after_fork,
    once,
    renew_after_fork,
)
from shared_core.options import Seconds, seconds
from shared_core.prefix.token_budget import estimate_tokens
from shared_core.record import PrefixMatch
from shared_core.request import Request, canonical_json, canonical_messages
from shared_core.usage import BYTES_PER_TOKEN

# A prompt as a prefix cache reads it: where it starts, then role and text of every message.


Prompt = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PromptFront:
    """What is sent to a model, front first.

    ``root`` is all that stands before the messages: two prompts of other roots share no front.
    """

    root: tuple[str, ...]
    messages: list[tuple[str, str]]


def prompt_of(source: Request | Prompt, namespace: str = "") -> PromptFront:
    """Read a request, or messages ``{"role": …, "content": …}``.

    The root of a request is namespace, provider, address, model and tools: what a provider keeps of
    one model it does not use for another, and tools stand before the messages. Raises ValueError or
    TypeError for messages that are none.
    """
    if not isinstance(source, Request):
        return PromptFront(
            (namespace,), [_role_and_text(message) for message in canonical_messages(source)]
        )
    scope = json.loads(source.scope) if source.scope else {}
    params = scope.get("params") or {}
    names = ("provider", "base_url", "model", "tools", "tool_choice")
    messages = [_role_and_text(message) for message in scope.get("messages") or ()]
    context = scope.get("context")
    if source.question is not None or context is not None:
        around = canonical_json(context) if context is not None else ""
        messages.append(("user", around + (source.question or "")))
    return PromptFront((namespace, *(canonical_json(params.get(name)) for name in names)), messages)


def _role_and_text(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the role and all else of a canonical message, as text."""
    content = message["content"]
    text = content if isinstance(content, str) else canonical_json(content)
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    return str(message["role"]), text + canonical_json(rest) if rest else text


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
        """Pickle the settings; what it knows is of this process."""
        return PrefixCache, self._terms

    def match(self, source: Request | Prompt, namespace: str = "") -> PrefixMatch:
        """Return the longest front that is known; its whole messages count as used.

        Raises TypeError or ValueError for messages that are none.
        """
        prompt = prompt_of(source, namespace)
        with self._lock:
            return self._match(prompt, self._clock()).match

    def note(self, source: Request | Prompt, namespace: str = "") -> PrefixMatch:
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

    def _match(self, prompt: PromptFront, now: float) -> _Found:
        found = self._find(prompt, now - self._ttl)
        self._touch(found.path, now)
        match = found.match
        self._lookups += 1
        self._hits += match.blocks > 0
        self._tokens += match.tokens_estimate
        self._asked += sum(estimate_tokens(text) for _, text in prompt.messages)
        return found

    def _find(self, prompt: PromptFront, oldest: float) -> _Found:
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

    def _remember(self, prompt: PromptFront, path: list[int], now: float) -> None:
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


# One value for each system prompt, made once for all who ask: a provider's handle, a token count.
#
# A Gemini ``cachedContents/…`` name is such a value: made by a slow call, good for as long as the
# provider keeps it.


T = TypeVar("T")


class SystemPromptCache:
    """Values by system prompt, least recently used first out; safe for threads and forks.

    ``ttl`` is in seconds from when a value was made, None for ever: for a provider's handle, less
    than what the provider was asked for. ``lease`` is how many seconds one caller waits for
    another's ``create_fn``. Raises ValueError for limits that make no sense.

        contents = SystemPromptCache(ttl=3500)
        name = contents.get_or_create(
            handbook,
            lambda prompt: client.caches.create(
                model=model, config={"system_instruction": prompt, "ttl": "3600s"}
            ).name,
        )
    """

    def __init__(
        self,
        ttl: Seconds | None = None,
        max_entries: int = 1024,
        *,
        lease: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(max_entries, int) or isinstance(max_entries, bool) or max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, not {max_entries!r}")
        self._ttl = float("inf") if ttl is None else seconds("ttl", ttl)
        self._most, self._clock = max_entries, clock
        self._kept: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._lock = free_after_fork(threading.Lock())
        self._flights, self._threads = SingleFlight(seconds("lease", lease)), ThreadRunner()

    def get_or_create(self, system_prompt: str, create_fn: Callable[..., T]) -> T:
        """Return the value of this system prompt, made once for all who ask.

        ``create_fn(system_prompt)`` makes it; a function that needs no argument is given none.
        Raises what ``create_fn`` raises; nothing is kept then.
        """
        return finish(self._get(Blocking(), system_prompt, create_fn))

    async def aget_or_create(self, system_prompt: str, create_fn: Callable[..., Any]) -> Any:
        """Do as ``get_or_create`` does; ``create_fn`` may be a coroutine function."""
        return await self._get(OnLoop(self._threads), system_prompt, create_fn)

    def forget(self, system_prompt: str) -> None:
        """Drop a value, as when the provider no longer knows its handle."""
        with self._lock:
            self._kept.pop(_key(system_prompt), None)

    async def _get(self, runtime: Runtime, system_prompt: str, create_fn: Callable[..., T]) -> T:
        key = _key(system_prompt)
        value: T
        value, _ = await once(
            runtime,
            self._flights,
            key,
            look=lambda: self._look(key),
            look_again=lambda: self._look(key),
            ask=called_with(create_fn, system_prompt, variadic=True),
            shape=lambda value: value,
            keep=lambda value: self._keep(key, value),
        )
        return value

    def _look(self, key: str) -> tuple[Any] | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            value, expires = kept
            if expires <= self._clock():
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return (value,)

    def _keep(self, key: str, value: Any) -> None:
        with self._lock:
            self._kept[key] = value, self._clock() + self._ttl
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _key(system_prompt: str) -> str:
    return sha256(system_prompt.encode("utf-8", "surrogatepass")).hexdigest()
