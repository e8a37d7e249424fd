"""What an attacker tries: other hosts, other pages, other roles, other paths, other tenants."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi.routing import APIRoute

from shared_core.cache import ResponseCache
from shared_core.service.access import ENDPOINTS, STORED, TOKEN_HEADER, Rule, new_key
from shared_core.service.app import BoundedH11, create_app
from shared_core.service.settings import Settings
from tests.service.serving import served
from tests.soak import FULL

HERE = "http://127.0.0.1:8000"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

OF_UPSTREAMS = (
    "models", "models/m", "models/org/m", "chat/completions", "completions", "embeddings",
    "responses", "responses/resp_1", "responses/resp_1/cancel", "responses/resp_1/input_items",
    "responses/input_tokens", "conversations", "conversations/conv_1",
    "conversations/conv_1/items", "chat/completions/chatcmpl_1",
    "chat/completions/chatcmpl_1/messages", "files", "files/file_1", "files/file_1/content",
    "uploads", "uploads/u_1/parts", "batches", "batches/b_1/cancel", "vector_stores",
    "vector_stores/vs_1/search", "containers/c_1/files", "assistants", "threads/t_1/runs",
    "fine_tuning/jobs", "fine_tuning/jobs/j_1/cancel", "evals", "images/generations",
    "images/edits", "audio/speech", "audio/transcriptions", "moderations", "realtime/sessions",
    "realtime/client_secrets", "videos", "videos/v_1/content", "organization",
    "organization/admin_api_keys", "organization/users", "organization/costs", "projects",
    "usage", "organization/projects/p_1/api_keys", "dashboard/billing/usage", "engines",
    "edits", "search", "messages", "messages/count_tokens", "messages/batches",
    "messages/batches/b_1/results", "organizations/users", "organizations/api_keys", "skills",
    "rerank", "audio/voices", "webhooks",
)  # fmt: skip
"""Endpoints of OpenAI, Anthropic and others, below ``/v1/``."""

MINIMAL = tuple(map(Rule.parse, ENDPOINTS))


@dataclass
class Asked:
    """What a fake upstream was asked: method, decoded path below /v1/, credential."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)
    name: str = "one"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        raw = request.url.raw_path.decode().partition("?")[0].removeprefix("/v1/")
        own = request.headers.get("x-api-key")  # as Anthropic's upstream is asked
        credential = request.headers.get("authorization", "") if own is None else f"Bearer {own}"
        self.calls.append((request.method, unquote(raw), credential))
        body = json.loads(request.content or b"{}")
        said = f"{self.name} {credential} {body.get('messages', [{}])[-1].get('content')}"
        message = {"role": "assistant", "content": said}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        blocks = [{"type": "text", "text": said}]
        as_message = {"type": "message", "role": "assistant", "content": blocks}
        whole = json.dumps(
            {"model": "m", "choices": choices, **as_message, "stop_reason": "end_turn"}
        ).encode()
        json_type = {"content-type": "application/json"}
        return httpx.Response(200, headers=json_type, stream=httpx.ByteStream(whole))


@asynccontextmanager
async def service(
    cache: ResponseCache | None = None, asked: Asked | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Asked, Any]]:
    asked = asked or Asked()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.MockTransport(asked))
        )
        app = create_app(
            Settings(**{"semantic": False, **settings}), cache=cache, upstream=upstream
        )
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url=HERE)
        yield await stack.enter_async_context(client), asked, app


def every_request(app: Any) -> Iterator[tuple[str, str]]:
    """Yield each method with each path: those of the routes, and those of upstreams."""
    of_routes = [one.path for one in app.routes if isinstance(one, APIRoute)]
    paths = [re.sub(r"\{[^}]*\}", "x", path) for path in of_routes]
    for path in dict.fromkeys([*paths, "/openapi.json", *(f"/v1/{one}" for one in OF_UPSTREAMS)]):
        for method in METHODS:
            yield method, path


# ------------------------------------------------------------------------------------------ hosts


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("127.0.0.1@evil.example", "evil.example#127.0.0.1", "127.0.0.1:8000:1", "[::1", "::1"),
        *("", " ", "2130706433", "0x7f000001", "127.0.0.1,evil.example", "10.0.0.5", "[fe80::1]"),
        *("localhost\\.evil.example", "localhost%2eevil", "xn--localhost", "*"),
    ],
)
@pytest.mark.slow
async def test_no_route_and_method_is_served_to_another_host(host: str) -> None:
    async with service(upstream_key="sk-server") as (client, asked, app):
        for method, path in every_request(app):
            found = await client.request(method, path, headers={"host": host})
            assert found.status_code == 403, (method, path)
        assert not asked.calls


async def test_hosts_of_ours_are_served_by_any_name_that_the_operator_gives() -> None:
    for host in ("localhost", "127.0.0.1:9", "[::1]:9", "LOCALHOST:1", "127.8.8.8"):
        async with service() as (client, _, _):
            assert (await client.get("/health", headers={"host": host})).is_success, host
    async with service(hosts=("cache.example",)) as (client, _, _):
        assert (await client.get("/health", headers={"host": "Cache.example:80"})).is_success
        assert (await client.get("/health", headers={"host": "x.cache.example"})).is_error
    async with service(host="0.0.0.0") as (client, _, _):
        assert (await client.get("/health", headers={"host": "10.0.0.5:8000"})).is_success
        assert (await client.get("/health", headers={"host": "evil.example"})).is_error
    async with service(host="0.0.0.0", hosts=("*",)) as (client, _, _):
        assert (await client.get("/health", headers={"host": "anything"})).is_success


# ------------------------------------------------------------------------------------------ pages

OTHER_PAGES: tuple[dict[str, str], ...] = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://127.0.0.1:8000.evil.example"},
    {"origin": f"{HERE}/"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    {"sec-fetch-site": "something new"},
    {"origin": HERE, "sec-fetch-site": "cross-site"},
)


@pytest.mark.parametrize("headers", OTHER_PAGES)
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.slow
async def test_no_route_and_method_is_served_to_another_page(
    headers: dict[str, str], keyed: bool
) -> None:
    key, entry = new_key("ops", "admin")
    keys = (str(entry),) if keyed else ()
    async with service(upstream_key="sk-server", keys=keys) as (client, asked, app):
        bearer = {"authorization": f"Bearer {key}"} if keyed else {}
        for method, path in every_request(app):
            found = await client.request(method, path, headers={**headers, **bearer})
            assert found.status_code == 403, (method, path)
        assert not asked.calls


async def test_a_link_opens_the_page_and_nothing_else() -> None:
    visit = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    async with service(upstream_key="sk-server") as (client, asked, app):
        for method, path in every_request(app):
            found = await client.request(method, path, headers=visit)
            assert found.is_success is ((method, path) == ("GET", "/")), (method, path)
        framed = await client.get("/", headers={**visit, "sec-fetch-dest": "iframe"})
        assert framed.status_code == 403
        assert not asked.calls


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "same-origin"},
        {"user-agent": "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Safari/605.1.15"},
        {"origin": HERE},
    ],
)
@pytest.mark.slow
async def test_no_get_of_a_browser_reaches_the_upstream(headers: dict[str, str]) -> None:
    allow = ("* /v1/images/generations",)
    async with service(upstream_key="sk-server", allow=allow) as (client, asked, app):
        for method, path in every_request(app):
            if method in ("GET", "HEAD", "OPTIONS"):
                await client.request(method, path, headers=headers)
        assert not asked.calls


async def test_no_get_changes_anything() -> None:
    asking = {"model": "m", "messages": [{"role": "user", "content": "What is a fuse?"}]}
    with ResponseCache.open(semantic=False) as cache:
        async with service(cache) as (client, _, app):
            kept = {**asking, "answer": {"content": "It melts."}}
            assert (await client.post("/v1/cache/set", json=kept)).json()["stored"]
            for method, path in every_request(app):
                if method in ("GET", "HEAD", "OPTIONS"):
                    query = {"namespace": "default", "confirm": "default", "query": "fuse"}
                    await client.request(method, path, params=query)
            found = await client.post("/v1/cache/get", json=asking)
            assert found.json()["outcome"] == "hit"
            assert cache.stats().stores == 1


ACTIONS = (
    ("POST", "/v1/cache/set"),
    ("POST", "/v1/cache/feedback"),
    ("POST", "/v1/cache/invalidate"),
    ("POST", "/v1/cache/warm"),
    ("DELETE", "/v1/cache?namespace=default&confirm=default"),
)


@pytest.mark.parametrize(("method", "path"), ACTIONS)
@pytest.mark.slow
async def test_what_a_page_changes_needs_the_token_of_our_page(method: str, path: str) -> None:
    async with service() as (client, _, _):
        page = (await client.get("/")).text
        token = re.search(r'tiered-cache-token" content="([^"]{20,})"', page)
        assert token, "the page was given none"
        ours = {"origin": HERE, "sec-fetch-site": "same-origin"}
        for wrong in ({}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "x" * 32}):
            found = await client.request(method, path, headers={**ours, **wrong})
            assert (found.status_code, found.json()["error"]["code"]) == (403, "bad_token")
        right = await client.request(method, path, headers={**ours, TOKEN_HEADER: token[1]})
        assert right.status_code in (200, 422)
    async with service() as (client, _, _):
        old = await client.request(method, path, headers={**ours, TOKEN_HEADER: token[1]})
        assert old.status_code == 403, "the token of another server is taken"


async def test_pages_that_the_operator_names_may_ask_across_sites() -> None:
    app_of = "https://app.example"
    async with service(cors_origins=(app_of,), upstream_key="sk") as (client, asked, _):
        headers = {"origin": app_of, "sec-fetch-site": "cross-site"}
        found = await client.get("/v1/models", headers=headers)
        assert found.headers["access-control-allow-origin"] == app_of
        assert asked.calls == [("GET", "models", "Bearer sk")]
        # an image of that page, which no browser marks with its origin
        assert (await client.get("/v1/models", headers={"sec-fetch-site": "cross-site"})).is_error


# ------------------------------------------------------------------------------------------ roles


def may_reach(method: str, path: str, own: bool) -> bool:
    if any(rule.allows(method, path) for rule in MINIMAL):
        return True
    return own and any(path == one or path.startswith(f"{one}/") for one in STORED)


@pytest.mark.parametrize("role", ["use", "admin"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.slow
async def test_no_role_reaches_more_of_the_upstream_than_its_list(role: str, own: bool) -> None:
    key, entry = new_key("app", role, "shop")
    headers = {"authorization": f"Bearer {key}"}
    if own:
        headers = {"x-tiered-cache-key": key, "authorization": "Bearer sk-own"}
    async with service(upstream_key="sk-server", keys=(str(entry),)) as (client, asked, app):
        for method, path in every_request(app):
            before = len(asked.calls)
            found = await client.request(method, path, json={"n": path}, headers=headers)
            reached = asked.calls[before:]
            below = path.removeprefix("/v1/")
            expected = path.startswith("/v1/") and may_reach(method, below, own)
            assert bool(reached) is expected, (method, path, found.status_code)
            credential = "Bearer sk-own" if own else "Bearer sk-server"
            assert all(one == (method, below, credential) for one in reached)
            if not reached and path.startswith("/v1/") and below in OF_UPSTREAMS:
                assert found.status_code in (403, 405), (method, path)


async def test_without_a_key_nothing_is_reached() -> None:
    async with service(upstream_key="sk-server", keys=(str(new_key("a")[1]),)) as (
        client,
        asked,
        app,
    ):
        for method, path in every_request(app):
            found = await client.request(method, path, json={})
            public = path in ("/", "/health", "/ready", "/openapi.json") or path.startswith(
                "/page/"
            )
            assert public or found.status_code in (401, 405), (method, path)
        assert not asked.calls


async def test_an_operator_names_further_endpoints_but_never_what_is_stored() -> None:
    allow = ("POST /v1/images/*", "* /v1/moderations")
    async with service(upstream_key="sk-server", allow=allow) as (client, asked, app):
        for method, path in every_request(app):
            await client.request(method, path, json={})
        more = {(m, p) for m, p, _ in asked.calls if not may_reach(m, p, own=False)}
    named = {("POST", "images/generations"), ("POST", "images/edits")}
    assert more == named | {(method, "moderations") for method in METHODS}
    for stored in STORED:
        with pytest.raises(ValueError, match="stores passes with the caller's own"):
            Settings(allow=(f"* /v1/{stored}/*",))
    for bad in ("GET", "/v1/x", "GET /v1/", "GET /x", "GET /v1/../x", "get /v1/x", "GET /v1/*/x"):
        with pytest.raises(ValueError, match="must read METHOD /v1/PATH"):
            Settings(allow=(bad,))


# ------------------------------------------------------------------------------------------ paths

PATHS = (
    "models/../files", "models/%2e%2e/files", "models/%2E./files", "models/..%2ffiles",
    "models%2f..%2ffiles", "models/..%5cfiles", "models\\..\\files", "models/%252e%252e/files",
    "models/..;/files", "models;/../files", "models/x/../../files", "models/./files",
    "models//files", "/files", "//files", "models/", "models/%00", "models/%0d%0aX",
    "models/%23/files", "models/%3fx", "models/x%2f%2e%2e%2f%2e%2e%2ffiles",
    "models/%c0%ae%c0%ae/files", "models/%uff0e%uff0e/files", "chat/completions/../../files",
    "chat/completions/%2e%2e/files", "FILES", "Files/file_1", "models/\u2024\u2024/files",
    "models/..%00/files", "models/%5c..%5cfiles", "%66iles", "fi%6ces", "responses/../files",
    "embeddings/..%2f..%2fv2", "models/x%09", "models/%20..%20/files",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.slow
async def test_no_spelling_of_a_path_leads_elsewhere(path: str, method: str) -> None:
    """Read as the most careless upstream would: decoded again and again, with backslashes."""
    raw = f"/v1/{path}".encode()
    async with service(upstream_key="sk-server") as (_, asked, app):
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(raw.decode()), "raw_path": raw, "query_string": b"", "root_path": "",
            "headers": [(b"host", b"127.0.0.1")], "state": {},
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)  # as servers call it: no client tidies the path up
        assert sent[0]["status"] >= 400 or asked.calls
    for told in asked.calls:
        careless = told[1]
        for _ in range(4):
            careless = unquote(careless).replace("\\", "/")
        assert may_reach(method, careless, own=False), told
        assert not {"", ".", ".."} & {*careless.split("/")}, told


# ------------------------------------------------------------------------------------------- wire


def raw_reply(port: int, *lines: str, body: str = "") -> list[int]:
    """Send bytes and return the statuses of all answers until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sending:
        sending.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        sending.shutdown(socket.SHUT_WR)
        got = b""
        while part := sending.recv(65536):
            got += part
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3})", got)]


HOST = "Host: 127.0.0.1"
INNER = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (("POST /v1/chat/completions HTTP/1.1", HOST, "Content-Length: 4",
          "Transfer-Encoding: chunked"), "0\r\n\r\n" + INNER),
        (("POST /v1/chat/completions HTTP/1.1", HOST, "Content-Length: 0",
          "Content-Length: 90"), INNER),
        (("POST /v1/chat/completions HTTP/1.1", HOST, "Transfer-Encoding: xchunked"), INNER),
        (("POST /v1/chat/completions HTTP/1.1", HOST, "Transfer-Encoding : chunked"), "0\r\n\r\n"),
        (("GET /v1/models HTTP/1.1", HOST, "Host: evil.example"), ""),
        (("GET /v1/models HTTP/1.1",), ""),
        (("GET /v1/models HTTP/1.0",), ""),
        (("GET http://evil.example/v1/models HTTP/1.1", HOST), ""),
        (("GET http://127.0.0.1/v1/files HTTP/1.1", HOST), ""),
        (("CONNECT evil.example:443 HTTP/1.1", HOST), ""),
        (("TRACE /v1/models HTTP/1.1", HOST), ""),
        (("GET /v1/models HTTP/1.1", HOST, "X-HTTP-Method-Override: DELETE"), ""),
        (("POST /v1/embeddings HTTP/1.1", HOST, "X-Method-Override: DELETE",
          "Content-Length: 0"), ""),
        (("GET /v1/models HTTP/1.1", HOST, "X-Original-URL: /v1/files"), ""),
        (("GET /v1/models HTTP/1.1", HOST, "X-Rewrite-URL: /v1/files"), ""),
        (("GET /v1/models HTTP/1.1", HOST, "X-A: b\x00c"), ""),
        (("GET /v1/models\t/v1/files HTTP/1.1", HOST), ""),
        (("DELETE /v1/files/file_1 HTTP/1.1", HOST), ""),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_no_smuggled_request_reaches_the_upstream(lines: tuple[str, ...], body: str) -> None:
    asked = Asked()
    upstream = httpx.AsyncClient(transport=httpx.MockTransport(asked))
    app = create_app(Settings(semantic=False, upstream_key="sk-server"), upstream=upstream)
    with served(app, http=BoundedH11, server_header=False) as url:
        statuses = raw_reply(int(url.rpartition(":")[2]), *lines, body=body)
    assert all(status >= 400 for status in statuses), statuses
    assert not asked.calls


# ---------------------------------------------------------------------------------------- tenants


REQUESTS = 5_000 if FULL else 800


@pytest.mark.slow
async def test_random_requests_of_three_keys_to_two_upstreams_mix_nothing_up() -> None:
    """Two upstreams behind one server, by path and by model, beside another server."""
    keys = {name: new_key(f"of-{name}", "use", name) for name in ("shop", "bank", "club")}
    lines = tuple(str(entry) for _, entry in keys.values())
    chance, hits = random.Random(11), 0
    asked = {name: Asked(name=name) for name in ("one", "two")}

    def by_host(request: httpx.Request) -> httpx.Response:
        return asked[request.url.host.partition(".")[0]](request)

    tables = [
        {"name": "one", "url": "https://one.example/v1", "key_env": "KEY_ONE",
         "models": ["of-one*"]},
        {"name": "two", "url": "https://two.example/v1", "key_env": "KEY_TWO",
         "kind": "anthropic"},
    ]  # fmt: skip
    with ResponseCache.open(semantic=False) as cache, pytest.MonkeyPatch.context() as patch:
        for name in asked:
            patch.setenv(f"KEY_{name.upper()}", f"sk-{name}")
        async with AsyncExitStack() as stack:
            both = service(cache, by_host, keys=lines, upstream=tables)  # type: ignore[arg-type]
            client, _, _ = await stack.enter_async_context(both)
            alone = service(cache, asked["two"], keys=lines, upstream="https://two.example/v1",
                            upstream_key="sk-two")  # fmt: skip
            second, _, _ = await stack.enter_async_context(alone)
            for _ in range(REQUESTS):
                tenant = chance.choice(sorted(keys))
                key = keys[tenant][0]
                if chance.random() < 0.1:
                    hits += await one_request(chance, "two", second, "", tenant, key)
                else:
                    name = chance.choice(("one", "two"))
                    prefix = f"/{name}" if chance.random() < 0.5 else ""
                    hits += await one_request(chance, name, client, prefix, tenant, key)
            for name, of_one in asked.items():
                assert all(may_reach(method, path, own=False) for method, path, _ in of_one.calls)
                assert {one for _, _, one in of_one.calls} == {f"Bearer sk-{name}"}
    assert hits > REQUESTS / 10


async def one_request(
    chance: random.Random,
    upstream: str,
    client: httpx.AsyncClient,
    prefix: str,
    tenant: str,
    key: str,
) -> bool:
    """Send one of all kinds, and say whether it was answered by the cache."""
    headers = {"authorization": f"Bearer {key}"}
    model = chance.choice(("m", "of-one-m")) if prefix else f"of-{upstream}-m"
    if chance.random() < 0.4:
        method, path = chance.choice(METHODS), chance.choice(OF_UPSTREAMS)
        body = {"model": model}
        await client.request(method, f"{prefix}/v1/{path}", json=body, headers=headers)
        return False
    text = f"{tenant} asks {chance.randrange(40)}"
    shared = f"all ask {chance.randrange(5)}"
    asking = chance.choice((text, shared))
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": asking}]}
    if chance.random() < 0.5:
        found = await client.post(f"{prefix}/v1/chat/completions", json=body, headers=headers)
        said = found.json()["choices"][0]["message"]["content"]
    else:
        found = await client.post(f"{prefix}/v1/messages", json=body, headers=headers)
        said = found.json()["content"][0]["text"]
    assert said == f"{upstream} Bearer sk-{upstream} {asking}"
    if found.headers["x-tiered-cache"] == "hit":
        check = found.headers["x-tiered-cache-entry-id"]
        judged = {"entry_id": check, "correct": True}
        taken = await client.post("/v1/cache/feedback", json=judged, headers=headers)
        assert taken.json() == {"taken": True}, "the entry is of another tenant"
        return True
    return False


# ------------------------------------------------------------------------------- stored objects

PART = {"role": "user", "content": "What is a fuse?"}


def _content(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def _input(*items: Any) -> dict[str, Any]:
    return {"input": list(items)}


NAMING: dict[str, tuple[str, dict[str, Any]]] = {
    "a response of before": ("responses", {"input": "x", "previous_response_id": "resp_1"}),
    "a conversation": ("responses", {"input": "x", "conversation": "conv_1"}),
    "a conversation's object": ("responses", {"input": "x", "conversation": {"id": "conv_1"}}),
    "a file": ("responses", _input({**PART, "content": [
        {"type": "input_file", "file_id": "file-1"}]})),
    "an image's file": ("responses", _input({**PART, "content": [
        {"type": "input_image", "file_id": "file-1", "detail": "auto"}]})),
    "a file in a tool's output": ("responses", _input({
        "type": "function_call_output", "call_id": "c", "output": [
            {"type": "input_file", "file_id": "file-1"}]})),
    "an item": ("responses", _input({"type": "item_reference", "id": "msg_1"}, PART)),
    "an item without a kind": ("responses", _input({"id": "msg_1"}, PART)),
    "an item whose kind is null": ("responses", _input({"id": "msg_1", "type": None}, PART)),
    "a vector store": ("responses", {"input": "x", "tools": [
        {"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
    "a container": ("responses", {"input": "x", "tools": [
        {"type": "code_interpreter", "container": "cntr_1"}]}),
    "a container's files": ("responses", {"input": "x", "tools": [
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]}),
    "a shell's container": ("responses", {"input": "x", "tools": [
        {"type": "shell", "environment": {"type": "container_reference",
                                          "container_id": "cntr_1"}}]}),
    "a mask": ("responses", {"input": "x", "tools": [
        {"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]}),
    "a file of a prompt": ("responses", {"prompt": {"id": "p", "version": "1", "variables": {
        "f": {"type": "input_file", "file_id": "file-1"}}}}),
    "a body that says it is a part": ("responses", {"type": "tool_use", **_input({
        **PART, "content": [{"type": "input_file", "file_id": "file-1"}]})}),
    "a file of a chat": ("chat/completions", _content({
        "type": "file", "file": {"file_id": "file-1"}})),
    "a sound of before": ("chat/completions", {"messages": [
        {"role": "assistant", "audio": {"id": "audio_1"}}, PART]}),
    "a file of a message": ("messages", _content({
        "type": "document", "source": {"type": "file", "file_id": "file_1"}})),
    "an image of a message": ("messages", _content({
        "type": "image", "source": {"type": "file", "file_id": "file_1"}})),
    "an upload": ("messages", _content({"type": "container_upload", "file_id": "file_1"})),
    "a container of before": ("messages", {"messages": [PART], "container": "container_1"}),
    "a container with an id": ("messages", {"messages": [PART], "container": {"id": "c_1"}}),
    "a skill": ("messages", {"messages": [PART], "container": {"skills": [
        {"type": "custom", "skill_id": "skill_1", "version": "latest"}]}}),
    "a file in a result": ("messages", _content({
        "type": "tool_result", "tool_use_id": "t", "content": [
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}}]})),
    "a file that is counted": ("messages/count_tokens", _content({
        "type": "document", "source": {"type": "file", "file_id": "file_1"}})),
    "a response that is counted": ("responses/input_tokens", {
        "input": "x", "previous_response_id": "resp_1"}),
    "a file of an allowed endpoint": ("images/edits", {"images": [{"file_id": "file-1"}]}),
}  # fmt: skip

HARMLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "a file as data": ("responses", _input({**PART, "content": [
        {"type": "input_file", "filename": "file_id", "file_data": "data:,x"}]})),
    "a citation": ("responses", _input({"role": "assistant", "content": [
        {"type": "output_text", "text": "x", "annotations": [
            {"type": "file_citation", "file_id": "file-1", "index": 0, "filename": "a"},
            {"type": "container_file_citation", "container_id": "c", "file_id": "f"},
            {"type": "file_path", "file_id": "file-1", "index": 0}]}]}, PART)),
    "what a search found": ("responses", _input({
        "type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"],
        "results": [{"file_id": "file-1", "text": "x"}]}, PART)),
    "an item with its content": ("responses", _input({
        "type": "message", "id": "msg_1", "role": "assistant", "content": []}, PART)),
    "a call of a tool of the app": ("messages", {"messages": [PART, {
        "role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "open", "input": {"file_id": "my-7"}}]}]}),
    "a tool's schema": ("responses", {"input": "x", "tools": [
        {"type": "function", "name": "open", "parameters": {"type": "object", "properties": {
            "file_id": {"type": "string"}, "container": {"enum": ["a"]}}}}]}),
    "names of the caller's own": ("chat/completions", {
        "messages": [PART], "metadata": {"file_id": "7", "conversation": "8"}}),
    "a text that speaks of them": ("chat/completions", {"messages": [
        {"role": "user", "content": "previous_response_id, file_id, container, conversation?"}]}),
    "a cited place": ("messages", {"messages": [PART, {"role": "assistant", "content": [
        {"type": "text", "text": "x", "citations": [
            {"type": "char_location", "cited_text": "x", "file_id": "file_1"}]}]}, PART]}),
    "a new container": ("responses", {"input": "x", "tools": [
        {"type": "code_interpreter", "container": {"type": "auto"}}]}),
    "a skill of the provider": ("messages", {"messages": [PART], "container": {"skills": [
        {"type": "anthropic", "skill_id": "pdf", "version": "latest"}]}}),
    "nothing": ("responses", {"input": "x", "previous_response_id": None, "conversation": None}),
    "sound to be made": ("chat/completions", {
        "messages": [PART], "modalities": ["audio"], "audio": {"voice": "a", "format": "wav"}}),
}  # fmt: skip


def _bytes_of(body: dict[str, Any], escaped: bool) -> bytes:
    """Spell a body, on demand with every letter of its names as an escape."""
    text = json.dumps({"model": "m", **body})
    if escaped:
        spelled = lambda found: "".join(f"\\u{ord(one):04x}" for one in found[0])  # noqa: E731
        text = re.sub(r"(?<=\")[a-z_]+(?=\":)", spelled, text)
    return text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("kind", NAMING)
async def test_no_stored_object_is_named_with_the_server_s_credential(
    kind: str, escaped: bool
) -> None:
    key, entry = new_key("app", "use", "shop")
    path, body = NAMING[kind]
    content, json_type = _bytes_of(body, escaped), {"content-type": "application/json"}
    known = {"keys": (str(entry),), "upstream_key": "sk-server", "allow": ("POST /v1/images/*",)}
    async with service(**known) as (client, asked, _):
        headers = {"authorization": f"Bearer {key}", **json_type}
        found = await client.post(f"/v1/{path}", content=content, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (403, "stored_objects")
        assert asked.calls == []
        own = {"authorization": "Bearer sk-own", "x-tiered-cache-key": key, **json_type}
        assert (await client.post(f"/v1/{path}", content=content, headers=own)).is_success
        assert [one for _, _, one in asked.calls] == ["Bearer sk-own"]


@pytest.mark.parametrize("kind", HARMLESS)
async def test_what_names_no_stored_object_is_answered(kind: str) -> None:
    path, body = HARMLESS[kind]
    async with service(upstream_key="sk-server") as (client, asked, _):
        found = await client.post(f"/v1/{path}", json={"model": "m", "max_tokens": 9, **body})
        assert found.is_success, found.text
        assert len(asked.calls) == 1


async def test_an_operator_names_objects_that_callers_may_name() -> None:
    async with service(upstream_key="sk", objects=("vs_1", "file-*")) as (client, asked, _):
        for stores, status in ((["vs_1"], 200), (["vs_2"], 403), (["vs_1", "vs_2"], 403)):
            tools = [{"type": "file_search", "vector_store_ids": stores}]
            body = {"model": "m", "input": "x", "tools": tools}
            assert (await client.post("/v1/responses", json=body)).status_code == status
        for file, status in (("file-7", 200), ("file-", 200), ("file", 403), ("xfile-7", 403)):
            body = {"model": "m", **_input({**PART, "content": [
                {"type": "input_file", "file_id": file}]})}  # fmt: skip
            assert (await client.post("/v1/responses", json=body)).status_code == status
        assert len(asked.calls) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"{'previous_response_id': 'r'}", b'{"previous_response_id": "r",}', b"// {}\n{}",
        b'{"a": 1} {"previous_response_id": "r"}', b"previous_response_id=r", b"\xff\xfe{}",
        b'{"a": "\n"}', b"[" * 30, b'{"a": 01}', b"", b"null",
    ],
)  # fmt: skip
async def test_no_body_that_nobody_can_read_goes_out_with_the_server_s_credential(
    content: bytes,
) -> None:
    async with service(upstream_key="sk-server") as (client, asked, _):
        paths = ("chat/completions", "responses", "messages", "embeddings", "messages/count_tokens")
        for path in paths:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                if not content and path.endswith("count_tokens"):
                    continue  # nothing is in it
                headers = {"content-type": kind}
                found = await client.post(f"/v1/{path}", content=content, headers=headers)
                assert found.status_code in (400, 422), (path, kind, found.text)
        assert asked.calls == []


# ----------------------------------------------------------------------------- odd requests

ODD: dict[str, tuple[bytes, set[int]]] = {
    "an absolute address": (
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404}),
    "an address of elsewhere": (
        b"GET http://127.0.0.1/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400, 403, 404}),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", {400, 403}),
    "no host of old": (b"GET /v1/models HTTP/1.0\r\n\r\n", {400, 403}),
    "two hosts": (
        b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nHOST: evil.example\r\n\r\n", {400, 403}),
    "a host with a dot": (b"GET /v1/models HTTP/1.1\r\nHost: evil.example.\r\n\r\n", {400, 403}),
    "a tunnel": (
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404, 405}),
    "a trace": (b"TRACE /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404, 405}),
    "a method of one's own": (
        b"PURGE /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404, 405}),
    "a small method": (b"delete /v1/files/f HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                       {400, 403, 404, 405}),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404, 405}),
    "a websocket": (
        b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {400, 403, 404}),
    "http/2 in the clear": (
        b"GET /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", {400, 403, 404}),
    "a preface of http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403, 404, 405, 505}),
    "a folded header": (
        b"GET /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n Host: evil\r\n\r\n",
        {400, 403}),
    "a space before the colon": (
        b"GET /v1/files HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n", {400, 403}),
    "a zero byte": (b"GET /v1/fi\0les HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404}),
    "bytes beyond ASCII": (
        b"GET /v1/fi\xff\xe9les HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", {400, 403, 404}),
    "a fragment": (b"GET /v1/models#/../files HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                   {400, 403, 404}),
    "digits of elsewhere": (
        "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: \u0663\r\n\r\nabc".encode(),
        {400, 403}),
    "a signed length": (
        b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: +3\r\n\r\nabc", {400, 403}),
    "a length with a line": (
        b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1_0\r\n\r\n", {400, 403}),
    "a length of many digits": (
        b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        {400, 403, 413}),
    "many headers": (
        b"GET /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        {400, 403, 431}),
    "one long header": (
        b"GET /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        {400, 403, 431}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD)
def test_no_odd_request_reaches_the_upstream(kind: str) -> None:
    sent, statuses = ODD[kind]
    asked = Asked()
    upstream = httpx.AsyncClient(transport=httpx.MockTransport(asked))
    app = create_app(Settings(semantic=False, upstream_key="sk-server"), upstream=upstream)
    with served(app, http=BoundedH11, ws="none", h11_max_incomplete_event_size=64_000) as url:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5) as talking:
            try:
                talking.sendall(sent)
            except OSError:
                pass  # closed before all of it was sent
            try:
                said = talking.recv(65536)
            except ConnectionError:
                said = b""
        assert not said or int(said.split()[1]) in statuses, said
        assert httpx.get(f"{url}/health").is_success
    assert asked.calls == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "gzip"}, 400), ({"content-encoding": "br"}, 400),
        ({"content-encoding": "identity, gzip"}, 400), ({"content-encoding": "x"}, 400),
        ({"content-encoding": "identity"}, 200), ({}, 200),
    ],
)  # fmt: skip
async def test_no_packed_body_goes_out_unread(headers: dict[str, str], status: int) -> None:
    """What we cannot read may unpack to anything: a bomb, a stored object, another model."""
    content = json.dumps({"model": "m", "max_tokens": 9, "messages": [PART]}).encode()
    if headers.get("content-encoding", "identity") != "identity":
        content = gzip.compress(content)
    async with service(upstream_key="sk-server") as (client, asked, _):
        for path in ("chat/completions", "messages", "messages/count_tokens"):
            told = {"content-type": "application/json", **headers}
            found = await client.post(f"/v1/{path}", content=content, headers=told)
            assert found.status_code == status, found.text
        assert len(asked.calls) == (3 if status == 200 else 0)


@pytest.mark.parametrize(
    "text", ['"\\ud800"', '"\\udfff x"', "NaN", "Infinity", "-Infinity", "1e999", "1" * 5000]
)
async def test_no_number_or_letter_that_json_lacks_breaks_the_service(text: str) -> None:
    content = '{"model":"m","max_tokens":9,"temperature":0,"messages":[{"role":"user","content":'
    for inside in (f"{content}{text}}}]}}", f'{content}"x"}}],"seed":{text}}}'):
        async with service(upstream_key="sk-server") as (client, _, _):
            for path in ("chat/completions", "messages", "cache/get", "embeddings"):
                found = await client.post(
                    f"/v1/{path}", content=inside.encode(),
                    headers={"content-type": "application/json"},
                )  # fmt: skip
                assert found.status_code in (200, 400, 422), (path, text, found.text)


@pytest.mark.slow
def test_no_trailer_of_a_body_is_read_as_a_header() -> None:
    key, entry = new_key("app")
    asked = Asked()
    upstream = httpx.AsyncClient(transport=httpx.MockTransport(asked))
    settings = Settings(semantic=False, upstream_key="sk-server", keys=(str(entry),))
    body = json.dumps({"model": "m", "messages": [PART]}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\nTrailer: Authorization\r\n"
    )
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(body), body)
    bearer = f"Authorization: Bearer {key}\r\n".encode()
    with served(create_app(settings, upstream=upstream), http=BoundedH11) as url:
        port = int(url.rpartition(":")[2])
        for sent, status in (
            (head + b"\r\n" + chunk + bearer + b"\r\n", b"401"),
            (head + bearer + b"\r\n" + chunk + b"X-Tiered-Cache-Namespace: eu\r\n\r\n", b"200"),
        ):
            with socket.create_connection(("127.0.0.1", port), 5) as talking:
                talking.sendall(sent)
                assert talking.recv(65536).split()[1] == status
    assert len(asked.calls) == 1
