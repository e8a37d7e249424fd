"""Route the APIs of models: completions and embeddings through the cache, all else passed on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import anyio
import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from shared_core.controls import LookupEvent
from shared_core.service.access import Caller, check_browser, check_endpoint, upstream_path
from shared_core.service.body import BoundedRoute, parsed
from shared_core.service.cache_api import ENTRY, QUESTION, Params, Text
from shared_core.service.dependencies import (
    NAMESPACE_HEADER,
    By,
    DirectRoute,
    On,
    Service,
    key_places,
)
from shared_core.service.errors import APIError, responses
from shared_core.service.proxy.completions import (
    MAX_TAGS,
    TAG,
    TAGS_HEADER,
    TTL_HEADER,
    UNREADABLE,
    Completion,
    Completions,
    Forwarding,
    check_body,
    describe,
    model_of,
)
from shared_core.service.proxy.dialect import Dialect
from shared_core.service.proxy.embeddings import embedded
from shared_core.service.proxy.messages import MessagesAPI
from shared_core.service.proxy.responses import ResponsesAPI
from shared_core.service.upstream import ANTHROPIC_VERSION, NAMED, Upstream, returned
from shared_core.usage import price, tokens_of

# What OpenAPI says of the proxy: what it reads itself; the rest is the upstream's to say.


TEXT = {"type": "string", "minLength": 1}
MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "content": {"type": "string"},
    },
}
MESSAGES = {"type": "array", "minItems": 1, "items": MESSAGE}


def _header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": description}


_TAGS = rf"^{TAG}( ?, ?{TAG}){{0,{MAX_TAGS - 1}}}$"
HEADERS = [
    _header(
        "cache-control",
        {
            "type": "string",
            "examples": ["no-cache", "no-store", "no-cache, no-store", "max-age=60"],
        },
        "no-cache: ask the model; no-store: keep nothing; max-age=SECONDS: no older answer",
    ),
    _header(
        NAMESPACE_HEADER,
        {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
        "A part of the caller's namespace.",
    ),
    _header(TAGS_HEADER, {"type": "string", "pattern": _TAGS}, "Tags of what is kept."),
    _header(
        TTL_HEADER,
        {
            "type": "string",
            "pattern": r"^([1-9][0-9]{0,8}(\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])$",
        },
        "Seconds that what is kept lives.",
    ),
]

SAID = {
    "200": {
        "description": "The upstream's answer, or one of the cache.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "default": {
        "description": "What the upstream says, unchanged.",
        "content": {"application/json": {"schema": {}}},
    },
}
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
STREAMED = {"text/event-stream": {"schema": _EVENT}}


def _document(
    required: dict[str, Any], optional: dict[str, Any], example: dict[str, Any], *, streams: bool
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["model", *required],
        "properties": {"model": TEXT, **required, **optional},
        "examples": [example],
    }
    own: dict[Any, Any] = responses(400, 401, 403, 408, 413, 422, 429, 431, 502, 504)
    content = {**SAID["200"]["content"], **(STREAMED if streams else {})}  # type: ignore[dict-item]
    own |= {"default": SAID["default"]}
    return {
        "responses": {200: {**SAID["200"], "content": content}, **own},
        "openapi_extra": {
            "parameters": HEADERS,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        },
    }


_STREAM = {"stream": {"type": "boolean"}}
CHAT = _document(
    {"messages": MESSAGES},
    _STREAM,
    {
        "model": "gpt-4o-mini",
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is a fuse?"}],
    },
    streams=True,
)
_COMPLETIONS = _document(
    {"prompt": {"type": "string"}},
    _STREAM,
    {"model": "gpt-3.5-turbo-instruct", "temperature": 0, "prompt": "A fuse is"},
    streams=True,
)
RESPONSES = _document(
    {"input": TEXT},
    _STREAM,
    {"model": "gpt-4o-mini", "temperature": 0, "input": "What is a fuse?"},
    streams=True,
)
MESSAGES_API = _document(
    {"messages": MESSAGES, "max_tokens": {"type": "integer", "minimum": 1}},
    _STREAM,
    {
        "model": "claude-haiku-4-5",
        "max_tokens": 100,
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is a fuse?"}],
    },
    streams=True,
)
EMBEDDINGS = _document(
    {"input": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": TEXT}]}},
    {},
    {"model": "text-embedding-3-small", "input": ["What is a fuse?"]},
    streams=False,
)


router = APIRouter(prefix="/v1", tags=["proxy"], route_class=DirectRoute)
rest = APIRouter(prefix="/v1", route_class=DirectRoute)
"""What no other route takes; it comes last, the others first: they are what is asked most."""


_OWN = "cache"
"""What lies below it is the service's, and never the upstream's."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@router.post("/chat/completions", **CHAT)
async def chat_completions(request: Request, on: On, by: By) -> Response:
    """Answer a chat from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, Completion())


@router.post("/completions", **_COMPLETIONS)
async def completions(request: Request, on: On, by: By) -> Response:
    """Complete a prompt from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, Completions())


@router.post("/responses", **RESPONSES)
async def responses_(request: Request, on: On, by: By) -> Response:
    """Answer OpenAI's Responses API from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, ResponsesAPI())


@router.post("/messages", **MESSAGES_API)
async def messages(request: Request, on: On, by: By) -> Response:
    """Answer Anthropic's Messages API from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, MessagesAPI())


async def _completed(request: Request, on: Service, by: Caller, dialect: Dialect) -> Response:
    return await Forwarding(on, request, by, dialect, await request.body()).response()


@router.post("/embeddings", **EMBEDDINGS)
async def embeddings(request: Request, on: On, by: By) -> Response:
    """Return vectors: those that are known from the cache, the others from the upstream."""
    return await embedded(on, request, by, await request.body())


@rest.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
async def other(request: Request, on: On, by: By) -> Response:
    """Pass on what else of the upstream may be reached; nothing of it is kept."""
    path = request.path_params["path"]
    if path.partition("/")[0] == _OWN:
        methods = request.app.openapi()["paths"].get(f"/v1/{path}", {})
        allow = {"allow": ", ".join(sorted(methods)).upper()} if methods else {}
        raise APIError(405 if methods else 404, "the cache has no such operation", headers=allow)
    raw = request.scope["raw_path"].decode("latin-1").partition("/v1/")[2]
    check_browser(on.access, request.method, request.headers.raw)
    asked = upstream_path(raw)
    own = {} if on.settings.hide_headers else describe(None)
    if asked == _MODELS and request.method == "GET" and is_of_several(on, request):
        return await _all_models(on, request, by, own)
    sends = {"content-length", "transfer-encoding"} & {*request.headers.keys()}
    content: AsyncIterator[bytes] | bytes | None = request.stream() if sends else None
    model: object = None
    if asked.startswith(f"{_MODELS}/"):
        model = asked.removeprefix(f"{_MODELS}/")
    body: object = None
    is_open = is_of_several(on, request) or not by.brings_own
    if content is not None and is_open and (asked in _COUNTS or not _is_file(request)):
        content = await request.body()
        body = await _parsed(content)
        model = model_of(body) or model
    upstream = on.upstreams.of(model, asked, name=request.scope.get(NAMED))
    pays = upstream.pays_for(by)
    check_endpoint(upstream.rules, request.method, asked, is_own=not pays)
    if pays and isinstance(content, bytes) and content.strip():
        await check_body(on, body, content)
    answered = await upstream.ask(request, by, content, path=raw)
    return PassedOn(answered, own)


def is_of_several(on: Service, request: Request) -> bool:
    """Say whether a request leaves it to the server which of several upstreams is asked."""
    return on.upstreams.only is None and NAMED not in request.scope


def _is_file(request: Request) -> bool:
    """Say whether a body says of itself that it is a form with files, or one: not read as JSON.

    Whatever else a body says, or leaves unsaid, its upstream may read it as JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind.startswith(_FILES)


async def _parsed(content: bytes) -> Any:
    try:
        return await parsed(content)
    except ValueError:
        return None  # the upstream says what is wrong with it


_FILES = ("multipart/", "audio/", "image/", "video/", "application/octet-stream")
_MODELS = "models"
_COUNTS = ("messages/count_tokens", "responses/input_tokens")
"""Endpoints that read the body of a request for an answer."""

_LISTING_S = 10.0

_END_OF_TIME = 253_402_300_800
"""Seconds from which on no date can be written: some upstreams give milliseconds."""


async def _all_models(
    on: Service, request: Request, caller: Caller, own: Mapping[str, str]
) -> Response:
    """List the models of all upstreams that a request reaches by their name, as both APIs do.

    With a caller's own credential it is one upstream's list: no other is shown that credential.
    One that does not answer in ten seconds is left out. Raises APIError 502 if none does.
    """
    if caller.brings_own:
        api = "messages" if ANTHROPIC_VERSION[0].decode() in request.headers else _MODELS
        upstream = on.upstreams.of(None, api)
        return PassedOn(await upstream.ask(request, caller, None, path=_MODELS), own)
    lists = await asyncio.gather(*(_models_of(one, request, caller) for one in on.upstreams.all))
    if all(found is None for found in lists):
        raise APIError(502, "no upstream lists its models", code="upstream_unreachable")
    models: dict[str, dict[str, Any]] = {}
    for upstream, found in zip(on.upstreams.all, lists, strict=True):
        for item in found or ():
            name = item["id"]
            if name not in models and on.upstreams.reaches(upstream, name):
                models[name] = _as_both(item, upstream)
    ids = list(models)
    answered = {
        "object": "list",
        "data": list(models.values()),
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
    return JSONResponse(answered, headers=dict(own))


async def _models_of(
    upstream: Upstream, request: Request, caller: Caller
) -> list[dict[str, Any]] | None:
    """Return what an upstream lists, None if it does not."""
    query = "limit=1000" if upstream.kind == "anthropic" else ""
    try:
        async with asyncio.timeout(_LISTING_S):
            answered = await upstream.ask(request, caller, b"", path=_MODELS, query=query)
            try:
                body = json.loads(await answered.aread())
            finally:
                await answered.aclose()
        return [item for item in body["data"] if isinstance(item["id"], str)]
    except (APIError, httpx.HTTPError, TimeoutError, *UNREADABLE):
        return None


def _as_both(item: dict[str, Any], upstream: Upstream) -> dict[str, Any]:
    """Spell a model of a list so that the clients of both APIs can read it."""
    created = item.get("created")
    number = created if isinstance(created, (int, float)) else 0
    seconds = int(number) if 0 <= number < _END_OF_TIME else 0
    return {
        "object": "model",
        "type": "model",
        "created": seconds,
        "created_at": datetime.fromtimestamp(seconds, UTC).isoformat(),
        "owned_by": upstream.name,
        "display_name": item["id"],
        **item,
    }


class PassedOn(StreamingResponse):
    """A response of the upstream, byte for byte as it comes."""

    def __init__(self, answered: httpx.Response, own: Mapping[str, str]) -> None:
        super().__init__(self._pieces(), answered.status_code)
        added = [(name.encode(), value.encode()) for name, value in own.items()]
        self.raw_headers = [*returned(answered, decoded=False), *added]
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends, breaks off or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._answered.aclose()

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._answered.aiter_raw():
            yield piece


# One question, one answer, and what it took, for apps without a client of OpenAI.
#
# body -> /v1/chat/completions of this very app -> content, and what the cache did meanwhile


chat = APIRouter(tags=["chat"], route_class=BoundedRoute)

HERE = "http://here"
PAST_THE_CACHE = "no-cache, no-store"
_OF_BODY = frozenset({"content-length", "content-type", "transfer-encoding", "accept-encoding"})
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


@chat.post(
    "/v1/chat",
    response_model=Chatted,
    dependencies=key_places(),  # the proxy itself says who may come in, and counts them
    responses={
        **responses(400, 401, 403, 422, 429, 502, 504),
        "default": {"description": "An error of the upstream, as it came."},
    },
)
async def chat_(body: ChatBody, request: Request, on: On) -> Chatted | Response:
    """Answer from the cache, or by the upstream; its errors come as they are."""
    began = time.perf_counter()
    with on.cache.trace() as trace:
        found = await _completion(request, body)
    if not found.is_success:
        return Response(found.content, found.status_code, media_type="application/json")
    hit = next((e for e in trace.events if isinstance(e, LookupEvent) and e.outcome == "hit"), None)
    cached = hit is not None or found.headers.get("x-tiered-cache") == "hit"
    tier = None if not cached else "shared" if hit is None else str(hit.tier)
    answered, message = _read(found)
    ids = (event.entry_id for event in reversed(trace.events))
    return Chatted(
        content=message.get("content"),
        cached=cached,
        cache_tier=tier,
        latency_ms=(time.perf_counter() - began) * 1000,
        cost=0.0 if cached else _cost(body.model, answered.get("usage")),
        entry_id=next((one for one in ids if one is not None), None),
    )


async def _completion(request: Request, body: ChatBody) -> httpx.Response:
    """Ask this app's own proxy, in this task and so in this trace."""
    headers = {n: v for n, v in request.headers.items() if n not in _OF_BODY}
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
        completion = found.json()
        return completion, dict(completion["choices"][0]["message"])
    except (ValueError, LookupError, TypeError):
        raise APIError(502, "the upstream's answer is no chat completion") from None


def _cost(model: str, usage: Mapping[str, Any] | None) -> float | None:
    """Price the tokens that the upstream counted."""
    counted = tokens_of(usage)
    return None if counted is None else price(model, counted)
