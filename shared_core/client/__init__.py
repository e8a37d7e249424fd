"""Ask any OpenAI-compatible API through a cache: ``CachedClient``; sync, async, streams.

arguments -> request -> compute.read_through -> cached
                           `-> Provider.ask: limits, retries, the SDK -> fresh, and kept
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import cached_property, partial
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
from shared_core.client.provider import (
    CONCURRENCY,
    MISSING_SDK,
    Call,
    Dispatch,
    Provider,
    RateLimit,
    Retries,
    Waiting,
    usage_or_estimate,
)
from shared_core.compute import (
    aread_through,
    arecorded,
    astream_through,
    read_through,
    recorded,
    stream_through,
)
from shared_core.controls import CONTROLS, controls_of, tag_tuple
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
from shared_core.resilience import reraise_as

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

__all__ = [
    "MISSING_SDK",
    "AsyncCachedStream",
    "Batcher",
    "BatcherClosed",
    "CachedClient",
    "CachedStream",
    "RateLimit",
    "Recording",
    "Retries",
    "Waiting",
]


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


class WholeForm:
    """How a call's answer is read from the cache and kept there."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def read(self, hit: Hit) -> Answer:
        """Note the hit. Raises ValueError if its answer cannot be read."""
        message_of(hit.answer)
        self._call.hit = hit
        return hit.answer

    def write(self, value: Answer) -> Answer:
        """Keep the answer as it is."""
        return value

    def fresh(self, value: Answer, mark: dict[str, Any]) -> Answer:
        """Note under which id the answer is kept."""
        self._call.entry_id = mark["entry_id"]
        return value


class TextForm(WholeForm):
    """How a call's answer is read and kept as texts; ``end`` is given it when they are all out."""

    def __init__(self, call: Call, end: Callable[[Answer], None]) -> None:
        super().__init__(call)
        self._end, self._recording = end, Recording()

    def chunks(self, hit: Hit) -> Iterator[str]:
        """Return the text of a hit. Raises ValueError, at once, if its answer cannot be read."""
        return self._replayed(self.read(hit))

    def _replayed(self, answer: Answer) -> Iterator[str]:
        self._end(answer)
        yield answer.text

    def recorder(self) -> TextForm:
        """Return what notes the chunks of the provider."""
        return self

    def take(self, chunk: Any) -> Iterator[str]:
        """Note a chunk and pass its text on."""
        if text := self._recording.note(chunk):
            yield text

    @cached_property
    def answer(self) -> tuple[Answer, bool]:
        """The answer of a stream that ended, and whether it is whole."""
        return self._recording.answer()

    def whole(self) -> Answer | None:
        """Return the answer if it is whole."""
        answer, is_whole = self.answer
        return answer if is_whole else None

    def rest(self, entry_id: str | None) -> tuple[()]:
        """End the stream."""
        self._call.entry_id = entry_id
        self._end(self.answer[0])
        return ()


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

    Per call, ``read write ttl tags namespace sample`` are those of ``cache.control``; all other
    arguments are those of ``chat.completions.create``. Keys are those of the LangChain and
    LlamaIndex adapters. Raises ImportError without the extra "client".

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
            frozenset(cache.options.ignore_headers),
        )

    def chat(self, messages: Messages, *, model: str, **arguments: Any) -> CachedResponse:
        """Answer from the cache, or by the model.

        ``messages`` are those of ``chat.completions.create``. Returns the text as ``content``,
        whether it was ``cached``, its ``cost`` in dollars and more. Raises what the SDK raises
        after the last try; a failure of the cache raises nothing.
        """
        call = self._call(messages, model, arguments)
        return self._response(call, self._answered(call))

    async def achat(self, messages: Messages, *, model: str, **arguments: Any) -> CachedResponse:
        """Do as ``chat`` does."""
        call = self._call(messages, model, arguments, awaited=True)
        return self._response(call, await self._aanswered(call))

    def stream(self, messages: Messages, *, model: str, **arguments: Any) -> CachedStream:
        """Return the texts of an answer as they come; a cached one comes at once, in one piece.

        Looks up now, and asks the model at the first text. Equal streams that are under way at a
        time are calls of their own.
        """
        call, ended = self._call(messages, model, arguments), Ended()
        return CachedStream(self._texts(call, ended), ended)

    def astream(self, messages: Messages, *, model: str, **arguments: Any) -> AsyncCachedStream:
        """Do as ``stream`` does, but look up at the first text, too."""
        call, ended = self._call(messages, model, arguments, awaited=True), Ended()
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
            request = self._call(messages, model, arguments, awaited=True).request
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
        """Do nothing: cache and SDK clients are their owners' to close."""

    # ------------------------------------------------------------------------------------ calls

    def _call(
        self, messages: Messages, model: str, arguments: dict[str, Any], *, awaited: bool = False
    ) -> Call:
        arguments = dict(arguments)
        if arguments.pop("stream", None):
            raise ValueError("stream=True: call stream() or astream() instead")
        outer = controls_of(self._cache)
        controls = {name: arguments.pop(name, getattr(outer, name)) for name in CONTROLS}
        controls["tags"] = tag_tuple(controls["tags"])
        self._cache.control(**controls)  # what makes no sense is the caller's, and raised here
        try:
            sent = {**arguments, "model": model}
            endpoint = self._provider.endpoint(awaited=awaited)
            request = request_of(endpoint, messages, sent)
        except (TypeError, ValueError, AttributeError, RecursionError):
            request = None
        namespace = controls["namespace"] or self._cache.options.namespace
        return Call(model, messages, arguments, request, controls, namespace, self._clock())

    # ---------------------------------------------------------------------- through the cache

    @contextmanager
    def _controlled(self, call: Call) -> Iterator[None]:
        with self._cache.control(**call.controls), self.costs.by_hand():
            yield

    def _failed(self, doing: str, error: Exception) -> None:
        self._cache.count_error("client")

    def _answered(self, call: Call) -> Answer:
        if call.request is None:
            return self._provider.ask(call)
        ask, form = partial(self._provider.ask, call), WholeForm(call)
        with self._controlled(call):
            return read_through(self._cache, call.request, ask, form, self._failed)

    async def _aanswered(self, call: Call) -> Answer:
        if call.request is None:
            return await self._provider.aask(call)
        ask, form = partial(self._provider.aask, call), WholeForm(call)
        with self._controlled(call):
            return await aread_through(self._cache, call.request, ask, form, self._failed)

    def _texts(self, call: Call, ended: Ended) -> Generator[str, None, None]:
        form = self._text_form(call, ended)

        def open() -> Iterator[Any]:
            with self._provider.open(call) as (stream, settle):
                yield from stream
                settle(form.answer[0])

        if call.request is None:
            return recorded(open(), form, _not_kept, _nothing)
        with self._controlled(call):
            return stream_through(self._cache, call.request, open, form, self._failed)

    async def _atexts(self, call: Call, ended: Ended) -> AsyncGenerator[str, None]:
        form = self._text_form(call, ended)

        async def chunks() -> AsyncGenerator[Any, None]:
            async with self._provider.aopen(call) as (stream, settle):
                async for chunk in stream:
                    yield chunk
                settle(form.answer[0])

        async def open() -> AsyncGenerator[Any, None]:
            return chunks()

        if call.request is None:
            texts = arecorded(chunks(), form, _anot_kept, _nothing)
        else:
            with self._controlled(call):
                texts = await astream_through(self._cache, call.request, open, form, self._failed)
        async with aclosing(texts):
            async for text in texts:
                yield text

    def _text_form(self, call: Call, ended: Ended) -> TextForm:
        def end(answer: Answer) -> None:
            ended.response = self._response(call, answer)

        return TextForm(call, end)

    def _response(self, call: Call, answer: Answer) -> CachedResponse:
        usage, estimated = usage_or_estimate(call, answer)
        price, hit = self.costs.price(call.model, usage), call.hit
        tier = None if hit is None else SHARED if hit.is_shared else str(hit.tier)
        if tier is not None:
            self.costs.save(
                call.model, usage, tier=tier, namespace=call.namespace, estimated=estimated
            )
        return CachedResponse(
            content=answer.text,
            cached=hit is not None,
            cache_tier=tier,
            latency_ms=(self._clock() - call.started) * 1000,
            cost=price if hit is None else 0.0,
            usage=usage,
            model=answer.model or call.model,
            message=message_of(answer),
            finish_reason=answer.finish_reason,
            entry_id=call.entry_id if hit is None else hit.entry_id,
            saved=0.0 if hit is None else price,
            estimated=estimated,
        )


def _not_kept(answer: Answer) -> None:
    return None


async def _anot_kept(answer: Answer) -> None:
    return None


def _nothing() -> None:
    return None


def _front(messages: Iterable[Any]) -> str | None:
    """Return the system prompt that opens a conversation, as text to compare, None without one."""
    front = []
    for message in map(plain_message, messages):
        if message.get("role") not in _FRONT:
            break
        front.append(message)
    return canonical_json(front) if front else None
