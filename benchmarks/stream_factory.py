"""Caches for a judge of request streams that drives any cache through its lookup and update.

    python JUDGE/judge.py langchain stream_factory:tiered dev --mode request --max-error .02

Run from ``benchmarks``, with the folder of the project in PYTHONPATH. The vectors are the judge's
own, if its folder has ``streams.embedder``. STORE, an environment variable, says where the cache
lives: "memory://" (the default), "sqlite:///FILE", "redis://…"; each stream has a namespace of its
own there, and is cleared before.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, Literal

from streams import embedder

from langchain_tiered_cache import TieredCache
from shared_core import Verified


def tiered(
    stream: str, *, max_error: float, per: Literal["hit", "request"], split: str, order: int
) -> Any:
    """Build one empty cache with the verified policy."""
    return TieredCache(
        os.environ.get("STORE", "memory://"),
        threshold=Verified(max_error=max_error, per=per),
        embedder=embedder(),
        namespace=f"{stream}-{split}-{order}-{uuid.uuid4().hex[:8]}",
        timeout=2.0,
    )
