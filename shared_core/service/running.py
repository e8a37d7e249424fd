"""Runs the service by uvicorn, in one process or in several that share a store."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import socket
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared_core.cache import ResponseCache
from shared_core.service.app import create_app
from shared_core.service.settings import HANDED_OVER, Settings

KEEP_ALIVE_S = 60
WORKER = "shared_core.service.app:worker"


class Prompt(H11Protocol):
    """HTTP of which no answer waits for a full packet; its parser has a limit for headers.

    Workers get a listening socket of which asyncio cannot tell that it is TCP: it would leave
    Nagle's algorithm on, and each answer would take 40 ms.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its own base has it
        """Take a connection."""
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)


def run(settings: Settings) -> None:
    """Serve until told to stop: then requests under way finish, and the cache is closed.

    Raises ValueError or ImportError for a cache that cannot be opened, before anything listens.
    """
    ResponseCache.open(settings.cache, **{**settings.cache_options(), "load": "lazy"}).close()
    if settings.workers > 1:
        os.environ[HANDED_OVER] = json.dumps(settings.revealed())
        uvicorn.run(WORKER, factory=True, workers=settings.workers, **uvicorn_options(settings))
    else:
        uvicorn.run(create_app(settings), **uvicorn_options(settings))


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn is told, but the application and the number of workers."""
    return {
        "host": settings.host,
        "port": settings.port,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "http": Prompt,
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


def _logging(level: str) -> dict[str, Any]:
    """Log the cache's events as uvicorn logs its own; never at "debug", which may show prompts."""
    found = copy.deepcopy(LOGGING_CONFIG)
    own = "INFO" if level == "debug" else level.upper()
    found["loggers"]["tiered_cache"] = {"handlers": ["default"], "level": own, "propagate": False}
    return found
