"""The proxy over HTTP: what a hit costs beyond an empty route, and many clients at one time.

    python benchmarks/service.py                # both; 30 s of load
    python benchmarks/service.py --seconds 5

Servers run in processes of their own: an empty FastAPI route beside the proxy's settings of
uvicorn, the proxy on each store, and a fake upstream that takes 200 ms. One client asks each in
turn, so that what else the machine does falls on all alike; p10 says what the work takes, the
median what it took. The load has 200 clients without a pause, who ask 500 distinct requests, a
third of them streamed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from shared_core.service.app import create_app, uvicorn_options
from shared_core.service.settings import Settings

ROUNDS, WARM_UP = 1_500, 200
CLIENTS, DISTINCT, STREAMED = 200, 500, 0.33
UPSTREAM_S = 0.2
PATIENCE_S = 30.0
HEADERS = {"authorization": "Bearer sk-one"}


def empty_app() -> FastAPI:
    """Return an app whose route does nothing."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def nothing() -> dict[str, str]:
        return {"status": "ok"}

    return app


def upstream_app() -> FastAPI:
    """Return an app that answers each chat after a while, and says how often it was asked what."""
    app, asked = FastAPI(), Counter[str]()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        body = await request.json()
        question = body["messages"][-1]["content"]
        asked[question] += 1
        await asyncio.sleep(UPSTREAM_S)
        text, head = f"answer to {question}", {"id": "c", "created": 1, "model": "m"}
        if body.get("stream"):
            return StreamingResponse(iter(_chunks(head, text)), media_type="text/event-stream")
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice]})

    @app.get("/asked")
    async def told() -> dict[str, int]:
        return asked

    return app


def _chunks(head: dict[str, Any], text: str) -> list[str]:
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": text}, None), ({}, "stop")]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in deltas
    ]
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]


def _run(what: str, listening: socket.socket, given: dict[str, Any]) -> None:
    settings = Settings(**given)
    apps = {"empty": empty_app, "upstream": upstream_app}
    app = apps[what]() if what in apps else create_app(settings)
    options = {**uvicorn_options(settings), "log_level": "error"}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    server.run([listening])


@contextmanager
def served(what: str, **given: Any) -> Iterator[str]:
    """Give the base URL of a server in a process of its own."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        given = {"semantic": False, **given}
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(what, listening, given), daemon=True
        )
        process.start()
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                httpx.get(f"{url}/openapi.json")
                break
            except httpx.TransportError:
                assert time.monotonic() < end, f"{what} does not answer"
                time.sleep(0.05)
        try:
            yield url
        finally:
            process.terminate()
            process.join(PATIENCE_S)


def body_of(number: int, stream: bool = False) -> dict[str, Any]:
    """Return the body of one of the distinct requests."""
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"No {number}"},
    ]
    return {"model": "m", "temperature": 0, "stream": stream, "messages": asked}


def hits(stores: dict[str, str]) -> None:
    """Print what an exact hit takes on each store beyond an empty route."""
    with ExitStack() as stack:
        upstream = stack.enter_context(served("upstream"))
        urls = {"empty route": stack.enter_context(served("empty"))}
        for name, store in stores.items():
            urls[name] = stack.enter_context(
                served("proxy", cache=store, upstream=f"{upstream}/v1")
            )
        client = stack.enter_context(httpx.Client(timeout=30, headers=HEADERS))
        cases = [(name, False) for name in urls] + [(name, True) for name in stores]
        took = {case: np.zeros(ROUNDS) for case in cases}
        for i in range(-WARM_UP, ROUNDS):
            random.shuffle(cases)
            for name, stream in cases:
                began = time.perf_counter()
                found = client.post(f"{urls[name]}/v1/chat/completions", json=body_of(0, stream))
                if i >= 0:
                    took[name, stream][i] = (time.perf_counter() - began) * 1000
                    assert name == "empty route" or found.headers["x-tiered-cache"] == "hit"
        base = np.percentile(took["empty route", False], [10, 50])
        print(f"{'':28}{'p10 ms':>9}{'median':>9}{'beyond: p10':>14}{'median':>9}")
        for (name, stream), times in sorted(took.items()):
            low, middle = np.percentile(times, [10, 50])
            title = f"{name}{', streamed' if stream else ''}"
            beyond = f"{low - base[0]:14.2f}{middle - base[1]:9.2f}" if name in stores else ""
            print(f"{title:28}{low:9.2f}{middle:9.2f}{beyond}")


async def _client(http: httpx.AsyncClient, number: int, end: float, told: Counter[str]) -> None:
    rng = random.Random(number)
    while time.monotonic() < end:
        body = body_of(rng.randrange(DISTINCT), rng.random() < STREAMED)
        try:
            found = await http.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            told[f"error: {type(error).__name__}"] += 1
            continue
        whole = f'answer to {body["messages"][-1]["content"]}"' in found.text
        kind = found.headers.get("x-tiered-cache-tier", found.headers.get("x-tiered-cache"))
        told[kind if found.is_success and whole else f"error: {found.status_code}"] += 1


def load(name: str, store: str, seconds: float) -> None:
    """Print how many clients fare at one time, and how often the upstream was asked."""

    async def all_of_them(url: str) -> Counter[str]:
        told, tls = Counter[str](), ssl.create_default_context()
        async with AsyncExitStack() as stack:
            # each has a pool of its own: one of 200 connections costs more than the proxy does
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=url, timeout=60, headers=HEADERS, verify=tls)
                )
                for _ in range(CLIENTS)
            ]
            end = time.monotonic() + seconds
            await asyncio.gather(*(_client(one, i, end, told) for i, one in enumerate(clients)))
        return told

    with ExitStack() as stack:
        upstream = stack.enter_context(served("upstream"))
        url = stack.enter_context(served("proxy", cache=store, upstream=f"{upstream}/v1"))
        told = asyncio.run(all_of_them(url))
        asked = httpx.get(f"{upstream}/asked").json()
    failed = sum(count for kind, count in told.items() if kind.startswith("error"))
    more = sum(count - 1 for count in asked.values())
    print(
        f"{name:12}{told.total() / seconds:8.0f} requests/s, {failed} failed, "
        f"{len(asked)} distinct, {more} asked again; {dict(sorted(told.items()))}"
    )


def main() -> None:
    """Measure both."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=30.0)
    arguments.add_argument("--redis", help="a Redis to measure too, such as redis://localhost:6379")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/a.db"}
        if given.redis:
            stores["redis"] = given.redis
        print(f"load average {os.getloadavg()[0]:.1f}; one client, {ROUNDS} requests each")
        hits(stores)
        print(f"\nload average {os.getloadavg()[0]:.1f}; {CLIENTS} clients, {given.seconds:.0f} s")
        for name, store in stores.items():
            load(name, store.replace("a.db", "b.db"), given.seconds)


if __name__ == "__main__":
    main()
