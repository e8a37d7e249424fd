"""The upstreams: which of them a request goes to, how it is sent there, and how each one does.

/NAME/v1/…, or the body's model --Upstreams--> Upstream --ask--> response, and its end is counted
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import httpx
from fastapi import Request
from starlette.types import Scope

from shared_core.openai_format import Endpoint
from shared_core.service.access import CREDENTIALS, Caller, Rule
from shared_core.service.activity import Activity, Meter
from shared_core.service.errors import APIError
from shared_core.service.settings import Settings, UpstreamEntry

RawHeaders = list[tuple[bytes, bytes]]

Ending = Literal[
    "ok", "rate_limited", "client_error", "server_error", "timeout", "unreachable", "cut"
]
ENDINGS: tuple[Ending, ...] = (
    "ok", "rate_limited", "client_error", "server_error", "timeout", "unreachable", "cut",
)  # fmt: skip
"""How a call of an upstream ended; "cut": its stream broke off."""

FAILING = frozenset({"server_error", "timeout", "unreachable"})
"""Ends that say that the upstream does not work, whoever asked it for what."""

State = Literal["ok", "failing", "down"]

UPSTREAM = "upstream"
NAMED = "tiered_cache.upstream"
"""Where an ASGI scope says which upstream the path of a request names."""

ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
"""What Anthropic's API wants to be told, for clients that speak to others."""


class Upstream:
    """One API that is asked: its address and credential, its rules, and how it does.

    ``distinct`` False: another upstream has the same address, so the name tells answers apart.
    """

    def __init__(
        self,
        entry: UpstreamEntry,
        client: httpx.AsyncClient,
        activity: Activity,
        meter: Meter,
        *,
        rules: tuple[Rule, ...] = (),
        distinct: bool = True,
        down_after: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.kind, self.models = entry.name, entry.kind, entry.models
        self.rules = (*rules, *map(Rule.parse, entry.allow))
        self.endpoint = Endpoint(
            "openai", entry.url, {}, more="" if distinct else f"upstream {entry.name}"
        )
        self._key = entry.read_key()
        self._client, self._activity, self._meter = client, activity, meter
        self.counter = counter_of(entry.name)
        self._down_after, self._clock = down_after, clock
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._failed_last = 0.0
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"Upstream({self.name!r})"

    def pays_for(self, caller: Caller) -> bool:
        """Say whether it is asked with the server's credential, or none, for a caller.

        Else the request's own credential headers are passed on.
        """
        return not caller.brings_own and (caller.has_key or self._key is not None)

    async def ask(
        self,
        request: Request,
        caller: Caller,
        content: bytes | AsyncIterator[bytes] | None,
        *,
        path: str,
        query: str | None = None,
    ) -> httpx.Response:
        """Send a request on; return the response, whose body is yet to be read, and to be closed.

        A body of bytes was read whole, and so will its answer be: that may come compressed as we
        can read it. ``query`` replaces the request's own. Raises APIError 502 or 504 where no
        response comes, 400 for a path that is no URL.
        """
        headers = self._sent(request, caller, path, whole=isinstance(content, bytes))
        url = f"{self.endpoint.base_url}/{path}"
        if query is None:
            query = request.scope["query_string"].decode("latin-1")
        if query:
            url = f"{url}?{query}"
        began = time.perf_counter()
        with self._calling(), reached():
            # Not by the client's build_request: that would add cookies of other callers.
            asked = httpx.Request(request.method, url, headers=headers, content=content)
            response = await self._client.send(asked, stream=True)
        took = time.perf_counter() - began
        self._activity.took(UPSTREAM, took)
        self.responded(response.status_code, took)
        return response

    def _sent(self, request: Request, caller: Caller, path: str, *, whole: bool) -> RawHeaders:
        dropped = _NOT_SENT | _listed(request.headers.getlist("connection"))
        if whole:
            dropped |= {b"content-length", b"accept-encoding"}
        pays = self.pays_for(caller)
        if pays:
            dropped |= _CREDENTIALS
        kept = [
            (name, value)
            for name, value in request.headers.raw
            if name not in dropped and not _is_of_the_way(name)
        ]
        is_anthropic = self._is_anthropic(request, path)
        if pays and self._key is not None:
            secret = self._key.get_secret_value().encode()
            own = (
                (b"x-api-key", secret) if is_anthropic else (b"authorization", b"Bearer " + secret)
            )
            kept.append(own)
        if self.kind == "anthropic" and is_anthropic and "anthropic-version" not in request.headers:
            kept.append(ANTHROPIC_VERSION)
        return kept

    def _is_anthropic(self, request: Request, path: str) -> bool:
        """Say whether a path is of Anthropic's API, which has a header of its own for keys."""
        if self.kind is not None:
            return self.kind == "anthropic" and path != "chat/completions"
        return path.partition("/")[0] == "messages" or "anthropic-version" in request.headers

    # ---------------------------------------------------------------------------- how it does

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Count a call that is under way; what it raises is counted as its end."""
        self.in_flight += 1
        try:
            yield
        except APIError as error:
            if error.code in ("upstream_timeout", "upstream_unreachable"):
                self.ended("timeout" if error.code == "upstream_timeout" else "unreachable")
            raise
        finally:
            self.in_flight -= 1

    def responded(self, status: int, seconds: float) -> None:
        """Count the response to a call, and how long its headers took."""
        self._meter.observe(self.counter, seconds)
        if status == 429:  # noqa: PLR2004 - too many requests
            self.ended("rate_limited")
        elif status >= 500:  # noqa: PLR2004 - its own failure
            self.ended("server_error")
        else:
            self.ended("client_error" if status >= 400 else "ok")  # noqa: PLR2004

    def ended(self, kind: Ending) -> None:
        """Count how a call ended."""
        self._meter.count(f"{self.counter}:{kind}")
        now = self._clock()
        with self._lock:
            if kind in FAILING:
                self._failed_last = now
                if self._failing_since is None:
                    self._failing_since = now
            elif kind != "cut":
                self._failing_since = None

    @property
    def state(self) -> State:
        """Say how it does, as this worker sees it.

        "failing" from a call that failed to one that does not, "down" when that took ``down_after``
        seconds. After as long without any call nobody knows, and it is no longer called down: else
        nothing would be sent any more to whom /ready says so.
        """
        with self._lock:
            since, last = self._failing_since, self._failed_last
        now = self._clock()
        if since is None:
            return "ok"
        lasts = last - since >= self._down_after
        return "down" if lasts and now - last <= self._down_after else "failing"


def counter_of(name: str) -> str:
    """Return how the counters of an upstream begin; those of a server with one have no name."""
    return UPSTREAM if name == UpstreamEntry.DEFAULT else f"{UPSTREAM}@{name}"


class Upstreams:
    """All upstreams of a server, and which of them a request goes to.

    upstreams.of("claude-haiku-4-5", "messages")   # by model: exact name, else longest prefix
    upstreams.of(None, "files")                    # no model: the first of the API's kind
    upstreams.of("any", "files", name="local")     # /local/v1/files
    """

    def __init__(self, each: Iterable[Upstream]) -> None:
        self.all = tuple(each)
        self.only = self.all[0] if len(self.all) == 1 else None
        self._by_name = {one.name: one for one in self.all}

    @classmethod
    def open(
        cls, settings: Settings, client: httpx.AsyncClient, activity: Activity, meter: Meter
    ) -> Upstreams:
        """Make the upstreams that the settings name."""
        urls = [entry.url for entry in settings.upstreams]
        return cls(
            Upstream(
                entry,
                client,
                activity,
                meter,
                rules=settings.rules,
                distinct=urls.count(entry.url) == 1,
                down_after=settings.upstream_down_after,
            )
            for entry in settings.upstreams
        )

    def of(self, model: object, path: str, *, name: str | None = None) -> Upstream:
        """Return the upstream of a model and a path below ``/v1/``, or that of a name.

        Among those that have a model, the one that names it most exactly; among equals, the first
        whose kind of API the path is of. Raises APIError 404 for a model that none has.
        """
        if self.only is not None:
            return self.only
        if name is not None:
            return self._by_name[name]
        kind = "anthropic" if path.partition("/")[0] == "messages" else "openai"
        wanted = model if isinstance(model, str) else None
        best: tuple[tuple[int, bool], Upstream] | None = None
        for one in self.all:
            fit = specificity(one.models, wanted)
            if fit is not None and (best is None or (fit, one.kind == kind) > best[0]):
                best = (fit, one.kind == kind), one
        if best is None:
            raise APIError(
                404,
                "no upstream of this server has this model: name it in the models of one, or ask "
                "/NAME/v1",
                code="model_not_found",
                param="model",
            )
        return best[1]

    def reaches(self, upstream: Upstream, model: str) -> bool:
        """Say whether a request that names a model goes to an upstream, by any API."""
        try:
            return upstream in (self.of(model, "chat/completions"), self.of(model, "messages"))
        except APIError:
            return False


class Reply(NamedTuple):
    """What a model said, and how many tokens that took, if its upstream says so."""

    text: str
    usage: dict[str, int] | None


class UpstreamModel:
    """A model of an upstream that the server itself asks: a function of a prompt. It blocks.

    ``seconds`` are what a call may take. Raises ValueError if no upstream has the model; a call
    raises httpx's errors, and ValueError for a reply that cannot be read.
    """

    def __init__(self, settings: Settings, model: str, seconds: float) -> None:
        fits = [(specificity(one.models, model), one) for one in settings.upstreams]
        known = [(fit, one) for fit, one in fits if fit is not None]
        if not known:
            raise ValueError(f"standalone_model: no upstream has {model!r} among its models")
        entry = max(known, key=lambda found: found[0])[1]
        self.model, self._url, self._key = model, entry.url, entry.read_key()
        self._is_anthropic = entry.kind == "anthropic"
        self._client = httpx.Client(timeout=seconds)

    def __call__(self, prompt: str) -> Reply:
        """Return what the model says to a prompt."""
        secret = None if self._key is None else self._key.get_secret_value()
        messages = [{"role": "user", "content": prompt}]
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        headers: dict[str, str] = {}
        if self._is_anthropic:
            body["max_tokens"] = MAX_REPLY_TOKENS  # it must be said here alone
            headers = {"anthropic-version": ANTHROPIC_VERSION[1].decode()}
        if secret is not None:
            own = {"x-api-key": secret} if self._is_anthropic else {}
            headers |= own or {"authorization": f"Bearer {secret}"}
        path = "messages" if self._is_anthropic else "chat/completions"
        response = self._client.post(f"{self._url}/{path}", json=body, headers=headers)
        response.raise_for_status()
        reply = response.json()
        try:
            if self._is_anthropic:
                text = "".join(one["text"] for one in reply["content"] if one["type"] == "text")
            else:
                text = reply["choices"][0]["message"]["content"]
            counts = reply.get("usage") or {}
            named = ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")
            usage: dict[str, Any] = {
                ours: counts.get(ours, counts.get(theirs)) for ours, theirs in named
            }
        except (TypeError, KeyError, IndexError, AttributeError):
            raise ValueError("a reply of another shape") from None
        are_known = all(isinstance(count, int) for count in usage.values())
        return Reply(str(text or ""), usage if are_known else None)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


MAX_REPLY_TOKENS = 2000
"""Most tokens of a reply to the server itself; models that think before they write need some.

Only Anthropic's API is told: of OpenAI's models the newer refuse ``max_tokens``, and other servers
refuse what these call it."""


def named_by(scope: Scope, names: frozenset[str]) -> Scope:
    """Return an ASGI scope with its path below an upstream's name, ``/NAME/v1/``, below /v1/.

    Only what is asked of an upstream has such a path; what is the service's own has one place.
    """
    name, _, rest = scope["path"][1:].partition("/")
    if name not in names or not rest.startswith("v1/"):
        return scope
    raw, prefix = scope["raw_path"], f"/{name}".encode()
    path = rest.removeprefix("v1/")
    if not raw.startswith(prefix + b"/v1/") or path == "chat" or path.partition("/")[0] == "cache":
        return scope
    return {**scope, "path": f"/{rest}", "raw_path": raw.removeprefix(prefix), NAMED: name}


_EXACT = 1 << 16


def specificity(models: tuple[str, ...], wanted: str | None) -> int | None:
    """Return how exactly one of some models names the wanted one; None: none of them does.

    Without ``models`` any is named, and no model at all is named by everybody.
    """
    if wanted is None or not models:
        return 0
    fits = [
        _EXACT if not one.endswith("*") else len(one) - 1
        for one in models
        if one == wanted or (one.endswith("*") and wanted.startswith(one[:-1]))
    ]
    return max(fits, default=None)


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
        why = f"the upstream could not be reached ({type(error).__name__})"
        raise APIError(502, why, code="upstream_unreachable") from None


# Which headers go where.


HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
     b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""Headers that are between two machines (RFC 9110, 7.6.1)."""

_OURS = b"x-tiered-cache"

_NOT_SENT = HOP_BY_HOP | {b"host", b"cache-control", b"expect"}
_OF_THE_WAY = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip",
     b"traceparent", b"tracestate", b"baggage", b"b3", b"sentry-trace", b"uber-trace-id",
     b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context"}
)  # fmt: skip
"""Headers that machines on the way add: whom they forward for, and what they trace."""

_OF_THE_WAY_TOO = (
    b"x-forwarded-", b"x-b3-", b"x-datadog-", b"x-envoy-", b"cf-", b"fly-",
    b"sec-fetch-",  # what browsers and Node's fetch say of a request to the server that they call
)  # fmt: skip
"""How further ones begin."""

_CREDENTIALS = frozenset(name.encode() for name in CREDENTIALS)
_OF_BODY = frozenset({b"content-length", b"content-encoding"})


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
    return name in _OF_THE_WAY or name.startswith((_OURS, *_OF_THE_WAY_TOO))


def returned(response: httpx.Response, *, decoded: bool = True) -> RawHeaders:
    """Return the headers of the upstream that go on to the client.

    ``decoded``: the body goes on as it reads, not as it came.
    """
    dropped = HOP_BY_HOP | {b"date", b"server"} | _listed(response.headers.get_list("connection"))
    if decoded:
        dropped |= _OF_BODY
    named = ((name.lower(), value) for name, value in response.headers.raw)
    return [
        (name, value) for name, value in named if name not in dropped and not name.startswith(_OURS)
    ]


def _listed(connection: Iterable[str]) -> frozenset[bytes]:
    """Return the headers that a Connection header names, which are between two machines too."""
    names = (name.strip().lower() for line in connection for name in line.split(","))
    return frozenset(name.encode("latin-1") for name in names)


# Connections to the upstream: many small pools, since a pool's work grows with its square.
#
# httpcore looks at all connections of a pool whenever a call begins or ends. With 200 clients, none
# of whom was answered by the cache, 100 requests a second became 171 (benchmarks/service.py).


CALLS_OF_ONE = 8
"""Calls under way in one pool before the next is used."""


class Pools(httpx.AsyncBaseTransport):
    """Sends a request by the first pool that has room; ``make`` opens one more."""

    def __init__(self, make: Callable[[], httpx.AsyncClient]) -> None:
        self._make = make
        self._pools: list[_Pool] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises as httpx does."""
        pool = next((one for one in self._pools if one.calls < CALLS_OF_ONE), None)
        if pool is None:
            pool = _Pool(self._make())
            self._pools.append(pool)
        pool.calls += 1
        try:
            response = await pool.client.send(request, stream=True)
        except BaseException:
            pool.calls -= 1
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_Counted(response, pool),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.client.aclose()


class _Pool:
    """A client of httpx and how many of its calls are under way."""

    __slots__ = ("calls", "client")

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client, self.calls = client, 0


class _Counted(httpx.AsyncByteStream):
    """A body that says when its call is over."""

    def __init__(self, response: httpx.Response, pool: _Pool) -> None:
        self._response, self._pool, self._open = response, pool, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)  # noqa: S101 - it was sent so
        async for part in self._response.stream:
            yield part

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._pool.calls -= 1
        await self._response.aclose()
