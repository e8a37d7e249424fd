"""Say how the service does: /health, /ready, and all counters as Prometheus reads them.

calls, lookups --Meter--> counters that all workers share through the store --exposition--> /metrics
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict, Field

from shared_core.cache import ResponseCache
from shared_core.record import Tier
from shared_core.resilience import Unavailable, deadline
from shared_core.service.access import Caller
from shared_core.service.activity import BUCKETS_S, MAX_LABEL_VALUES, OTHER, OWN
from shared_core.service.dependencies import On, administrator
from shared_core.service.errors import errors_as_json
from shared_core.service.upstream import ENDINGS, State, Upstreams
from shared_core.stats import Stats, counts_of_all
from shared_core.usage import MILLION, dollars_by_model, money_saved

OUTCOMES = ("exact", "semantic", "explore", "miss")

SIDE = ("verifier", "standalone")
"""What asks a model for the cache itself."""


def counts_of(cache: ResponseCache) -> dict[str, int]:
    """Return what all workers counted; this one's own where the store does not answer. Blocks."""
    counts = cache._path.counters.counts()
    if cache._flusher is not None:
        cache.flush()
        with suppress(Unavailable):
            counts = cache._path.breaker.call(counts_of_all, cache._store, cache.options.namespace)
    return {
        name.removeprefix(OWN): n
        for name, n in counts.items()
        if name.startswith((OWN, "saved:", *(f"{part}:" for part in SIDE)))
    }


class UpstreamStats(BaseModel):
    """How an upstream does: ``state`` as this worker sees it, the rest of all workers."""

    state: State
    calls: Mapping[str, int] = Field(description="Calls by how they ended.")
    latency: Mapping[str, float] = Field(description="p50, p90 and p99 in seconds, about.")


def upstreams_of(counts: Mapping[str, int], upstreams: Upstreams) -> dict[str, Any]:
    """Return by name how each upstream did: calls by how they ended, percentiles of its latency."""
    return {
        one.name: {
            "state": one.state,
            "calls": {kind: counts.get(f"{one.counter}:{kind}", 0) for kind in ENDINGS},
            "latency": _percentiles(_bins(counts, one.counter)),
        }
        for one in upstreams.all
    }


class SideCalls(BaseModel):
    """Calls of the cache's own for one purpose."""

    asked: int
    served: int = Field(description="Hits that came of it.")
    spent: float = Field(description="US dollars.")


def side_calls_of(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what the cache asked models itself, by purpose, and what came of it."""
    return {
        part: {
            "asked": counts.get(f"{part}:asked", 0),
            "served": counts.get(f"{part}:served", 0),
            "spent": money_saved(_under(counts, f"aside:{part}:")) or 0.0,
        }
        for part in SIDE
    }


def money_of(counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return what was spent and saved in US dollars, by model, and what was saved by tier.

    Models are the hundred that cost most; the others together.
    """
    tiers = ((str(tier), _under(counts, f"saved_by:{tier}:")) for tier in Tier)
    found = {"saved_by_tier": {tier: money_saved(own) or 0.0 for tier, own in tiers}}
    for what in ("spent", "saved"):
        own = _under(counts, f"{what}:")
        dollars = sorted(dollars_by_model(own).items(), key=lambda one: -one[1])
        found[what] = dict(dollars[:MAX_LABEL_VALUES])
        if rest := sum(amount for _, amount in dollars[MAX_LABEL_VALUES:]):
            found[what][OTHER] = found[what].get(OTHER, 0.0) + rest
    return found


def _under(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}


def together(counts: Mapping[str, int], upstreams: Upstreams) -> dict[str, Any]:
    """Return how all upstreams did, as if they were one: down when each of them is."""
    bins = [_bins(counts, one.counter) for one in upstreams.all]
    return {
        "state": state_of_all(upstreams),
        "calls": {
            kind: sum(counts.get(f"{one.counter}:{kind}", 0) for one in upstreams.all)
            for kind in ENDINGS
        },
        "latency": _percentiles([sum(some) for some in zip(*bins, strict=True)]),
    }


def state_of_all(upstreams: Upstreams) -> State:
    """Return how all upstreams do: down when each of them is, failing when one of them does."""
    found = {one.state for one in upstreams.all}
    if found == {"down"}:
        return "down"
    return "ok" if found <= {"ok"} else "failing"


def _bins(counts: Mapping[str, int], name: str) -> list[int]:
    return [counts.get(f"seconds:{name}:{i}", 0) for i in range(len(BUCKETS_S) + 1)]


def _percentiles(bins: Sequence[int]) -> dict[str, float]:
    """Return p50, p90 and p99 in seconds: the upper end of the bucket in which each lies."""
    total, found = sum(bins), dict[str, float]()
    for share in (50, 90, 99) if total else ():
        seen = 0
        for i, count in enumerate(bins):
            seen += count
            if seen * 100 >= total * share:
                found[f"p{share}"] = BUCKETS_S[min(i, len(BUCKETS_S) - 1)]
                break
    return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What ``/metrics`` tells: statistics and counts of all workers, the rest of this one."""

    stats: Stats
    counts: Mapping[str, int]
    upstreams: Upstreams
    judging: int


def exposition(picture: Snapshot) -> bytes:
    """Spell statistics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Exposition(picture))
    return generate_latest(registry)


def judging(cache: ResponseCache) -> int:
    """Return how many answers wait for a judge in this process."""
    semantic = cache._path.semantic
    return 0 if semantic is None else semantic.judging


class _Exposition(Collector):
    """Statistics as metrics: those of all processes, which no counter of this one knows."""

    def __init__(self, picture: Snapshot) -> None:
        self._of = picture

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of now; each that counts is there from the first scrape."""
        yield from self._lookups()
        yield from self._upstream()
        yield from self._learning()

    def _lookups(self) -> Iterator[Metric]:
        stats, counts = self._of.stats, self._of.counts
        lookups = CounterMetricFamily(
            "tiered_cache_lookups",
            "Lookups by how they ended.",
            labels=("outcome", "tier", "reason"),
        )
        outcomes: dict[tuple[str, str, str], int] = {
            **{("hit", str(tier), ""): stats.hits_by_tier.get(str(tier), 0) for tier in Tier},
            ("miss", "", "absent"): 0,
            **{("miss", "", reason): n for reason, n in stats.misses.items()},
            ("explore", "", ""): stats.explores,
        }
        for labels, count in outcomes.items():
            lookups.add_metric(labels, count)
        yield lookups
        seconds = HistogramMetricFamily(
            "tiered_cache_lookup_seconds", "Time of lookups by how they ended.", labels=("outcome",)
        )
        for outcome in OUTCOMES:
            seconds.add_metric((outcome,), *_histogram(counts, f"lookup:{outcome}"))
        yield seconds
        requests = CounterMetricFamily(
            "tiered_cache_requests",
            "Lookups by model and namespace; the first hundred of each, the others together.",
            labels=("outcome", "model", "namespace"),
        )
        for name, count in counts.items():
            if name.startswith("requests:"):
                requests.add_metric(name.removeprefix("requests:").split("|", 2), count)
        yield requests
        audits = "Hits by meaning that were asked of the model all the same, to be checked."
        yield CounterMetricFamily("tiered_cache_audits", audits, value=counts.get("audits", 0))
        yield CounterMetricFamily("tiered_cache_stores", "Answers kept.", value=stats.stores)
        shared = "Requests answered by the call of another."
        yield CounterMetricFamily("tiered_cache_coalesced", shared, value=stats.coalesced)
        money = money_of(counts)
        for what, documentation in (
            ("spent", "What calls of the upstream cost, in US dollars at list prices."),
            ("saved", "What hits saved, in US dollars at list prices."),
        ):
            dollars = CounterMetricFamily(
                f"tiered_cache_{what}_dollars", documentation, labels=("model",)
            )
            for model, amount in money[what].items():
                dollars.add_metric((model,), amount)
            yield dollars

    def _upstream(self) -> Iterator[Metric]:
        counts = self._of.counts
        calls = CounterMetricFamily(
            "tiered_cache_upstream_calls",
            "Calls by how they ended.",
            labels=("upstream", "status"),
        )
        about = "Time until the headers of the upstream's response."
        seconds = HistogramMetricFamily(
            "tiered_cache_upstream_seconds", about, labels=("upstream",)
        )
        up = GaugeMetricFamily(
            "tiered_cache_upstream_up",
            "1 unless this worker's calls have failed for a while.",
            labels=("upstream",),
        )
        in_flight = GaugeMetricFamily(
            "tiered_cache_upstream_in_flight",
            "Calls of this worker that wait for a response.",
            labels=("upstream",),
        )
        for one in self._of.upstreams.all:
            for kind in ENDINGS:
                calls.add_metric((one.name, kind), counts.get(f"{one.counter}:{kind}", 0))
            seconds.add_metric((one.name,), *_histogram(counts, one.counter))
            up.add_metric((one.name,), float(one.state != "down"))
            in_flight.add_metric((one.name,), float(one.in_flight))
        yield from (calls, seconds, up, in_flight)

    def _learning(self) -> Iterator[Metric]:
        stats = self._of.stats
        for name, documentation, counts, always in (
            ("saved_tokens", "Tokens that hits saved.", stats.tokens_saved, ()),
            ("feedback", "Verdicts on answers.", stats.feedback, ("app", "page")),
            ("errors", "Failures that no caller saw.", stats.errors, ("service",)),
        ):
            family = CounterMetricFamily(f"tiered_cache_{name}", documentation, labels=("kind",))
            for kind, count in {**dict.fromkeys(always, 0), **counts}.items():
                family.add_metric((kind,), count)
            yield family
        breakers = GaugeMetricFamily(
            "tiered_cache_breaker_open", "1 while a part is given a rest.", labels=("part",)
        )
        for part, state in stats.breakers.items():
            breakers.add_metric((part,), float(state != "closed"))
        yield breakers
        wrong = math.nan if stats.error_per_hit is None else stats.error_per_hit
        for name, documentation, value in (
            ("error_per_hit", "Estimated share of wrong hits by meaning; NaN: none yet.", wrong),
            ("labels", "Labels behind that estimate.", float(stats.labels)),
            ("judge_queue", "Answers that wait for a judge in this worker.", self._of.judging),
        ):
            yield GaugeMetricFamily(f"tiered_cache_{name}", documentation, value=value)


def _histogram(counts: Mapping[str, int], name: str) -> tuple[list[tuple[str, float]], float]:
    buckets: list[tuple[str, float]] = []
    seen = 0.0
    for i, most in enumerate((*map(str, BUCKETS_S), "+Inf")):
        seen += counts.get(f"seconds:{name}:{i}", 0)
        buckets.append((most, seen))
    return buckets, counts.get(f"micros:{name}", 0) / MILLION


# What machines ask: does the service live, can it serve, what did it do?


_PROBE = "is it there?"


def store_state(cache: ResponseCache) -> Literal["ok", "down"]:
    """Say whether the store answers."""
    try:
        with deadline(cache.options.timeout):
            cache._path.breaker.call(cache.values.get_many, [_PROBE])
    except Unavailable:
        return "down"
    return "ok"


def embedder_state(cache: ResponseCache) -> Literal["ok", "loading", "down", "off"]:
    """Say whether vectors can be had; without a load in the background, load the model for that."""
    semantic = cache._path.semantic
    if semantic is None:
        return "off"
    if not semantic.reader.ready:
        return "loading"
    try:
        semantic.reader.embed(_PROBE)
    except Unavailable:
        return "down"
    return "ok"


router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What works. ``embedder``: "off" if questions are matched exactly alone.

    ``upstreams``: each is "failing" since the last call that did not fail, "down" when that lasts;
    ``upstream``: all of them together, down when each of them is.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ready": True,
                    "store": "ok",
                    "embedder": "ok",
                    "upstream": "ok",
                    "upstreams": {"default": "ok"},
                }
            ]
        }
    )

    ready: bool
    store: Literal["ok", "down"]
    embedder: Literal["ok", "loading", "down", "off"]
    upstream: State
    upstreams: Mapping[str, State]


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health() -> Alive:
    """Say that the process answers; asks nothing else."""
    return Alive()


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not ready."}},
)
def ready(on: On) -> JSONResponse:
    """Say whether the store, the embedding model and the upstream work.

    Requests are served all the same: without the first two the upstream answers, without it the
    cache does, where it can.
    """
    store, embedder = store_state(on.cache), embedder_state(on.cache)
    upstream = state_of_all(on.upstreams)
    whole = store == "ok" and embedder in ("ok", "off") and upstream != "down"
    each = {one.name: one.state for one in on.upstreams.all}
    found = Ready(ready=whole, store=store, embedder=embedder, upstream=upstream, upstreams=each)
    return JSONResponse(found.model_dump(), 200 if whole else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/plain": {"example": "tiered_cache_lookups_total 4\n"}}},
        **errors_as_json(401, 403, 408, 413, 431),
    },
)
def metrics(on: On, _: Annotated[Caller, Depends(administrator)]) -> PlainTextResponse:
    """Return the counters of all workers for Prometheus; scrape any one of them."""
    picture = Snapshot(
        on.cache.stats(all=True),
        counts_of(on.cache),
        on.upstreams,
        judging(on.cache),
    )
    return PlainTextResponse(exposition(picture), media_type=CONTENT_TYPE_LATEST)
