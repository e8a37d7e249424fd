"""Questions and answers of a file, to be put into a cache: JSON lines or CSV, bad lines and all.

line -> Row(request, answer or None) | BadLine(number, reason, text)
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared_core.client_request import Endpoint, request_of
from shared_core.control import tag_tuple
from shared_core.options import seconds
from shared_core.record import Answer
from shared_core.request import DEFAULT_BASE_URLS, Request

COLUMNS = ("question", "answer", "model", "system", "history", "params", "tags", "ttl")
OF_JSON = ("history", "params", "tags")
"""Columns that hold JSON in a CSV."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question, as its request and as what a provider would be sent; ``answer`` None: to ask.

    ``line`` is where it begins in its file, from 1; ``text`` is its spelling there.
    """

    line: int
    text: str
    request: Request
    messages: tuple[Mapping[str, Any], ...]
    model: str
    params: Mapping[str, Any]
    answer: Answer | None
    tags: tuple[str, ...] = ()
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be used, and why; ``text`` is all of it."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose requests the rows stand for: the app's provider, and the model of rows without one.

    ``base_url`` None: the provider's own.
    """

    model: str | None = None
    provider: str = "openai"
    base_url: str | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint whose requests have the app's keys."""
        own = DEFAULT_BASE_URLS.get(self.provider, "")
        return Endpoint(self.provider, self.base_url or own, {})


def read_file(path: Path, asker: Asker) -> Iterator[Row | BadLine]:
    """Read a file row by row, a CSV if its name ends so, else JSON lines.

    Rows have a ``question``, and may have what else ``COLUMNS`` names. Raises ValueError for a file
    that cannot be read or a CSV without the column "question", naming the remedy.
    """
    try:
        with path.open("rb") as file:
            lines = _of_csv(path, file) if path.suffix.lower() == ".csv" else _of_json_lines(file)
            for line, text, found in lines:
                if isinstance(found, str):
                    yield BadLine(line, found, text)
                    continue
                try:
                    yield _row(line, text, found, asker)
                except (TypeError, ValueError, AttributeError) as error:
                    yield BadLine(line, str(error), text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def count_lines(path: Path) -> int:
    """Return how many lines a file has, to tell how far its reading is."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


_Found = tuple[int, str, Any]
"""Line number, its text, and its value, or a text that says what is wrong with it."""


def _of_json_lines(file: Any) -> Iterator[_Found]:
    for line, spelled in enumerate(file, 1):
        text = spelled.decode("utf-8-sig" if line == 1 else "utf-8", "backslashreplace")
        text = text.rstrip("\r\n")
        if not text.strip():
            continue
        try:
            spelled.decode()
            value = json.loads(text)
        except UnicodeDecodeError as error:
            yield line, text, f"no UTF-8: {error.reason}"
        except (ValueError, RecursionError) as error:
            yield line, text, f"no JSON: {error}"
        else:
            yield line, text, value if isinstance(value, dict) else "no JSON object"


def _of_csv(path: Path, file: Any) -> Iterator[_Found]:
    texts = (line.decode("utf-8", "backslashreplace") for line in file)
    reader = csv.reader(texts, strict=True)
    names = [name.removeprefix("\ufeff").strip() for name in next(reader, [])]
    unknown = [name for name in names if name not in COLUMNS]
    if "question" not in names or unknown:
        raise ValueError(
            f"{path}, line 1 names {', '.join(names) or 'nothing'}; a first line must name "
            f"question, and of {', '.join(COLUMNS[1:])} what there is"
        )
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"lines {line} to {reader.line_num}", f"no CSV: {error}"
            continue
        if not any(cells):
            continue
        text = json.dumps(cells, ensure_ascii=False)
        if len(cells) != len(names):
            yield line, text, f"{len(cells)} cells, and the first line names {len(names)}"
            continue
        try:
            yield line, text, _cells(dict(zip(names, cells, strict=True)))
        except ValueError as error:
            yield line, text, str(error)


def _cells(row: dict[str, str]) -> dict[str, Any]:
    """Return the cells that are not empty, as values. Raises ValueError for what is no JSON."""
    found: dict[str, Any] = {name: text for name, text in row.items() if text.strip()}
    for name in OF_JSON:
        if name in found:
            try:
                found[name] = json.loads(found[name])
            except ValueError as error:
                raise ValueError(f"{name} is no JSON: {error}") from None
    if "ttl" in found:
        try:
            found["ttl"] = float(found["ttl"])
        except ValueError:
            raise ValueError(f"ttl must be seconds, not {found['ttl']!r}") from None
    return found


def _row(line: int, text: str, value: dict[str, Any], asker: Asker) -> Row:
    for name in value:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COLUMNS)}"
            raise ValueError(f"unknown field {name!r}; {hint}")
    texts = {name: value.get(name) for name in ("question", "answer", "model", "system")}
    for name, one in texts.items():
        if one is not None and not isinstance(one, str):
            raise ValueError(f"{name} must be a text, not {one!r}")
    question, model = texts["question"], texts["model"] or asker.model
    if not (question or "").strip():
        raise ValueError("no question")
    if not model:
        raise ValueError("no model: give one in the line, or for all with --model or --ask")
    params, tags, ttl = value.get("params") or {}, value.get("tags") or (), value.get("ttl")
    if not isinstance(params, dict):
        raise ValueError(f"params must be an object, not {params!r}")
    messages = (
        *([{"role": "system", "content": texts["system"]}] if texts["system"] else ()),
        *(value.get("history") or ()),
        {"role": "user", "content": question},
    )
    request = request_of(asker.endpoint, messages, {**params, "model": model})
    answer = Answer(texts["answer"]) if texts["answer"] else None
    lifetime = None if ttl is None else seconds("ttl", ttl)
    row = Row(line, text, request, messages, model, params, answer)
    return replace(row, tags=tag_tuple(tags), ttl=lifetime)
