"""What a cache tells of itself: one event per lookup or store, and the trace that collects them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from shared_core.pricing import price
from shared_core.record import Explore, Hit, Miss, Outcome, Tier

TOKENS = ("input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class LookupEvent:
    """One lookup: how it ended, and why.

    ``outcome`` is "hit", "explore" or "miss"; ``reason`` why it did not hit; ``similarity`` that of
    the nearest candidate, if there was one; ``latency`` is in seconds. ``usage`` is what the stored
    answer once cost in tokens, and ``age`` how many seconds ago it was stored, on a hit. ``key`` is
    a digest: no event holds a prompt or an answer.
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


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """One store: ``entry_id`` None means that nothing was kept. ``latency`` is in seconds.

    ``usage`` is what the answer that was to be kept cost in tokens.
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
    """

    entry_id: str
    key: str
    namespace: str
    model: str
    usage: Mapping[str, int] | None = None


@dataclass(slots=True)
class Trace:
    """What caches did inside a ``with`` block, in order: of one ``cache.trace()``, or of all.

    ``hits`` were answered from a store, ``shared`` lookups by another's call; ``tokens_saved`` and
    ``money_saved``, in US dollars, are of both. Money is None if no model that saved has a price.
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
    match outcome:
        case Hit(answer=answer, tier=tier, similarity=similarity, entry_id=entry_id, age=age):
            return LookupEvent(
                "hit",
                key,
                namespace,
                model,
                latency,
                tier,
                None,
                similarity,
                entry_id,
                answer.usage,
                age,
            )
        case Explore(reason=reason, similarity=similarity):
            return LookupEvent(
                "explore", key, namespace, model, latency, reason=reason, similarity=similarity
            )
        case Miss(reason=reason, similarity=similarity):
            return LookupEvent(
                "miss", key, namespace, model, latency, reason=reason, similarity=similarity
            )
