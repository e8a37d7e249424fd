"""Carry per-call controls and traces in context variables, and tell hooks of each event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from shared_core.record import Explore, Hit, Outcome, Tier
from shared_core.usage import price

# What a cache tells of itself: one event per lookup or store, and the trace that collects them.


TOKENS = ("input_tokens", "output_tokens")


LATENCY_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds, in seconds, by which metrics count the latencies of events."""


@dataclass(frozen=True, slots=True)
class LookupEvent:
    """One lookup: how it ended, and why.

    ``outcome`` is "hit", "explore" or "miss"; ``reason`` why it did not hit; ``similarity`` that of
    the nearest candidate, if there was one; ``progress`` how far the policy is while it learns;
    ``latency`` is in seconds. ``usage`` is what the stored answer once cost in tokens, and ``age``
    how many seconds ago it was stored, on a hit. ``key`` is a digest: no event holds a prompt or an
    answer.

        def hook(event: LookupEvent) -> None:
            print(event.outcome, event.tier, event.reason)


        cache = ResponseCache.open(hooks=[hook])
    """

    outcome: str
    key: str
    namespace: str
    model: str
    latency: float
    tier: Tier | None = None
    reason: str | None = None
    similarity: float | None = None
    entry_id: str | None = None
    usage: Mapping[str, int] | None = None
    age: float | None = None
    progress: str | None = None


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """One store: ``entry_id`` None means that nothing was kept. ``latency`` is in seconds.

    ``usage`` is what the answer that was to be kept cost in tokens.

        class Hook:
            def __call__(self, event: LookupEvent) -> None: ...

            def stored(self, event: StoreEvent) -> None:
                print("kept", event.entry_id)
    """

    entry_id: str | None
    key: str
    namespace: str
    model: str
    latency: float
    usage: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class SharedEvent:
    """A lookup that missed and was then given the answer of a call under way.

    ``usage`` is what that call cost in tokens.

        with cache.trace() as trace:
            app()
        print([event for event in trace.events if isinstance(event, SharedEvent)])
    """

    entry_id: str
    key: str
    namespace: str
    model: str
    usage: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class RewriteEvent:
    """A model was asked to rewrite a follow-up: what came of it, in how many seconds, at what cost.

    ``verdict``: "rewritten", or why the rewriting is not used: "none" (the model says there is
    none), "long", "unchanged", "invented" or "dropped" (a name or figure that nobody said, or
    something that the user said is gone). ``usage`` is in tokens.
    """

    verdict: str
    model: str
    namespace: str
    latency: float
    usage: Mapping[str, int] | None = None


@dataclass(slots=True)
class Trace:
    """What caches did inside a ``with`` block, in order: of one ``cache.trace()``, or of all.

    ``hits`` were answered from a store, ``shared`` lookups by another's call; ``tokens_saved`` and
    ``money_saved``, in US dollars, are of both. Money is None if no model that saved has a price.

        with cache.trace() as trace:  # a Trace
            cache.lookup(request)
        print(trace.lookups, trace.hits, trace.tokens_saved)

        assert isinstance(trace, Trace)
    """

    events: list[LookupEvent | StoreEvent | SharedEvent] = field(default_factory=list)

    @property
    def lookups(self) -> int:
        """Return how many lookups there were."""
        return sum(isinstance(event, LookupEvent) for event in self.events)

    @property
    def hits(self) -> int:
        """Return how many lookups a store answered."""
        return sum(self.hits_by_tier.values())

    @property
    def hits_by_tier(self) -> dict[str, int]:
        """Return how many lookups each tier answered."""
        return dict(
            Counter(
                str(event.tier)
                for event in self.events
                if isinstance(event, LookupEvent) and event.outcome == "hit"
            )
        )

    @property
    def shared(self) -> int:
        """Return how many lookups were answered by another's call."""
        return sum(isinstance(event, SharedEvent) for event in self.events)

    @property
    def stores(self) -> int:
        """Return how many answers were kept."""
        return sum(isinstance(one, StoreEvent) and one.entry_id is not None for one in self.events)

    @property
    def tokens_saved(self) -> dict[str, int]:
        """Return the tokens, by kind, that no model was paid for."""
        saved: Counter[str] = Counter()
        for _, usage in self._saved():
            saved.update({name: usage.get(name) or 0 for name in TOKENS})
        return {name: amount for name, amount in saved.items() if amount}

    @property
    def money_saved(self) -> float | None:
        """Return what those tokens would have cost in US dollars, as far as prices are known."""
        prices = [price(model, usage) for model, usage in self._saved()]
        known = [dollars for dollars in prices if dollars is not None]
        return sum(known) if known else None

    def _saved(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        for event in self.events:
            if not isinstance(event, StoreEvent) and event.usage:
                yield event.model, event.usage


def lookup_event(
    model: str, namespace: str, key: str, outcome: Outcome, latency: float
) -> LookupEvent:
    """Describe how a lookup ended."""
    if isinstance(outcome, Hit):
        return LookupEvent(
            "hit",
            key,
            namespace,
            model,
            latency,
            outcome.tier,
            None,
            outcome.similarity,
            outcome.entry_id,
            outcome.answer.usage,
            outcome.age,
        )
    return LookupEvent(
        "explore" if isinstance(outcome, Explore) else "miss",
        key,
        namespace,
        model,
        latency,
        reason=outcome.reason,
        similarity=outcome.similarity,
        progress=outcome.progress,
    )


@dataclass(frozen=True, slots=True)
class Controls:
    """What one call wants: see ``ResponseCache.control``.

    ``max_age``: an answer that was kept more seconds ago is not for this call. ``sample``: the
    number of the sample that is wanted, of a request whose answers are drawn by chance.
    """

    read: bool = True
    write: bool = True
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    namespace: str | None = None
    max_age: float | None = None
    sample: int | None = None

    def __post_init__(self) -> None:
        number = self.sample
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise ValueError(f"sample must be a whole number or None, not {number!r}")

    def is_too_old(self, age: float) -> bool:
        """Say whether an answer of this age, in seconds, is not for this call."""
        return self.max_age is not None and age > self.max_age


CONTROLS = ("read", "write", "ttl", "tags", "namespace", "sample")
"""What a user may say for a call, by the same names everywhere."""
DEFAULT = Controls()
BYPASS = Controls(read=False, write=False)
EVERY = 0
"""Stands for every cache: no object has this id."""

# One variable for all caches, keyed by the cache: variables made per object would never be freed.
_controls: ContextVar[dict[int, Controls] | None] = ContextVar(
    "tiered_cache_controls", default=None
)
_traces: ContextVar[dict[int, tuple[Trace, ...]] | None] = ContextVar(
    "tiered_cache_traces", default=None
)


def controls_of(cache: object) -> Controls:
    """Return the controls in force for this cache here."""
    current = _controls.get()
    if current is None:
        return DEFAULT
    return BYPASS if EVERY in current else current.get(id(cache), DEFAULT)


def traces_of(cache: object) -> tuple[Trace, ...]:
    """Return the traces that are open for this cache here, and those for all."""
    current = _traces.get()
    if current is None:
        return ()
    return (*current.get(EVERY, ()), *current.get(id(cache), ()))


@contextmanager
def controlling(cache: object, controls: Controls) -> Iterator[None]:
    """Put controls in force for a block; the innermost block wins."""
    token = _controls.set({**(_controls.get() or {}), id(cache): controls})
    try:
        yield
    finally:
        _controls.reset(token)


@contextmanager
def bypassing() -> Iterator[None]:
    """Keep every cache out of a block: nothing is looked up, kept or counted, whatever it says."""
    token = _controls.set({**(_controls.get() or {}), EVERY: BYPASS})
    try:
        yield
    finally:
        _controls.reset(token)


@contextmanager
def tracing(cache: object = None) -> Iterator[Trace]:
    """Collect the events of a block, of a cache or of all (None).

    Blocks nest, each sees what happens inside it.
    """
    trace, open_ones = Trace(), _traces.get() or {}
    which = EVERY if cache is None else id(cache)
    token = _traces.set({**open_ones, which: (*open_ones.get(which, ()), trace)})
    try:
        yield trace
    finally:
        _traces.reset(token)


def tag_tuple(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags without repeats, in order; raises ValueError for one that is no text or empty."""
    if isinstance(tags, str):
        raise ValueError(f"tags must be a list of texts, not the text {tags!r}; write [{tags!r}]")
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag:
            raise ValueError(f"a tag must be a text that is not empty, not {tag!r}")
    return found
