"""Build and run the service: open its parts, put the routes together, close them."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import socket
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import h11
import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared_core.cache import ResponseCache
from shared_core.embedding_cache import EmbeddingCache
from shared_core.options import Hook, standalone
from shared_core.resilience import areraise_as
from shared_core.service import cache_api, dashboard, metrics, proxy
from shared_core.service.access import TOKEN_VARIABLE, Access, Keyring, new_token
from shared_core.service.activity import Activity, Meter
from shared_core.service.dependencies import Service
from shared_core.service.errors import APIError, refused, responses
from shared_core.service.settings import HANDED_OVER, Settings, handed_over
from shared_core.service.upstream import CALLS_OF_ONE, Pools, UpstreamModel, Upstreams, named_by

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


# The outermost part of the service: sizes of what comes in, and what is said of a bug.


logger = logging.getLogger("tiered_cache")


class _Bug(Exception):
    """What no part of the service expected; its message holds no prompt."""


class _Overrun(Exception):
    """A body grew beyond the limit while it came in, or took too long."""


class Gate:
    """Refuses what may not come in, is too large or comes too slowly; answers a bug with a 500.

    A body counts as it comes, so one without Content-Length is refused too, before all of it is
    here. Of a bug only its kind and place are logged: its message may hold a prompt.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        names: frozenset[str],
        body_limit: int,
        header_limit: int,
        request_timeout: float,
    ) -> None:
        self._app, self._access, self._request_timeout = app, access, request_timeout
        self._names = names
        self._body_limit, self._header_limit = body_limit, header_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._names:
            scope = named_by(scope, self._names)
        started, size, is_whole = False, 0, False
        overrun: APIError | None = None
        until = asyncio.get_running_loop().time() + self._request_timeout

        async def counted() -> Message:
            nonlocal size, overrun, is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                overrun = self._too_slow()
                raise _Overrun from None
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > self._body_limit:
                overrun = self._too_large()
                raise _Overrun
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if started or overrun is None:  # what is said of a body cut short is not for its sender
                started = True
                await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            try:
                await areraise_as(_Bug, self._app(scope, counted, noted))
            except _Bug as error:
                refusal = self._of_bug(error, overrun is not None)
            refusal = overrun or refusal
        if refusal is not None and not started:
            await refusal.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> APIError | None:
        try:
            self._access.check(scope["method"], scope["path"], scope["headers"])
        except APIError as error:
            return error
        return self._of_headers(scope)

    def _of_headers(self, scope: Scope) -> APIError | None:
        headers = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > self._header_limit:
            most = f"{self._header_limit:,} bytes"
            return APIError(431, f"the headers are larger than {most}", code="headers_too_large")
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        return self._too_large() if int(length) > self._body_limit else None

    def _too_large(self) -> APIError:
        return APIError(
            413, f"the body is larger than {self._body_limit:,} bytes", code="body_too_large",
            headers={"connection": "close"},
        )  # fmt: skip

    def _too_slow(self) -> APIError:
        return APIError(
            408, f"the request did not come whole in {self._request_timeout:g} s",
            code="request_too_slow", headers={"connection": "close"},
        )  # fmt: skip

    @staticmethod
    def _of_bug(error: _Bug, overrun: bool) -> APIError:
        cause = error.__cause__
        if cause is not None and not overrun and not isinstance(cause, httpx.HTTPError):
            place = traceback.extract_tb(cause.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            logger.error("a request failed: %s at %s", type(cause).__name__, where)
        return APIError(500, "the service failed; its log says where", code="internal_error")


CONNECT_S = 10.0


def create_app(
    settings: Settings,
    *,
    cache: ResponseCache | None = None,
    upstream: httpx.AsyncClient | None = None,
) -> FastAPI:
    """Return the application of a server; what is given stays its owner's to close."""
    token = os.environ.get(TOKEN_VARIABLE) or new_token()
    access = Access(
        token,
        hosts=settings.hosts,
        origins=settings.cors_origins,
        any_address=not settings.is_local,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = cache
            activity = _activity_of(opened, settings)
            hooks: list[Hook] = [activity]
            if opened is None:
                options = stack.enter_context(_cache_options(settings))
                opened = ResponseCache.open(settings.cache, hooks=hooks, **options)
                stack.push_async_callback(opened.aclose)
            meter = Meter(opened)
            activity.open(opened, meter)
            stack.callback(activity.close)
            asked = upstream
            if asked is None:
                asked = await stack.enter_async_context(_client(settings))
            app.state.service = Service(
                settings=settings,
                cache=opened,
                upstreams=Upstreams.open(settings, asked, activity, meter),
                keyring=Keyring(settings.keys),
                activity=activity,
                embeddings=EmbeddingCache(opened),
                access=access,
                meter=meter,
            )
            yield

    app = FastAPI(
        title="tiered-llm-cache",
        summary="A cache for LLM answers behind OpenAI's API",
        lifespan=lifespan,
        responses=responses(403, 408, 413, 431),  # of the gate, before every route
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
    )
    for error in (APIError, RequestValidationError, HTTPException):
        app.add_exception_handler(error, refused)
    app.include_router(proxy.router)  # first: what is asked most is found at once
    app.include_router(metrics.router)
    app.include_router(cache_api.router)
    app.include_router(proxy.chat)
    app.include_router(dashboard.router)
    app.include_router(proxy.rest)  # last: it passes on what no other takes
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
        )
    app.state.token = token
    app.add_middleware(
        Gate,
        access=access,
        names=settings.upstream_names,
        body_limit=settings.body_limit,
        header_limit=settings.header_limit,
        request_timeout=settings.request_timeout,
    )
    return app


def _activity_of(cache: ResponseCache | None, settings: Settings) -> Activity:
    """Return the hook by which the page hears of the cache: that of an open one, if it has one."""
    heard = () if cache is None else cache.options.hooks
    own = Activity(record_questions=settings.record_questions)
    return next((hook for hook in heard if isinstance(hook, Activity)), own)


def worker() -> FastAPI:
    """Return the application of one of several workers, for uvicorn's ``factory``."""
    return create_app(handed_over())


@contextmanager
def _cache_options(settings: Settings) -> Iterator[dict[str, Any]]:
    """Give the options of the cache for a block, with the model that rewrites, if one is named."""
    options, model = settings.cache_options(), settings.standalone_model
    if model is None:
        yield options
        return
    seconds = settings.standalone_timeout
    ask = UpstreamModel(settings, model, seconds)
    try:
        yield {**options, "history": standalone(ask, timeout=seconds, name=model)}
    finally:
        ask.close()


def _client(settings: Settings) -> httpx.AsyncClient:
    """Return the client that asks the upstream; callers bring the number of connections."""
    patience = httpx.Timeout(settings.upstream_timeout, connect=CONNECT_S)
    trusted = httpx.create_ssl_context()

    def pool() -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CALLS_OF_ONE)
        return httpx.AsyncClient(verify=trusted, limits=limits, timeout=patience)

    return httpx.AsyncClient(transport=Pools(pool), timeout=patience)


# Runs the service by uvicorn, in one process or in several that share a store.


KEEP_ALIVE_S = 60
WORKER = "shared_core.service.app:worker"


class BoundedH11(H11Protocol):
    """HTTP of which no answer waits for a full packet; its parser has a limit for headers.

    Workers get a listening socket of which asyncio cannot tell that it is TCP: it would leave
    Nagle's algorithm on, and each answer would take 40 ms.

    A connection whose next request does not come with all its headers in ``head_timeout`` seconds
    is closed: else whoever opens many, and sends a byte now and then, would hold them all.
    """

    head_timeout = 30.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its own base has it
        """Take a connection."""
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see whether it was all of a request's headers."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._stop_timer()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def run(settings: Settings) -> None:
    """Serve until a signal to stop: then requests under way finish, and the cache is closed.

    Raises ValueError or ImportError for a cache that cannot be opened, before anything listens.
    """
    with _cache_options(settings) as options:
        ResponseCache.open(settings.cache, **{**options, "load": "lazy"}).close()
    if settings.workers > 1:
        os.environ[HANDED_OVER] = json.dumps(settings.revealed())
        os.environ[TOKEN_VARIABLE] = new_token()
        uvicorn.run(WORKER, factory=True, workers=settings.workers, **uvicorn_options(settings))
    else:
        uvicorn.run(create_app(settings), **uvicorn_options(settings))


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """Return the settings of uvicorn, but the application and the number of workers."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "http": BoundedH11,
        # beyond it the connection is closed; below it a refusal can be sent and read
        "h11_max_incomplete_event_size": 2 * settings.header_limit,
        "ws": "none",
        "lifespan": "on",
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": settings.shutdown_timeout,
        "access_log": settings.access_log,
        "log_level": settings.log_level,
        "log_config": _logging(settings.log_level),
    }


class NoQuery(logging.Filter):
    """Takes the query out of the lines of the access log: it may hold what somebody searches."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a line through, without the query of its path.

        That an answer is not whole is not said again: the break of its stream was.
        """
        if str(record.msg).startswith("ASGI callable returned without completing response"):
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(
                one.partition("?")[0] if isinstance(one, str) and one.startswith("/") else one
                for one in record.args
            )
        return True


def _logging(level: str) -> dict[str, Any]:
    """Log the cache's events as uvicorn logs its own; never at "debug", which may show prompts."""
    found = copy.deepcopy(LOGGING_CONFIG)
    own = "INFO" if level == "debug" else level.upper()
    found["filters"] = {"no_query": {"()": NoQuery}}
    for handler in ("access", "default"):
        found["handlers"][handler]["filters"] = ["no_query"]
    found["loggers"]["tiered_cache"] = {"handlers": ["default"], "level": own, "propagate": False}
    return found
