"""Keep the final answer of an agent's whole run, under the question that began the run.

first model call of a run -> looked up under its question, and all else that the run depends on
last model call of a run  -> its answer is kept there too, if every tool used may be skipped

A run is known by everything that its first model call depends on: model, settings, system prompt,
tools, history; and by what the tools are that may be skipped. The question alone may be matched by
meaning. An answer lives as long as the shortest-lived result that it rests on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared_core.options import Seconds, seconds
from shared_core.request import Request, canonical_json

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

    def allows(self, used: Iterable[str]) -> bool:
        """Tell whether every tool that a run used may be skipped."""
        return self.known.keys() >= set(used)

    def life(self, used: Iterable[str]) -> float | None:
        """Return for how many seconds an answer holds that rests on these; None: as any other."""
        lives = [life for name in used if (life := self.lives[name]) is not None]
        return min(lives, default=None)


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
