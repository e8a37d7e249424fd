"""What ``cache`` may be wherever this package takes one: a ``ResponseCache``, or a URL."""

from __future__ import annotations

from shared_core.cache import ResponseCache


def open_cache(cache: ResponseCache | str) -> ResponseCache:
    """Return the cache, or open the one that a URL names. Raises ValueError for anything else."""
    return _opened(cache, semantic=True)


def open_values(cache: ResponseCache | str) -> ResponseCache:
    """Do as ``open_cache`` does, for one whose values alone are used: it embeds nothing."""
    return _opened(cache, semantic=False)


def _opened(cache: ResponseCache | str, semantic: bool) -> ResponseCache:
    if isinstance(cache, ResponseCache):
        return cache
    if isinstance(cache, str):
        return ResponseCache.open(cache, semantic=semantic)
    raise ValueError(f"cache must be a ResponseCache or the URL of one, not {cache!r}")
