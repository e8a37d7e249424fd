"""Stale answers where the model can be called: how to ask it anew, for the lookup that finds one.

    refreshing(cache, ask) --context variable--> lookup --stale--> its answer now, ask() beside it

LangChain gives a lookup two strings. Whoever calls LangChain with the model in hand, a cached model
or the middleware, leaves there how to call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.outputs import ChatResult, Generation

AskAnew = Callable[[str], Any]
"""Is given the prompt and returns the model's generations; awaitable where lookups are awaited."""


_STATE = ("__dict__", "__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")


@dataclass(slots=True, eq=False)
class Caller:
    """Who calls a model: how it is asked, and how many lookups of which cache come before.

    ``is_sure``: a call follows each lookup that misses.
    """

    cache: object
    ask: AskAnew
    lookups: int
    is_sure: bool


_caller: ContextVar[Caller | None] = ContextVar("tiered_cache_caller", default=None)


@contextmanager
def refreshing(
    cache: object, ask: AskAnew, lookups: int = 1, is_sure: bool = False
) -> Iterator[None]:
    """Let the next lookups of a cache in a block give stale answers, and ``ask`` for new ones.

    Later ones are others': of a model that the model itself calls.
    """
    token = _caller.set(Caller(cache, ask, lookups, is_sure))
    try:
        yield
    finally:
        _caller.reset(token)


def caller_of(cache: object) -> Caller | None:
    """Return who makes this lookup with the model in hand, None if nobody has."""
    caller = _caller.get()
    if caller is None or caller.cache is not cache or caller.lookups == 0:
        return None
    caller.lookups -= 1
    return caller


def chat_call(model: Any, messages: Any, stop: Any, call: Mapping[str, Any]) -> AskAnew:
    """Return how to make a call of a chat model anew, as LangChain does without any cache."""

    def ask(_: str) -> Sequence[Generation]:
        found: ChatResult = _uncached(model)._generate_with_cache(messages, stop, None, **call)
        return found.generations

    return ask


def chat_acall(model: Any, messages: Any, stop: Any, call: Mapping[str, Any]) -> AskAnew:
    """Do as ``chat_call`` does, for a call that is awaited."""

    async def ask(_: str) -> Sequence[Generation]:
        twin = _uncached(model)
        found: ChatResult = await twin._agenerate_with_cache(messages, stop, None, **call)
        return found.generations

    return ask


def view(model: object, kind: type[Any]) -> Any:
    """Return the same model, with its very state, seen as of another class."""
    seen = object.__new__(kind)
    for name in _STATE:
        object.__setattr__(seen, name, getattr(model, name))
    return seen


def _uncached(model: Any) -> Any:
    twin = view(model, type(model))
    object.__setattr__(twin, "__dict__", {**model.__dict__, "cache": False})
    return twin
