"""The page where people look: three static files, and the two questions that only it asks.

/                     the page; it holds no data
/v1/cache/activity    what happened lately, of all workers
/v1/cache/entries     entries by words of their questions, or by meaning
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from shared_core.service.activity import is_within
from shared_core.service.entries import By, search
from shared_core.service.keys import Caller
from shared_core.service.refusals import Refusal, responses
from shared_core.service.state import Service, administrator, namespace_of, service

FILES = Path(__file__).parent / "page"

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

MOST_SHOWN = 50
ERRORS = (400, 401, 403, 413, 429, 431)

router = APIRouter()


@router.get("/", include_in_schema=False)
async def index() -> Response:
    """Return the page."""
    return FileResponse(FILES / "index.html", headers=HEADERS)


@router.get("/page/app.js", include_in_schema=False)
async def script() -> Response:
    """Return the page's script."""
    return FileResponse(FILES / "app.js", headers=HEADERS, media_type="text/javascript")


@router.get("/page/style.css", include_in_schema=False)
async def style() -> Response:
    """Return the page's style."""
    return FileResponse(FILES / "style.css", headers=HEADERS)


class Minute(BaseModel):
    """Lookups of one minute by how they ended; ``time`` is its begin, seconds since the epoch."""

    time: int = Field(examples=[1_760_000_040])
    exact: int
    semantic: int
    explore: int
    miss: int


class Similarities(BaseModel):
    """Lookups by similarity: 20 equal ``bins`` from 0.5 to 1, and those ``below``."""

    bins: list[int] = Field(min_length=20, max_length=20)
    below: int


class ByOutcome(BaseModel):
    """Similarities of the nearest question; exact hits are none of them."""

    hit: Similarities
    explore: Similarities
    miss: Similarities


class Part(BaseModel):
    """How often a part ran, and how long it took: percentiles in seconds, true to 9 %."""

    count: int
    p50: float
    p90: float
    p99: float


class RecentHit(BaseModel):
    """An answer served by meaning. The texts are null where questions are not recorded."""

    entry_id: str
    namespace: str
    asked: str | None = Field(examples=["How do I reset my password, please?"])
    stored: str | None = Field(examples=["How do I reset my password?"])
    answer: str | None = Field(examples=["Click on “Forgot password”."])
    similarity: float = Field(examples=[0.9713])
    time: float = Field(description="Of the last serving, in seconds since the epoch.")
    times: int
    verdict: Literal["right", "wrong"] | None


class Picture(BaseModel):
    """What all workers saw in the last day."""

    minutes: list[Minute]
    similarity: ByOutcome
    parts: dict[str, Part]
    recent: list[RecentHit] = Field(description="Newest first, at most 50.")
    namespaces: list[str] = Field(
        description="Those used in the last day, the latest first, and the caller's own."
    )
    workers: int
    complete: bool = Field(description="False if the store could not be read.")


class ShownEntry(BaseModel):
    """A stored question and how its answer begins."""

    entry_id: str
    question: str = Field(examples=["How do I reset my password?"])
    answer: str = Field(examples=["Click on “Forgot password”."])
    model: str = Field(examples=["gpt-4o-mini"])
    tags: list[str]
    created: float = Field(description="Seconds since the epoch.")
    expires: float | None
    similarity: float | None = Field(description="To the text searched; null for words.")


class ShownEntries(BaseModel):
    """What a search found: of how many it looked at, and whether there may be more."""

    entries: list[ShownEntry]
    seen: int
    complete: bool


On = Annotated[Service, Depends(service)]
Administrator = Annotated[Caller, Depends(administrator)]


@router.get("/v1/cache/activity", tags=["cache"], responses=responses(*ERRORS))
async def activity(request: Request, on: On, caller: Administrator) -> Picture:
    """Return what happened lately, in all workers together.

    Counts are of all namespaces, as those of the statistics; questions of the caller's alone.
    """
    own = namespace_of(caller, request)
    seen = await run_in_threadpool(on.activity.picture, caller.namespace)
    names = list(dict.fromkeys([*seen["namespaces"], own]))
    return Picture.model_validate({**seen, "namespaces": names})


@router.get("/v1/cache/entries", tags=["cache"], responses=responses(*ERRORS, 422))
async def entries(
    request: Request,
    on: On,
    caller: Administrator,
    query: Annotated[str, Query(min_length=1, max_length=1000, examples=["password"])],
    by: Annotated[By, Query(description="Words of the question, or its meaning.")] = "words",
    namespace: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Where to look: the caller's, or a part."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = MOST_SHOWN,
) -> ShownEntries:
    """Find stored questions. Looks at them one by one, for some seconds at most."""
    name = namespace or namespace_of(caller, request)
    if not is_within(name, caller.namespace):
        raise Refusal(403, "this namespace is not yours", code="not_yours", param="namespace")
    with on.cache.control(namespace=name):
        found = await run_in_threadpool(search, on.cache, query, by, limit)
    return ShownEntries.model_validate(asdict(found))
