"""Who asks, and what for: one ``Asking`` from a lookup to the update that may follow.

    config={"metadata": {"tiered_cache": {...}}} --callback--> Run --lookup--> Asking --> Controls

LangChain gives a cache two strings and nothing else. A chat model's run starts just before its
lookup, in the same context, and brings the call's metadata. A completion model looks all its
prompts up first: what its call brings is seen only inside of chains and graphs, which hold it in a
context variable; where it is not, nothing is kept, so that no tenant's answer is filed under
another's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

from langchain_tiered_cache.frames import arguments_unseen
from langchain_tiered_cache.messages import MARK
from langchain_tiered_cache.runs import Run, current_runs
from shared_core.control import Controls, controlling, controls_of, tag_tuple
from shared_core.flights import Flight, current_task
from shared_core.options import seconds

KEPT = 1024
"""Lookups of one context whose update is yet to come: a completion model's prompts of one call."""

Complain = Callable[[str, str], None]
"""Is given a kind and a message about something that was asked for in a wrong way."""


@dataclass(slots=True, eq=False)
class Asking:
    """One lookup: which, of which run, with what metadata.

    ``told`` is what the call says to the cache, None if nothing. ``flight`` is the model call that
    others wait for, if this lookup leads one. ``is_blind``: the lookup did not know what the call
    says; ``is_sure``: a model call follows if it misses. ``unseen``: arguments of the call that no
    key holds.
    """

    id: tuple[int, int]
    is_chat: bool
    run: Run | None
    told: Any
    flight: Flight | None = None
    land: Callable[[], None] | None = None
    is_blind: bool = False
    is_sure: bool = True
    unseen: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Tell whether no update will come."""
        return self.run is not None and self.is_chat and self.run.is_over

    def on_end(self, land: Callable[[], None], is_awaited: bool) -> None:
        """Call ``land`` when the model call ends without an update: it failed, or was cancelled.

        LangChain runs each awaited call of a chat model in a task of its own, which ends with it.
        """
        if self.run is not None:
            self.run.endings.append(land)
        else:
            self.land = land
        task = current_task() if self.is_chat and is_awaited else None
        if isinstance(task, asyncio.Task):
            task.add_done_callback(lambda _: land())


_askings: ContextVar[tuple[Asking, ...]] = ContextVar("tiered_cache_askings", default=())


def asked(prompt: str, llm_string: str) -> Asking:
    """Note a lookup in this context, and find out whose it is."""
    is_chat = prompt.startswith('[{"lc"')
    run = next(iter(current_runs()), None) if is_chat else None
    if run is not None and run.lookups > 0:
        run.lookups -= 1
    else:
        run = None  # somebody else's: this lookup is no model call's
    if is_chat:
        metadata = {} if run is None else run.metadata
    else:
        metadata = (var_child_runnable_config.get() or {}).get("metadata") or {}
    asking = Asking((hash(prompt), hash(llm_string)), is_chat, run, metadata.get(MARK))
    if not is_chat:
        asking.unseen = arguments_unseen()
    waiting = tuple(one for one in _askings.get() if not one.is_over)
    # A chat without a run has nothing to tell its update, which may never come; it only hides an
    # equal lookup of a model call that goes on around it.
    if run is not None or not is_chat or any(one.id == asking.id for one in waiting):
        _askings.set((asking, *waiting)[:KEPT])
    return asking


def answered(prompt: str, llm_string: str) -> Asking | None:
    """Return the lookup to which an update belongs, and forget it."""
    id = hash(prompt), hash(llm_string)
    found = next((one for one in _askings.get() if one.id == id), None)
    if found is not None:
        forget(found)
    return found


def forget(asking: Asking) -> None:
    """Forget a lookup in this context: nothing will follow."""
    waiting = _askings.get()
    if asking in waiting:
        _askings.set(tuple(one for one in waiting if one is not asking))


def called(prompt: str, run: Run) -> None:
    """Note the call of a completion model for a prompt that was looked up in this context."""
    for asking in _askings.get():  # the newest first: what was looked up by hand stays behind
        if asking.id[0] == hash(prompt) and not asking.is_chat and asking.run is None:
            asking.run = run
            if asking.land is not None:
                run.endings.append(asking.land)
            asking.is_blind = run.metadata.get(MARK) != asking.told
            if asking.flight is not None:
                asking.flight.is_sure = True
            return


def failed(run_id: object) -> None:
    """End the lookups of a completion model whose call failed."""
    for asking in _askings.get():
        if asking.run is not None and asking.run.id == run_id:
            asking.run.end()


def controlled(
    asking: Asking | None, cache: object, complain: Complain
) -> AbstractContextManager[None]:
    """Put what the call says to the cache in force for a block, over what is in force already."""
    if asking is None or (asking.told is None and not asking.is_blind and not asking.unseen):
        return nullcontext()
    controls = controls_of(cache)
    if asking.told is not None:
        controls = controls_told(asking.told, controls, complain)
    if asking.is_blind:
        complain(
            "metadata:unseen",
            "what the metadata of a completion model's call says comes after the lookup, so its "
            "answer is not kept: say it with cache.control(...)",
        )
        controls = replace(controls, write=False)
    if asking.unseen:
        complain(
            "arguments:unseen",
            f"{', '.join(asking.unseen)}: LangChain tells a cache nothing of the arguments of a "
            "completion model's call, so it is passed over: set them on the model, or use "
            "cached_model",
        )
        controls = replace(controls, read=False, write=False)
    return controlling(cache, controls)


def controls_told(told: Any, controls: Controls, complain: Complain) -> Controls:
    """Return controls with what metadata say in place of what they name.

    What cannot be understood is complained of, and what hangs on it left out: without a sure
    namespace the cache is neither asked nor told anything.
    """
    names = ("namespace", "ttl", "read", "write", "tags")
    if not isinstance(told, Mapping) or not told.keys() <= set(names):
        known = ", ".join(names)
        complain("metadata", f"metadata[{MARK!r}] must be a mapping of {known}: cache passed over")
        return replace(controls, read=False, write=False)
    for name in names:
        value = told.get(name)
        if value is None and not (name == "namespace" and name in told):
            continue  # a tenant who is None is not the default one
        try:
            controls = replace(controls, **{name: _READERS[name](value)})
        except (ValueError, TypeError) as error:
            left_out = {"namespace": ("read", "write"), "read": ("read",)}.get(name, ("write",))
            complain(f"metadata:{name}", f"{error}: no {' and no '.join(left_out)}")
            without: Any = dict.fromkeys(left_out, False)
            controls = replace(controls, **without)
            told = {other: value for other, value in told.items() if other not in left_out}
    return controls


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("namespace must be a text that is not empty")
    return value


def _choice(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("read and write must be True or False")
    return value


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "namespace": _name,
    "ttl": lambda value: seconds("ttl", value),
    "read": _choice,
    "write": _choice,
    "tags": tag_tuple,
}
