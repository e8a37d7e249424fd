"""Tell what a tool is, and whether its results may be kept at all.

tool --name, description, schema, function and what it holds--> digest
     --more than its arguments, or a name that writes--> not kept
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any

from langchain_core.tools import BaseTool

from shared_core.identity import Digest, StateReader, names_in
from shared_core.state_places import digest_of

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

_SEES_CONTEXT = frozenset(
    {
        "get_config", "get_runtime", "get_store", "get_stream_writer", "ensure_config",
        "var_child_runnable_config", "copy_context", "interrupt",
    }
)  # fmt: skip
"""Names of functions and variables by which a tool reads what it was not given."""

_NO_SETTINGS = frozenset({"callbacks", "callback_manager", "verbose", "tags"})
"""Fields of a tool on which no result depends."""


def looks_like_writing(tool: BaseTool) -> bool:
    """Tell whether a tool's annotations, or its name, say that it changes something."""
    hints: dict[str, Any] = {}
    for source in (tool.metadata or {}, getattr(tool, "annotations", None) or {}):
        inner = source.get("annotations") if isinstance(source, Mapping) else None
        hints |= dict(source) if isinstance(source, Mapping) else {}
        hints |= dict(inner) if isinstance(inner, Mapping) else {}
    if isinstance(only_reads := hints.get("readOnlyHint"), bool):
        return not only_reads
    if hints.get("destructiveHint") is True:
        return True
    words = [word.lower() for word in _WORDS.findall(tool.name)]
    return bool(words) and words[0] not in _READS and not _WRITES.isdisjoint(words)


def sees_more(tool: BaseTool) -> bool:
    """Tell whether a tool sees more than the arguments that a model gives it.

    Its function takes the config, a run manager, the agent's state, a store or a runtime, or reads
    them by a function of LangChain or LangGraph.
    """
    said: Any = tool.tool_call_schema
    known = set(said.get("properties", ()) if isinstance(said, dict) else said.model_fields)
    return any(_takes_more(one, known) for one in _functions(tool))


def tool_digest(tool: BaseTool) -> Digest:
    """Return the digest of all that a tool is."""

    def make() -> Digest:
        return Digest(lambda reader: _spelt(reader, tool), owner=tool)

    return digest_of(tool, "tool", make)


def code_of(tool: BaseTool) -> list[Any]:
    """Return what is known of a tool of which not all can be read."""
    codes = [StateReader().spell(one.__code__) for one in map(_plain, _functions(tool)) if one]
    return [tool.name, tool.description, _schema_of(tool), codes]


def _spelt(reader: StateReader, tool: BaseTool) -> Any:
    return [
        tool.name,
        tool.description,
        _schema_of(tool),
        reader.settings(tool, lambda name: name in _NO_SETTINGS),
        [reader.spell(one) for one in map(_plain, _functions(tool)) if one is not None],
    ]


def _schema_of(tool: BaseTool) -> Any:
    schema: Any = tool.tool_call_schema
    return schema if isinstance(schema, dict) else schema.model_json_schema()


def _functions(tool: BaseTool) -> Iterator[Callable[..., Any]]:
    """Yield what a tool runs: the functions that it was made of, or the methods of its class."""
    made_of = [getattr(tool, name, None) for name in ("func", "coroutine")]
    if any(made_of):
        yield from (one for one in made_of if one is not None)
        return
    yield tool._run
    if type(tool)._arun is not BaseTool._arun:
        yield tool._arun


def _takes_more(function: Callable[..., Any], known: set[str]) -> bool:
    parameters = signature(function).parameters.values()
    named = {
        one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    plain = _plain(function)
    looked_up = set(names_in(plain.__code__)) if plain is not None else set()
    return bool(named - known - {"self"}) or not _SEES_CONTEXT.isdisjoint(looked_up)


def _plain(function: Any) -> types.FunctionType | None:
    """Return the Python function behind a method or a partial, None if there is none."""
    while not isinstance(function, types.FunctionType):
        inner = getattr(function, "__func__", getattr(function, "func", None))
        if inner is None:
            return None
        function = inner
    return function
