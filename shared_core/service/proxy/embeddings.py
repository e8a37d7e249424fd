"""Answer ``/v1/embeddings``: known vectors from the cache, the others by the upstream.

body --Wanted--> texts or tokens -> vectors --floats or base64--> body
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import Request, Response

from shared_core.controls import controlling
from shared_core.embedding_cache import Vector
from shared_core.harmless import header_identity
from shared_core.service.access import Caller
from shared_core.service.body import parsed
from shared_core.service.dependencies import Service, namespace_of
from shared_core.service.proxy.completions import (
    OK,
    STATUS,
    UNREADABLE,
    check_body,
    controls_for,
    describe,
    endpoint_of,
    upstream_of,
)
from shared_core.service.upstream import Upstream, reached, returned

PATH = "embeddings"
_NO_MATTER = frozenset({"input", "encoding_format", "user"})
"""Fields of a body on which no vector depends."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a body asks for: ``inputs`` by the text that stands for each, ``texts`` in their order.

    ``model`` is all that vectors depend on but the input; ``role`` tells texts from tokens.
    """

    body: Mapping[str, Any]
    model: dict[str, Any]
    role: str
    texts: list[str]
    inputs: dict[str, Any]

    @classmethod
    def of(cls, body: Any, endpoint: dict[str, Any]) -> Wanted:
        """Read a body. Raises ``UNREADABLE`` for one whose vectors cannot be told apart."""
        model = {name: value for name, value in body.items() if name not in _NO_MATTER}
        if not isinstance(model["model"], str):
            raise TypeError("model must be a text")
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise ValueError("an unknown encoding")
        given = body["input"]
        several = isinstance(given, list) and not (given and isinstance(given[0], int))
        inputs = given if several else [given]
        if not inputs or not all(isinstance(one, type(inputs[0])) for one in inputs):
            raise TypeError("inputs must be texts, or lists of tokens")
        if not isinstance(inputs[0], (str, list)) or not all(inputs):
            raise TypeError("inputs must be texts, or lists of tokens")
        role = "text" if isinstance(inputs[0], str) else "tokens"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in inputs]
        return cls(body, {**endpoint, **model}, role, texts, dict(zip(texts, inputs, strict=True)))

    @property
    def is_packed(self) -> bool:
        """Say whether vectors are wanted as base64 of float32."""
        return self.body.get("encoding_format") == "base64"


class UpstreamError(Exception):
    """What the upstream said, if it is no vectors: the client gets it as it is."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(slots=True)
class _Asking:
    """Asks the upstream for what is not known, and keeps what it said."""

    on: Service
    upstream: Upstream
    http: Request
    caller: Caller
    content: bytes
    wanted: Wanted | None
    whole: Response | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    async def vectors(self, new: list[str]) -> list[Vector]:
        """Return the vectors of new texts. Raises ``Said``, and APIError as ``ask`` does."""
        wanted = self.wanted
        assert wanted is not None  # noqa: S101 - else nothing is looked up
        is_all = new == wanted.texts
        content = self.content
        if not is_all:
            body = {**wanted.body, "input": [wanted.inputs[text] for text in new]}
            content = json.dumps(body).encode()
        response = await self.passed_on(content)
        if response.status_code != OK:
            raise UpstreamError(response)
        try:
            vectors = await self.on.cache.on_loop.run(lambda: self._read(response, len(new)))
        except UNREADABLE:
            raise UpstreamError(
                response if is_all else await self.passed_on(self.content)
            ) from None
        self.whole = response if is_all else None
        return vectors

    async def passed_on(self, content: bytes) -> Response:
        """Return what the upstream says to a body."""
        answered = await self.upstream.ask(self.http, self.caller, content, path=PATH)
        try:
            with reached():
                said = await answered.aread()
        finally:
            await answered.aclose()
        response = Response(said, answered.status_code)
        length = [(b"content-length", str(len(said)).encode())]
        response.raw_headers = [*returned(answered), *length]
        return response

    def _read(self, response: Response, count: int) -> list[Vector]:
        body = json.loads(bytes(response.body))
        found = sorted(body["data"], key=lambda one: one["index"])
        if [one["index"] for one in found] != list(range(count)):
            raise ValueError("not a vector for each input")
        vectors = [_vector(one["embedding"]) for one in found]
        self.usage, self.model = dict(body.get("usage") or {}), body.get("model")
        return vectors


async def embedded(on: Service, http: Request, caller: Caller, content: bytes) -> Response:
    """Return the vectors that a request asks for. Raises APIError."""
    controls = controls_for(http.headers, namespace_of(caller, http))
    try:
        body = await parsed(content)
    except ValueError:
        body = None  # the upstream says what is wrong with it
    upstream = upstream_of(on, http, body, PATH)
    if upstream.pays_for(caller):
        await check_body(on, body, content)
    endpoint = endpoint_of(on, upstream, http)
    headers = header_identity(endpoint.headers, ignore=endpoint.ignore)
    where = {"base_url": endpoint.base_url, "query": dict(endpoint.query), "headers": headers}
    if endpoint.more:
        where["more"] = endpoint.more
    asking = _Asking(on, upstream, http, caller, content, None)
    try:
        wanted = asking.wanted = Wanted.of(body, where)
    except (*UNREADABLE, KeyError):
        return _with_headers(on, await asking.passed_on(content), describe(None))
    try:
        with controlling(on.cache, controls):
            vectors = await on.embeddings.aembedded(
                wanted.model, wanted.role, wanted.texts, asking.vectors
            )
    except UpstreamError as said:
        return _with_headers(on, said.response, {STATUS: "miss"})
    if asking.whole is not None:
        return _with_headers(on, asking.whole, {STATUS: "miss" if controls.read else "bypass"})
    composed = await on.cache.on_loop.run(lambda: _composed(wanted, vectors, asking))
    response = Response(composed, media_type="application/json")
    if asking.model is not None:
        return _with_headers(on, response, {STATUS: "miss"})
    return _with_headers(on, response, {STATUS: "hit", f"{STATUS}-tier": "exact"})


def _with_headers(on: Service, response: Response, headers: Mapping[str, str]) -> Response:
    if not on.settings.hide_headers:
        response.raw_headers += [(name.encode(), value.encode()) for name, value in headers.items()]
    return response


def _composed(wanted: Wanted, vectors: list[Vector], asking: _Asking) -> bytes:
    shape = _packed if wanted.is_packed else list
    data = [
        {"object": "embedding", "index": i, "embedding": shape(vector)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0, **asking.usage}
    model = asking.model or wanted.body["model"]
    return json.dumps({"object": "list", "data": data, "model": model, "usage": usage}).encode()


def _vector(value: Any) -> Vector:
    """Read a vector in either encoding. Raises ValueError or TypeError."""
    if isinstance(value, str):
        packed: Vector = np.frombuffer(base64.b64decode(value, validate=True), "<f4").tolist()
        return packed
    return [float(number) for number in value]


def _packed(vector: Vector) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
