"""Tell machines whether the service lives, whether it can serve, and what it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel, ConfigDict

from shared_core.service.auth import Caller
from shared_core.service.cache_api import embedder_state, store_state
from shared_core.service.dependencies import On, administrator
from shared_core.service.errors import errors_as_json
from shared_core.stats import Stats

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What of the cache works. ``embedder``: "off" if questions are matched exactly alone."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ready": True, "store": "ok", "embedder": "ok"}]}
    )

    ready: bool
    store: Literal["ok", "down"]
    embedder: Literal["ok", "loading", "down", "off"]


@router.get("/health")
async def health() -> Alive:
    """Say that the process answers; asks nothing else."""
    return Alive()


@router.get(
    "/ready",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not ready."}},
)
def ready(on: On) -> JSONResponse:
    """Say whether the store can be reached and the embedding model be had.

    Requests are served all the same: without them the upstream answers.
    """
    store, embedder = store_state(on.cache), embedder_state(on.cache)
    whole = store == "ok" and embedder in ("ok", "off")
    found = Ready(ready=whole, store=store, embedder=embedder)
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
    return PlainTextResponse(exposition(on.cache.stats(all=True)), media_type=CONTENT_TYPE_LATEST)


def exposition(stats: Stats) -> bytes:
    """Spell statistics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Told(stats))
    return generate_latest(registry)


class _Told(Collector):
    """Statistics as metrics: those of all processes, which no counter of this one knows."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of now."""
        stats = self._stats
        lookups = CounterMetricFamily(
            "tiered_cache_lookups",
            "Lookups by how they ended.",
            labels=("outcome", "tier", "reason"),
        )
        outcomes: dict[tuple[str, str, str], int] = {
            **{("hit", tier, ""): n for tier, n in stats.hits_by_tier.items()},
            **{("miss", "", reason): n for reason, n in stats.misses.items()},
            ("explore", "", ""): stats.explores,
        }
        for told, count in outcomes.items():
            lookups.add_metric(told, count)
        yield lookups
        yield CounterMetricFamily("tiered_cache_stores", "Answers kept.", value=stats.stores)
        shared = "Requests answered by the call of another."
        yield CounterMetricFamily("tiered_cache_coalesced", shared, value=stats.coalesced)
        for name, documentation, counts in (
            ("saved_tokens", "Tokens that hits saved.", stats.tokens_saved),
            ("feedback", "Verdicts on answers.", stats.feedback),
            ("errors", "Failures that no caller saw.", stats.errors),
        ):
            family = CounterMetricFamily(f"tiered_cache_{name}", documentation, labels=("kind",))
            for kind, count in counts.items():
                family.add_metric((kind,), count)
            yield family
        for name, documentation, value in (
            ("saved_dollars", "What hits saved, in US dollars.", stats.money_saved),
            ("error_per_hit", "Estimated share of wrong hits by meaning.", stats.error_per_hit),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"tiered_cache_{name}", documentation, value=value)
