"""The cache as its users hold it: data path, get or compute, invalidation, sight; sync and async.

Every async twin is one hop to a thread for the whole walk, so a store or an embedder is written
once, blocking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Any

from shared_core.answer import Answers
from shared_core.codec import Codec
from shared_core.control import Controls, controlling, controls_of, tag_tuple, tracing
from shared_core.data_path import DataPath
from shared_core.events import Trace
from shared_core.feedback import take
from shared_core.hop import Hop, twin
from shared_core.invalidation import SIMILAR, Target
from shared_core.leases import Leases
from shared_core.options import Options, Seconds, seconds
from shared_core.origin import opened, way_to
from shared_core.record import Answer, Outcome
from shared_core.request import Request
from shared_core.resilience import Unavailable
from shared_core.runtimes import Blocking, OnLoop, finish
from shared_core.stats import Stats, stats_of
from shared_core.stores import Clock, KeyValue, Selector, Store, epoch_key, open_store
from shared_core.upkeep import Upkeep, counts_of_all, flush


class ResponseCache:
    """A cache of model answers: exact and semantic tier over one store, safe for threads and forks.

    ``ResponseCache.open(url, **options)`` makes one. Whatever fails inside is a miss, counted in
    ``stats().errors``; only arguments that make no sense raise.

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
        seal: str = "",
    ) -> None:
        self._store, self._options = store, options
        self._path = DataPath(store, options, self, clock, seal)
        self._clock = clock
        self._upkeep = Upkeep(self.flush) if shared else None
        self._hop = Hop()
        self.on_loop = OnLoop(self._hop)
        leases = Leases(self._path, self._hop, options) if shared else None
        self.answers = Answers(self._path, options, leases)

    @classmethod
    def open(
        cls, url: str = "memory://", *, clock: Clock = time.time, **options: Any
    ) -> ResponseCache:
        """Open a cache on ``memory://``, ``sqlite:///PATH`` or ``redis://…``; see ``Options``.

        Raises ValueError for a wrong URL or option, naming it and the remedy; ImportError for an
        extra that is missing.
        """
        chosen = Options.of(options)
        codec = Codec(chosen.encryption_key)
        store = open_store(url, codec=codec, clock=clock, **chosen.of_store())
        shared = not url.startswith("memory:")
        cache = cls(store, chosen, clock=clock, shared=shared, seal=codec.seal)
        return opened(cache, cls.open, url, options)

    @property
    def options(self) -> Options:
        """Return what the cache was told."""
        return self._options

    @property
    def values(self) -> KeyValue:
        """Return the store's small values, for what is no answer; its methods raise StoreError."""
        return self._store

    def count_error(self, kind: str) -> None:
        """Count a failure that the app did not see; ``stats().errors`` shows it."""
        self._path.count_error(kind)

    def lookup(self, request: Request, stale: bool = False) -> Outcome:
        """Find the answer of this request, or of one in other words; if ``stale``, an old one."""
        if self._upkeep is not None:
            self._upkeep.ensure()
        return self._path.lookup(request, stale)

    alookup = twin(lookup)

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

    astore = twin(store)

    def feedback(self, entry_id: str, correct: bool, source: str = "app") -> None:
        """Say whether a served answer was right; works from any process, without the lookup.

        A wrong exact answer is deleted. A wrong semantic one is no longer served to that question,
        and the policy learns, from right ones too. An unknown id is ignored. All is counted.
        """
        take(self._path, self._store, entry_id, correct, source)

    afeedback = twin(feedback)

    def warm(self, pairs: Iterable[tuple[Any, Any]], progress: bool = True) -> int:
        """Store (request, answer) pairs that are not there; return how many. See ``warming``."""
        from shared_core.warming import warm

        return warm(self._path, pairs, progress)

    awarm = twin(warm)

    def answer(self, request: Request, model: Callable[..., Any], **controls: Any) -> Answer:
        """Return the cached answer, or the model's, which is called once for all who ask at a time.

        ``model`` is called with no argument, or with the request if it takes one, and returns an
        ``Answer`` or a text; what it raises is raised here. ``controls`` are those of ``control``,
        and change only what they name.
        """
        with self._controlled(controls):
            return finish(self.answers.answer(Blocking(), request, model, controls_of(self)))

    async def aanswer(self, request: Request, model: Callable[..., Any], **controls: Any) -> Answer:
        """Do as ``answer`` does; ``model`` may be a coroutine function."""
        with self._controlled(controls):
            return await self.answers.answer(self.on_loop, request, model, controls_of(self))

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
        """Delete the entries of this namespace that match all that is given; return how many.

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

    ainvalidate = twin(invalidate)

    def bump(self, tag: str) -> None:
        """Make everything stored under a tag old at once, in every process, however much it is."""
        (tag,) = tag_tuple([tag])
        try:
            self._path.fuse.call(self._store.increment, {epoch_key(self._path.namespace(), tag): 1})
        except Unavailable:
            return

    def clear(self, learned: bool = False) -> int:
        """Delete every entry of this namespace, and on demand what was learnt; return how many."""
        semantic = self._path.semantic
        if learned and semantic is not None:
            with suppress(Unavailable):  # counted; the entries are deleted all the same
                self._path.fuse.call(semantic.learner.forget, self._path.namespace())
        return self._delete(Selector(self._path.namespace()))

    aclear = twin(clear)

    def _delete(self, selector: Selector) -> int:
        try:
            return self._path.fuse.call(self._store.delete, selector)
        except Unavailable:
            return 0

    def control(
        self,
        read: bool = True,
        write: bool = True,
        ttl: Seconds | None = None,
        tags: Iterable[str] = (),
        namespace: str | None = None,
    ) -> AbstractContextManager[None]:
        """Say for a block whether to look up and to keep, how long, under what tags, for whom.

        Follows the task or thread that entered it. Raises ValueError for a senseless ttl or tag.
        """
        lifetime = None if ttl is None else seconds("ttl", ttl)
        return controlling(self, Controls(read, write, lifetime, tag_tuple(tags), namespace))

    def _controlled(self, controls: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Put controls in force over those that are, which stay where none is given."""
        outer = controls_of(self)
        now = {name: getattr(outer, name) for name in ("read", "write", "ttl", "tags", "namespace")}
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
        if all and self._upkeep is not None:
            self.flush()
            with suppress(Unavailable):  # counted; this object's own are better than none
                counts = self._path.fuse.call(counts_of_all, self._store, self._options.namespace)
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
        flush(self._path, self._store, self._options.namespace)

    def close(self) -> None:
        """Write the counters and release everything; a second call does nothing."""
        self._path.close()
        if self._upkeep is not None:
            self._upkeep.stop()
            self.flush()
        self._hop.close()
        self._store.close()

    aclose = twin(close)

    __reduce__ = way_to

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
