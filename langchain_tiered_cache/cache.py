"""Put the response cache behind LangChain's cache interface: lookup, update, feedback, traces."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from os import urandom
from types import TracebackType
from typing import Any, Literal, Unpack

from langchain_core.caches import BaseCache
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.utils import LC_ID_PREFIX

from langchain_tiered_cache.answers import (
    MARK,
    ServedGeneration,
    answer_of,
    ending_of,
    generations_of,
)
from langchain_tiered_cache.call_context import (
    CallContext,
    Run,
    TenantPath,
    answered,
    asked,
    caller_of,
    config_above,
    controlled,
    forget,
    note_answer,
    watch_runs,
)
from langchain_tiered_cache.llm_string import asking_model, hidden_settings, names_nothing
from langchain_tiered_cache.request import Question, parse
from shared_core.cache import ResponseCache
from shared_core.compute import find, keep, refresh
from shared_core.concurrency import Blocking, LeaderFailed, Runtime, finish
from shared_core.controls import Trace, controls_of, tracing
from shared_core.harmless import header_names
from shared_core.identity import Digest
from shared_core.options import CacheOptions, shows_options
from shared_core.record import UNFINISHED, Answer, Hit, Outcome, fresh_mark
from shared_core.request import Request
from shared_core.state_places import Unreadable

_FRAMES, _FRAMES_AWAITED = 5, 4
"""Frames from ``asking_model`` to whoever called ``lookup`` or ``alookup``."""

_Asker = tuple[str | None, Digest | None]
"""The digest of a model's hidden settings, None if unknown, with the ``Digest`` that takes it."""

# What the caller gets: new generations with a mark on a hit, the mark alone on a miss.


def served(hit: Hit, hit_usage: Literal["mark", "keep"]) -> list[Generation]:
    """Build the generations of a hit, new objects each time; chat messages get a mark.

    A plain ``Generation`` has no place for a mark and stays as it was stored. Raises ValueError if
    the stored answer cannot be read.
    """
    found = generations_of(hit.answer, ServedGeneration)
    for generation in found:
        if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
            _mark(generation.message, hit)
            if hit_usage == "mark":
                generation.message.usage_metadata = None
    return found


def _mark(message: AIMessage, hit: Hit) -> None:
    # Of its own: a graph's state replaces messages of equal ids.
    message.id = f"{LC_ID_PREFIX}-{urandom(16).hex()}"
    message.response_metadata[MARK] = {
        "hit": True,
        "tier": str(hit.tier),
        "similarity": hit.similarity,
        "entry_id": hit.entry_id,
        "age": hit.age,
        "usage": message.usage_metadata,
    }
    if hit.is_stale:
        message.response_metadata[MARK]["stale"] = True


def describe(outcome: Outcome) -> dict[str, Any]:
    """Return what the metadata of a run say of its lookup: flat, for filters know no mappings."""
    if not isinstance(outcome, Hit):
        return {f"{MARK}_hit": False}
    return {
        f"{MARK}_hit": True,
        f"{MARK}_tier": str(outcome.tier),
        f"{MARK}_similarity": outcome.similarity,
        f"{MARK}_entry_id": outcome.entry_id,
    }


def mark_as_fresh(
    generations: Sequence[Generation], entry_id: str | None, outcome: Outcome | None = None
) -> None:
    """Note in the caller's own chat messages the id under which the model's answer is kept.

    ``outcome`` is that of the lookup before the call: the mark says why it did not hit. Without it
    stays what the mark said of that before.
    """
    mark = fresh_mark(entry_id, outcome)
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            message = generation.message
            before = message.response_metadata.get(MARK) if outcome is None else None
            message.response_metadata = {
                **message.response_metadata,
                MARK: {**(before or {}), **mark},
            }


# Which run got which answer: what feedback by run id needs, in the process that served.


MAX_SERVED_RUNS = 10_000
"""Runs remembered, the newest; some 2 MB."""

AMBIGUOUS = ""
"""In the place of an entry id: several answers went into this run."""


class ServedRuns:
    """Entry ids of the newest runs, of model calls and of the chains right above them."""

    def __init__(self, most: int = MAX_SERVED_RUNS) -> None:
        self._most = most
        self._entries: OrderedDict[str, str] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel empty: what was served here is of no use elsewhere."""
        return ServedRuns, (self._most,)

    def note(self, run: Run | None, entry_id: str | None) -> None:
        """Remember what a run was answered with."""
        if run is None or entry_id is None:
            return
        self._entries[str(run.id)] = entry_id
        if run.parent is not None:
            parent = str(run.parent)
            is_only = self._entries.get(parent, entry_id) == entry_id
            self._entries[parent] = entry_id if is_only else AMBIGUOUS
        while len(self._entries) > self._most:
            with suppress(KeyError):  # another thread did it
                self._entries.popitem(last=False)

    def runs(self) -> list[str]:
        """Return the runs that are known, the oldest first."""
        return list(self._entries)

    def entry_id(self, which: Any) -> str:
        """Return the entry id that is meant: of a message, of a run, or the text itself."""
        if isinstance(which, BaseMessage):
            mark = which.response_metadata.get(MARK)
            return str(mark.get("entry_id")) if isinstance(mark, dict) else ""
        return self._entries.get(str(which), str(which))


_log = logging.getLogger("tiered_cache")

_BLOCKING = Blocking()

_LONG = 200_000
"""Characters of a prompt (an image is in it) beyond which it is not parsed on the event loop."""


class TieredCache(BaseCache):
    """A cache for LangChain models: exact repeats, and the same question in other words.

        from langchain_core.globals import set_llm_cache
        set_llm_cache(TieredCache("sqlite:///answers.db"))

    - ``url``: ``memory://`` (None), ``sqlite:///PATH`` or ``redis://…``
    - ``question``: a callable that says which part of a user's text asks, for prompts that hold
      material besides the question: see ``Question`` and ``rag_question``
    - ``cache``: an open ``ResponseCache`` to use, instead of ``url`` and ``options``
    - ``namespace_from``: a path into the config of each call, ``"metadata.user_id"`` or
      ``"configurable.tenant_id"``, whose value names the tenant; a call that has none is a miss,
      unless ``cache.control(namespace=…)`` names one: ``namespace_required`` is True by default;
      a ``cache`` of your own says it in its own options
    - ``options``: those of ``shared_core.Options``, by name: ``threshold=0.92``, ``ttl=3600``

    An answer says where it is from: ``message.response_metadata["tiered_cache"]``. Nothing that
    fails in here reaches the caller; it is a miss, logged once per kind and counted in ``errors``.
    Wrong arguments raise ValueError at construction.

    LangChain tells a cache nothing of the arguments that one call of a ``BaseLLM`` (a completion
    model) is given, ``llm.invoke(text, temperature=1)``: such a call is passed over.
    """

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "aget", "set", "aset"):  # what LangGraph asks of a cache for its nodes
            raise AttributeError(
                "a TieredCache keeps the answers of models; for nodes of a graph pass "
                "TieredNodeCache(…) of langchain_tiered_cache to compile(cache=…)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @shows_options
    def __init__(
        self,
        url: str | None = None,
        question: Question | None = None,
        *,
        cache: ResponseCache | None = None,
        namespace_from: str | None = None,
        **options: Unpack[CacheOptions],
    ) -> None:
        if question is not None and not callable(question):
            raise ValueError(f"question must be a callable or None, not {question!r}")
        if cache is not None and (url is not None or options):
            given = ["url", *options] if url is not None else list(options)
            raise ValueError(
                f"cache= is open already: {', '.join(given)} must go where it is opened"
            )
        if cache is not None and not isinstance(cache, ResponseCache):
            raise ValueError(f"cache must be a ResponseCache, not {type(cache).__name__}")
        if namespace_from is not None:
            options.setdefault("namespace_required", True)
        self.cache = cache or ResponseCache.open("memory://" if url is None else url, **options)
        self.errors: Counter[str] = Counter()
        self.servings = ServedRuns()
        self._question = question
        self._ignore = header_names(self.cache.options.ignore_headers)
        self._hit_usage = self.cache.options.hit_usage
        self._tenant = None if namespace_from is None else TenantPath.of(namespace_from)
        self._vague: set[str] = set()
        watch_runs()

    @property
    def question(self) -> Question | None:
        """Return what says which part of a user's text asks, None for the whole text."""
        return self._question

    def request_of(self, model: Any, prompt: str, llm_string: str) -> Request | None:
        """Return the request of a call of a model, None if what the model hides cannot be read."""
        asker = self._asker(llm_string, model)
        if asker is None:
            return None
        return parse(prompt, llm_string, self._question, hidden=asker[0], ignore=self._ignore)

    def asker_of(self, model: Any, llm_string: str) -> _Asker | None:
        """Return the digest of what a model hides, and what takes it; None if it is unreadable."""
        return self._asker(llm_string, model)

    def controlled_by(self, config: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Put in force for a block what the config of a call says to the cache, tenant and all."""
        context = CallContext((0, 0), True, None, (config.get("metadata") or {}).get(MARK))
        if self._tenant is not None:
            context.tenant = self._tenant.name(config)
        return controlled(context, self.cache, self.count, self._tenant)

    def tenant_in(self, config: Any) -> str | None:
        """Return the tenant that ``namespace_from`` finds in a config, by default that of now.

        None: there is no such path; "": it finds none there, and no block around names one.
        """
        if self._tenant is None:
            return None
        found = self._tenant.name(config if isinstance(config, dict) else config_above())
        return found or controls_of(self.cache).namespace or ""

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the cached generations, new objects each time, or None."""
        with FailingOpen(self, "lookup"):
            return finish(self._lookup(_BLOCKING, prompt, llm_string))
        return None

    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Do as ``lookup`` does; the event loop is not blocked."""
        with FailingOpen(self, "lookup"):
            return await self._lookup(self.cache.on_loop, prompt, llm_string)
        return None

    async def _lookup(
        self, runtime: Runtime, prompt: str, llm_string: str
    ) -> list[Generation] | None:
        caller = caller_of(self)
        asking = asked(prompt, llm_string)
        asker = self._asker(llm_string, depth=_FRAMES if runtime.blocks else _FRAMES_AWAITED)
        asking.is_readable = asker is not None
        if asker is None:
            return None
        asking.hidden, asking.state = asker
        asking.is_sure = asking.is_chat or (caller is not None and caller.is_sure)
        if caller is not None:
            asking.under = caller.under
        if self._tenant is not None:
            asking.tenant = self._tenant.of_call(asking)
        with controlled(asking, self.cache, self.count, self._tenant):
            read = partial(self._parse, prompt, llm_string, asking.hidden)
            request = read() if len(prompt) <= _LONG else await runtime.run(read)
            if asking.under is not None:
                request = asking.under(request)
            knows = request.model or asking.hidden is not None  # then the model itself was read
            if not knows and (kind := names_nothing(llm_string)) is not None:
                self._warn_of(kind)
            outcome, flight = await find(
                self.cache,
                runtime,
                request,
                stale=caller is not None and asking.under is None,
                joins=asking.run is not None or not asking.is_chat,  # else no call may follow
                is_sure=asking.is_sure,
            )
            if flight is not None:
                asking.lead(flight, self.cache.answers.finish, runtime is self.cache.on_loop)
            asking.outcome = outcome
            found = self._generations(outcome) if isinstance(outcome, Hit) else None
            if asking.run is not None:
                asking.run.note(describe(outcome))
            if isinstance(outcome, Hit):
                forget(asking)
                entry_id = outcome.entry_id
                if asking.run is not None:
                    self._note(asking.run, entry_id)
                if found is None:
                    await runtime.run(lambda: self.cache.invalidate(entry_id=entry_id))
                elif outcome.is_stale and caller is not None:
                    self._refresh(runtime, request, partial(caller.ask, prompt))
        if found is None and asking.state is not None:
            asking.begin()
        return found

    def _asker(self, llm_string: str, model: Any = None, depth: int = 1) -> _Asker | None:
        """Find out what the model that asks hides; None if that cannot be read."""
        model = asking_model(depth) if model is None else model
        if model is None:
            return None, None
        try:
            state = hidden_settings(model, llm_string, self._ignore)
            return state.now(), state
        except Unreadable as error:
            kind = type(model).__qualname__
            self.count("unreadable:model", f"{kind}: {error}; its calls pass the cache over")
            return None

    def _refresh(
        self, runtime: Runtime, request: Request, ask: Callable[[], Sequence[Generation]]
    ) -> None:
        """Ask for a stale answer anew, beside the call that got it."""

        async def fresh() -> Answer | None:
            return self._answer(request, await runtime.ask(ask))

        refresh(self.cache, runtime, request, fresh)

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep the model's answer, and note its entry id in the caller's chat messages."""
        with FailingOpen(self, "update"):
            finish(self._update(_BLOCKING, prompt, llm_string, return_val))

    def keep_stream(self, prompt: str, llm_string: str, whole: Generation) -> None:
        """Keep what a stream came to."""
        with FailingOpen(self, "update"):
            finish(self._update(Blocking(), prompt, llm_string, [whole], "stream"))

    async def akeep_stream(self, prompt: str, llm_string: str, whole: Generation) -> None:
        """Do as ``keep_stream`` does; the event loop is not blocked."""
        with FailingOpen(self, "update"):
            await self._update(self.cache.on_loop, prompt, llm_string, [whole], "stream")

    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Do as ``update`` does; the event loop is not blocked."""
        with FailingOpen(self, "update"):
            await self._update(self.cache.on_loop, prompt, llm_string, return_val)

    async def _update(
        self,
        runtime: Runtime,
        prompt: str,
        llm_string: str,
        return_val: Sequence[Generation],
        way: str = "call",
    ) -> None:
        asking = answered(prompt, llm_string)
        flight = None if asking is None else asking.flight
        if asking is None:
            asker = self._asker(llm_string)
        else:
            asking.settle()
            asker = (asking.hidden, asking.state) if asking.is_readable else None
        if asker is None:
            mark_as_fresh(return_val, None)
            return
        try:
            with controlled(asking, self.cache, self.count, self._tenant):
                read = partial(self._parse, prompt, llm_string, asker[0])
                request = read() if len(prompt) <= _LONG else await runtime.run(read)
                if asking is not None and asking.under is not None:
                    request = asking.under(request)
                is_call = way == "stream" or (asking is not None and asking.run is not None)
                answer = self._answer(request, return_val, way if is_call else None)
                entry_id = None
                if answer is not None:
                    entry_id = await keep(self.cache, runtime, request, answer, flight)
            mark_as_fresh(return_val, entry_id, None if asking is None else asking.outcome)
            if asking is not None:
                self._note(asking.run, entry_id)
        finally:
            if flight is not None:
                self.cache.answers.finish(flight)

    def _note(self, run: Run | None, entry_id: str | None) -> None:
        """Note what a run was answered with, for feedback, and should its caller fail on it."""
        self.servings.note(run, entry_id)
        if entry_id is not None and run is not None and run.parent is not None:
            drop = partial(self.cache.afeedback, entry_id, False, "failed step")
            note_answer(run.parent, drop)

    def abandon(self, prompt: str, llm_string: str) -> None:
        """Let those who wait for the answer to this lookup go on: none will come."""
        asking = answered(prompt, llm_string)
        if asking is not None:
            asking.settle()
            if asking.flight is not None:
                self.cache.answers.finish(asking.flight)

    def clear(self, learned: bool = False, **kwargs: Any) -> None:
        """Delete every entry of the cache's namespace, and on demand what was learnt.

        What other caches are told besides, ``clear(llm_string=…)``, raises ValueError: nothing is
        deleted then, rather than more than was meant. ``asynchronous`` is taken: it says how a
        Redis frees memory, not what is deleted.
        """
        _refuse(kwargs)
        with FailingOpen(self, "clear"):
            self.cache.clear(learned)

    async def aclear(self, learned: bool = False, **kwargs: Any) -> None:
        """Do as ``clear`` does; the event loop is not blocked."""
        _refuse(kwargs)
        with FailingOpen(self, "clear"):
            await self.cache.aclear(learned)

    def feedback(self, which: Any, correct: bool, source: str = "app") -> None:
        """Say whether an answer was right; a wrong one is not served again.

        ``which`` is the message itself, its entry id, or the id of its run (of the model call, or
        of a chain that made no other), which only this process knows, for the newest 10,000 runs.
        What is not known is ignored, and counted like the rest under ``stats().feedback``.
        """
        self.cache.feedback(self.servings.entry_id(which), correct, source)

    async def afeedback(self, which: Any, correct: bool, source: str = "app") -> None:
        """Do as ``feedback`` does; the event loop is not blocked."""
        await self.cache.afeedback(self.servings.entry_id(which), correct, source)

    def preload(self) -> None:
        """Load the embedding model now, instead of at the first question that needs it."""
        self.cache.preload()

    def close(self) -> None:
        """Release the store; the cache is then of no more use."""
        self.cache.close()

    def __enter__(self) -> TieredCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> TieredCache:
        """Return this very cache: a copied model shares it."""
        return self

    def __copy__(self) -> TieredCache:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come back from a pickle, in a process that may not have watched runs so far."""
        self.__dict__.update(state)
        watch_runs()

    def _parse(self, prompt: str, llm_string: str, hidden: str | None) -> Request:
        return parse(prompt, llm_string, self._question, hidden=hidden, ignore=self._ignore)

    def _generations(self, hit: Hit) -> list[Generation] | None:
        """Return the generations of a hit, None if it cannot be read."""
        try:
            return served(hit, self._hit_usage)
        except ValueError as error:
            self.count("unreadable", "a stored answer cannot be read and is deleted", error)
            return None

    def _answer(
        self, request: Request, generations: Sequence[Generation], way: str | None = "call"
    ) -> Answer | None:
        """Return the answer of a model's call; ``way`` None: of what somebody tells by hand."""
        answer = answer_of(generations)
        if answer is None:
            self.count("unstorable", "an answer does not survive being stored, so it is not")
        elif way is not None and self.cache.endings.is_unfinished(
            request, "langchain", way, ending_of(generations)
        ):
            return replace(answer, flaw=answer.flaw or UNFINISHED)
        return answer

    def _warn_of(self, kind: str) -> None:
        """Say once that the models of a type cannot be told apart."""
        if kind not in self._vague:
            self._vague.add(kind)
            _log.warning(
                "a model of type %r names neither itself nor its settings: two of them that differ "
                "share their answers, unless its _identifying_params say how they do",
                kind,
            )

    def count(self, kind: str, message: str, error: BaseException | None = None) -> None:
        """Count what went wrong; the first of a kind is a warning, the others debug."""
        self.errors[kind] += 1
        with suppress(Exception):  # a cache that fails at everything does not count either
            self.cache.count_error(kind)
        level = logging.WARNING if self.errors[kind] == 1 else logging.DEBUG
        _log.log(level, "%s: %s", kind, message, exc_info=error if level == logging.DEBUG else None)


class FailingOpen:
    """Turns any failure inside a block into nothing: LangChain would let it fail the call."""

    __slots__ = ("_cache", "_doing")

    def __init__(self, cache: TieredCache, doing: str) -> None:
        self._cache, self._doing = cache, doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, LeaderFailed):  # so would the model have failed for this call
            raise error.error from None
        if not isinstance(error, Exception):
            return False
        named = f"{self._doing}:{type(error).__name__}"
        self._cache.count(named, f"{self._doing} failed, the cache is passed over", error)
        return True


def _refuse(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments of ``clear`` that would have to be passed over."""
    unknown = sorted(arguments.keys() - {"asynchronous"})
    if unknown:
        raise ValueError(
            f"clear({', '.join(f'{name}=…' for name in unknown)}) cannot be done here, and nothing "
            "was deleted: cache.invalidate(model=…) of the ResponseCache deletes the answers of a "
            "model, clear() all of the namespace"
        )


# What caches do, seen from outside: ``with get_cache_trace() as trace``.


def get_cache_trace() -> AbstractContextManager[Trace]:
    """Collect what every cache does for the calls of a block; nothing is to be wired.

        with get_cache_trace() as trace:
            chain.batch(questions)
        print(trace.hits_by_tier, trace.tokens_saved, trace.money_saved)

    Seen is what is called in the block: tasks that it starts, threads of ``batch`` and of LangChain
    among it, other threads not. Blocks nest, each sees what happens inside it.
    """
    return tracing()
