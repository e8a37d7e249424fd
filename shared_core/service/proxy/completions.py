"""Answer one completion: from the cache, from an equal call under way, or by the upstream.

body --request--> lookup --hit--> reply
                    |--> a call under way? its answer --> reply
                    '--> upstream --as it comes--> client, and kept when it is whole
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

import anyio
import httpx
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from shared_core.client import Recording
from shared_core.compute import arecorded, keep
from shared_core.concurrency import Flight
from shared_core.controls import Controls, controlling
from shared_core.openai_format import SHARED, Endpoint, about_of, answer_of, choices_of, request_of
from shared_core.record import Answer, Explore, Hit, Miss
from shared_core.request import Request as CacheRequest
from shared_core.resilience import or_else
from shared_core.service.access import Caller, check_objects
from shared_core.service.body import parsed, unhurried
from shared_core.service.dependencies import Service, namespace_of
from shared_core.service.errors import APIError
from shared_core.service.proxy import dialect as sse
from shared_core.service.proxy.dialect import Body, Dialect, Head, StreamRecording
from shared_core.service.upstream import (
    NAMED,
    RawHeaders,
    Upstream,
    reached,
    returned,
    scoped_headers,
)

if TYPE_CHECKING:
    from starlette.datastructures import Headers


# The two kinds of completions: their bodies as requests, their answers as bodies and chunks.
#
# Both are kept in the form of chat completions; ``/v1/completions`` is another in its spelling
# alone.


_OF_SDK = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})
"""Arguments of the SDK that never go into a body: a body with one is read by nobody knows what."""

Part = Literal["message", "delta"]


class _Completions:
    """What the two kinds have in common."""

    def as_chat(self, body: Body, part: Part) -> Body:
        """Return a completion ("message"), or a chunk of one ("delta"), as chat has it."""
        return body

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        """Yield an answer as the chunks of a stream, but its usage. Raises as ``completion``."""
        raise NotImplementedError

    def answer_of(self, body: Body) -> Answer | None:
        return None if body.get("error") else answer_of(self.as_chat(body, "message"))

    def recording(self) -> StreamRecording:
        return _Recorded(self)

    def stream(self, answer: Answer, head: Head, asked: Body) -> Iterator[bytes]:
        counts = bool((asked.get("stream_options") or {}).get("include_usage"))
        usage = openai_usage(answer.usage) if counts else None
        last: Mapping[str, Any] = {}
        for chunk in self.chunks(answer, head):
            last = {**chunk, "usage": None} if counts else chunk
            yield sse.event(json.dumps(last))
        if usage is not None:
            yield sse.event(json.dumps({**last, "choices": [], "usage": usage}))
        yield sse.event(sse.DONE)


class _Recorded:
    """Puts the chunks of a stream together."""

    def __init__(self, of: _Completions) -> None:
        self._of, self._recording = of, Recording()

    def note(self, data: str) -> bool:
        if data == sse.DONE:
            return True
        self._recording.note(self._of.as_chat(json.loads(data), "delta"))
        return False

    def answer(self) -> tuple[Answer, bool]:
        return self._recording.answer()


class Completion(_Completions):
    """``/v1/chat/completions``."""

    path = "chat/completions"

    def request_of(self, endpoint: Endpoint, body: Body) -> CacheRequest:
        arguments, messages = _arguments(body, "messages")
        if not isinstance(messages, list):
            raise TypeError("messages must be a list")
        return request_of(endpoint, messages, arguments)

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        choices = [
            {
                **choice,
                "index": i,
                "message": {"role": "assistant", "content": None, "refusal": None}
                | choice["message"],
                "logprobs": choice.get("logprobs"),
                "finish_reason": choice.get("finish_reason"),
            }
            for i, choice in enumerate(choices_of(answer))
        ]
        return _body(answer, "chat.completion", f"chatcmpl-{head.number}", head, choices)

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        for i, choice in enumerate(choices_of(answer)):
            message = {"role": "assistant", "content": None, **choice["message"]}
            if "tool_calls" in message:
                calls = enumerate(message["tool_calls"])
                message["tool_calls"] = [{**call, "index": place} for place, call in calls]
            said = {"delta": message, "logprobs": choice.get("logprobs"), "finish_reason": None}
            rest = {name: value for name, value in choice.items() if name != "message"}
            end = {**rest, "delta": {}, "logprobs": None}
            for one in (said, end):
                yield {
                    "id": f"chatcmpl-{head.number}",
                    "object": "chat.completion.chunk",
                    "created": head.created,
                    "model": answer.model or head.model,
                    **about_of(answer),
                    "choices": [{**one, "index": i}],
                }


class Completions(_Completions):
    """``/v1/completions``, whose prompt is asked like a user's message."""

    path = "completions"

    def request_of(self, endpoint: Endpoint, body: Body) -> CacheRequest:
        arguments, prompt = _arguments(body, "prompt")
        if not isinstance(prompt, (str, list)):
            raise TypeError("prompt must be a text or a list")
        # no provider of chat completions has this name: the two never share a scope
        own = replace(endpoint, provider=f"{endpoint.provider} completions")
        asked = [{"role": "user", "content": prompt}]
        return request_of(own, asked, arguments, is_completion=True)

    def as_chat(self, body: Body, part: Part) -> Body:
        choices = [
            {
                **{name: value for name, value in choice.items() if name != "text"},
                part: {"role": "assistant", "content": choice.get("text") or ""},
            }
            for choice in body.get("choices") or ()
        ]
        return {**body, "choices": choices}

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        choices = list(self._choices(answer))
        return _body(answer, "text_completion", f"cmpl-{head.number}", head, choices)

    def chunks(self, answer: Answer, head: Head) -> Iterator[dict[str, Any]]:
        for choice in self._choices(answer):
            yield {
                "id": f"cmpl-{head.number}",
                "object": "text_completion",
                "created": head.created,
                "model": answer.model or head.model,
                **about_of(answer),
                "choices": [choice],
            }

    def _choices(self, answer: Answer) -> Iterator[dict[str, Any]]:
        for i, choice in enumerate(choices_of(answer)):
            rest = {name: value for name, value in choice.items() if name != "message"}
            text = choice["message"].get("content") or ""
            yield {"logprobs": None, "finish_reason": None, **rest, "index": i, "text": text}


def _arguments(body: Body, asked: str) -> tuple[dict[str, Any], Any]:
    """Return the arguments of a body, and what it asks. Raises ValueError or TypeError."""
    if not isinstance(body, Mapping) or _OF_SDK & body.keys():
        raise ValueError("not the body of a completion")
    if not isinstance(body.get("model"), str) or not isinstance(body.get("stream", False), bool):
        raise TypeError("model must be a text, stream true or false")
    return {name: value for name, value in body.items() if name != asked}, body.get(asked)


def _body(
    answer: Answer, kind: str, number: str, head: Head, choices: list[dict[str, Any]]
) -> dict[str, Any]:
    usage = openai_usage(answer.usage)
    return {
        "id": number,
        "object": kind,
        "created": head.created,
        "model": answer.model or head.model,
        **about_of(answer),
        "choices": choices,
        **({} if usage is None else {"usage": usage}),
    }


def openai_usage(usage: Mapping[str, int] | None) -> dict[str, Any] | None:
    """Return neutral token counts as OpenAI's API tells them."""
    if usage is None:
        return None
    asked, said = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    spelled: dict[str, Any] = {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": usage.get("total_tokens", asked + said),
    }
    if "cached_tokens" in usage:
        spelled["prompt_tokens_details"] = {"cached_tokens": usage["cached_tokens"]}
    if "reasoning_tokens" in usage:
        spelled["completion_tokens_details"] = {"reasoning_tokens": usage["reasoning_tokens"]}
    return spelled


# What a client is sent: an answer of the cache as a body or as a stream, and the cache's headers.
#
# Hit --reply_of--> 200, x-tiered-cache: hit, …          Miss --describe--> x-tiered-cache: miss, …


STATUS = "x-tiered-cache"


def reply_of(hit: Hit, tier: str, dialect: Dialect, body: Body, *, hidden: bool) -> Response:
    """Return the response that an answer of the cache is: fresh id and time, usage as stored.

    Raises ValueError if its payload cannot be read.
    """
    head = Head(uuid4().hex, int(time.time()), body["model"])
    headers = {} if hidden else headers_of(hit, tier)
    if not body.get("stream"):
        content = json.dumps(dialect.completion(hit.answer, head)).encode()
        return Response(content, headers=headers, media_type="application/json")
    content = b"".join(dialect.stream(hit.answer, head, body))
    return Response(content, headers=headers, media_type=f"{sse.MEDIA_TYPE}; charset=utf-8")


def headers_of(hit: Hit, tier: str) -> dict[str, str]:
    """Return the headers of a hit; ``tier`` is "shared" for the answer of a call under way."""
    usage = hit.answer.usage or {}
    saved = usage.get("total_tokens") or usage.get("input_tokens", 0) + usage.get(
        "output_tokens", 0
    )
    return {
        STATUS: "hit",
        f"{STATUS}-tier": tier,
        f"{STATUS}-similarity": f"{hit.similarity:.4f}",
        f"{STATUS}-entry-id": hit.entry_id,
        f"{STATUS}-age": str(int(hit.age)),
        f"{STATUS}-saved-tokens": str(saved),
    }


def describe(outcome: Miss | Explore | None, entry_id: str | None = None) -> dict[str, str]:
    """Return the headers of what the upstream answered; None: the cache was not asked."""
    if outcome is None or outcome.reason == "bypassed":
        headers = {STATUS: "bypass"}
    else:
        headers = {STATUS: "miss", f"{STATUS}-reason": outcome.reason}
    return headers if entry_id is None else {**headers, f"{STATUS}-entry-id": entry_id}


# What a request's headers say of the cache: whether to look, to keep, how long, under what tags.
#
# cache-control: no-cache | no-store | max-age=60     x-tiered-cache-tags: a, b     -ttl: 3600


TAGS_HEADER, TTL_HEADER = "x-tiered-cache-tags", "x-tiered-cache-ttl"

TAG = r"[!-+\--~]{1,64}"
"""Printable ASCII but the comma: what a header carries unchanged."""

MAX_TAGS = 16
LONGEST_TTL_S = 10**9

_TAGS = re.compile(rf"{TAG}( ?, ?{TAG}){{0,{MAX_TAGS - 1}}}")
_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{1,10}")


def controls_for(headers: Headers, namespace: str) -> Controls:
    """Read the headers that say what one request wants. Raises APIError 400 for a senseless one."""
    read = write = True
    max_age: float | None = None
    for directive in ",".join(headers.getlist("cache-control")).split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name == "no-cache":
            read = False
        elif name == "no-store":
            write = False
        elif name == "max-age":
            if not _SECONDS.fullmatch(value):
                raise _senseless("cache-control", "max-age must be whole seconds: max-age=60")
            max_age = float(value)
    tags = _tags(headers.get(TAGS_HEADER))
    return Controls(read, write, _ttl(headers.get(TTL_HEADER)), tags, namespace, max_age)


def _tags(value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if not _TAGS.fullmatch(value):
        rule = f"must be 1 to {MAX_TAGS} tags of 1 to 64 letters of ASCII: prices, shop-7"
        raise _senseless(TAGS_HEADER, rule)
    return tuple(dict.fromkeys(tag.strip() for tag in value.split(",")))


def _ttl(value: str | None) -> float | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or not 0 < float(value) <= LONGEST_TTL_S:
        raise _senseless(TTL_HEADER, f"must be seconds above 0, at most {LONGEST_TTL_S}: 3600")
    return float(value)


def _senseless(name: str, rule: str) -> APIError:
    return APIError(400, f"{name}: {rule}", code="bad_header", param=name)


T = TypeVar("T")

logger = logging.getLogger("tiered_cache")

OK = 200


UNREADABLE = (TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError)
"""What goes wrong in bodies that are not what they should be."""


def endpoint_of(on: Service, upstream: Upstream, http: Request) -> Endpoint:
    """Return whom a request is to, with all of it that is not in its body."""
    query = http.query_params
    found = {name: query.getlist(name) for name in query}
    found_once = {name: one[0] if len(one) == 1 else one for name, one in found.items()}
    headers = {name: ", ".join(http.headers.getlist(name)) for name in scoped_headers(http)}
    ignore = frozenset(on.cache.options.ignore_headers)
    return replace(upstream.endpoint, query=found_once, headers=headers, ignore=ignore)


def upstream_of(on: Service, http: Request, body: object, path: str) -> Upstream:
    """Return the upstream of a request. Raises APIError 404 for a model that none has."""
    return on.upstreams.of(model_of(body), path, name=http.scope.get(NAMED))


async def check_body(on: Service, body: object, content: bytes) -> None:
    """Refuse a body that may not go out with the server's credential, off the loop if it is large.

    Raises APIError: 403 for one that names what an account stores, 400 for one that is no JSON, of
    which nobody knows what the upstream reads in it.
    """
    if body is None:
        raise APIError(400, "the body is no JSON", code="invalid_json")
    await unhurried(content, lambda: check_objects(body, content, on.settings.objects))


def model_of(body: object) -> object:
    """Return the model that a body names."""
    return body.get("model") if isinstance(body, Mapping) else None


@dataclass(slots=True)
class _Asked:
    """What is known of a request once its body was read; ``request`` None: no identity."""

    body: Any
    request: CacheRequest | None = None
    outcome: Miss | Explore | None = None


class Forwarding:
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
        self._upstream: Upstream

    async def response(self) -> Response:
        """Return what the client is sent.

        Raises APIError for a body that is more than the server takes, and if the upstream cannot
        be reached.
        """
        await self._read()
        if self._upstream.pays_for(self._caller):
            await check_body(self._on, self._asked.body, self._content)
        if self._on.cache.answers.rewrites:
            await self._prepare()
        reply = await self._safely(self._looked_up)
        if reply is not None:
            return reply
        flight: Flight | None = None
        if self._asked.request is not None:
            hit, flight = await self._joined(self._asked.request)
            if hit is not None:
                reply = await self._safely(lambda: self._reply(hit, SHARED))
                if reply is not None:
                    return reply
        try:
            return await self._passed_on(flight)
        except BaseException as error:
            self.finish(flight, error)
            raise

    # -------------------------------------------------------------------------- from the cache

    async def _read(self) -> None:
        try:
            self._asked.body = await parsed(self._content)
        except ValueError:
            self._asked.body = None  # the upstream says what is wrong with it
        self._upstream = upstream_of(self._on, self._http, self._asked.body, self._dialect.path)

    async def _prepare(self) -> None:
        """Have a follow-up rewritten, while no thread of the few that look up waits for a model."""
        cache, request = self._on.cache, await self._safely(self._request)
        if request is not None:
            with controlling(cache, self._controls):
                prepared = cache.answers.prepare(cache.on_loop, request)
                await or_else(None, self._failed, "lookup", prepared)

    def _request(self) -> CacheRequest | None:
        """Return the request of a body, None if it has no identity."""
        if self._asked.request is None:
            try:
                endpoint = endpoint_of(self._on, self._upstream, self._http)
                self._asked.request = self._dialect.request_of(endpoint, self._asked.body)
            except UNREADABLE:
                return None  # the upstream says what is wrong with it
        return self._asked.request

    def _looked_up(self) -> Response | None:
        """Look up the answer to a body. Blocks."""
        if (request := self._request()) is None:
            return None
        outcome = self._on.cache.lookup(request)
        if not isinstance(outcome, Hit):
            self._asked.outcome = outcome
            return None
        self._asked.outcome = Miss("format")  # should the reply fail
        reply = self._reply(outcome, str(outcome.tier))
        self._on.activity.record_hit(request.question, outcome, self._namespace, request.model)
        return reply

    def _reply(self, hit: Hit, tier: str) -> Response:
        return reply_of(hit, tier, self._dialect, self._asked.body, hidden=self._hidden)

    async def _joined(self, request: CacheRequest) -> tuple[Hit | None, Flight | None]:
        cache = self._on.cache
        with controlling(cache, self._controls):
            waited = cache.answers.wait(cache.on_loop, request)
            return await or_else((None, None), self._failed, "lookup", waited)

    def _failed(self, doing: str, error: Exception) -> None:
        self._on.cache.count_error("service")

    async def _safely(self, work: Callable[[], T]) -> T | None:
        """Do what blocks off the event loop, with this request's controls; None if it fails."""
        cache = self._on.cache
        with controlling(cache, self._controls):
            return await or_else(None, self._failed, "lookup", cache.on_loop.run(work))

    # ------------------------------------------------------------------------ from the upstream

    async def _passed_on(self, flight: Flight | None) -> Response:
        path = self._dialect.path
        answered = await self._upstream.ask(self._http, self._caller, self._content, path=path)
        if answered.headers.get("content-type", "").startswith(sse.MEDIA_TYPE):
            return Relay(answered, self, flight)
        try:
            with reached():
                content = await answered.aread()
        finally:
            await answered.aclose()
        entry_id = None
        if answered.status_code == OK and self._asked.request is not None:
            answer = await self._safely(lambda: self._answer(content))
            if answer is not None:
                entry_id = await self.keep(answer, flight)
        self.finish(flight)
        found = Response(content, answered.status_code)
        length = [(b"content-length", str(len(content)).encode())]
        found.raw_headers = [*returned(answered), *length, *self.headers(entry_id)]
        return found

    def headers(self, entry_id: str | None = None) -> RawHeaders:
        """Return the headers that say what the cache did."""
        if self._hidden:
            return []
        own = describe(self._asked.outcome, entry_id)
        return [(name.encode(), value.encode("latin-1")) for name, value in own.items()]

    def _answer(self, content: bytes) -> Answer | None:
        """Return the answer that a body holds; None: the client has it, and nobody else will."""
        try:
            return self._dialect.answer_of(json.loads(content))
        except UNREADABLE:
            return None

    async def keep(self, answer: Answer, flight: Flight | None) -> str | None:
        """Keep an answer that is whole and return its entry id."""
        cache, request = self._on.cache, self._asked.request
        if request is None:
            return None
        self._on.activity.answered(request.model, answer.usage)
        with controlling(cache, self._controls):
            kept = keep(cache, cache.on_loop, request, answer, flight)
            return await or_else(None, self._failed, "store", kept)

    def recording(self) -> StreamRecording:
        """Return what notes the events of a stream."""
        return self._dialect.recording()

    def broke_off(self, error: httpx.HTTPError) -> None:
        """Count and log that a stream of the upstream broke off."""
        self._upstream.ended("cut")
        logger.warning("a stream of the upstream broke off (%s)", type(error).__name__)

    def finish(self, flight: Flight | None, error: BaseException | None = None) -> None:
        """Let those who wait go on, with what arrived or without."""
        if flight is not None:
            self._on.cache.answers.finish(flight, error)


class Relay(StreamingResponse):
    """A stream of the upstream on its way to the client, who gets it as it comes.

    What breaks off there breaks off here. The last piece waits until the answer is kept, so that
    who asks again is answered by the cache.
    """

    def __init__(
        self, answered: httpx.Response, exchange: Forwarding, flight: Flight | None
    ) -> None:
        super().__init__(self._pieces(), answered.status_code)
        self.raw_headers = [*returned(answered), *exchange.headers()]
        self._answered, self._exchange, self._flight = answered, exchange, flight
        self._events, self._recording = sse.Events(), exchange.recording()
        self._is_readable = True
        self._held: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends, breaks off or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.finish(self._flight)
            with anyio.CancelScope(shield=True):
                await self._answered.aclose()

    async def _pieces(self) -> AsyncIterator[bytes]:
        pieces = self._answered.aiter_bytes()
        finish = partial(self._exchange.finish, self._flight)
        async for piece in arecorded(self._until_done(pieces), self, self._keep, finish):
            yield piece
        async for piece in pieces:  # to its end, or the connection could not be used again
            yield piece

    async def _until_done(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in pieces:
                yield piece
                if self._held:
                    return
        except httpx.HTTPError as error:
            self._exchange.broke_off(error)
            raise

    async def _keep(self, answer: Answer) -> str | None:
        try:
            return await self._exchange.keep(answer, self._flight)
        finally:
            self._exchange.finish(self._flight)

    # ---------------------------------------------------------- how compute records the stream

    def take(self, piece: bytes) -> tuple[bytes, ...]:
        """Note the events that a piece completes; hold it back if the stream says that it ends."""
        for data in self._events.feed(piece):
            if self._ends_with(data):
                self._held = [piece]
        return () if self._held else (piece,)

    def _ends_with(self, data: str) -> bool:
        if self._is_readable:
            try:
                return self._recording.note(data)
            except UNREADABLE:
                self._is_readable = False  # it is passed on all the same, and not kept
        return data == sse.DONE

    def whole(self) -> Answer | None:
        """Return the answer of the stream that ended, None if it is not whole."""
        if not self._is_readable or self.status_code != OK:
            return None
        try:
            answer, is_whole = self._recording.answer()
        except UNREADABLE:
            return None
        return answer if is_whole else None

    def rest(self, entry_id: str | None) -> list[bytes]:
        """Return the last piece, which waited until the answer was kept."""
        return self._held
