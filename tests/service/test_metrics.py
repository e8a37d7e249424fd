"""Metrics: there from the first scrape, bounded, and what the dashboard and the alerts read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared_core.cache import ResponseCache
from shared_core.service.activity import MAX_LABEL_VALUES, OTHER, Activity, Meter
from shared_core.service.metrics import counts_of
from shared_core.service.settings import UpstreamEntry
from shared_core.service.upstream import ENDINGS, Upstream
from tests.fakes import Clock
from tests.service.conftest import Serve
from tests.service.test_attacks import Asked, service

DOCS = Path(__file__).parents[2] / "docs"


def asking(number: int, model: str = "gpt-4o-mini") -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Part {number}?"}]
    return {"model": model, "temperature": 0, "messages": messages}


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (one.name, tuple(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def test_counters_are_there_from_the_first_scrape() -> None:
    async with service() as (client, _, _):
        read = samples((await client.get("/metrics")).text)
    for kind in ENDINGS:
        assert read["tiered_cache_upstream_calls_total", (kind, "default")] == 0
    for outcome in ("exact", "semantic", "explore", "miss"):
        assert read["tiered_cache_lookup_seconds_count", (outcome,)] == 0
    assert read["tiered_cache_lookups_total", ("hit", "", "exact")] == 0
    assert read["tiered_cache_upstream_up", ("default",)] == 1
    for name in ("judge_queue", "labels", "audits_total", "coalesced_total", "stores_total"):
        assert read[f"tiered_cache_{name}", ()] == 0, name
    for kind in ("app", "page"):
        assert read["tiered_cache_feedback_total", (kind,)] == 0
    assert math.isnan(read["tiered_cache_error_per_hit", ()]), "no estimate yet"


async def test_what_happens_is_counted_by_tier_and_status() -> None:
    async with service() as (client, asked, _):
        for number in (1, 1, 2):
            assert (await client.post("/v1/chat/completions", json=asking(number))).is_success
        read = samples((await client.get("/metrics")).text)
        stats = (await client.get("/v1/cache/stats")).json()
    assert len(asked.calls) == 2
    assert read["tiered_cache_upstream_calls_total", ("ok", "default")] == 2
    assert read["tiered_cache_upstream_seconds_count", ("default",)] == 2
    assert read["tiered_cache_lookup_seconds_bucket", ("+Inf", "exact")] == 1
    assert read["tiered_cache_lookup_seconds_count", ("miss",)] == 2
    model_and_tenant = [key[1] for key in read if key[0] == "tiered_cache_requests_total"]
    assert {(outcome, model) for model, _, outcome in model_and_tenant} == {
        ("exact", "gpt-4o-mini"),
        ("miss", "gpt-4o-mini"),
    }
    assert stats["upstream"]["calls"]["ok"] == 2
    assert stats["upstream"]["state"] == "ok"
    assert set(stats["upstream"]["latency"]) == {"p50", "p90", "p99"}


@pytest.mark.slow
def test_what_is_spent_and_saved_is_told_by_model(serve: Serve, upstream: Any) -> None:
    url = serve()
    for number in (1, 1, 1):
        httpx.post(f"{url}/v1/chat/completions", json=asking(number)).raise_for_status()
    stats = httpx.get(f"{url}/v1/cache/stats").json()
    assert stats["spent"]["gpt-4o-mini"] > 0
    assert stats["saved"]["gpt-4o-mini"] == pytest.approx(2 * stats["spent"]["gpt-4o-mini"])


async def test_labels_are_a_bounded_set_whatever_callers_send() -> None:
    async with service() as (client, _, _):
        for number in range(MAX_LABEL_VALUES + 50):
            body = asking(number, f"model-{number} {'x' * number}")
            headers = {"authorization": f"Bearer sk-{number}"}
            await client.post("/v1/chat/completions", json=body, headers=headers)
        read = samples((await client.get("/metrics")).text)
    labels = [key[1] for key in read if key[0] == "tiered_cache_requests_total"]
    for place in (0, 1):
        assert len({one[place] for one in labels}) <= MAX_LABEL_VALUES + 1
        assert OTHER in {one[place] for one in labels}
    assert sum(read["tiered_cache_requests_total", one] for one in labels) == MAX_LABEL_VALUES + 50


async def test_a_bar_in_a_model_s_name_does_not_mix_up_the_labels() -> None:
    async with service() as (client, _, _):
        await client.post("/v1/chat/completions", json=asking(1, "team|model|b"))
        read = samples((await client.get("/metrics")).text)
    (labels,) = (key[1] for key in read if key[0] == "tiered_cache_requests_total")
    assert "team/model/b" in labels


class Failing(Asked):
    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        super().__init__()
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)


async def test_an_upstream_that_fails_is_in_sight() -> None:
    refusals = {"refuse": 503}

    def failing(request: httpx.Request) -> httpx.Response:
        if refusals["refuse"] == 0:
            raise httpx.ConnectError("refused")
        if refusals["refuse"] == 1:
            raise httpx.ReadTimeout("silent")
        return httpx.Response(refusals["refuse"], stream=httpx.ByteStream(b"{}"))

    asked = Asked()
    asked.__class__ = type(
        "Failing", (Asked,), {"__call__": lambda self, request: failing(request)}
    )
    async with service(asked=asked, upstream_down_after=0.05) as (client, _, _):
        for status in (503, 429, 400, 0, 1):
            refusals["refuse"] = status
            await client.post("/v1/chat/completions", json=asking(status))
        stats = (await client.get("/v1/cache/stats")).json()["upstream"]
        assert {kind: n for kind, n in stats["calls"].items() if n} == {
            "server_error": 1,
            "rate_limited": 1,
            "client_error": 1,
            "unreachable": 1,
            "timeout": 1,
        }
        assert stats["state"] in ("failing", "down")
        assert (await client.get("/ready")).json()["upstream"] in ("failing", "down")


def test_an_upstream_is_down_when_it_fails_for_a_while_and_unknown_when_nobody_asks() -> None:
    clock = Clock()
    with ResponseCache.open(semantic=False) as cache:
        meter = Meter(cache)
        one = Upstream(
            UpstreamEntry("default", "http://here/v1"), httpx.AsyncClient(), Activity(), meter,
            clock=clock,
        )  # fmt: skip
        one.ended("timeout")
        assert one.state == "failing"
        clock.now += 29
        one.ended("unreachable")
        assert one.state == "failing"
        clock.now += 2
        one.ended("server_error")
        assert one.state == "down"
        one.ended("client_error")  # it answers
        assert one.state == "ok"
        for _ in range(3):
            one.ended("server_error")
            clock.now += 20
        assert one.state == "down"
        clock.now += 20
        assert one.state == "failing", "nobody asked it since"
        assert counts_of(cache)["upstream:server_error"] == 4


async def test_ready_is_503_while_the_upstream_is_down() -> None:
    async with service(upstream_down_after=30.0) as (client, _, app):
        assert (await client.get("/ready")).status_code == 200
        clock = Clock()
        one = app.state.service.upstreams.only
        one._clock = clock
        for _ in range(3):
            one.ended("unreachable")
            clock.now += 20
        found = await client.get("/ready")
        assert (found.status_code, found.json()["upstream"]) == (503, "down")


@pytest.mark.parametrize("path", ["/", "/health", "/ready"])
async def test_head_is_answered_like_get_without_a_body(path: str) -> None:
    async with service() as (client, _, _):
        found = await client.head(path)
    assert found.is_success
    assert found.content == b""


async def test_the_dashboard_and_the_alerts_read_metrics_that_exist() -> None:
    async with service() as (client, _, _):
        await client.post("/v1/chat/completions", json=asking(1))
        told = (await client.get("/metrics")).text
    known = {family.name for family in text_string_to_metric_families(told)}
    known |= {f"{name}_{end}" for name in known for end in ("total", "bucket", "count", "sum")}
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = (DOCS / "alerts.yaml").read_text()
    assert alerts.count("- alert: ") == 3
    read = set(re.findall(r"\btiered_cache_\w+", " ".join(expressions) + alerts))
    assert len(read) > 10
    assert read <= known, read - known
    told_of = {name.removesuffix("_total").removesuffix("_bucket") for name in read}
    families = {family.name for family in text_string_to_metric_families(told)}
    unseen = families - told_of - {"tiered_cache_saved_tokens"}
    assert not unseen, f"no panel shows {unseen}"
