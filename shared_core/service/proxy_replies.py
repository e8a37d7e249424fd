"""What a client is sent: an answer of the cache as a body or as a stream, and the cache's headers.

Hit --reply_of--> 200, x-tiered-cache: hit, …          Miss --told_of--> x-tiered-cache: miss, …
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from fastapi import Response

from shared_core.record import Answer, Explore, Hit, Miss
from shared_core.service import sse
from shared_core.service.proxy_dialects import Body, Dialect, Head, usage_as_told

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
    counts = bool((body.get("stream_options") or {}).get("include_usage"))
    content = b"".join(_events(dialect, hit.answer, head, counts))
    return Response(content, headers=headers, media_type=f"{sse.MEDIA_TYPE}; charset=utf-8")


def _events(dialect: Dialect, answer: Answer, head: Head, counts: bool) -> Iterator[bytes]:
    usage = usage_as_told(answer.usage) if counts else None
    last: Mapping[str, Any] = {}
    for chunk in dialect.chunks(answer, head):
        last = {**chunk, "usage": None} if counts else chunk
        yield sse.event(json.dumps(last))
    if usage is not None:
        yield sse.event(json.dumps({**last, "choices": [], "usage": usage}))
    yield sse.event(sse.DONE)


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


def told_of(outcome: Miss | Explore | None, entry_id: str | None = None) -> dict[str, str]:
    """Return the headers of what the upstream answered; None: the cache was not asked."""
    if outcome is None or outcome.reason == "bypassed":
        told = {STATUS: "bypass"}
    else:
        told = {STATUS: "miss", f"{STATUS}-reason": outcome.reason}
    return told if entry_id is None else {**told, f"{STATUS}-entry-id": entry_id}
