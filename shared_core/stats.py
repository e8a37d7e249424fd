"""Count what one cache object did, add up all processes, and say it with intervals: ``Stats``.

Counters --BackgroundFlush--> store --read_stats--> Stats --stats_lines--> text
"""

from __future__ import annotations

import atexit
import json
import math
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

from shared_core.advice import advice_of
from shared_core.concurrency import renew_after_fork
from shared_core.record import Explore, Hit, Miss, Outcome, Tier
from shared_core.resilience import Unavailable, swallow
from shared_core.stores import KeyValue, open_store, without_password
from shared_core.usage import money_saved, saved_by, tokens_saved

MAX_LATENCIES = 2048


class Counters:
    """Thread-safe counts by name, and the newest latencies by tier.

    Names are flat texts such as ``hits:exact`` or ``misses:guard``, so that a store can add up
    those of every process.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._flushed: Counter[str] = Counter()
        self._latencies: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Keep the parent's counts out of the child: they are the parent's to report."""
        self.__init__()  # type: ignore[misc]  # a child starts as a new object does

    def add(self, name: str, amount: int = 1) -> None:
        """Count one more."""
        with self._lock:
            self._counts[name] += amount

    def count_lookup(self, outcome: Outcome, model: str, latency: float) -> None:
        """Count how a lookup ended, the tokens that it saved, and its latency in seconds."""
        amounts = {"lookups": 1}
        match outcome:
            case Hit(answer=answer, tier=tier):
                kind = str(tier)
                amounts[f"hits:{kind}"] = 1
                if answer.usage:
                    for name, saved in saved_by(answer.usage, model).items():
                        amounts[f"saved:{name}"] = saved
            case Miss(reason=reason):
                kind = "miss"
                amounts[f"misses:{reason}"] = 1
            case Explore():
                kind = "explore"
                amounts["explores"] = 1
        prefix = None if isinstance(outcome, Hit) else outcome.prefix
        if prefix is not None and prefix.blocks:
            amounts |= {"prefix:hits": 1, "prefix:tokens": prefix.tokens_estimate}
        with self._lock:
            for name, amount in amounts.items():
                self._counts[name] += amount
            kept = self._latencies.get(kind)
            if kept is None:
                kept = self._latencies[kind] = deque(maxlen=MAX_LATENCIES)
            kept.append(latency)

    def count_call(self, usage: object) -> None:
        """Count what the provider's own prompt cache had of a call, and took in."""
        for name in ("cached_tokens", "cache_write_tokens"):
            count = usage.get(name) if isinstance(usage, Mapping) else None
            if isinstance(count, int) and count > 0:
                self.add(f"provider:{name}", count)

    def counts(self) -> dict[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)

    def latencies(self) -> dict[str, list[float]]:
        """Return the newest latencies by tier, in seconds."""
        with self._lock:
            return {tier: list(kept) for tier, kept in self._latencies.items()}

    def take_unflushed(self) -> dict[str, int]:
        """Return what was counted since the last call."""
        with self._lock:
            flushed, self._flushed = self._flushed, self._counts.copy()
            return {
                name: n - flushed[name] for name, n in self._counts.items() if n != flushed[name]
            }

    def give_back(self, amounts: Mapping[str, int]) -> None:
        """Undo ``take_unflushed``, after a failure to write."""
        with self._lock:
            self._flushed.subtract(amounts)


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a cache in shadow mode would have served by meaning, and what the judge said of it.

    ``judged`` of the ``served`` have a verdict, ``wrong`` of them a bad one; ``error`` is their
    share, None before the first, ``interval`` its 95 % Wilson score interval.
    """

    served: int
    judged: int
    wrong: int
    error: float | None
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache did. Rates are shares of lookups; explores are not hits.

    ``coalesced`` counts the misses that were answered by the model call of another. ``feedback``
    counts what was said of answers by its source, and as "unknown" what named none that is kept.
    ``policy`` describes the threshold policy, ``progress`` says how far it is while it learns too
    little to serve ("34 of about 80 labels"). ``error_per_hit`` is the estimated share of wrong
    answers among semantic hits, ``error_per_request`` among the lookups that the exact tier left,
    each with its 95 % interval; None before there is an estimate. ``labels`` are those behind it: a
    policy's own if it estimates its errors, else what ``feedback`` said of hits, with a Wilson
    score interval. ``shadow`` is None unless the cache ran in shadow mode. ``latency`` holds
    seconds: p50, p90, p99 by tier ("miss" included). ``money_saved`` is in US dollars, None when no
    price of the models is known. ``prefix_hits`` are explores and misses of whose prompt some front
    was sent before, ``prefix_tokens`` an estimate of what those fronts hold. By the providers'
    count, their prompt caches had ``provider_cached_tokens`` of the calls whose answers were
    stored, and took in ``provider_cache_write_tokens``. ``advice`` says in a sentence or two what
    holds the cache back; "" if nothing does.

        stats: Stats = cache.stats()
        print(stats.hit_rate, stats.misses, stats.money_saved, stats.advice)
    """

    lookups: int
    hits: int
    hits_by_tier: Mapping[str, int]
    rates_by_tier: Mapping[str, float]
    hit_rate: float
    explores: int
    misses: Mapping[str, int]
    coalesced: int
    stores: int
    feedback: Mapping[str, int]
    policy: Mapping[str, Any]
    progress: str | None
    labels: int
    error_per_hit: float | None
    error_interval: tuple[float, float]
    error_per_request: float | None
    error_per_request_interval: tuple[float, float]
    shadow: Shadow | None
    errors: Mapping[str, int]
    breakers: Mapping[str, str]
    tokens_saved: Mapping[str, int]
    money_saved: float | None
    latency: Mapping[str, Mapping[str, float]]
    prefix_hits: int = 0
    prefix_tokens: int = 0
    provider_cached_tokens: int = 0
    provider_cache_write_tokens: int = 0
    advice: str = ""


def stats_of(
    counts: Mapping[str, int],
    *,
    policy: Mapping[str, Any],
    breakers: Mapping[str, str],
    latencies: Mapping[str, Iterable[float]],
) -> Stats:
    """Make ``Stats`` of flat counters."""
    hits = _under(counts, "hits:")
    lookups = counts.get("lookups", 0)
    errors = _errors(policy) or _errors_by_feedback(counts)
    saved = _under(counts, "saved:")
    return Stats(
        lookups=lookups,
        hits=sum(hits.values()),
        hits_by_tier={str(tier): hits.get(tier, 0) for tier in Tier},
        rates_by_tier={str(tier): hits.get(tier, 0) / lookups if lookups else 0.0 for tier in Tier},
        hit_rate=sum(hits.values()) / lookups if lookups else 0.0,
        explores=counts.get("explores", 0),
        misses=_under(counts, "misses:"),
        coalesced=counts.get("coalesced", 0),
        stores=counts.get("stores", 0),
        feedback=_under(counts, "feedback:"),
        policy=policy,
        progress=policy.get("learning"),
        labels=errors.labels,
        error_per_hit=errors.per_hit,
        error_interval=errors.hit_interval,
        error_per_request=errors.per_request,
        error_per_request_interval=errors.request_interval,
        shadow=_shadow(counts),
        errors=_under(counts, "errors:"),
        breakers=breakers,
        tokens_saved=tokens_saved(saved),
        money_saved=money_saved(saved),
        latency={tier: _percentiles(values) for tier, values in latencies.items()},
        prefix_hits=counts.get("prefix:hits", 0),
        prefix_tokens=counts.get("prefix:tokens", 0),
        provider_cached_tokens=counts.get("provider:cached_tokens", 0),
        provider_cache_write_tokens=counts.get("provider:cache_write_tokens", 0),
        advice=advice_of(counts, policy),
    )


@dataclass(frozen=True, slots=True)
class _Errors:
    """An estimate of the share of wrong answers, per hit and per request, with 95 % intervals."""

    labels: int
    per_hit: float | None
    hit_interval: tuple[float, float]
    per_request: float | None
    request_interval: tuple[float, float]


def _errors(policy: Mapping[str, Any]) -> _Errors | None:
    """Return what the policy estimates itself; None if it is of a kind that does not."""
    if "error_per_hit" not in policy:
        return None

    def interval(name: str) -> tuple[float, float]:
        low, high = policy.get(name) or (0.0, 1.0)
        return float(low), float(high)

    return _Errors(
        int(policy.get("labels") or 0),
        policy["error_per_hit"],
        interval("error_per_hit_95"),
        policy.get("error_per_request"),
        interval("error_per_request_95"),
    )


def _errors_by_feedback(counts: Mapping[str, int]) -> _Errors:
    """Estimate from feedback on semantic hits; their share of the requests is taken as known."""
    right, wrong = counts.get("labels:right", 0), counts.get("labels:wrong", 0)
    labels = right + wrong
    low, high = wilson(wrong, labels)
    if not labels:
        return _Errors(0, None, (low, high), None, (low, high))
    left = counts.get("lookups", 0) - counts.get("hits:exact", 0)
    share = min(1.0, counts.get("hits:semantic", 0) / left) if left > 0 else 1.0
    error = wrong / labels
    return _Errors(labels, error, (low, high), error * share, (low * share, high * share))


def _shadow(counts: Mapping[str, int]) -> Shadow | None:
    of = _under(counts, "shadow:")
    if not of:
        return None
    wrong = of.get("wrong", 0)
    judged = of.get("right", 0) + wrong
    error = wrong / judged if judged else None
    return Shadow(of.get("served", 0), judged, wrong, error, wilson(wrong, judged))


def _under(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (50, 90, 99)
        if ordered
    }


def wilson(wrong: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (95 % at z = 1.96); (0, 1) for no trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22
    (1927).
    """
    if of == 0:
        return 0.0, 1.0
    share, zz = wrong / of, z * z
    centre = share + zz / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + zz / (4 * of * of))
    return max(0.0, (centre - half) / (1 + zz / of)), min(1.0, (centre + half) / (1 + zz / of))


# What runs beside the requests: one daemon thread for a cache whose store is shared.


PERIOD_S = 1.0
COUNTERS_PREFIX = "stats:"
POLICY_PREFIX = "policy:"

TEACHING = ("stores", "explored:", "shadow:", "labels:")
"""Counters after which the policy may have other things to tell."""


class BackgroundFlush:
    """Calls ``flush`` once a second: what was counted goes to the store, what others learnt comes.

    The thread starts with the first request and ends when the cache is closed or no longer used.
    When the process ends with an open cache, what was counted since the last time is written too.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = weakref.WeakMethod(flush)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """A child has no thread yet; its first request starts one."""
        self._stop, self._thread, self._lock = threading.Event(), None, threading.Lock()

    def ensure(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is None and not self._stop.is_set():
            with self._lock:
                if self._thread is None:
                    _flush_at_exit(self)
                    self._thread = threading.Thread(
                        target=_run,
                        args=(self._flush, self._stop),
                        name="tiered-cache",
                        daemon=True,
                    )
                    self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def last(self) -> None:
        """Flush once more, unless the cache was closed or is gone."""
        call = self._flush()
        if call is not None and not self._stop.is_set():
            call()


_flushing: weakref.WeakSet[BackgroundFlush] = weakref.WeakSet()


def _flush_at_exit(one: BackgroundFlush) -> None:
    """Have a cache's counters written when the process ends: a short script never waits for it."""
    if not _flushing:
        atexit.unregister(_flush_all)
        atexit.register(_flush_all)
    _flushing.add(one)


def _flush_all() -> None:
    for one in list(_flushing):
        one.last()


def _run(flush: weakref.WeakMethod[Callable[[], None]], stop: threading.Event) -> None:
    while not stop.wait(PERIOD_S):
        call = flush()
        if call is None:
            return
        call()
        del call


def flush(
    counters: Counters,
    call: Callable[..., Any],
    store: KeyValue,
    namespace: str,
    *,
    catch_up: Callable[[], object] | None = None,
    describe: Callable[[], Mapping[str, Any]] | None = None,
    count_error: Callable[[str], None],
) -> None:
    """Add what was counted since the last time to the store's counters; keep it if that fails.

    What the policy has learnt is described beside them, for whoever has the store but not the app.
    And what others taught it is read here, so that no lookup waits for that.
    """
    if catch_up is not None:
        with suppress(Unavailable):  # counted
            call(catch_up)
    amounts = counters.take_unflushed()
    if not amounts:
        return
    named = {f"{COUNTERS_PREFIX}{namespace}:{name}": n for name, n in amounts.items()}
    try:
        call(store.increment, named)
    except Unavailable:
        counters.give_back(amounts)
        return
    if describe is not None and any(name.startswith(TEACHING) for name in amounts):
        swallow(count_error, "policy", _write_policy, call, store, namespace, describe)


def _write_policy(
    call: Callable[..., Any],
    store: KeyValue,
    namespace: str,
    describe: Callable[[], Mapping[str, Any]],
) -> None:
    described = json.dumps(describe(), default=str).encode()
    with suppress(Unavailable):  # counted
        call(store.put_many, {f"{POLICY_PREFIX}{namespace}": described})


def policy_of_all(values: KeyValue, namespace: str) -> Mapping[str, Any] | None:
    """Return what a process last described its policy as, None if none did. Raises StoreError."""
    key = f"{POLICY_PREFIX}{namespace}"
    try:
        described = json.loads(values.get_many([key]).get(key, b"null"))
    except ValueError:
        return None
    return described if isinstance(described, dict) else None


def counts_of_all(values: KeyValue, namespace: str) -> dict[str, int]:
    """Return the counters that every process flushed for a namespace. Raises StoreError."""
    prefix = f"{COUNTERS_PREFIX}{namespace}:"
    found: dict[str, int] = {}
    cursor = ""
    while True:
        keys, cursor = values.scan(prefix, cursor)
        for key, value in values.get_many(keys).items():
            found[key.removeprefix(prefix)] = int(value)
        if not cursor:
            return found


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
            "writes its counters about once a second, and when it closes its cache, all tenants' "
            "in the namespace that the cache was opened with"
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
        money = "" if stats.money_saved is None else f", {_dollars(stats.money_saved)}"
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
        shown = ("threshold", "max_error", "per")
        settings = ", ".join(f"{name} {policy[name]}" for name in shown if name in policy)
        yield "policy", f"{policy.get('policy', 'not named')}{settings and ': '}{settings}"
    if stats.progress is not None:
        yield "learning", stats.progress
    if stats.error_per_hit is None:
        yield "wrong answers", f"no estimate yet, {stats.labels:,} labels"
        return
    source = f"from {stats.labels:,} labels" if stats.labels else "expected; no labels yet"
    yield (
        "wrong per hit",
        f"{_percent(stats.error_per_hit)} {_interval(stats.error_interval)}, {source}",
    )
    if stats.error_per_request is not None:
        interval = _interval(stats.error_per_request_interval)
        yield "wrong per request", f"{_percent(stats.error_per_request)} {interval}"


def _dollars(amount: float) -> str:
    """Spell US dollars; what is less than a cent is not shown as nothing."""
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else "less than $0.01"  # noqa: PLR2004


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"  # noqa: PLR2004


def _interval(interval: tuple[float, float]) -> str:
    """Spell a 95 % interval."""
    low, high = interval
    return f"[{_percent(low)}, {_percent(high)}]"
