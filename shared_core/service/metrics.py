"""Metrics of the service: how the upstream does, and all counters as Prometheus reads them.

calls, lookups --Meter--> counters that all workers share through the store --exposition--> /metrics
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shared_core.cache import ResponseCache
from shared_core.controls import LookupEvent
from shared_core.record import Tier
from shared_core.resilience import Unavailable
from shared_core.service.errors import APIError
from shared_core.stats import Counters, Stats, counts_of_all
from shared_core.usage import dollars_by_model, saved_by

Kind = Literal[
    "ok", "rate_limited", "client_error", "server_error", "timeout", "unreachable", "cut"
]
_KINDS: tuple[Kind, ...] = (
    "ok", "rate_limited", "client_error", "server_error", "timeout", "unreachable", "cut",
)  # fmt: skip
"""How a call of the upstream ended; "cut": its stream broke off."""

FAILING = frozenset({"server_error", "timeout", "unreachable"})
"""Ends that say that the upstream does not work, whoever asked it for what."""

BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
OUTCOMES = ("exact", "semantic", "explore", "miss")

_MAX_LABELS = 100
OTHER = "other"

_OWN = "service:"
_MILLION = 1_000_000

State = Literal["ok", "failing", "down"]


class Meter:
    """Counts what the service does into the counters of its cache, which all workers share.

    Names of models and namespaces are whatever callers send: the first hundred are told apart.
    """

    def __init__(
        self,
        cache: ResponseCache,
        down_after: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters: Counters = cache._path.counters
        self._down_after, self._clock = down_after, clock
        self._lock = threading.Lock()
        self._labels: dict[str, set[str]] = {"model": set(), "namespace": set()}
        self._failing_since: float | None = None
        self._failed_last = 0.0
        self.in_flight = 0

    def label(self, kind: str, name: str) -> str:
        """Return a name as a label: itself, or "other" once there are a hundred."""
        known = self._labels[kind]
        if name in known:
            return name
        with self._lock:
            if len(known) >= _MAX_LABELS or len(name) > _MAX_LABELS:
                return OTHER
            known.add(name)
        return name

    def looked_up(self, event: LookupEvent) -> None:
        """Count a lookup: its latency, and for whom it was."""
        outcome = event.outcome if event.tier is None else str(event.tier)
        self._observe(f"lookup:{outcome}", event.latency)
        model = self.label("model", event.model)
        namespace = self.label("namespace", event.namespace)
        self._counters.add(f"{_OWN}requests:{outcome}|{model}|{namespace}")

    def answered(self, model: str, usage: Mapping[str, int] | None) -> None:
        """Count the tokens of a fresh answer, which were paid for."""
        for name, count in saved_by(usage, self.label("model", model)).items():
            self._counters.add(f"{_OWN}spent:{name}", count)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count a call of the upstream that is under way; what it raises is counted as its end."""
        self.in_flight += 1
        try:
            yield
        except APIError as error:
            if error.code in ("upstream_timeout", "upstream_unreachable"):
                self.ended("timeout" if error.code == "upstream_timeout" else "unreachable")
            raise
        finally:
            self.in_flight -= 1

    def responded(self, status: int, seconds: float) -> None:
        """Count the response to a call, and how long its headers took."""
        self._observe("upstream", seconds)
        if status == 429:  # noqa: PLR2004 - too many requests
            self.ended("rate_limited")
        elif status >= 500:  # noqa: PLR2004 - its own failure
            self.ended("server_error")
        else:
            self.ended("client_error" if status >= 400 else "ok")  # noqa: PLR2004

    def ended(self, kind: Kind) -> None:
        """Count how a call ended."""
        self._counters.add(f"{_OWN}upstream:{kind}")
        now = self._clock()
        with self._lock:
            if kind in FAILING:
                self._failed_last = now
                if self._failing_since is None:
                    self._failing_since = now
            elif kind != "cut":
                self._failing_since = None

    @property
    def upstream(self) -> State:
        """Say how the upstream does, as this worker sees it.

        "failing" from a call that failed to one that does not, "down" when that took ``down_after``
        seconds. After as long without any call nobody knows, and it is no longer called down: else
        nothing would be sent any more to whom /ready says so.
        """
        with self._lock:
            since, last = self._failing_since, self._failed_last
        now = self._clock()
        if since is None:
            return "ok"
        lasts = last - since >= self._down_after
        return "down" if lasts and now - last <= self._down_after else "failing"

    def _observe(self, name: str, seconds: float) -> None:
        bucket = next((i for i, most in enumerate(BUCKETS_S) if seconds <= most), len(BUCKETS_S))
        self._counters.add(f"{_OWN}seconds:{name}:{bucket}")
        self._counters.add(f"{_OWN}micros:{name}", round(seconds * _MILLION))


def counts_of(cache: ResponseCache) -> dict[str, int]:
    """Return what all workers counted; this one's own where the store does not answer. Blocks."""
    counts = cache._path.counters.counts()
    if cache._flusher is not None:
        cache.flush()
        with suppress(Unavailable):
            counts = cache._path.breaker.call(counts_of_all, cache._store, cache.options.namespace)
    return {
        name.removeprefix(_OWN): n
        for name, n in counts.items()
        if name.startswith((_OWN, "saved:"))
    }


def upstream_of(counts: Mapping[str, int], state: State) -> dict[str, Any]:
    """Return how the upstream did: calls by how they ended, and percentiles of its latency."""
    calls = {kind: counts.get(f"upstream:{kind}", 0) for kind in _KINDS}
    return {"state": state, "calls": calls, "latency": _percentiles(counts, "upstream")}


def money_of(counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return what was spent and saved in US dollars, by model; of the hundred that cost most."""
    found: dict[str, dict[str, float]] = {}
    for what in ("spent", "saved"):
        own = {
            name.removeprefix(f"{what}:"): n
            for name, n in counts.items()
            if name.startswith(f"{what}:")
        }
        dollars = sorted(dollars_by_model(own).items(), key=lambda one: -one[1])
        found[what] = dict(dollars[:_MAX_LABELS])
        if rest := sum(amount for _, amount in dollars[_MAX_LABELS:]):
            found[what][OTHER] = found[what].get(OTHER, 0.0) + rest
    return found


def _percentiles(counts: Mapping[str, int], name: str) -> dict[str, float]:
    """Return p50, p90 and p99 in seconds: the upper end of the bucket in which each lies."""
    bins = [counts.get(f"seconds:{name}:{i}", 0) for i in range(len(BUCKETS_S) + 1)]
    total, found = sum(bins), dict[str, float]()
    for share in (50, 90, 99) if total else ():
        seen = 0
        for i, count in enumerate(bins):
            seen += count
            if seen * 100 >= total * share:
                found[f"p{share}"] = BUCKETS_S[min(i, len(BUCKETS_S) - 1)]
                break
    return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What ``/metrics`` tells: statistics and counts of all workers, the rest of this one."""

    stats: Stats
    counts: Mapping[str, int]
    state: State
    in_flight: int
    judging: int


def exposition(picture: Snapshot) -> bytes:
    """Spell statistics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Told(picture))
    return generate_latest(registry)


def judging(cache: ResponseCache) -> int:
    """Return how many answers wait for a judge in this process."""
    semantic = cache._path.semantic
    return 0 if semantic is None else semantic.judging


class _Told(Collector):
    """Statistics as metrics: those of all processes, which no counter of this one knows."""

    def __init__(self, picture: Snapshot) -> None:
        self._of = picture

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of now; each that counts is there from the first scrape."""
        yield from self._lookups()
        yield from self._upstream()
        yield from self._learning()

    def _lookups(self) -> Iterator[Metric]:
        stats, counts = self._of.stats, self._of.counts
        lookups = CounterMetricFamily(
            "tiered_cache_lookups",
            "Lookups by how they ended.",
            labels=("outcome", "tier", "reason"),
        )
        outcomes: dict[tuple[str, str, str], int] = {
            **{("hit", str(tier), ""): stats.hits_by_tier.get(str(tier), 0) for tier in Tier},
            ("miss", "", "absent"): 0,
            **{("miss", "", reason): n for reason, n in stats.misses.items()},
            ("explore", "", ""): stats.explores,
        }
        for told, count in outcomes.items():
            lookups.add_metric(told, count)
        yield lookups
        seconds = HistogramMetricFamily(
            "tiered_cache_lookup_seconds", "Time of lookups by how they ended.", labels=("outcome",)
        )
        for outcome in OUTCOMES:
            seconds.add_metric((outcome,), *_histogram(counts, f"lookup:{outcome}"))
        yield seconds
        requests = CounterMetricFamily(
            "tiered_cache_requests",
            "Lookups by model and namespace; the first hundred of each, the others together.",
            labels=("outcome", "model", "namespace"),
        )
        for name, count in counts.items():
            if name.startswith("requests:"):
                requests.add_metric(name.removeprefix("requests:").split("|", 2), count)
        yield requests
        yield CounterMetricFamily("tiered_cache_stores", "Answers kept.", value=stats.stores)
        shared = "Requests answered by the call of another."
        yield CounterMetricFamily("tiered_cache_coalesced", shared, value=stats.coalesced)
        money = money_of(counts)
        for what, documentation in (
            ("spent", "What calls of the upstream cost, in US dollars at list prices."),
            ("saved", "What hits saved, in US dollars at list prices."),
        ):
            dollars = CounterMetricFamily(
                f"tiered_cache_{what}_dollars", documentation, labels=("model",)
            )
            for model, amount in money[what].items():
                dollars.add_metric((model,), amount)
            yield dollars

    def _upstream(self) -> Iterator[Metric]:
        counts = self._of.counts
        calls = CounterMetricFamily(
            "tiered_cache_upstream_calls", "Calls by how they ended.", labels=("status",)
        )
        for kind in _KINDS:
            calls.add_metric((kind,), counts.get(f"upstream:{kind}", 0))
        yield calls
        told = "Time until the headers of the upstream's response."
        seconds = HistogramMetricFamily("tiered_cache_upstream_seconds", told, labels=())
        seconds.add_metric((), *_histogram(counts, "upstream"))
        yield seconds
        yield GaugeMetricFamily(
            "tiered_cache_upstream_up",
            "1 unless this worker's calls have failed for a while.",
            value=float(self._of.state != "down"),
        )
        yield GaugeMetricFamily(
            "tiered_cache_upstream_in_flight",
            "Calls of this worker that wait for a response.",
            value=float(self._of.in_flight),
        )

    def _learning(self) -> Iterator[Metric]:
        stats = self._of.stats
        for name, documentation, counts, always in (
            ("saved_tokens", "Tokens that hits saved.", stats.tokens_saved, ()),
            ("feedback", "Verdicts on answers.", stats.feedback, ("app", "page")),
            ("errors", "Failures that no caller saw.", stats.errors, ("service",)),
        ):
            family = CounterMetricFamily(f"tiered_cache_{name}", documentation, labels=("kind",))
            for kind, count in {**dict.fromkeys(always, 0), **counts}.items():
                family.add_metric((kind,), count)
            yield family
        breakers = GaugeMetricFamily(
            "tiered_cache_breaker_open", "1 while a part is given a rest.", labels=("part",)
        )
        for part, state in stats.breakers.items():
            breakers.add_metric((part,), float(state != "closed"))
        yield breakers
        for name, documentation, value in (
            ("error_per_hit", "Estimated share of wrong hits by meaning.", stats.error_per_hit),
            ("labels", "Labels behind that estimate.", float(stats.labels)),
            ("judge_queue", "Answers that wait for a judge in this worker.", self._of.judging),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"tiered_cache_{name}", documentation, value=value)


def _histogram(counts: Mapping[str, int], name: str) -> tuple[list[tuple[str, float]], float]:
    buckets: list[tuple[str, float]] = []
    seen = 0.0
    for i, most in enumerate((*map(str, BUCKETS_S), "+Inf")):
        seen += counts.get(f"seconds:{name}:{i}", 0)
        buckets.append((most, seen))
    return buckets, counts.get(f"micros:{name}", 0) / _MILLION
