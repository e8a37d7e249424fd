"""Serve the cache itself under /v1/cache: look up, keep, judge, invalidate, warm, clear, count.

body --Asked--> Request --control(namespace)--> ResponseCache
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from shared_core.cache import ResponseCache
from shared_core.openai_format import request_of
from shared_core.record import Answer, EntryId, Explore, Hit, Miss
from shared_core.request import Request as CacheRequest
from shared_core.resilience import Unavailable, deadline
from shared_core.service.access import Caller
from shared_core.service.activity import is_within
from shared_core.service.body import BoundedRoute
from shared_core.service.dependencies import (
    Administrator,
    By,
    On,
    Service,
    namespace_of,
)
from shared_core.service.errors import APIError, errors_as_json, invalid, responses
from shared_core.service.metrics import (
    SideCalls,
    UpstreamStats,
    counts_of,
    money_of,
    side_calls_of,
    together,
    upstreams_of,
)
from shared_core.stats import Stats, stats_as_json

# What the service must know of a cache that the cache's own users need not.


def owner_of(cache: ResponseCache, entry_id: str) -> str | None:
    """Return the namespace of a served entry; None if it is not there, or the store is not."""
    path, serving = cache._path, EntryId.parse(entry_id)
    if serving is None:
        return None
    try:
        with deadline(cache.options.timeout):
            record = path.breaker.call(path._store.get, serving.record)
    except Unavailable:
        return None
    return None if record is None else path.unsealed(record.namespace)


def has(cache: ResponseCache, request: CacheRequest, namespace: str) -> bool:
    """Say whether an answer of exactly this request is there; nothing is counted."""
    with cache.control(namespace=namespace), deadline(cache.options.timeout):
        return cache._path.peek(request) is not None


# What the cache API is sent and what it answers, as OpenAPI describes it.


Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NamespaceName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,64}(:[A-Za-z0-9_.\-]{1,64}){0,2}$"),
]
Lifetime = Annotated[float, Field(gt=0, le=10**10, allow_inf_nan=False)]

QUESTION: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "What is a fuse?"}],
    "params": {"temperature": 0},
}
ENTRY = "7c9e" * 16


def _example(value: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [value]})


class Function(BaseModel):
    """What a tool call calls; ``arguments`` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A tool call of an assistant's message."""

    id: str
    type: str = "function"
    function: Function


class Message(BaseModel):
    """A message as chat completions take it; other fields than these are taken as they are."""

    model_config = ConfigDict(extra="allow")

    role: Text
    content: str | list[str | dict[str, JsonValue]] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Params(BaseModel):
    """The other arguments of a chat completion, such as ``temperature`` or ``tools``."""

    model_config = ConfigDict(extra="allow")

    temperature: Annotated[float, Field(allow_inf_nan=False)] | None = None


class LookupRequest(BaseModel):
    """One request to a model; its answers are those that the proxy gives and keeps."""

    model_config = _example(QUESTION)

    model: Text
    messages: Annotated[list[Message], Field(min_length=1)]
    params: Params = Params()


class LookupAnswer(BaseModel):
    """A model's answer in plain text; ``usage`` counts ``input_tokens`` and ``output_tokens``."""

    model_config = ConfigDict(extra="forbid")

    content: str
    model: Text | None = None
    finish_reason: Text | None = None
    usage: dict[Text, Annotated[int, Field(ge=0, le=10**12)]] | None = None


class StoreRequest(LookupRequest):
    """An answer to be kept."""

    model_config = _example({**QUESTION, "answer": {"content": "It melts."}, "tags": ["wiring"]})

    answer: LookupAnswer
    tags: list[Tag] = []
    ttl: Lifetime | None = Field(
        default=None, description="Seconds; none: as long as the server says."
    )


class LookupResponse(BaseModel):
    """How a lookup ended: ``answer`` is there on a hit, ``reason`` otherwise.

    An "explore" has a candidate that is not proven: ask the model, and set its answer.
    """

    model_config = _example(
        {
            "outcome": "hit",
            "answer": {"content": "It melts.", "model": None, "finish_reason": "stop"},
            "tier": "exact",
            "similarity": 1.0,
            "entry_id": ENTRY,
            "age": 12.5,
            "reason": None,
            "namespace": "shop",
        }
    )

    outcome: Literal["hit", "explore", "miss"]
    answer: LookupAnswer | None = None
    tier: Literal["exact", "semantic"] | None = None
    similarity: float | None = None
    entry_id: str | None = None
    age: float | None = Field(default=None, description="Seconds since the answer was stored.")
    reason: str | None = None
    namespace: str = Field(description="Where it was looked for.")


class StoreResponse(BaseModel):
    """Whether an answer is kept, and under what name for feedback."""

    model_config = _example({"stored": True, "entry_id": ENTRY, "namespace": "shop"})

    stored: bool
    entry_id: str | None
    namespace: str


class FeedbackRequest(BaseModel):
    """What somebody says of an answer that was served."""

    model_config = _example({"entry_id": ENTRY, "correct": False})

    entry_id: Text
    correct: bool
    source: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_\-]{1,32}$")] = "app"


class FeedbackResponse(BaseModel):
    """Whether the verdict counts; not of an entry that is not there, or is another tenant's."""

    model_config = _example({"taken": True})

    taken: bool


class InvalidateRequest(BaseModel):
    """Which entries are to go: those that match all that is given, of which there is something."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"tag": "wiring"}, {"older_than": 86400.0, "model": "gpt-4o-mini"}],
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("entry_id", "model", "tag", "older_than", "similar_to")
            ],
        },
    )

    entry_id: Text | None = None
    model: Text | None = None
    tag: Tag | None = None
    older_than: Annotated[float, Field(ge=0, le=10**10, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds."
    )
    similar_to: LookupRequest | None = Field(
        default=None, description="All questions of its scope that are near."
    )
    similarity: Annotated[float, Field(ge=-1, le=1)] = 0.9
    namespace: NamespaceName | None = Field(
        default=None,
        description="For administrators: a part of the key's namespace, such as shop:eu.",
    )


class Removed(BaseModel):
    """How many entries are gone."""

    model_config = _example({"removed": 3})

    removed: int


MAX_ROWS = 4_000


class ToWarm(BaseModel):
    """Answers to be kept before anybody asks; what is there already is left as it is."""

    model_config = _example({"rows": [{**QUESTION, "answer": {"content": "It melts."}}]})

    rows: Annotated[
        list[Any],  # each is read as a StoreRequest off the event loop: so many take long
        Field(min_length=1, max_length=MAX_ROWS),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_ROWS,
                "items": {"$ref": "#/components/schemas/StoreRequest"},
            }
        ),
    ]


class Progress(BaseModel):
    """How far warming is; the last event has ``done`` equal to ``total``."""

    model_config = _example({"done": 50, "total": 50, "stored": 48, "present": 2, "failed": 0})

    done: int
    total: int
    stored: int
    present: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats(Stats):
    """What all processes that share the store ever did; see ``shared_core.Stats`` for the fields.

    Latencies are those of the process that answers. ``upstream`` adds up all ``upstreams``.
    """

    __pydantic_config__ = ConfigDict(
        json_schema_extra={"examples": [{"lookups": 4, "hits": 3, "hit_rate": 0.75}]}
    )

    upstream: UpstreamStats
    upstreams: Annotated[Mapping[str, UpstreamStats], Field(description="By name.")]
    spent: Annotated[
        Mapping[str, float], Field(description="US dollars of fresh answers, by model.")
    ]
    saved: Annotated[
        Mapping[str, float], Field(description="US dollars that hits saved, by model.")
    ]
    saved_by_tier: Annotated[
        Mapping[str, float], Field(description="US dollars that hits saved, by tier.")
    ]
    audits: Annotated[int, Field(description="Hits by meaning that were asked for all the same.")]
    side_calls: Annotated[
        Mapping[str, SideCalls],
        Field(description="The cache's own calls: of the verifier, and to rewrite follow-ups."),
    ]


router = APIRouter(
    prefix="/v1/cache",
    tags=["cache"],
    responses=responses(400, 401, 403, 422),
    route_class=BoundedRoute,
)


EVENT = '{"done":2,"total":2,"stored":2,"present":0,"failed":0}'

_AT_ONCE = 64
"""How many rows are warmed between two events."""


async def whose(request: Request, by: By) -> str:
    """Return the namespace that a request sees, with the parameter that OpenAPI shows for it."""
    return namespace_of(by, request)


Whose = Annotated[str, Depends(whose)]


def asked_of(on: Service, body: LookupRequest) -> CacheRequest:
    """Return the request that a body stands for: the one that the proxy makes of such a call.

    Raises APIError 422 for one that has no identity.
    """
    messages = [message.model_dump(exclude_unset=True) for message in body.messages]
    arguments = {**body.params.model_dump(exclude_unset=True), "model": body.model}
    try:
        endpoint = on.upstreams.of(body.model, "chat/completions").endpoint
        return request_of(endpoint, messages, arguments)
    except APIError as error:  # no upstream has the model
        raise APIError(422, error.message, code=error.code, param=error.param) from None
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        kind = type(error).__name__
        raise APIError(
            422, f"this request has no identity ({kind})", code="invalid_request"
        ) from None


def _administers(by: Caller, namespace: str) -> bool:
    """Say whether a caller is an administrator of a namespace: its own, or a part of that."""
    return by.role == "admin" and is_within(namespace, by.namespace)


def _not_yours() -> APIError:
    return APIError(
        403,
        "this namespace is not yours to administer: take an admin key of it",
        code="not_your_namespace",
        param="namespace",
    )


@router.post("/get", response_model=LookupResponse)
def get(body: LookupRequest, on: On, whose: Whose) -> LookupResponse:
    """Look up the answer of a request; asks no model."""
    request = asked_of(on, body)
    with on.cache.control(namespace=whose):
        outcome = on.cache.lookup(request)
    match outcome:
        case Hit(answer=answer):
            on.activity.record_hit(request.question, outcome, whose, request.model)
            return LookupResponse(
                outcome="hit",
                answer=_answered(answer),
                tier=outcome.tier.value,
                similarity=outcome.similarity,
                entry_id=outcome.entry_id,
                age=outcome.age,
                namespace=whose,
            )
        case Explore(similarity=similarity, reason=reason):
            return LookupResponse(
                outcome="explore", similarity=similarity, reason=reason, namespace=whose
            )
        case Miss(similarity=similarity, reason=reason):
            return LookupResponse(
                outcome="miss", similarity=similarity, reason=reason, namespace=whose
            )


def _answered(answer: Answer) -> LookupAnswer:
    return LookupAnswer.model_construct(
        content=answer.text,
        model=answer.model,
        finish_reason=answer.finish_reason,
        usage=None if answer.usage is None else dict(answer.usage),
    )


@router.post("/set", response_model=StoreResponse)
def set_(body: StoreRequest, on: On, whose: Whose) -> StoreResponse:
    """Keep an answer, in place of one that is there."""
    return _kept(on, body, whose)


def _kept(on: Service, body: StoreRequest, whose: str) -> StoreResponse:
    request, given = asked_of(on, body), body.answer
    answer = Answer(
        given.content,
        model=given.model,
        usage=given.usage,
        finish_reason=given.finish_reason,
        exact_only=not given.content,
    )
    with on.cache.control(namespace=whose):
        entry_id = on.cache.store(request, answer, tags=body.tags, ttl=body.ttl)
    return StoreResponse(stored=entry_id is not None, entry_id=entry_id, namespace=whose)


@router.post("/feedback", response_model=FeedbackResponse)
def feedback(body: FeedbackRequest, on: On, by: By, whose: Whose) -> FeedbackResponse:
    """Say whether a served answer was right: a wrong one is not served again, the policy learns.

    Administrators may say so of all entries of their namespace's parts.
    """
    owner = owner_of(on.cache, body.entry_id)
    if owner is None or not (owner == whose or _administers(by, owner)):
        return FeedbackResponse(taken=False)
    on.cache.feedback(body.entry_id, body.correct, body.source)
    on.activity.record_verdict(body.entry_id, body.correct)
    return FeedbackResponse(taken=True)


@router.post("/invalidate", response_model=Removed)
def invalidate(body: InvalidateRequest, on: On, by: By, whose: Whose) -> Removed:
    """Delete the entries that match all that is given."""
    if body.namespace not in (None, whose) and not _administers(by, body.namespace or ""):
        raise _not_yours()
    similar = None if body.similar_to is None else asked_of(on, body.similar_to)
    named = {"entry_id": body.entry_id, "model": body.model, "tag": body.tag}
    try:
        with on.cache.control(namespace=body.namespace or whose):
            removed = on.cache.invalidate(
                **named,
                older_than=body.older_than,
                similar_to=similar,
                similarity=body.similarity,
            )
    except ValueError:
        raise APIError(
            422, "name what is to go: entry_id, model, tag, older_than or similar_to"
        ) from None
    return Removed(removed=removed)


@router.post(
    "/warm",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events as they happen, each a Progress.",
            "content": {
                "text/event-stream": {
                    "schema": {
                        "type": "object",
                        "description": "One event; its data is a Progress as JSON.",
                        "properties": {"data": {"type": "string"}},
                        "required": ["data"],
                    },
                    "example": {"data": EVENT},
                }
            },
        },
        **errors_as_json(400, 401, 403, 408, 413, 422, 431),
    },
)
async def warm(body: ToWarm, on: On, whose: Whose) -> StreamingResponse:
    """Keep many answers and tell how far it is, as server-sent events."""
    rows = await asyncio.to_thread(_checked_rows, on, body)
    return StreamingResponse(_warming(rows, on, whose), media_type="text/event-stream")


def _checked_rows(on: Service, body: ToWarm) -> list[StoreRequest]:
    """Read all rows before any answer. Raises APIError 422 for one that makes no sense."""
    rows: list[StoreRequest] = []
    for number, value in enumerate(body.rows):
        try:
            rows.append(StoreRequest.model_validate(value))
        except ValidationError as error:
            raise invalid(error.errors(), "rows", number) from None
        asked_of(on, rows[-1])
    return rows


async def _warming(rows: list[StoreRequest], on: Service, whose: str) -> AsyncIterator[str]:
    progress = Progress(done=0, total=len(rows), stored=0, present=0, failed=0)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for outcome in await asyncio.to_thread(_warmed, on, some, whose):
            progress.done += 1
            setattr(progress, outcome, getattr(progress, outcome) + 1)
        yield f"data: {progress.model_dump_json()}\n\n"


def _warmed(on: Service, rows: list[StoreRequest], whose: str) -> list[str]:
    outcomes = []
    for row in rows:
        if has(on.cache, asked_of(on, row), whose):
            outcomes.append("present")
        else:
            outcomes.append("stored" if _kept(on, row, whose).stored else "failed")
    return outcomes


@router.delete(
    "",
    response_model=Removed,
    responses={409: {**responses(422)[422], "description": "`confirm` is not the namespace."}},
)
def clear(
    on: On,
    by: Administrator,
    namespace: Annotated[NamespaceName, Query(description="Whose entries are to go.")],
    confirm: Annotated[str, Query(description="The namespace again.")],
    learned: Annotated[bool, Query(description="Forget what the policy learned, too.")] = False,
) -> Removed:
    """Delete every entry of a namespace: the key's own, or a part of it."""
    if not _administers(by, namespace):
        raise _not_yours()
    if confirm != namespace:
        raise APIError(
            409, "confirm must repeat the namespace", code="unconfirmed", param="confirm"
        )
    with on.cache.control(namespace=namespace):
        return Removed(removed=on.cache.clear(learned))


@router.get("/stats", response_model=CacheStats)
def stats(
    on: On,
    whose: Whose,
    by: Administrator,
    namespace: Annotated[
        NamespaceName | None, Query(description="Whose policy is described; default: the caller's.")
    ] = None,
) -> Any:
    """Return what the cache did, in all namespaces, all workers together.

    What the policy learned, and errors that it estimates, are of one namespace.
    """
    if not _administers(by, namespace or whose):
        raise _not_yours()
    with on.cache.control(namespace=namespace or whose):
        found = stats_as_json(on.cache.stats(all=True))
    on.activity.count_money()
    counts = counts_of(on.cache)
    found["upstream"] = together(counts, on.upstreams)
    found["upstreams"] = upstreams_of(counts, on.upstreams)
    return finite(
        {
            **found,
            **money_of(counts),
            "audits": counts.get("audits", 0),
            "side_calls": side_calls_of(counts),
        }
    )


def finite(value: Any) -> Any:
    """Replace what JSON has no number for by null, at any depth."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
