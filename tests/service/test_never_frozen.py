"""No body, however large, deep or slow, holds up the others: each is served or refused in time."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_core.service.app import BoundedH11, create_app
from shared_core.service.body import (
    MAX_DEPTH,
    MAX_ESCAPES,
    MAX_MESSAGES,
    MAX_VALUES,
    check_bounds,
    read_json,
)
from shared_core.service.cache_api import QUESTION, ToWarm
from shared_core.service.errors import APIError
from shared_core.service.settings import Settings
from tests.service.conftest import Serve
from tests.service.process import Running, started
from tests.service.serving import served

MOST = 20 * 2**20 - 1000


def chat(text: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"' + text + b'"}]}'


def filled(piece: bytes, most: int = MOST) -> bytes:
    return piece * (most // len(piece))


def turns(count: int, content: str = "x" * 50) -> bytes:
    messages = [{"role": "user", "content": content}] * count
    return json.dumps({"model": "m", "messages": messages}).encode()


def nested(depth: int) -> bytes:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"extra":' + deep + b"}"


LARGE: dict[str, bytes] = {
    "one long text": chat(filled(b"word ")),
    "one long word": chat(filled(b"a")),
    "a text of two-byte letters": chat(filled("é".encode())),
    "a text of three-byte letters": chat(filled("漢".encode())),
    "a text of four-byte letters": chat(filled("😀".encode())),
    "a text of commas": chat(filled(b",")),
    "a text of brackets": chat(filled(b"[{")),
    "a text of line breaks": chat(filled(b"\\n", 2 * MAX_ESCAPES - 10)),
    "a text of quotes": chat(filled(b'\\"', 2 * MAX_ESCAPES - 10)),
    "a text of escaped letters": chat(filled(b"\\u00e9", 6 * MAX_ESCAPES - 10)),
    "a text of digits": chat(filled(b"1234567890 ")),
    "a text of tags": chat(filled(b"<context")),
    "a text of labels": chat(filled(b"context question ")),
    "many messages": turns(MAX_MESSAGES),
    "many long messages": turns(1_000, "How do I reset it? " * 1_000),
    "many numbers": b'{"model":"m","messages":[1],"x":[' + filled(b"1.5e-300,", 800_000) + b"1]}",
    "many objects": b'{"model":"m","messages":[],"x":[' + filled(b'{"b":1},', 240_000) + b"1]}",
    "as deep as it goes": nested(MAX_DEPTH - 1),
    "spaces": b" " * MOST + chat(b"x"),
    "a number of many digits": b'{"model":"m","messages":[' + b"1" * MOST + b"]}",
    "an image": chat(b"data:image/png;base64," + filled(b"iVBORw0K")),
    # beyond the limits: refused, and as quickly
    "too deep": filled(b"["),
    "too deep, of objects": filled(b'{"a":'),
    "too many values": b"[" + filled(b"[],") + b"1]",
    "too many texts": b"[" + filled(b'"",') + b"1]",
    "too many escapes": chat(filled(b"\\\\")),
    "too many messages": turns(MAX_MESSAGES + 1),
}


@pytest.mark.slow
def test_health_answers_in_time_whatever_body_is_read() -> None:
    """In a process of its own, so that the reading here holds up nothing there.

    What counts is the time that the server itself took meanwhile, not that of others here.
    """
    took: dict[str, list[float]] = {}
    with (
        started("--no-semantic", "--upstream", "http://127.0.0.1:9/v1") as running,
        httpx.Client(base_url=running.url, timeout=60) as asking,
    ):
        for path in ("/v1/chat/completions", "/v1/cache/set", "/v1/embeddings"):
            send(asking, path, chat(b"x"))
            for name, content in LARGE.items():
                work = partial(send, asking, path, content)
                took[f"{path}: {name}"] = health_while(running, work)
    slow = {name: max(times) for name, times in took.items() if max(times) > 0.1}
    every = sorted(one for times in took.values() for one in times)
    assert every[int(len(every) * 0.99)] < 0.1, slow


def send(client: httpx.Client, path: str, content: bytes) -> None:
    found = client.post(path, content=content, headers={"content-type": "application/json"})
    assert found.status_code in (200, 400, 413, 422, 502), found.text


def health_while(running: Running, work: Callable[[], Any]) -> list[float]:
    """Return how long each /health took while ``work`` was done, on a connection of its own."""
    took, done = [], threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=running.url) as client:
            while not took or not done.is_set():
                began, used = time.perf_counter(), cpu_seconds(running.process.pid)
                assert client.get("/health").is_success
                wall = time.perf_counter() - began
                took.append(min(wall, cpu_seconds(running.process.pid) - used))
                time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        work()
    finally:
        done.set()
        watching.join()
    return took


def cpu_seconds(pid: int) -> float:
    """Return how long the threads of a process have run; where nobody knows, for ever."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return math.inf
    ran = 0
    for thread in threads:
        try:
            ran += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it has just ended
    return ran / 1e9 if ran else math.inf


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("too deep", 422), ("too deep, of objects", 422), ("too many values", 422),
        ("too many texts", 422), ("too many escapes", 413), ("too many messages", 422),
    ],
)  # fmt: skip
def test_more_than_a_body_may_hold_is_refused(name: str, status: int) -> None:
    with pytest.raises(APIError) as refused:
        read_json(LARGE[name])
    assert refused.value.status == status


@pytest.mark.parametrize("name", ["as deep as it goes", "many messages", "many objects"])
def test_what_is_within_the_limits_is_read(name: str) -> None:
    assert read_json(LARGE[name]) == json.loads(LARGE[name])


def test_as_many_rows_as_may_be_warmed_at_once_are_within_the_limits() -> None:
    limits = ToWarm.model_fields["rows"].metadata
    limit = next(one.max_length for one in limits if hasattr(one, "max_length"))
    row = {**QUESTION, "answer": {"content": "It melts."}}
    assert len(read_json(json.dumps({"rows": [row] * limit}).encode())["rows"]) == limit


@pytest.mark.parametrize(
    "body",
    [
        '{"a": 1, "a": 1}',
        '{"model": "m", "model": "n"}',
        '{"a": [{"b": {"c": 1, "d": 2, "c": 3}}]}',
        '{"\\u0061": 1, "a": 2}',
    ],
)
def test_a_key_twice_is_refused(body: str) -> None:
    with pytest.raises(APIError) as refused:
        read_json(body.encode())
    assert (refused.value.status, refused.value.code) == (422, "duplicate_key")


@pytest.mark.slow
def test_a_key_twice_reaches_no_upstream(serve: Serve, upstream: Any) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}'
    url = serve()
    for path in ("chat/completions", "completions", "embeddings", "cache/set", "chat"):
        found = httpx.post(
            f"{url}/v1/{path}", content=body, headers={"content-type": "application/json"}
        )
        assert (found.status_code, found.json()["error"]["code"]) == (422, "duplicate_key"), path
    assert upstream.calls == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.slow
@given(JSON, st.booleans(), st.text(st.sampled_from('"\\[]{},:a'), max_size=40))
@settings(max_examples=200, deadline=None)
def test_brackets_in_texts_count_for_nothing(value: Any, ascii_only: bool, tricky: str) -> None:
    """A text of whatever is read as one, also across the slices in which a body is counted."""
    padding = "x" * (2**20 - len(tricky) - 10)
    body = json.dumps([padding + tricky, "[" * 200, value], ensure_ascii=ascii_only)
    assert read_json(body.encode("utf-8", "surrogatepass")) == json.loads(body)
    deep = json.dumps([padding + tricky, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)])
    with pytest.raises(APIError):
        check_bounds(deep.encode())


def test_values_are_counted_wherever_they_stand() -> None:
    for body in (b"[" + b"1," * MAX_VALUES + b"1]", b"[" + b'{"a":1},' * (MAX_VALUES // 2) + b"1]"):
        with pytest.raises(APIError):
            check_bounds(body)


# -------------------------------------------------------------------------------- slow connections


class Impatient(BoundedH11):
    head_timeout = 0.4


def drip(url: str, pieces: list[bytes], pause: float) -> bytes:
    """Send pieces one after the other, and return what comes until the connection is closed."""
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sending:
        try:
            for piece in pieces:
                sending.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass  # closed by the server: what it said is read
        got = b""
        try:
            while part := sending.recv(65536):
                got += part
        except ConnectionError:
            pass
        return got


HEAD = b"POST /v1/cache/get HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_headers_and_bodies_that_come_too_slowly_are_cut_off() -> None:
    app = create_app(Settings(semantic=False, request_timeout=0.4))
    with served(app, http=Impatient) as url:
        began = time.monotonic()
        assert drip(url, [b"x"[:0]], 0) == b"", "a connection that says nothing"
        assert drip(url, [HEAD, *[b"X-A: 1\r\n"] * 20], 0.1) == b""
        slow = drip(url, [HEAD + b"Content-Length: 50\r\n\r\n", *[b" "] * 20], 0.1)
        assert b" 408 " in slow.partition(b"\r\n")[0]
        again = HEAD + b"Content-Length: 2\r\n\r\n{}"
        assert b" 422 " in drip(url, [again, b"POST /v1"], 0.1), "the second request never comes"
        assert time.monotonic() - began < 9
        # patience is for each request: one that is kept alive for longer is served all the same
        with httpx.Client(base_url=url) as client:
            for _ in range(4):
                assert client.get("/health").is_success
                time.sleep(0.2)
