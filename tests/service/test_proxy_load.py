"""The proxy under load, over many credentials, by meaning, and with a store that is gone."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.redis_server import RedisStack, free_port
from tests.service.conftest import Serve
from tests.service.test_proxy import TLS, content, events, post, status
from tests.service.upstream import Upstream

FULL = os.environ.get("TIERED_CACHE_SOAK") == "full"
CLIENTS, SECONDS = (200, 30.0) if FULL else (200, 2.0)
DISTINCT = 50


def asked(text: str, stream: bool = False) -> dict[str, Any]:
    return {
        "model": "m",
        "temperature": 0,
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }


def said(response: httpx.Response) -> str:
    """Return the text of an answer, streamed or not."""
    if "event-stream" not in response.headers["content-type"]:
        return str(content(response))
    chunks = [json.loads(one) for one in events(response.text)[:-1]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def asked_of(api: str, text: str, stream: bool) -> dict[str, Any]:
    """Return the body by which an API is asked."""
    turns = {"messages": [{"role": "user", "content": text}]}
    body = {
        "chat/completions": turns, "messages": {**turns, "max_tokens": 99},
        "responses": {"input": text}, "completions": {"prompt": text},
        "embeddings": {"input": text},
    }[api]  # fmt: skip
    rest = {} if api == "embeddings" else {"temperature": 0, "stream": stream}
    return {"model": "m", **body, **rest}


def question_of(body: dict[str, Any]) -> str:
    """Return what a body asks."""
    turns = body.get("messages") or [{"content": body.get("input") or body.get("prompt")}]
    return str(turns[-1]["content"])


def answer_in(api: str, response: httpx.Response) -> str:
    """Return what an API answered, streamed or not."""
    if api == "chat/completions":
        return said(response)
    found = response.text
    if "event-stream" not in response.headers["content-type"]:
        body = response.json()
        return {
            "messages": lambda: body["content"][0]["text"],
            "responses": lambda: body["output"][0]["content"][0]["text"],
            "completions": lambda: body["choices"][0]["text"],
            "embeddings": lambda: str(body["data"][0]["embedding"]),
        }[api]()
    lines = [one[6:] for one in found.split("\n") if one.startswith("data: {")]
    each = list(map(json.loads, lines))
    if api == "messages":
        return "".join(one["delta"].get("text", "") for one in each if one.get("delta"))
    if api == "responses":
        return "".join(one["delta"] for one in each if one["type"] == "response.output_text.delta")
    return "".join(one["choices"][0]["text"] for one in each)


APIS = ("responses", "messages", "completions", "embeddings")


def many_clients(url: str, upstream: Upstream, api: str) -> None:
    """Ask by 200 clients without a pause: each request is answered, each distinct one once."""
    upstream.latency = 0.2
    answers: dict[str, set[str]] = defaultdict(set)

    async def client(http: httpx.AsyncClient, number: int, end: float) -> list[str]:
        rng, failed = random.Random(number), []
        while time.monotonic() < end:
            text = f"Part {rng.randrange(DISTINCT)}?"
            body = asked_of(api, text, rng.random() < 0.3)
            found = await http.post(f"/v1/{api}", json=body, headers={"authorization": "Bearer sk"})
            if found.is_success:
                answers[text].add(answer_in(api, found))
            else:
                failed.append(found.text)
        return failed

    async def load() -> list[str]:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60, verify=TLS) as http:
            end = time.monotonic() + SECONDS
            found = await asyncio.gather(*(client(http, i, end) for i in range(CLIENTS)))
        return [one for some in found for one in some]

    assert asyncio.run(load()) == []
    calls = Counter(map(question_of, upstream.bodies))
    assert set(calls.values()) == {1}
    assert len(calls) > DISTINCT / 2
    assert {text: len(several) for text, several in answers.items()} == dict.fromkeys(calls, 1)


@pytest.mark.slow
def test_many_clients_ask_the_upstream_once_for_each_request(
    serve: Serve, upstream: Upstream, store_url: str
) -> None:
    # 200 answers come at one moment; on a busy machine the last is not written within .25 s.
    many_clients(serve(cache=store_url, timeout=2.0), upstream, "chat/completions")


@pytest.mark.slow
@pytest.mark.parametrize("api", APIS)
def test_many_clients_of_each_api_ask_the_upstream_once_for_each_request(
    serve: Serve, upstream: Upstream, api: str
) -> None:
    many_clients(serve(), upstream, api)


@pytest.mark.slow
def test_credentials_never_share_an_answer(serve: Serve, upstream: Upstream) -> None:
    """Each credential's answers name it: 2,500 random requests, each must name its own."""
    url = serve()
    owners = [f"sk-{i}" for i in range(5)]
    rng, wrong, hits = random.Random(7), 0, 0

    def reply(owner: str, question: str) -> None:
        upstream.choices = [{"message": {"role": "assistant", "content": f"{owner} {question}"},
                             "finish_reason": "stop"}]  # fmt: skip

    with httpx.Client(base_url=url, verify=TLS) as http:
        for _ in range(2500):
            owner, question = rng.choice(owners), f"Question {rng.randrange(60)}?"
            reply(owner, question)
            headers = {rng.choice(["authorization", "api-key"]): f"Bearer {owner}"}
            if rng.random() < 0.2:
                headers["x-tiered-cache-namespace"] = "eu"
            found = http.post("/v1/chat/completions", json=asked(question), headers=headers)
            hits += status(found) == "hit"
            wrong += content(found) != f"{owner} {question}"
    assert wrong == 0
    assert hits > 500


@pytest.mark.model
def test_the_same_question_in_other_words_is_answered_by_meaning(
    serve: Serve, upstream: Upstream, model_embedder: object
) -> None:
    del model_embedder  # it is here
    url = serve(semantic=True, threshold=0.85, load="lazy")
    first = post(url, asked("How do I reset my password?"))
    assert status(first) == "miss"
    found = post(url, asked("How can I reset my password?"))
    assert (status(found), found.headers["x-tiered-cache-tier"]) == ("hit", "semantic")
    assert 0.85 <= float(found.headers["x-tiered-cache-similarity"]) < 1
    assert content(found) == content(first)
    streamed = post(url, asked("How can I reset my password?", stream=True))
    assert streamed.headers["x-tiered-cache-tier"] == "semantic"
    assert status(post(url, asked("How do I close my account?"))) == "miss"
    other = {**asked("How can I reset my password?"), "temperature": 1}
    assert status(post(url, other)) == "miss", "sampled answers are matched exactly alone"


@pytest.fixture
def stack(redis_server: str, tmp_path: Path) -> Iterator[RedisStack]:
    """Give a Redis of the test's own, to be ended and started again in its place."""
    del redis_server  # it skips where none can be had
    with RedisStack(port=free_port(), folder=tmp_path) as server:
        yield server


@pytest.mark.redis
@pytest.mark.slow
def test_every_request_is_answered_while_redis_is_gone(
    serve: Serve, upstream: Upstream, stack: RedisStack
) -> None:
    url = serve(cache=stack.url, timeout=0.25)
    failed, took, hits = list[str](), list[float](), list[float]()
    over = threading.Event()

    def client(number: int) -> None:
        with httpx.Client(base_url=url, timeout=30, verify=TLS) as http:
            n = 0
            while not over.is_set():
                n += 1
                body = asked(f"Part {number} {n // 3}?", stream=n % 2 == 0)
                began = time.monotonic()
                try:
                    found = http.post(
                        "/v1/chat/completions", json=body, headers={"authorization": "Bearer sk"}
                    )
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                    continue
                took.append(time.monotonic() - began)
                text = body["messages"][0]["content"]
                if not found.is_success or said(found) != f"answer to {text}":
                    failed.append(found.text)
                elif status(found) == "hit":
                    hits.append(time.monotonic())

    def wait_for_hits() -> None:
        began = time.monotonic()
        while sum(moment > began for moment in list(hits)) < 20:
            assert time.monotonic() < began + 15, "no hits"
            time.sleep(0.05)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for one in threads:
        one.start()
    try:
        wait_for_hits()
        for trouble, mend in ((stack.freeze, stack.thaw), (stack.kill, stack.start)):
            trouble()
            time.sleep(1.5)
            mend()
            wait_for_hits()
    finally:
        over.set()
        for one in threads:
            one.join()
    assert failed == []
    assert max(took) < 3.0
