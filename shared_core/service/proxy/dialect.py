"""What a kind of API must say of itself to go through the cache, and how streams are spelt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared_core.openai_format import Endpoint
from shared_core.record import Answer
from shared_core.request import Request

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in an answer and in each of its events: an id of its own, the time of now."""

    number: str
    created: int
    model: str


class StreamRecording(Protocol):
    """Puts the events of a stream together."""

    def note(self, data: str) -> bool:
        """Note the data of an event, and say whether it is the last.

        Raises what is wrong with one that cannot be put together with those before it.
        """

    def answer(self) -> tuple[Answer, bool]:
        """Return the answer, and whether it is whole and may be kept."""


class Dialect(Protocol):
    """How one kind of API is spelt: its bodies as requests, its answers as bodies and streams."""

    path: str

    def request_of(self, endpoint: Endpoint, body: Body) -> Request:
        """Return the request of a body. Raises TypeError or ValueError if it has no identity."""

    def answer_of(self, body: Body) -> Answer | None:
        """Return the answer that a response's body gives, None if it may not be kept.

        Raises what is wrong with a body that is none.
        """

    def recording(self) -> StreamRecording:
        """Return what notes the events of a stream."""

    def completion(self, answer: Answer, head: Head) -> dict[str, Any]:
        """Return an answer as a body. Raises ValueError if its payload cannot be read."""

    def stream(self, answer: Answer, head: Head, asked: Body) -> Iterator[bytes]:
        """Yield an answer as the events of a stream. Raises as ``completion``."""


def typed_event(data: Mapping[str, Any]) -> bytes:
    """Spell one server-sent event that is named by the type of its data."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


# Server-sent events: bytes of a stream to the data of its events, and back.


DONE = "[DONE]"
MEDIA_TYPE = "text/event-stream"

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")


def event(data: str) -> bytes:
    """Spell one event, whose data is a single line."""
    return f"data: {data}\n\n".encode()


class Events:
    """Reads the data of events out of a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the data of each event that is complete with this piece."""
        self._rest += piece
        *lines, rest = _END_OF_LINE.split(self._rest)
        if self._rest.endswith(b"\r"):  # its "\n" may be yet to come
            rest = lines.pop() + b"\r"
        self._rest = rest
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                yield data.decode(errors="replace")
