"""Values under text keys in Redis; the promises are those of ``KeyValue``.

On a cluster, "all or none" and "atomic" hold for the keys on one shard: for values of one kind and
namespace, whose keys share their first two parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil

from shared_core.stores import StoreError
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_names import key_of
from shared_core.stores.redis_scripts import INCREMENT, SET_ALL

LARGEST = 10**18
"""Sums stay below twice this, far inside of Redis's 64 bits."""

LONGEST_S = 10**10


class RedisValues:
    """Text keys to bytes; times are the server's. ``fresh`` returns a new random number."""

    def __init__(self, connection: RedisConnection, fresh: Callable[[], int]) -> None:
        self._connection, self._names = connection, connection.names
        self._fresh = fresh

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for tag, group in self._by_tag(keys):
            values = self._connection.run(tag, "MGET", *map(self._names.value, group))
            found.update(
                (key, value) for key, value in zip(group, values, strict=True) if value is not None
            )
        return found

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        life = () if ttl is None else ("PX", milliseconds(ttl))
        for tag, group in self._by_tag(items):
            if len(group) == 1:
                self._connection.run(
                    tag, "SET", self._names.value(group[0]), items[group[0]], *life
                )
            else:  # one command and one reply: a pipeline of as many takes twice as long
                names, values = map(self._names.value, group), (items[key] for key in group)
                self._connection.run_script(tag, SET_ALL, list(names), *life[1:] or [""], *values)

    def delete_many(self, keys: Sequence[str]) -> int:
        return sum(
            int(self._connection.run(tag, "UNLINK", *map(self._names.value, group)))
            for tag, group in self._by_tag(set(keys))
        )

    def scan(self, prefix: str, cursor: str = "") -> tuple[list[str], str]:
        found, cursor = self._connection.scan(None, self._names.values_pattern(prefix), cursor)
        return list(map(key_of, found)), cursor

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        life = () if ttl is None else ("PX", milliseconds(ttl))
        tag = self._names.value_tag(key)
        reply = self._connection.run(tag, "SET", self._names.value(key), value, "NX", *life)
        return reply is not None and reply is not False

    def increment(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """Add to integers of at most 18 digits. Raises StoreError beyond them."""
        sums: dict[str, int] = {}
        for tag, keys in self._by_tag(amounts):
            sums.update(self._increment(tag, {key: amounts[key] for key in keys}))
        return sums

    def _increment(self, tag: str, amounts: Mapping[str, int]) -> dict[str, int]:
        values: list[object] = []
        bumped = False
        for key, amount in amounts.items():
            if not -LARGEST < amount < LARGEST:
                raise StoreError(f"{amount} is too much to add to {key!r}")
            is_epoch = key.startswith("epoch:")
            bumped |= is_epoch
            values += [amount, self._fresh() if is_epoch else ""]
        names = [*map(self._names.value, amounts), self._names.bumps(tag)]
        try:
            sums = self._connection.run_script(
                tag, INCREMENT, names, *values, self._fresh() if bumped else ""
            )
        except StoreError as error:
            _, told, place = str(error).partition("NOTANINTEGER ")
            if not told:
                raise
            key = list(amounts)[int(place) - 1]
            raise StoreError(f"the value of {key!r} is not an integer of 18 digits") from None
        return dict(zip(amounts, map(int, sums), strict=True))

    def _by_tag(self, keys: Iterable[str]) -> Iterable[tuple[str, list[str]]]:
        groups: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[self._names.value_tag(key)].append(key)
        return groups.items()


def milliseconds(seconds: float) -> int:
    """Return a life as Redis takes it: whole, at least 1, at most some three hundred years."""
    return max(1, ceil(min(seconds, LONGEST_S) * 1000))
