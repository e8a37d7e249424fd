"""What the service must know of a cache that the cache's own users need not."""

from __future__ import annotations

from typing import Literal

from shared_core.cache import ResponseCache
from shared_core.entry_id import EntryId
from shared_core.request import Request
from shared_core.resilience import Unavailable
from shared_core.stores.time_limit import allowance

PROBE = "is it there?"


def owner_of(cache: ResponseCache, entry_id: str) -> str | None:
    """Return the namespace of a served entry; None if it is not there, or the store is not."""
    path, serving = cache._path, EntryId.parse(entry_id)
    if serving is None:
        return None
    try:
        with allowance(cache.options.timeout):
            record = path.fuse.call(path._store.get, serving.record)
    except Unavailable:
        return None
    return None if record is None else record.namespace.removesuffix(path._seal)


def has(cache: ResponseCache, request: Request, namespace: str) -> bool:
    """Say whether an answer of exactly this request is there; nothing is counted."""
    with cache.control(namespace=namespace), allowance(cache.options.timeout):
        return cache._path.peek(request) is not None


def store_state(cache: ResponseCache) -> Literal["ok", "down"]:
    """Say whether the store answers."""
    try:
        with allowance(cache.options.timeout):
            cache._path.fuse.call(cache.values.get_many, [PROBE])
    except Unavailable:
        return "down"
    return "ok"


def embedder_state(cache: ResponseCache) -> Literal["ok", "loading", "down", "off"]:
    """Say whether vectors can be had; without a load in the background, load the model for that."""
    semantic = cache._path.semantic
    if semantic is None:
        return "off"
    if not semantic.reader.ready:
        return "loading"
    try:
        semantic.reader.embed(PROBE)
    except Unavailable:
        return "down"
    return "ok"
