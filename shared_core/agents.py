"""Keep the final answer of an agent's whole run, under the question that began the run.

first model call of a run -> looked up under its question, and all else that the run depends on
last model call of a run  -> its answer is kept there too, if every tool used may be skipped

A run is known by everything that its first model call depends on: model, settings, system prompt,
tools, history; and by what the tools are that may be skipped. The question alone may be matched by
meaning. An answer lives as long as the shortest-lived result that it rests on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from shared_core.cache import ResponseCache
from shared_core.options import Seconds, seconds
from shared_core.request import Request, canonical_json, namespace_digest

Lives = Mapping[str, float | None]
"""Tools whose results may be kept, with the seconds that they hold; None: as the cache says."""


def tool_lives(tools: Mapping[str, Seconds | None] | Iterable[str]) -> Lives:
    """Read the option ``tools=``: names, with or without how long their results hold.

    Raises ValueError for a text, and for a time that makes no sense.

        >>> tool_lives({"search": 3600, "read": None})
        {'search': 3600.0, 'read': None}
    """
    if isinstance(tools, str):
        raise ValueError(f"tools must name several tools, not the text {tools!r}: [{tools!r}]")
    lives = dict(tools) if isinstance(tools, Mapping) else dict.fromkeys(tools)
    return {
        name: None if life is None else seconds(f"tools[{name!r}]", life)
        for name, life in lives.items()
    }


def names_among(option: str, given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return names of tools. Raises ValueError for a text, and for one that is not known."""
    if isinstance(given, str):
        raise ValueError(f"{option} must be a list of names, not the text {given!r}")
    names = tuple(given)
    unknown = sorted(map(str, set(names) - set(known)))
    if unknown:
        raise ValueError(f"{option} names {', '.join(unknown)}, which tools= does not")
    return names


@dataclass(frozen=True, slots=True)
class Skippable:
    """The tools that a run may skip: for how long their results hold, and what each of them is.

    ``known`` tells them apart, by name; a tool that is not among them may not be skipped.
    """

    lives: Lives
    known: Mapping[str, Any]

    def first(self, request: Request) -> Request:
        """Return the request of a run's first model call, under which its answer is kept.

        It is looked up in the place of the call's own: one lookup finds the run's answer, or what
        the model said first.
        """
        scope = canonical_json({"agent": request.scope, "may_be_skipped": dict(self.known)})
        return replace(request, scope=scope)

    @property
    def digest(self) -> str:
        """Return what tells apart what the tools are, to be noted where a run begins."""
        return sha256(canonical_json(dict(self.known)).encode()).hexdigest()[:32]

    def allows(self, used: Iterable[str]) -> bool:
        """Tell whether every tool that a run used may be skipped."""
        return self.known.keys() >= set(used)

    def life(self, used: Mapping[str, float], ttl: float | None) -> float | None:
        """Return for how many seconds an answer holds that rests on these; None: as any other.

        ``used`` says how old the oldest result of each tool is, in seconds: it came from the cache,
        and the answer must not outlive it. ``ttl`` is how long the cache keeps what has no time of
        its own. What is over by now gives 0 or less.
        """
        lives = [
            (life, age)
            for name, age in used.items()
            if (life := self.lives[name] or (ttl if age else None)) is not None
        ]
        return min((life - age for life, age in lives), default=None)


# Whether a tool looks as if it changed something.


_READS = frozenset(
    {
        "get", "list", "search", "find", "read", "fetch", "lookup", "look", "query", "show",
        "count", "check", "describe", "is", "has", "view", "retrieve", "browse", "compare",
    }
)  # fmt: skip
"""How the names of tools begin that say that they only read."""

_WRITES = frozenset(
    {
        "write", "create", "update", "upsert", "delete", "remove", "insert", "append", "add", "set",
        "put", "post", "patch", "send", "email", "reply", "notify", "publish", "upload", "save",
        "store", "move", "rename", "copy", "edit", "modify", "replace", "drop", "clear", "reset",
        "cancel", "book", "buy", "order", "pay", "purchase", "refund", "transfer", "charge",
        "execute", "exec", "run", "start", "stop", "restart", "kill", "deploy", "install", "enable",
        "disable", "approve", "reject", "commit", "merge", "push", "schedule", "submit", "sign",
        "register", "subscribe", "unsubscribe", "invite", "grant", "revoke", "assign", "close",
        "open", "lock", "unlock", "trigger",
    }
)  # fmt: skip
"""Words in the names of tools that say that they change something."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def looks_like_writing(name: str, hints: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a tool's annotations, or else its name, say that it changes something.

    ``hints`` are MCP's ``readOnlyHint`` and ``destructiveHint``.

        >>> looks_like_writing("send_invoice"), looks_like_writing("search_orders")
        (True, False)
    """
    hints = hints or {}
    if isinstance(only_reads := hints.get("readOnlyHint"), bool):
        return not only_reads
    if hints.get("destructiveHint") is True:
        return True
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(words) and words[0] not in _READS and not _WRITES.isdisjoint(words)


# What MCP servers list, and their resources: for how long these hold, and who may share them, is
# said by the server (``ttlMs``, ``cacheScope``) and heeded by the client of the MCP SDK.


class McpCacheStore:
    """Keep listings and resources of MCP servers where a cache keeps its answers.

        store = McpCacheStore("redis://localhost:6379/0")
        config = CacheConfig(store=store, partition=user_id)
        async with Client("https://example.com/mcp", cache=config) as client: ...

    It is a store for the client of the MCP SDK (``mcp`` 2.3, protocol revision 2026-07-28), which
    keeps them in its own process by default: with this one they survive it, and other processes and
    hosts find them. What may be kept, for how long and for whom, the client decides by the server's
    ``ttlMs`` and ``cacheScope`` and by its ``partition``. Calls of tools are not kept here.

    ``cache`` is a ``ResponseCache`` or the URL of one; entries are kept apart by its namespace.
    Operations raise StoreError, which the client takes as a miss. Raises ValueError for another
    ``cache``.
    """

    def __init__(self, cache: ResponseCache | str = "memory://") -> None:
        if isinstance(cache, str):
            cache = ResponseCache.open(cache, semantic=False)
        if not isinstance(cache, ResponseCache):
            raise ValueError(f"cache must be a ResponseCache or the URL of one, not {cache!r}")
        self.cache = cache
        self._prefix = f"mcp:{namespace_digest(cache.options.namespace)[:16]}:"

    async def get(self, key: Any) -> Any:
        """Return the entry of a key, None if there is none or it cannot be read."""
        name = self._name(key)
        found = await self.cache.on_loop.run(lambda: self.cache.values.get_many([name]))
        raw = found.get(name)
        return None if raw is None else _mcp_entry(key.method, raw)

    async def set(self, key: Any, entry: Any) -> None:
        """Keep an entry until it is stale."""
        life = (entry.expires_at or 0) - time.time()
        if life <= 0 or type(entry.value).__name__ != _MCP_RESULTS.get(key.method):
            await self.delete(key)
            return
        kept = {
            "scope": entry.scope,
            "expires_at": entry.expires_at,
            "value": entry.value.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
        items = {self._name(key): json.dumps(kept, separators=(",", ":")).encode()}
        await self.cache.on_loop.run(lambda: self.cache.values.put_many(items, life))

    async def delete(self, key: Any) -> None:
        """Forget the entry of a key."""
        await self.cache.on_loop.run(lambda: self.cache.values.delete_many([self._name(key)]))

    async def clear(self) -> None:
        """Forget all entries of the cache's namespace."""
        await self.cache.on_loop.run(self._clear)

    def _clear(self) -> None:
        values, cursor = self.cache.values, ""
        while True:
            names, cursor = values.scan(self._prefix, cursor)
            if names:
                values.delete_many(names)
            if not cursor:
                return

    def _name(self, key: Any) -> str:
        spelt = canonical_json([key.method, key.params_key, key.partition])
        return self._prefix + sha256(spelt.encode()).hexdigest()


_MCP_RESULTS: Mapping[str, str] = {
    "prompts/list": "ListPromptsResult",
    "resources/list": "ListResourcesResult",
    "resources/read": "ReadResourceResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "tools/list": "ListToolsResult",
}
"""The methods whose results a client may keep, and the classes of ``mcp_types`` that hold them."""


def _mcp_entry(method: str, raw: bytes) -> Any:
    import mcp_types
    from mcp.client.caching import CacheEntry

    try:
        kept = json.loads(raw)
        kind = getattr(mcp_types, _MCP_RESULTS[method])
        return CacheEntry(kind.model_validate(kept["value"]), kept["scope"], kept["expires_at"])
    except (ValueError, KeyError, TypeError):
        return None
