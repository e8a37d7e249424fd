"""Send commands to a Redis server or cluster: connected at first use, never retried.

Every method raises StoreError, and nothing of redis-py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, TypeVar

import redis
from redis import exceptions as redis_errors
from redis.cluster import RedisCluster
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.utils import HIREDIS_AVAILABLE
from redisvl.exceptions import RedisVLError

from shared_core.concurrency import renew_after_fork
from shared_core.resilience import bounded_wait, time_left
from shared_core.stores.api import StoreError
from shared_core.stores.redis.address import AnyClient, RedisAddress, timed
from shared_core.stores.redis.keys import Names, is_record

if HIREDIS_AVAILABLE:  # the extra brings it; an app may have redis-py alone
    import hiredis

# Commands and replies on the connections of a redis-py pool: one round trip, nothing besides it.
#
# redis-py's own way through ``Redis.execute_command`` and the pool takes as long as the server and
# the network together: locks, metrics, retries that are switched off here, and callbacks.


Command = Sequence[Any]


class Exchange:
    """Works on the connections of a pool; thread-safe without a lock.

    ``keeps``: they stay at hand, unless ``drop_idle`` gives them back. Where the server may become
    another, it is the pool that must look after each call. Replies are as the server sends them: a
    hash is a list of names and values.
    """

    def __init__(self, pool: Any, keeps: bool) -> None:
        self.pool, self._keeps = pool, keeps
        self._idle: list[Any] = []

    def replies(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip; the first error of the server is raised after the last.

        Raises redis.RedisError or OSError.
        """
        connection = self._ready()
        try:
            connection.send_packed_command(_packed(connection, commands), check_health=False)
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # what it would read next belongs to this call
            raise
        finally:
            if self._keeps:
                self._idle.append(connection)
            else:
                self.pool.release(connection)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    def _ready(self) -> Any:
        """Return a connection that the server has not closed or spoken on meanwhile."""
        if self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took it
                return self.pool.get_connection()
            try:
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass  # the pool connects it anew
            self.pool.release(connection)
        return self.pool.get_connection()

    def drop_idle(self) -> None:
        """Close the connections that wait for work; those at work stay."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.disconnect()
            self.pool.release(connection)


def _packed(connection: Any, commands: Sequence[Command]) -> Any:
    """Return commands as they are sent; redis-py's own way looks at every argument twice."""
    if not HIREDIS_AVAILABLE:
        return connection.pack_commands(commands)
    return [b"".join([hiredis.pack_command(tuple(command)) for command in commands])]


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def fields_read(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a hash, which the server sends as names and values in turn."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


# What Redis's errors mean to the cache: who is down, who merely refuses; never a password.


LOGIN_REST_S = 2.0
"""How long a server that refuses the password is left alone: each attempt is a line of its log."""

BUSY = ("BUSY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ")
_REFUSED = ("MISCONF ", "NOREPLICAS ")
"""Of writes alone: the disk or the replicas are gone."""

_PIPELINED = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
"""What redis-py puts before the server's words: the command, with what it was to store."""

ERRORS = (
    redis_errors.RedisError,
    redis_errors.RedisClusterException,
    RedisVLError,
    TimeoutError,
)


class RedisFailure(StoreError):
    """Redis failed. ``down`` True: leave it alone for ``rest`` seconds (None: as usual).

    ``down`` False: it works, and refuses this alone, such as a write to a full server.
    """

    def __init__(self, text: str, *, down: bool | None = None, rest: float | None = None) -> None:
        super().__init__(text)
        self.down, self.rest = down, rest


class SearchMissing(StoreError):
    """The server has no search module, or one that cannot do this."""


class WrongType(StoreError):
    """A key holds what none of us put there."""


class IndexMissing(StoreError):
    """The index is not there (any more)."""


@contextmanager
def as_store_errors(secrets: Iterable[str] = ()) -> Iterator[None]:
    """Raise every error of Redis and RedisVL inside the block as a StoreError.

    The secrets are blanked in its text; an error that names one is not even kept as the cause.
    """
    try:
        yield
    except ERRORS as error:
        raise as_store_error(error, secrets)  # noqa: B904 - it has its cause


def as_store_error(error: BaseException, secrets: Iterable[str] = ()) -> StoreError:
    """Return what an error means, with the error as the cause unless that names a secret."""
    found = store_error(error, secrets)
    found.__cause__ = None if _names(error, secrets) else error
    found.__suppress_context__ = True
    return found


def store_error(error: BaseException, secrets: Iterable[str] = ()) -> StoreError:
    """Return what an error of Redis or RedisVL means."""
    if isinstance(error, RedisVLError) and isinstance(error.__cause__, redis_errors.RedisError):
        error = error.__cause__
    said = _PIPELINED.sub("", str(error))
    words = said
    for secret in secrets:
        words = words.replace(secret, "***")
    words = f"{type(error).__name__}: {words}"
    match error:
        case redis_errors.AuthenticationError() | redis_errors.AuthorizationError():
            return RedisFailure(words, down=True, rest=LOGIN_REST_S)
        case redis_errors.MaxConnectionsError():
            return RedisFailure(words)
        case (
            redis_errors.ConnectionError()
            | redis_errors.TimeoutError()
            | TimeoutError()
            | redis_errors.ClusterDownError()
            | redis_errors.RedisClusterException()
        ):
            return RedisFailure(words, down=True)
        case redis_errors.NoPermissionError() if "'ft." in said.lower():
            return SearchMissing(words)
        case (
            redis_errors.OutOfMemoryError()
            | redis_errors.ReadOnlyError()
            | redis_errors.NoPermissionError()
        ):
            return RedisFailure(words, down=False)
    return _by_words(words, said)


def _by_words(words: str, said: str) -> StoreError:
    lower = said.lower()
    if said.startswith(BUSY):
        return RedisFailure(words, down=True)
    if said.startswith(_REFUSED):
        return RedisFailure(words, down=False)
    unknown = "unknown command" in lower and "ft." in lower
    if unknown or "bad arguments for vector similarity" in lower:  # none, or an older one
        return SearchMissing(words)
    if "no such index" in lower or "unknown index name" in lower:
        return IndexMissing(words)
    if said.startswith("WRONGTYPE "):
        return WrongType(words)
    return RedisFailure(words)


def _names(error: BaseException, secrets: Iterable[str]) -> bool:
    return any(secret in str(error) for secret in secrets)


T = TypeVar("T")

PAGE = 1000
"""Keys that one step of a scan looks at: about 0.3 ms of the server's time."""

SAMPLE = 20_000
"""Keys that a count looks at: about 20 ms."""


class RedisScript:
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

    def run_script(self, tag: str, script: RedisScript, keys: Sequence[bytes], *values: Any) -> Any:
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
            except (RedisConnectionError, RedisTimeoutError, ClusterDownError):
                if self.names.sharded:  # another may be primary by the next call
                    self._client = None
                raise
            return work(self._server(tag))

        return self._in_time(run)

    def _in_time(self, work: Callable[[], T]) -> T:
        """Bound all waits of some work together, and raise its errors as StoreErrors."""
        with bounded_wait(self._timeout) as limit:
            if limit <= 0:
                raise RedisFailure("no time is left of this lookup's or store's timeout")
            try:
                return work()
            except ERRORS as error:
                failure = as_store_error(error, self._secrets)
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
            with as_store_errors(self._secrets):
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
        client: Any = self._connected()
        if not self.names.sharded:  # ``isinstance`` takes 1 us: the clients are of a protocol
            server: redis.Redis = client
            return server
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
