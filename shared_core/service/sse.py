"""Server-sent events: bytes of a stream to the data of its events, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
