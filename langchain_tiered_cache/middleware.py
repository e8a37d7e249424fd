"""Cache agents: the model calls of any, and the results of the tools that its author names.

    create_agent(model, tools, middleware=[TieredCacheMiddleware(cache, tools={"search": 3600})])

A model call goes through LangChain's own cache path, so that messages, tools, schema and settings
are looked up as the model gets them. Model and tools of one agent share a cache.
"""

from __future__ import annotations

import json
import types
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from inspect import signature
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
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from langchain_tiered_cache.answers import MARK, answer_of
from langchain_tiered_cache.cache import FailingOpen, TieredCache, mark_as_fresh
from langchain_tiered_cache.call_context import as_class, chat_acall, chat_call, refreshing
from shared_core.agents import Skippable, looks_like_writing, names_among, tool_lives
from shared_core.compute import flow
from shared_core.concurrency import Blocking, Runtime, finish
from shared_core.controls import controlling, controls_of
from shared_core.identity import Digest, StateReader, ValueReader, names_in
from shared_core.options import Seconds, seconds
from shared_core.record import Answer, Hit
from shared_core.request import Request, canonical_json
from shared_core.resilience import reraise_as
from shared_core.state_places import Unreadable, digest_of

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
    ``may_write`` names it. ``versions`` says of a tool that its results depend on its arguments and
    on the state alone that its version names, such as that of an index or an MCP server: it is not
    read then.

    With ``answers=True`` the final answer of a whole run is kept too, under the question that began
    it: a later run with the same question, or the same in other words, calls no model and no tool.
    It is kept only if every tool that the run used is among ``tools``, and as long as the shortest
    of their times; the same system prompt, tools, settings, history and context are compared
    exactly.

    ``namespace`` says whose the agent's call is: a text, or a callable that is given the
    ``context`` of the invocation and returns one. By default calls share answers only if their
    contexts are equal. A context that says nothing (not JSON, no text returned) is a miss.

    Raises ValueError for arguments that make no sense.

        middleware = TieredCacheMiddleware(cache, tools={"search": 3600})
        agent = create_agent(model, tools=[search], middleware=[middleware])
    """

    def __init__(
        self,
        cache: TieredCache,
        *,
        tools: Mapping[str, Seconds | None] | Iterable[str] = (),
        key: ToolKey | Mapping[str, ToolKey] | None = None,
        ignore: Iterable[str] | Mapping[str, Iterable[str]] = (),
        may_write: Iterable[str] = (),
        versions: Mapping[str, str | int] | None = None,
        answers: bool = False,
        namespace: str | Callable[[Any], str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cache, TieredCache):
            raise ValueError(f"cache must be a TieredCache, not {type(cache).__name__}")
        if namespace is not None and not callable(namespace) and not _is_name(namespace):
            raise ValueError(f"namespace must be a text, a callable or None, not {namespace!r}")
        self._lives = lives = tool_lives(tools)
        if answers not in (True, False):
            raise ValueError(f"answers must be True or False, not {answers!r}")
        self._cache, self._answers, self._namespace = cache, answers, namespace
        self._keys = _keys_of(key, lives)
        self._ignored = _ignored_by(ignore, lives)
        self._may_write = frozenset(names_among("may_write", may_write, lives))
        self._versions = dict(versions or {})
        names_among("versions", self._versions, lives)
        self._kinds: dict[type[BaseChatModel], type[BaseChatModel]] = {}

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
        return _keeping_answers(Skippable(self._lives, known))

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
        if looks_like_writing(tool.name, _hints_of(tool)) and (tool.name not in self._may_write):
            self._cache.count(
                "tool", f"{tool.name} looks as if it wrote something, and is not kept: may_write="
            )
            return None
        if (version := self._versions.get(tool.name)) is not None:
            return [tool.name, tool.description, _schema_of(tool), {"version": version}]
        has_key = tool.name in self._keys
        try:
            if _sees_more(tool) and not has_key:
                why = "sees more than its arguments: not kept, key="
                self._cache.count("tool", f"{tool.name} {why}")
                return None
            return _tool_digest(tool).now()
        except Unreadable as error:
            if has_key:
                return _code_of(tool)
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
            with nullcontext() if tool is None else _tool_digest(tool).calling():
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
    names_among("key", found, names)
    for one in found.values():
        if one is not None and not callable(one):
            raise ValueError(f"key must be a callable given the call's request, not {one!r}")
    return {name: one for name, one in found.items() if one is not None}


def _ignored_by(
    ignore: Iterable[str] | Mapping[str, Iterable[str]], names: Iterable[str]
) -> Mapping[str, frozenset[str]]:
    by_name = ignore if isinstance(ignore, Mapping) else dict.fromkeys(names, ignore)
    names_among("ignore", by_name, names)
    found = {}
    for name, arguments in by_name.items():
        if isinstance(arguments, str):
            raise ValueError(f"ignore must be a list of names, not the text {arguments!r}")
        found[name] = frozenset(arguments)
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    """A model call of an agent's run: its place in the run, and the tools that were used so far.

    ``begin`` is the place of the message that began the run, ``is_first`` tells whether the call is
    the first of it. ``used`` says how old the oldest result of each tool is, in seconds.
    """

    skippable: Skippable
    begin: int
    is_first: bool
    used: Mapping[str, float]

    def note(self, result: Any) -> None:
        """Note in what begins a run what the tools are: its answer is kept for these alone."""
        message = result.generations[0].message if result.generations else None
        if self.is_first and isinstance(message, AIMessage) and message.tool_calls:
            mark = {**_mark_of(message), _TOOLS: self.skippable.digest}
            message.response_metadata = {**message.response_metadata, MARK: mark}

    def keep(
        self, tiered: TieredCache, model: Any, messages: Any, stop: Any, call: Any, result: Any
    ) -> None:
        """Keep the run's answer under its first call, if this call, a later one, ended the run."""
        if self.is_first or len(result.generations) != 1:
            return
        message = result.generations[0].message
        if not isinstance(message, AIMessage) or message.tool_calls or message.invalid_tool_calls:
            return
        with FailingOpen(tiered, "agent"):
            ttl = tiered.cache.options.ttl
            own = controls_of(tiered.cache).ttl or (None if ttl is None else seconds("ttl", ttl))
            life = self.skippable.life(self.used, own)
            if life is not None and life <= 0:
                return  # a result that it rests on is no longer good
            asked = [one.model_copy(update={"id": None}) for one in messages[: self.begin + 1]]
            prompt, llm_string = dumps(asked), model._get_llm_string(stop=stop, **call)
            request = tiered.request_of(model, prompt, llm_string)
            answer = answer_of(result.generations)
            if request is not None and answer is not None and not answer.exact_only:
                entry_id = tiered.cache.store(self.skippable.first(request), answer, ttl=life)
                mark_as_fresh(result.generations, entry_id)


_skippable: ContextVar[Skippable | None] = ContextVar("tiered_cache_agent", default=None)


@contextmanager
def _keeping_answers(skippable: Skippable) -> Iterator[None]:
    """Let the model calls of a block give and keep the answers of whole runs."""
    token = _skippable.set(skippable)
    try:
        yield
    finally:
        _skippable.reset(token)


def _step_of(messages: Sequence[BaseMessage]) -> _Step | None:
    """Return which call of a run this is; None if the run's answer may not be kept."""
    skippable = _skippable.get()
    if skippable is None:
        return None
    places = reversed(range(len(messages)))
    begin = next((at for at in places if isinstance(messages[at], HumanMessage)), None)
    used = None if begin is None else _used(messages[begin + 1 :])
    if begin is None or used is None or not skippable.allows(used):
        return None
    is_first = begin == len(messages) - 1
    if not is_first and _mark_of(messages[begin + 1]).get(_TOOLS) != skippable.digest:
        return None  # a tool is not what it was when the run began
    return _Step(skippable, begin, is_first, used)


_TOOLS = "tools"
"""Under which name the mark of a run's first message says what the tools were."""


def _mark_of(message: BaseMessage) -> Mapping[str, Any]:
    """Return what the cache said in a message, nothing if it said nothing."""
    mark = message.response_metadata.get(MARK)
    return mark if isinstance(mark, Mapping) else {}


def _used(messages: Sequence[BaseMessage]) -> Mapping[str, float] | None:
    """Return the tools of a run, and how old the oldest result of each is, in seconds.

    None if it holds anything but calls that all went well.
    """
    ages: dict[str, float] = {}
    called: dict[str | None, str] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            if message.invalid_tool_calls:
                return None
            called |= {call["id"]: call["name"] for call in message.tool_calls}
            ages = dict.fromkeys((call["name"] for call in message.tool_calls), 0.0) | ages
        elif not isinstance(message, ToolMessage) or message.status != "success":
            return None
        elif (name := called.get(message.tool_call_id)) is not None:
            age = _mark_of(message).get("age")
            ages[name] = max(ages[name], age if isinstance(age, (int, float)) else 0.0)
    return ages


def _asking(kind: type[BaseChatModel], tiered: TieredCache) -> type[BaseChatModel]:
    """Derive the class of views whose cache is this one, and which refresh its stale answers.

    A copy of the model would do, but would keep to itself what the model counts or remembers.
    """

    def generate(
        model: Any, messages: Any, stop: Any = None, run_manager: Any = None, **call: Any
    ) -> Any:
        step = _step_of(messages)
        first = step.skippable.first if step is not None and step.is_first else None
        ask = chat_call(as_class(model, kind), messages, stop, call)
        with refreshing(tiered, ask, under=first):
            result = kind._generate_with_cache(model, messages, stop, run_manager, **call)
        if step is not None:
            step.note(result)
            step.keep(tiered, model, messages, stop, call, result)
        return result

    async def agenerate(
        model: Any, messages: Any, stop: Any = None, run_manager: Any = None, **call: Any
    ) -> Any:
        step = _step_of(messages)
        first = step.skippable.first if step is not None and step.is_first else None
        ask = chat_acall(as_class(model, kind), messages, stop, call)
        with refreshing(tiered, ask, under=first):
            result = await kind._agenerate_with_cache(model, messages, stop, run_manager, **call)
        if step is not None:
            step.note(result)
            keep = partial(step.keep, tiered, model, messages, stop, call, result)
            await tiered.cache.on_loop.run(keep)
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


# What a tool is, and whether its results may be kept at all.


_SEES_CONTEXT = frozenset(
    {
        "get_config", "get_runtime", "get_store", "get_stream_writer", "ensure_config",
        "var_child_runnable_config", "copy_context", "interrupt",
    }
)  # fmt: skip
"""Names of functions and variables by which a tool reads what it was not given."""

_NO_SETTINGS = frozenset({"callbacks", "callback_manager", "verbose", "tags"})
"""Fields of a tool on which no result depends."""


def _hints_of(tool: BaseTool) -> dict[str, Any]:
    """Return the annotations of a tool, wherever it says them."""
    hints: dict[str, Any] = {}
    for source in (tool.metadata or {}, getattr(tool, "annotations", None) or {}):
        inner = source.get("annotations") if isinstance(source, Mapping) else None
        hints |= dict(source) if isinstance(source, Mapping) else {}
        hints |= dict(inner) if isinstance(inner, Mapping) else {}
    return hints


def _sees_more(tool: BaseTool) -> bool:
    """Tell whether a tool sees more than the arguments that a model gives it.

    Its function takes the config, a run manager, the agent's state, a store or a runtime, or reads
    them by a function of LangChain or LangGraph.
    """
    said: Any = tool.tool_call_schema
    known = set(said.get("properties", ()) if isinstance(said, dict) else said.model_fields)
    return any(_takes_more(one, known) for one in _functions(tool))


def _tool_digest(tool: BaseTool) -> Digest:
    """Return the digest of all that a tool is."""

    def make() -> Digest:
        return Digest(lambda reader: _tool_spelt(reader, tool), owner=tool)

    return digest_of(tool, "tool", make)


def _code_of(tool: BaseTool) -> list[Any]:
    """Return what is known of a tool of which not all can be read."""
    codes = [StateReader().spell(one.__code__) for one in map(_plain, _functions(tool)) if one]
    return [tool.name, tool.description, _schema_of(tool), codes]


def _tool_spelt(reader: StateReader, tool: BaseTool) -> Any:
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
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError) as error:  # a function of C may have none
        raise Unreadable(f"a function without a signature ({error})") from None
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
