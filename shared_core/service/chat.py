"""Serve ``POST /v1/chat``: one question, one answer, and what it took, for apps without a client.

body -> /v1/chat/completions of this very app -> content, and what the cache did meanwhile
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import httpx
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from shared_core.controls import LookupEvent
from shared_core.service.body import BoundedRoute
from shared_core.service.cache_api import ENTRY, QUESTION, Params, Text
from shared_core.service.dependencies import Service, key_places, service
from shared_core.service.errors import APIError, responses
from shared_core.usage import price, tokens_of

router = APIRouter(tags=["chat"], route_class=BoundedRoute)

HERE = "http://here"
PAST_THE_CACHE = "no-cache, no-store"
_OWN = frozenset({"content-length", "content-type", "transfer-encoding", "accept-encoding"})
"""Headers of the body as it came, which the inner request has of its own."""


class ContentPart(BaseModel):
    """A part of a message, such as a text or an image; its other fields are taken as they are."""

    model_config = ConfigDict(extra="allow")

    type: Text


class ChatTurn(BaseModel):
    """A message as chat completions take it; its other fields are taken as they are."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart]


class ChatBody(BaseModel):
    """A question to a model; ``use_cache`` False: neither read nor keep an answer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{**QUESTION, "use_cache": True}]}
    )

    model: Text
    messages: Annotated[list[ChatTurn], Field(min_length=1)]
    params: Params = Params()
    use_cache: bool = True


class Chatted(BaseModel):
    """An answer, and what it took. ``cached``: the upstream was not asked for it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "content": "It melts.",
                    "cached": True,
                    "cache_tier": "exact",
                    "latency_ms": 1.8,
                    "cost": 0.0,
                    "entry_id": ENTRY,
                }
            ]
        }
    )

    content: str | None = Field(description="None if the model called tools instead.")
    cached: bool
    cache_tier: str | None = Field(description="exact, semantic, or shared: another's call.")
    latency_ms: float
    cost: float | None = Field(description="US dollars of this call; none: no price is known.")
    entry_id: str | None = Field(description="For feedback.")


@router.post(
    "/v1/chat",
    response_model=Chatted,
    dependencies=key_places(),  # the proxy itself says who may come in, and counts them
    responses={
        **responses(400, 401, 403, 422, 429, 502, 504),
        "default": {"description": "An error of the upstream, as it came."},
    },
)
async def chat(
    body: ChatBody, request: Request, on: Annotated[Service, Depends(service)]
) -> Chatted | Response:
    """Answer from the cache, or by the upstream; its errors come as they are."""
    began = time.perf_counter()
    with on.cache.trace() as trace:
        found = await _completion(request, body)
    if not found.is_success:
        return Response(found.content, found.status_code, media_type="application/json")
    hit = next((e for e in trace.events if isinstance(e, LookupEvent) and e.outcome == "hit"), None)
    cached = hit is not None or found.headers.get("x-tiered-cache") == "hit"
    tier = None if not cached else "shared" if hit is None else str(hit.tier)
    told, message = _read(found)
    ids = (event.entry_id for event in reversed(trace.events))
    return Chatted(
        content=message.get("content"),
        cached=cached,
        cache_tier=tier,
        latency_ms=(time.perf_counter() - began) * 1000,
        cost=0.0 if cached else _cost(body.model, told.get("usage")),
        entry_id=next((one for one in ids if one is not None), None),
    )


async def _completion(request: Request, body: ChatBody) -> httpx.Response:
    """Ask this app's own proxy, in this task and so in this trace."""

    headers = {n: v for n, v in request.headers.items() if n not in _OWN}
    if not body.use_cache:
        headers["cache-control"] = PAST_THE_CACHE
    asked = {
        **body.params.model_dump(exclude_unset=True),
        "model": body.model,
        "messages": [message.model_dump(exclude_unset=True) for message in body.messages],
        "stream": False,
    }
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(request.app), base_url=HERE
    ) as inner:
        return await inner.post("/v1/chat/completions", json=asked, headers=headers, timeout=None)


def _read(found: httpx.Response) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a completion and its first message. Raises APIError 502 for what is none."""
    try:
        told = found.json()
        return told, dict(told["choices"][0]["message"])
    except (ValueError, LookupError, TypeError):
        raise APIError(502, "the upstream's answer is no chat completion") from None


def _cost(model: str, usage: Mapping[str, Any] | None) -> float | None:
    """Price the tokens that the upstream counted."""
    counted = tokens_of(usage)
    return None if counted is None else price(model, counted)
