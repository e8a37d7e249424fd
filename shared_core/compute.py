"""Get an answer or compute it: one model call for all who ask, stale answers refreshed behind."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from shared_core.concurrency import (
    Flight,
    Runtime,
    SingleFlight,
    ThreadRunner,
    Value,
    once,
    renew_after_fork,
)
from shared_core.controls import Controls, tag_tuple
from shared_core.options import Options, Seconds, seconds
from shared_core.pipeline import Pipeline
from shared_core.record import Answer, EntryId, Hit, Tier
from shared_core.request import HOME_DIGITS, Address, Request, canonical_json, namespace_digest
from shared_core.resilience import Unavailable, aswallow, deadline

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

MOST_REFRESHES = 16
"""Stale answers refreshed at a time in one process; the next lookup of another tries again."""


class Answers:
    """Looks up, and computes what is not there, once for all who ask at a time."""

    def __init__(self, path: Pipeline, options: Options, leases: StoreLeases | None) -> None:
        self._path = path
        self._refreshes = SingleFlight(options.lease, leases)
        self._flights = self._refreshes if options.coalesce else None
        self._lease = options.lease
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """The parent's refreshes never end in the child."""
        self._refreshing: dict[str, float] = {}

    async def wait(
        self, runtime: Runtime, request: Request, is_sure: bool = True
    ) -> tuple[Hit | None, Flight | None]:
        """Wait for the answer that another is getting; with none, return the flight to ``land``.

        For who looks up and stores in two steps. ``is_sure`` False: it is not sure yet that a model
        will be called; ``flight.is_sure`` says so later. Both None: ask, and tell nobody.
        """
        controls = self._path.controls()
        namespace = self._path.namespace(controls)
        if self._flights is None or not controls.write:
            return None, None
        if self._path.why_not(request, namespace, controls) is not None:
            return None, None

        key = request.address(namespace).key
        found, flight = await self._flights.join_or_lead(
            runtime, key, lambda: self._peek(request), is_sure
        )
        if found is None:
            return None, flight
        hit = Hit(found[0], Tier.EXACT, 1.0, str(EntryId(key)), 0.0)
        self._path.report_shared(request, namespace, key, hit)
        return hit, None

    def finish(self, flight: Flight) -> None:
        """End a flight after its answer was stored, or when there will be none."""
        if self._flights is not None:
            self._flights.finish(flight)

    async def answer(
        self, runtime: Runtime, request: Request, model: Callable[..., Any], controls: Controls
    ) -> Answer:
        """Return the cached answer or the model's."""

        is_stale = False

        def look() -> Value[Answer]:
            nonlocal is_stale
            outcome = self._path.lookup(request, stale=True)
            is_stale = isinstance(outcome, Hit) and outcome.is_stale
            return (outcome.answer,) if isinstance(outcome, Hit) else None

        def keep(fresh: Answer) -> None:
            self._path.store(request, fresh)

        together = controls.read and not request.uncacheable
        value, _ = await once(
            runtime,
            self._flights if together else None,
            request.address(self._path.namespace(controls)).key,
            look=look,
            look_again=lambda: self._peek(request),
            ask=_asking(model, request),
            shape=_as_answer,
            keep=keep,
        )
        if is_stale:
            self.refresh(runtime, request, model)
        return value

    def refresh(self, runtime: Runtime, request: Request, model: Callable[..., Any]) -> None:
        """Ask the model in the background for a stale answer, unless somebody does or has done.

        Returns at once; what fails is counted. At most ``MOST_REFRESHES`` run at a time.
        """
        key, now = request.address(self._path.namespace()).key, time.monotonic()
        for other, end in [*self._refreshing.items()]:
            if end <= now:
                self._refreshing.pop(other, None)
        if key in self._refreshing or len(self._refreshing) >= MOST_REFRESHES:
            return
        self._refreshing[key] = now + self._lease
        flow = self._refresh(runtime, request, model, key)
        runtime.spawn(aswallow(self._path.count_error, "refresh", flow))

    async def _refresh(
        self, runtime: Runtime, request: Request, model: Callable[..., Any], key: str
    ) -> None:
        flight = None
        try:
            _, flight = await self._refreshes.join_or_lead(
                runtime, key, lambda: self._peek(request), waits=False
            )
            if flight is not None:
                fresh = _as_answer(await runtime.ask(_asking(model, request)))
                flight.arrive(fresh)
                await runtime.run(lambda: self._path.store(request, fresh))
        finally:
            self._refreshing.pop(key, None)
            if flight is not None:
                self._refreshes.finish(flight)

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


def _asking(model: Callable[..., Any], request: Request) -> Callable[[], Any]:
    """Return the model as a function of no argument, a coroutine function if the model is."""
    try:
        wants = [
            one
            for one in inspect.signature(model).parameters.values()
            if one.default is one.empty
            and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        wants = []
    if not wants:
        return model
    if inspect.iscoroutinefunction(model):

        async def ask() -> Any:
            return await model(request)

        return ask
    return lambda: model(request)


def _as_answer(value: Any) -> Answer:
    if isinstance(value, str):
        return Answer(value)
    if isinstance(value, Answer):
        return value
    raise TypeError(f"the model must return an Answer or a text, not {type(value).__qualname__}")
