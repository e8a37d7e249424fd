"""Records held beside Redis: never what another process changed, once the news of it came."""

from __future__ import annotations

import gc
import os
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from redis.connection import AbstractConnection

from shared_core import Answer, Hit, Miss, Request, ResponseCache, StoreError
from shared_core.stores import Selector, epoch_key, open_store
from shared_core.stores.redis import RedisStore
from shared_core.stores.redis.near_cache import LONGEST, PING_S, SURE_S, Feed
from shared_core.testing.stores import FakeClock, record, unit
from tests.concurrency.test_forks_and_threads import in_child
from tests.redis_server import RedisStack
from tests.stores import test_redis as plain
from tests.stores.test_redis_faults import Proxy
from tests.stores.test_redis_faults import start as start  # noqa: PLC0414 - a fixture

pytestmark = pytest.mark.redis

eventually, open_at, server = plain.eventually, plain.open_at, plain.server
least_user = plain.least_user

NEAR = 100
NOISE_S = 0.3
"""What a busy machine may add."""

MORE_RIGHTS = "+client|id +client|tracking +subscribe +ping +pttl &__redis__:invalidate"


def hears(store: Any) -> Any:
    """Return the store once it hears from its server."""
    eventually(store.near._feed.catch_up)
    return store


@pytest.fixture
def near(redis_url: str, open_at: Callable[..., Any]) -> Any:
    """Return a store with a near cache that hears from the server."""
    return hears(open_at(redis_url, near_cache=NEAR))


@pytest.fixture
def other(redis_url: str, open_at: Callable[..., Any]) -> Any:
    """Return another process's store, as far as ours can tell."""
    return open_at(redis_url)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets one item for each record that is read from the server."""
    made: list[bytes] = []
    send = AbstractConnection.send_packed_command

    def counted(self: Any, command: Any, *args: Any, **options: Any) -> None:
        data = command if isinstance(command, bytes) else b"".join(command)
        made.extend([b"HGETALL"] * data.count(b"HGETALL"))
        send(self, command, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    return made


def hold(store: Any, *keys: str, **fields: Any) -> None:
    """Put records and read them until they are held: news of the putting may come after it."""
    for key in keys:
        store.put(record(key, **fields))
    held = store.near._held
    eventually(lambda: all(store.get(key) is not None and key in held for key in keys))
    time.sleep(0.02)
    eventually(lambda: all(store.get(key) is not None and key in held for key in keys))


def text_of(store: Any, key: str = "a") -> str | None:
    found = store.get(key)
    return None if found is None else str(found.answer.text)


class TestNearCache(plain.TestRedis):
    """The near cache keeps every promise of a store."""

    @pytest.fixture(params=[2, NEAR])
    def options(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"near_cache": request.param}

    @pytest.fixture
    def open_one(
        self, redis_url: str, clock: FakeClock, options: dict[str, Any], open_at: Callable[..., Any]
    ) -> Callable[..., Any]:
        return lambda: hears(open_at(redis_url, clock=clock, **options))


# ------------------------------------------------------------------------------- what it saves


def test_a_record_that_is_held_takes_no_round_trip(near: Any, reads: list[bytes]) -> None:
    hold(near, "a", vector=unit(1, 2, 3), tags=("docs",))
    reads.clear()
    for _ in range(10):
        found = near.get("a")
        assert found == record("a", tags=("docs",))
        assert found is not None
        assert found.vector is not None
        assert np.allclose(found.vector, unit(1, 2, 3), atol=1e-3)
    assert reads == []


def test_the_least_recently_used_goes_when_there_are_too_many(
    redis_url: str, open_at: Callable[..., Any], reads: list[bytes]
) -> None:
    store = hears(open_at(redis_url, near_cache=3))
    hold(store, "a", "b", "c")
    assert store.get("a") is not None
    store.put(record("d"))
    time.sleep(0.02)
    assert store.get("d") is not None
    assert len(store.near) == 3
    reads.clear()
    assert store.get("a") is not None
    assert reads == []
    assert store.get("b") is not None
    assert len(reads) == 1


def test_a_long_answer_is_not_held(near: Any, reads: list[bytes]) -> None:
    near.put(record("long", answer=Answer("x" * LONGEST)))
    hold(near, "a")
    reads.clear()
    assert near.get("long") is not None
    assert near.get("long") is not None
    assert len(reads) == 2


# ---------------------------------------------------------------------- what other processes do


@pytest.mark.parametrize(
    "change",
    ["delete", "replace", "bump", "clear", "expire", "flush", "evict", "retype", "bumps evicted"],
)
def test_what_another_process_changed_is_served_no_more(
    near: Any, other: Any, server: redis.Redis, change: str
) -> None:
    for round in range(5):
        hold(near, "a", "b", tags=("docs",))
        match change:
            case "delete":
                other.delete(Selector("n", key="a"))
            case "replace":
                other.put(record("a", answer=Answer("new"), tags=("docs",)))
            case "bump":
                other.increment({epoch_key("n", "docs"): 1})
            case "clear":
                other.delete(Selector("n"))
            case "expire":
                server.pexpire("tlc:{0}:r1:____:a", 1)
            case "flush":
                server.flushall()
            case "evict":
                server.config_set("maxmemory-policy", "allkeys-random")
                server.config_set("maxmemory", 1)
                eventually(lambda: server.dbsize() == 0)
                server.config_set("maxmemory", 0)
                server.config_set("maxmemory-policy", "noeviction")
            case "retype":
                server.set("tlc:{0}:r1:____:a", "no hash")
            case "bumps evicted":  # and the epochs: of the records' tags nothing is known any more
                server.delete("tlc:{0}:bumps", "tlc:{0}:v:" + epoch_key("n", "docs"))
        expected = "new" if change == "replace" else None
        start = time.monotonic()
        eventually(lambda expected=expected: text_of(near) == expected)
        assert time.monotonic() - start < PING_S, round  # told, not found out by itself
        assert [text_of(near) for _ in range(3)] == [expected] * 3


def test_news_that_reached_this_machine_are_taken_in_before_a_record_is_served(
    near: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(near, "a")
    feed = near.near._feed
    goes_on, stands = threading.Event(), threading.Event()
    step = Feed._step

    def late(self: Feed) -> tuple[int, float]:
        stands.set()
        goes_on.wait(5)
        return step(self)

    monkeypatch.setattr(Feed, "_step", late)
    try:
        assert stands.wait(5)  # the thread takes in nothing any more
        feed._sure_until = time.monotonic() + 60
        assert text_of(near) == "answer a"
        other.delete(Selector("n", key="a"))
        assert select.select([feed._socket], [], [], 5)[0]
        assert near.get("a") is None
    finally:
        goes_on.set()


def test_news_that_another_thread_is_taking_in_are_waited_for(
    near: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(near, "a")
    taken, goes_on = threading.Event(), threading.Event()
    hear = Feed._hear

    def late(self: Feed, reply: Any) -> None:
        if reply[0] == b"message":
            taken.set()
            goes_on.wait(5)
        hear(self, reply)

    monkeypatch.setattr(Feed, "_hear", late)
    other.delete(Selector("n", key="a"))
    assert taken.wait(5)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(near.get, "a")
        time.sleep(0.05)
        assert not found.done()
        goes_on.set()
        assert found.result(5) is None


# --------------------------------------------------------------------- reads that meet a change


@pytest.mark.parametrize("change", ["delete", "replace", "bump", "clear", "own put", "own bump"])
def test_a_record_read_before_a_change_is_not_held_after_it(
    near: Any, other: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    near.put(record("a", tags=("docs",)))
    hold(near, "news")
    read = RedisStore._read

    def changed_meanwhile(self: RedisStore, key: str, *args: Any) -> Any:
        found = read(self, key, *args)
        monkeypatch.setattr(RedisStore, "_read", read)
        match change:
            case "delete":
                other.delete(Selector("n", key="a"))
            case "replace":
                other.put(record("a", answer=Answer("new"), tags=("docs",)))
            case "bump":
                other.increment({epoch_key("n", "docs"): 1})
            case "clear":
                other.delete(Selector("n"))
            case "own put":
                near.put(record("a", answer=Answer("new"), tags=("docs",)))
            case "own bump":
                near.increment({epoch_key("n", "docs"): 1})
        if not change.startswith("own"):
            other.delete(Selector("n", key="news"))
            eventually(lambda: near.get("news") is None)  # and so came the news before it
        return found

    monkeypatch.setattr(RedisStore, "_read", changed_meanwhile)
    assert text_of(near) == "answer a"  # it was, when it was asked for
    assert text_of(near) == ("new" if change in ("replace", "own put") else None)


def test_a_record_read_before_a_change_that_nobody_heard_of_is_not_held(
    near: Any, other: Any, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    near.put(record("a"))
    hold(near, "b")
    read = RedisStore._read

    def deaf_meanwhile(self: RedisStore, key: str, *args: Any) -> Any:
        found = read(self, key, *args)
        monkeypatch.setattr(RedisStore, "_read", read)
        monkeypatch.setattr(Feed, "_connect", lambda _: 0.01)
        server.client_kill_filter(_type="pubsub")
        eventually(lambda: not near.near._feed.catch_up())
        other.delete(Selector("n", key="a"))
        monkeypatch.undo()
        hears(near)
        return found

    monkeypatch.setattr(RedisStore, "_read", deaf_meanwhile)
    assert text_of(near) == "answer a"
    assert text_of(near) is None


def test_a_record_held_just_after_the_way_was_lost_goes_before_the_news_are_back(
    near: Any, other: Any, server: redis.Redis
) -> None:
    near.put(record("a"))
    with pytest.MonkeyPatch.context() as deaf:
        deaf.setattr(Feed, "_connect", lambda _: 0.01)
        server.client_kill_filter(_type="pubsub")
        eventually(lambda: not near.near._feed.catch_up())
        with pytest.MonkeyPatch.context() as early:
            early.setattr(Feed, "catch_up", lambda _: True)  # asked a moment before
            assert text_of(near) == "answer a"
        assert len(near.near) == 1
        other.delete(Selector("n", key="a"))
    hears(near)
    assert text_of(near) is None


def test_a_record_whose_proof_is_too_old_is_asked_for_even_if_the_thread_is_late(
    near: Any, reads: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(near, "a")
    goes_on, stands = threading.Event(), threading.Event()
    step = Feed._step

    def late(self: Feed) -> tuple[int, float]:
        stands.set()
        goes_on.wait(5)
        return step(self)

    monkeypatch.setattr(Feed, "_step", late)
    try:
        assert stands.wait(5)  # as in a process that was stopped, and goes on now
        near.near._feed._sure_until = time.monotonic()
        reads.clear()
        assert text_of(near) == "answer a"
        assert len(reads) == 1
        assert len(near.near) == 1  # still held: nobody has let go of it
    finally:
        goes_on.set()


# ---------------------------------------------------------------------------- what we do ourselves


def test_own_changes_hold_at_once(near: Any) -> None:
    for number in range(50):
        near.put(record("a", answer=Answer(f"{number}"), tags=("docs",)))
        assert text_of(near) == f"{number}"
        assert text_of(near) == f"{number}"
    near.increment({epoch_key("n", "docs"): 1})
    assert text_of(near) is None
    for selector in (Selector("n", key="a"), Selector("n", tag="docs"), Selector("n")):
        hold(near, "a", tags=("docs",))
        near.delete(selector)
        assert text_of(near) is None


def test_a_put_that_may_have_been_done_leaves_nothing_held(
    near: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(near, "a")
    run_script = near._connection.run_script

    def lost_reply(*args: Any) -> None:
        run_script(*args)
        raise StoreError("the reply was lost")

    monkeypatch.setattr(near._connection, "run_script", lost_reply)
    # Deaf: only what the put itself does counts.
    monkeypatch.setattr(near.near._feed, "_tell", lambda _: None)
    with pytest.raises(StoreError, match="lost"):
        near.put(record("a", answer=Answer("new")))
    assert text_of(near) == "new"


# -------------------------------------------------------------------------------------- time


def test_the_end_that_the_server_counts_down_to_holds_here_too(
    redis_url: str, open_at: Callable[..., Any], server: redis.Redis
) -> None:
    clock = FakeClock()  # stands: for this process the end never comes
    store = hears(open_at(redis_url, near_cache=NEAR, clock=clock))
    server.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)  # the server tells nothing
    try:
        hold(store, "a", expires=clock.now + 0.5)
        eventually(lambda: server.pttl("tlc:{0}:r1:____:a") < 100)
        held = store.near._held["a"]
        assert held.end <= time.monotonic() + 0.1
        eventually(lambda: time.monotonic() >= held.end)
        eventually(lambda: store.get("a") is None)
        assert time.monotonic() - held.end < PING_S
    finally:
        server.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)


# --------------------------------------------------------------------------------- lost news


def test_a_connection_that_is_cut_empties_the_near_cache_until_it_is_back(
    near: Any, other: Any, server: redis.Redis, reads: list[bytes]
) -> None:
    hold(near, "a", "b")
    for round in range(3):
        assert len(near.near) == 2
        server.client_kill_filter(_type="pubsub")
        other.put(record("a", answer=Answer(f"{round}")))
        eventually(lambda: len(near.near) == 0)
        assert text_of(near) == f"{round}"
        hears(near)
        hold(near, "b")
        hold_again = [text_of(near) for _ in range(2)]
        assert hold_again == [f"{round}"] * 2


def test_no_record_is_served_long_after_a_way_that_was_cut_without_a_word(
    start: Callable[..., RedisStack], open_at: Callable[..., Any]
) -> None:
    server = start()
    other = open_at(server.url)
    with Proxy(server.port) as proxy:
        store = hears(open_at(proxy.url, near_cache=NEAR, timeout=0.25))
        hold(store, "a")
        proxy.lose()
        other.delete(Selector("n", key="a"))
        deleted = last = time.monotonic()
        while time.monotonic() < deleted + 2 * SURE_S:
            asked = time.monotonic()
            try:
                if store.get("a") is not None:
                    last = asked
            except StoreError:
                continue  # as without a near cache: the way is cut for reads, too
        print(f"served for {last - deleted:.2f} s after the deletion, at most {SURE_S} are allowed")
        assert last - deleted < SURE_S
        hears(store)
        store.put(record("a"))
        hold(store, "a")


def test_a_server_that_hangs_is_not_covered_up_for_long(
    start: Callable[..., RedisStack], open_at: Callable[..., Any]
) -> None:
    server = start()
    store = hears(open_at(server.url, near_cache=NEAR, timeout=0.25))
    hold(store, "a")
    server.freeze()
    frozen = last = time.monotonic()
    while time.monotonic() < frozen + 2 * SURE_S:
        asked = time.monotonic()
        try:
            assert text_of(store) == "answer a"
            last = asked
        except StoreError:
            assert len(store.near) == 0
            break
    assert last - frozen < SURE_S
    server.thaw()
    hears(store)
    hold(store, "a")


def test_a_server_that_was_killed_and_comes_back_with_other_data_is_believed(
    start: Callable[..., RedisStack], open_at: Callable[..., Any]
) -> None:
    server = start()
    store = hears(open_at(server.url, near_cache=NEAR))
    hold(store, "a")
    server.kill()
    eventually(lambda: len(store.near) == 0)
    with pytest.raises(StoreError):
        store.get("a")
    server.start()
    assert store.get("a") is None
    other = open_at(server.url)
    other.put(record("a", answer=Answer("new")))
    hears(store)
    assert text_of(store) == "new"
    hold(store, "a")


def test_odd_names_and_odd_messages_change_nothing(near: Any, server: redis.Redis) -> None:
    hold(near, "a")
    for name in (b"tlc:{0}:r1:", b"tlc:{0}:r1:odd", b"tlc:{0}:r1:odd:\xff", b"tlc:{0}:r1:::"):
        server.set(name, "x")
    server.publish("__redis__:invalidate", "tlc:{0}:r1:____:a")
    time.sleep(2 * PING_S)
    assert near.near._feed.catch_up()
    assert len(near.near) == 1
    server.delete("tlc:{0}:r1:____:a")
    eventually(lambda: near.get("a") is None)


def test_a_server_that_tells_nothing_is_warned_of_once_and_asked_each_time(
    least_user: str,
    open_at: Callable[..., Any],
    reads: list[bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared_core.stores.redis.near_cache.REFUSED_REST_S", 0.01)
    store = open_at(least_user, near_cache=NEAR)
    store.put(record("a"))
    for _ in range(20):
        assert store.get("a") is not None
        time.sleep(0.01)
    assert len(reads) == 20
    assert caplog.text.count("the near cache stays empty") == 1
    assert "pw" not in caplog.text


def test_the_rights_of_the_docs_are_enough(
    least_user: str, server: redis.Redis, open_at: Callable[..., Any]
) -> None:
    assert MORE_RIGHTS in (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    server.execute_command("ACL", "SETUSER", "cache", *MORE_RIGHTS.split())
    store = hears(open_at(least_user, near_cache=NEAR))
    hold(store, "a")
    server.delete("tlc:{0}:r1:____:a")
    eventually(lambda: store.get("a") is None)


# ----------------------------------------------------------------- threads, forks, and the end


def test_eight_threads_never_read_what_is_older_than_what_was_put(near: Any, other: Any) -> None:
    keys = "abcd"
    locks = {key: threading.Lock() for key in keys}
    newest, least = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)
    end = time.monotonic() + 3
    for key in keys:
        near.put(record(key, answer=Answer("0")))

    def work(seed: int) -> int:
        rng, hits = random.Random(seed), 0
        while time.monotonic() < end:
            key = rng.choice(keys)
            if rng.random() < 0.9:
                at_least = least[key]
                found = near.get(key)
                assert found is not None
                assert int(found.answer.text) >= at_least
                hits += 1
                continue
            with locks[key]:  # versions grow in the order of the puts
                newest[key] += 1
                version = record(key, answer=Answer(f"{newest[key]}"))
                if rng.random() < 0.5:
                    other.put(version)  # known here when the news of it come
                else:
                    near.put(version)
                    least[key] = newest[key]
        return hits

    with ThreadPoolExecutor(8) as pool:
        hits = sum(pool.map(work, range(8)))
    print(f"{hits} reads, {sum(newest.values())} puts")
    assert hits > 1000
    for key in keys:
        eventually(lambda key=key: text_of(near, key) == f"{newest[key]}")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_hears_for_itself_and_takes_nothing_from_its_parent(
    near: Any, other: Any, reads: list[bytes]
) -> None:
    hold(near, "a")

    def work() -> bool:
        empty = len(near.near) == 0
        hears(near)
        hold(near, "b")
        near.delete(Selector("n", key="b"))
        return empty and text_of(near) == "answer a" and near.get("b") is None

    for _ in range(3):
        assert in_child(work)
        assert near.near._feed.catch_up()  # the way is still ours
    hold(near, "a")
    child = os.fork()
    if child == 0:
        done = False
        try:
            hears(near)
            hold(near, "a")
            deadline = time.monotonic() + 5
            while near.get("a") is not None and time.monotonic() < deadline:
                pass  # until the parent's deletion
            done = near.get("a") is None
        finally:
            os._exit(0 if done else 1)
    time.sleep(0.5)
    other.delete(Selector("n", key="a"))
    assert os.waitpid(child, 0)[1] == 0
    eventually(lambda: near.get("a") is None)


def feeds() -> int:
    return sum(one.name == "tiered-cache news" for one in threading.enumerate())


@pytest.mark.parametrize("end", ["close", "forget"])
def test_the_end_of_a_store_ends_its_thread_and_its_connection(
    redis_url: str, server: redis.Redis, end: str
) -> None:
    before = feeds()
    store = hears(open_store(redis_url, near_cache=NEAR, timeout=5))
    hold(store, "a")
    assert feeds() == before + 1
    if end == "close":
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.get("a")
    del store
    gc.collect()
    eventually(lambda: feeds() == before)
    eventually(lambda: server.client_list(_type="pubsub") == [])


def test_a_store_that_is_never_asked_makes_no_connection(
    redis_url: str, open_at: Callable[..., Any]
) -> None:
    before = feeds()
    open_at(redis_url, near_cache=NEAR)
    assert feeds() == before


# ------------------------------------------------------------------------------- the whole cache


@dataclass
class Pair:
    """Two caches on one Redis, of which the first holds an answer near."""

    ours: ResponseCache
    theirs: ResponseCache

    def finds(self, asked: Request) -> bool:
        found = self.ours.lookup(asked)
        assert isinstance(found, Hit | Miss)
        assert self.ours.stats().errors == {}
        return isinstance(found, Hit)


@pytest.fixture
def pair(redis_url: str) -> Iterator[Pair]:
    options: dict[str, Any] = {"semantic": False, "timeout": 5, "near_cache": NEAR}
    with (
        ResponseCache.open(redis_url, **options) as ours,
        ResponseCache.open(redis_url, **options) as theirs,
    ):
        hears(ours._store)
        yield Pair(ours, theirs)


@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("change", ["feedback", "invalidate", "bump", "clear", "store"])
def test_whatever_ends_an_answer_ends_it_near(pair: Pair, change: str, mine: bool) -> None:
    asked = Request.of("What is a fuse?", model="m")
    entry_id = pair.ours.store(asked, Answer("melts"), tags=["docs"])
    assert entry_id is not None
    eventually(lambda: pair.finds(asked) and len(pair.ours._store.near) == 1)
    cache = pair.ours if mine else pair.theirs
    match change:
        case "feedback":
            cache.feedback(entry_id, False)
        case "invalidate":
            assert cache.invalidate(tag="docs") == 1
        case "bump":
            cache.bump("docs")
        case "clear":
            assert cache.clear() == 1
        case "store":
            cache.store(asked, Answer("melts first"))

    def is_ended() -> bool:
        found = pair.ours.lookup(asked)
        return found.answer.text == "melts first" if isinstance(found, Hit) else change != "store"

    if not mine:
        eventually(is_ended)
    assert is_ended()


@pytest.mark.parametrize(
    ("url", "options", "match"),
    [
        ("memory://", {"near_cache": 5}, "near_cache: of Redis alone"),
        ("redis+sentinel://localhost/service", {"near_cache": 5}, "one server alone"),
        ("redis+cluster://localhost", {"near_cache": 5}, "one server alone"),
        ("redis://localhost", {"near_cache": -1}, "number of entries"),
        ("redis://localhost", {"near_cache": 1.5}, "number of entries"),
        ("redis://localhost", {"near_cache": True}, "number of entries"),
    ],
)
def test_a_near_cache_that_cannot_be_is_refused(
    url: str, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        ResponseCache.open(url, **options)


OTHER_PROCESS = """
import sys, time
from shared_core.stores import Selector, open_store
store = open_store(sys.argv[1], timeout=5)
for key in map(str.strip, sys.stdin):
    store.delete(Selector("n", key=key))
    print(time.monotonic(), flush=True)
"""


def test_what_another_process_says_it_deleted_is_served_no_more(near: Any) -> None:
    """On one machine, where the news are there before anybody can say so."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(near.info().location)]
    late = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(100):
            hold(near, "a")
            process.stdin.write("a\n")
            process.stdin.flush()
            deleted = float(process.stdout.readline())
            while near.get("a") is not None:
                late += 1
                assert time.monotonic() - deleted < SURE_S
        process.stdin.close()
        assert process.wait(10) == 0
    print(f"{late} reads after 100 deletions found what was deleted")
