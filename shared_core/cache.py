"""Offer the cache as one object, ``ResponseCache``: look up, store, compute, invalidate, learn.

    ResponseCache   the cache, at the end of this module: begin there
    Target          which entries ``invalidate`` deletes
    take            what ``feedback`` does
    OpenedFrom      what a pickled cache carries, to be opened again elsewhere

Every async method runs the whole blocking one in a thread, so a store or an embedder is written
once, blocking.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar, Unpack
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from shared_core.compute import Answers, StoreLeases, answer, value_key
from shared_core.concurrency import (
    Blocking,
    OnLoop,
    ThreadRunner,
    async_twin,
    finish,
    free_after_fork,
)
from shared_core.controls import (
    CONTROLS,
    DEFAULT,
    Controls,
    Trace,
    controlling,
    controls_of,
    tag_tuple,
    tracing,
)
from shared_core.learning import REWRITTEN
from shared_core.options import CacheOptions, Options, Seconds, seconds, shows_options
from shared_core.pipeline import Pipeline
from shared_core.record import Answer, Endings, EntryId, Outcome
from shared_core.request import Request
from shared_core.resilience import Unavailable
from shared_core.stats import BackgroundFlush, Stats, counts_of_all, flush, stats_of
from shared_core.stores import (
    Clock,
    Codec,
    KeyValue,
    SealedValues,
    Selector,
    Store,
    epoch_key,
    open_store,
)
from shared_core.thresholds import Label

# Which entries are to go: what a user names, as selectors that a store understands.


SIMILAR = 0.9
"""The cosine from which a question is similar to another, unless another is given."""


@dataclass(frozen=True, slots=True)
class Target:
    """What ``ResponseCache.invalidate`` is to delete; entries must match all of it.

    Raises ValueError if nothing is given.
    """

    entry_id: str | None = None
    model: str | None = None
    tag: str | None = None
    scope: Request | str | None = None
    key_prefix: str | None = None
    older_than: float | timedelta | None = None
    similar_to: Request | None = None
    similarity: float = SIMILAR

    def __post_init__(self) -> None:
        given = (self.entry_id, self.model, self.tag, self.scope, self.key_prefix)
        if all(one is None for one in (*given, self.older_than, self.similar_to)):
            raise ValueError(
                "invalidate() needs an argument that says what; clear() deletes everything"
            )

    def selectors(self, path: Pipeline, now: float) -> list[Selector]:
        """Return the selectors whose entries are to go. Raises Unavailable."""
        key = None
        if self.entry_id is not None:
            serving = EntryId.parse(self.entry_id)
            if serving is None:
                return []
            key = serving.record
        found: list[Selector] = []
        for namespace in path.namespaces():
            found += self._within(path, namespace, key, now)
        return found

    def _within(
        self, path: Pipeline, namespace: str, key: str | None, now: float
    ) -> list[Selector]:
        scopes: list[str | None] = [self.scope if isinstance(self.scope, str) else None]
        if isinstance(self.scope, Request):
            scopes = [*path.scopes(self.scope, namespace)]
        age = self.older_than
        if isinstance(age, timedelta):
            age = age.total_seconds()
        prefix = self.key_prefix
        selectors = [
            Selector(
                namespace,
                key=key,
                model=self.model,
                tag=self.tag,
                scope=scope,
                created_before=None if age is None else now - age,
                key_prefix=None if prefix is None else value_key(namespace, prefix),
            )
            for scope in scopes
        ]
        if self.similar_to is None:
            return selectors
        if path.semantic is None:
            return []
        question, near = self.similar_to.question or "", list[str]()
        for scope in path.scopes(self.similar_to, namespace):
            near += path.semantic.similar(question, scope, self.similarity)
        near = [one for one in near if key in (None, one)]
        return [replace(selector, key=one) for selector in selectors for one in near]


# What people say of a served answer: it is taken back, and the policy learns.


def take(path: Pipeline, store: Store, entry_id: str, correct: bool, source: str) -> None:
    """Act on feedback; works from any process, without the lookup, and raises nothing.

    A wrong exact answer is deleted. A wrong semantic one is no longer served to that question, and
    the policy learns, from right ones too. An id that is not known (any more) is ignored and
    counted; other feedback is counted under its ``source``.
    """
    serving, semantic = EntryId.parse(entry_id), path.semantic
    try:
        record = path.breaker.call(store.get, serving.record) if serving else None
        if serving is None or record is None:
            path.counters.add("feedback:unknown")
            return
        path.counters.add(f"feedback:{source}")
        if serving.asked is None or semantic is None:
            if not correct:
                path.breaker.call(store.delete, Selector(record.namespace, key=record.key))
            return
        path.counters.add("labels:right" if correct else "labels:wrong")
        if not correct:
            semantic.denylist.add(record, serving.asked)
        semantic.use_embedder(record.space)
        label = Label(correct, serving.similarity, score=serving.score)
        kind = REWRITTEN if serving.rewritten else ""
        path.breaker.call(semantic.labels.learn, record.namespace + kind, label)
    except Unavailable:
        return


# Where a cache comes from: what a pickled cache carries, instead of connections and locks.
#
# cache --pickle--> OpenedFrom(token, open, url, options) --unpickle--> the same cache, or
#     one opened anew


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class OpenedFrom:
    """How a cache was opened; ``token`` tells the caches of a process apart."""

    token: str
    open: Callable[..., Any]
    url: str = field(repr=False)  # it may hold a password
    options: Mapping[str, Any] = field(repr=False)


class _Living:
    """The caches of this process: each one's origin, and each token's cache."""

    def __init__(self) -> None:
        self.origins: WeakKeyDictionary[Any, OpenedFrom] = WeakKeyDictionary()
        self.caches: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.opening = free_after_fork(threading.Lock())

    def note(self, cache: Any, origin: OpenedFrom) -> None:
        self.origins[cache] = origin
        self.caches[origin.token] = cache


_living = _Living()


def opened(cache: C, open: Callable[..., C], url: str, options: Mapping[str, Any]) -> C:
    """Note how a cache was opened, for as long as it lives, and return it."""
    _living.note(cache, OpenedFrom(uuid4().hex, open, url, dict(options)))
    return cache


def reduce(cache: Any) -> tuple[Any, ...]:
    """Reduce a cache for pickling to its origin: in this process the copy is the cache itself.

    Elsewhere it reconnects. Raises TypeError for a cache of which no origin is known.
    """
    origin = _living.origins.get(cache)
    if origin is None:
        raise TypeError(f"only a {type(cache).__name__} made by open() can be pickled")
    return reopen, (origin,)


def reopen(origin: OpenedFrom) -> Any:
    """Return the cache of an origin: the one in this process, else one opened now.

    Raises what opening it raises.
    """
    with _living.opening:
        cache = _living.caches.get(origin.token)
        if cache is None:
            cache = origin.open(origin.url, **origin.options)
            _living.note(cache, origin)
        return cache


class ResponseCache:
    """A cache of model answers: exact and semantic tier over one store, safe for threads and forks.

    ``ResponseCache.open(url, **options)`` makes one. Whatever fails inside is a miss, counted in
    ``stats().errors``; only arguments that make no sense raise.

    The constructor is for a store of your own:

    - ``store``: an object with the methods of ``shared_core.stores.Store``; the cache closes it
    - ``options``: ``Options.of({"semantic": False})``, say
    - ``clock``: seconds since the epoch, as ``time.time`` gives them
    - ``shared``: whether other processes use the store: then counters are written to it, and equal
      calls of other processes are waited for
    - ``key_fingerprints``: of the keys that the store seals with, the newest first
    - ``values``: where small values lie, if not in the store

        cache = ResponseCache.open("sqlite:///answers.db", threshold=0.92)
        request = Request.of("What is a fuse?", model="gpt-4o-mini", params={"temperature": 0})
        answer = cache.answer(request, lambda: Answer("It melts before the wire does."))
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        *,
        clock: Clock = time.time,
        shared: bool = True,
        key_fingerprints: Sequence[str] = (),
        values: KeyValue | None = None,
    ) -> None:
        self._store, self._options = store, options
        self._path = Pipeline(store, options, self, clock, key_fingerprints, values)
        self._values = store if values is None else values
        self._clock = clock
        self._flusher = BackgroundFlush(self.flush) if shared else None
        self._threads = ThreadRunner()
        self.on_loop = OnLoop(self._threads)
        leases = StoreLeases(self._path, self._threads, options) if shared else None
        self.answers = Answers(self._path, options, leases)
        self.endings = Endings()

    @classmethod
    @shows_options
    def open(
        cls, url: str = "memory://", *, clock: Clock = time.time, **options: Unpack[CacheOptions]
    ) -> ResponseCache:
        """Open a cache on ``memory://``, ``sqlite:///PATH`` or ``redis://…``; see ``Options``.

        Raises ValueError for a wrong URL or option, naming it and the remedy; ImportError for an
        extra that is missing.
        """
        chosen = Options.of(options)
        codec = Codec(chosen.encryption_key)
        store = open_store(url, codec=codec, clock=clock, **chosen.of_store())
        shared = not url.startswith("memory:")
        seals = shared and codec.key_fingerprints
        cache = cls(
            store,
            chosen,
            clock=clock,
            shared=shared,
            key_fingerprints=codec.key_fingerprints,
            values=SealedValues(store, codec, clock) if seals else None,
        )
        return opened(cache, cls.open, url, dict(options))

    @property
    def options(self) -> Options:
        """Return the settings that the cache was opened with."""
        return self._options

    @property
    def values(self) -> KeyValue:
        """Return the store's small values, for what is no answer; its methods raise StoreError.

        With an encryption key they are sealed: see ``SealedValues``.
        """
        return self._values

    def count_error(self, kind: str) -> None:
        """Count a failure that the app did not see; ``stats().errors`` shows it."""
        self._path.count_error(kind)

    def lookup(self, request: Request, stale: bool = False) -> Outcome:
        """Find the answer of this request, or of one in other words; if ``stale``, an old one."""
        if self._flusher is not None:
            self._flusher.ensure()
        return self._path.lookup(request, stale)

    async def alookup(self, request: Request, stale: bool = False) -> Outcome:
        """Do as ``lookup`` does; the event loop is not blocked."""
        if self._path.conversations is not None:
            await self._path.prepare(self.on_loop, request)
        return await self._threads.run(self.lookup, request, stale)

    def store(
        self,
        request: Request,
        answer: Answer,
        *,
        tags: Iterable[str] = (),
        ttl: Seconds | None = None,
    ) -> str | None:
        """Keep an answer and return its entry id, or None if nothing was kept.

        ``tags`` are added to those of ``control``; ``ttl`` replaces the cache's (``math.inf``: for
        ever). Raises ValueError for a tag or ttl that makes no sense.
        """
        return self._path.store(request, answer, tags=tags, ttl=ttl)

    astore = async_twin(store)

    def feedback(self, entry_id: str, correct: bool, source: str = "app") -> None:
        """Say whether a served answer was right; works from any process, without the lookup.

        A wrong exact answer is deleted. A wrong semantic one is no longer served to that question,
        and the policy learns, from right ones too. An unknown id is ignored. All is counted.
        """
        take(self._path, self._store, entry_id, correct, source)

    afeedback = async_twin(feedback)

    def warm(self, pairs: Iterable[tuple[Any, Any]], progress: bool = True) -> int:
        """Store (request, answer) pairs that are not there; return how many. See ``warming``."""
        from shared_core.warming import warm

        return warm(self._path, pairs, progress)

    awarm = async_twin(warm)

    def learn(self, most: int = 500) -> int:
        """Learn from the answers that are stored; return how many labels that gave.

        Answers to questions that look alike are held against each other, those of the newest
        ``most`` records that this was not done for. Call it when the app is idle, after ``warm`` or
        before another policy is used. It tells the policy what speaks for a candidate; how often
        what is served is wrong it still learns from requests alone, as a stored answer is no fair
        sample of them. A cache without a semantic tier, or of another policy than ``Verified``,
        learns nothing. Never raises for a store that fails.

        >>> ResponseCache.open("memory://", semantic=False).learn()
        0
        """
        semantic = self._path.semantic
        if semantic is None:
            return 0
        try:
            return semantic.learn_stored(self._path.namespace(), most)
        except Unavailable:
            return 0

    alearn = async_twin(learn)

    def answer(self, request: Request, model: Callable[..., Any], **controls: Any) -> Answer:
        """Return the cached answer, or the model's, which is called once for all who ask at a time.

        ``model`` is called with no argument, or with the request if it takes one, and returns an
        ``Answer`` or a text; what it raises is raised here. ``controls`` are those of ``control``,
        and change only what they name.
        """
        with self._controlled(controls):
            return finish(answer(self, Blocking(), request, model))

    async def aanswer(self, request: Request, model: Callable[..., Any], **controls: Any) -> Answer:
        """Do as ``answer`` does; ``model`` may be a coroutine function."""
        with self._controlled(controls):
            return await answer(self, self.on_loop, request, model)

    def get_or_compute(
        self,
        key: str,
        fn: Callable[[], Any],
        *,
        ttl: Seconds | None = None,
        tags: Iterable[str] = (),
    ) -> tuple[Any, bool]:
        """Return the JSON value under a key of your own, and whether it was computed just now.

        ``fn`` is called once for all who ask at a time. Raises what ``fn`` raises, ValueError for
        an empty key, and TypeError or ValueError for a value that JSON does not have.
        """
        return finish(self.answers.value(Blocking(), key, fn, ttl, tags))

    async def aget_or_compute(
        self,
        key: str,
        fn: Callable[[], Any],
        *,
        ttl: Seconds | None = None,
        tags: Iterable[str] = (),
    ) -> tuple[Any, bool]:
        """Do as ``get_or_compute`` does; ``fn`` may be a coroutine function."""
        return await self.answers.value(self.on_loop, key, fn, ttl, tags)

    def invalidate(
        self,
        *,
        entry_id: str | None = None,
        model: str | None = None,
        tag: str | None = None,
        scope: Request | str | None = None,
        key_prefix: str | None = None,
        older_than: float | timedelta | None = None,
        similar_to: Request | None = None,
        similarity: float = SIMILAR,
    ) -> int:
        """Delete the entries of the namespace in force that match all given; return how many.

        ``scope`` is a request (all answers given under its scope) or a scope digest; ``key_prefix``
        is of keys given to ``get_or_compute``; ``older_than`` is an age in seconds; ``similar_to``
        is a request: all questions of its scope at a cosine of ``similarity`` or above. Raises
        ValueError if nothing is given: ``clear()`` deletes all.
        """
        target = Target(entry_id, model, tag, scope, key_prefix, older_than, similar_to, similarity)
        try:
            selectors = target.selectors(self._path, self._clock())
        except Unavailable:
            return 0
        return sum(map(self._delete, selectors))

    ainvalidate = async_twin(invalidate)

    def bump(self, tag: str) -> None:
        """Make everything stored under a tag old at once, in every process, however much it is.

        This is of the namespace in force; for several tenants call it in a ``control(namespace=…)``
        block for each.
        """
        (tag,) = tag_tuple([tag])
        try:
            epochs = {epoch_key(namespace, tag): 1 for namespace in self._path.namespaces()}
            self._path.breaker.call(self._store.increment, epochs)
        except Unavailable:
            return

    def clear(self, learned: bool = False) -> int:
        """Delete every entry of the namespace in force; return how many.

        ``learned``: also what was learnt from labels there.
        """
        semantic = self._path.semantic
        if learned and semantic is not None:
            with suppress(Unavailable):  # counted; the entries are deleted all the same
                for kind in ("", REWRITTEN):
                    self._path.breaker.call(semantic.labels.forget, self._path.namespace() + kind)
        if self._path.conversations is not None:
            self._path.conversations.forget(self._path.unsealed(self._path.namespace()))
        return sum(self._delete(Selector(namespace)) for namespace in self._path.namespaces())

    aclear = async_twin(clear)

    def _delete(self, selector: Selector) -> int:
        try:
            return self._path.breaker.call(self._store.delete, selector)
        except Unavailable:
            return 0

    def control(
        self,
        read: bool = True,
        write: bool = True,
        ttl: Seconds | None = None,
        tags: Iterable[str] = (),
        namespace: str | None = None,
        sample: int | None = None,
    ) -> AbstractContextManager[None]:
        """Say for a block whether to look up and to keep, how long, under what tags, for whom.

        ``sample`` numbers the answers of a request that are drawn by chance, so that each number
        has an answer of its own. Follows the task or thread that entered it. Raises ValueError for
        a senseless ttl, tag or sample.
        """
        lifetime = None if ttl is None else seconds("ttl", ttl)
        controls = Controls(read, write, lifetime, tag_tuple(tags), namespace, sample=sample)
        return controlling(self, controls)

    def _controlled(self, controls: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Put controls in force over those that are, which stay where none is given."""
        outer = controls_of(self)
        now = {name: getattr(outer, name) for name in CONTROLS}
        return self.control(**{**now, **controls})

    def trace(self) -> AbstractContextManager[Trace]:
        """Collect the events of a block: ``with cache.trace() as trace: … trace.events``."""
        return tracing(self)

    def stats(self, all: bool = False) -> Stats:
        """Return what this object did; with ``all``, what every process ever did.

        Latencies are always this object's.
        """
        counters = self._path.counters
        counts = counters.counts()
        if all and self._flusher is not None:
            self.flush()
            with suppress(Unavailable):  # counted; this object's own are better than none
                counts = self._path.breaker.call(
                    counts_of_all, self._store, self._options.namespace
                )
        path = self._path
        policy, breakers = path.described(path.namespace()), path.breakers()
        return stats_of(counts, policy=policy, breakers=breakers, latencies=counters.latencies())

    def preload(self) -> None:
        """Load the embedding model now, instead of at the first question that needs it.

        Raises EmbedderError if it cannot be loaded.
        """
        if self._path.semantic is not None:
            self._path.semantic.preload()

    def flush(self) -> None:
        """Write the counters to the store now; a thread does it about once a second."""
        path, semantic = self._path, self._path.semantic
        knows = semantic is not None and semantic.knows_embedder
        flush(
            path.counters,
            path.breaker.call,
            self._store,
            self._options.namespace,
            catch_up=None if semantic is None else semantic.labels.catch_up,
            describe=(lambda: path.described(path.namespace(DEFAULT))) if knows else None,
            count_error=path.count_error,
        )

    def close(self) -> None:
        """Write the counters and release everything; a second call does nothing."""
        self._path.close()
        if self._flusher is not None:
            self._flusher.stop()
            self.flush()
        self._threads.close()
        self._store.close()

    aclose = async_twin(close)

    __reduce__ = reduce

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
