"""When to ask a provider again, and how long after: what its refusal says, else longer each time.

error --refusal_of--> Refusal(status, retry_after) | None: not worth another try
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenacity import RetryCallState

TOO_MANY = 429
FIRST_SERVER_ERROR = 500
TRANSIENT_STATUS = frozenset({408, 409, TOO_MANY})
"""What passes by itself: time-out, conflict, too many requests. So do all from 500 up."""

NEVER_PASSES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes that come with the status of too many requests, and stay until somebody pays."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failure that may pass. ``status`` None: there was no answer; ``retry_after`` in seconds."""

    status: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a request is tried.

    A provider that says how long to wait (Retry-After) is obeyed, and asked again until
    ``patience`` seconds were spent waiting. After any other failure, ``attempts`` are made in all,
    with waits of random length up to ``first`` seconds, then twice as much each time, up to
    ``most``. Raises ValueError for numbers that make no sense.
    """

    attempts: int = 6
    first: float = 0.5
    most: float = 30.0
    patience: float = 120.0

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not self.attempts >= 1:
            raise ValueError(f"attempts must be at least 1, not {self.attempts!r}")
        if not 0 < self.first <= self.most:
            raise ValueError(
                f"first and most must be seconds above 0, in order, not {self.first}, {self.most}"
            )
        if not self.patience >= 0:
            raise ValueError(f"patience must be seconds, at least 0, not {self.patience!r}")

    def wait(self, refusal: Refusal, attempt: int, rng: random.Random) -> float:
        """Return the seconds to wait after this attempt, the first being 1."""
        if refusal.retry_after is not None:
            return refusal.retry_after + rng.uniform(0, self.first)  # not all in one moment
        return rng.uniform(0, min(self.most, self.first * 2.0 ** min(attempt - 1, 32)))

    def is_over(self, refusal: Refusal, attempt: int, waited: float, wait: float) -> bool:
        """Say whether to give up, after having waited so long, rather than wait once more."""
        if waited + wait > self.patience:
            return True
        return refusal.retry_after is None and attempt >= self.attempts


def refusal_of(
    error: BaseException,
    lost: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError),
    clock: Callable[[], float] = time.time,
) -> Refusal | None:
    """Return what an error says of another try, None if it would fail again.

    Reads ``status_code``, ``code`` and ``response.headers`` of errors such as openai's; ``lost``
    are those without an answer.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return Refusal() if isinstance(error, lost) else None
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    told = str(headers.get("x-should-retry", "")).lower()
    passes = status in TRANSIENT_STATUS or status >= FIRST_SERVER_ERROR
    if told == "false" or getattr(error, "code", None) in NEVER_PASSES:
        return None
    return Refusal(status, _retry_after(headers, clock)) if passes or told == "true" else None


def _retry_after(headers: Any, clock: Callable[[], float]) -> float | None:
    """Return the seconds that the headers ask for: in milliseconds, seconds, or as a date."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name)) / scale
        except (TypeError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = parsedate_to_datetime(headers.get("retry-after"))
    except (TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - clock())


class Course:
    """The course of one call's attempts, as tenacity asks about it."""

    def __init__(
        self,
        retries: Retries,
        refused: Callable[[BaseException], Refusal | None],
        on_refusal: Callable[[Refusal], None],
        rng: random.Random,
    ) -> None:
        self._retries, self._refused, self._on_refusal = retries, refused, on_refusal
        self._rng = rng
        self._refusal: Refusal | None = None

    def may_retry(self, state: RetryCallState) -> bool:
        """Say whether the last attempt failed in a way that may pass."""
        outcome = state.outcome
        error = None if outcome is None else outcome.exception()
        self._refusal = None if error is None else self._refused(error)
        if self._refusal is not None:
            self._on_refusal(self._refusal)
        return self._refusal is not None

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt."""
        if self._refusal is None:
            return 0.0
        return self._retries.wait(self._refusal, state.attempt_number, self._rng)

    def stop(self, state: RetryCallState) -> bool:
        """Say whether that was the last attempt."""
        return self._refusal is None or self._retries.is_over(
            self._refusal, state.attempt_number, state.idle_for, state.upcoming_sleep
        )
