"""Whether what a record was stored under still holds: the epochs of its tags, seen at once by all.

Every bump writes a new number beside the epochs. It is read in the same round trip as a record, and
as long as it stands, the epochs that this process knows are those in the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared_core.record import Record
from shared_core.stores import epoch_key
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_exchange import Command

MOST_KNOWN = 100_000


class Epochs:
    """What this process knows of the epochs; thread-safe without a lock, as only whole are swapped.

    An epoch that is not there, as after an eviction, ends every record stored under it. A new one
    starts at a random number, so that it never stands at an old one's.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._known: dict[str, tuple[bytes, dict[bytes, bytes | None]]] = {}  # by hash tag
        self.in_use = False
        """Whether a record with tags was met: until then nothing beside the record is read."""

    def read_with(self, tag: str, *commands: Command) -> list[Any]:
        """Run commands and return their replies, and the number that the last bump left."""
        if self.in_use:
            bumps = self._connection.names.bumps(tag)
            return self._connection.run_all(tag, [*commands, ("GET", bumps)])
        if len(commands) == 1:
            return [self._connection.run(tag, *commands[0]), None]
        return [*self._connection.run_all(tag, commands), None]

    def hold(self, tag: str, record: Record, stamps: bytes | None, stands: bytes | None) -> bool:
        """Say whether a record read with ``read_with`` is still what its tags stand for.

        Takes a round trip only when a bump or another process's new tag came since the last time.
        """
        if not record.tags:
            return True
        self.in_use = True
        if stamps is None:
            return False
        epochs = self._epochs(tag, self.names_of(record), stands)
        return None not in epochs and stamps.split(b",") == epochs

    def names_of(self, record: Record) -> list[bytes]:
        """Return the names of the epochs of a record's tags."""
        names = self._connection.names
        return [names.value(epoch_key(record.namespace, tag)) for tag in record.tags]

    def _epochs(self, tag: str, names: Sequence[bytes], stands: bytes | None) -> list[bytes | None]:
        known = self._known.get(tag)
        if known is not None and known[0] == stands and all(name in known[1] for name in names):
            return [known[1][name] for name in names]
        # The number first: what it is older than the epochs, so that it never vouches for old ones.
        bumps = self._connection.names.bumps(tag)
        stands, epochs = self._connection.run_all(
            tag, [("GET", bumps), ("MGET", *names)], together=True
        )
        if stands is not None:
            old = known[1] if known is not None and known[0] == stands else {}
            kept = old if len(old) < MOST_KNOWN else {}
            self._known[tag] = (stands, kept | dict(zip(names, epochs, strict=True)))
        return list(epochs)
