"""The cache itself over HTTP: look up, keep, judge, invalidate, warm, clear, count.

body --Asked--> Request --control(namespace)--> ResponseCache
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from shared_core.client_request import request_of
from shared_core.record import Answer, Explore, Hit, Miss
from shared_core.report import as_json
from shared_core.request import Request as CacheRequest
from shared_core.service.activity import is_within
from shared_core.service.cache_bodies import (
    Answered,
    Asked,
    AskedAndAnswered,
    CacheStats,
    Found,
    Kept,
    NamespaceName,
    Progress,
    Removed,
    Taken,
    ToInvalidate,
    ToWarm,
    Verdict,
)
from shared_core.service.inside import has, owner_of
from shared_core.service.keys import Caller
from shared_core.service.refusals import Refusal, errors_as_json, responses
from shared_core.service.state import Service, administrator, caller, namespace_of, service

router = APIRouter(prefix="/v1/cache", tags=["cache"], responses=responses(400, 401, 403, 422, 429))

On = Annotated[Service, Depends(service)]
By = Annotated[Caller, Depends(caller)]
Administrator = Annotated[Caller, Depends(administrator)]

EVENT = '{"done":2,"total":2,"stored":2,"present":0,"failed":0}'

AT_ONCE = 64
"""How many rows are warmed between two events."""


async def whose(request: Request, by: By) -> str:
    """Return the namespace that a request sees, with the parameter that OpenAPI shows for it."""
    return namespace_of(by, request)


Whose = Annotated[str, Depends(whose)]


def asked_of(on: Service, body: Asked) -> CacheRequest:
    """Return the request that a body stands for: the one that the proxy makes of such a call.

    Raises Refusal 422 for one that has no identity.
    """
    messages = [message.model_dump(exclude_unset=True) for message in body.messages]
    arguments = {**body.params.model_dump(exclude_unset=True), "model": body.model}
    try:
        return request_of(on.endpoint, messages, arguments)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        kind = type(error).__name__
        raise Refusal(
            422, f"this request has no identity ({kind})", code="invalid_request"
        ) from None


def _administers(by: Caller, namespace: str) -> bool:
    """Say whether a caller is an administrator of a namespace: its own, or a part of that."""
    return by.role == "admin" and is_within(namespace, by.namespace)


def _not_yours() -> Refusal:
    return Refusal(
        403,
        "this namespace is not yours to administer: take an admin key of it",
        code="not_your_namespace",
        param="namespace",
    )


@router.post("/get", response_model=Found)
def get(body: Asked, on: On, whose: Whose) -> Found:
    """Look up the answer of a request; asks no model."""
    request = asked_of(on, body)
    with on.cache.control(namespace=whose):
        outcome = on.cache.lookup(request)
    match outcome:
        case Hit(answer=answer):
            on.activity.record_hit(request.question, outcome, whose)
            return Found(
                outcome="hit",
                answer=_answered(answer),
                tier=outcome.tier.value,
                similarity=outcome.similarity,
                entry_id=outcome.entry_id,
                age=outcome.age,
                namespace=whose,
            )
        case Explore(similarity=similarity, reason=reason):
            return Found(outcome="explore", similarity=similarity, reason=reason, namespace=whose)
        case Miss(similarity=similarity, reason=reason):
            return Found(outcome="miss", similarity=similarity, reason=reason, namespace=whose)


def _answered(answer: Answer) -> Answered:
    return Answered.model_construct(
        content=answer.text,
        model=answer.model,
        finish_reason=answer.finish_reason,
        usage=None if answer.usage is None else dict(answer.usage),
    )


@router.post("/set", response_model=Kept)
def set_(body: AskedAndAnswered, on: On, whose: Whose) -> Kept:
    """Keep an answer, in place of one that is there."""
    return _kept(on, body, whose)


def _kept(on: Service, body: AskedAndAnswered, whose: str) -> Kept:
    request, told = asked_of(on, body), body.answer
    answer = Answer(
        told.content,
        model=told.model,
        usage=told.usage,
        finish_reason=told.finish_reason,
        exact_only=not told.content,
    )
    with on.cache.control(namespace=whose):
        entry_id = on.cache.store(request, answer, tags=body.tags, ttl=body.ttl)
    return Kept(stored=entry_id is not None, entry_id=entry_id, namespace=whose)


@router.post("/feedback", response_model=Taken)
def feedback(body: Verdict, on: On, by: By, whose: Whose) -> Taken:
    """Say whether a served answer was right: a wrong one is not served again, the policy learns.

    Administrators may say so of all entries of their namespace's parts.
    """
    owner = owner_of(on.cache, body.entry_id)
    if owner is None or not (owner == whose or _administers(by, owner)):
        return Taken(taken=False)
    on.cache.feedback(body.entry_id, body.correct, body.source)
    on.activity.record_verdict(body.entry_id, body.correct)
    return Taken(taken=True)


@router.post("/invalidate", response_model=Removed)
def invalidate(body: ToInvalidate, on: On, by: By, whose: Whose) -> Removed:
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
        raise Refusal(
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
        **errors_as_json(400, 401, 413, 422, 429, 431),
    },
)
async def warm(body: ToWarm, on: On, whose: Whose) -> StreamingResponse:
    """Keep many answers and tell how far it is, as server-sent events."""
    for row in body.rows:
        asked_of(on, row)  # what has no identity is refused before anything is told
    return StreamingResponse(_warming(body, on, whose), media_type="text/event-stream")


async def _warming(body: ToWarm, on: Service, whose: str) -> AsyncIterator[str]:
    told = Progress(done=0, total=len(body.rows), stored=0, present=0, failed=0)
    for start in range(0, len(body.rows), AT_ONCE):
        some = body.rows[start : start + AT_ONCE]
        for outcome in await asyncio.to_thread(_warmed, on, some, whose):
            told.done += 1
            setattr(told, outcome, getattr(told, outcome) + 1)
        yield f"data: {told.model_dump_json()}\n\n"


def _warmed(on: Service, rows: list[AskedAndAnswered], whose: str) -> list[str]:
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
        raise Refusal(409, "confirm must repeat the namespace", code="unconfirmed", param="confirm")
    with on.cache.control(namespace=namespace):
        return Removed(removed=on.cache.clear(learned))


@router.get("/stats", response_model=CacheStats)
def stats(
    on: On,
    whose: Whose,
    by: Administrator,
    namespace: Annotated[
        NamespaceName | None, Query(description="Whose policy is told; default: the caller's.")
    ] = None,
) -> Any:
    """Return what the cache did, in all namespaces, all workers together.

    What the policy learned, and errors that it estimates, are of one namespace.
    """
    if not _administers(by, namespace or whose):
        raise _not_yours()
    with on.cache.control(namespace=namespace or whose):
        return finite(as_json(on.cache.stats(all=True)))


def finite(value: Any) -> Any:
    """Replace what JSON has no number for by null, at any depth."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
