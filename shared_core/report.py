"""Read from a store what its caches did, for ``tiered-cache stats``; nothing is written.

store --counters, policy--> Stats --lines--> text
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote

from shared_core.stats import Stats, counts_of_all, policy_of_all, stats_of
from shared_core.stores import KeyValue, open_store, without_password

_PATIENCE_S = 5.0
"""How long a person waits for a store."""


def read_stats(url: str, namespace: str = "default", untouched: bool = False) -> Stats:
    """Return what all processes ever did on a store, up to the last seconds.

    Changes nothing in the store and loads no model; ``untouched``: makes no files beside an SQLite
    file either, and then reads none whose last process died. Latencies are known to the processes
    alone. Raises ValueError for a URL without anything to read, naming the remedy, StoreError for a
    store that fails, ImportError for an extra that is missing.
    """
    if url.startswith("memory:"):
        raise ValueError(f"{url} lives inside the app: call cache.stats() there")
    values, close = _open(url, untouched)
    try:
        counts, policy = counts_of_all(values, namespace), policy_of_all(values, namespace)
    finally:
        close()
    if not counts:
        raise ValueError(
            f"nothing was counted in namespace {namespace!r} of {without_password(url)}: an app "
            "writes its counters about once a second, and when it closes its cache"
        )
    return stats_of(counts, policy=policy or {}, breakers={}, latencies={})


def _open(url: str, untouched: bool) -> tuple[KeyValue, Callable[[], object]]:
    if url.startswith("sqlite:///"):
        from shared_core.stores import ReadOnlyFile

        file = ReadOnlyFile(unquote(url.removeprefix("sqlite:///")), _PATIENCE_S, untouched)
        return file.values(time.time), file.close
    store = open_store(url, timeout=_PATIENCE_S)
    return store, store.close


def stats_as_json(stats: Stats) -> dict[str, Any]:
    """Return the statistics as JSON values."""
    return asdict(stats)


def stats_lines(stats: Stats) -> Iterator[tuple[str, str]]:
    """Yield what a person wants to know, as a name and a text, the most wanted first."""
    yield "lookups", f"{stats.lookups:,}"
    yield "hits", f"{stats.hits:,} ({_percent(stats.hit_rate)})"
    for tier, hits in stats.hits_by_tier.items():
        yield f"  {tier}", f"{hits:,} ({_percent(stats.rates_by_tier[tier])})"
    yield "explores", f"{stats.explores:,}, asked of the model to learn from its answer"
    misses = sorted(stats.misses.items(), key=lambda each: -each[1])
    yield "misses", f"{sum(stats.misses.values()):,}"
    for reason, count in misses:
        yield f"  {reason}", f"{count:,}"
    yield from _of_policy(stats)
    if stats.shadow is not None:
        shadow = stats.shadow
        yield "shadow", f"would have served {shadow.served:,} of {stats.lookups:,} by meaning"
        judged = f"{shadow.wrong:,} of {shadow.judged:,} judged wrong"
        yield "", f"{judged} {_interval(shadow.interval)}" if shadow.judged else "none judged yet"
    if stats.tokens_saved:
        tokens = ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in stats.tokens_saved.items()
        )
        money = "" if stats.money_saved is None else f", ${stats.money_saved:,.2f}"
        yield "saved", f"{tokens}{money}"
    if stats.provider_cached_tokens:
        yield "provider's cache", f"{stats.provider_cached_tokens:,} input tokens of misses"
    if stats.advice:
        yield "advice", stats.advice
    for kind, count in sorted(stats.errors.items()):
        yield f"error, {kind}", f"{count:,}, not seen by the app"


def _of_policy(stats: Stats) -> Iterator[tuple[str, str]]:
    policy = stats.policy
    if policy:
        told = ("threshold", "max_error", "per")
        settings = ", ".join(f"{name} {policy[name]}" for name in told if name in policy)
        yield "policy", f"{policy.get('policy', 'not named')}{settings and ': '}{settings}"
    if stats.progress is not None:
        yield "learning", stats.progress
    if stats.error_per_hit is None:
        yield "wrong answers", f"no estimate yet, {stats.labels:,} labels"
        return
    yield (
        "wrong per hit",
        f"{_percent(stats.error_per_hit)} {_interval(stats.error_interval)}, "
        f"from {stats.labels:,} labels",
    )
    if stats.error_per_request is not None:
        interval = _interval(stats.error_per_request_interval)
        yield "wrong per request", f"{_percent(stats.error_per_request)} {interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"  # noqa: PLR2004


def _interval(interval: tuple[float, float]) -> str:
    """Spell a 95 % interval."""
    low, high = interval
    return f"[{_percent(low)}, {_percent(high)}]"
