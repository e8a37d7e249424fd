"""Ask the upstream, and read and write server-sent events."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpx
from fastapi import Request

from shared_core.service.auth import Caller
from shared_core.service.dependencies import CREDENTIALS, Service
from shared_core.service.errors import APIError

RawHeaders = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
     b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""Headers that are between two machines (RFC 9110, 7.6.1)."""

OWN = b"x-tiered-cache"

_NOT_SENT = HOP_BY_HOP | {b"host", b"cache-control", b"expect"}
_OF_THE_WAY = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip",
     b"traceparent", b"tracestate", b"baggage", b"b3", b"sentry-trace", b"uber-trace-id",
     b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context"}
)  # fmt: skip
"""Headers that machines on the way add: whom they forward for, and what they trace."""

_OF_THE_WAY_TOO = (b"x-forwarded-", b"x-b3-", b"x-datadog-", b"x-envoy-", b"cf-", b"fly-")
"""How further ones begin."""

_CREDENTIALS = frozenset(name.encode() for name in CREDENTIALS)
_OF_BODY = frozenset({b"content-length", b"content-encoding"})

UPSTREAM = "upstream"


async def ask(
    on: Service,
    request: Request,
    caller: Caller,
    content: bytes | AsyncIterator[bytes] | None,
    *,
    path: str,
) -> httpx.Response:
    """Send a request on and return the response, whose body is yet to be read, and to be closed.

    A body of bytes was read whole, and so will its answer be: that may come compressed as we can
    read it. Raises APIError 502 or 504 where no response comes, 400 for a path that is no URL.
    """
    headers = _sent(on, request, caller, path, whole=isinstance(content, bytes))
    url = f"{on.settings.upstream}/{path}"
    if query := request.scope["query_string"].decode("latin-1"):
        url = f"{url}?{query}"
    began = time.perf_counter()
    with on.meter.calling(), reached():
        # Not by the client's build_request: that would add cookies which other callers were sent.
        asked = httpx.Request(request.method, url, headers=headers, content=content)
        response = await on.upstream.send(asked, stream=True)
    took = time.perf_counter() - began
    on.activity.took(UPSTREAM, took)
    on.meter.responded(response.status_code, took)
    return response


@contextmanager
def reached() -> Iterator[None]:
    """Say to the client why there is no response of the upstream. Raises APIError."""
    try:
        yield
    except httpx.TimeoutException:
        raise APIError(
            504, "the upstream did not answer in time", code="upstream_timeout"
        ) from None
    except httpx.InvalidURL:
        raise APIError(400, "this path is no part of a URL", code="bad_path") from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        told = f"the upstream could not be reached ({type(error).__name__})"
        raise APIError(502, told, code="upstream_unreachable") from None


def _sent(on: Service, request: Request, caller: Caller, path: str, *, whole: bool) -> RawHeaders:
    dropped = _NOT_SENT | _listed(request.headers.getlist("connection"))
    if whole:
        dropped |= {b"content-length", b"accept-encoding"}
    if caller.upstream_key:
        dropped |= _CREDENTIALS
    kept = [
        (name, value)
        for name, value in request.headers.raw
        if name not in dropped and not _is_of_the_way(name)
    ]
    key = on.settings.upstream_key
    if caller.upstream_key and key is not None:
        secret = key.get_secret_value().encode()
        is_anthropic = (
            path.partition("/")[0] == "messages" or "anthropic-version" in request.headers
        )
        own = (b"x-api-key", secret) if is_anthropic else (b"authorization", b"Bearer " + secret)
        kept.append(own)
    return kept


def scoped_headers(request: Request) -> list[str]:
    """Return the names of the headers that are sent on, but credentials, which name a tenant.

    Those that ``Connection`` names are among them, although they are not sent: who sends another
    one asks for something else.
    """
    dropped = _NOT_SENT | _CREDENTIALS
    names = dict.fromkeys(name for name, _ in request.headers.raw)
    return [
        name.decode("latin-1") for name in names if name not in dropped and not _is_of_the_way(name)
    ]


def _is_of_the_way(name: bytes) -> bool:
    return name in _OF_THE_WAY or name.startswith((OWN, *_OF_THE_WAY_TOO))


def returned(response: httpx.Response, *, decoded: bool = True) -> RawHeaders:
    """Return the headers of the upstream that go on to the client.

    ``decoded``: the body goes on as it reads, not as it came.
    """
    dropped = HOP_BY_HOP | {b"date", b"server"} | _listed(response.headers.get_list("connection"))
    if decoded:
        dropped |= _OF_BODY
    named = ((name.lower(), value) for name, value in response.headers.raw)
    return [
        (name, value) for name, value in named if name not in dropped and not name.startswith(OWN)
    ]


def _listed(connection: Iterable[str]) -> frozenset[bytes]:
    """Return the headers that a Connection header names, which are between two machines too."""
    names = (name.strip().lower() for line in connection for name in line.split(","))
    return frozenset(name.encode("latin-1") for name in names)


# Server-sent events: bytes of a stream to the data of its events, and back.


DONE = "[DONE]"
MEDIA_TYPE = "text/event-stream"

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")


def event(data: str) -> bytes:
    """Spell one event, whose data is a single line."""
    return f"data: {data}\n\n".encode()


class Events:
    """Reads the data of events out of a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the data of each event that is complete with this piece."""
        self._rest += piece
        *lines, rest = _END_OF_LINE.split(self._rest)
        if self._rest.endswith(b"\r"):  # its "\n" may be yet to come
            rest = lines.pop() + b"\r"
        self._rest = rest
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                yield data.decode(errors="replace")
