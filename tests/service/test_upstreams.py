"""Several upstreams behind one server: which of them is asked, with what, and what stays apart."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from shared_core.cache import ResponseCache
from shared_core.cli import app as cli
from shared_core.service.access import new_key
from shared_core.service.settings import Settings, load_settings
from shared_core.service.upstream import specificity
from tests.service.test_attacks import Asked, service

DOCS = Path(__file__).parents[2] / "docs" / "service.md"
KEY, ENTRY = new_key("shop", "admin", "shop")
THREE: list[dict[str, Any]] = [
    {"name": "openai", "url": "https://openai.example/v1", "key_env": "KEY_OF_OPENAI",
     "models": ["gpt-*", "o3", "text-embedding-*"]},
    {"name": "claude", "url": "https://claude.example/v1", "kind": "anthropic",
     "key_env": "KEY_OF_CLAUDE", "models": ["claude-*"]},
    {"name": "local", "url": "http://localhost:9/v1", "allow": ["POST /v1/rerank"]},
]  # fmt: skip


class Several(Asked):
    """Three upstreams that say which of them was asked; ``hosts`` notes it with the headers."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[httpx.Request] = []
        self.down: set[str] = set()
        self.models: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        host = request.url.host
        if host in self.down:
            raise httpx.ConnectError("refused")
        path = request.url.path.removeprefix("/v1/")
        if path == "models":
            return _json({"data": self.models[host]})
        body = json.loads(request.content or b"{}")
        return _json(ANSWERS.get(path, lambda _, __: {})(host, body))


def _json(value: Any) -> httpx.Response:
    content = httpx.ByteStream(json.dumps(value).encode())
    return httpx.Response(200, headers={"content-type": "application/json"}, stream=content)


def _chat(host: str, body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"by {host}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [choice]}  # fmt: skip


def _message(host: str, body: dict[str, Any]) -> dict[str, Any]:
    blocks = [{"type": "text", "text": f"by {host}"}]
    return {"id": "m", "type": "message", "role": "assistant", "model": body["model"],
            "content": blocks, "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip


def _response(host: str, body: dict[str, Any]) -> dict[str, Any]:
    part = {"type": "output_text", "text": f"by {host}", "annotations": []}
    item = {"id": "i", "type": "message", "role": "assistant", "status": "completed",
            "content": [part]}  # fmt: skip
    return {"id": "r", "object": "response", "created_at": 1, "model": body["model"],
            "status": "completed", "output": [item], "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": []}  # fmt: skip


def _vectors(host: str, body: dict[str, Any]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [float(len(host)), 1.0]}]
    return {"object": "list", "data": data, "model": body["model"]}


ANSWERS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "chat/completions": _chat, "messages": _message, "responses": _response, "embeddings": _vectors,
}  # fmt: skip

ASKED = [{"role": "user", "content": "What is a fuse?"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": ASKED},
    "messages": {"messages": ASKED, "max_tokens": 9},
    "responses": {"input": "What is a fuse?"},
    "embeddings": {"input": "What is a fuse?"},
    "messages/count_tokens": {"messages": ASKED},
    "responses/input_tokens": {"input": "What is a fuse?"},
}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_OPENAI", "sk-openai")
    monkeypatch.setenv("KEY_OF_CLAUDE", "sk-claude")


def several(**settings: Any) -> Any:
    known = {"upstream": THREE, "keys": (str(ENTRY),), **settings}
    return service(asked=Several(), **known)


HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.mark.slow
@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("gpt-4o-mini", "openai.example"), ("o3", "openai.example"), ("o3-mini", "localhost"),
        ("claude-haiku-4-5", "claude.example"), ("qwen3:8b", "localhost"), ("gpt", "localhost"),
        ("GPT-4o", "localhost"), ("text-embedding-3-small", "openai.example"),
    ],
)  # fmt: skip
async def test_the_model_says_which_upstream_is_asked(path: str, model: str, host: str) -> None:
    async with several() as (client, asked, _):
        body = {"model": model, **BODIES[path]}
        found = await client.post(f"/v1/{path}", json=body, headers=HEADERS)
        assert found.is_success, found.text
        assert [one.url.host for one in asked.requests] == [host]
        assert json.loads(asked.requests[0].content) == body, "bodies are passed on as they are"


@pytest.mark.slow
@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize(
    ("name", "host"),
    [("openai", "openai.example"), ("claude", "claude.example"), ("local", "localhost")],
)
async def test_the_path_says_it_whatever_the_model_is(path: str, name: str, host: str) -> None:
    async with several() as (client, asked, _):
        for model in ("gpt-4o", "claude-haiku-4-5", "any"):
            body = {"model": model, **BODIES[path]}
            found = await client.post(f"/{name}/v1/{path}", json=body, headers=HEADERS)
            assert found.is_success, found.text
        assert {one.url.host for one in asked.requests} == {host}
        assert {one.url.path for one in asked.requests} == {f"/v1/{path}"}


async def test_each_upstream_gets_its_own_credential_and_no_other() -> None:
    async with several() as (client, asked, _):
        for name in ("openai", "claude", "local"):
            for path, body in BODIES.items():
                asking = {"model": "m", **body}
                await client.post(f"/{name}/v1/{path}", json=asking, headers=HEADERS)
        for one in asked.requests:
            told = {n: one.headers[n] for n in ("authorization", "x-api-key") if n in one.headers}
            if one.url.host == "openai.example":
                assert told == {"authorization": "Bearer sk-openai"}
            elif one.url.host == "localhost":
                assert told == {}, "it has none"
            elif one.url.path == "/v1/chat/completions":  # Anthropic's own OpenAI-compatible API
                assert told == {"authorization": "Bearer sk-claude"}
            else:
                assert told == {"x-api-key": "sk-claude"}
                assert one.headers["anthropic-version"] == "2023-06-01"


async def test_a_caller_s_own_credential_goes_where_the_request_goes_and_nowhere_else() -> None:
    own = {"x-tiered-cache-key": KEY, "authorization": "Bearer sk-own"}
    async with several() as (client, asked, _):
        asked.models = {"openai.example": [], "localhost": [], "claude.example": []}
        body = {"model": "gpt-4o", **BODIES["chat/completions"]}
        await client.post("/v1/chat/completions", json=body, headers=own)
        await client.get("/v1/models", headers=own)
        await client.get("/v1/files", headers=own)
        sent = [(one.url.host, one.headers["authorization"]) for one in asked.requests]
    assert sent == [("openai.example", "Bearer sk-own")] * 3


@pytest.mark.slow
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses", "embeddings"])
async def test_upstreams_share_no_answer_and_each_hits_its_own(path: str) -> None:
    async with several() as (client, asked, _):
        said: dict[str, Any] = {}
        body = {"model": "same", "temperature": 0, **BODIES[path]}
        for name in ("openai", "claude", "local", "openai", "claude", "local"):
            found = await client.post(f"/{name}/v1/{path}", json=body, headers=HEADERS)
            told = json.dumps({**found.json(), "id": "", "created": 0, "created_at": 0,
                               "usage": 0}, sort_keys=True)  # fmt: skip
            content = {k: v for k, v in json.loads(told).items() if k in (
                "choices", "content", "output", "data")}  # fmt: skip
            text = json.dumps(content).replace("null", "0")
            hit = found.headers["x-tiered-cache"] == "hit"
            assert hit == (name in said), name
            if not hit:
                said[name] = text
            host = {"openai": "openai.example", "claude": "claude.example", "local": "localhost"}
            if path != "embeddings":
                assert f"by {host[name]}" in text
        by_model = await client.post(f"/v1/{path}", json=body, headers=HEADERS)
        assert by_model.headers["x-tiered-cache"] == "hit", "the same upstream by another way"
        assert len(asked.requests) == 3


async def test_two_upstreams_of_one_address_share_no_answer() -> None:
    """Two projects, say, whose models are fine-tuned apart: the address alone is not enough."""
    same = {"url": "https://same.example/v1"}
    two = [{"name": "a", "models": ["m"], **same}, {"name": "b", **same}]
    async with several(upstream=two) as (client, asked, _):
        for path in ("chat/completions", "messages", "responses", "embeddings"):
            body = {"model": "m", "temperature": 0, **BODIES[path]}
            for name in ("a", "b"):
                found = await client.post(f"/{name}/v1/{path}", json=body, headers=HEADERS)
                assert found.headers["x-tiered-cache"] == "miss"
        assert len(asked.requests) == 8


async def test_a_second_upstream_leaves_the_answers_of_the_first_where_they_are() -> None:
    body = {"model": "gpt-4o", "temperature": 0, **BODIES["chat/completions"]}
    with ResponseCache.open(semantic=False) as cache:
        keys = {"keys": (str(ENTRY),)}
        for upstream in ("https://openai.example/v1", THREE[:1], THREE):
            known: dict[str, Any] = {"upstream": upstream, **keys}
            async with service(cache, Several(), **known) as (client, asked, _):
                found = await client.post("/v1/chat/completions", json=body, headers=HEADERS)
                is_first = isinstance(upstream, str)
                assert found.headers["x-tiered-cache"] == ("miss" if is_first else "hit")
                assert len(asked.requests) == is_first


async def test_what_the_cache_api_keeps_is_what_the_proxy_serves() -> None:
    body = {"model": "claude-haiku-4-5", "messages": ASKED}
    async with several() as (client, asked, _):
        kept = {**body, "params": {"temperature": 0}, "answer": {"content": "It melts."}}
        assert (await client.post("/v1/cache/set", json=kept, headers=HEADERS)).json()["stored"]
        found = await client.post(
            "/v1/chat/completions", json={**body, "temperature": 0}, headers=HEADERS
        )
        assert found.json()["choices"][0]["message"]["content"] == "It melts."
        assert asked.requests == []


async def test_a_model_that_no_upstream_has_is_a_404_with_the_remedy() -> None:
    async with several(upstream=THREE[:2]) as (client, asked, _):
        for path in ("chat/completions", "messages", "responses", "embeddings"):
            body = {"model": "qwen3:8b", **BODIES[path]}
            found = await client.post(f"/v1/{path}", json=body, headers=HEADERS)
            assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")
        kept = {"model": "qwen3:8b", "messages": ASKED}
        found = await client.post("/v1/cache/get", json=kept, headers=HEADERS)
        assert (found.status_code, found.json()["error"]["param"]) == (422, "model")
        assert asked.requests == []


MODELS = {
    "openai.example": [
        {"id": "gpt-4o", "object": "model", "created": 5, "owned_by": "openai"},
        {"id": "of-nobody", "object": "model", "created": 5, "owned_by": "openai"},
    ],
    "claude.example": [
        {"id": "claude-haiku-4-5", "type": "model", "display_name": "Claude Haiku 4.5",
         "created_at": "2025-10-01T00:00:00Z"},
    ],
    "localhost": [{"id": "qwen3:8b", "object": "model", "created": 7, "owned_by": "library"},
                  {"id": "gpt-4o", "object": "model", "created": 9, "owned_by": "somebody"}],
}  # fmt: skip


async def test_the_list_of_models_is_that_of_all_upstreams_for_both_clients() -> None:
    async with several() as (client, asked, app):
        asked.models = MODELS
        there = await client.get("/v1/models", headers=HEADERS)
        ids = ["gpt-4o", "claude-haiku-4-5", "qwen3:8b"]
        assert [one["id"] for one in there.json()["data"]] == ids, "each by who is asked for it"
        base = str(client.base_url)
        of_openai = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, http_client=client)
        found = [one async for one in of_openai.models.list()]
        assert [(one.id, one.owned_by) for one in found] == [
            ("gpt-4o", "openai"), ("claude-haiku-4-5", "claude"), ("qwen3:8b", "library"),
        ]  # fmt: skip
        own = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
        of_anthropic = anthropic.AsyncAnthropic(base_url=base, api_key=KEY, http_client=own)
        listed = [one async for one in of_anthropic.models.list()]
        assert [one.id for one in listed] == ids
        assert listed[1].display_name == "Claude Haiku 4.5"


@pytest.mark.parametrize(
    "created", ["2025-01-01T00:00:00Z", 1_735_689_600_000, 1e20, -5, [1], "soon", None, 1.5]
)
async def test_whatever_an_upstream_says_of_a_model_s_age_the_models_are_listed(
    created: object,
) -> None:
    async with several() as (client, asked, _):
        asked.models = {**MODELS, "localhost": [{"id": "qwen3:8b", "created": created}]}
        there = await client.get("/v1/models", headers=HEADERS)
        ids = ["gpt-4o", "claude-haiku-4-5", "qwen3:8b"]
        assert [one["id"] for one in there.json()["data"]] == ids


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON; charset=utf-8", "text/plain", "text/json", None,
     "application/problem+json", "application/x-www-form-urlencoded", ""],
)  # fmt: skip
async def test_no_content_type_hides_stored_objects_from_the_check(kind: str | None) -> None:
    named = {} if kind is None else {"content-type": kind}
    async with several() as (client, asked, _):
        for body, status in (({"file_id": "file-1"}, 403), ({"query": "x"}, 200)):
            content = json.dumps({"model": "qwen3:8b", **body}).encode()
            found = await client.post(
                "/local/v1/rerank", content=content, headers={**HEADERS, **named}
            )
            assert found.status_code == status
        assert len(asked.requests) == 1


async def test_an_upstream_that_is_down_is_missing_from_the_list_and_the_others_go_on() -> None:
    async with several(upstream_down_after=0.001) as (client, asked, app):
        asked.models = MODELS
        asked.down.add("claude.example")
        there = await client.get("/v1/models", headers=HEADERS)
        assert [one["id"] for one in there.json()["data"]] == ["gpt-4o", "qwen3:8b"]
        body = {"model": "claude-haiku-4-5", **BODIES["messages"]}
        assert (await client.post("/v1/messages", json=body, headers=HEADERS)).status_code == 502
        ready = await client.get("/ready")
        states = ready.json()["upstreams"]
        assert (ready.status_code, ready.json()["upstream"]) == (200, "failing")
        assert (states["openai"], states["local"]) == ("ok", "ok")
        assert states["claude"] in ("failing", "down")
        told = (await client.get("/v1/cache/stats", headers=HEADERS)).json()
        assert told["upstreams"]["claude"]["calls"]["unreachable"] == 2
        assert told["upstreams"]["openai"]["calls"]["unreachable"] == 0
        assert told["upstream"]["calls"]["unreachable"] == 2
        asked.down |= {"openai.example", "localhost"}
        for one in app.state.service.upstreams.all:
            one._failing_since, one._failed_last = one._clock() - 1, one._clock()
            one._down_after = 0.5
        assert (await client.get("/ready")).status_code == 503, "none is left"
        assert (await client.get("/v1/models", headers=HEADERS)).status_code == 502


async def test_metrics_tell_upstreams_apart_by_the_names_of_the_settings_alone() -> None:
    async with several() as (client, _, _):
        for model in ("gpt-4o", "claude-x", "qwen", "qwen-2"):
            body = {"model": model, **BODIES["chat/completions"]}
            await client.post("/v1/chat/completions", json=body, headers=HEADERS)
        text = (await client.get("/metrics", headers=HEADERS)).text
    calls = {
        (one.labels["upstream"], one.labels["status"]): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "tiered_cache_upstream_calls_total"
    }
    assert {name for name, _ in calls} == {"openai", "claude", "local"}
    assert [calls[name, "ok"] for name in ("openai", "claude", "local")] == [1, 1, 2]


async def test_what_one_upstream_allows_is_not_allowed_of_another() -> None:
    async with several(allow=("POST /v1/moderations",)) as (client, asked, _):
        for name, path, status in (
            ("local", "rerank", 200), ("openai", "rerank", 403), ("claude", "rerank", 403),
            ("openai", "moderations", 200), ("local", "moderations", 200),
            ("local", "files", 403), ("openai", "files", 403), ("local", "rerank/x", 403),
        ):  # fmt: skip
            found = await client.post(f"/{name}/v1/{path}", json={}, headers=HEADERS)
            assert found.status_code == status, (name, path)
        assert [one.url.host for one in asked.requests] == [
            "localhost", "openai.example", "localhost",
        ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/cache/stats", "/openai/v1/cache/get", "/openai/v1/chat", "/openai/v1/cache",
        "/openai/v1/%63ache/stats", "/OPENAI/v1/models", "/openai/v1", "/openai/", "/openai",
        "/openai/v2/models", "/nobody/v1/models", "/openai/health", "/openai/v1/../cache/stats",
        "//openai/v1/models", "/openai//v1/models", "/%6Fpenai/v1/models", "/openai%2Fv1/models",
        "/openai/v1/v1/models", "/openai/openai/v1/models", "/v1/openai/v1/models",
        "/openai/v1//models", "/openai/v1/%2e%2e/models", "/openai/v1;x/models", "/default/v1/m",
    ],
)  # fmt: skip
async def test_no_other_spelling_of_an_upstream_s_path_leads_anywhere(path: str) -> None:
    async with several() as (client, asked, _):
        for method in ("GET", "POST"):
            found = await client.request(
                method, f"{client.base_url}{path}", json={"model": "m"}, headers=HEADERS
            )
            assert found.status_code in (400, 403, 404, 405), (method, path, found.text)
        assert asked.requests == []


@pytest.mark.parametrize("name", ["openai", "claude", "local"])
async def test_no_page_and_no_other_host_asks_by_an_upstream_s_path(name: str) -> None:
    body = {"model": "gpt-4o", **BODIES["chat/completions"]}
    async with several() as (client, asked, _):
        asked.models = MODELS
        for headers in (
            {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"},
            {"host": "evil.example"}, {"sec-fetch-site": "same-site"},
        ):  # fmt: skip
            for method, path in (("POST", "chat/completions"), ("GET", "models"), ("GET", "files")):
                found = await client.request(
                    method, f"/{name}/v1/{path}", json=body, headers={**HEADERS, **headers}
                )
                assert found.status_code == 403, (headers, method, path)
        browser = {**HEADERS, "user-agent": "Mozilla/5.0"}
        assert (await client.get(f"/{name}/v1/models", headers=browser)).status_code == 403
        for path in ("models", "models/gpt-4o"):
            assert (await client.get(f"/v1/{path}", headers=browser)).status_code == 403
        no_key = await client.post(f"/{name}/v1/chat/completions", json=body)
        assert no_key.status_code == 401
        assert asked.requests == []


# --------------------------------------------------------------------------------------- settings

GOOD = {"name": "a", "url": "https://a.example/v1"}
WRONG: list[tuple[list[Any], str]] = [
    ([], "give 1 to 20 upstreams, not 0"),
    ([GOOD] * 21, "give 1 to 20 upstreams, not 21"),
    (["https://u:hunter2@a"], "must be a table [[upstream]], not a str"),
    ([{**GOOD, "key_env": "sk-hunter2"}], "a: key_env is the name of a variable such as"),
    ([{**GOOD, "key_file": "sk-hunter2"}], "a: key_file is the path of a file such as"),
    ([{**GOOD, "nmae": "b"}], "no 'nmae'; did you mean 'name'"),
    ([{**GOOD, "key": "sk-hunter2"}], "no 'key'; did you mean 'key_env'"),
    ([{**GOOD, "zzz": "b"}], "no 'zzz': it has name, url, kind"),
    ([{"url": "https://a"}], "the name None of an upstream must be"),
    ([{**GOOD, "name": "Open AI"}], "the name 'Open AI' of an upstream must be 1 to 32 of a-z"),
    ([{**GOOD, "name": "v1"}], "the name 'v1' of an upstream"),
    ([{**GOOD, "name": "a" * 33}], "of an upstream must be 1 to 32"),
    ([{"name": "a"}], "a: url: give an address"),
    ([{**GOOD, "url": "ftp://a"}], "a: url: give an address"),
    ([{**GOOD, "url": "https://u:hunter2@a/?q=1"}], "a: url: give an address"),
    ([{**GOOD, "kind": "azure"}], "a: kind must be openai or anthropic, not 'azure'"),
    ([{**GOOD, "models": "gpt-*"}], "a: models must be a list of texts"),
    ([{**GOOD, "models": [1]}], "a: models must be a list of texts"),
    ([{**GOOD, "models": ["*-mini"]}], "models: '*-mini' must be the name of a model, or its"),
    ([{**GOOD, "models": ["a b"]}], "models: 'a b' must be"),
    ([{**GOOD, "models": [""]}], "models: '' must be"),
    ([{**GOOD, "allow": ["POST /images"]}], "must read METHOD /v1/PATH"),
    ([{**GOOD, "allow": ["GET /v1/files"]}], "/v1/files: what the upstream stores"),
    ([{**GOOD, "key_env": "NOT_THERE"}], "a: the variable NOT_THERE must hold a key"),
    ([{**GOOD, "key_env": "TWO_LINES"}], "a: the variable TWO_LINES must hold a key in one line"),
    ([{**GOOD, "key_file": "/nowhere/key"}], "a: the file /nowhere/key cannot be read"),
    ([{**GOOD, "key_env": "X", "key_file": "Y"}], "key_env and key_file are both there"),
    ([{**GOOD, "key_env": 5}], "a: key_env must be a text, not a int"),
    ([GOOD, GOOD], "two upstreams have the name 'a': rename one"),
    ([{**GOOD, "models": ["m"]}, {**GOOD, "name": "b", "models": ["m"]}],
     "a and b both have the model 'm': leave it out of one, and ask it of the other below /b/v1"),
    ([GOOD, {**GOOD, "name": "b"}], "a and b both have the model '*'"),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "told"), WRONG)
def test_what_makes_no_sense_is_named_with_its_remedy(
    tables: list[Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_LINES", "sk-hunter2\nx-evil: 1")
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its text is what is looked at
        load_settings({"upstream": tables})
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_tables_in_a_variable_are_sent_to_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_CACHE_UPSTREAM", '[{"name": "a"}]')
    with pytest.raises(ValueError, match="several upstreams are tables"):
        load_settings({})


def test_a_server_s_key_beside_tables_is_nobody_s() -> None:
    with pytest.raises(ValueError, match=r"upstream_key beside .*give key_env or key_file"):
        load_settings({"upstream": [GOOD], "upstream_key": "sk-hunter2"})
    entry = {**GOOD, "key_env": "KEY_OF_OPENAI"}
    with pytest.raises(ValueError, match=r"key of a on 0\.0\.0\.0 without keys: anybody"):
        load_settings({"upstream": [entry], "host": "0.0.0.0"})


def test_settings_of_a_file_hold_no_credential(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-hunter2\n")
    file = tmp_path / "cache.toml"
    file.write_text(
        f"""
        [[upstream]]
        name = "openai"
        url = "https://user:hunter2@openai.example/v1/"
        key_file = "{tmp_path / "key"}"
        models = ["gpt-*"]

        [[upstream]]
        name = "claude"
        url = "https://claude.example/v1"
        kind = "anthropic"
        key_env = "KEY_OF_CLAUDE"
        """
    )
    found = load_settings({"config": file})
    first, second = found.upstreams
    assert first.read_key().get_secret_value() == "sk-hunter2"  # type: ignore[union-attr]
    assert (first.url[-3:], first.kind, first.models) == ("/v1", "openai", ("gpt-*",))
    assert (second.name, second.kind) == ("claude", "anthropic")
    for text in (repr(found), str(found.masked())):
        assert "hunter2" not in text
        assert "sk-claude" not in text
    assert "sk-hunter2" not in json.dumps(found.revealed()), "workers read it themselves"
    assert Settings(**found.revealed()).upstreams == found.upstreams
    printed = CliRunner().invoke(cli, ["serve", "--config", str(file), "--print-config"])
    read = tomllib.loads(printed.stdout)["upstream"]
    assert [one["name"] for one in read] == ["openai", "claude"]
    assert "hunter2" not in printed.stdout


def test_the_example_of_the_documentation_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = DOCS.read_text().partition("## Several upstreams")[2].split("```")[1]
    (tmp_path / "cache.toml").write_text(example.removeprefix("toml"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-claude")
    found = load_settings({"config": tmp_path / "cache.toml"})
    assert [(one.name, one.kind) for one in found.upstreams] == [
        ("openai", "openai"), ("anthropic", "anthropic"), ("local", "openai"),
    ]  # fmt: skip


def test_the_most_exact_name_wins_whatever_the_order() -> None:
    for models, wanted, fits in (
        (("gpt-4o",), "gpt-4o", True), (("gpt-4o",), "gpt-4o-mini", False), (("*",), "any", True),
        (("gpt-*",), "gpt-", True), (("gpt-*",), "gpt", False), ((), "any", True),
        ((), None, True), (("a",), None, True), (("b", "a*", "abc*"), "abcd", True),
    ):  # fmt: skip
        assert (specificity(models, wanted) is not None) == fits, (models, wanted)
    order = [(), ("g*",), ("gpt-*", "g*"), ("gpt-4o*", "x"), ("*", "gpt-4o-mini", "gpt-*")]
    fits = [specificity(models, "gpt-4o-mini") for models in order]
    assert fits == sorted(fits)  # type: ignore[type-var]
    assert len(set(fits)) == len(fits)
