"""The store on a real Redis: what every store does, and what only a server many share can do."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import AbstractConnection
from redisvl.index import SearchIndex

from shared_core import (
    Answer,
    Explore,
    Feedback,
    Hit,
    Miss,
    Request,
    ResponseCache,
    StoreError,
    Verified,
)
from shared_core.compute import value_key
from shared_core.stores import Selector, Store, epoch_key, open_store
from shared_core.stores.redis import address_of
from shared_core.stores.redis.connection import as_store_errors, store_error
from shared_core.stores.redis.keys import Names, key_of
from shared_core.stores.redis.store import RedisRemoval
from shared_core.testing.stores import (
    SPACE,
    FakeClock,
    StoreConformance,
    keys_near,
    record,
    scanned,
    unit,
)
from tests.fakes import fake_embed

pytestmark = pytest.mark.redis


PATIENCE_S = 10.0


def eventually(come_true: Callable[[], bool]) -> None:
    """Wait until something holds that the server does in its own time."""
    end = time.monotonic() + PATIENCE_S
    while not come_true():
        assert time.monotonic() < end, "it never came true"


class ServerClock(FakeClock):
    """A clock that takes the server along: when it is moved, what lives in the server ages too.

    What is left of a life is at least 5 s then, so that a slow machine ends none: the end comes
    when the clock is moved to it.
    """

    def __init__(self, url: str) -> None:
        self._server = redis.Redis.from_url(url)
        self._now = 1_700_000_000.0

    @property
    def now(self) -> float:  # type: ignore[override]  # an attribute that does something
        return self._now

    @now.setter
    def now(self, moment: float) -> None:
        passed, self._now = moment - self._now, moment
        for name in self._server.scan_iter(count=1000):
            left = self._server.pttl(name)
            if left >= 0:
                ms = left - passed * 1000
                if ms <= 0:
                    self._server.delete(name)
                else:
                    self._server.pexpire(name, max(5000, int(ms)))

    def close(self) -> None:
        self._server.close()


class TestRedis(StoreConformance):
    @pytest.fixture
    def clock(self, redis_url: str) -> Iterator[FakeClock]:
        clock = ServerClock(redis_url)
        yield clock
        clock.close()

    @pytest.fixture(params=["flat", "hnsw"])
    def options(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"index": request.param}

    rounding = 1e-3  # of float16

    @pytest.fixture
    def open_one(
        self, redis_url: str, clock: FakeClock, options: dict[str, Any]
    ) -> Iterator[Callable[..., Store]]:
        opened: list[Store] = []

        def open_one() -> Store:
            opened.append(open_store(redis_url, clock=clock, timeout=5.0, **options))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


@pytest.fixture
def open_at() -> Iterator[Callable[..., Store]]:
    """Open stores that are closed at the end of the test."""
    opened: list[Store] = []

    def open_at(url: str, **options: Any) -> Store:
        opened.append(open_store(url, **{"timeout": 5.0, **options}))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()


@pytest.fixture
def store(redis_url: str, open_at: Callable[..., Store]) -> Store:
    return open_at(redis_url)


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """Return a client of the tests' own, to look behind the store."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets one item for each round trip of this thread from now on."""
    made: list[bytes] = []
    send, ours = AbstractConnection.send_packed_command, threading.get_ident()

    def counted(self: Any, command: Any, *args: Any, **options: Any) -> None:
        if threading.get_ident() == ours:  # counters are flushed beside the requests
            made.append(command if isinstance(command, bytes) else b"".join(command))
        send(self, command, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return made


def indexes(server: redis.Redis) -> list[bytes]:
    return list(server.execute_command("FT._LIST"))


# ------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("tags", [(), ("docs", "v1")])
def test_every_step_of_a_lookup_and_a_put_is_one_round_trip(
    store: Store, trips: list[bytes], tags: tuple[str, ...]
) -> None:
    one = record("a", unit(1, 0, 0), tags=tags)
    for warm in (False, True):
        trips.clear()
        store.put(one)
        assert len(trips) == 1 or not warm
        trips.clear()
        assert store.get("a") is not None
        assert len(trips) == 1 or not warm
        trips.clear()
        assert keys_near(store, unit(1, 1, 0), 3) == ["a"]
        assert len(trips) == 1 or not warm
        trips.clear()
        store.get_many(["refused:a"])
        store.load_state({"labels": 0})
        assert len(trips) == 2 or not warm


@pytest.mark.parametrize("threshold", [0.8, Feedback(initial=0.8, minimum=0.8), Verified()])
def test_a_lookup_is_two_round_trips_at_most_and_one_if_the_request_is_the_same(
    redis_url: str, trips: list[bytes], threshold: Any
) -> None:
    def made(work: Callable[[], Any]) -> tuple[Any, int]:
        trips.clear()
        found = work()
        return found, len(trips)

    first = Request.of("How do I renew my library book?", model="m")
    other = Request.of("How do I renew our library book?", model="m")
    far = Request.of("Where may boats be tied up over night?", model="m")
    with ResponseCache.open(
        redis_url, embedder=fake_embed, threshold=threshold, timeout=5
    ) as cache:
        for warm in (False, True):
            _, stored = made(lambda: cache.store(first, Answer("online"), tags=["docs"]))
            hit, exact = made(lambda: cache.lookup(first))
            assert isinstance(hit, Hit)
            near, semantic = made(lambda: cache.lookup(other))
            assert isinstance(near, Explore if threshold == Verified() else Hit)
            missed, miss = made(lambda: cache.lookup(far))
            assert isinstance(missed, Miss)
            assert (stored, exact, semantic, miss) == (1, 1, 2, 2) or not warm


@pytest.mark.parametrize("near", [0, 1, 2])
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_who_wants_near_ones_looks_no_further_once_they_are_far(
    store: Store, trips: list[bytes], server: redis.Redis, near: int, dead: int
) -> None:
    """The dead make the store look further, but only while what follows may be near enough."""
    angles = [0.01 * i for i in range(dead + near)] + [1 + 0.01 * i for i in range(40)]
    for i, angle in enumerate(angles):
        store.put(record(f"{i:02}", unit(np.cos(angle), np.sin(angle), 0)))
    for name in [next(server.scan_iter(f"tlc:*:r1:*:{i:02}")) for i in range(dead)]:
        server.hset(name, "b", "odd")
    store.nearest("other", SPACE, unit(1, 0, 0), 1)  # makes what is made once
    trips.clear()
    found = [one.record.key for one in store.nearest("scope", SPACE, unit(1, 0, 0), 3, 0.9)]
    assert found[: max(1, near)] == [f"{dead + i:02}" for i in range(max(1, near))]
    # All three rows are dead or near: the next one may be near as well.
    assert len([one for one in trips if b"FT.SEARCH" in one]) == (1 if dead + near < 3 else 2)


def test_a_bump_costs_the_next_read_one_round_trip_more(store: Store, trips: list[bytes]) -> None:
    for key in "ab":
        store.put(record(key, tags=("docs",)))
        assert store.get(key) is not None
    store.increment({epoch_key("n", "other"): 1})
    for expected in (2, 1, 1):
        trips.clear()
        assert store.get("a") is not None
        assert len(trips) == expected


# --------------------------------------------------------------------------------- the index


def test_an_index_that_was_dropped_is_made_again_by_the_next_search(
    store: Store, server: redis.Redis
) -> None:
    store.put(record("a", unit(1, 0, 0)))
    for _ in range(2):
        (name,) = indexes(server)
        server.execute_command("FT.DROPINDEX", name)
        eventually(lambda: keys_near(store, unit(1, 0, 0), 1) == ["a"])


def test_an_index_that_vanished_with_all_data_is_made_again(
    store: Store, server: redis.Redis
) -> None:
    store.put(record("a", unit(1, 0, 0)))
    server.flushall()
    assert store.get("a") is None
    assert keys_near(store, unit(1, 0, 0), 1) == []
    store.put(record("b", unit(1, 0, 0)))
    assert keys_near(store, unit(1, 0, 0), 1) == ["b"]


def test_an_index_of_another_schema_is_replaced_and_its_records_stay(
    store: Store, server: redis.Redis, redis_url: str, open_at: Callable[..., Store],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    store.put(record("a", unit(1, 0, 0)))
    (name,) = indexes(server)
    server.execute_command("FT.DROPINDEX", name)
    server.execute_command("FT.CREATE", name, "PREFIX", 1, "tlc:", "SCHEMA", "other", "TEXT")
    other = open_at(redis_url)
    eventually(lambda: keys_near(other, unit(1, 0, 0), 1) == ["a"])
    assert "another schema" in caplog.text


def test_many_threads_that_need_the_index_at_once_make_one(
    server: redis.Redis,
    redis_url: str,
    open_at: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = [open_at(redis_url) for _ in range(8)]
    none_is_there = threading.Barrier(8)
    create = SearchIndex.create

    def all_at_once(self: Any) -> None:
        none_is_there.wait(PATIENCE_S)
        create(self)

    monkeypatch.setattr(SearchIndex, "create", all_at_once)
    monkeypatch.setattr(SearchIndex, "exists", lambda _: False)

    def work(number: int) -> list[str]:
        stores[number].put(record(f"{number}", unit(1, number, 0)))
        return keys_near(stores[number], unit(1, number, 0), 1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[f"{number}"] for number in range(8)]
    assert len(indexes(server)) == 1


def test_a_neighbour_of_another_space_never_takes_a_place(store: Store) -> None:
    for i in range(50):
        store.put(record(f"other {i}", unit(1, 0, i / 1000), space="other/3"))
    store.put(record("ours", unit(0, 1, 0)))
    assert keys_near(store, unit(1, 0, 0), 1) == ["ours"]


def test_expired_records_that_are_still_indexed_hide_no_live_one(
    store: Store, server: redis.Redis
) -> None:
    server.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        for i in range(50):
            store.put(record(f"{i}", unit(1, 0, i / 400)))
        store.put(record("live", unit(1, 1, 0)))
        for name in server.scan_iter("tlc:{0}:r1:*", count=1000):
            if not name.endswith(b"live"):
                server.pexpire(name, 1)
        expired = time.monotonic() + 0.02
        eventually(lambda: time.monotonic() > expired)
        assert keys_near(store, unit(1, 0, 0), 1) == ["live"]
    finally:
        server.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def test_float16_finds_what_float32_finds_and_halves_the_vector(
    server: redis.Redis, redis_url: str, open_at: Callable[..., Store]
) -> None:
    half = open_at(redis_url)
    rng = np.random.default_rng(3)
    vectors = {f"{i}": unit(*rng.standard_normal(64)) for i in range(100)}
    for key, vector in vectors.items():
        half.put(record(key, vector))
    query = unit(*rng.standard_normal(64))
    best = max(vectors, key=lambda key: float(vectors[key] @ query))
    (found,) = half.nearest("scope", SPACE, query, 1)
    assert found.record.key == best
    assert found.similarity == pytest.approx(float(vectors[best] @ query), abs=2e-3)
    assert half.nearest("scope", SPACE, vectors["7"], 1)[0].similarity == pytest.approx(1, abs=1e-3)
    assert 64 * 2 in {len(value) for value in server.hgetall("tlc:{0}:r1:____:7").values()}
    whole = open_at(redis_url, precision="float32")
    assert whole.nearest("scope", SPACE, query, 1) == []  # never compared across precisions
    got = whole.get("7")
    assert got is not None
    assert got.vector is not None
    assert np.allclose(got.vector, vectors["7"], atol=1e-3)


def test_clearing_a_namespace_spares_the_graph_of_another(
    server: redis.Redis, redis_url: str, open_at: Callable[..., Store]
) -> None:
    store = open_at(redis_url, index="hnsw")
    for i in range(30):
        store.put(record(f"n{i}", unit(1, 0, i)))
        store.put(record(f"m{i}", unit(1, 0, i), namespace="m", scope="theirs"))
    assert store.delete(Selector("n")) == 30
    assert len(indexes(server)) == 1
    assert len(keys_near(store, unit(1, 0, 0), 50, "theirs")) == 30
    assert store.delete(Selector("m")) == 30
    assert indexes(server) == []  # alone in it: dropped first, which takes no time
    store.put(record("again", unit(1, 0, 0)))
    assert keys_near(store, unit(1, 0, 0), 1) == ["again"]


# ------------------------------------------------------------------------- many hosts, one truth


def test_a_bump_of_another_process_is_seen_at_once(
    store: Store, redis_url: str, open_at: Callable[..., Store]
) -> None:
    other = open_at(redis_url)
    for round in range(3):
        store.put(record("a", unit(1, 0, 0), tags=("docs",)))
        assert store.get("a") is not None
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        other.increment({epoch_key("n", "docs"): 1})
        assert keys_near(store, unit(1, 0, 0), 1) == [], round
        assert store.get("a") is None


def test_an_epoch_that_was_evicted_ends_its_records_for_good(
    store: Store, server: redis.Redis
) -> None:
    tag = epoch_key("n", "docs")
    store.increment({tag: 1})
    store.put(record("a", tags=("docs",)))
    kept = server.dump("tlc:{0}:r1:____:a")
    assert store.get("a") is not None
    server.delete(f"tlc:{{0}}:v:{tag}", "tlc:{0}:bumps")
    assert store.get("a") is None
    store.increment({tag: 1})  # the counter starts again, elsewhere
    server.restore("tlc:{0}:r1:____:a", 0, kept, replace=True)
    assert store.get("a") is None
    store.put(record("a", tags=("docs",)))
    assert store.get("a") is not None


def test_a_record_that_was_stored_anew_is_not_buried_with_the_one_found_dead(
    store: Store, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(record("a", tags=("docs",)))
    store.increment({epoch_key("n", "docs"): 1})
    bury = RedisRemoval.bury

    def late(self: RedisRemoval, *args: Any) -> None:
        store.put(record("a", tags=("docs",)))
        bury(self, *args)

    monkeypatch.setattr(RedisRemoval, "bury", late)
    assert store.get("a") is None
    assert store.get("a") is not None


def test_two_models_alternating_on_one_prompt_never_evict_each_other(redis_url: str) -> None:
    with ResponseCache.open(redis_url, embedder=fake_embed, threshold=0.8, timeout=5) as cache:
        asked = {model: Request.of("What is a fuse?", model=model) for model in ("gpt", "claude")}
        for turn in range(8):
            for model, request in asked.items():
                found = cache.lookup(request)
                assert isinstance(found, Hit) == (turn > 0)
                cache.store(request, Answer(f"{model} says"))
        for model, request in asked.items():
            found = cache.lookup(request)
            assert isinstance(found, Hit)
            assert (found.answer.text, str(found.tier)) == (f"{model} says", "exact")


def test_clearing_one_namespace_leaves_the_other(redis_url: str) -> None:
    asked = Request.of("What is a fuse?", model="m")
    with (
        ResponseCache.open(redis_url, namespace="one", semantic=False, timeout=5) as one,
        ResponseCache.open(redis_url, namespace="two", semantic=False, timeout=5) as two,
    ):
        for cache in (one, two):
            cache.store(asked, Answer("melts"))
            cache.get_or_compute("key", lambda: 1)
        assert isinstance(one.lookup(asked), Hit)
        assert one.clear() == 2
        assert isinstance(one.lookup(asked), Miss)
        assert isinstance(two.lookup(asked), Hit)


# ------------------------------------------------------------------------------- odd contents


@pytest.mark.parametrize("odd", [b"", b"{}", b'{"v":99}', b"\xff\xfe not json"])
def test_a_record_that_does_not_decode_is_a_miss_and_deleted(
    store: Store, server: redis.Redis, odd: bytes
) -> None:
    store.put(record("a", unit(1, 0, 0)))
    store.put(record("b", unit(0, 1, 0)))
    server.hset("tlc:{0}:r1:____:a", "b", odd)
    assert keys_near(store, unit(1, 0, 0), 1) == ["b"]
    assert store.info().entries == 1
    server.hset("tlc:{0}:r1:____:b", "b", odd)
    assert store.get("b") is None
    assert store.info().entries == 0


def test_a_key_of_another_type_is_a_miss_and_can_be_stored_over(
    store: Store, server: redis.Redis
) -> None:
    server.set("tlc:{0}:r1:____:a", "not a hash")
    assert store.get("a") is None
    server.set("tlc:{0}:r1:____:a", "not a hash")
    store.put(record("a"))
    assert store.get("a") == record("a")


def test_a_record_under_the_key_of_another_is_never_served(
    store: Store, server: redis.Redis
) -> None:
    store.put(record("a"))
    server.copy("tlc:{0}:r1:____:a", "tlc:{0}:r1:____:b")
    assert store.get("b") is None
    assert store.get("a") is not None


def test_a_full_server_refuses_a_put_changes_nothing_and_still_reads(
    store: Store, server: redis.Redis
) -> None:
    store.put(record("a", tags=("docs",)))
    server.config_set("maxmemory", 1)
    try:
        for tags in ((), ("docs",), ("new",)):
            with pytest.raises(StoreError, match="OutOfMemory") as caught:
                store.put(record("a", answer=Answer("other"), tags=tags))
            assert caught.value.down is False  # type: ignore[attr-defined]  # the breaker asks
        assert store.get("a") == record("a", tags=("docs",))
    finally:
        server.config_set("maxmemory", 0)


# ---------------------------------------------------------------------------------- addresses


def test_a_cache_is_built_without_its_server_and_works_when_that_comes() -> None:
    from tests.redis_server import RedisStack, free_port

    port = free_port()
    asked = Request.of("What is a fuse?", model="m")
    with ResponseCache.open(f"redis://127.0.0.1:{port}/0", embedder=fake_embed) as cache:
        found = cache.lookup(asked)
        assert isinstance(found, Miss)
        assert found.reason == "store"
        with RedisStack(port=port):
            eventually(lambda: cache.store(asked, Answer("melts")) is not None)
            eventually(lambda: isinstance(cache.lookup(asked), Hit))


def test_a_unix_socket_is_an_address(open_at: Callable[..., Store]) -> None:
    from tests.redis_server import RedisStack

    with RedisStack(unix=True) as server:
        store = open_at(server.url)
        store.put(record("a", unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        assert store.info().location.startswith("unix:///")


def test_sentinels_tell_where_the_primary_is(open_at: Callable[..., Store]) -> None:
    from tests.redis_topologies import SentinelStack

    with SentinelStack() as sentinels:
        store = open_at(sentinels.url)
        store.put(record("a", unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        guard = redis.Sentinel([("127.0.0.1", port) for port in sentinels.ports])
        given = open_at("redis://", client=guard.master_for("answers"))
        assert given.get("a") is not None


def test_a_cluster_holds_each_namespace_on_one_shard_and_many_on_all(
    open_at: Callable[..., Store],
) -> None:
    from tests.redis_topologies import ClusterStack, talk

    tenants = [f"tenant {n}" for n in range(60)]
    with ClusterStack() as cluster:
        store = open_at(cluster.url)
        for n, tenant in enumerate(tenants):
            key, scope = Request.of(f"question {n}").address(tenant)
            store.put(record(key, unit(1, n, 0), scope=scope, namespace=tenant, tags=("docs",)))
            store.increment({f"stats:{tenant}:hits": 1, f"stats:{tenant}:misses": n})
        other = open_at(cluster.url)
        for n, tenant in enumerate(tenants):
            key, scope = Request.of(f"question {n}").address(tenant)
            assert other.get(key) is not None
            assert keys_near(other, unit(1, n, 0.1), 3, scope) == [key]
        for node in cluster.nodes:
            with talk(node) as client:
                assert client.dbsize() > 0
        assert store.info().entries == 60
        other.increment({epoch_key("tenant 7", "docs"): 1})
        assert store.get(Request.of("question 7").address("tenant 7").key) is None
        assert store.delete(Selector("tenant 8")) == 1
        assert store.delete(Selector("tenant 9", tag="docs")) == 1
        assert store.info().entries == 57
        items = {f"k:{n}:x": b"v" for n in range(50)}
        store.put_many(items)
        assert store.get_many(list(items)) == items
        assert sorted(scanned(store, "k:")) == sorted(items)
        assert store.delete_many([*items, "other"]) == 50


def test_a_client_of_the_app_tells_the_place_and_keeps_its_own_settings(
    redis_url: str, open_at: Callable[..., Store]
) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=99) as given:
        store = open_at("redis://", client=given, timeout=0.2)
        store.put(record("a", unit(1, 0, 0), question="\u010de\u0161tina"))
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        given.client_pause(1500)
        with pytest.raises(StoreError) as caught:
            store.get("a")
        assert caught.value.down is True  # type: ignore[attr-defined]  # the breaker asks
        given.client_unpause()
        assert given.get("absent") is None
        assert given.get_connection_kwargs()["socket_timeout"] == 99


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("redis://localhost", {"max_entries": 10}, "maxmemory-policy"),
        ("redis://localhost", {"ssl": {"ca_certs": "x"}}, "rediss://"),
        ("redis://localhost", {"client": object()}, "client must be"),
        ("memory://", {"index": "hnsw"}, "index"),
        ("sqlite:///a.db", {"precision": "float16"}, "precision"),
        ("redis://:hush@host:port", {}, "known forms"),
        ("redis://:hush@host/one/two", {}, "known forms"),
        ("redis://host?tiemout=3", {}, "known forms"),
        ("unix://", {}, "known forms"),
        ("redis+sentinel://:hush@host", {}, "known forms"),
        ("redis+sentinel://:hush@host:x/svc", {}, "known forms"),
        ("redis+sentinel:///svc", {}, "known forms"),
        ("redis+cluster://:hush@host/3", {}, "known forms"),
        ("redis+cluster://", {}, "known forms"),
    ],
)
def test_an_address_that_makes_no_sense_is_told_without_its_password(
    url: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        open_store(url, **options)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "place", "secret"),
    [
        ("redis://me:hush@h:1/2", "redis://h:1/2", "hush"),
        ("rediss://:hu%2Fsh@h", "rediss://h:6379/0", "hu/sh"),
        ("unix://:hush@/run/s?db=3", "unix:///run/s?db=3", "hush"),
        ("redis+sentinel://me:hush@a,b:7/svc/4", "redis+sentinel://a:26379,b:7/svc/4", "hush"),
        ("redis+sentinel://a/svc?sentinel_password=hush", "redis+sentinel://a:26379/svc/0", "hush"),
        ("redis+cluster://hush@[::1]:7,b", "redis+cluster://::1:7,b:6379", "hush"),
    ],
)
def test_an_address_shows_its_place_and_never_its_password(
    url: str, place: str, secret: str
) -> None:
    address = address_of(url)
    assert str(address) == place
    assert address.secrets == (secret,)
    assert secret not in repr(address)
    store = open_store(url)
    assert place in repr(store)
    assert secret not in repr(store)
    store.close()
    with ResponseCache.open(url, semantic=False) as cache:
        assert secret not in f"{cache!r} {cache.options!r} {cache.__reduce__()!r}"


def test_a_refused_password_is_never_told_and_not_tried_again_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tests.redis_server import RedisStack

    caplog.set_level(logging.DEBUG)
    asked = Request.of("What is a fuse?", model="m")
    with RedisStack(modules=()) as server, redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
        url = f"redis://:wrong-hush@127.0.0.1:{server.port}/0"
        with ResponseCache.open(url, semantic=False) as cache:
            assert isinstance(cache.lookup(asked), Miss)
            assert cache.stats().breakers["store"] == "open"
            with pytest.raises(StoreError) as caught:
                cache._store.get("k")
        assert caught.value.down is True  # type: ignore[attr-defined]  # the breaker asks
        assert caught.value.rest > 1  # type: ignore[attr-defined]
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "AuthenticationError" in told
    assert "hush" not in told


def test_what_a_server_says_is_told_without_passwords_and_without_what_was_stored() -> None:
    said = "unknown command `HELLO`, with args beginning with: `2` `AUTH` `me` `hu.sh`"
    with (
        pytest.raises(StoreError, match="HELLO") as caught,
        as_store_errors(("hu.sh",)),
    ):
        raise redis.ResponseError(said)
    assert "hu.sh" not in "".join(traceback.format_exception(caught.value))
    stored = "Command # 1 (SET tlc:{0}:v:k my secret\nquestion) of pipeline caused error: BUSY now"
    error = store_error(redis.ResponseError(stored))
    assert str(error) == "ResponseError: BUSY now"
    assert error.down is True  # type: ignore[attr-defined]  # the breaker asks


@pytest.fixture
def least_user(redis_url: str, server: redis.Redis) -> Iterator[str]:
    """Return the URL of a user who may do what docs/redis.md says, and nothing else."""
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    rule = re.search(r"^ACL SETUSER (\S+) (.+)$", text, re.MULTILINE)
    assert rule is not None, "docs/redis.md tells the rule"
    server.execute_command("ACL", "SETUSER", rule[1], *rule[2].replace("PASSWORD", "pw").split())
    yield redis_url.replace("redis://", f"redis://{rule[1]}:pw@")
    server.execute_command("ACL", "DELUSER", rule[1])


def test_the_user_of_the_docs_may_do_all_that_is_needed(
    least_user: str, server: redis.Redis, open_at: Callable[..., Store]
) -> None:
    for index in ("flat", "hnsw"):
        store = open_at(least_user, index=index)
        store.put(record("a", unit(1, 0, 0), tags=("docs",), expires=time.time() + 100))
        store.put(record("b", unit(0, 1, 0)))
        assert store.get("a") is not None
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        store.increment({epoch_key("n", "docs"): 1})
        assert keys_near(store, unit(1, 0, 0), 2) == ["b"]
        store.put_many({"x": b"1", "y": b"2"}, ttl=100)
        assert store.add("lease", b"", ttl=100)
        assert store.get_many(["x", "y"]) == {"x": b"1", "y": b"2"}
        assert store.delete_many(["x", "y", "lease"]) == 3
        store.add_labels("id", ["label"])
        assert store.load_state({"id": 0})["id"]
        assert store.info().entries == 1
        assert store.delete(Selector("n")) == 1
    with (
        pytest.raises(redis.exceptions.NoPermissionError),
        redis.Redis.from_url(least_user) as client,
    ):
        client.set("elsewhere", "1")


def test_without_the_search_module_exact_hits_are_served_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tests.redis_server import RedisStack

    with (
        RedisStack(modules=()) as server,
        ResponseCache.open(server.url, embedder=fake_embed, threshold=0.5, timeout=5) as cache,
    ):
        first = Request.of("What is the first fuse?", model="m")
        assert cache.store(first, Answer("melts")) is not None
        for n in range(5):
            asked = Request.of(f"What is fuse number {n}?", model="m")
            found = cache.lookup(asked)
            assert isinstance(found, Miss)
            assert found.reason != "store"
            cache.store(asked, Answer("melts"))
            assert isinstance(cache.lookup(asked), Hit)
        assert cache.stats().errors == {}
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "cannot search vectors" in warnings[0].getMessage()


def test_a_search_module_that_cannot_index_such_vectors_leaves_the_exact_tier(
    redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(index: Any, *_: Any, **__: Any) -> None:
        index._redis_client.execute_command(
            *f"FT.CREATE {index.name} SCHEMA v VECTOR FLAT 6 TYPE FLOAT7 DIM 3".split(),
            *["DISTANCE_METRIC", "COSINE"],
        )

    monkeypatch.setattr("shared_core.stores.redis.schema.SearchIndex.create", older)
    with ResponseCache.open(redis_url, embedder=fake_embed, threshold=0.5, timeout=5) as cache:
        first = Request.of("What is the first fuse?", model="m")
        assert cache.store(first, Answer("melts")) is not None
        assert isinstance(cache.lookup(first), Hit)
        assert isinstance(cache.lookup(Request.of("What is the fuse?", model="m")), Miss)
    assert "precision='float16'" in caplog.text


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    code = (
        "import sys; sys.modules['redisvl'] = None\n"
        "from shared_core import ResponseCache\n"
        "try: ResponseCache.open('redis://:hush@localhost')\n"
        "except ImportError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tiered-llm-cache[redis]'" in ran.stdout
    assert "hush" not in ran.stdout


# -------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("sharded", [False, True])
@given(prefix=st.text(max_size=6), rest=st.text(max_size=6), namespace=st.text(max_size=6))
def test_names_tell_their_key_and_lie_where_their_namespace_lies(
    sharded: bool, prefix: str, rest: str, namespace: str
) -> None:
    names = Names(sharded)
    for key in (prefix + rest, *Request.of(rest).address(namespace)):
        assert key_of(names.record(key)) == key
        assert key_of(names.value(key)) == key
    key, scope = Request.of(rest).address(namespace)
    assert names.tag_of(key) == names.tag_of(scope)
    assert names.tag_of(key) in names.tags_of_namespace(namespace)
    assert names.tag_of(key) == names.value_tag(epoch_key(namespace, rest))
    assert names.tag_of(value_key(namespace, rest)) == names.tag_of(key)


def test_a_prefix_with_glob_characters_matches_only_itself(store: Store) -> None:
    odd = ["a*", "a?", "a[b]", "a\\", "a-", "a^"]
    store.put_many({f"{prefix}{n}": b"" for prefix in [*odd, "aXX", "ab"] for n in range(3)})
    for prefix in odd:
        assert sorted(store.scan(prefix)[0]) == [f"{prefix}{n}" for n in range(3)]
        store.put(record(f"{prefix}key"))
    store.put(record("aXXkey"))
    assert store.delete(Selector("n", key_prefix="a*")) == 1
    assert store.delete(Selector("n", key_prefix="a")) == 6


def test_tls_checks_the_server_against_the_authority_that_is_given(
    tmp_path: Path, open_at: Callable[..., Store]
) -> None:
    from tests.redis_server import RedisStack, free_port

    port, authority = free_port(), self_signed(tmp_path)
    files = ("--tls-cert-file", f"{authority}", "--tls-key-file", f"{tmp_path}/key.pem")
    more = ("--tls-port", f"{port}", "--tls-auth-clients", "no")
    with RedisStack(*files, *more):
        store = open_at(f"rediss://127.0.0.1:{port}/0", ssl={"ca_certs": str(authority)})
        store.put(record("a", unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            open_at(f"rediss://127.0.0.1:{port}/0").get("a")


def self_signed(folder: Path) -> Path:
    """Write ``key.pem`` and the certificate of 127.0.0.1 that it signs, and return the latter."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=9))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(private)
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


# ----------------------------------------------------------------------------------- very many


def copies(server: redis.Redis, count: int) -> None:
    """Copy the record "a" that often, under keys of the same namespace."""
    for start in range(0, count, 1000):
        with server.pipeline(transaction=False) as pipeline:
            for n in range(start, min(start + 1000, count)):
                pipeline.copy("tlc:{0}:r1:____:a", f"tlc:{{0}}:r1:____:{n}")
            pipeline.execute()


@pytest.mark.slow
@pytest.mark.parametrize(("index", "count"), [("flat", 20_000), ("hnsw", 2_000)])
def test_clearing_very_many_stalls_no_other_client_and_counting_them_is_cheap(
    index: str, count: int, server: redis.Redis, redis_url: str, open_at: Callable[..., Store]
) -> None:
    store = open_at(redis_url, index=index)
    vector = np.random.default_rng(1).standard_normal(384)
    store.put(record("a", unit(*vector)))
    store.put(record("theirs", unit(*vector), namespace="m", scope="theirs"))
    copies(server, count - 1)
    store.put_many({f"{n}": b"" for n in range(30_000)})
    start = time.perf_counter()
    entries = store.info().entries
    counted = time.perf_counter() - start
    assert entries == pytest.approx(count + 1, rel=0.1)
    pings: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        with redis.Redis.from_url(redis_url) as other:
            while not ended.is_set():
                before = time.perf_counter()
                other.ping()
                pings.append(time.perf_counter() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        start = time.perf_counter()
        assert store.delete(Selector("n")) == count
        took = time.perf_counter() - start
    finally:
        ended.set()
        watcher.join()
    print(
        f"{index}: {count} cleared in {took:.2f} s, worst ping of another client "
        f"{max(pings) * 1000:.1f} ms of {len(pings)}; counted in {counted * 1000:.0f} ms: {entries}"
    )
    assert np.percentile(pings, 99) < 0.1  # of a busy machine the worst says nothing
    assert counted < 0.5
    assert keys_near(store, unit(*vector), 1, "theirs") == ["theirs"]


def test_a_batch_is_stored_whole_or_not_at_all(store: Store, server: redis.Redis) -> None:
    items = {f"{n}": b"v" for n in range(1000)}
    server.config_set("maxmemory", 1)
    try:
        for ttl in (None, 100.0):
            with pytest.raises(StoreError, match="OutOfMemory"):
                store.put_many(items, ttl)
        assert store.get_many(list(items)) == {}
    finally:
        server.config_set("maxmemory", 0)
    store.put_many(items, 100.0)
    assert store.get_many(list(items)) == items
    assert {server.ttl(name) > 0 for name in server.scan_iter("tlc:*:v:*", count=1000)} == {True}
    store.put_many(items)
    assert {server.ttl(name) for name in server.scan_iter("tlc:*:v:*", count=1000)} == {-1}


def test_a_batch_is_one_round_trip(store: Store, trips: list[bytes]) -> None:
    for warm in (False, True):
        trips.clear()
        store.put_many({f"{n}": b"v" for n in range(100)}, 100.0)
        assert len(trips) == 1 or not warm


def test_neighbours_of_another_model_never_hide_ours(redis_url: str) -> None:
    with ResponseCache.open(redis_url, embedder=fake_embed, threshold=0.8, timeout=5) as cache:
        for n in range(50):
            theirs = Request.of("How do I renew my library book?" + "?" * n, model="theirs")
            cache.store(theirs, Answer("theirs"))
        ours = Request.of("How do I renew our library book?", model="ours")
        cache.store(ours, Answer("ours"))
        found = cache.lookup(Request.of("How do I renew my library book?", model="ours"))
        assert isinstance(found, Hit)
        assert (found.answer.text, str(found.tier)) == ("ours", "semantic")
