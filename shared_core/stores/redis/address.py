"""Read where a Redis is from a URL or a client, and make clients of our own that keep deadlines.

    redis://[user:password@]host[:port][/db]                      one server
    rediss://…                                                    the same with TLS
    unix:///path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:port][,host…]/service[/db]
    redis+cluster://[user:password@]host[:port][,host…]

Nothing here connects.
"""

from __future__ import annotations

import inspect
import math
import re
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as TookTooLong
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from shared_core.resilience import time_left

# Connections of redis-py that keep to a time limit, from the server's name to a reply's last byte.
#
# redis-py bounds each wait for bytes, so that a name server, two addresses, a handshake and a reply
# that trickles in may take many times as long as was allowed.


T = TypeVar("T")


class TimedSocket:
    """A connected socket whose every wait ends when the time of the call under way is up."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._own: float | None = socket.gettimeout()
        # What redis-py asks before every command: ``__getattr__`` takes ten times as long.
        self.fileno, self.pending = socket.fileno, getattr(socket, "pending", lambda: 0)
        # A cache that is dropped unclosed: else the socket may be collected first, and complain.
        weakref.finalize(self, socket.close).atexit = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Wait at most so long, and no longer than the call may; 0 never waits."""
        self._own = seconds

    def recv(self, *args: Any) -> Any:
        self._hurry()
        return self._socket.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._hurry()
        return self._socket.recv_into(*args)

    def sendall(self, *args: Any) -> Any:
        self._hurry()
        return self._socket.sendall(*args)

    def _hurry(self) -> None:
        """Raise TimeoutError when no time is left."""
        seconds, own = time_left(), self._own
        if own is not None and own < seconds:
            seconds = own
        if seconds <= 0:
            if own != 0:
                raise TimeoutError("the time is up")
            seconds = 0.0
        self._socket.settimeout(seconds if seconds < math.inf else None)


class _Timed:
    """What every such class is."""


@cache
def timed(connection_class: type[Any]) -> type[Any]:
    """Return a class of redis-py's connections that keeps to the limit of the call under way."""
    if issubclass(connection_class, _Timed):
        return connection_class

    reading = inspect.signature(connection_class.read_response).parameters
    at_once = {"timeout": 0, "disconnect_on_error": False} if "timeout" in reading else {}

    class Timed(_Timed, connection_class):  # type: ignore[misc]  # known when it is called
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            # A server that is told the library's name takes two round trips more to connect to.
            self.driver_info = self.lib_name = self.lib_version = None

        def _connect(self) -> TimedSocket:
            return TimedSocket(in_time(super()._connect, _close))

        def can_read(self, timeout: float = 0) -> bool:
            readable: bool = super().can_read(timeout)
            if readable:  # unasked for: the server says why it will not serve
                with suppress(TookTooLong):  # or TLS says something of its own
                    self.read_response(**at_once)
                    return True
            return False

    Timed.__name__ = Timed.__qualname__ = f"Timed{connection_class.__name__}"
    return Timed


def in_time(work: Callable[[], T], too_late: Callable[[T], object]) -> T:
    """Do what cannot be interrupted in a thread, and wait for it while there is time.

    ``too_late`` is given what comes after that. Raises TimeoutError.
    """
    seconds = time_left()
    if seconds == math.inf:
        return work()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except (OSError, ValueError, RedisError, RedisClusterException) as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="tiered-cache connects", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads can be had, or the interpreter ends
        return work()
    try:
        return done.result(max(0.0, seconds))
    except TimeoutError:
        done.add_done_callback(lambda late: late.exception() or too_late(late.result()))
        raise


def _close(socket: Any) -> None:
    socket.close()


FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://…, unix:///path/to/socket, "
    "redis+sentinel://host:port,host:port/service[/db], redis+cluster://host:port,host:port"
)
MAX_CONNECTIONS = 10_000
"""One for each thread at work; a limit that is felt would make threads wait for each other."""

CLIENT_OPTIONS = (
    "host", "port", "db", "path", "username", "password", "credential_provider", "client_name",
    "socket_keepalive", "socket_keepalive_options",
)  # fmt: skip
"""Settings of a connection that are the app's to choose; the others are ours."""

PORTS = {"redis+sentinel": 26379, "redis+cluster": 6379}
_MANY = re.compile(r"(?:(?P<login>[^/]*)@)?(?P<hosts>[^/@?]+)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?")
_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")

AnyClient = redis.Redis | RedisCluster


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is and how to log in; neither ``repr`` nor ``str`` shows the login.

    ``hosts`` are those of a cluster's or of sentinels', ``service`` the sentinels' name for the
    primary. ``pool`` makes connections to one server.
    """

    kind: Literal["server", "sentinel", "cluster"]
    place: str
    login: Mapping[str, Any] = field(default_factory=dict, repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    pool: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.place

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown, the longest first."""
        names = ("password", "sentinel_password", "ssl_password")
        found = {str(self.login[name]) for name in names if self.login.get(name)}
        return tuple(sorted(found, key=len, reverse=True))

    def connect(self, timeout: float) -> AnyClient:
        """Return a client with our limits: ``timeout`` seconds each, no retries, bytes as replies.

        A server's client connects when it is used, a cluster's learns its shards at once. Raises
        redis.RedisError.
        """
        limits = _limits(timeout)
        login = {name: one for name, one in self.login.items() if name != "sentinel_password"}
        match self.kind:
            case "server":
                options = {**login, **limits, "max_connections": MAX_CONNECTIONS}
                return redis.Redis.from_pool(redis.ConnectionPool(timed(self.pool), **options))
            case "sentinel":
                return self._behind_sentinels(login, limits)
            case "cluster":
                nodes = [ClusterNode(host, port) for host, port in self.hosts]
                options = {**login, **limits, "max_connections": MAX_CONNECTIONS}
                return in_time(
                    lambda: RedisCluster(
                        startup_nodes=nodes, require_full_coverage=False, **options
                    ),
                    RedisCluster.close,
                )

    def connection(self, timeout: float) -> Any:
        """Return a single connection to one server, not connected yet, with the same limits."""
        return self.pool(**self.login, **_limits(timeout))

    def _behind_sentinels(self, login: Mapping[str, Any], limits: Mapping[str, Any]) -> redis.Redis:
        secret = self.login.get("sentinel_password")
        tls = {name: one for name, one in login.items() if name.startswith("ssl")}
        guards = Sentinel(self.hosts, sentinel_kwargs={**limits, **tls, "password": secret})
        for guard in guards.sentinels:
            guard.connection_pool.connection_class = timed(guard.connection_pool.connection_class)
        pool = SentinelConnectionPool(self.service, guards, **{**login, **limits})
        pool.connection_class = timed(pool.connection_class)
        return redis.Redis.from_pool(pool)  # which closes it, too


def _limits(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
        "protocol": 2,  # RedisVL reads no replies of an explicit 3
    }


def address_of(url: str, ssl: Mapping[str, Any] | None = None) -> RedisAddress:
    """Read a URL. ``ssl`` holds redis-py's ``ssl_…`` options without the prefix.

    Raises ValueError for what is no such URL, without telling the login.
    """
    scheme, _, rest = url.partition("://")
    tls = {f"ssl_{name}": value for name, value in (ssl or {}).items()}
    if ssl is not None and scheme in ("redis", "unix"):
        raise ValueError(f"ssl is given for {scheme}://: write rediss:// for a server with TLS")
    try:
        if scheme in PORTS:
            return _of_many(scheme, rest, tls, ssl is not None)
        return _of_one(url, tls)
    except (ValueError, TypeError) as error:
        # The text of the error may quote the login.
        raise ValueError(
            f"store URL {without_login(url)!r} is not understood ({type(error).__name__}); "
            f"known forms: {FORMS}"
        ) from None


def without_login(url: str) -> str:
    """Return the URL as it may be shown: no login, no query."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else tail


def _of_one(url: str, tls: Mapping[str, Any]) -> RedisAddress:
    path = urlsplit(url).path
    if not (path.strip("/") if url.startswith("unix") else re.fullmatch(r"/?\d*", path)):
        raise ValueError("no path of a socket, or no number of a database")
    pool = redis.ConnectionPool.from_url(url)  # parses, does not connect
    for name, _ in parse_qsl(url.partition("?")[2]):
        if not _is_kept(name):
            raise ValueError("an option that is not known")
    return _of_pool(pool, tls)


def _of_pool(pool: Any, tls: Mapping[str, Any]) -> RedisAddress:
    login = {**_kept(pool.connection_kwargs), **tls}
    if "path" in pool.connection_kwargs:
        place = f"unix://{login['path']}?db={login.get('db', 0)}"
    else:
        scheme = "rediss" if "SSL" in pool.connection_class.__name__ else "redis"
        host, port = login.get("host", "localhost"), login.get("port", 6379)
        place = f"{scheme}://{host}:{port}/{login.get('db', 0)}"
    return RedisAddress("server", place, login, pool=pool.connection_class)


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says where a server is and who we are; limits and the rest are ours."""
    return {name: v for name, v in settings.items() if v is not None and _is_kept(name)}


def _is_kept(name: str) -> bool:
    return name in CLIENT_OPTIONS or name.startswith("ssl")


def _of_many(scheme: str, rest: str, tls: Mapping[str, Any], secure: bool) -> RedisAddress:
    found = _MANY.fullmatch(rest)
    if found is None:
        raise ValueError("no host")
    hosts = tuple(_host(one, PORTS[scheme]) for one in found["hosts"].split(","))
    login: dict[str, Any] = dict(tls)
    if secure:
        login["ssl"] = True
    if found["login"]:
        user, colon, password = found["login"].partition(":")
        login["password"] = unquote(password if colon else user)
        if colon and user:
            login["username"] = unquote(user)
    for name, value in parse_qsl(found["query"] or "", strict_parsing=bool(found["query"])):
        if name != "sentinel_password":
            raise ValueError("an option that is not known")
        login[name] = value
    path = [unquote(part) for part in (found["path"] or "").split("/") if part]
    if scheme == "redis+cluster":
        if path not in ([], ["0"]):
            raise ValueError("a cluster has database 0 alone")
        return RedisAddress("cluster", f"{scheme}://{_shown(hosts)}", login, hosts)
    if len(path) not in (1, 2):
        raise ValueError("no service")
    login["db"] = int(path[1]) if path[1:] else 0
    place = f"{scheme}://{_shown(hosts)}/{path[0]}/{login['db']}"
    return RedisAddress("sentinel", place, login, hosts, path[0])


def _host(words: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(words)
    if found is None:
        raise ValueError("not host:port")
    return found["host"].strip("[]"), int(found["port"] or port)


def address_of_client(client: Any) -> RedisAddress:
    """Return where a client of the app's leads; that client itself is left as it is.

    Raises ValueError for what is no blocking Redis client.
    """
    if isinstance(client, RedisCluster):
        hosts = tuple((str(node.host), int(node.port)) for node in client.get_nodes())
        login = _kept(client.get_connection_kwargs())
        for name in ("host", "port", "db"):
            login.pop(name, None)
        return RedisAddress("cluster", f"redis+cluster://{_shown(hosts)}", login, hosts)
    if not isinstance(client, redis.Redis):
        raise ValueError(
            f"client must be a redis.Redis or redis.cluster.RedisCluster, not {type(client)!r}"
        )
    pool: Any = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _of_sentinels(pool)
    return _of_pool(pool, {})


def _of_sentinels(pool: Any) -> RedisAddress:
    guards = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    hosts = tuple((str(one["host"]), int(one["port"])) for one in guards)
    login = _kept(pool.connection_kwargs)
    if "SSL" in pool.connection_class.__name__:
        login["ssl"] = True
    if guards[0].get("password"):
        login["sentinel_password"] = guards[0]["password"]
    place = f"redis+sentinel://{_shown(hosts)}/{pool.service_name}/{login.get('db', 0)}"
    return RedisAddress("sentinel", place, login, hosts, str(pool.service_name))


def _shown(hosts: tuple[tuple[str, int], ...]) -> str:
    return ",".join(f"{host}:{port}" for host, port in hosts)
