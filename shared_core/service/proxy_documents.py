"""What OpenAPI says of the proxy: what it reads itself; the rest is the upstream's to say."""

from __future__ import annotations

from typing import Any

from shared_core.service.proxy_controls import (
    MOST_TAGS,
    TAG,
    TAGS_HEADER,
    TTL_HEADER,
)
from shared_core.service.refusals import responses
from shared_core.service.state import NAMESPACE_HEADER

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


_TAGS = rf"^{TAG}( ?, ?{TAG}){{0,{MOST_TAGS - 1}}}$"
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
    own: dict[Any, Any] = responses(400, 401, 413, 429, 431, 502, 504)
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
COMPLETIONS = _document(
    {"prompt": {"type": "string"}},
    _STREAM,
    {"model": "gpt-3.5-turbo-instruct", "temperature": 0, "prompt": "A fuse is"},
    streams=True,
)
EMBEDDINGS = _document(
    {"input": {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": TEXT}]}},
    {},
    {"model": "text-embedding-3-small", "input": ["What is a fuse?"]},
    streams=False,
)
