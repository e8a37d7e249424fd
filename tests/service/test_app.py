"""The service as a whole: it starts, answers, and closes what it opened."""

from __future__ import annotations

import httpx

from tests.service.conftest import Serve
from tests.service.upstream import Upstream


def test_a_server_says_that_it_lives(serve: Serve) -> None:
    assert httpx.get(f"{serve()}/health").json() == {"status": "ok"}


def test_the_fake_upstream_answers_and_counts(upstream: Upstream) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    found = httpx.post(f"{upstream.url}/chat/completions", json=body).json()
    assert found["choices"][0]["message"]["content"] == "answer to hi"
    assert upstream.calls == 1
