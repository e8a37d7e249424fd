"""``CachedClient``: any OpenAI-compatible API behind a cache; sync, async, streams.

arguments -> request -> cache.answer -> cached
                           `-> Provider.ask: limits, retries, the SDK -> fresh, and stored
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shared_core.batcher import IN_FLIGHT, MOST, WARM_FOR_S, WINDOW_S, Batcher
from shared_core.cache import ResponseCache
from shared_core.client_calls import Calls
from shared_core.client_provider import Call, Provider, usage_or_estimate
from shared_core.client_request import plain_message, request_of
from shared_core.client_response import SHARED, CachedResponse, message_of
from shared_core.client_stream import AsyncCachedStream, CachedStream, Ended, Recording
from shared_core.control import controls_of, tag_tuple
from shared_core.costs import Costs
from shared_core.dispatch import CONCURRENCY, Dispatch, Waiting
from shared_core.events import LookupEvent, Trace
from shared_core.hop import Hop
from shared_core.limits import RateLimit
from shared_core.record import Answer
from shared_core.request import canonical_json
from shared_core.retrying import Retries

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

Messages = Sequence[Any]
_FRONT = ("system", "developer")


class CachedClient:
    """Chat completions through a cache. Safe for threads and event loops.

    - ``client`` and ``async_client``: the SDK's, for the blocking and for the async methods
    - ``rate``: requests and tokens per minute; ``retries``: of refused calls; ``concurrency``: most
      calls under way
    - ``costs``: the account to fill, with prices of your own

    Per call, ``read write ttl tags namespace`` are those of ``cache.control``; all other arguments
    are those of ``chat.completions.create``. Keys are those of the LangChain and LlamaIndex
    adapters. Raises ImportError without the extra "client".

        client = CachedClient(ResponseCache.open("sqlite:///answers.db"), openai.OpenAI())
        asked = [{"role": "user", "content": "What is a fuse?"}]
        response = client.chat(asked, model="gpt-4o-mini", temperature=0)
        response.content, response.cached, response.cost
    """

    def __init__(
        self,
        cache: ResponseCache,
        client: OpenAI | None = None,
        async_client: AsyncOpenAI | None = None,
        *,
        rate: RateLimit | None = None,
        retries: Retries | None = None,
        concurrency: int = CONCURRENCY,
        costs: Costs | None = None,
        waiting: Waiting | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._cache, self._clock = cache, clock
        self.costs = costs or Costs()
        self._provider = Provider(
            client,
            async_client,
            self.costs,
            lambda lost: Dispatch(rate, retries, concurrency, lost=lost, waiting=waiting),
        )
        self._calls, self._hop = Calls(cache, self._provider), Hop()

    def chat(self, messages: Messages, *, model: str, **arguments: Any) -> CachedResponse:
        """Answer from the cache, or by the model. Raises what the SDK raises in the end."""
        call = self._call(messages, model, arguments)
        with self._cache.trace() as trace:
            return self._response(call, self._calls.answered(call), trace)

    async def achat(self, messages: Messages, *, model: str, **arguments: Any) -> CachedResponse:
        """Do as ``chat`` does."""
        call = self._call(messages, model, arguments)
        with self._cache.trace() as trace:
            return self._response(call, await self._calls.aanswered(call), trace)

    def stream(self, messages: Messages, *, model: str, **arguments: Any) -> CachedStream:
        """Return the texts of an answer as they come; a cached one comes at once, in one piece.

        Looks up now, and asks the model at the first text. Equal streams that are under way at a
        time are calls of their own.
        """
        call = self._call(messages, model, arguments)
        with self._cache.trace() as trace:
            found = self._calls.found(call)
        ended = Ended()
        return CachedStream(self._texts(call, found, trace, ended), ended)

    def astream(self, messages: Messages, *, model: str, **arguments: Any) -> AsyncCachedStream:
        """Do as ``stream`` does, but look up at the first text, too."""
        call, ended = self._call(messages, model, arguments), Ended()
        return AsyncCachedStream(self._atexts(call, ended), ended)

    def batcher(
        self,
        *,
        model: str,
        window: float = WINDOW_S,
        most: int = MOST,
        in_flight: int = IN_FLIGHT,
        warm_for: float = WARM_FOR_S,
        **arguments: Any,
    ) -> Batcher[Messages, CachedResponse]:
        """Return a batcher of ``achat`` whose requests are lists of messages.

        Equal requests are one call; those of one system prompt are sent together.
        """

        async def call(messages: Messages) -> CachedResponse:
            return await self.achat(messages, model=model, **arguments)

        def key(messages: Messages) -> object:
            request = self._call(messages, model, arguments).request
            return object() if request is None else request.address("-").key

        return Batcher(
            call,
            key=key,
            prefix=_front,
            window=window,
            most=most,
            in_flight=in_flight,
            warm_for=warm_for,
        )

    def close(self) -> None:
        """Let this object's threads end; cache and SDK clients are their owners' to close."""
        self._hop.close()

    # ------------------------------------------------------------------------------------ calls

    def _call(self, messages: Messages, model: str, arguments: dict[str, Any]) -> Call:
        arguments = dict(arguments)
        if arguments.pop("stream", None):
            raise ValueError("stream=True: call stream() or astream() instead")
        outer = controls_of(self._cache)
        names = ("read", "write", "ttl", "tags", "namespace")
        controls = {name: arguments.pop(name, getattr(outer, name)) for name in names}
        controls["tags"] = tag_tuple(controls["tags"])
        self._cache.control(**controls)  # what makes no sense is the caller's, and raised here
        try:
            sent = {**arguments, "model": model}
            request = request_of(self._provider.endpoint, messages, sent)
        except (TypeError, ValueError, AttributeError, RecursionError):
            request = None
        namespace = controls["namespace"] or self._cache.options.namespace
        return Call(model, messages, arguments, request, controls, namespace, self._clock())

    # ---------------------------------------------------------------------------------- streams

    def _texts(
        self, call: Call, found: Answer | None, trace: Trace, ended: Ended
    ) -> Generator[str, None, None]:
        if found is not None:
            ended.response = self._response(call, found, trace)
            yield found.text
            return
        recording = Recording()
        with self._provider.open(call) as (stream, told):
            for chunk in stream:
                if text := recording.note(chunk):
                    yield text
            answer, whole = recording.answer()
            told(answer)
        call.fresh = answer
        if whole:
            with self._cache.trace() as kept:
                self._calls.keep(call, answer)
            trace = kept
        ended.response = self._response(call, answer, trace)

    async def _atexts(self, call: Call, ended: Ended) -> AsyncGenerator[str, None]:
        with self._cache.trace() as trace:
            found = await self._hop.run(self._calls.found, call)
        if found is not None:
            ended.response = self._response(call, found, trace)
            yield found.text
            return
        recording = Recording()
        async with self._provider.aopen(call) as (stream, told):
            async for chunk in stream:
                if text := recording.note(chunk):
                    yield text
            answer, whole = recording.answer()
            told(answer)
        call.fresh = answer
        if whole:
            with self._cache.trace() as trace:
                await self._hop.run(self._calls.keep, call, answer)
        ended.response = self._response(call, answer, trace)

    # --------------------------------------------------------------------------------- responses

    def _response(self, call: Call, answer: Answer, trace: Trace) -> CachedResponse:
        usage, estimated = usage_or_estimate(call, answer)
        price = self.costs.price(call.model, usage)
        hit = next(
            (e for e in trace.events if isinstance(e, LookupEvent) and e.outcome == "hit"), None
        )
        cached = call.fresh is None
        tier = None if not cached else SHARED if hit is None else str(hit.tier)
        if tier is not None:
            self.costs.save(
                call.model, usage, tier=tier, namespace=call.namespace, estimated=estimated
            )
        ids = (event.entry_id for event in reversed(trace.events))
        return CachedResponse(
            content=answer.text,
            cached=cached,
            cache_tier=tier,
            latency_ms=(self._clock() - call.started) * 1000,
            cost=0.0 if cached else price,
            usage=usage,
            model=answer.model or call.model,
            message=message_of(answer),
            finish_reason=answer.finish_reason,
            entry_id=next((one for one in ids if one is not None), None),
            saved=price if cached else 0.0,
            estimated=estimated,
        )


def _front(messages: Iterable[Any]) -> str | None:
    """Return the system prompt that opens a conversation, as text to compare, None without one."""
    front = []
    for message in map(plain_message, messages):
        if message.get("role") not in _FRONT:
            break
        front.append(message)
    return canonical_json(front) if front else None
