"""Get an answer or compute it: one model call for all who ask, stale answers refreshed behind.

Whoever computes an answer behind a cache does it here, so that these steps are written once:

    find: look up, wait for an equal call under way --hit--> read
      `-> ask the model -> write -> keep: whole? give it to all who wait, and store it -> fresh

``read_through`` is all of it for an answer that comes at once, ``stream_through`` for one that
comes in chunks. Whatever fails in the cache is passed over; what the model raises is raised.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from shared_core.concurrency import (
    Blocking,
    Flight,
    OnLoop,
    Runtime,
    SingleFlight,
    ThreadRunner,
    Value,
    called_with,
    finish,
    once,
    renew_after_fork,
)
from shared_core.controls import tag_tuple
from shared_core.options import Options, Seconds, seconds
from shared_core.pipeline import Pipeline
from shared_core.record import UNFINISHED, Answer, EntryId, Hit, Outcome, Tier, flaw_of, fresh_mark
from shared_core.request import HOME_DIGITS, Address, Request, canonical_json, namespace_digest
from shared_core.resilience import Unavailable, aswallow, deadline, or_else

# Which process computes what: leases in the store that the processes share.


class StoreLeases:
    """Leases that end by themselves, after ``options.lease``, when their holder is gone.

    A store that fails has none to give: whoever asks goes on as if alone.
    """

    def __init__(self, path: Pipeline, threads: ThreadRunner, options: Options) -> None:
        self._path, self._threads = path, threads
        self._seconds, self._timeout = options.lease, options.timeout

    def take(self, key: str) -> tuple[bool, bytes | None]:
        """Say whether the caller may go ahead, and return the token of the lease that it holds."""
        token = uuid4().bytes
        try:
            with deadline(self._timeout):
                added = self._path.breaker.call(
                    self._path.values.add, _name(key), token, self._seconds
                )
        except Unavailable:
            return True, None
        return added, token if added else None

    def give_back(self, key: str, token: bytes) -> None:
        """End a lease; on an event loop, in a thread and without waiting for it."""
        self._threads.run_soon(self._end, key, token)

    def _end(self, key: str, token: bytes) -> None:
        """Delete a lease, unless it ran out and is another's by now."""
        name = _name(key)
        with suppress(Unavailable), deadline(self._timeout):  # it runs out by itself
            if self._path.breaker.call(self._path.values.get_many, [name]).get(name) == token:
                self._path.breaker.call(self._path.values.delete_many, [name])


def _name(key: str) -> str:
    """Name the lease of a key so that a cluster spreads leases as it does records."""
    return f"lease:{key[:HOME_DIGITS]}:{key}"


VALUE_FORMAT = "value/1"

MAX_REFRESHES = 16
"""Stale answers refreshed at a time in one process; the next lookup of another tries again."""

FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0
"""Seconds until a refresh that failed is tried again; twice as long each time."""
MAX_RESTING = 1000


class Answers:
    """Looks up, and computes what is not there, once for all who ask at a time."""

    def __init__(self, path: Pipeline, options: Options, leases: StoreLeases | None) -> None:
        self._path = path
        self._refreshes = SingleFlight(options.lease, leases)
        self._flights = self._refreshes if options.coalesce else None
        self._lease = options.lease
        self.rewrites, self.prepare = path.conversations is not None, path.prepare
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """The parent's refreshes never end in the child."""
        self._refreshing: dict[str, float] = {}
        self._resting: dict[str, tuple[float, float]] = {}

    async def wait(
        self, runtime: Runtime, request: Request, is_sure: bool = True
    ) -> tuple[Hit | None, Flight | None]:
        """Wait for the answer that another is getting; with none, return the flight to ``finish``.

        ``is_sure`` False: it is not sure yet that a model
        will be called; ``flight.is_sure`` says so later. Both None: ask, and tell nobody.
        """
        controls = self._path.controls()
        namespace = self._path.namespace(controls)
        sampled = self._path.sampled(request, controls)
        if self._flights is None or not controls.write or sampled.is_sample:
            return None, None
        if self._path.why_not(request, namespace, controls) is not None:
            return None, None

        key = sampled.address(namespace).key
        found, flight = await self._flights.join_or_lead(
            runtime, key, lambda: self._peek(request), is_sure
        )
        if found is None:
            return None, flight
        hit = Hit(found[0], Tier.EXACT, 1.0, str(EntryId(key)), 0.0, is_shared=True)
        self._path.report_shared(request, namespace, key, hit)
        return hit, None

    def finish(self, flight: Flight, error: BaseException | None = None) -> None:
        """End a flight after its answer was stored, or with the error that came instead."""
        if self._flights is not None:
            self._flights.finish(flight, error)

    def refresh(
        self, runtime: Runtime, request: Request, anew: Callable[[Flight], Awaitable[object]]
    ) -> None:
        """Call ``anew`` in the background, unless somebody does so for this request or has done.

        Returns at once; what fails is counted, logged the first time, and tried again after a rest.
        At most ``MAX_REFRESHES`` run at a time.
        """
        sampled = self._path.sampled(request, self._path.controls())
        key, now = sampled.address(self._path.namespace()).key, time.monotonic()
        for other, end in [*self._refreshing.items()]:
            if end <= now:
                self._refreshing.pop(other, None)
        if key in self._refreshing or len(self._refreshing) >= MAX_REFRESHES:
            return
        if now < self._resting.get(key, (0.0, 0.0))[0]:
            return
        self._refreshing[key] = now + self._lease
        flow = self._refresh(runtime, request, anew, key)

        def is_new() -> bool:
            return self._resting.get(key, (0.0, FIRST_REST_S))[1] <= FIRST_REST_S

        runtime.spawn(aswallow(self._path.count_error, "refresh", flow, is_new))

    async def _refresh(
        self,
        runtime: Runtime,
        request: Request,
        anew: Callable[[Flight], Awaitable[object]],
        key: str,
    ) -> None:
        flight = None
        try:
            _, flight = await self._refreshes.join_or_lead(
                runtime, key, lambda: self._peek(request), waits=False
            )
            if flight is not None:
                await anew(flight)
                self._resting.pop(key, None)
        except BaseException:
            self._rest(key)
            raise
        finally:
            self._refreshing.pop(key, None)
            if flight is not None:
                self._refreshes.finish(flight)

    def _rest(self, key: str) -> None:
        """Let a refresh that failed rest, twice as long as after the failure before."""
        _, last = self._resting.pop(key, (0.0, 0.0))
        rest = min(LONGEST_REST_S, 2 * last) if last else FIRST_REST_S
        while len(self._resting) >= MAX_RESTING:
            self._resting.pop(next(iter(self._resting)), None)
        self._resting[key] = (time.monotonic() + rest, rest)

    def _peek(self, request: Request) -> Value[Answer]:
        answer = self._path.peek(request)
        return None if answer is None else (answer,)

    async def value(
        self,
        runtime: Runtime,
        key: str,
        fn: Callable[[], Any],
        ttl: Seconds | None,
        tags: Iterable[str],
    ) -> tuple[Any, bool]:
        """Return the value under a user's key, and whether it was computed just now."""
        if not isinstance(key, str) or not key:
            raise ValueError(f"key must be a text that is not empty, not {key!r}")
        controls = self._path.controls()
        namespace = self._path.namespace(controls)
        request = Request(None, "value", format=VALUE_FORMAT)
        address = Address(value_key(namespace, key), value_key(namespace, ""))
        lifetime = controls.ttl if ttl is None else seconds("ttl", ttl)
        all_tags = tag_tuple((*controls.tags, *tag_tuple(tags)))

        def look() -> Value[Any]:
            if self._path.why_not(request, namespace, controls) is not None:
                return None
            for name in self._path.namespaces(controls):
                place = Address(value_key(name, key), value_key(name, ""))
                found = self._path.exact(request, name, place)
                if isinstance(found, Hit):
                    return _value(found.answer.text)
            return None

        def keep(value: Any) -> None:
            if not namespace or not controls.write:
                return
            answer = Answer(json.dumps(value), format=VALUE_FORMAT, exact_only=True)
            self._path.put(
                self._path.record(address, namespace, None, answer, "", all_tags, lifetime)
            )

        together = controls.read and namespace
        return await once(
            runtime,
            self._flights if together else None,
            address.key,
            look=look,
            look_again=look,
            ask=fn,
            shape=lambda value: json.loads(canonical_json(value)),
            keep=keep,
        )


def _value(text: str) -> Value[Any]:
    """Read a stored value; None if it is not JSON."""
    try:
        return (json.loads(text),)
    except ValueError:
        return None


def value_key(namespace: str, key: str) -> str:
    """Return the store's key of a value that a user named, of a prefix of it for a prefix."""
    return f"value:{namespace_digest(namespace)[:16]}:{key}"


def _as_answer(value: Any) -> Answer:
    if isinstance(value, str):
        return Answer(value)
    if isinstance(value, Answer):
        return value
    raise TypeError(f"the model must return an Answer or a text, not {type(value).__qualname__}")


# The steps between an app and its model, for whoever computes an answer behind a cache.


T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
C = TypeVar("C")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)

Fail = Callable[[str, Exception], None]
"""Called with what failed in the cache ("lookup", "read", "write", "store"); it must not raise."""


class Cache(Protocol):
    """What is needed here of a ``ResponseCache``."""

    on_loop: OnLoop
    answers: Answers

    def lookup(self, request: Request, stale: bool = False) -> Outcome: ...

    def store(
        self, request: Request, answer: Answer, *, ttl: Seconds | None = None
    ) -> str | None: ...

    def count_error(self, kind: str) -> None: ...


class Form(Protocol[T]):
    """How what an app is given is read from answers and written into them."""

    def read(self, hit: Hit) -> T | None:
        """Build what the app is given. Raises ValueError if the answer cannot be read."""

    def write(self, value: T) -> Answer | None:
        """Return the answer that the model's own value gives, None if it cannot be kept."""

    def fresh(self, value: T, mark: dict[str, Any]) -> T:
        """Note in the model's own value what the cache says of it; see ``record.fresh_mark``."""


async def find(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    *,
    stale: bool = False,
    joins: bool = True,
    is_sure: bool = True,
) -> tuple[Outcome, Flight | None]:
    """Look up, and wait for the answer that an equal call under way is getting.

    Without a hit the caller asks the model. The flight, if there is one, is what others wait for
    meanwhile: ``keep`` brings them the answer, and ``cache.answers.finish`` must end
    it in any case. ``joins`` False: nobody waits for anybody. ``stale`` is that of ``lookup``,
    ``is_sure`` that of ``Answers.wait``.
    """
    if cache.answers.rewrites and not runtime.blocks:
        await cache.answers.prepare(runtime, request)
    outcome = await runtime.run(lambda: cache.lookup(request, stale))
    if isinstance(outcome, Hit) or not joins:
        return outcome, None
    hit, flight = await cache.answers.wait(runtime, request, is_sure)
    return hit or outcome, flight


async def keep(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    answer: Answer,
    flight: Flight | None = None,
    ttl: Seconds | None = None,
) -> str | None:
    """Give a fresh answer to all who wait for it, store it and return its entry id.

    One that is not whole and good is given to those who wait, and not stored: see ``endings``. Of
    a stream that broke off there is nothing to give: they ask for themselves. Here, and nowhere
    else, an answer of a model goes from its caller to others.
    """
    if flight is not None and flaw_of(answer) != UNFINISHED:
        flight.arrive(answer)  # before it is stored: a slow store delays nobody
    return await runtime.run(lambda: cache.store(request, answer, ttl=ttl))


def refresh(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    ask: Callable[[], Awaitable[Answer | None]],
) -> None:
    """Ask for a stale answer anew, beside the call that got it; see ``Answers.refresh``."""

    async def anew(flight: Flight) -> None:
        fresh = await ask()
        if fresh is None or flaw_of(fresh) is not None:
            raise ValueError("an answer that cannot be kept takes no other's place")
        await keep(cache, runtime, request, fresh, flight)

    cache.answers.refresh(runtime, request, anew)


def read_through(
    cache: Cache,
    request: Request,
    ask: Callable[[], T],
    form: Form[T],
    fail: Fail | None = None,
) -> T:
    """Return what the cache holds for a request, or else what the model says, and keep that.

    ``ask`` calls the model, once for all who ask at a time; what it raises is raised, and nothing
    else. ``fail`` is called with what fails in the cache; else it is counted, as "lookup:KeyError".

        answer = read_through(cache, request, lambda: model(prompt), form)
    """
    blocking = Blocking()
    return finish(flow(cache, blocking, request, partial(blocking.ask, ask), form, fail))


async def aread_through(
    cache: Cache,
    request: Request,
    ask: Callable[[], Awaitable[T]],
    form: Form[T],
    fail: Fail | None = None,
) -> T:
    """Do as ``read_through`` does; the event loop is not blocked."""
    return await flow(cache, cache.on_loop, request, ask, form, fail)


async def flow(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    ask: Callable[[], Awaitable[T]],
    form: Form[T],
    fail: Fail | None = None,
    *,
    ttl: Seconds | None = None,
    stale: bool = True,
) -> T:
    """Do what ``read_through`` says, in either runtime.

    ``ttl`` is that of a fresh answer; ``stale`` False: what is too old is not served meanwhile.
    """
    fail = fail or partial(_count, cache)
    outcome, flight = await or_else(
        NOTHING_FOUND, fail, "lookup", find(cache, runtime, request, stale=stale)
    )
    try:
        if isinstance(outcome, Hit):
            found = await or_else(None, fail, "read", _call(form.read, outcome))
            if found is not None:
                if outcome.is_stale:
                    refresh(cache, runtime, request, lambda: _written(ask, form))
                return found
        value = await _asked(cache, ask, flight)
        answer = await or_else(None, fail, "write", _call(form.write, value))
        if answer is None:
            return form.fresh(value, fresh_mark(None, outcome))
        kept = keep(cache, runtime, request, answer, flight, ttl)
        entry_id = await or_else(None, fail, "store", kept)
        return form.fresh(value, fresh_mark(entry_id, outcome))
    finally:
        if flight is not None:
            cache.answers.finish(flight)


async def _asked(cache: Cache, ask: Callable[[], Awaitable[T]], flight: Flight | None) -> T:
    """Ask the model; what it raises is for those who wait, too."""
    try:
        return await ask()
    except BaseException as error:
        if flight is not None:
            cache.answers.finish(flight, error)
        raise


NOTHING_FOUND: tuple[Outcome | None, Flight | None] = (None, None)


async def _call(function: Callable[[C], T], argument: C) -> T:
    return function(argument)


async def _written(ask: Callable[[], Awaitable[T]], form: Form[T]) -> Answer | None:
    return form.write(await ask())


def _count(cache: Cache, part: str, error: Exception) -> None:
    cache.count_error(f"{part}:{type(error).__name__}")


class _Plain:
    """The form of answers themselves."""

    def read(self, hit: Hit) -> Answer:
        return hit.answer

    def write(self, value: Answer) -> Answer:
        return value

    def fresh(self, value: Answer, mark: dict[str, Any]) -> Answer:
        return value


async def answer(
    cache: Cache, runtime: Runtime, request: Request, model: Callable[..., Any]
) -> Answer:
    """Return the cached answer, or the model's, which may be a text; see ``ResponseCache``."""
    asking = called_with(model, request)

    async def ask() -> Answer:
        return _as_answer(await runtime.ask(asking))

    return await flow(cache, runtime, request, ask, _Plain())


# Streams: a hit is replayed; the model's own chunks are noted as they pass, and kept at the end.


class Recorder(Protocol[C_co, W_co]):
    """Notes the chunks of a stream, says what they come to and what is passed on of them."""

    def take(self, chunk: Any) -> Iterable[C_co]:
        """Note a chunk, and return what is passed on now."""

    def whole(self) -> W_co | None:
        """Return what the stream came to when it ended, None if it cannot be kept."""

    def rest(self, entry_id: str | None) -> Iterable[C_co]:
        """Return what is passed on at the end; ``entry_id`` None: nothing was kept."""


class StreamForm(Protocol[C_co]):
    """How a stream is made of an answer, and an answer of a stream."""

    def chunks(self, hit: Hit) -> Iterator[C_co] | None:
        """Return the chunks of an answer. Raises ValueError, at once, if it cannot be read."""

    def recorder(self) -> Recorder[C_co, Answer]:
        """Return what notes the model's own chunks."""


def recorded(
    chunks: Iterator[Any],
    recorder: Recorder[C, W],
    keep: Callable[[W], str | None],
    leave: Callable[[], None],
) -> Generator[C, None, None]:
    """Pass a stream on, and ``keep`` what it came to at its end; without one, ``leave``.

    Both are called in the context of now: the consumer may take each chunk in another one.
    """
    return _recorded(chunks, recorder, keep, leave, copy_context())


def _recorded(
    chunks: Iterator[Any],
    recorder: Recorder[C, W],
    keep: Callable[[W], str | None],
    leave: Callable[[], None],
    context: Context,
) -> Generator[C, None, None]:
    whole = None
    try:
        for chunk in chunks:
            yield from recorder.take(chunk)
        whole = recorder.whole()
    finally:
        if whole is None:
            context.run(leave)
        close: Any = getattr(chunks, "close", None)
        if close is not None:
            close()
    yield from recorder.rest(None if whole is None else context.run(keep, whole))


def arecorded(
    chunks: AsyncIterator[Any],
    recorder: Recorder[C, W],
    keep: Callable[[W], Coroutine[Any, Any, str | None]],
    leave: Callable[[], None],
) -> AsyncGenerator[C, None]:
    """Do as ``recorded`` does; the event loop is not blocked."""
    return _arecorded(chunks, recorder, keep, leave, copy_context())


async def _arecorded(
    chunks: AsyncIterator[Any],
    recorder: Recorder[C, W],
    keep: Callable[[W], Coroutine[Any, Any, str | None]],
    leave: Callable[[], None],
    context: Context,
) -> AsyncGenerator[C, None]:
    whole = None
    try:
        async for chunk in chunks:
            for ready in recorder.take(chunk):
                yield ready
        whole = recorder.whole()
    finally:
        if whole is None:
            context.run(leave)
        close: Any = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    entry_id = None
    if whole is not None:  # only a task of its own has another context
        loop = asyncio.get_running_loop()
        entry_id = await loop.create_task(keep(whole), context=context)
    for ready in recorder.rest(entry_id):
        yield ready


def stream_through(
    cache: Cache,
    request: Request,
    open: Callable[[], Iterator[Any]],
    form: StreamForm[C],
    fail: Fail | None = None,
    *,
    joins: bool = False,
) -> Generator[C, None, None]:
    """Return the chunks of what the cache holds for a request, or else the model's, and keep those.

    Looks up, and calls the model, now; ``open`` returns its chunks. ``joins``: equal streams under
    way at a time make one call, and the others replay its answer when it ended. A stream that is
    left early or breaks is not kept. Raises what ``open`` raises, and nothing else.
    """
    runtime, fail = Blocking(), fail or partial(_count, cache)
    chunks, flight = finish(_looked(cache, runtime, request, form, fail, joins))
    if chunks is not None:
        return (chunk for chunk in chunks)

    def kept(answer: Answer) -> str | None:
        return finish(_kept(cache, runtime, request, answer, flight, fail))

    def leave(error: BaseException | None = None) -> None:
        if flight is not None:
            cache.answers.finish(flight, error)

    try:
        return recorded(open(), form.recorder(), kept, leave)
    except BaseException as error:
        leave(error)
        raise


async def astream_through(
    cache: Cache,
    request: Request,
    open: Callable[[], Awaitable[AsyncIterator[Any]]],
    form: StreamForm[C],
    fail: Fail | None = None,
    *,
    joins: bool = False,
) -> AsyncGenerator[C, None]:
    """Do as ``stream_through`` does; the event loop is not blocked."""
    runtime, fail = cache.on_loop, fail or partial(_count, cache)
    chunks, flight = await _looked(cache, runtime, request, form, fail, joins)
    if chunks is not None:
        return _awaited(chunks)

    async def kept(answer: Answer) -> str | None:
        return await _kept(cache, runtime, request, answer, flight, fail)

    def leave(error: BaseException | None = None) -> None:
        if flight is not None:
            cache.answers.finish(flight, error)

    try:
        return arecorded(await open(), form.recorder(), kept, leave)
    except BaseException as error:
        leave(error)
        raise


async def _looked(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    form: StreamForm[C],
    fail: Fail,
    joins: bool,
) -> tuple[Iterator[C] | None, Flight | None]:
    looked = find(cache, runtime, request, joins=joins)
    outcome, flight = await or_else(NOTHING_FOUND, fail, "lookup", looked)
    if not isinstance(outcome, Hit):
        return None, flight
    return await or_else(None, fail, "read", _call(form.chunks, outcome)), None


async def _kept(
    cache: Cache,
    runtime: Runtime,
    request: Request,
    answer: Answer,
    flight: Flight | None,
    fail: Fail,
) -> str | None:
    try:
        kept = keep(cache, runtime, request, answer, flight)
        return await or_else(None, fail, "store", kept)
    finally:
        if flight is not None:
            cache.answers.finish(flight)


async def _awaited(chunks: Iterator[C]) -> AsyncGenerator[C, None]:
    for chunk in chunks:
        yield chunk
