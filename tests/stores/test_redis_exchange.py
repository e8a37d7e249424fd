"""Commands and replies on the connections of a pool, and what becomes of the connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ResponseError

from shared_core.stores.redis.connection import Exchange

pytestmark = pytest.mark.redis


@pytest.fixture
def pool(redis_url: str) -> Iterator[redis.ConnectionPool]:
    pool = redis.ConnectionPool.from_url(redis_url, protocol=2)
    yield pool
    pool.disconnect()


@pytest.fixture(params=[True, False], ids=["keeps", "gives back"])
def exchange(request: pytest.FixtureRequest, pool: redis.ConnectionPool) -> Exchange:
    return Exchange(pool, request.param)


def clients(pool: redis.ConnectionPool) -> int:
    return len(redis.Redis(connection_pool=pool).client_list())


def test_replies_are_as_the_server_sends_them(exchange: Exchange) -> None:
    assert exchange.replies([("HSET", "h", "a", 1), ("HGETALL", "h")]) == [1, [b"a", b"1"]]


def test_one_connection_serves_calls_that_follow_each_other(
    exchange: Exchange, pool: redis.ConnectionPool
) -> None:
    before = clients(pool)
    ids = {exchange.replies([("CLIENT", "ID")])[0] for _ in range(20)}
    assert len(ids) == 1
    assert clients(pool) - before <= 1


def test_an_error_is_raised_after_all_replies_were_read(exchange: Exchange) -> None:
    _, id = exchange.replies([("SET", "text", "a"), ("CLIENT", "ID")])
    with pytest.raises(ResponseError, match="not an integer"):
        exchange.replies([("GET", "text"), ("INCR", "text"), ("ECHO", "third")])
    assert exchange.replies([("ECHO", "next"), ("CLIENT", "ID")]) == [b"next", id]


def test_a_connection_that_the_server_closed_is_made_anew(
    exchange: Exchange, pool: redis.ConnectionPool, redis_url: str
) -> None:
    (id,) = exchange.replies([("CLIENT", "ID")])
    with redis.Redis.from_url(redis_url) as other:
        other.client_kill_filter(_id=id)
    assert exchange.replies([("ECHO", "again")]) == [b"again"]


def test_what_a_broken_call_left_unread_is_not_taken_for_a_reply(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.replies([("PING",)])
    with monkeypatch.context() as patch:
        patch.setattr(redis.Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            exchange.replies([("ECHO", "late")])
    assert exchange.replies([("ECHO", "own")]) == [b"own"]


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_threads_get_the_replies_to_their_own_commands(exchange: Exchange) -> None:
    wrong: list[object] = []

    def work(name: str) -> None:
        for number in range(200):
            said = f"{name} {number}".encode()
            reply = exchange.replies([("ECHO", said)])
            if reply != [said]:
                wrong.append(reply)

    threads = [threading.Thread(target=work, args=(f"{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_idle_connections_are_closed_on_demand(pool: redis.ConnectionPool, redis_url: str) -> None:
    exchange = Exchange(pool, keeps=True)
    (id,) = exchange.replies([("CLIENT", "ID")])
    exchange.drop_idle()
    with redis.Redis.from_url(redis_url) as other:
        assert str(id) not in {client["id"] for client in other.client_list()}
    assert exchange.replies([("ECHO", "again")]) == [b"again"]
