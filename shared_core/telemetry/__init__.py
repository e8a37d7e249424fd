"""Report every lookup to OpenTelemetry or Prometheus, through a hook of the cache.

cache --LookupEvent--> hook --> spans and metrics; nothing holds a prompt or an answer

ResponseCache.open(hooks=[OpenTelemetryHook()])
"""

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names

if TYPE_CHECKING:
    from shared_core.telemetry.opentelemetry import OpenTelemetryHook
    from shared_core.telemetry.prometheus import PrometheusHook
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"OpenTelemetryHook": "opentelemetry", "PrometheusHook": "prometheus"}
    )

__all__ = ["OpenTelemetryHook", "PrometheusHook"]
