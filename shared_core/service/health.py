"""Tell machines whether the service lives, whether it can serve, and what it did."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from shared_core.service.auth import Caller
from shared_core.service.cache_api import embedder_state, store_state
from shared_core.service.dependencies import On, administrator
from shared_core.service.errors import errors_as_json
from shared_core.service.metrics import Snapshot, State, counts_of, exposition, judging

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What works. ``embedder``: "off" if questions are matched exactly alone.

    ``upstream``: "failing" since the last call that did not fail, "down" when that lasts.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ready": True, "store": "ok", "embedder": "ok", "upstream": "ok"}]
        }
    )

    ready: bool
    store: Literal["ok", "down"]
    embedder: Literal["ok", "loading", "down", "off"]
    upstream: State


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
    upstream = on.meter.upstream
    whole = store == "ok" and embedder in ("ok", "off") and upstream != "down"
    found = Ready(ready=whole, store=store, embedder=embedder, upstream=upstream)
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
        on.meter.upstream,
        on.meter.in_flight,
        judging(on.cache),
    )
    return PlainTextResponse(exposition(picture), media_type=CONTENT_TYPE_LATEST)
