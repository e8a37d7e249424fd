"""Lookups of a LangChain app as OpenTelemetry spans and metrics, and in Prometheus."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from langchain_tiered_cache import TieredCache
from shared_core.telemetry import OpenTelemetryHook, PrometheusHook
from tests.fakes import fake_embed
from tests.langchain.chat_models import Chat

QUESTION, REPHRASED = "what is a fuse good for", "what is a fuse good for then"
USAGE = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}


def model_with(*hooks: Any, **options: Any) -> Chat:
    cache = TieredCache(
        embedder=fake_embed, threshold=0.7, hooks=hooks, namespace="mine", **options
    )
    reply = AIMessage("It melts.", usage_metadata=USAGE, response_metadata={"model_name": "tester"})
    return Chat(cache=cache, reply=lambda messages: reply.model_copy(deep=True))


class Exported:
    """What an app would export."""

    def __init__(self) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.hook = OpenTelemetryHook(self.tracers, MeterProvider([self.reader]))

    def points(self, name: str) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        (scope,) = data.resource_metrics[0].scope_metrics
        (metric,) = [one for one in scope.metrics if one.name == name]
        return list(metric.data.data_points)


def test_each_lookup_is_a_span_in_the_apps_trace() -> None:
    exported = Exported()
    model = model_with(exported.hook)
    with exported.tracers.get_tracer("app").start_as_current_span("request") as request:
        for question in (QUESTION, QUESTION, REPHRASED):
            model.invoke(question)
    spans = [span for span in exported.spans.get_finished_spans() if span.name != "request"]
    assert [span.name for span in spans] == ["cache_lookup tester"] * 3
    parents = {span.parent.span_id if span.parent else None for span in spans}
    assert parents == {request.get_span_context().span_id}
    told = [dict(span.attributes or {}) for span in spans]
    assert [one["tiered_cache.outcome"] for one in told] == ["miss", "hit", "hit"]
    assert [one.get("tiered_cache.tier") for one in told] == [None, "exact", "semantic"]
    assert told[0]["tiered_cache.reason"] == "new_scope"
    assert told[0]["tiered_cache.namespace"] == "mine"
    assert told[1]["gen_ai.request.model"] == "tester"
    assert told[1]["tiered_cache.saved.input_tokens"] == 12
    assert not any(name.startswith("gen_ai.usage") for one in told for name in one)
    assert all((span.end_time or 0) > (span.start_time or 0) for span in spans)
    assert "fuse" not in str(told)
    assert "melts" not in str(told)


async def test_an_awaited_lookup_is_in_the_trace_too() -> None:
    exported = Exported()
    with exported.tracers.get_tracer("app").start_as_current_span("request") as request:
        await model_with(exported.hook).ainvoke(QUESTION)
    span = exported.spans.get_finished_spans()[0]
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id


def test_lookups_are_counted_for_opentelemetry() -> None:
    exported = Exported()
    model = model_with(exported.hook)
    for _ in range(3):
        model.invoke(QUESTION)
    lookups = {
        point.attributes["tiered_cache.outcome"]: point.value
        for point in exported.points("tiered_cache.lookups")
    }
    assert lookups == {"miss": 1, "hit": 2}
    saved = {
        point.attributes["gen_ai.token.type"]: point.value
        for point in exported.points("tiered_cache.saved.tokens")
    }
    assert saved == {"input": 24, "output": 10}
    assert sum(point.count for point in exported.points("tiered_cache.lookup.duration")) == 3


def test_lookups_are_counted_for_prometheus() -> None:
    registry = CollectorRegistry()
    for _ in range(2):  # two caches, one registry
        model = model_with(PrometheusHook(registry))
        for question in (QUESTION, QUESTION, REPHRASED):
            model.invoke(question)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"tiered_cache_{name}", labels)

    def lookups(outcome: str, tier: str, reason: str) -> float | None:
        labels = {"outcome": outcome, "tier": tier, "reason": reason, "model": "tester"}
        return value("lookups_total", **labels)

    assert lookups("miss", "", "new_scope") == 2
    assert lookups("hit", "exact", "") == 2
    assert lookups("hit", "semantic", "") == 2
    assert value("saved_tokens_total", type="input", model="tester") == 48
    assert value("lookup_seconds_count", outcome="hit", tier="exact") == 2


@pytest.mark.parametrize("hook", [OpenTelemetryHook, PrometheusHook])
def test_hooks_travel_with_a_cache(hook: Any) -> None:
    assert isinstance(pickle.loads(pickle.dumps(hook())), hook)  # noqa: S301 - of this very test


def test_a_hit_is_no_spend_in_callbacks_of_the_app_on_demand() -> None:
    model, spend = model_with(hit_usage="mark"), UsageMetadataCallbackHandler()
    for _ in range(3):
        model.invoke(QUESTION, {"callbacks": [spend]})
    assert spend.usage_metadata["tester"]["total_tokens"] == 17
