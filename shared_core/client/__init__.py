"""Ask any OpenAI-compatible API through a cache: ``CachedClient``; sync, async, streams.

arguments -> request -> cache.answer -> cached
                           `-> Provider.ask: limits, retries, the SDK -> fresh, and stored
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from shared_core.cache import ResponseCache
from shared_core.client.batcher import (
    IN_FLIGHT,
    MAX_BATCH,
    WARM_FOR_S,
    WINDOW_S,
    Batcher,
    BatcherClosed,
)
from shared_core.client.provider import MISSING_SDK, Call, Provider, usage_or_estimate
from shared_core.client.throttle import CONCURRENCY, Dispatch, RateLimit, Retries, Waiting
from shared_core.concurrency import ThreadRunner
from shared_core.controls import LookupEvent, Trace, controls_of, tag_tuple
from shared_core.costs import Costs
from shared_core.openai_format import (
    SHARED,
    CachedResponse,
    Gathered,
    answer_of,
    message_of,
    plain_message,
    request_of,
    text_of_chunk,
)
from shared_core.record import Answer, Hit
from shared_core.request import canonical_json
from shared_core.resilience import areraise_as, reraise_as

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

__all__ = [
    "MISSING_SDK",
    "AsyncCachedStream",
    "Batcher",
    "BatcherClosed",
    "CacheFailed",
    "CachedClient",
    "CachedStream",
    "RateLimit",
    "Recording",
    "Retries",
    "Waiting",
]


# Calls through a cache, and past it when it fails: whatever it does, the caller gets an answer.


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
                answer = reraise_as(
                    CacheFailed, self._cache.answer, call.request, lambda: self._asked(call),
                    **call.controls,
                )  # fmt: skip
            reraise_as(CacheFailed, message_of, answer)
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
                answer = await areraise_as(
                    CacheFailed, self._cache.aanswer(call.request, ask, **call.controls)
                )
            reraise_as(CacheFailed, message_of, answer)
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
                outcome = reraise_as(CacheFailed, self._cache.lookup, call.request)
            if isinstance(outcome, Hit):
                reraise_as(CacheFailed, message_of, outcome.answer)
                return outcome.answer
        except CacheFailed:
            self._cache.count_error("client")
        return None

    def keep(self, call: Call, answer: Answer) -> None:
        """Store the answer of a stream that ended."""
        try:
            if call.request is not None:
                with self._controlled(call):
                    reraise_as(CacheFailed, self._cache.store, call.request, answer)
        except CacheFailed:
            self._cache.count_error("client")

    @contextmanager
    def _controlled(self, call: Call) -> Iterator[None]:
        with self._cache.control(**call.controls), self._provider.costs.by_hand():
            yield


# Streams of a cached client: texts as they come, and the whole response when they ended.
#
# A stream that is left early, breaks, or ends without a reason to finish is not stored.


class UnreadableStream(Exception):
    """Chunks of a kind that cannot be put together."""


class Recording:
    """Puts the chunks of a stream together, as they pass: objects of the SDK, or their JSON."""

    def __init__(self) -> None:
        self._gathered = Gathered()
        self._readable = True
        self._texts: list[str] = []

    def note(self, chunk: Any) -> str:
        """Note a chunk and return the text that it adds to the first choice."""
        text = ""
        if self._readable:
            try:
                text = reraise_as(UnreadableStream, self._gathered.note, chunk)
            except UnreadableStream:
                self._readable = False  # it is passed on all the same, and not kept
        if not self._readable:
            try:
                text = reraise_as(UnreadableStream, text_of_chunk, chunk)
            except UnreadableStream:
                text = ""
        self._texts.append(text)
        return text

    def answer(self) -> tuple[Answer, bool]:
        """Return the answer, and whether it is whole and may be kept."""
        text = "".join(self._texts)
        if not self._readable:
            return Answer(text), False
        try:
            answer = reraise_as(UnreadableStream, answer_of, self._gathered.completion())
        except UnreadableStream:
            return Answer(text), False
        return answer, self._gathered.is_whole


class Ended:
    """Where a stream leaves its response when it ends."""

    def __init__(self) -> None:
        self.response: CachedResponse | None = None

    def get(self) -> CachedResponse:
        if self.response is None:
            raise RuntimeError("the stream has not ended: there is no response yet")
        return self.response


class CachedStream:
    """Yields the texts of an answer; ``response`` is the whole, once they are all out.

    with client.stream(messages, model="gpt-4o-mini") as stream:
        for text in stream:
            print(text, end="")
    stream.response.cached
    """

    def __init__(self, texts: Generator[str, None, None], ended: Ended) -> None:
        self._texts, self._ended = texts, ended

    @property
    def response(self) -> CachedResponse:
        """Return the response. Raises RuntimeError before the stream has ended."""
        return self._ended.get()

    def __iter__(self) -> CachedStream:
        return self

    def __next__(self) -> str:
        return next(self._texts)

    def close(self) -> None:
        """Leave the stream; nothing is kept of one that has not ended."""
        self._texts.close()

    def __enter__(self) -> CachedStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncCachedStream:
    """Does as ``CachedStream`` does, with ``async with`` and ``async for``."""

    def __init__(self, texts: AsyncGenerator[str, None], ended: Ended) -> None:
        self._texts, self._ended = texts, ended

    @property
    def response(self) -> CachedResponse:
        """Return the response. Raises RuntimeError before the stream has ended."""
        return self._ended.get()

    def __aiter__(self) -> AsyncCachedStream:
        return self

    async def __anext__(self) -> str:
        return await anext(self._texts)

    async def aclose(self) -> None:
        """Leave the stream; nothing is kept of one that has not ended."""
        await self._texts.aclose()

    async def __aenter__(self) -> AsyncCachedStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


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
        self._calls, self._threads = Calls(cache, self._provider), ThreadRunner()

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
        most: int = MAX_BATCH,
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
        self._threads.close()

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
            found = await self._threads.run(self._calls.found, call)
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
                await self._threads.run(self._calls.keep, call, answer)
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
