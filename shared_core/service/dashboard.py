"""Serve the page where people look: three static files, and the two questions that only it asks.

/                     the page; it holds no data
/v1/cache/activity    what happened lately, of all workers
/v1/cache/entries     entries by words of their questions, or by meaning
"""

from __future__ import annotations

import heapq
import html
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from shared_core.advice import REASONS
from shared_core.cache import ResponseCache
from shared_core.record import EntryId, Record, are_refusals
from shared_core.resilience import Unavailable
from shared_core.service.activity import is_within
from shared_core.service.dependencies import (
    Administrator,
    On,
    namespace_of,
)
from shared_core.service.errors import APIError, responses
from shared_core.stores import Store

if TYPE_CHECKING:
    from shared_core.pipeline import Pipeline


# Entries that a person looks for, by words of their questions or by meaning.
#
# browse a namespace --questions that match--> the newest, or the nearest
#
# A walk through all of it, bounded in time: for people, not for requests.


SearchBy = Literal["words", "meaning"]

_PATIENCE_S = 3.0
"""How long a search walks: some ten thousand entries of a Redis, more of the other stores."""

ROOM = 8
"""How many times the limit is held while walking."""

MAX_ANSWER_CHARACTERS = 300

MIN_SIMILARITY = 0.3
"""What is less near than this is not of the same meaning for anybody."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A stored question and how its answer begins.

    ``similarity`` is the cosine to the text that was searched by meaning.
    """

    entry_id: str
    question: str
    answer: str
    model: str
    tags: tuple[str, ...]
    created: float
    expires: float | None
    similarity: float | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    ``seen`` entries were looked at; ``complete`` says whether those were all and none that matched
    was left out.
    """

    entries: list[FoundEntry]
    seen: int
    complete: bool


def search(
    cache: ResponseCache,
    query: str,
    by: SearchBy,
    limit: int,
    *,
    patience: float = _PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Return at most ``limit`` entries of the namespace in force here. Blocks.

    By "words": those whose question holds every word of the query, the newest first; by "meaning":
    the nearest first. What fails finds nothing, and is then not complete.
    """
    path = cache._path
    store = path._store
    until = clock() + patience
    met: dict[str, FoundEntry] = {}
    seen, complete = 0, True
    try:
        weigh = _by_words(query) if by == "words" else _by_meaning(path, query)
        for record in _walk(path, store):
            if clock() > until:
                complete = False
                break
            if record.question is None or are_refusals(record):
                continue
            seen += 1
            similarity = weigh(record)
            if similarity is None:
                continue
            met[record.key] = _found(record, similarity if by == "meaning" else None)
            if len(met) > ROOM * limit:
                met, complete = {one.entry_id: one for one in _best(met, limit)}, False
    except Unavailable:
        complete = False
    return SearchResult(_best(met, limit), seen, complete and len(met) <= limit)


def _best(met: dict[str, FoundEntry], limit: int) -> list[FoundEntry]:
    return heapq.nlargest(limit, met.values(), key=lambda one: (one.similarity or 0.0, one.created))


def _walk(path: Pipeline, store: Store) -> Iterator[Record]:
    """Yield the records of the namespace in force; one may come twice. Raises Unavailable."""
    for namespace in path.namespaces():
        cursor, is_first = "", True
        while cursor or is_first:
            records, cursor = path.breaker.call(store.browse, namespace, cursor)
            yield from records
            is_first = False


def _by_words(query: str) -> Callable[[Record], float | None]:
    words = query.casefold().split()

    def weigh(record: Record) -> float | None:
        question = (record.question or "").casefold()
        return 1.0 if all(word in question for word in words) else None

    return weigh


def _by_meaning(path: Pipeline, query: str) -> Callable[[Record], float | None]:
    """Compare with the question's vector; nothing is near without a semantic tier."""
    embedded = None if path.semantic is None else path.semantic.reader.embed(query)

    def weigh(record: Record) -> float | None:
        if embedded is None or record.vector is None or record.space != embedded[0]:
            return None
        similarity = float(record.vector @ embedded[1])
        return similarity if similarity >= MIN_SIMILARITY else None

    return weigh


def _found(record: Record, similarity: float | None) -> FoundEntry:
    return FoundEntry(
        entry_id=str(EntryId(record.key)),
        question=record.question or "",
        answer=record.answer.text[:MAX_ANSWER_CHARACTERS],
        model=record.model,
        tags=record.tags,
        created=record.created,
        expires=record.expires,
        similarity=None if similarity is None else round(min(1.0, similarity), 4),
    )


FILES = Path(__file__).parent / "page"

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

TOKEN_PLACE = "{token}"  # noqa: S105 - where the page has it
REASONS_PLACE = "{reasons}"
MAX_SHOWN = 50
_ERRORS = (400, 401, 403, 413, 431)

router = APIRouter()


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def index(request: Request) -> Response:
    """Return the page, with the token that its actions need and what each reason means."""
    page = (FILES / "index.html").read_text().replace(TOKEN_PLACE, request.app.state.token)
    meaning = html.escape(json.dumps(REASONS))
    return HTMLResponse(page.replace(REASONS_PLACE, meaning), headers=_HEADERS)


@router.get("/page/app.js", include_in_schema=False)
async def script() -> Response:
    """Return the page's script."""
    return FileResponse(FILES / "app.js", headers=_HEADERS, media_type="text/javascript")


@router.get("/page/style.css", include_in_schema=False)
async def style() -> Response:
    """Return the page's style."""
    return FileResponse(FILES / "style.css", headers=_HEADERS)


class Minute(BaseModel):
    """One minute: lookups by how they ended, and money; ``time`` is its begin, Unix seconds."""

    time: int = Field(examples=[1_760_000_040])
    exact: int
    semantic: int
    explore: int
    miss: int
    spent: float = Field(description="US dollars, at list prices.")
    saved: float


class Similarities(BaseModel):
    """Lookups by similarity: 20 equal ``bins`` from 0.5 to 1, and those ``below``."""

    bins: list[int] = Field(min_length=20, max_length=20)
    below: int


class ByOutcome(BaseModel):
    """Similarities of the nearest question; exact hits are none of them."""

    hit: Similarities
    explore: Similarities
    miss: Similarities


class Component(BaseModel):
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
    model: str = Field(examples=["gpt-4o-mini"])
    verdict: Literal["right", "wrong"] | None


class Picture(BaseModel):
    """What all workers saw in the last day."""

    minutes: list[Minute]
    similarity: ByOutcome
    parts: dict[str, Component]
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


@router.get("/v1/cache/activity", tags=["cache"], responses=responses(*_ERRORS))
async def activity(request: Request, on: On, caller: Administrator) -> Picture:
    """Return what happened lately, in all workers together.

    Counts are of all namespaces, as those of the statistics; questions of the caller's alone.
    """
    own = namespace_of(caller, request)
    seen = await run_in_threadpool(on.activity.picture, caller.namespace)
    names = list(dict.fromkeys([*seen["namespaces"], own]))
    return Picture.model_validate({**seen, "namespaces": names})


@router.get("/v1/cache/entries", tags=["cache"], responses=responses(*_ERRORS, 422))
async def entries(
    request: Request,
    on: On,
    caller: Administrator,
    query: Annotated[str, Query(min_length=1, max_length=1000, examples=["password"])],
    by: Annotated[SearchBy, Query(description="Words of the question, or its meaning.")] = "words",
    namespace: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Where to look: the caller's, or a part."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SHOWN)] = MAX_SHOWN,
) -> ShownEntries:
    """Find stored questions. Looks at them one by one, for some seconds at most."""
    name = namespace or namespace_of(caller, request)
    if not is_within(name, caller.namespace):
        raise APIError(403, "this namespace is not yours", code="not_yours", param="namespace")
    with on.cache.control(namespace=name):
        found = await run_in_threadpool(search, on.cache, query, by, limit)
    return ShownEntries.model_validate(asdict(found))
