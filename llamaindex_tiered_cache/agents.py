"""Cache agents: their model calls, and the final answers of whole runs: ``cached_agent``.

    first step of a run -> is the run's answer known? -> it, and no model or tool is called
    last step of a run  -> may every tool that was used be skipped? -> keep its answer

An agent is copied into an instance of a subclass of its own class, as LLMs are. What the cache
knows is said by the agent's own LLM: the agent parses, streams and remembers it as ever.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from llama_index.core.agent.workflow import AgentOutput, AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import LLM
from llama_index.core.memory import BaseMemory
from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool

from llamaindex_tiered_cache.calls import AgentStep, Call, open_cache
from llamaindex_tiered_cache.components import is_component
from llamaindex_tiered_cache.llm import STATE, cache_of, cached_llm, uncached
from shared_core.agents import Lives, Skippable, looks_like_writing, names_among, tool_lives
from shared_core.cache import ResponseCache
from shared_core.identity import Digest, StateReader
from shared_core.options import Seconds
from shared_core.record import Answer
from shared_core.resilience import or_else
from shared_core.state_places import Unreadable, digest_of

_log = logging.getLogger("tiered_cache")

MAX_RUNS = 1000
"""Runs under way whose first call is remembered, the newest."""

_RUN = "tiered_cache_run"
"""Under which name the store of a run's context holds the run's id."""

Version = str | int


@dataclass(frozen=True, slots=True)
class AgentRuns:
    """The runs of an agent, or of the agents of a workflow, and on what terms they are kept."""

    cache: ResponseCache
    namespace: str | None
    lives: Lives
    versions: Mapping[str, Version]
    may_write: frozenset[str]
    first_calls: OrderedDict[str, tuple[Call[Any], Skippable]] = field(default_factory=OrderedDict)
    warned: set[str] = field(default_factory=set)

    def __deepcopy__(self, memo: dict[int, Any]) -> AgentRuns:
        """Return these very runs: a copied agent shares its cache."""
        return self

    async def begin(
        self, ctx: Any, tools: Sequence[BaseTool]
    ) -> tuple[AgentStep, Skippable | None]:
        """Return the step that begins; with the tools that may be skipped, if it is a run's first.

        Calls of tools that an earlier run left behind, because it failed, make it none.
        """
        is_first = not await ctx.store.get("num_iterations", default=0)
        if not is_first or await ctx.store.get("current_tool_calls", default=None):
            return AgentStep(), None
        skippable = self._skippable(tools)
        return AgentStep(skippable.first), skippable

    async def end(
        self, ctx: Any, step: AgentStep, skippable: Skippable | None, output: AgentOutput
    ) -> None:
        """Remember the first call of a run that goes on; keep the answer of one that ends."""
        goes_on = bool(output.tool_calls or output.retry_messages)
        first = None if skippable is None or step.call is None else (step.call, skippable)
        if goes_on:
            if skippable is not None:
                await ctx.store.set(_RUN, self._remember(first))
        elif first is not None:
            await self._keep(*first, step.answer, ())
        elif skippable is None:
            run = await ctx.store.get(_RUN, default=None)
            results = await ctx.store.get("current_tool_calls", default=[])
            first = self.first_calls.pop(run or "", None)
            if first is not None and not any(one.tool_output.is_error for one in results):
                await self._keep(*first, step.answer, [one.tool_name for one in results])

    def _remember(self, first: tuple[Call[Any], Skippable] | None) -> str | None:
        """Remember how a run began and return its id, None if it cannot be kept."""
        if first is None:
            return None
        run = uuid4().hex
        self.first_calls[run] = first
        while len(self.first_calls) > MAX_RUNS:
            self.first_calls.popitem(last=False)
        return run

    async def _keep(
        self, first: Call[Any], skippable: Skippable, answer: Answer | None, used: Sequence[str]
    ) -> None:
        """Keep the answer of a run under its first call, if the tools used may be skipped."""
        if answer is not None and not answer.exact_only and skippable.allows(used):
            life = skippable.life(dict.fromkeys(used, 0.0), None)  # no result is of the cache
            with first.controlled():
                await self.cache.astore(first.request, answer, ttl=life)

    def failed(self, part: str, error: Exception) -> None:
        """Count what went wrong here; the agent goes on without it."""
        self.cache.count_error(f"{part}:{type(error).__name__}")
        _log.debug("%s failed, the cache is passed over", part, exc_info=error)

    def _skippable(self, tools: Sequence[BaseTool]) -> Skippable:
        known: dict[str, Any] = {}
        for tool in tools:
            name = tool.metadata.name or ""
            if name not in self.lives:
                continue
            if (why := self._why_not(name, tool)) is None:
                known[name] = _identity(tool, self.versions.get(name))
            if why is None and known[name] is None:
                del known[name]
                why = "holds what cannot be read: say with versions= what state it is in"
            if why is not None and name not in self.warned:
                self.warned.add(name)
                _log.warning("no answer is kept of runs that use %s, which %s", name, why)
        return Skippable(self.lives, known)

    def _why_not(self, name: str, tool: BaseTool) -> str | None:
        """Return why a run that used a tool may not be skipped, whatever the tool holds."""
        if looks_like_writing(name) and name not in self.may_write:
            return "looks as if it wrote something: may_write="
        if isinstance(tool, FunctionTool) and tool.requires_context:
            return "is given the context of the run"
        return None


def _identity(tool: BaseTool, version: Version | None) -> Any:
    """Return what tells a tool apart, None if that cannot be read; ``version`` names its state."""
    tool = _inner(tool)
    about = tool.metadata
    said = [about.name, about.description, about.get_parameters_dict(), about.return_direct]
    if version is not None:
        return [*said, {"version": version}]
    try:
        return [*said, {"state": tool_digest(tool).now()}]
    except Unreadable:
        return None


def tool_digest(tool: BaseTool) -> Digest:
    """Return the digest of what a tool holds: its function, and what that holds."""
    tool = _inner(tool)

    def spell(reader: StateReader) -> Any:
        if type(tool) is not FunctionTool:
            return reader.spell(tool)
        parts = (tool.real_fn, tool._callback, tool._async_callback, tool.partial_params)
        return [reader.spell(one) for one in parts]

    return digest_of(tool, "tool", lambda: Digest(spell, is_component, owner=tool))


def _inner(tool: Any) -> Any:
    """Return the tool behind LlamaIndex's adapter, which it makes anew for each step."""
    return getattr(tool, "base_tool", tool)


RUNS = "_tiered_cache_runs"
"""Where a cached agent or workflow keeps its ``AgentRuns``."""


class CachedCalls:
    """Calls of tools by an agent or a workflow: what a tool counts meanwhile is no setting."""

    __slots__ = ()

    async def _call_tool(self, ctx: Any, tool: AsyncBaseTool, tool_input: dict[str, Any]) -> Any:
        name = tool.metadata.name
        runs: AgentRuns = getattr(self, RUNS)
        is_read = name in runs.lives and name not in runs.versions
        with tool_digest(tool).calling() if is_read else nullcontext():
            return await super()._call_tool(ctx, tool, tool_input)  # type: ignore[misc]


class CachedSteps(CachedCalls):
    """Steps of an agent that give and keep the answers of whole runs."""

    __slots__ = ()

    async def take_step(
        self,
        ctx: Any,
        llm_input: list[ChatMessage],
        tools: Sequence[AsyncBaseTool],
        memory: BaseMemory,
    ) -> AgentOutput:
        """Take a step as the agent's class does; the first may know the answer of the run."""
        runs: AgentRuns = getattr(self, RUNS)
        nothing = AgentStep(), None
        step, skippable = await or_else(nothing, runs.failed, "agent", runs.begin(ctx, tools))
        with step:
            output: AgentOutput = await super().take_step(  # type: ignore[misc]
                ctx, llm_input, tools, memory
            )
        await or_else(None, runs.failed, "agent", runs.end(ctx, step, skippable, output))
        return output


A = TypeVar("A", bound="BaseWorkflowAgent | AgentWorkflow")


def cached_agent(
    agent: A,
    cache: ResponseCache | str = "memory://",
    *,
    tools: Mapping[str, Seconds | None] | Iterable[str] = (),
    versions: Mapping[str, Version] | None = None,
    may_write: Iterable[str] = (),
    namespace: str | None = None,
) -> A:
    """Return an agent like this one that answers known questions without any call.

        agent = FunctionAgent(tools=[search_docs], llm=llm)
        agent = cached_agent(agent, "sqlite:///a.db", tools={"search_docs": 3600})
        await agent.run("What is a fuse?")

    Its LLM's calls are cached as by ``cached_llm``. The final answer of a whole run is kept too,
    under the question that began it: a later run with the same question, or the same in other
    words, calls no model and no tool. It is kept only if every tool that the run used is among
    ``tools``, which read and change nothing, and as long as the shortest of their times in seconds
    (None: as long as the cache keeps anything). System prompt, tools, settings, history and state
    are compared exactly. A run that failed at a tool, handed over to another agent or ended with a
    tool's own result is not kept.

    A tool is known by its function and all that this holds. One that holds what cannot be read, an
    index say, needs a version in ``versions``, which names the state that it is in. Tools that are
    given the run's context are never skipped, nor those whose name says that they write, unless
    ``may_write`` names them.

    ``agent`` is a ``FunctionAgent``, a ``ReActAgent``, another of their kind, or an
    ``AgentWorkflow``. Raises ValueError for arguments that make no sense.
    """
    if not isinstance(agent, (BaseWorkflowAgent, AgentWorkflow)):
        raise ValueError(f"agent must be an agent of LlamaIndex, not {type(agent).__name__}")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f"namespace must be a text that is not empty, or None, not {namespace!r}")
    lives = tool_lives(tools)
    names_among("versions", versions or (), lives)
    runs = AgentRuns(
        open_cache(cache),
        namespace,
        lives,
        dict(versions or {}),
        frozenset(names_among("may_write", may_write, lives)),
    )
    twin: A = _workflow(agent, runs) if isinstance(agent, AgentWorkflow) else _agent(agent, runs)
    return twin


def _workflow(workflow: Any, runs: AgentRuns) -> Any:
    twin = _twin(workflow, CachedCalls, runs)
    twin.agents = {name: _agent(one, runs) for name, one in workflow.agents.items()}
    return twin


def _agent(agent: Any, runs: AgentRuns) -> Any:
    twin = _twin(agent, CachedSteps, runs)
    twin.llm = _llm(agent.llm, runs)
    return twin


def _llm(llm: LLM, runs: AgentRuns) -> LLM:
    """Return the LLM, cached: on the terms that it has, if it is on the same cache already."""
    if uncached(llm) is not llm and cache_of(llm) is runs.cache:
        return llm
    return cached_llm(llm, runs.cache, namespace=runs.namespace)


def _twin(agent: Any, mixed: type[CachedCalls], runs: AgentRuns) -> Any:
    base = type(agent)
    if issubclass(base, CachedCalls):
        base = base.__mro__[_BEFORE_BASE[mixed]]  # cached on new terms
    copied, twin = copy.copy(agent), object.__new__(_class_of(base, mixed))
    for name in STATE if isinstance(agent, BaseModel) else STATE[:1]:
        object.__setattr__(twin, name, getattr(copied, name))
    object.__setattr__(twin, RUNS, runs)
    return twin


_BEFORE_BASE: Mapping[type[CachedCalls], int] = {CachedCalls: 2, CachedSteps: 3}
"""How many classes stand before the agent's own one: the twin's, and those mixed in."""

_classes: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()
_making = threading.Lock()


def _class_of(base: Any, mixed: type[CachedCalls]) -> type[Any]:
    """Return the class of the cached twins of a class, made once."""
    with _making:
        if base not in _classes:
            names = {"__module__": base.__module__, "__qualname__": base.__qualname__}
            metaclass: Any = type(base)
            _classes[base] = metaclass(
                base.__name__, (mixed, base), {**names, "__doc__": base.__doc__}
            )
        return _classes[base]
