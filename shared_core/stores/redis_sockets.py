"""Connections of redis-py that keep to a time limit, from the server's name to a reply's last byte.

redis-py bounds each wait for bytes, so that a name server, two addresses, a handshake and a reply
that trickles in may take many times as long as was allowed.
"""

from __future__ import annotations

import inspect
import math
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as TookTooLong

from shared_core.stores.time_limit import time_left

T = TypeVar("T")


class TimedSocket:
    """A connected socket whose every wait ends when the time of the call under way is up."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._own: float | None = socket.gettimeout()
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
        if own is not None and own < max(0.0, seconds):
            seconds = own
        elif seconds <= 0 and own != 0:
            raise TimeoutError("the time is up")
        self._socket.settimeout(max(0.0, seconds) if seconds < math.inf else None)


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
