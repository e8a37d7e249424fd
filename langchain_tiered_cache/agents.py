"""Keeps the final answer of an agent's whole run, under the question that began the run.

first model call of a run -> is the run's answer known? -> it, and no model or tool is called
last model call of a run  -> did every tool that was used may be skipped? -> keep its answer

A run is known by everything that its first model call depends on: model, settings, system prompt,
tools, history. The question alone may be matched by meaning. An answer lives as long as the
shortest-lived result that it rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatResult

from langchain_tiered_cache.answers import answer_of
from langchain_tiered_cache.cache import FailingOpen, TieredCache, mark_as_fresh, served
from shared_core.record import Hit
from shared_core.request import Request, canonical_json

Lives = Mapping[str, float | None]
"""Tools that a run may skip, with the seconds that their results hold; None: as the cache says."""


@dataclass(frozen=True, slots=True)
class Skippable:
    """The tools that a run may skip, and by name what tells each of them apart."""

    lives: Lives
    known: Mapping[str, Any]


_skippable: ContextVar[Skippable | None] = ContextVar("tiered_cache_agent", default=None)


@contextmanager
def keeping_answers(lives: Lives, known: Mapping[str, Any]) -> Iterator[None]:
    """Let the model calls of a block give and keep the answers of whole runs.

    ``known`` tells the tools apart, by name.
    """
    token = _skippable.set(Skippable(lives, known))
    try:
        yield
    finally:
        _skippable.reset(token)


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A run of an agent as one of its model calls sees it.

    ``used`` are the tools whose results the run has so far; ``life`` is for how long they hold.
    """

    tiered: TieredCache
    request: Request
    used: tuple[str, ...]
    life: float | None

    def known(self) -> ChatResult | None:
        """Return the answer of a run that began so, if this call is the first of its own."""
        if self.used:
            return None
        with FailingOpen(self.tiered, "agent"):
            hit = self.tiered.cache.lookup(self.request)
            if isinstance(hit, Hit):
                found: Any = served(hit, self.tiered.cache.options.hit_usage)
                return ChatResult(generations=found)
        return None

    def keep(self, result: ChatResult) -> None:
        """Keep the run's answer, if this call ended the run and tools were used in it."""
        if not self.used or len(result.generations) != 1:
            return
        message = result.generations[0].message
        if not isinstance(message, AIMessage) or message.tool_calls or message.invalid_tool_calls:
            return
        with FailingOpen(self.tiered, "agent"):
            answer = answer_of(result.generations)
            if answer is not None and not answer.exact_only:
                entry_id = self.tiered.cache.store(self.request, answer, ttl=self.life)
                mark_as_fresh(result.generations, entry_id)


def run_of(
    tiered: TieredCache, model: Any, messages: Sequence[BaseMessage], stop: Any, call: Any
) -> AgentRun | None:
    """Return the run that a model call is part of; None if its answer may not be kept."""
    skippable = _skippable.get()
    if skippable is None:
        return None
    lives = skippable.lives
    with FailingOpen(tiered, "agent"):
        begin = next(
            (at for at in reversed(range(len(messages))) if isinstance(messages[at], HumanMessage)),
            None,
        )
        used = None if begin is None else _used(messages[begin + 1 :])
        if begin is None or used is None or not lives.keys() >= set(used):
            return None
        asked = [one.model_copy(update={"id": None}) for one in messages[: begin + 1]]
        prompt, llm_string = dumps(asked), model._get_llm_string(stop=stop, **call)
        first = tiered.request_of(model, prompt, llm_string)
        if first is None:
            return None
        scope = canonical_json({"agent": first.scope, "may_be_skipped": dict(skippable.known)})
        limits = [life for name in used if (life := lives[name]) is not None]
        return AgentRun(tiered, replace(first, scope=scope), used, min(limits, default=None))
    return None


def _used(messages: Sequence[BaseMessage]) -> tuple[str, ...] | None:
    """Return the tools of a run; None if it holds anything but calls that all went well."""
    names: dict[str, None] = {}
    for message in messages:
        if isinstance(message, AIMessage):
            if message.invalid_tool_calls:
                return None
            names |= dict.fromkeys(call["name"] for call in message.tool_calls)
        elif not isinstance(message, ToolMessage) or message.status != "success":
            return None
    return tuple(names)
