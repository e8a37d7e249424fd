"""The cache over HTTP: what goes in comes out, is judged, invalidated, warmed and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared_core.cache import ResponseCache
from shared_core.openai_format import Endpoint, request_of
from shared_core.record import Answer
from shared_core.service.cache_api import finite
from shared_core.service.metrics import Snapshot, exposition
from shared_core.service.upstream import Upstreams
from shared_core.stats import Stats
from tests.fakes import FakeEmbedder
from tests.service.conftest import Serve
from tests.service.test_attacks import service
from tests.service.upstream import Upstream

QUESTION = "What is a fuse?"


def question(text: str = QUESTION, **params: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "gpt-4o-mini", "messages": messages, "params": params}


def answered(
    text: str = "It melts.", asked: str = "What is a fuse?", **more: Any
) -> dict[str, Any]:
    usage = {"input_tokens": 1000, "output_tokens": 100}
    return {**question(asked), "answer": {"content": text, "usage": usage}, **more}


@pytest.fixture
def client(serve: Serve) -> Iterator[httpx.Client]:
    """Give a client of a server that shares answers across credentials, for short names."""
    with httpx.Client(base_url=f"{serve(shared=True)}/v1/cache") as client:
        yield client


def found(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/get", json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


def test_what_is_set_is_got_with_its_tokens_and_its_age(client: httpx.Client) -> None:
    assert found(client, question())["outcome"] == "miss"
    kept = client.post("/set", json=answered()).json()
    got = found(client, question())
    assert kept["stored"] is True
    assert got["entry_id"] == kept["entry_id"]
    assert (got["outcome"], got["tier"], got["similarity"]) == ("hit", "exact", 1.0)
    assert got["answer"]["content"] == "It melts."
    assert got["answer"]["usage"] == {"input_tokens": 1000, "output_tokens": 100}
    assert 0 <= got["age"] < 60
    for other in (question(temperature=0.5), question("What is a relay?")):
        assert found(client, other)["outcome"] == "miss"


def test_the_key_is_that_of_the_openai_client(serve: Serve, upstream: Upstream) -> None:
    with ResponseCache.open(semantic=False) as cache:
        url = serve(opened=cache, shared=True)
        call = {"model": "gpt-4o-mini", "temperature": 0}
        request = request_of(Endpoint("openai", upstream.url, {}), question()["messages"], call)
        cache.store(request, Answer("from the library"))
        body = question(temperature=0)
        got = httpx.post(f"{url}/v1/cache/get", json=body).json()
    assert got["answer"]["content"] == "from the library"


def test_a_question_in_other_words_is_found_and_can_be_judged_wrong(serve: Serve) -> None:
    with ResponseCache.open(embedder=FakeEmbedder(), threshold=0.8) as cache:
        url = f"{serve(opened=cache, shared=True)}/v1/cache"
        with httpx.Client(base_url=url) as client:
            client.post("/set", json=answered(asked="Please explain what a fuse does there"))
            other = question("explain what a fuse does there, please")
            got = found(client, other)
            assert (got["outcome"], got["tier"]) == ("hit", "semantic")
            verdict = {"entry_id": got["entry_id"], "correct": False, "source": "person"}
            assert client.post("/feedback", json=verdict).json() == {"taken": True}
            assert found(client, other)["outcome"] == "miss"
            assert client.get("/stats").json()["feedback"] == {"person": 1}


def test_feedback_on_what_is_not_there_is_not_taken(client: httpx.Client) -> None:
    for entry_id in ("nonsense", "0" * 64):
        verdict = {"entry_id": entry_id, "correct": True}
        assert client.post("/feedback", json=verdict).json() == {"taken": False}


@pytest.mark.parametrize(
    ("target", "left"),
    [
        ({"tag": "new"}, {"old"}),
        ({"model": "gpt-4o-mini"}, set()),
        ({"model": "another"}, {"old", "new"}),
        ({"older_than": 0}, set()),
        ({"older_than": 3600}, {"old", "new"}),
        ({"tag": "new", "model": "another"}, {"old", "new"}),
    ],
)
def test_invalidate_deletes_what_matches_all_that_is_given(
    client: httpx.Client, target: dict[str, Any], left: set[str]
) -> None:
    for name in ("old", "new"):
        client.post("/set", json=answered(asked=f"What is {name}?", tags=[name]))
    removed = client.post("/invalidate", json=target).json()["removed"]
    there = {n for n in ("old", "new") if found(client, question(f"What is {n}?"))["answer"]}
    assert there == left
    assert removed == 2 - len(left)


def test_invalidate_by_nothing_is_refused(client: httpx.Client) -> None:
    refused = client.post("/invalidate", json={})
    assert refused.status_code == 422
    assert "name what is to go" in refused.json()["error"]["message"]


def test_a_namespace_is_cleared_only_when_it_is_repeated(client: httpx.Client) -> None:
    client.post("/set", json=answered())
    named = {"namespace": "default", "confirm": "defualt"}
    url = str(client.base_url).rstrip("/")
    assert httpx.delete(url, params=named).status_code == 409
    assert found(client, question())["outcome"] == "hit"
    named["confirm"] = "default"
    assert httpx.delete(url, params=named).json() == {"removed": 1}
    assert found(client, question())["outcome"] == "miss"


def test_warming_tells_how_far_it_is_and_leaves_what_is_there(client: httpx.Client) -> None:
    client.post("/set", json=answered("first", asked="Question 7?"))
    rows = [answered("later", asked=f"Question {number}?") for number in range(150)]
    with client.stream("POST", "/warm", json={"rows": rows}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line]
    assert [one["done"] for one in events] == [64, 128, 150]
    assert events[-1] == {"done": 150, "total": 150, "stored": 149, "present": 1, "failed": 0}
    assert found(client, question("Question 7?"))["answer"]["content"] == "first"
    assert found(client, question("Question 8?"))["answer"]["content"] == "later"


def test_an_answer_lives_as_long_as_it_is_told_to(client: httpx.Client) -> None:
    client.post("/set", json=answered(ttl=0.001))
    assert found(client, question())["outcome"] == "miss"
    assert client.post("/set", json=answered(ttl=0)).status_code == 422


def test_statistics_are_those_of_the_cache(client: httpx.Client) -> None:
    client.post("/set", json=answered())
    for _ in range(3):
        found(client, question())
    found(client, question("What is a relay?"))
    told = client.get("/stats").json()
    assert (told["lookups"], told["hits"], told["stores"]) == (4, 3, 1)
    assert told["hits_by_tier"] == {"exact": 3, "semantic": 0}
    assert told["misses"] == {"absent": 1}
    assert told["tokens_saved"] == {"input_tokens": 3000, "output_tokens": 300}
    assert told["money_saved"] > 0


async def test_the_statistics_that_are_described_are_those_that_there_are() -> None:
    own = {"upstream", "upstreams", "spent", "saved", "saved_by_tier", "audits", "side_calls"}
    names = {one.name for one in fields(Stats)} | own
    async with service() as (client, _, _):
        told = (await client.get("/v1/cache/stats")).json()
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert set(told) == names
    assert set(schemas["CacheStats"]["properties"]) == names


def test_numbers_that_json_does_not_have_are_null() -> None:
    assert finite({"a": [float("inf"), 1.5, (float("nan"),)], "b": "inf"}) == {
        "a": [None, 1.5, [None]],
        "b": "inf",
    }


# -------------------------------------------------------------------------------------- health


def test_metrics_are_read_by_prometheus(client: httpx.Client) -> None:
    client.post("/set", json=answered())
    found(client, question())
    found(client, question("What is a relay?"))
    text = httpx.get(str(client.base_url).replace("/v1/cache/", "/metrics")).text
    read = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    told = {"outcome": "hit", "tier": "exact", "reason": ""}
    assert read["tiered_cache_lookups_total", tuple(sorted(told.items()))] == 1
    told = {"outcome": "miss", "tier": "", "reason": "absent"}
    assert read["tiered_cache_lookups_total", tuple(sorted(told.items()))] == 1
    assert read["tiered_cache_stores_total", ()] == 1
    assert read["tiered_cache_saved_tokens_total", (("kind", "input_tokens"),)] == 1000
    assert read["tiered_cache_saved_dollars_total", (("model", "gpt-4o-mini"),)] > 0


def test_label_values_are_escaped() -> None:
    with ResponseCache.open(semantic=False) as cache:
        cache.count_error('a"b\\c\nd')
        text = exposition(Snapshot(cache.stats(), {}, Upstreams(()), 0)).decode()
    kinds = [
        sample.labels["kind"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name == "tiered_cache_errors"
    ]
    assert kinds == ["service", 'a"b\\c\nd']


class BrokenEmbedder(FakeEmbedder):
    """An embedder whose server is gone."""

    def embed(self, texts: Any) -> Any:
        raise ConnectionError("gone")


@pytest.mark.parametrize(
    ("embedder", "status", "state"),
    [(FakeEmbedder(), 200, "ok"), (BrokenEmbedder(), 503, "down")],
)
def test_readiness_tells_of_the_embedder(
    serve: Serve, embedder: FakeEmbedder, status: int, state: str
) -> None:
    with ResponseCache.open(embedder=embedder) as cache:
        url = serve(opened=cache)
        ready = httpx.get(f"{url}/ready")
        assert ready.status_code == status
        assert ready.json() == {
            "ready": status == 200,
            "store": "ok",
            "embedder": state,
            "upstream": "ok",
            "upstreams": {"default": "ok"},
        }
        assert httpx.get(f"{url}/health").is_success
