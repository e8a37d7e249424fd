"""Ask the provider for a cached client: limits, retries, the SDK's clients, what calls cost.

    book(tokens) -> Slot --delay(slot)--> seconds to wait, 0.0: send now

No window of 60 seconds ever holds more than the limits of requests and tokens, wherever it begins.
A bucket that fills at the allowed rate would let nearly twice as many through in its first minute.
One ``RateLimit`` serves threads and event loops together.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from shared_core.concurrency import free_after_fork, renew_after_fork
from shared_core.costs import Costs
from shared_core.identity import Digest
from shared_core.openai_format import Endpoint, answer_of, text_of
from shared_core.record import Answer, Hit
from shared_core.request import DEFAULT_BASE_URLS, Request
from shared_core.state_places import digest_of
from shared_core.usage import estimated_usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from tenacity import RetryCallState


_WINDOW_S = 60.0
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

        client = CachedClient(cache, openai.OpenAI(), rate=RateLimit(500, 200_000))
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
        self._lock = free_after_fork(threading.Lock())

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
            slot.at = self._newest = max([slot.at, *(one.at + _WINDOW_S for one in after)])
            return slot

    def delay(self, slot: Slot) -> float:
        """Return the seconds until a slot's request may be sent; at 0.0 it counts as sent now."""
        with self._lock:
            now = self._now()
            # those before it may have been sent later than they were booked for
            due = max([slot.at, *(one.at + _WINDOW_S for one in slot.after)])
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


# When to ask a provider again, and how long after: what its refusal says, else longer each time.
#
# error --refusal_of--> RateLimited(status, retry_after) | None: not worth another try


TOO_MANY = 429
FIRST_SERVER_ERROR = 500
TRANSIENT_STATUS = frozenset({408, 409, TOO_MANY})
"""What passes by itself: time-out, conflict, too many requests. So do all from 500 up."""

NEVER_PASSES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes that come with the status of too many requests, and stay until somebody pays."""


@dataclass(frozen=True, slots=True)
class RateLimited:
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

        client = CachedClient(cache, openai.OpenAI(), retries=Retries(attempts=3, patience=30))
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

    def wait(self, refusal: RateLimited, attempt: int, rng: random.Random) -> float:
        """Return the seconds to wait after this attempt, the first being 1."""
        if refusal.retry_after is not None:
            return refusal.retry_after + rng.uniform(0, self.first)  # not all in one moment
        return rng.uniform(0, min(self.most, self.first * 2.0 ** min(attempt - 1, 32)))

    def is_over(self, refusal: RateLimited, attempt: int, waited: float, wait: float) -> bool:
        """Say whether to give up, after having waited so long, rather than wait once more."""
        if waited + wait > self.patience:
            return True
        return refusal.retry_after is None and attempt >= self.attempts


def refusal_of(
    error: BaseException,
    lost: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError),
    clock: Callable[[], float] = time.time,
) -> RateLimited | None:
    """Return what an error says of another try, None if it would fail again.

    Reads ``status_code``, ``code`` and ``response.headers`` of errors such as openai's; ``lost``
    are those without an answer.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return RateLimited() if isinstance(error, lost) else None
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    should_retry = str(headers.get("x-should-retry", "")).lower()
    passes = status in TRANSIENT_STATUS or status >= FIRST_SERVER_ERROR
    if should_retry == "false" or getattr(error, "code", None) in NEVER_PASSES:
        return None
    return (
        RateLimited(status, _retry_after(headers, clock))
        if passes or should_retry == "true"
        else None
    )


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
        refused: Callable[[BaseException], RateLimited | None],
        on_refusal: Callable[[RateLimited], None],
        rng: random.Random,
    ) -> None:
        self._retries, self._refused, self._on_refusal = retries, refused, on_refusal
        self._rng = rng
        self._refusal: RateLimited | None = None

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


# Sends calls to a provider: so many at once, so many a minute, and again when they may pass.
#
# place (concurrency) -> slot (rate) -> send -> refused? -> give the place back, wait, once more
#
# A place is held while a call is under way, never while it waits to be tried again.


T = TypeVar("T")

CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a call waits, in a thread and on an event loop; tests have no time for either."""

    sleep: Callable[[float], None] = time.sleep
    asleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Dispatch:
    """The way to one provider. Safe for threads and event loops.

    ``rate`` None: no limit but the provider's. ``concurrency``: most calls under way at once, in
    all threads together, and on each event loop. ``lost`` are the errors of a connection, which are
    worth another try. Needs tenacity. Raises ValueError for a concurrency below 1.
    """

    def __init__(
        self,
        rate: RateLimit | None = None,
        retries: Retries | None = None,
        concurrency: int = CONCURRENCY,
        *,
        lost: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError),
        waiting: Waiting | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if isinstance(concurrency, bool) or not concurrency >= 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
        self._rate, self._retries = rate or RateLimit(), retries or Retries()
        self._concurrency, self._lost = concurrency, lost
        self._waiting = waiting or Waiting()
        self._rng = rng or random.Random()  # noqa: S311 - spreads waits, keeps no secret
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child places of its own."""
        self._places = threading.BoundedSemaphore(self._concurrency)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    @contextmanager
    def call(
        self, send: Callable[[], T], tokens: int = 0
    ) -> Iterator[tuple[T, Callable[[int], None]]]:
        """Give what ``send`` returned, and hold its place until the block ends: it may be a stream.

        ``tokens`` is what the call may take, at most; what is given beside the result is told what
        it took. Raises what the last attempt raised.
        """
        from tenacity import Retrying

        def attempt() -> tuple[T, Callable[[int], None]]:
            self._places.acquire()
            sent = False
            try:
                slot = self._rate.wait(tokens)
                found = send()
                sent = True
            finally:
                if not sent:
                    self._places.release()
            return found, lambda used: self._rate.settle(slot, used)

        found = Retrying(**self._terms(), sleep=self._waiting.sleep)(attempt)
        try:
            yield found
        finally:
            self._places.release()

    @asynccontextmanager
    async def acall(
        self, send: Callable[[], Awaitable[T]], tokens: int = 0
    ) -> AsyncIterator[tuple[T, Callable[[int], None]]]:
        """Do as ``call`` does, for coroutines."""
        from tenacity import AsyncRetrying

        places = self._places_here()

        async def attempt() -> tuple[T, Callable[[int], None]]:
            await places.acquire()
            sent = False
            try:
                slot = await self._rate.await_turn(tokens)
                found = await send()
                sent = True
            finally:
                if not sent:
                    places.release()
            return found, lambda used: self._rate.settle(slot, used)

        retrying = AsyncRetrying(**self._terms(), sleep=self._waiting.asleep)
        found: tuple[T, Callable[[int], None]] = await retrying(attempt)
        try:
            yield found
        finally:
            places.release()

    def _places_here(self) -> asyncio.Semaphore:
        return self._loops.setdefault(
            asyncio.get_running_loop(), asyncio.Semaphore(self._concurrency)
        )

    def _terms(self) -> dict[str, Any]:
        course = Course(
            self._retries, lambda error: refusal_of(error, self._lost), self._refused, self._rng
        )
        return {
            "retry": course.may_retry,
            "wait": course.wait,
            "stop": course.stop,
            "reraise": True,
        }

    def _refused(self, refusal: RateLimited) -> None:
        """Hold all calls back when the provider says how long: they would be refused as well."""
        if refusal.retry_after is not None and refusal.retry_after <= self._retries.patience:
            self._rate.pause(refusal.retry_after)


MISSING_SDK = "CachedClient needs openai and tenacity: pip install 'tiered-llm-cache[client]'"
Settle = Callable[[int], None]


@dataclass(slots=True, eq=False)
class Call:
    """One call of a model: what is asked, what is sent, and what came of it.

    ``request`` None: the arguments have no identity, so the cache is not asked. ``hit`` is what the
    cache answered with, ``entry_id`` under what id the provider's own answer is kept.
    """

    model: str
    messages: Sequence[Any]
    arguments: Mapping[str, Any]
    request: Request | None
    controls: Mapping[str, Any]
    namespace: str
    started: float
    hit: Hit | None = None
    entry_id: str | None = None

    @property
    def tokens(self) -> int:
        """Return how many tokens the call may take, by estimate."""
        most = self.arguments.get("max_completion_tokens") or self.arguments.get("max_tokens") or 0
        return self.usage_of(None)["input_tokens"] + int(most)

    def usage_of(self, answer: Answer | None) -> dict[str, int]:
        """Return an estimate of the tokens of this call and an answer to it."""
        try:
            asked = text_of(self.messages)
        except (TypeError, AttributeError):  # the provider will say what is wrong with it
            asked = ""
        return estimated_usage(asked, "" if answer is None else answer.text)


class Provider:
    """Makes calls, within the limits, and keeps account of them.

    Raises ImportError without the extra "client", ValueError without a client of either kind.
    """

    def __init__(
        self,
        client: OpenAI | None,
        async_client: AsyncOpenAI | None,
        costs: Costs,
        dispatch: Callable[[tuple[type[BaseException], ...]], Dispatch],
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        try:
            import openai
            import tenacity  # noqa: F401 - at the first call it would be too late to say so
        except ImportError:
            raise ImportError(MISSING_SDK) from None
        either: Any = client or async_client
        if either is None:
            raise ValueError("give a client: CachedClient(cache, openai.OpenAI())")
        # What is tried again, and when, is for the limits to say: the SDK's own retries know none.
        self._client: Any = client and client.with_options(max_retries=0)
        self._async_client: Any = async_client and async_client.with_options(max_retries=0)
        azure = (openai.AzureOpenAI, openai.AsyncAzureOpenAI)
        self._provider = "azure" if isinstance(either, azure) else "openai"
        self._ignore = ignore
        self.costs = costs
        self._dispatch = dispatch((openai.APIConnectionError, ConnectionError, TimeoutError))

    def endpoint(self, *, awaited: bool = False) -> Endpoint:
        """Return whom a call asks, with all that the SDK's client adds to it."""
        chosen = (self._async_client if awaited else self._client) or (
            self._client or self._async_client
        )
        headers = {
            "openai-organization": getattr(chosen, "organization", None),
            "openai-project": getattr(chosen, "project", None),
            **getattr(chosen, "_custom_headers", {}),
        }
        return Endpoint(
            self._provider,
            str(chosen.base_url).rstrip("/"),
            dict(chosen.default_query),
            headers,
            self._ignore,
            _hidden_in(getattr(chosen, "_client", None)),
        )

    # --------------------------------------------------------------------------- whole answers

    def ask(self, call: Call) -> Answer:
        """Return the provider's answer. Raises what the SDK raises in the end."""
        create = self._sync().chat.completions.create
        with self._dispatch.call(lambda: create(**self._sent(call)), call.tokens) as (
            found,
            settle,
        ):
            answer = answer_of(found)
            self._counted(call, answer, settle)
        return answer

    async def aask(self, call: Call) -> Answer:
        """Do as ``ask`` does."""
        create = self._async().chat.completions.create
        sent = self._sent(call)
        async with self._dispatch.acall(lambda: create(**sent), call.tokens) as (found, settle):
            answer = answer_of(found)
            self._counted(call, answer, settle)
        return answer

    # --------------------------------------------------------------------------------- streams

    @contextmanager
    def open(self, call: Call) -> Iterator[tuple[Any, Callable[[Answer], None]]]:
        """Give the SDK's stream, and what to call with its answer when it ended."""
        create = self._sync().chat.completions.create
        sent = self._streamed(call)
        with (
            self._dispatch.call(lambda: create(**sent), call.tokens) as (stream, settle),
            stream,
        ):
            yield stream, lambda answer: self._counted(call, answer, settle)

    @asynccontextmanager
    async def aopen(self, call: Call) -> AsyncIterator[tuple[Any, Callable[[Answer], None]]]:
        """Do as ``open`` does."""
        create = self._async().chat.completions.create
        sent = self._streamed(call)
        async with (
            self._dispatch.acall(lambda: create(**sent), call.tokens) as (stream, settle),
            stream,
        ):
            yield stream, lambda answer: self._counted(call, answer, settle)

    # ------------------------------------------------------------------------------------ parts

    def _sync(self) -> Any:
        if self._client is None:
            raise ValueError("chat and stream need client=openai.OpenAI()")
        return self._client

    def _async(self) -> Any:
        if self._async_client is None:
            raise ValueError("achat and astream need async_client=openai.AsyncOpenAI()")
        return self._async_client

    def _sent(self, call: Call) -> dict[str, Any]:
        return {**call.arguments, "model": call.model, "messages": call.messages}

    def _streamed(self, call: Call) -> dict[str, Any]:
        sent = {**self._sent(call), "stream": True}
        endpoint = self.endpoint()
        if endpoint.base_url == DEFAULT_BASE_URLS.get(endpoint.provider):
            # others may refuse what they do not know; without it, tokens are estimated
            sent.setdefault("stream_options", {"include_usage": True})
        return sent

    def _counted(self, call: Call, answer: Answer, settle: Settle) -> None:
        usage, estimated = usage_or_estimate(call, answer)
        settle(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
        self.costs.spend(call.model, usage, namespace=call.namespace, estimated=estimated)


def _hidden_in(http_client: Any) -> str:
    """Return the digest of what an app's own HTTP client adds to requests; "" for the SDK's.

    Raises Unreadable.
    """
    if http_client is None or type(http_client).__module__.startswith("openai."):
        return ""

    def make() -> Digest:
        return Digest(lambda reader: reader.spell(http_client), owner=http_client)

    return digest_of(http_client, "client", make).now()


def usage_or_estimate(call: Call, answer: Answer) -> tuple[Mapping[str, int], bool]:
    """Return the tokens of an answer, and whether they are an estimate."""
    if answer.usage:
        return answer.usage, False
    return call.usage_of(answer), True
