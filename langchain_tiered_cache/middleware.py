"""Cache agents: the model calls of any, and the results of the tools that its author names.

    create_agent(model, tools, middleware=[TieredCacheMiddleware(cache, tools={"search": 3600})])

A model call goes through LangChain's own cache path, so that messages, tools, schema and settings
are looked up as the model gets them. Model and tools of one agent share a cache.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

try:
    from langchain.agents.middleware import (
        AgentMiddleware,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        ToolCallRequest,
    )
except ImportError as error:
    raise ImportError(
        f"TieredCacheMiddleware needs langchain: pip install 'langchain>=1' ({error})"
    ) from None
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from langchain_tiered_cache.agents import keeping_answers, run_of
from langchain_tiered_cache.answers import MARK
from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.call_context import as_class, chat_acall, chat_call, refreshing
from langchain_tiered_cache.tools import code_of, looks_like_writing, sees_more, tool_digest
from shared_core.compute import flow
from shared_core.concurrency import Blocking, Runtime, finish
from shared_core.controls import controlling, controls_of
from shared_core.identity import ValueReader
from shared_core.options import Seconds, seconds
from shared_core.record import Answer, Hit
from shared_core.request import Request, canonical_json
from shared_core.resilience import reraise_as
from shared_core.state_places import Unreadable

TOOL_FORMAT = "langchain-tool/1"

ToolResult = ToolMessage | Command[Any]
ModelResult = ModelResponse[Any] | AIMessage | ExtendedModelResponse[Any]


class TieredCacheMiddleware(AgentMiddleware[Any, Any, Any]):
    """Answers an agent's model calls, and calls of the tools named, from the cache.

    ``cache`` is a ``TieredCache``. ``tools`` names the tools whose results may be kept, with
    seconds to keep them (None: as long as the cache keeps anything): results are found again for
    equal arguments of an equal tool alone: its name, description, schema, function, and what that
    holds. Failed calls, and results other than a message, are never kept. Neither are tools that
    see more than their arguments (config, run manager, state, store, runtime, context variables),
    or that hold what cannot be read, unless ``key`` says what else their results depend on: a
    callable that is given the ``ToolCallRequest`` and returns a value, None for a call that is not
    to be kept; or one for each name. ``ignore`` names arguments, of all these tools or by tool, on
    which no result depends. A tool whose name or annotations say that it writes is kept only if
    ``may_write`` names it.

    With ``answers=True`` the final answer of a whole run is kept too, under the question that began
    it: a later run with the same question, or the same in other words, calls no model and no tool.
    It is kept only if every tool that the run used is among ``tools``, and as long as the shortest
    of their times; the same system prompt, tools, settings, history and context are compared
    exactly.

    ``namespace`` says whose the agent's call is: a text, or a callable that is given the
    ``context`` of the invocation and returns one. By default calls share answers only if their
    contexts are equal. A context that says nothing (not JSON, no text returned) is a miss.

    Raises ValueError for arguments that make no sense.
    """

    def __init__(
        self,
        cache: TieredCache,
        *,
        tools: Mapping[str, Seconds | None] | Iterable[str] = (),
        key: ToolKey | Mapping[str, ToolKey] | None = None,
        ignore: Iterable[str] | Mapping[str, Iterable[str]] = (),
        may_write: Iterable[str] = (),
        answers: bool = False,
        namespace: str | Callable[[Any], str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cache, TieredCache):
            raise ValueError(f"cache must be a TieredCache, not {type(cache).__name__}")
        if isinstance(tools, str):
            raise ValueError(f"tools must name several tools, not the text {tools!r}: [{tools!r}]")
        if namespace is not None and not callable(namespace) and not _is_name(namespace):
            raise ValueError(f"namespace must be a text, a callable or None, not {namespace!r}")
        lives = dict(tools) if isinstance(tools, Mapping) else dict.fromkeys(tools)
        if answers not in (True, False):
            raise ValueError(f"answers must be True or False, not {answers!r}")
        self._cache, self._answers, self._namespace = cache, answers, namespace
        self._keys = _keys_of(key, lives)
        self._ignored = _ignored_by(ignore, lives)
        self._may_write = frozenset(_names("may_write", may_write, lives))
        self._kinds: dict[type[BaseChatModel], type[BaseChatModel]] = {}
        self._lives = {
            name: None if life is None else seconds(f"tools[{name!r}]", life)
            for name, life in lives.items()
        }

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResult:
        """Call the model, or answer from the cache."""
        with self._on_behalf_of(request.runtime), self._whole_runs(request):
            return handler(self._caching(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResult:
        """Do as ``wrap_model_call`` does."""
        with self._on_behalf_of(request.runtime), self._whole_runs(request):
            return await handler(self._caching(request))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]
    ) -> ToolResult:
        """Call the tool, or return what it returned for the same arguments."""
        asked = self._tool_request(request)
        if asked is None:
            return handler(request)
        with self._on_behalf_of(request.runtime):
            return finish(self._tool(Blocking(), asked, request, partial(handler, request)))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Do as ``wrap_tool_call`` does."""
        asked = self._tool_request(request)
        if asked is None:
            return await handler(request)

        async def call() -> ToolResult:
            return await handler(request)

        with self._on_behalf_of(request.runtime):
            return await self._tool(self._cache.cache.on_loop, asked, request, call)

    # ---------------------------------------------------------------------------- whose call

    def _on_behalf_of(self, runtime: Any) -> AbstractContextManager[None]:
        """Put the namespace of a call in force; none to be had means that the cache is left out."""
        context = getattr(runtime, "context", None)
        tenant = self._cache.tenant_in(getattr(runtime, "config", None))
        if context is None and self._namespace is None and tenant is None:
            return nullcontext()
        controls = controls_of(self._cache.cache)
        if self._namespace is None and (context is None or tenant == ""):
            return controlling(self._cache.cache, replace(controls, namespace=tenant))
        try:
            own = tenant or controls.namespace or self._cache.cache.options.namespace
            controls = replace(controls, namespace=self._name(context, own))
        except ValueError as error:
            self._cache.count("context", f"the cache is passed over: {error}")
            controls = replace(controls, read=False, write=False)
        return controlling(self._cache.cache, controls)

    def _name(self, context: Any, own: str) -> str:
        if isinstance(self._namespace, str):
            return self._namespace
        if self._namespace is None:
            return f"{own}/{sha256(_spelt(context).encode()).hexdigest()[:32]}"
        name = reraise_as(ValueError, self._namespace, context)
        if not _is_name(name):
            raise ValueError("namespace= returned no text for the context of a call")
        return name

    def _whole_runs(self, request: ModelRequest[Any]) -> AbstractContextManager[None]:
        """Let answers of whole runs be given and kept, with the tools that may be skipped."""
        if not self._answers:
            return nullcontext()
        known = {
            tool.name: identity
            for tool in request.tools
            if isinstance(tool, BaseTool)
            and tool.name in self._lives
            and tool.name not in self._keys
            and (identity := self._identity(tool)) is not None
        }
        return keeping_answers({name: self._lives[name] for name in known}, known)

    def _caching(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """Return the request with a model that asks this cache, unless it says ``cache=False``."""
        model = request.model
        if not isinstance(model, BaseChatModel) or model.cache is False:
            return request
        kind = self._kinds.get(type(model))
        if kind is None:
            kind = self._kinds[type(model)] = _asking(type(model), self._cache)
        return request.override(model=as_class(model, kind))

    # --------------------------------------------------------------------------------- tools

    def _tool_request(self, request: ToolCallRequest) -> Request | None:
        """Return what the cache is asked for a tool call, None if it is not."""
        call, tool = request.tool_call, request.tool
        if call["name"] not in self._lives or tool is None:
            return None
        try:
            identity, more = self._identity(tool), None
            if (key := self._keys.get(call["name"])) is not None:
                more = ValueReader().spell(reraise_as(ValueError, key, request))
                identity = None if more is None else identity
            if identity is None:
                return None
            ignored = self._ignored.get(call["name"], frozenset())
            arguments = {name: one for name, one in call["args"].items() if name not in ignored}
            context = {"tool": identity, "arguments": ValueReader().spell(arguments), "more": more}
            named = f"tool:{call['name']}"
            return Request.of(None, named, context=context, exact_only="tool", format=TOOL_FORMAT)
        except (TypeError, ValueError) as error:
            self._cache.count("tool", f"{call['name']} is not kept: {error}")
            return None

    def _identity(self, tool: BaseTool) -> Any:
        """Return what tells a tool apart, None if its results are not to be kept."""
        if looks_like_writing(tool) and tool.name not in self._may_write:
            self._cache.count(
                "tool", f"{tool.name} looks as if it wrote something, and is not kept: may_write="
            )
            return None
        has_key = tool.name in self._keys
        if sees_more(tool) and not has_key:
            self._cache.count("tool", f"{tool.name} sees more than its arguments: not kept, key=")
            return None
        try:
            return tool_digest(tool).now()
        except Unreadable as error:
            if has_key:
                return code_of(tool)
            self._cache.count("tool", f"{tool.name} holds what cannot be read: {error}")
            return None

    async def _tool(
        self,
        runtime: Runtime,
        asked: Request,
        request: ToolCallRequest,
        call: Callable[[], Any],
    ) -> ToolResult:
        form, tool = ToolForm(request.tool_call), request.tool

        async def ask() -> ToolResult:
            with nullcontext() if tool is None else tool_digest(tool).calling():
                result: ToolResult = await runtime.ask(call)
                return result

        life = self._lives[request.tool_call["name"]]
        return await flow(self._cache.cache, runtime, asked, ask, form, ttl=life, stale=False)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != ""


def _spelt(context: Any) -> str:
    """Spell a context in one way, with all that it holds. Raises ValueError if it is no value."""
    try:
        return canonical_json(ValueReader().spell(context))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the context of the call is no value ({error}): give namespace="
        ) from None


ToolKey = Callable[[ToolCallRequest], Any]
"""Says what else than its arguments the result of a tool's call depends on."""


def _keys_of(
    key: ToolKey | Mapping[str, ToolKey] | None, names: Iterable[str]
) -> Mapping[str, ToolKey]:
    found = dict(key) if isinstance(key, Mapping) else dict.fromkeys(names, key)
    _names("key", found, names)
    for one in found.values():
        if one is not None and not callable(one):
            raise ValueError(f"key must be a callable given the call's request, not {one!r}")
    return {name: one for name, one in found.items() if one is not None}


def _ignored_by(
    ignore: Iterable[str] | Mapping[str, Iterable[str]], names: Iterable[str]
) -> Mapping[str, frozenset[str]]:
    by_name = ignore if isinstance(ignore, Mapping) else dict.fromkeys(names, ignore)
    _names("ignore", by_name, names)
    found = {}
    for name, arguments in by_name.items():
        if isinstance(arguments, str):
            raise ValueError(f"ignore must be a list of names, not the text {arguments!r}")
        found[name] = frozenset(arguments)
    return found


def _names(option: str, given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return names of tools. Raises ValueError for a text, and for a tool that is not kept."""
    if isinstance(given, str):
        raise ValueError(f"{option} must be a list of names, not the text {given!r}")
    names = tuple(given)
    unknown = sorted(map(str, set(names) - set(known)))
    if unknown:
        raise ValueError(f"{option} names {', '.join(unknown)}, which tools= does not")
    return names


def _asking(kind: type[BaseChatModel], tiered: TieredCache) -> type[BaseChatModel]:
    """Derive the class of views whose cache is this one, and which refresh its stale answers.

    A copy of the model would do, but would keep to itself what the model counts or remembers.
    """

    def generate(
        model: Any, messages: Any, stop: Any = None, run_manager: Any = None, **call: Any
    ) -> Any:
        run = run_of(tiered, model, messages, stop, call)
        if run is not None and (known := run.known()) is not None:
            return known
        with refreshing(tiered, chat_call(as_class(model, kind), messages, stop, call)):
            result = kind._generate_with_cache(model, messages, stop, run_manager, **call)
        if run is not None:
            run.keep(result)
        return result

    async def agenerate(
        model: Any, messages: Any, stop: Any = None, run_manager: Any = None, **call: Any
    ) -> Any:
        run = run_of(tiered, model, messages, stop, call)
        runtime = tiered.cache.on_loop
        if run is not None and (known := await runtime.run(run.known)) is not None:
            return known
        with refreshing(tiered, chat_acall(as_class(model, kind), messages, stop, call)):
            result = await kind._agenerate_with_cache(model, messages, stop, run_manager, **call)
        if run is not None:
            await runtime.run(lambda: run.keep(result))
        return result

    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "_generate_with_cache": generate,
        "_agenerate_with_cache": agenerate,
    }
    metaclass: Any = type(kind)
    made: type[BaseChatModel] = metaclass(kind.__name__, (kind,), names)
    # Set afterwards: a property in the place of a field is refused when a class is made.
    type.__setattr__(made, "cache", property(lambda self: tiered))
    return made


@dataclass(frozen=True, slots=True)
class ToolForm:
    """How the results of a tool are read from the cache and kept there, for one call of it."""

    call: Mapping[str, Any]

    def read(self, hit: Hit) -> ToolResult:
        """Build the message that answers this call of the tool."""
        body = json.loads(hit.answer.payload or "{}")
        message = ToolMessage(**body, name=self.call["name"], tool_call_id=self.call["id"])
        mark = {"hit": True, "tier": str(hit.tier), "entry_id": hit.entry_id, "age": hit.age}
        _mark(message, mark)
        return message

    def write(self, value: ToolResult) -> Answer | None:
        """Return what may be kept of a result: a message of success that JSON can hold."""
        if not isinstance(value, ToolMessage) or value.status != "success":
            return None
        body = {"content": value.content, "artifact": value.artifact}
        try:
            payload = json.dumps(body, allow_nan=False)
            if json.loads(payload) != body:
                return None
        except (TypeError, ValueError, RecursionError):
            return None
        return Answer(str(value.text), payload=payload, format=TOOL_FORMAT, exact_only=True)

    def fresh(self, value: ToolResult, mark: dict[str, Any]) -> ToolResult:
        """Mark the message of the tool itself."""
        if isinstance(value, ToolMessage) and value.status == "success":
            _mark(value, mark)
        return value


def _mark(message: ToolMessage, mark: Mapping[str, Any]) -> None:
    message.response_metadata = {**message.response_metadata, MARK: dict(mark)}
