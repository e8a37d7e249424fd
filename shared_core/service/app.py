"""The application: opens its parts, closes them, and puts the routes together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from shared_core.cache import ResponseCache
from shared_core.embedding_cache import EmbeddingCache
from shared_core.options import Hook
from shared_core.service import cache_api, chat, health, page, proxy
from shared_core.service.activity import Activity
from shared_core.service.connections import CALLS_OF_ONE, Pools
from shared_core.service.gate import Gate
from shared_core.service.keys import Keyring
from shared_core.service.rates import Rates
from shared_core.service.refusals import Refusal, refused, responses
from shared_core.service.settings import Settings, handed_over
from shared_core.service.state import Service

CONNECT_S = 10.0


def create_app(
    settings: Settings,
    *,
    cache: ResponseCache | None = None,
    upstream: httpx.AsyncClient | None = None,
) -> FastAPI:
    """Return the application of a server; what is given stays its owner's to close."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = cache
            activity = _activity_of(opened, settings)
            hooks: list[Hook] = [activity]
            if opened is None:
                opened = ResponseCache.open(settings.cache, hooks=hooks, **settings.cache_options())
                stack.push_async_callback(opened.aclose)
            activity.open(opened)
            stack.callback(activity.close)
            asked = upstream
            if asked is None:
                asked = await stack.enter_async_context(_client(settings))
            app.state.service = Service(
                settings=settings,
                cache=opened,
                upstream=asked,
                keyring=Keyring(settings.keys),
                limits=Rates(settings.rate_limit),
                activity=activity,
                embeddings=EmbeddingCache(opened),
            )
            yield

    app = FastAPI(
        title="tiered-llm-cache",
        summary="A cache for LLM answers behind OpenAI's API",
        lifespan=lifespan,
        responses=responses(413, 431),  # of the gate, before every route
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
    )
    for error in (Refusal, RequestValidationError, HTTPException):
        app.add_exception_handler(error, refused)
    app.include_router(health.router)
    app.include_router(cache_api.router)
    app.include_router(chat.router)
    app.include_router(page.router)
    app.include_router(proxy.router)  # last: it passes on what no other takes
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
        )
    app.add_middleware(Gate, body_limit=settings.body_limit, header_limit=settings.header_limit)
    return app


def _activity_of(cache: ResponseCache | None, settings: Settings) -> Activity:
    """Return the hook by which the page hears of the cache: that of an open one, if it has one."""
    heard = () if cache is None else cache.options.hooks
    own = Activity(record_questions=settings.record_questions)
    return next((hook for hook in heard if isinstance(hook, Activity)), own)


def worker() -> FastAPI:
    """Return the application of one of several workers, for uvicorn's ``factory``."""
    return create_app(handed_over())


def _client(settings: Settings) -> httpx.AsyncClient:
    """Return the client that asks the upstream; callers bring the number of connections."""
    patience = httpx.Timeout(settings.upstream_timeout, connect=CONNECT_S)
    trusted = httpx.create_ssl_context()

    def pool() -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CALLS_OF_ONE)
        return httpx.AsyncClient(verify=trusted, limits=limits, timeout=patience)

    return httpx.AsyncClient(transport=Pools(pool), timeout=patience)
