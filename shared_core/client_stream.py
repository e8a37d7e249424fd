"""Streams of a cached client: texts as they come, and the whole response when they ended.

A stream that is left early, breaks, or ends without a reason to finish is not stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from types import TracebackType
from typing import Any

from shared_core.client_chunks import Gathered, text_of_chunk
from shared_core.client_response import CachedResponse, answer_of
from shared_core.record import Answer
from shared_core.resilience import raising


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
                text = raising(UnreadableStream, self._gathered.note, chunk)
            except UnreadableStream:
                self._readable = False  # it is passed on all the same, and not kept
        if not self._readable:
            try:
                text = raising(UnreadableStream, text_of_chunk, chunk)
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
            answer = raising(UnreadableStream, answer_of, self._gathered.completion())
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
