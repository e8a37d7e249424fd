"""Hold records of Redis in this process, as long as nobody changes them in the server.

    get      held, and the feed is sure?  -> the record, without a round trip
             else expect the key, read, and hold what came unless news of the key came meanwhile

What is held here is never newer than the server, and older by no more than news takes to come.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared_core.concurrency import renew_after_fork
from shared_core.record import Record, copy_for_reader
from shared_core.stores.api import Clock
from shared_core.stores.redis.address import RedisAddress
from shared_core.stores.redis.connection import ERRORS, RedisFailure, as_store_error
from shared_core.stores.redis.keys import Names, is_record, key_of

# News of every change of a record in one Redis, over a connection of their own.
#
# CLIENT TRACKING ON BCAST    the server tells this connection the names that changed: written,
#                             deleted, expired, evicted, flushed
# PING "12.5"  ->  "12.5"     proves that all news from before 12.5 (monotonic s) were taken in
#
# Broadcast, because news of what single reads tracked end silently with the connection that read,
# and a pool drops connections. RESP2 with the news sent to the very connection that asks for them:
# as a subscriber it is one that the server cuts off when it does not read (client-output-buffer-
# limit pubsub), instead of keeping its news for ever.


logger = logging.getLogger("tiered_cache")

CHANNEL = "__redis__:invalidate"
PING_S = 0.25
SURE_S = 1.0
"""How old the last proof may be: the longest that a change stays unknown, whatever goes wrong."""

_REST_S = 1.0
REFUSED_REST_S = 60.0

Changed = Callable[[Sequence[bytes] | None], object]
"""Told the names that changed, or None when any may have."""


class Feed:
    """Takes in news when asked, and by a thread of its own, made with the first question.

    Thread-safe. A child of a fork makes a connection and a thread of its own. ``timeout`` in
    seconds bounds each wait of the connecting and the writing.
    """

    def __init__(self, address: RedisAddress, names: Names, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        # On one server all records have one hash tag.
        tag = names.tag_of("")
        self._prefixes = (names.records(tag), names.bumps(tag))
        self._follower: weakref.WeakMethod[Changed] | None = None
        self._warned = False
        self._closed = threading.Event()
        self._disconnected()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Leave the parent's connection to the parent; its thread stayed there anyway."""
        was_closed, self._closed = self._closed.is_set(), threading.Event()
        if was_closed:
            self._closed.set()
        self._disconnected()

    def _disconnected(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._socket = -1
        self._sure_until = self._next_ping = 0.0
        self._started = False

    def follow(self, changed: Changed) -> None:
        """Tell a method all news from now on, as long as its object lives."""
        self._follower = weakref.WeakMethod(changed)

    def _tell(self, names: Sequence[bytes] | None) -> None:
        changed = None if self._follower is None else self._follower()
        if changed is not None:
            changed(names)

    def catch_up(self) -> bool:
        """Take in the news that reached this machine; say whether none can be missing.

        Does not wait. None can be missing while the last proof is younger than ``SURE_S``.
        """
        if not self._started:
            self._start()
        socket = self._socket
        # Asked without the lock: whoever waits for the interpreter here must not hold up others.
        # If another thread has just read what was there, its telling is waited for.
        if (socket >= 0 and _readable(socket, 0)) or self._lock.locked():
            with self._lock:
                self._take_in()
        return time.monotonic() < self._sure_until

    def close(self) -> None:
        """End the connection and the thread; a second call does nothing."""
        self._closed.set()
        with self._lock:
            self._lose()

    def _start(self) -> None:
        with self._lock:
            if self._started or self._closed.is_set():
                return
            self._started = True
            thread = threading.Thread(
                target=_keep_up,
                args=(weakref.ref(self), self._closed),
                name="tiered-cache news",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads can be had: without news, nothing is held
                self._started = False

    def _take_in(self) -> None:
        connection = self._connection
        try:
            while connection is not None and connection.can_read(0):
                self._hear(connection.read_response())
        except ERRORS as error:
            logger.debug("the news of %s ended: %s", self._address, type(error).__name__)
            self._lose()

    def _hear(self, reply: Any) -> None:
        match reply:
            case [b"message", _, list() | None as names]:
                self._tell(names)
            case [b"pong", asked]:
                self._sure_until = float(asked) + SURE_S

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        self._socket, self._sure_until = -1, 0.0
        self._tell(None)
        if connection is not None:
            connection.disconnect()

    def _step(self) -> tuple[int, float]:
        """Connect, take in, prove; return the socket to watch (-1: none) and for how long, in s."""
        if self._connection is None:
            rest = self._connect()
            if rest:
                return -1, rest
        with self._lock:
            self._take_in()
            now = time.monotonic()
            if now >= self._sure_until:  # silent for too long: the way may be cut unnoticed
                self._lose()
            elif now >= self._next_ping:
                self._ping(now)
            return self._socket, max(0.0, self._next_ping - now)

    def _ping(self, now: float) -> None:
        self._next_ping = now + PING_S
        try:
            self._connection.send_command("PING", repr(now))
        except ERRORS:
            self._lose()

    def _connect(self) -> float:
        """Open the connection, and return 0, or the seconds until the next attempt."""
        asked = time.monotonic()
        connection = self._address.connection(self._timeout)
        try:
            connection.connect()
            _subscribe(connection, self._prefixes)
        except ERRORS as error:
            connection.disconnect()
            return self._failed(error)
        with self._lock:
            if self._closed.is_set():
                connection.disconnect()
                return _REST_S
            # What was read before the server told us everything may have changed unnoticed.
            self._tell(None)
            self._connection, self._socket = connection, connection._sock.fileno()
            self._sure_until, self._next_ping = asked + SURE_S, asked + PING_S
        return 0.0

    def _failed(self, error: BaseException) -> float:
        failure = as_store_error(error, self._address.secrets)
        if isinstance(failure, RedisFailure) and failure.down:
            return failure.rest or _REST_S
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s does not tell what changes, and the near cache stays empty: it needs Redis 6.2 "
                "and the rights +client|id +client|tracking +subscribe +ping &%s (%s)",
                self._address,
                CHANNEL,
                failure,
            )
        return REFUSED_REST_S


def _subscribe(connection: Any, prefixes: Sequence[str | bytes]) -> None:
    """Have the server send a connection the names with these prefixes that change."""

    def ask(*words: Any) -> Any:
        connection.send_command(*words)
        return connection.read_response()

    me = ask("CLIENT", "ID")
    wanted = [word for prefix in prefixes for word in ("PREFIX", prefix)]
    ask("CLIENT", "TRACKING", "ON", "REDIRECT", me, "BCAST", *wanted)
    ask("SUBSCRIBE", CHANNEL)


def _keep_up(feed: weakref.ref[Feed], closed: threading.Event) -> None:
    """Take in news as they come, until the feed is closed or nobody has it any more."""
    while not closed.is_set() and (one := feed()) is not None:
        socket, wait = one._step()
        del one
        if socket < 0:
            closed.wait(wait)
        else:
            _readable(socket, wait)


def _readable(socket: int, seconds: float) -> bool:
    """Wait until a socket has something to read, or is at its end."""
    try:
        if not hasattr(select, "poll"):
            return bool(select.select([socket], [], [], seconds)[0])
        poll = select.poll()  # takes sockets of any number; each thread needs its own
        poll.register(socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    except (OSError, ValueError):  # closed meanwhile
        return True


HELD_S = 60.0
"""How long a record is held: then it is read again, which the server counts as a use of it."""

LONGEST = 65_536
"""Characters of a record that is held; with the number of records it bounds the memory."""

PendingRead = Callable[[str, bool], tuple[Record | None, float]]
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

    def get(self, key: str, read: PendingRead) -> Record | None:
        """Return the record that is held, else what ``read`` returns; raises what that raises."""
        sure = self._feed.catch_up()
        with self._lock:
            held = self._live(key) if sure else None
            if held is not None:
                return copy_for_reader(held.record)
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
        return None if record is None else copy_for_reader(record)

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
