"""Report lookups as Prometheus metrics."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from shared_core.controls import LATENCY_BUCKETS_S, LookupEvent

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
except ImportError as error:
    raise ImportError(
        "PrometheusHook needs prometheus_client: "
        f"pip install 'tiered-llm-cache[telemetry]' ({error})"
    ) from None


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

    Namespaces are no labels: there may be as many as an app has users.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
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
