"""Calls through a cache, and past it when it fails: whatever it does, the caller gets an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared_core.cache import ResponseCache
from shared_core.client_provider import Call, Provider
from shared_core.client_response import message_of
from shared_core.record import Answer, Hit
from shared_core.resilience import araising, raising


class CacheFailed(Exception):
    """The cache could not do its part: the provider is asked, as if there were none."""


class Calls:
    """Takes calls to the cache, and to the provider."""

    def __init__(self, cache: ResponseCache, provider: Provider) -> None:
        self._cache, self._provider = cache, provider

    def answered(self, call: Call) -> Answer:
        """Return the cached answer, or the provider's. Raises what the SDK raises."""
        if call.request is None:
            return self._asked(call)
        try:
            with self._provider.costs.by_hand():
                answer = raising(
                    CacheFailed, self._cache.answer, call.request, lambda: self._asked(call),
                    **call.controls,
                )  # fmt: skip
            raising(CacheFailed, message_of, answer)
            return answer
        except CacheFailed:
            if call.error is not None:
                raise call.error from None
            self._cache.count_error("client")
            return call.fresh or self._asked(call)

    async def aanswered(self, call: Call) -> Answer:
        """Do as ``answered`` does."""
        if call.request is None:
            return await self._aasked(call)

        async def ask() -> Answer:
            return await self._aasked(call)

        try:
            with self._provider.costs.by_hand():
                answer = await araising(
                    CacheFailed, self._cache.aanswer(call.request, ask, **call.controls)
                )
            raising(CacheFailed, message_of, answer)
            return answer
        except CacheFailed:
            if call.error is not None:
                raise call.error from None
            self._cache.count_error("client")
            return call.fresh or await self._aasked(call)

    def _asked(self, call: Call) -> Answer:
        try:
            call.fresh = self._provider.ask(call)
        except Exception as error:
            call.error = error
            raise
        return call.fresh

    async def _aasked(self, call: Call) -> Answer:
        try:
            call.fresh = await self._provider.aask(call)
        except Exception as error:
            call.error = error
            raise
        return call.fresh

    def found(self, call: Call) -> Answer | None:
        """Return the cached answer to a stream's call, None if there is none that can be read."""
        if call.request is None:
            return None
        try:
            with self._controlled(call):
                outcome = raising(CacheFailed, self._cache.lookup, call.request)
            if isinstance(outcome, Hit):
                raising(CacheFailed, message_of, outcome.answer)
                return outcome.answer
        except CacheFailed:
            self._cache.count_error("client")
        return None

    def keep(self, call: Call, answer: Answer) -> None:
        """Store the answer of a stream that ended."""
        try:
            if call.request is not None:
                with self._controlled(call):
                    raising(CacheFailed, self._cache.store, call.request, answer)
        except CacheFailed:
            self._cache.count_error("client")

    @contextmanager
    def _controlled(self, call: Call) -> Iterator[None]:
        with self._cache.control(**call.controls), self._provider.costs.by_hand():
            yield
