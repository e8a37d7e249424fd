"""Whether the service lives, whether it can serve, and what it did, for machines that watch it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict

from shared_core.service.inside import embedder_state, store_state
from shared_core.service.keys import Caller
from shared_core.service.refusals import errors_as_json
from shared_core.service.state import Service, administrator, service
from shared_core.stats import Stats

router = APIRouter(tags=["health"])

On = Annotated[Service, Depends(service)]
EXPOSITION = "text/plain; version=0.0.4"


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
        **errors_as_json(401, 403, 413, 429, 431),
    },
)
def metrics(on: On, _: Annotated[Caller, Depends(administrator)]) -> PlainTextResponse:
    """Return the counters of all workers for Prometheus; scrape any one of them."""
    text = "".join(f"{line}\n" for line in exposition(on.cache.stats(all=True)))
    return PlainTextResponse(text, media_type=EXPOSITION)


def exposition(stats: Stats) -> Iterator[str]:
    """Spell statistics as Prometheus reads them."""
    outcomes: dict[tuple[str, str, str], int] = {
        **{("hit", tier, ""): n for tier, n in stats.hits_by_tier.items()},
        **{("miss", "", reason): n for reason, n in stats.misses.items()},
        ("explore", "", ""): stats.explores,
    }
    yield from _family("tiered_cache_lookups", "counter", "Lookups by how they ended.")
    for (outcome, tier, reason), count in outcomes.items():
        told = _labels({"outcome": outcome, "tier": tier, "reason": reason})
        yield f"tiered_cache_lookups_total{told} {count}"
    for name, told, counts in (
        ("stores", "Answers kept.", {"": stats.stores}),
        ("coalesced", "Requests answered by the call of another.", {"": stats.coalesced}),
        ("saved_tokens", "Tokens that hits saved.", stats.tokens_saved),
        ("feedback", "Verdicts on answers.", stats.feedback),
        ("errors", "Failures that no caller saw.", stats.errors),
    ):
        yield from _family(f"tiered_cache_{name}", "counter", told)
        for kind, count in counts.items():
            yield f"tiered_cache_{name}_total{_labels({'kind': kind} if kind else {})} {count}"
    gauges = {
        "saved_dollars": ("What hits saved, in US dollars.", stats.money_saved),
        "error_per_hit": ("Estimated share of wrong hits by meaning.", stats.error_per_hit),
    }
    for name, (told, value) in gauges.items():
        if value is not None:
            yield from _family(f"tiered_cache_{name}", "gauge", told)
            yield f"tiered_cache_{name} {value!r}"


def _family(name: str, kind: str, told: str) -> Iterator[str]:
    counted = f"{name}_total" if kind == "counter" else name
    yield f"# HELP {counted} {told}"
    yield f"# TYPE {counted} {kind}"


def _labels(labels: Mapping[str, str]) -> str:
    def spelled(text: str) -> str:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    inner = ",".join(f'{name}="{spelled(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""
