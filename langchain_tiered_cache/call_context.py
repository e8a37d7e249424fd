"""Know which model call is under way, and what it asks of the cache.

    metadata={"tiered_cache": {...}} --callback--> Run --lookup--> CallContext --> Controls

LangChain gives a cache two strings and nothing else. A chat model's run starts just before its
lookup, in the same context, and brings the call's metadata. A completion model looks all its
prompts up first: what its call brings is seen only inside of chains and graphs, which hold it in a
context variable; where it is not, nothing is kept, so that no tenant's answer is filed under
another's name.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache
from threading import Lock
from types import FrameType
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatResult, Generation

from langchain_tiered_cache.answers import MARK
from shared_core.concurrency import Flight, current_task
from shared_core.controls import Controls, controlling, controls_of, tag_tuple
from shared_core.identity import Digest
from shared_core.options import seconds
from shared_core.record import Outcome
from shared_core.request import Request

# What LangChain says about the model call under way, for what an ``llm_string`` leaves out.
#
# on_chat_model_start --context variable--> current_runs() --matched by llm_string--> model.read
#
# A cache sees a structured-output class as ``<class 'm.Out'>`` and of some models not even the
# name. The callback hook sees the objects themselves, in the same thread or task and just before
# the lookup.


@cache
def model_class() -> type[Any]:
    """Return the class of LangChain's models; imported late, as it brings LangSmith with it."""
    from langchain_core.language_models import BaseLanguageModel

    return BaseLanguageModel


@cache
def _config_variable() -> ContextVar[Any]:
    """Return the variable that holds the config of the runnable under way; imported late, too."""
    from langchain_core.runnables.config import var_child_runnable_config

    return var_child_runnable_config


MAX_RUNS = 32
"""Live runs remembered in one context: nested calls, and those whose end nobody reported."""


@dataclass(slots=True, eq=False)
class Run:
    """Describes one model call: what it was called with, and what the model says of itself.

    ``lookups`` is how many of its lookups are still to come, ``parent`` the id of the run that made
    the call; ``endings`` are called when it ends, with ``error`` if it failed; ``tracers`` keep a
    record of it.
    """

    id: object
    params: Mapping[str, Any]
    serialized: Mapping[str, Any]
    metadata: Mapping[str, Any]
    lookups: int = 1
    parent: object = None
    is_over: bool = False
    endings: list[Callable[[], None]] = field(default_factory=list)
    tracers: tuple[Any, ...] = ()
    error: BaseException | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def called(self, names: tuple[str, ...], spelt: str) -> bool:
        """Return whether these parameters of the call, spelt as LangChain does, read like that."""
        if not all(map(self.params.__contains__, names)):
            return False
        return str(sorted([(name, self.params[name]) for name in names])) == spelt

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Add to the metadata of the records that LangSmith and other tracers keep."""
        for tracer in self.tracers:
            record = tracer.run_map.get(str(self.id))
            if record is not None:  # the dict is shared with what else the app calls: a new one
                record.extra["metadata"] = {**record.extra.get("metadata", {}), **metadata}

    def end(self, error: BaseException | None = None) -> None:
        """Note that the call ended, well or not; a second call does nothing."""
        self.is_over, self.error = True, self.error or error
        while self.endings:
            self.endings.pop()()


_runs: ContextVar[tuple[Run, ...]] = ContextVar("tiered_cache_runs", default=())
_registering = Lock()
_registered: list[object] = []


def current_runs() -> tuple[Run, ...]:
    """Return the chat runs under way in this context, newest first; nested ones are among them."""
    runs = _runs.get()
    for run in runs:
        if run.is_over:
            return tuple([one for one in runs if not one.is_over])
    return runs


def started(run: Run) -> None:
    """Remember a chat run in this context."""
    _runs.set((run, *current_runs()[: MAX_RUNS - 1]))


def ended(id: object, error: BaseException | None = None) -> None:
    """End a run of this context.

    Often called in a copy of the context that knew it as it began; the run itself is the same.
    """
    for run in _runs.get():
        if run.id == id:
            run.end(error)


# Answers that a step after the model could not use: a parser raised, say.
#
# answer --note_answer--> under the run that called the model --a step of that run fails--> dropped


Drop = Callable[[], Awaitable[object]]
MAX_PARENTS = 1000

_answers: OrderedDict[object, list[Drop]] = OrderedDict()


def note_answer(parent: object, drop: Drop) -> None:
    """Remember how to drop the answer of a model call, should a later step of a run fail."""
    _answers.setdefault(parent, []).append(drop)
    while len(_answers) > MAX_PARENTS:
        with suppress(KeyError):  # another thread did it
            _answers.popitem(last=False)


def answers_under(parent: object) -> list[Drop]:
    """Return how to drop the answers that the steps of a run got so far, and forget them."""
    return _answers.pop(parent, []) if _answers else []


def watch_runs() -> None:
    """Register the callback handler with LangChain; once per process, later calls do nothing."""
    with _registering:
        if _registered:
            return
        # Imported late: the tracers import LangSmith, which would triple the cost of our import.
        from langchain_core.tracers.context import register_configure_hook

        watcher: ContextVar[Any] = ContextVar("tiered_cache_watcher", default=RunHandler())  # noqa: B039 - it has no state
        register_configure_hook(watcher, inheritable=True)
        _registered.append(watcher)


# What LangChain tells neither caches nor handlers, read off the functions that call them.
#
# Not found, because another version calls them in another way, it stays unknown: nothing fails.


_CONFIGURED = frozenset(
    {"invoke", "ainvoke", "stream", "astream", "stream_events", "astream_events", "_stream_chunks"}
)
"""Methods of models whose ``config`` is that of the call."""

MAX_FRAMES_OF_CONFIG = 24


def config_above() -> Mapping[str, Any]:
    """Return the config of the model call under way, else that of the chain around it."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES_OF_CONFIG):
        if frame is None:
            break
        if frame.f_code.co_name in _CONFIGURED:
            config = frame.f_locals.get("config")
            if isinstance(config, dict) and isinstance(frame.f_locals.get("self"), model_class()):
                return config
        frame = frame.f_back
    return _config_variable().get() or {}


@dataclass(frozen=True, slots=True)
class TenantPath:
    """Where in a call's config its tenant is named: ``metadata.user_id``."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, path: object) -> TenantPath:
        """Read a path. Raises ValueError for one that names nothing in a config."""
        names = tuple(path.split(".")) if isinstance(path, str) else ()
        if len(names) < 2 or names[0] not in ("metadata", "configurable") or not all(names):  # noqa: PLR2004
            raise ValueError(
                'namespace_from must be a path such as "metadata.user_id" or '
                f'"configurable.tenant_id", not {path!r}'
            )
        _watched_paths.append(names)
        return cls(names)

    def name(self, config: Mapping[str, Any]) -> str | None:
        """Return the tenant that a config names, None if it names none."""
        found: Any = config
        for name in self.names:
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, bool) or not isinstance(found, (str, int, UUID)):
            return None
        return str(found) or None

    def of_call(self, asking: CallContext) -> str | None:
        """Return the tenant of a lookup, None if there is none."""
        run = asking.run
        if run is None:
            return self.name(config_above())
        return self.name({**run.config, "metadata": run.metadata})

    def __reduce__(self) -> tuple[Any, ...]:
        return TenantPath.of, (".".join(self.names),)


_watched_paths: list[tuple[str, ...]] = []
"""Paths that some cache asks for; while there is none, configs are not looked for."""

SLOT = "__tiered_cache__"
"""Where the class of a cached model keeps its ``ModelOrigin``."""

MAX_FRAMES = 8


def tracers_beside() -> tuple[Any, ...]:
    """Return the tracers that hear of the same run as the handler whose method calls this."""
    from langchain_core.callbacks import BaseCallbackManager
    from langchain_core.tracers.base import BaseTracer

    for frame in _callers():
        caller = frame.f_locals.get("self")
        if isinstance(caller, BaseCallbackManager):
            return tuple([one for one in caller.handlers if isinstance(one, BaseTracer)])
    return ()


def arguments_unseen() -> tuple[str, ...]:
    """Return which arguments of a completion model's call the key of its lookup lacks.

    A cached model has them in its key.
    """
    for frame in _callers():
        if frame.f_code.co_name in ("generate", "agenerate"):
            is_cached = hasattr(type(frame.f_locals.get("self")), SLOT)
            given = frame.f_locals.get("kwargs")
            return tuple(given) if isinstance(given, dict) and not is_cached else ()
    return ()


def _callers() -> list[FrameType]:
    """Return the frames above the function that asks, nearest first."""
    frame, found = sys._getframe(1).f_back, list[FrameType]()
    while frame is not None and len(found) < MAX_FRAMES:
        found.append(frame)
        frame = frame.f_back
    return found


MAX_LOOKUPS = 1024
"""Lookups of one context whose update is yet to come: a completion model's prompts of one call."""

Complain = Callable[[str, str], None]
"""Is given a kind and a message about something that was asked for in a wrong way."""


class CallContext:
    """One lookup: which, of which run, with what metadata.

    ``overrides`` is what the call says to the cache, None if nothing. ``flight`` is the model call
    that others wait for, if this lookup leads one. ``is_blind``: the lookup did not know what the
    call says; ``is_sure``: a model call follows if it misses. ``unseen``: arguments that no key
    holds. ``hidden``: the digest of what the model's string does not say, None if unknown;
    ``state`` takes it, and is told when the call ends, if it was told that one began.
    ``outcome`` is that of the lookup.
    ``is_readable``: what the model hides can be read. ``tenant``: whom the call's config names.
    ``under`` is that of its ``Caller``.
    """

    flight: Flight | None = None
    end: Callable[[], None] | None = None
    is_blind: bool = False
    is_sure: bool = True
    unseen: tuple[str, ...] = ()
    outcome: Outcome | None = None
    hidden: str | None = None
    state: Digest | None = None
    is_readable: bool = True
    is_calling: bool = False
    tenant: str | None = None
    under: Callable[[Request], Request] | None = None

    def __init__(self, id: tuple[int, int], is_chat: bool, run: Run | None, overrides: Any) -> None:
        # Every lookup makes one: the rest stands in the class until it is set.
        self.id, self.is_chat, self.run, self.overrides = id, is_chat, run, overrides

    def begin(self) -> None:
        """Note that the model is about to be called."""
        if self.state is not None and not self.is_calling:
            self.is_calling = True
            self.state.began()
            if self.run is not None:
                self.run.endings.append(self.settle)

    def settle(self) -> None:
        """Note that the model's call is over; a second call does nothing."""
        if self.state is not None and self.is_calling:
            self.is_calling = False
            self.state.settle()

    @property
    def is_over(self) -> bool:
        """Tell whether no update will come."""
        return self.run is not None and self.is_chat and self.run.is_over

    def lead(
        self,
        flight: Flight,
        finish: Callable[[Flight, BaseException | None], None],
        is_awaited: bool,
    ) -> None:
        """Take a flight: it ends with the model call, if without an update that failed or is gone.

        LangChain runs each awaited call of a chat model in a task of its own, which ends with it.
        """

        def end(error: BaseException | None = None) -> None:
            finish(flight, error or (None if self.run is None else self.run.error))

        self.flight = flight
        if self.run is not None:
            self.run.endings.append(end)
        else:
            self.end = end
        task = current_task() if self.is_chat and is_awaited else None
        if isinstance(task, asyncio.Task):
            task.add_done_callback(lambda it: end(None if it.cancelled() else it.exception()))


_askings: ContextVar[tuple[CallContext, ...]] = ContextVar("tiered_cache_askings", default=())


def asked(prompt: str, llm_string: str) -> CallContext:
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
        metadata = (_config_variable().get() or {}).get("metadata") or {}
    asking = CallContext((hash(prompt), hash(llm_string)), is_chat, run, metadata.get(MARK))
    if not is_chat:
        asking.unseen = arguments_unseen()
    waiting = [one for one in _askings.get() if not one.is_over]
    # A chat without a run has nothing to tell its update, which may never come; it only hides an
    # equal lookup of a model call that goes on around it.
    hides = waiting and any(one.id == asking.id for one in waiting)
    if run is not None or not is_chat or hides:
        _askings.set((asking, *waiting)[:MAX_LOOKUPS])
    return asking


def answered(prompt: str, llm_string: str) -> CallContext | None:
    """Return the lookup to which an update belongs, and forget it."""
    id = hash(prompt), hash(llm_string)
    found = next((one for one in _askings.get() if one.id == id), None)
    if found is not None:
        forget(found)
    return found


def forget(asking: CallContext) -> None:
    """Forget a lookup in this context: nothing will follow."""
    waiting = _askings.get()
    if asking in waiting:
        _askings.set(tuple([one for one in waiting if one is not asking]))


def called(prompt: str, run: Run) -> None:
    """Note the call of a completion model for a prompt that was looked up in this context."""
    for asking in _askings.get():  # the newest first: what was looked up by hand stays behind
        if asking.id[0] == hash(prompt) and not asking.is_chat and asking.run is None:
            asking.run = run
            if asking.end is not None:
                run.endings.append(asking.end)
            asking.is_blind = run.metadata.get(MARK) != asking.overrides
            if asking.flight is not None:
                asking.flight.is_sure = True
            return


def failed(run_id: object, error: BaseException) -> None:
    """End the lookups of a completion model whose call failed."""
    for asking in _askings.get():
        if asking.run is not None and asking.run.id == run_id:
            asking.run.end(error)


_NO_MORE: AbstractContextManager[None] = nullcontext()


def controlled(
    asking: CallContext | None,
    cache: object,
    complain: Complain,
    path: TenantPath | None = None,
) -> AbstractContextManager[None]:
    """Put what the call says to the cache in force for a block, over what is in force already.

    With a ``path`` the call's config must name a tenant, or a block around it.
    """
    says = asking is not None and (asking.overrides is not None or asking.is_blind or asking.unseen)
    if path is None and not says:
        return _NO_MORE
    controls = controls_of(cache)
    if path is not None:
        tenant = None if asking is None else asking.tenant
        if tenant is not None:
            controls = replace(controls, namespace=tenant)
        elif controls.namespace is None:
            controls = replace(controls, namespace="")
    if asking is None or not says:
        return controlling(cache, controls)
    if asking.overrides is not None:
        controls = merged_controls(asking.overrides, controls, complain)
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


def merged_controls(overrides: Any, controls: Controls, complain: Complain) -> Controls:
    """Return controls with what metadata say in place of what they name.

    What cannot be understood is complained of, and what hangs on it left out: without a sure
    namespace the cache is neither asked nor told anything.
    """
    names = ("namespace", "ttl", "read", "write", "tags", "sample")
    if not isinstance(overrides, Mapping) or not overrides.keys() <= set(names):
        known = ", ".join(names)
        complain("metadata", f"metadata[{MARK!r}] must be a mapping of {known}: cache passed over")
        return replace(controls, read=False, write=False)
    for name in names:
        value = overrides.get(name)
        if value is None and not (name == "namespace" and name in overrides):
            continue  # a tenant who is None is not the default one
        try:
            controls = replace(controls, **{name: _READERS[name](value)})
        except (ValueError, TypeError) as error:
            both = ("read", "write")
            left_out = {"namespace": both, "sample": both, "read": ("read",)}.get(name, ("write",))
            complain(f"metadata:{name}", f"{error}: no {' and no '.join(left_out)}")
            without: Any = dict.fromkeys(left_out, False)
            controls = replace(controls, **without)
            overrides = {
                other: value for other, value in overrides.items() if other not in left_out
            }
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
    "sample": lambda value: Controls(sample=value).sample,
}


# The callback handler that notes each model call as it starts and as it ends.


class RunHandler(BaseCallbackHandler):
    """Notes runs in a context variable: inline, or asynchronous calls would note them elsewhere."""

    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Tell whether to be called in the task of the model call: yes, but where that does harm.

        ``AsyncCallbackManager.on_llm_start`` calls no other handler as soon as one is inline, so
        there this one is not; its caller calls it in the same task all the same.
        """
        caller = sys._getframe(1)
        if caller.f_code.co_name == "<listcomp>" and caller.f_back is not None:
            caller = caller.f_back
        return caller.f_code.co_name != "on_llm_start"

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the run; its messages are not kept."""
        params = kwargs.get("invocation_params") or {}
        lookups, parent = kwargs.get("batch_size", 1), kwargs.get("parent_run_id")
        run = Run(run_id, params, serialized or {}, metadata or {}, lookups, parent)
        if _watched_paths:
            run.config = config_above()
        if lookups == 1:  # of several, nobody knows whose lookup is whose
            run.tracers = tracers_beside()
        started(run)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a completion model is called for prompts that were looked up just before."""
        for prompt in prompts:
            run = Run(run_id, {}, {}, metadata or {}, parent=kwargs.get("parent_run_id"))
            called(prompt, run)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note the end of a chat run; a completion is stored after this, and over by then."""
        ended(run_id)

    async def on_chain_error(  # LangChain awaits it, when it calls it
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Drop the answers that a step could not use, before the caller tries it again."""
        for drop in (*answers_under(parent_run_id), *answers_under(run_id)):
            await drop()

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the answers of a run that went well."""
        answers_under(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note the end of a run."""
        ended(run_id, error)
        failed(run_id, error)


# Stale answers where the model can be called: how to ask it anew, for the lookup that finds one.
#
# refreshing(cache, ask) --context variable--> lookup --stale--> its answer now, ask() beside it
#
# LangChain gives a lookup two strings. Whoever calls LangChain with the model in hand, a cached
# model or the middleware, leaves there how to call it.


AskAnew = Callable[[str], Any]
"""Is given the prompt and returns the model's generations; awaitable where lookups are awaited."""


_STATE = ("__dict__", "__pydantic_private__", "__pydantic_fields_set__", "__pydantic_extra__")


@dataclass(slots=True, eq=False)
class Caller:
    """Who calls a model: how it is asked, and how many lookups of which cache come before.

    ``is_sure``: a call follows each lookup that misses. ``under``: given the request of the call,
    it returns the one that is looked up and kept in its place.
    """

    cache: object
    ask: AskAnew
    lookups: int
    is_sure: bool
    under: Callable[[Request], Request] | None = None


_caller: ContextVar[Caller | None] = ContextVar("tiered_cache_caller", default=None)


@contextmanager
def refreshing(
    cache: object,
    ask: AskAnew,
    lookups: int = 1,
    is_sure: bool = False,
    under: Callable[[Request], Request] | None = None,
) -> Iterator[None]:
    """Let the next lookups of a cache in a block give stale answers, and ``ask`` for new ones.

    Later ones are others': of a model that the model itself calls. Those ``under`` another request
    give no stale answers.
    """
    token = _caller.set(Caller(cache, ask, lookups, is_sure, under))
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


def as_class(model: object, kind: type[Any]) -> Any:
    """Return the same model, with its very state, seen as of another class."""
    seen = object.__new__(kind)
    for name in _STATE:
        object.__setattr__(seen, name, getattr(model, name))
    return seen


def _uncached(model: Any) -> Any:
    twin = as_class(model, type(model))
    object.__setattr__(twin, "__dict__", {**model.__dict__, "cache": False})
    return twin
