"""How many requests and tokens may be sent in a minute: who may send when, in order of asking.

    book(tokens) -> Slot --delay(slot)--> seconds to wait, 0.0: send now

No window of 60 seconds ever holds more than the limits, wherever it begins. A bucket that fills at
the allowed rate would let nearly twice as many through in its first minute. One object serves
threads and event loops together.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared_core.forking import renew_after_fork

WINDOW_S = 60.0
SHORTEST_WAIT_S = 0.001
"""A clock need not see less, and who waits too short waits again."""


@dataclass(slots=True, eq=False)
class Slot:
    """One request's place in the order: when it may be sent or was, and its tokens.

    ``at`` is in seconds of the limit's own time, ``after`` the earlier slots that must have left
    the window.
    """

    at: float
    tokens: int
    after: tuple[Slot, ...] = ()
    sent: bool = False


class RateLimit:
    """At most so many requests and tokens in any 60 seconds; None: no such limit.

    A request of more tokens than the limit is sent alone. ``clock`` is in seconds and only grows;
    ``sleep`` and ``asleep`` wait. Raises ValueError for a limit below 1.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        asleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        for name, limit in (
            ("requests_per_minute", requests_per_minute),
            ("tokens_per_minute", tokens_per_minute),
        ):
            if limit is not None and (isinstance(limit, bool) or not limit >= 1):
                raise ValueError(f"{name} must be at least 1, or None for no limit, not {limit!r}")
        self._requests, self._tokens = requests_per_minute, tokens_per_minute
        self._clock, self._sleep, self._asleep = clock, sleep, asleep
        self._by_requests: deque[Slot] = deque()  # the newest, at most the limit
        self._by_tokens: deque[Slot] = deque()  # the newest, their tokens at most the limit
        self._sum = 0
        self._newest = 0.0
        self._lost = 0.0  # seconds that pauses took
        self._paused: tuple[float, float] | None = None  # own time that stands, real time of end
        self._lock = threading.Lock()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own; it does not see what the parent sends."""
        self._lock = threading.Lock()

    def wait(self, tokens: int = 0) -> Slot:
        """Block until a request of so many tokens may be sent, and return its slot."""
        slot = self.book(tokens)
        while (left := self.delay(slot)) > 0:
            self._sleep(left)
        return slot

    async def await_turn(self, tokens: int = 0) -> Slot:
        """Do as ``wait`` does, for coroutines. One that is cancelled leaves its slot unused."""
        slot = self.book(tokens)
        while (left := self.delay(slot)) > 0:
            await self._asleep(left)
        return slot

    def book(self, tokens: int = 0) -> Slot:
        """Take the next place in the order."""
        with self._lock:
            slot = Slot(max(self._now(), self._newest), tokens)
            after: list[Slot] = []
            if self._requests is not None:
                if len(self._by_requests) >= self._requests:
                    after.append(self._by_requests.popleft())
                self._by_requests.append(slot)
            if self._tokens is not None:
                slot.tokens = min(tokens, self._tokens)
                last = None
                while self._sum + slot.tokens > self._tokens:
                    last = self._by_tokens.popleft()
                    self._sum -= last.tokens
                if last is not None:
                    after.append(last)
                self._by_tokens.append(slot)
                self._sum += slot.tokens
            slot.after = tuple(after)
            slot.at = self._newest = max([slot.at, *(one.at + WINDOW_S for one in after)])
            return slot

    def delay(self, slot: Slot) -> float:
        """Return the seconds until a slot's request may be sent; at 0.0 it counts as sent now."""
        with self._lock:
            now = self._now()
            # those before it may have been sent later than they were booked for
            due = max([slot.at, *(one.at + WINDOW_S for one in slot.after)])
            standing = 0.0 if self._paused is None else self._paused[1] - self._clock()
            if now < due or standing > 0:
                return max(max(due - now, 0.0) + max(standing, 0.0), SHORTEST_WAIT_S)
            # what it waited for is let go of, or each slot would hold all before it
            slot.at, slot.after, slot.sent = now, (), True
            self._newest = max(self._newest, now)
            return 0.0

    def settle(self, slot: Slot, tokens: int) -> None:
        """Replace a slot's estimated tokens by what its request really took."""
        if self._tokens is None:
            return
        with self._lock:
            tokens = min(tokens, self._tokens)
            if slot in self._by_tokens:
                self._sum += tokens - slot.tokens
            slot.tokens = tokens

    def pause(self, seconds: float) -> None:
        """Let nobody send for so long, and keep the order: all that is booked moves back."""
        with self._lock:
            now, end = self._now(), self._clock() + seconds
            until = end if self._paused is None else max(end, self._paused[1])
            self._paused = (now, until)

    def _now(self) -> float:
        """Return the limit's own time, which stands while it pauses.

        It is never faster than the clock, so what holds in its windows holds in real ones.
        """
        real = self._clock()
        if self._paused is not None:
            stood_at, until = self._paused
            if real < until:
                return stood_at
            self._lost = until - stood_at
            self._paused = None
        return real - self._lost
