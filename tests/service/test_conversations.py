"""Follow-ups that come to the proxy are rewritten by a model of the upstream, if one is named."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from shared_core.service.upstream import UpstreamModel
from tests.service.serving import served
from tests.service.upstream import Upstream

FREE = "How many projects can I have on the free plan?"


class Small:
    """An upstream whose only model rewrites; ``asked`` are its headers and bodies."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.fails, self.wait = False, 0.0
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self._chat)
        self.app.post("/v1/messages")(self._messages)

    async def _chat(self, request: Request) -> Any:
        self.asked.append((dict(request.headers), await request.json()))
        await asyncio.sleep(self.wait)
        if self.fails:
            return {"error": "none"}
        message = {"role": "assistant", "content": FREE}
        usage = {"prompt_tokens": 200, "completion_tokens": 12}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}

    async def _messages(self, request: Request) -> Any:
        self.asked.append((dict(request.headers), await request.json()))
        usage = {"input_tokens": 200, "output_tokens": 12}
        return {"content": [{"type": "text", "text": FREE}], "usage": usage}


@pytest.fixture
def small() -> Iterator[tuple[Small, str]]:
    fake = Small()
    with served(fake.app) as url:
        yield fake, f"{url}/v1"


def settings(upstream: Upstream, url: str, kind: str = "openai", **more: Any) -> Settings:
    tables = [
        {"name": "big", "url": upstream.url},
        {"name": "small", "url": url, "kind": kind, "models": ["small-*"], "key_env": "SMALL_KEY"},
    ]
    chosen = {"upstream": tables, "standalone_model": "small-1", "threshold": 0.9, "load": "lazy"}
    return Settings(**{**chosen, **more})  # type: ignore[arg-type]


def ask(url: str, said: str, question: str) -> httpx.Response:
    talk = [
        {"role": "system", "content": "You help."},
        {"role": "user", "content": said},
        {"role": "assistant", "content": "Good to know."},
        {"role": "user", "content": question},
    ]
    body = {"model": "gpt-4o-mini", "temperature": 0, "messages": talk}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_follow_up_is_rewritten_by_the_named_model_with_the_servers_key(
    upstream: Upstream, small: tuple[Small, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMALL_KEY", "secret-of-small")
    fake, address = small
    with served(create_app(settings(upstream, address, kind))) as url:
        first = ask(url, "I am on the free plan.", "How many projects can I have?")
        second = ask(url, "Hi, we use the free plan.", "And how many projects are there?")
        stats = httpx.get(f"{url}/v1/cache/stats").json()
    assert first.headers["x-tiered-cache"] == "miss"
    assert second.headers["x-tiered-cache"] == "hit"
    texts = [one.json()["choices"][0]["message"]["content"] for one in (first, second)]
    assert texts[0] == texts[1]
    assert upstream.calls == 1
    assert len(fake.asked) == 2
    headers, body = fake.asked[0]
    assert "secret-of-small" in (headers.get("x-api-key", "") + headers.get("authorization", ""))
    assert body["model"] == "small-1"
    limits = body.keys() & {"max_tokens", "max_completion_tokens"}
    assert limits == ({"max_tokens"} if kind == "anthropic" else set()), "which all models take"
    assert "free plan" in json.dumps(body["messages"])
    assert stats["policy"]["standalone"]["model"] == "small-1"


def test_a_model_that_says_nothing_useful_leaves_all_as_it_was(
    upstream: Upstream, small: tuple[Small, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMALL_KEY", "secret-of-small")
    fake, address = small
    fake.fails = True
    with served(create_app(settings(upstream, address))) as url:
        told = [ask(url, f"I have {n} cats.", "Which food fits them?").status_code for n in (1, 2)]
    assert told == [200, 200]
    assert upstream.calls == 2


def test_a_model_that_no_upstream_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", "k")
    table = {"name": "a", "url": "http://localhost:1/v1", "models": ["b"]}
    chosen = Settings(upstream=[table], standalone_model="c")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="standalone_model"):
        UpstreamModel(chosen, "c", 1.0)


def test_without_the_semantic_tier_there_is_nothing_to_rewrite_for() -> None:
    with pytest.raises(ValueError, match="standalone_model"):
        Settings(semantic=False, standalone_model="small")


def test_while_a_model_rewrites_for_many_what_is_known_is_answered_at_once(
    upstream: Upstream, small: tuple[Small, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMALL_KEY", "secret-of-small")
    fake, address = small
    chosen = settings(upstream, address, standalone_timeout=10.0)
    with served(create_app(chosen)) as url, ThreadPoolExecutor(20) as pool:
        ask(url, "I am on the free plan.", "How many projects can I have?")
        fake.wait = 3.0
        asked = [
            pool.submit(ask, url, f"I am on the free plan number {n}.", "How many projects then?")
            for n in range(20)
        ]
        while len(fake.asked) < 12:  # more than there are threads that look up
            time.sleep(0.01)
        began = time.monotonic()
        known = ask(url, "I am on the free plan.", "How many projects can I have?")
        took = time.monotonic() - began
        assert known.headers["x-tiered-cache-tier"] == "exact"
        assert took < fake.wait / 2
        assert all(one.result().status_code == 200 for one in asked)
