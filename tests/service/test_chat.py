"""``POST /v1/chat``: content, whether it was cached, and what it took and cost."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared_core.service.access import new_key
from tests.service.conftest import Serve
from tests.service.upstream import Upstream


def body(text: str = "What is a fuse?", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "gpt-4o-mini", "messages": messages, "params": {"temperature": 0}, **more}


def chat(url: str, asked: dict[str, Any], **headers: str) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/chat", json=asked, headers=headers)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


@pytest.mark.parametrize("hidden", [False, True])
def test_the_second_answer_is_cached_and_costs_nothing(
    serve: Serve, upstream: Upstream, hidden: bool
) -> None:
    url = serve(hide_headers=hidden)
    first, second = chat(url, body()), chat(url, body())
    assert first["content"] == second["content"] == "answer to What is a fuse?"
    assert (first["cached"], first["cache_tier"]) == (False, None)
    assert (second["cached"], second["cache_tier"]) == (True, "exact")
    assert first["cost"] > 0
    assert second["cost"] == 0
    assert first["entry_id"] == second["entry_id"]
    assert 0 < second["latency_ms"] < 5_000
    assert upstream.calls == 1


def test_without_the_cache_every_question_is_a_call(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    for _ in range(2):
        told = chat(url, body(use_cache=False))
        assert (told["cached"], told["cache_tier"], told["entry_id"]) == (False, None, None)
    assert chat(url, body())["cached"] is False
    assert upstream.calls == 3


def test_chat_the_proxy_and_the_cache_api_share_their_answers(
    serve: Serve, upstream: Upstream
) -> None:
    url = serve()
    told = {**body("What is a relay?"), "answer": {"content": "A switch."}}
    assert httpx.post(f"{url}/v1/cache/set", json=told).is_success
    assert chat(url, body("What is a relay?"))["content"] == "A switch."
    asked = body("What is a relay?")
    plain = {**asked, **asked.pop("params")}
    plain.pop("params", None)
    passed = httpx.post(f"{url}/v1/chat/completions", json=plain)
    assert passed.headers["x-tiered-cache"] == "hit"
    assert passed.json()["choices"][0]["message"]["content"] == "A switch."
    chat(url, body())
    assert httpx.post(f"{url}/v1/cache/get", json=body()).json()["outcome"] == "hit"
    assert upstream.calls == 1


def test_an_error_of_the_upstream_comes_as_it_is(serve: Serve, upstream: Upstream) -> None:
    url = serve()
    error = {"error": {"message": "slow down", "type": "x", "param": None, "code": "y"}}
    upstream.refusals.append((429, error, {}))
    refused = httpx.post(f"{url}/v1/chat", json=body())
    assert (refused.status_code, refused.json()) == (429, error)
    upstream.refusals.append((200, {"strange": True}, {}))
    strange = httpx.post(f"{url}/v1/chat", json=body())
    assert strange.status_code == 502
    assert chat(url, body())["cached"] is False


def test_keys_and_namespaces_hold(serve: Serve, upstream: Upstream) -> None:
    (shop, of_shop), (bank, of_bank) = new_key("a", "use", "shop"), new_key("b", "use", "bank")
    url = serve(keys=(str(of_shop), str(of_bank)), upstream_key="sk-server")
    assert httpx.post(f"{url}/v1/chat", json=body()).status_code == 401
    assert chat(url, body(), authorization=f"Bearer {shop}")["cached"] is False
    assert chat(url, body(), authorization=f"Bearer {bank}")["cached"] is False
    assert chat(url, body(), authorization=f"Bearer {shop}")["cached"] is True
    assert {one["authorization"] for one in upstream.headers} == {"Bearer sk-server"}
