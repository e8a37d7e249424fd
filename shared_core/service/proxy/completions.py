"""One completion through the cache: from the cache, from an equal call under way, or passed on.

body --request--> lookup --hit--> reply
                    |--> a call under way? its answer --> reply
                    '--> upstream --as it comes--> client, and kept when it is whole
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
import httpx
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared_core.client_calls import CacheFailed
from shared_core.client_request import Endpoint
from shared_core.client_response import SHARED, answer_of
from shared_core.client_stream import Recording
from shared_core.control import controlling
from shared_core.flights import Flight
from shared_core.record import Answer, Explore, Hit, Miss
from shared_core.request import Request as CacheRequest
from shared_core.resilience import araising, raising
from shared_core.service import sse
from shared_core.service.keys import Caller
from shared_core.service.proxy_controls import controls_for
from shared_core.service.proxy_dialects import Body, Dialect
from shared_core.service.proxy_replies import reply_of, told_of
from shared_core.service.proxy_upstream import RawHeaders, ask, reached, returned
from shared_core.service.state import Service, namespace_of

T = TypeVar("T")

OK = 200
UNREADABLE = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What goes wrong in bodies that are not what they should be."""

SCOPED = ("openai-beta", "openai-organization", "openai-project")
"""Headers of a request that its answer, or the right to it, may depend on."""


def endpoint_of(on: Service, http: Request) -> Endpoint:
    """Return whom a request is to, with all of it that is not in its body."""
    query = http.query_params
    found = {name: query.getlist(name) for name in query}
    found_once = {name: one[0] if len(one) == 1 else one for name, one in found.items()}
    headers = {f"header {name}": http.headers[name] for name in SCOPED if name in http.headers}
    return Endpoint(on.endpoint.provider, on.endpoint.base_url, {**found_once, **headers})


@dataclass(slots=True)
class _Asked:
    """What is known of a request once its body was read; ``request`` None: no identity."""

    body: Body
    request: CacheRequest | None = None
    outcome: Miss | Explore | None = None


class Exchange:
    """One request and its response. The cache never fails it: then the upstream answers."""

    def __init__(
        self, on: Service, http: Request, caller: Caller, dialect: Dialect, content: bytes
    ) -> None:
        self._on, self._http, self._caller = on, http, caller
        self._dialect, self._content = dialect, content
        self._namespace = namespace_of(caller, http)
        self._controls = controls_for(http.headers, self._namespace)
        self._hidden = on.settings.hide_headers
        self._asked = _Asked({})

    async def response(self) -> Response:
        """Return what the client is sent. Raises Refusal if the upstream cannot be reached."""
        reply = await self._safely(self._looked_up)
        if reply is not None:
            return reply
        flight: Flight | None = None
        if self._asked.request is not None:
            hit, flight = await self._boarded(self._asked.request)
            if hit is not None:
                reply = await self._safely(lambda: self._reply(hit, SHARED))
                if reply is not None:
                    return reply
        try:
            return await self._passed_on(flight)
        except BaseException:
            self.land(flight)
            raise

    # -------------------------------------------------------------------------- from the cache

    def _looked_up(self) -> Response | None:
        """Read the body and look up its answer. Blocks."""
        try:
            self._asked.body = json.loads(self._content)
            endpoint = endpoint_of(self._on, self._http)
            request = self._dialect.request_of(endpoint, self._asked.body)
        except UNREADABLE:
            return None  # the upstream says what is wrong with it
        self._asked.request = request
        outcome = self._on.cache.lookup(request)
        if not isinstance(outcome, Hit):
            self._asked.outcome = outcome
            return None
        self._asked.outcome = Miss("format")  # should the reply fail
        reply = self._reply(outcome, str(outcome.tier))
        self._on.activity.record_hit(request.question, outcome, self._namespace)
        return reply

    def _reply(self, hit: Hit, tier: str) -> Response:
        return reply_of(hit, tier, self._dialect, self._asked.body, hidden=self._hidden)

    async def _boarded(self, request: CacheRequest) -> tuple[Hit | None, Flight | None]:
        cache = self._on.cache
        try:
            with controlling(cache, self._controls):
                return await araising(CacheFailed, cache.answers.wait(cache.on_loop, request))
        except CacheFailed:
            cache.count_error("service")
            return None, None

    async def _safely(self, work: Callable[[], T]) -> T | None:
        """Do what blocks off the event loop, with this request's controls; None if it fails."""
        cache = self._on.cache
        with controlling(cache, self._controls):
            try:
                return await cache.on_loop.run(lambda: raising(CacheFailed, work))
            except CacheFailed:
                cache.count_error("service")
                return None

    # ------------------------------------------------------------------------ from the upstream

    async def _passed_on(self, flight: Flight | None) -> Response:
        path = self._dialect.path
        told = await ask(self._on, self._http, self._caller, self._content, path=path)
        if told.headers.get("content-type", "").startswith(sse.MEDIA_TYPE):
            return Relay(told, self, flight)
        try:
            with reached():
                content = await told.aread()
        finally:
            await told.aclose()
        entry_id = None
        if told.status_code == OK and self._asked.request is not None:
            entry_id = await self._safely(lambda: self._kept_whole(content, flight))
        self.land(flight)
        found = Response(content, told.status_code)
        length = [(b"content-length", str(len(content)).encode())]
        found.raw_headers = [*returned(told), *length, *self.headers(entry_id)]
        return found

    def headers(self, entry_id: str | None = None) -> RawHeaders:
        """Return what is told of the cache."""
        if self._hidden:
            return []
        told = told_of(self._asked.outcome, entry_id)
        return [(name.encode(), value.encode("latin-1")) for name, value in told.items()]

    def _kept_whole(self, content: bytes, flight: Flight | None) -> str | None:
        try:
            body = json.loads(content)
            if body.get("error"):
                return None
            answer = answer_of(self._dialect.as_chat(body, "message"))
        except UNREADABLE:
            return None  # the client has it, and nobody else will
        return self._kept(answer, flight)

    def _kept(self, answer: Answer, flight: Flight | None) -> str | None:
        request = self._asked.request
        if request is None or answer.finish_reason == "error":
            return None
        if flight is not None:
            flight.arrive(answer)  # before it is stored: a slow store delays nobody
        return self._on.cache.store(request, answer)

    async def keep(self, recording: Recording, flight: Flight | None) -> None:
        """Keep the answer of a stream that ended, if it is whole."""
        answer, whole = recording.answer()
        if whole:
            await self._safely(lambda: self._kept(answer, flight))

    def note(self, recording: Recording, data: str) -> None:
        """Note an event of a stream."""
        if self._asked.request is not None:
            try:
                chunk = self._dialect.as_chat(json.loads(data), "delta")
            except UNREADABLE:
                chunk = {"error": "unreadable"}
            recording.note(chunk)

    def land(self, flight: Flight | None) -> None:
        """Let those who wait go on, with what arrived or without."""
        if flight is not None:
            self._on.cache.answers.land(flight)


class Relay(StreamingResponse):
    """A stream of the upstream on its way to the client, who gets it as it comes.

    What breaks off there breaks off here. The last piece waits until the answer is kept, so that
    who asks again is answered by the cache.
    """

    def __init__(self, told: httpx.Response, exchange: Exchange, flight: Flight | None) -> None:
        super().__init__(self._pieces(), told.status_code)
        self.raw_headers = [*returned(told), *exchange.headers()]
        self._told, self._exchange, self._flight = told, exchange, flight
        self._recording, self._is_kept = Recording(), told.status_code != OK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends, breaks off or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.land(self._flight)
            with anyio.CancelScope(shield=True):
                await self._told.aclose()

    async def _pieces(self) -> AsyncIterator[bytes]:
        events = sse.Events()
        async for piece in self._told.aiter_bytes():
            for data in events.feed(piece):
                if data == sse.DONE:
                    await self._keep()
                else:
                    self._exchange.note(self._recording, data)
            yield piece
        await self._keep()

    async def _keep(self) -> None:
        if not self._is_kept:
            self._is_kept = True
            await self._exchange.keep(self._recording, self._flight)
