"""Streams through a cache: replayed on a hit, recorded on a miss when they end.

    found() -> chunks of the stored answer | None
    recorded(the model's chunks) -> the same chunks, noted as they pass, stored after the last

A stream that is left early or breaks is not stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.chunks import (
    chat_chunks,
    chat_generation,
    ending,
    is_last,
    noted,
    text_chunks,
    text_generation,
)
from langchain_tiered_cache.messages import MARK
from langchain_tiered_cache.refreshing import refreshing

Chunk = TypeVar("Chunk", bound=Generation)

UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, RecursionError)
"""What reading and adding up chunks raises; ValueError is pydantic's, too."""


@dataclass(frozen=True, slots=True)
class Form(Generic[Chunk]):
    """How answers of one kind become chunks and chunks become answers.

    ``note`` copies what others may change. ``is_last`` tells whether the model says that nothing
    follows; ``end`` makes, of the last chunk and the stored answer, the one that ends the stream.
    """

    chunks: Callable[[Generation], Iterator[Chunk]]
    whole: Callable[[Sequence[Chunk]], Generation]
    note: Callable[[Chunk], Chunk]
    is_last: Callable[[Chunk], bool]
    end: Callable[[Chunk, Generation], Chunk | None]


def chat_form(output_version: str | None) -> Form[ChatGenerationChunk]:
    """Return the form of chat models; content is stored in the version that they speak."""
    return Form(
        chunks=chat_chunks,
        whole=lambda chunks: chat_generation(chunks, output_version),
        note=noted,
        is_last=is_last,
        end=lambda last, whole: ending(last, mark_of(whole)),
    )


TEXT_FORM: Form[GenerationChunk] = Form(
    chunks=text_chunks,
    whole=text_generation,
    note=lambda chunk: chunk,  # a text, which nobody changes
    is_last=lambda chunk: False,
    end=lambda last, whole: None,
)
"""The form of completion models."""


def mark_of(generation: Generation) -> Any:
    """Return what a chat message says that the cache did, None if nothing."""
    if not isinstance(generation, ChatGeneration):
        return None
    return generation.message.response_metadata.get(MARK)


class Recording(Generic[Chunk]):
    """Notes chunks as they pass; holds one back that says to be the last, for it gets the mark."""

    def __init__(self, form: Form[Chunk]) -> None:
        self._form = form
        self._last: Chunk | None = None
        self.notes: list[Chunk] = []

    def take(self, chunk: Chunk) -> Iterator[Chunk]:
        """Note a chunk, and yield what is to be passed on now."""
        if self._last is not None and self._form.is_last(self._last):
            yield self._last
        self.notes.append(self._form.note(chunk))
        self._last = chunk
        if not self._form.is_last(chunk):
            yield chunk

    def rest(self, whole: Generation | None) -> Iterator[Chunk]:
        """Yield what is to be passed on at the end; ``whole`` is the stored answer, if it is."""
        if self._last is None:
            return
        if whole is not None:
            end = self._form.end(self._last, whole)
            if end is not None:
                yield end
        elif self._form.is_last(self._last):
            yield self._last


@dataclass(frozen=True, slots=True)
class Stream(Generic[Chunk]):
    """One stream: what is asked of which cache, in which form; ``pace`` in seconds per chunk."""

    cache: TieredCache
    prompt: str
    llm_string: str
    form: Form[Chunk]
    pace: float | None = None

    def found(self, live: Callable[[], Iterator[Chunk]]) -> Iterator[Chunk] | None:
        """Return the chunks of the stored answer, at the pace; None if there is none.

        A stale answer is replayed as well, and what ``live`` streams takes its place.
        """

        def ask(_: str) -> Sequence[Generation]:
            return self._wholes(list(live()))

        with refreshing(self.cache, ask, is_sure=True):
            chunks = self._chunks(self.cache.lookup(self.prompt, self.llm_string))
        return None if chunks is None else paced(chunks, self.pace)

    async def afound(self, live: Callable[[], AsyncIterator[Chunk]]) -> AsyncIterator[Chunk] | None:
        """Do as ``found`` does; the event loop is not blocked."""

        async def ask(_: str) -> Sequence[Generation]:
            return self._wholes([chunk async for chunk in live()])

        with refreshing(self.cache, ask, is_sure=True):
            chunks = self._chunks(await self.cache.alookup(self.prompt, self.llm_string))
        return None if chunks is None else apaced(chunks, self.pace)

    def recorded(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Pass the model's chunks on and store their sum when they end.

        It is stored in the context of now: the consumer may take each chunk in another one, which
        knows neither the run nor the controls that the lookup saw.
        """
        context = copy_context()
        recording, whole = Recording(self.form), None
        try:
            for chunk in chunks:
                yield from recording.take(chunk)
            whole = self._whole(recording.notes)
        finally:
            close: Any = getattr(chunks, "close", None)
            if close is not None:
                close()
            if whole is None:
                context.run(self.cache.abandon, self.prompt, self.llm_string)
        if whole is not None:
            context.run(self.cache.update, self.prompt, self.llm_string, [whole])
        yield from recording.rest(whole)

    async def arecorded(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        """Do as ``recorded`` does; the event loop is not blocked."""
        context = copy_context()
        recording, whole = Recording(self.form), None
        try:
            async for chunk in chunks:
                for ready in recording.take(chunk):
                    yield ready
            whole = self._whole(recording.notes)
        finally:
            if whole is None:
                context.run(self.cache.abandon, self.prompt, self.llm_string)
            await aclose(chunks)
        if whole is not None:
            update = self.cache.aupdate(self.prompt, self.llm_string, [whole])
            await asyncio.get_running_loop().create_task(update, context=context)
        for ready in recording.rest(whole):
            yield ready

    def _chunks(self, found: list[Generation] | None) -> Iterator[Chunk] | None:
        """Return the chunks of the first of the generations: a stream has but one."""
        if not found:
            return None
        try:
            return self.form.chunks(found[0])
        except UNREADABLE as error:
            self.cache.count("unreadable", "a stored answer cannot be replayed", error)
            return None

    def _wholes(self, notes: Sequence[Chunk]) -> Sequence[Generation]:
        whole = self._whole(notes)
        return [] if whole is None else [whole]

    def _whole(self, notes: Sequence[Chunk]) -> Generation | None:
        if not notes:
            return None  # LangChain raises for a stream without chunks
        try:
            return self.form.whole(notes)
        except UNREADABLE as error:
            self.cache.count("unstorable", "the chunks of a stream do not add up", error)
            return None


def paced(chunks: Iterator[Chunk], pace: float | None) -> Iterator[Chunk]:
    """Yield chunks with a pause of ``pace`` seconds between them."""
    for number, chunk in enumerate(chunks):
        if pace and number:
            time.sleep(pace)
        yield chunk


async def apaced(chunks: Iterator[Chunk], pace: float | None) -> AsyncIterator[Chunk]:
    """Do as ``paced`` does; others run in the pauses, and between chunks without any."""
    for number, chunk in enumerate(chunks):
        if number:
            await asyncio.sleep(pace or 0)
        yield chunk


async def aclose(chunks: AsyncIterator[Any]) -> None:
    """Close the chunks of a stream that is left, if they can be."""
    close: Any = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
