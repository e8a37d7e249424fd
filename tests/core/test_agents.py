"""What tools a run may skip, and what MCP servers say of how long their listings hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client import Client
from mcp.client.caching import CacheConfig, CacheEntry, CacheKey
from mcp.server import CacheHint, MCPServer
from mcp_types import ListToolsResult, TextResourceContents

from shared_core import McpCacheStore, Request, ResponseCache
from shared_core.agents import Skippable, tool_lives

TTL_MS = 60_000


@given(
    lives=st.dictionaries(
        st.sampled_from("abcd"), st.none() | st.floats(1, 1e6), min_size=1, max_size=4
    ),
    used=st.dictionaries(st.sampled_from("abcde"), st.just(0.0) | st.floats(1, 1e6), max_size=4),
    ttl=st.none() | st.floats(1, 1e6),
)
def test_a_run_lives_as_long_as_the_shortest_of_its_tools_still_do(
    lives: dict[str, float | None], used: dict[str, float], ttl: float | None
) -> None:
    skippable = Skippable(tool_lives(lives), dict.fromkeys(lives, "what it is"))
    assert skippable.allows(used) == all(name in lives for name in used)
    if skippable.allows(used):
        left = [life - age for name, age in used.items() if (life := lives[name]) is not None]
        if ttl is not None:  # what has no time of its own has the cache's
            left += [ttl - age for name, age in used.items() if lives[name] is None and age]
        assert skippable.life(used, ttl) == min(left, default=None)


def test_what_the_tools_are_is_part_of_the_request() -> None:
    request = Request.of("What is a fuse?", model="m")
    found = {
        Skippable({"a": life}, known).first(request).address("shop").key
        for life in (None, 60.0)
        for known in ({}, {"a": "this"}, {"a": "that"})
    }
    assert len(found) == 3, "how long a result holds tells no two runs apart"
    assert request.address("shop").key not in found


class Shop:
    """An MCP server, and how often it was asked for what."""

    def __init__(self, scope: Any, ttl_ms: int = TTL_MS) -> None:
        self.asked = list[str]()
        hint = CacheHint(ttl_ms=ttl_ms, scope=scope)
        self.server = MCPServer("shop", cache_hints={"tools/list": hint, "resources/read": hint})

        @self.server.tool()
        def price(of: str) -> str:
            """Say what a thing costs."""
            self.asked.append("price")
            return f"{of}: 3"

        @self.server.resource("shop://hours")
        def hours() -> str:
            """Say when the shop is open."""
            self.asked.append("hours")
            return f"9-{len(self.asked)}"

    @asynccontextmanager
    async def client(self, store: McpCacheStore, user: str, **more: Any) -> AsyncIterator[Client]:
        config = CacheConfig(store=store, partition=user, target_id="shop", **more)
        async with Client(self.server, cache=config) as client:
            yield client

    async def hours(self, store: McpCacheStore, user: str, **more: Any) -> str:
        async with self.client(store, user, **more) as client:
            found = (await client.read_resource("shop://hours")).contents[0]
            assert isinstance(found, TextResourceContents)
            return found.text


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> McpCacheStore:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'mcp.db'}"
    return McpCacheStore(ResponseCache.open(url, semantic=False))


@pytest.mark.parametrize(
    ("scope", "more", "is_shared"),
    [
        ("private", {}, False),
        ("private", {"share_public": True}, False),
        ("public", {}, False),
        ("public", {"share_public": True}, True),
    ],
)
async def test_a_resource_is_kept_for_whom_the_server_says(
    scope: str, more: dict[str, Any], is_shared: bool, store: McpCacheStore
) -> None:
    shop = Shop(scope)
    first = await shop.hours(store, "alice", **more)
    assert await shop.hours(store, "alice", **more) == first
    assert shop.asked == ["hours"]
    assert (await shop.hours(store, "bob", **more) == first) == is_shared


async def test_what_a_server_says_holds_no_time_is_not_kept(store: McpCacheStore) -> None:
    shop = Shop("public", ttl_ms=0)
    await shop.hours(store, "alice")
    await shop.hours(store, "alice")
    assert shop.asked == ["hours", "hours"]


async def test_listings_are_read_back_as_they_were_and_tools_are_called_each_time(
    store: McpCacheStore,
) -> None:
    shop = Shop("private")
    seen = []
    for _ in range(2):
        async with shop.client(store, "alice") as client:
            seen.append(await client.list_tools())
            await client.call_tool("price", {"of": "fuse"})
    assert seen[0] == seen[1]
    assert isinstance(seen[1], ListToolsResult)
    assert seen[1].model_fields_set == seen[0].model_fields_set
    assert shop.asked == ["price", "price"]


async def test_entries_end_with_their_time_and_with_the_store(
    store: McpCacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop("private")
    await shop.hours(store, "alice")
    names, _ = store.cache.values.scan("mcp:", "")
    assert len(names) == 1
    await store.clear()
    assert store.cache.values.scan("mcp:", "")[0] == []
    await shop.hours(store, "alice")
    assert shop.asked == ["hours", "hours"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: b"[]",
        lambda raw: raw.replace(b"contents", b"content"),
        lambda raw: raw.replace(b'"value"', b'"valve"'),
    ],
)
async def test_what_cannot_be_read_is_asked_anew(
    spoil: Callable[[bytes], bytes], store: McpCacheStore
) -> None:
    shop = Shop("private")
    await shop.hours(store, "alice")
    values = store.cache.values
    (name,), _ = values.scan("mcp:", "")
    values.put_many({name: spoil(values.get_many([name])[name])}, 60)
    await shop.hours(store, "alice")
    assert shop.asked == ["hours", "hours"]


async def test_namespaces_are_kept_apart_and_other_results_are_not_kept() -> None:
    with ResponseCache.open("memory://", semantic=False, namespace="a") as cache:
        store, key = McpCacheStore(cache), CacheKey("tools/call", "", "p")
        await store.set(key, CacheEntry(ListToolsResult(tools=[]), "private", 9e9))
        assert await store.get(key) is None
        listing = CacheKey("tools/list", "", "p")
        await store.set(listing, CacheEntry(ListToolsResult(tools=[]), "private", 9e9))
        found = await store.get(listing)
        assert (found.scope, found.expires_at) == ("private", 9e9)
        await store.set(listing, CacheEntry(ListToolsResult(tools=[]), "private", 1.0))
        assert await store.get(listing) is None
    with pytest.raises(ValueError, match="cache"):
        McpCacheStore(3)  # type: ignore[arg-type]
