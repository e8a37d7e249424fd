"""Pass streams through a cache: replay them on a hit, record them on a miss when they end.

    found() -> chunks of the stored answer | None
    recorded(the model's chunks) -> the same chunks, noted as they pass, stored after the last

A stream that is left early or breaks is not stored.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from langchain_tiered_cache.answers import MARK
from langchain_tiered_cache.cache import TieredCache
from langchain_tiered_cache.call_context import refreshing
from shared_core.compute import arecorded, recorded

# Stored answers as the chunks of a stream, and the chunks of a stream as an answer to store.
#
# ChatGeneration --chat_chunks--> AIMessageChunk, ... --sum--> the same message
# chunks that a model gave --chat_generation--> what ``invoke`` would have stored
#
# A chunk adds to those before it by the rules of ``AIMessageChunk.__add__``: text is joined, blocks
# and tool calls are joined where their ``index`` is equal, other strings would be joined too. So
# whatever is not text is sent once.


_PIECE = re.compile(r"\s*\S{1,32}|\s+")
"""A word with the space before it; of what has no spaces, 32 characters."""

_TEXT_OF = {"text": "text", "reasoning": "reasoning", "thinking": "thinking"}
"""Type of a content block to the field that is streamed."""

_ON_EVERY_CHUNK = ("output_version", "model_provider")
"""Metadata by which LangChain reads the content of a chunk; equal ones are not joined."""

Delta = dict[str, Any]
"""What one chunk adds: fields of an ``AIMessageChunk``."""


def chat_chunks(generation: Generation) -> Iterator[ChatGenerationChunk]:
    """Return new chunks whose sum is the message, but for its id, which they do not have.

    The first holds the mark, the last the metadata, the usage and ``chunk_position``. What cannot
    be read raises TypeError, ValueError or LookupError at the call; chunks are made one by one.
    """
    message = generation.message if isinstance(generation, ChatGeneration) else None
    if not isinstance(message, AIMessage):
        message = AIMessage(generation.text)
    metadata = dict(message.response_metadata)
    first = {MARK: metadata.pop(MARK)} if MARK in metadata else {}
    always = {key: metadata.pop(key) for key in _ON_EVERY_CHUNK if key in metadata}
    deltas = _deltas(message)
    for delta in deltas:
        delta |= {"name": message.name, "response_metadata": always}
    deltas[0]["additional_kwargs"] = message.additional_kwargs
    deltas[0]["response_metadata"] = always | first
    deltas[-1]["response_metadata"] = deltas[-1]["response_metadata"] | metadata
    usage: Any = message.usage_metadata
    if usage is not None:
        usage = {**usage, "total_cost": 0}  # as LangChain says of every hit
    deltas[-1] |= {"usage_metadata": usage, "chunk_position": "last"}
    return _chat_chunks(deltas, generation.generation_info)


def _chat_chunks(
    deltas: Sequence[Delta], info: dict[str, Any] | None
) -> Iterator[ChatGenerationChunk]:
    for number, delta in enumerate(deltas, start=1):
        is_last = number == len(deltas)
        yield ChatGenerationChunk(
            message=AIMessageChunk(**delta), generation_info=info if is_last else None
        )


def chat_generation(
    chunks: Sequence[ChatGenerationChunk], output_version: str | None
) -> ChatGeneration:
    """Return the sum of a model's chunks as ``BaseChatModel`` would store it.

    Raises ValueError if there are none, TypeError if they do not add up.
    """
    (whole,) = generate_from_stream(iter(chunks)).generations
    message: Any = whole.message
    metadata = {**(whole.generation_info or {}), **message.response_metadata}
    if output_version == "v1":
        metadata["output_version"] = "v1"
        message.content = message.content_blocks
    message.response_metadata = metadata
    return whole


def is_last(chunk: ChatGenerationChunk) -> bool:
    """Tell whether a model says that nothing follows a chunk."""
    return getattr(chunk.message, "chunk_position", None) == "last"


def ending(last: ChatGenerationChunk, mark: Any) -> ChatGenerationChunk:
    """Return the chunk that ends a stream with a mark: the last, or an empty one after it.

    LangChain adds an empty one itself to a stream whose last does not say that it is.
    """
    message = last.message
    if is_last(last):
        message.response_metadata = {**message.response_metadata, MARK: mark}
        return last
    end = AIMessageChunk(
        content=_nothing(message), response_metadata={MARK: mark}, chunk_position="last"
    )
    return ChatGenerationChunk(message=end)


def noted(chunk: ChatGenerationChunk) -> ChatGenerationChunk:
    """Return a copy to keep: LangChain and the consumer change the chunk that is passed on."""
    return chunk.model_copy(update={"message": chunk.message.model_copy()})


def text_chunks(generation: Generation) -> Iterator[GenerationChunk]:
    """Yield new chunks of a completion; the last holds what else is known of it."""
    *before, last = _pieces(generation.text) or [""]
    for piece in before:
        yield GenerationChunk(text=piece)
    yield GenerationChunk(text=last, generation_info=generation.generation_info)


def text_generation(chunks: Sequence[GenerationChunk]) -> Generation:
    """Return the sum of a completion's chunks. Raises ValueError if there are none."""
    if not chunks:
        raise ValueError("a stream without chunks")
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return Generation(text=whole.text, generation_info=whole.generation_info)


def _deltas(message: AIMessage) -> list[Delta]:
    content, calls = message.content, _calls(message)
    if isinstance(content, str):
        deltas: list[Delta] = [{"content": piece} for piece in _pieces(content)]
    else:
        in_content: dict[str, Delta] = {}
        if message.response_metadata.get("output_version") == "v1":
            content = [_indexed(block, place) for place, block in enumerate(content)]
            in_content = {call["id"]: call for call in calls if call["id"]}
        deltas = list(_content_deltas(content, in_content))
        shown = {one["id"] for delta in deltas for one in delta.get("tool_call_chunks", ())}
        calls = [call for call in calls if call["id"] is None or call["id"] not in shown]
    nothing: Delta = {"content": _nothing(message)}
    deltas += ({**nothing, "tool_call_chunks": [part]} for call in calls for part in _parts(call))
    if not deltas or "tool_call_chunks" in deltas[-1]:
        deltas.append(nothing)  # the last chunk is read by itself, too, as if it were all
    return deltas


def _content_deltas(content: Sequence[Any], calls: dict[str, Delta]) -> Iterator[Delta]:
    indexes = [block["index"] for block in content if isinstance(block, dict) and "index" in block]
    if len(set(map(str, indexes))) < len(indexes):
        yield {"content": list(content)}  # in more than one chunk, equal indexes would be joined
        return
    for block in content:
        if not isinstance(block, dict):
            yield {"content": [block]}
        elif block.get("type") == "tool_call" and block.get("id") in calls:
            call = {**calls[block["id"]], "index": block["index"]}
            more = {"extras": block["extras"]} if "extras" in block else {}
            for part in _parts(call):
                shown = {"type": "tool_call_chunk", **part, **more}
                more = {}
                yield {"content": [shown], "tool_call_chunks": [part]}
        else:
            for part in _block_parts(block):
                yield {"content": [part]}


def _block_parts(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Split the text of a block; one without index would not be joined again, and stays whole."""
    name = _TEXT_OF.get(str(block.get("type")))
    index = block.get("index")
    joins = isinstance(index, int) or str(index).startswith("lc_")
    if name is None or not joins or not isinstance(block.get(name), str):
        return [block]
    *before, last = _pieces(block[name]) or [""]
    parts = [{"type": block["type"], name: piece, "index": index} for piece in before]
    return [*parts, {**block, name: last}]


def _indexed(block: Any, place: int) -> Any:
    return {"index": place, **block} if isinstance(block, dict) else block


def _calls(message: AIMessage) -> list[Delta]:
    """Return whole tool-call chunks; ``args`` are JSON, or what the model wrote in its place."""
    calls: list[Delta] = [
        {**_named(call), "args": json.dumps(call["args"], ensure_ascii=False)}
        for call in message.tool_calls
    ]
    calls += ({**_named(call), "args": call["args"]} for call in message.invalid_tool_calls)
    return [{**call, "index": place} for place, call in enumerate(calls)]


def _named(call: Any) -> Delta:
    return {"type": "tool_call_chunk", "name": call["name"], "id": call["id"]}


def _parts(call: Delta) -> list[Delta]:
    """Split the arguments of a tool call; the first part names it."""
    first, *others = _pieces(call["args"] or "") or [call["args"]]
    unnamed = {**call, "name": None, "id": None}
    return [{**call, "args": first}, *({**unnamed, "args": piece} for piece in others)]


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text)


def _nothing(message: BaseMessage) -> Any:
    """Return the content that adds nothing to a message: a text would be put before blocks."""
    return "" if isinstance(message.content, str) else []


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

    def __init__(self, form: Form[Chunk], whole: Callable[[Sequence[Chunk]], Generation | None]):
        self._form, self._add_up = form, whole
        self._last: Chunk | None = None
        self._notes: list[Chunk] = []
        self._whole: Generation | None = None

    def take(self, chunk: Chunk) -> Iterator[Chunk]:
        """Note a chunk, and yield what is to be passed on now."""
        if self._last is not None and self._form.is_last(self._last):
            yield self._last
        self._notes.append(self._form.note(chunk))
        self._last = chunk
        if not self._form.is_last(chunk):
            yield chunk

    def whole(self) -> Generation | None:
        """Return the sum of the chunks, None if it cannot be stored."""
        self._whole = self._add_up(self._notes)
        return self._whole

    def rest(self, entry_id: str | None) -> Iterator[Chunk]:
        """Yield what is to be passed on at the end, with the mark of the answer if it was one."""
        if self._last is None:
            return
        if self._whole is not None:
            end = self._form.end(self._last, self._whole)
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
        """Pass the model's chunks on and store their sum when they end."""

        def keep(whole: Generation) -> None:
            self.cache.keep_stream(self.prompt, self.llm_string, whole)

        return recorded(chunks, Recording(self.form, self._whole), keep, self._abandon)

    def arecorded(self, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
        """Do as ``recorded`` does; the event loop is not blocked."""

        async def keep(whole: Generation) -> None:
            await self.cache.akeep_stream(self.prompt, self.llm_string, whole)

        return arecorded(chunks, Recording(self.form, self._whole), keep, self._abandon)

    def _abandon(self) -> None:
        self.cache.abandon(self.prompt, self.llm_string)

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
