"""What a cache tells of itself: one event per lookup or store, and the trace that collects them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared_core.record import Explore, Hit, Miss, Outcome, Tier


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


@dataclass(slots=True)
class Trace:
    """What one cache did inside a ``with cache.trace()`` block, in order."""

    events: list[LookupEvent | StoreEvent] = field(default_factory=list)


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
