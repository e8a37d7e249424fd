"""Records of Redis held in this process, as long as nobody changes them in the server.

    get      held, and the feed is sure?  -> the record, without a round trip
             else expect the key, read, and hold what came unless news of the key came meanwhile

What is held here is never newer than the server, and older by no more than news takes to come.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared_core.forking import renew_after_fork
from shared_core.record import Record, lent
from shared_core.stores import Clock
from shared_core.stores.redis_names import is_record, key_of
from shared_core.stores.redis_near_feed import Feed

HELD_S = 60.0
"""How long a record is held: then it is read again, which the server counts as a use of it."""

LONGEST = 65_536
"""Characters of a record that is held; with the number of records it bounds the memory."""

Read = Callable[[str, bool], tuple[Record | None, float]]
"""Reads a live record by its key, and on demand the seconds that it lives on at least."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A record, when it is let go (monotonic seconds), and the bumps known before it was read."""

    record: Record
    end: float
    bumps: int


class NearCache:
    """At most ``most`` records, the least recently used goes first. Thread-safe.

    ``clock`` is that of records' ends, in seconds since the epoch; ``now`` is monotonic, in
    seconds. A child of a fork starts with none.
    """

    def __init__(
        self, most: int, feed: Feed, clock: Clock, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._feed, self._clock, self._now = most, feed, clock, now
        self.renew_after_fork()
        renew_after_fork(self)
        feed.follow(self.changed)

    def renew_after_fork(self) -> None:
        """Hold nothing: the parent's news do not reach the child."""
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()  # least recently used first
        self._expected: dict[str, object] = {}
        self._bumps = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str, read: Read) -> Record | None:
        """Return the record that is held, else what ``read`` returns; raises what that raises."""
        sure = self._feed.catch_up()
        with self._lock:
            held = self._live(key) if sure else None
            if held is not None:
                return lent(held.record)
            # Before the read, so that no news between it and the holding is lost.
            mark, bumps = object(), self._bumps
            if sure:
                self._expected[key] = mark
        asked = self._now()
        record, life = None, 0.0
        try:
            record, life = read(key, sure)
        finally:
            with self._lock:
                if self._expected.get(key) is mark:
                    del self._expected[key]
                    if record is not None and _size(record) <= LONGEST:
                        self._hold(record, asked + min(life, HELD_S), bumps)
        return None if record is None else lent(record)

    def _live(self, key: str) -> _Held | None:
        held = self._held.get(key)
        if held is None:
            return None
        expires = held.record.expires
        if (
            self._now() < held.end
            and (expires is None or self._clock() < expires)
            and (not held.record.tags or held.bumps == self._bumps)
        ):
            self._held.move_to_end(key)
            return held
        del self._held[key]
        return None

    def _hold(self, record: Record, end: float, bumps: int) -> None:
        if record.vector is not None:
            record.vector.setflags(write=False)  # all readers share it
        self._held[record.key] = _Held(record, end, bumps)
        self._held.move_to_end(record.key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def changed(self, names: Sequence[bytes] | None) -> None:
        """Let go of what has changed in the server under these names, None: maybe all."""
        if names is None:
            self.forget(None)
            return
        for name in names:
            try:
                if is_record(name):
                    self.forget(key_of(name))
                else:
                    self.bumped()
            except (ValueError, IndexError):
                continue  # a name that none of ours has

    def forget(self, key: str | None) -> None:
        """Let go of a record, None: of every one, and hold nothing of a read that is under way."""
        with self._lock:
            if key is None:
                self._held.clear()
                self._expected.clear()
            else:
                self._held.pop(key, None)
                self._expected.pop(key, None)

    def bumped(self) -> None:
        """Let go of every record with tags; each goes when it is asked for."""
        with self._lock:
            self._bumps += 1

    def close(self) -> None:
        """Hear no more news, and hold nothing any more; a second call does nothing."""
        self._feed.close()
        self.forget(None)


def _size(record: Record) -> int:
    answer = record.answer
    return sum(len(text or "") for text in (record.question, answer.text, answer.payload))


def seconds_of(life_ms: int) -> float:
    """Return a life as the server's PTTL tells it: infinite if it is none."""
    return math.inf if life_ms == -1 else max(0, life_ms) / 1000
