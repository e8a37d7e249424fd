"""Route OpenAI's API: completions and embeddings through the cache, all else passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared_core.service.access import check_browser, check_endpoint, upstream_path
from shared_core.service.auth import Caller
from shared_core.service.dependencies import NAMESPACE_HEADER, By, On, Service
from shared_core.service.errors import APIError, responses
from shared_core.service.proxy.completions import (
    MAX_TAGS,
    TAG,
    TAGS_HEADER,
    TTL_HEADER,
    Completion,
    Completions,
    Forwarding,
    describe,
)
from shared_core.service.proxy.dialect import Dialect
from shared_core.service.proxy.embeddings import embedded
from shared_core.service.proxy.messages import MessagesAPI
from shared_core.service.proxy.responses import ResponsesAPI
from shared_core.service.proxy.upstream import ask, returned

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


def _header(name: str, schema: dict[str, Any], told: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, "description": told}


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


router = APIRouter(prefix="/v1", tags=["proxy"])
rest = APIRouter(prefix="/v1")
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
async def other(path: str, request: Request, on: On, by: By) -> Response:
    """Pass on what else of the upstream may be reached; nothing of it is kept."""
    if path.partition("/")[0] == _OWN:
        methods = request.app.openapi()["paths"].get(f"/v1/{path}", {})
        allow = {"allow": ", ".join(sorted(methods)).upper()} if methods else {}
        raise APIError(405 if methods else 404, "the cache has no such operation", headers=allow)
    raw = request.scope["raw_path"].decode("latin-1").partition("/v1/")[2]
    check_browser(on.access, request.method, request.headers.raw)
    check_endpoint(on.rules, request.method, upstream_path(raw), is_own=not by.upstream_key)
    sends = {"content-length", "transfer-encoding"} & {*request.headers.keys()}
    content = request.stream() if sends else None
    told = await ask(on, request, by, content, path=raw)
    return PassedOn(told, {} if on.settings.hide_headers else describe(None))


class PassedOn(StreamingResponse):
    """A response of the upstream, byte for byte as it comes."""

    def __init__(self, told: httpx.Response, own: Mapping[str, str]) -> None:
        super().__init__(self._pieces(), told.status_code)
        added = [(name.encode(), value.encode()) for name, value in own.items()]
        self.raw_headers = [*returned(told, decoded=False), *added]
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends, breaks off or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._told.aclose()

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._told.aiter_raw():
            yield piece
