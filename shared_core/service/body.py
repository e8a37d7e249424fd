"""Bodies of requests: read within bounds, so that none of them holds up the others.

bytes --how much, how deep?--> JSON, of which no object has a key twice

Python reads JSON in one call that lets nothing else run. What such a call may have to do is bounded
by counting, a megabyte at a time, before it is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from shared_core.service.errors import APIError

T = TypeVar("T")

MAX_DEPTH = 64
"""How deep lists and objects may lie in each other."""

MAX_VALUES = 100_000
"""How many values, keys among them, a body may have."""

MAX_ESCAPES = 2_000_000
"""How many backslashes a body may have."""

MAX_MESSAGES = 2_000
"""How many messages, or items of an input, a request may have."""

_SMALL = 32 * 2**10
"""A body of fewer bytes is read at once, on the event loop too."""

_SLICE = 2**20
_NO_BACKSLASH = re.compile(rb"[^\\]")
_BRACKETS = re.compile(rb"[\[{]+|[\]}]+")
_NAMED = ("messages", "input", "items")


def read_json(content: bytes) -> Any:
    """Read a body. Blocks, for a large one.

    Raises ValueError for what is no JSON, and APIError: 413 or 422 for more than a request may
    have, 422 for a key that an object has twice, of which no two readers take the same.
    """
    check_bounds(content)
    body = json.loads(content.strip(), object_pairs_hook=_object)  # json skips spaces slowly
    if isinstance(body, dict):
        for name in _NAMED:
            several = body.get(name)
            if isinstance(several, list) and len(several) > MAX_MESSAGES and not _is_plain(several):
                raise _too_much(f"{name} has more than {MAX_MESSAGES:,} items", name)
    return body


def _is_plain(several: list[Any]) -> bool:
    """Say whether a list holds texts or numbers, as the inputs of embeddings are."""
    return not any(isinstance(one, dict) for one in several)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise APIError(422, "an object of the body has one key twice", code="duplicate_key")
    return found


def check_bounds(content: bytes) -> None:
    """Count what a body holds before anything reads it. Raises APIError 413 or 422."""
    if len(content) < 2 * MAX_DEPTH:
        return
    if len(content) > _SMALL:
        _check_escapes(content)
    elif content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return  # neither deep nor large: almost all bodies
    values = depth = 0
    for part in _structure(content):
        values += part.count(b",") + part.count(b"[") + part.count(b"{") + part.count(b":")
        if values > MAX_VALUES:
            raise _too_much(f"the body has more than {MAX_VALUES:,} values")
        for found in _BRACKETS.finditer(part):
            run = len(found[0])
            depth += run if found[0][0] in b"[{" else -run
            if depth > MAX_DEPTH:
                raise _too_much(f"the body is more than {MAX_DEPTH} levels deep")


def _check_escapes(content: bytes) -> None:
    seen = 0
    for start in range(0, len(content), _SLICE):
        seen += content.count(b"\\", start, start + _SLICE)
    if seen > MAX_ESCAPES:
        raise _too_large(f"the body has more than {MAX_ESCAPES:,} escapes")


def _structure(content: bytes) -> Iterator[bytes]:
    """Yield what stands outside of texts, a slice at a time. Raises APIError 422."""
    start, inside, texts = 0, False, 0
    while start < len(content):
        end = start + _SLICE
        if content[end - 1 : end] == b"\\":  # an escape is not cut in two
            found = _NO_BACKSLASH.search(content, end)
            end = len(content) if found is None else found.end()
        part = content[start:end]
        if b"\\" in part:
            part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = part.count(b'"')
        texts += quotes
        if texts > 2 * MAX_VALUES:
            raise _too_much(f"the body has more than {MAX_VALUES:,} texts")
        pieces = part.split(b'"')
        yield b"".join(pieces[1::2] if inside else pieces[::2])
        inside ^= bool(quotes % 2)
        start = end


def _too_much(message: str, param: str | None = None) -> APIError:
    return APIError(422, message, code="too_much", param=param)


def _too_large(message: str) -> APIError:
    return APIError(413, message, code="body_too_large")


class BoundedRoute(APIRoute):
    """A route of the service's own API, whose body is read by ``read_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request of this route."""
        serve = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            content = await request.body()
            if content:
                try:
                    request._json = await parsed(content)
                except ValueError:
                    raise APIError(422, "the body is no JSON", code="invalid_request") from None
            return await serve(request)

        return bounded


async def parsed(content: bytes) -> Any:
    """Read a body as ``read_json`` does, off the event loop if it is large. Raises as it does."""
    return await unhurried(content, lambda: read_json(content))


async def unhurried(content: bytes, work: Callable[[], T]) -> T:
    """Do work on a body, off the event loop if it is large. Raises what it raises."""
    return work() if len(content) < _SMALL else await run_in_threadpool(work)
