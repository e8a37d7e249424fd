"""Commands and replies on the connections of a redis-py pool: one round trip, nothing besides it.

redis-py's own way through ``Redis.execute_command`` and the pool takes as long as the server and
the network together: locks, metrics, retries that are switched off here, and callbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

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
            if len(commands) == 1:
                packed = connection.pack_command(*commands[0])
            else:
                packed = connection.pack_commands(commands)
            connection.send_packed_command(packed, check_health=False)
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


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def fields_read(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a hash, which the server sends as names and values in turn."""
    return dict(zip(reply[::2], reply[1::2], strict=True))
