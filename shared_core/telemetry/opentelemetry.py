"""Report lookups as OpenTelemetry spans and metrics, named as for generative AI."""

from __future__ import annotations

import time
from typing import Any

from shared_core.controls import LATENCY_BUCKETS_S, LookupEvent

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError(
        "OpenTelemetryHook needs opentelemetry-api: "
        f"pip install 'tiered-llm-cache[telemetry]' ({error})"
    ) from None

SCOPE = "tiered_cache"
_MODEL = "gen_ai.request.model"


class OpenTelemetryHook:
    """A hook that makes a span and metrics of each lookup.

        cache = ResponseCache.open(hooks=[OpenTelemetryHook()])

    The span, "cache_lookup MODEL", stands in the trace where the lookup was made. Tokens that a hit
    saved are ``tiered_cache.saved.*``: ``gen_ai.usage.*`` is what a model was paid for, and a hit
    pays none. Without providers, those are used that the app has set for all.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
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
        """Tell of one lookup."""
        told = {_MODEL: event.model, "tiered_cache.outcome": event.outcome}
        if event.tier is not None:
            told["tiered_cache.tier"] = str(event.tier)
        self._duration.record(event.latency, told)
        if event.reason is not None:
            told["tiered_cache.reason"] = event.reason
        self._lookups.add(1, told)
        saved = _tokens(event)
        for kind, amount in saved.items():
            self._saved.add(amount, {_MODEL: event.model, "gen_ai.token.type": kind})
        end = time.time_ns()
        span = self._tracer.start_span(
            f"cache_lookup {event.model}".rstrip(),
            start_time=end - round(event.latency * 1e9),
            attributes={**told, **_details(event)},
        )
        for kind, amount in saved.items():
            span.set_attribute(f"tiered_cache.saved.{kind}_tokens", amount)
        span.end(end)


def _tokens(event: LookupEvent) -> dict[str, int]:
    """Return what a hit saved, by the conventions' types of tokens."""
    usage = event.usage or {}
    return {kind: n for kind in ("input", "output") if (n := usage.get(f"{kind}_tokens"))}


def _details(event: LookupEvent) -> dict[str, str | float]:
    """Return what is told of one lookup alone; it is too various for metrics."""
    details = {
        "namespace": event.namespace,
        "similarity": event.similarity,
        "entry_id": event.entry_id,
        "age": event.age,
    }
    return {f"tiered_cache.{name}": value for name, value in details.items() if value is not None}
