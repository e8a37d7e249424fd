"""What of a client makes two calls the same: its headers, its query, what its HTTP client adds."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from shared_core.cache import ResponseCache
from shared_core.client import CachedClient
from shared_core.openai_format import Endpoint, request_of
from tests.openai_server import Server

ASKED = [{"role": "user", "content": "q"}]
WAYS = ("chat", "achat", "stream", "astream")


def made(server: Server, cache: ResponseCache, **options: Any) -> CachedClient:
    transport, own = httpx.MockTransport(server), options.pop("http", {})
    known: dict[str, Any] = {"api_key": "sk-secret", **options}
    return CachedClient(
        cache,
        OpenAI(http_client=httpx.Client(transport=transport, **own), **known),
        AsyncOpenAI(http_client=httpx.AsyncClient(transport=transport, **own), **known),
    )


def ask(client: CachedClient, way: str, **call: Any) -> None:
    async def awaited() -> None:
        if way == "achat":
            await client.achat(ASKED, model="m", temperature=0, **call)
        else:
            async for _ in client.astream(ASKED, model="m", temperature=0, **call):
                pass

    if way in ("achat", "astream"):
        asyncio.run(awaited())
    elif way == "chat":
        client.chat(ASKED, model="m", temperature=0, **call)
    else:
        list(client.stream(ASKED, model="m", temperature=0, **call))


OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"default_headers": {"x-portkey-config": "a"}},
        {"default_headers": {"x-portkey-config": "b"}},
    ),
    ({"default_headers": {"Helicone-Target-Url": "a"}}, {}),
    ({"organization": "a"}, {"organization": "b"}),
    ({"project": "a"}, {"project": "b"}),
    ({"default_query": {"v": "1"}}, {"default_query": {"v": "2"}}),
    ({"http": {"headers": {"x-tenant": "a"}}}, {"http": {"headers": {"x-tenant": "b"}}}),
    ({"http": {"cookies": {"tenant": "a"}}}, {}),
    ({"http": {"auth": ("u", "a")}}, {"http": {"auth": ("u", "b")}}),
]


@pytest.mark.parametrize("way", ["chat", "astream"])
@pytest.mark.parametrize(("one", "other"), OPTIONS, ids=str)
def test_clients_that_send_something_else_never_share(
    way: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    server, cache = Server(), ResponseCache.open(semantic=False)
    for options in (one, other, one):
        ask(made(server, cache, **options), way)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"extra_headers": {"Authorization": "Bearer a"}},
         {"extra_headers": {"Authorization": "Bearer b"}}),
        ({"extra_headers": {"x-user": "a"}}, {}),
        ({"extra_query": {"v": 1}}, {}),
        ({"extra_body": {"v": 0}}, {"extra_body": {"v": None}}),
        ({"tools": []}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_calls_that_send_something_else_never_share(
    way: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    server, cache = Server(), ResponseCache.open(semantic=False)
    client = made(server, cache)
    for call in (one, other, one, other):
        ask(client, way, **call)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("way", WAYS)
def test_harmless_headers_and_another_key_still_share(way: str) -> None:
    server = Server()
    cache = ResponseCache.open(semantic=False, ignore_headers=["X-Trace"])
    for options in (
        {},
        {"api_key": "sk-other"},
        {"default_headers": {"User-Agent": "me", "x-trace": "1"}},
        {"http": {"headers": {"traceparent": "1"}}},
        {"timeout": 3},
    ):
        ask(made(server, cache, **options), way)
    ask(made(server, cache), way, extra_headers={"x-request-id": "7", "X-TRACE": "2"})
    assert len(server.bodies) == 1


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_depends_on_the_provider_s_state_is_passed_over(way: str) -> None:
    server, cache = Server(), ResponseCache.open(semantic=False)
    client = made(server, cache)
    for _ in range(2):
        ask(client, way, extra_body={"conversation": "conv_1"})
    assert (len(server.bodies), cache.stats().stores) == (2, 0)


@pytest.mark.parametrize("way", WAYS)
def test_where_a_namespace_is_required_none_is_a_miss(way: str) -> None:
    server, cache = Server(), ResponseCache.open(semantic=False, namespace_required=True)
    client = made(server, cache)
    for namespace in (None, None, "a", "a"):
        ask(client, way, namespace=namespace)
    assert (len(server.bodies), cache.stats().stores) == (3, 1)


names = st.sampled_from(["x-a", "X-A", "x-b", "authorization", "user-agent", "x-request-id"])
headers = st.dictionaries(names, st.text("ab", max_size=2), max_size=3)


def meant(*sources: dict[str, str]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for source in sources:
        own: dict[str, str] = {}
        for name, value in source.items():
            key = name.lower()
            own[key] = f"{own[key]}\n{value}" if key in own else value
        merged |= own
    return {k: v for k, v in merged.items() if k not in ("user-agent", "x-request-id")}


@settings(max_examples=100, deadline=None)
@given(headers, headers, headers, headers)
def test_two_calls_share_only_if_they_send_the_same_headers(
    own: dict[str, str], called: dict[str, str], own_2: dict[str, str], called_2: dict[str, str]
) -> None:
    def scope(default: dict[str, str], extra: dict[str, str]) -> str:
        endpoint = Endpoint("openai", "https://x", {}, default)
        return request_of(endpoint, ASKED, {"model": "m", "extra_headers": extra}).scope

    same = meant(own, called) == meant(own_2, called_2)
    assert (scope(own, called) == scope(own_2, called_2)) == same
