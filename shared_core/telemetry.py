"""Report every lookup to OpenTelemetry or Prometheus, through a hook of the cache.

cache --LookupEvent--> hook --> spans and metrics; nothing holds a prompt or an answer

ResponseCache.open(hooks=[OpenTelemetryHook()])

A hook's library is loaded when the hook is made: an app needs only the one that it uses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from shared_core.controls import LATENCY_BUCKETS_S, LookupEvent
from shared_core.lazy import missing

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram

__all__ = ["OpenTelemetryHook", "PrometheusHook"]

SCOPE = "tiered_cache"
_EXTRA = "tiered-llm-cache[telemetry]"
_MODEL = "gen_ai.request.model"


class OpenTelemetryHook:
    """A hook that makes a span and metrics of each lookup.

        cache = ResponseCache.open(hooks=[OpenTelemetryHook()])

    The span, "cache_lookup MODEL", stands in the trace where the lookup was made. Tokens that a hit
    saved are ``tiered_cache.saved.*``: ``gen_ai.usage.*`` is what a model was paid for, and a hit
    pays none. Without providers, those are used that the app has set for all. Raises ImportError
    without opentelemetry-api.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, trace
        except ModuleNotFoundError as error:
            raise missing(error, "opentelemetry", "OpenTelemetryHook", _EXTRA) from None
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._lookups = meter.create_counter(
            "tiered_cache.lookups", "{lookup}", "Lookups by outcome, tier and reason."
        )
        self._duration = meter.create_histogram(
            "tiered_cache.lookup.duration",
            "s",
            "How long lookups took.",
            explicit_bucket_boundaries_advisory=LATENCY_BUCKETS_S,
        )
        self._saved = meter.create_counter(
            "tiered_cache.saved.tokens", "{token}", "Tokens that hits saved."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without connections: in another process its providers are used."""
        return OpenTelemetryHook, ()

    def __call__(self, event: LookupEvent) -> None:
        """Report one lookup."""
        attributes = {_MODEL: event.model, "tiered_cache.outcome": event.outcome}
        if event.tier is not None:
            attributes["tiered_cache.tier"] = str(event.tier)
        self._duration.record(event.latency, attributes)
        if event.reason is not None:
            attributes["tiered_cache.reason"] = event.reason
        self._lookups.add(1, attributes)
        saved = _tokens(event)
        for kind, amount in saved.items():
            self._saved.add(amount, {_MODEL: event.model, "gen_ai.token.type": kind})
        end = time.time_ns()
        span = self._tracer.start_span(
            f"cache_lookup {event.model}".rstrip(),
            start_time=end - round(event.latency * 1e9),
            attributes={**attributes, **_details(event)},
        )
        for kind, amount in saved.items():
            span.set_attribute(f"tiered_cache.saved.{kind}_tokens", amount)
        span.end(end)


def _tokens(event: LookupEvent) -> dict[str, int]:
    """Return what a hit saved, by the conventions' types of tokens."""
    usage = event.usage or {}
    return {kind: n for kind in ("input", "output") if (n := usage.get(f"{kind}_tokens"))}


def _details(event: LookupEvent) -> dict[str, str | float]:
    """Return what is known of one lookup alone; it is too various for metrics."""
    details = {
        "namespace": event.namespace,
        "similarity": event.similarity,
        "entry_id": event.entry_id,
        "age": event.age,
    }
    return {f"tiered_cache.{name}": value for name, value in details.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Metrics:
    lookups: Counter
    seconds: Histogram
    tokens: Counter


_of_registry: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
_registering = Lock()


class PrometheusHook:
    """A hook that counts each lookup, for any number of caches.

        cache = ResponseCache.open(hooks=[PrometheusHook()])

    - ``tiered_cache_lookups_total{outcome, tier, reason, model}``
    - ``tiered_cache_lookup_seconds{outcome, tier}``
    - ``tiered_cache_saved_tokens_total{type, model}``: what hits would have cost

    Namespaces are no labels: there may be as many as an app has users. ``registry`` None:
    prometheus_client's own. Raises ImportError without prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY
        except ModuleNotFoundError as error:
            raise missing(error, "prometheus_client", "PrometheusHook", _EXTRA) from None
        registry = REGISTRY if registry is None else registry
        with _registering:
            if registry not in _of_registry:
                _of_registry[registry] = _registered(registry)
        self._metrics = _of_registry[registry]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without counts: another process has a registry of its own."""
        return PrometheusHook, ()

    def __call__(self, event: LookupEvent) -> None:
        """Count one lookup."""
        tier = "" if event.tier is None else str(event.tier)
        reason = event.reason or ""
        self._metrics.lookups.labels(event.outcome, tier, reason, event.model).inc()
        self._metrics.seconds.labels(event.outcome, tier).observe(event.latency)
        for kind in ("input", "output"):
            if tokens := (event.usage or {}).get(f"{kind}_tokens"):
                self._metrics.tokens.labels(kind, event.model).inc(tokens)


def _registered(registry: CollectorRegistry) -> _Metrics:
    from prometheus_client import Counter, Histogram

    return _Metrics(
        Counter(
            "tiered_cache_lookups",
            "Lookups.",
            ("outcome", "tier", "reason", "model"),
            registry=registry,
        ),
        Histogram(
            "tiered_cache_lookup_seconds",
            "How long lookups took.",
            ("outcome", "tier"),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        Counter(
            "tiered_cache_saved_tokens",
            "Tokens that hits saved.",
            ("type", "model"),
            registry=registry,
        ),
    )
