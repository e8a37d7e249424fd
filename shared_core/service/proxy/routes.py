"""The OpenAI-compatible API: completions and embeddings through the cache, all else passed on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import anyio
import httpx
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared_core.service.keys import Caller
from shared_core.service.proxy_dialects import Chat, Completions, Dialect
from shared_core.service.proxy_documents import CHAT, COMPLETIONS, EMBEDDINGS
from shared_core.service.proxy_embeddings import embedded
from shared_core.service.proxy_exchange import Exchange
from shared_core.service.proxy_replies import told_of
from shared_core.service.proxy_upstream import ask, returned
from shared_core.service.refusals import Refusal
from shared_core.service.state import Service, caller, service

router = APIRouter(prefix="/v1", tags=["proxy"])

On = Annotated[Service, Depends(service)]
By = Annotated[Caller, Depends(caller)]

OWN = "cache"
"""What lies below it is the service's, and never the upstream's."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@router.post("/chat/completions", **CHAT)
async def chat_completions(request: Request, on: On, by: By) -> Response:
    """Answer a chat from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, Chat())


@router.post("/completions", **COMPLETIONS)
async def completions(request: Request, on: On, by: By) -> Response:
    """Complete a prompt from the cache, or pass on what the upstream answers."""
    return await _completed(request, on, by, Completions())


async def _completed(request: Request, on: Service, by: Caller, dialect: Dialect) -> Response:
    return await Exchange(on, request, by, dialect, await request.body()).response()


@router.post("/embeddings", **EMBEDDINGS)
async def embeddings(request: Request, on: On, by: By) -> Response:
    """Return vectors: those that are known from the cache, the others from the upstream."""
    return await embedded(on, request, by, await request.body())


@router.api_route("/{path:path}", methods=METHODS, include_in_schema=False)
async def other(path: str, request: Request, on: On, by: By) -> Response:
    """Pass on whatever else the upstream has; nothing of it is kept."""
    if path.partition("/")[0] == OWN:
        methods = request.app.openapi()["paths"].get(f"/v1/{path}", {})
        allow = {"allow": ", ".join(sorted(methods)).upper()} if methods else {}
        raise Refusal(405 if methods else 404, "the cache has no such operation", headers=allow)
    raw = request.scope["raw_path"].decode("latin-1").partition("/v1/")[2]
    if any(part in (".", "..") for part in path.replace("\\", "/").split("/")):
        raise Refusal(400, "a path must not lead out of the API", code="bad_path")
    sends = {"content-length", "transfer-encoding"} & {*request.headers.keys()}
    content = request.stream() if sends else None
    told = await ask(on, request, by, content, path=raw)
    return PassedOn(told, {} if on.settings.hide_headers else told_of(None))


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
