"""The way to a Redis server or cluster: connected at first use, anew after a fork, never retried.

Every method raises StoreError, and nothing of redis-py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from typing import Any, TypeVar

import redis
from redis.cluster import RedisCluster
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoScriptError,
    TimeoutError,
)

from shared_core.forking import renew_after_fork
from shared_core.stores import StoreError
from shared_core.stores.redis_address import AnyClient, RedisAddress
from shared_core.stores.redis_exchange import Command, Exchange
from shared_core.stores.redis_failures import ERRORS, RedisFailure, retold, told_as_store_errors
from shared_core.stores.redis_names import Names, is_record
from shared_core.stores.redis_sockets import timed
from shared_core.stores.time_limit import time_left, waiting

T = TypeVar("T")

PAGE = 1000
"""Keys that one step of a scan looks at: about 0.3 ms of the server's time."""

SAMPLE = 20_000
"""Keys that a count looks at: about 20 ms."""


class Script:
    """A Lua script; the server knows it by its digest after its first run."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.digest = sha1(self.source, usedforsecurity=False).hexdigest()


class RedisConnection:
    """Runs commands where their keys lie. Thread-safe; a child of a fork connects anew.

    ``timeout`` in seconds bounds each call, with its connecting, and the allowance of the lookup
    that makes it.
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self._address, self._timeout, self._secrets = address, timeout, address.secrets
        self.names = Names(sharded=address.kind == "cluster")
        self._client: AnyClient | None = None
        self._exchange: Exchange | None = None
        self._closed = False
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._client = self._exchange = None

    @property
    def place(self) -> str:
        """Say where the server is, without the login."""
        return self._address.place

    def run(self, tag: str, *command: Any) -> Any:
        """Run one command where the keys of a hash tag lie, and return the server's reply."""
        (reply,) = self.run_all(tag, (command,))
        return reply

    def run_all(
        self, tag: str, commands: Sequence[Command], *, together: bool = False
    ) -> list[Any]:
        """Run commands in one round trip (``together``: transaction); the first error raises."""
        if together:
            return self._run_together(tag, commands)
        return self.at(tag, lambda server: self._exchange_with(server).replies(commands))

    def _run_together(self, tag: str, commands: Sequence[Command]) -> list[Any]:
        def work(server: redis.Redis) -> list[Any]:
            with server.pipeline(transaction=True) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = pipeline.execute()
                return replies

        return self.at(tag, work)

    def run_script(self, tag: str, script: Script, keys: Sequence[bytes], *values: Any) -> Any:
        """Run a script in one round trip, two when the server does not know it yet."""

        def work(server: redis.Redis) -> Any:
            try:
                return server.execute_command("EVALSHA", script.digest, len(keys), *keys, *values)
            except NoScriptError:
                return server.execute_command("EVAL", script.source, len(keys), *keys, *values)

        return self.at(tag, work)

    def scan(self, tag: str | None, pattern: bytes, cursor: str = "") -> tuple[list[bytes], str]:
        """Take one step through the keys that match, on one tag's server or (None) on all.

        Returns some names and the cursor of the next step, "" at the end.
        """
        at, _, place = (cursor or "0:0").partition(":")

        def step() -> tuple[int, list[bytes], bool]:
            servers = self._servers() if tag is None else [self._server(tag)]
            if int(at) >= len(servers):  # a shard left meanwhile
                return 0, [], True
            command = ("SCAN", place, "MATCH", pattern, "COUNT", PAGE)
            following, found = servers[int(at)].execute_command(*command)
            return int(following), found, int(at) + 1 == len(servers)

        following, found, is_last = self._in_time(step)
        if following:
            return found, f"{at}:{following}"
        return found, "" if is_last else f"{int(at) + 1}:0"

    def scan_all(self, tag: str | None, pattern: bytes) -> Iterator[list[bytes]]:
        """Go through all keys that match, a page at a time; one may come twice."""
        cursor = ""
        while True:
            found, cursor = self.scan(tag, pattern, cursor)
            if found:
                yield found
            if not cursor:
                return

    def count_records(self) -> int:
        """Count the records on all servers, from a sample where keys are very many."""
        return self._in_time(lambda: sum(map(_count_records, self._servers())))

    def at(self, tag: str, work: Callable[[redis.Redis], T]) -> T:
        """Do work on the server where the keys of a hash tag lie.

        On a cluster whose shards have moved it is done once more, where they are now.
        """

        def run() -> T:
            try:
                return work(self._server(tag))
            except MovedError:
                if not self.names.sharded:
                    raise
                self._client = None
            except (ConnectionError, TimeoutError, ClusterDownError):
                if self.names.sharded:  # another may be primary by the next call
                    self._client = None
                raise
            return work(self._server(tag))

        return self._in_time(run)

    def _in_time(self, work: Callable[[], T]) -> T:
        """Bound all waits of some work together, and raise its errors as StoreErrors."""
        with waiting(self._timeout) as limit:
            if limit <= 0:
                raise RedisFailure("no time is left of this lookup's or store's timeout")
            try:
                return work()
            except ERRORS as error:
                failure = retold(error, self._secrets)
                if isinstance(failure, RedisFailure) and failure.down:
                    if time_left() <= 0 and limit < self._timeout / 2:
                        # It had little of the time: whether the server is down is not known.
                        failure.down = None
                    else:
                        self._drop_idle()
                raise failure  # noqa: B904 - it has its cause

    def _drop_idle(self) -> None:
        """Drop the connections that wait for work: their way to the server may be gone as well.

        Else each of them would cost a timeout of its own, after a fail-over say.
        """
        client = self._client
        if isinstance(client, redis.Redis):
            if self._exchange is not None:
                self._exchange.drop_idle()
            client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with told_as_store_errors(self._secrets):
                client.close()

    def _connected(self) -> AnyClient:
        if self._closed:
            raise StoreError("the store is closed")
        client = self._client
        if client is None:
            # Two threads may make one each; the one that is left over closes itself.
            client = self._client = self._address.connect(self._timeout)
        return client

    def _exchange_with(self, server: redis.Redis) -> Exchange:
        exchange, pool = self._exchange, server.connection_pool
        if exchange is None or exchange.pool is not pool:
            exchange = self._exchange = Exchange(pool, keeps=self._address.kind == "server")
        return exchange

    def _server(self, tag: str) -> redis.Redis:
        client = self._connected()
        if not isinstance(client, RedisCluster):
            return client
        return _of_node(client, client.get_node_from_key(f"{{{tag}}}"))

    def _servers(self) -> list[redis.Redis]:
        """Return every primary, in an order that lasts while none comes or goes."""
        client = self._connected()
        if not isinstance(client, RedisCluster):
            return [client]
        primaries = sorted(client.get_primaries(), key=lambda node: str(node.name))
        return [_of_node(client, node) for node in primaries]


def _count_records(server: redis.Redis) -> int:
    """Count one server's records; a sample is fair, as SCAN goes through a hash table."""
    looked_at, found, place = 0, 0, b"0"
    while looked_at < SAMPLE:
        page: Any
        place, page = server.execute_command("SCAN", place, "COUNT", PAGE)
        looked_at += len(page)
        found += sum(map(is_record, page))
        if not int(place):
            return found
    total: int = server.execute_command("DBSIZE")
    return round(found * total / looked_at)


def _of_node(client: RedisCluster, node: Any) -> redis.Redis:
    """Return the client of one node of a cluster, whose new connections keep to the time limit."""
    server: redis.Redis = client.get_redis_connection(node)
    pool = server.connection_pool
    pool.connection_class = timed(pool.connection_class)
    return server
