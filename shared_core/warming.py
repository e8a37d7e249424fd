"""Fill a cache before anyone asks: from pairs of an app's own, or the rows of a file.

    row -> is there? skipped : has an answer? stored : asked for, and stored

What is there is skipped, so a run that was stopped is taken up again by starting it anew. Several
threads work at a time: their questions are embedded together.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from shared_core.controls import tag_tuple
from shared_core.openai_format import Endpoint, request_of
from shared_core.options import seconds
from shared_core.pipeline import Pipeline
from shared_core.record import Answer
from shared_core.request import DEFAULT_BASE_URLS, Request
from shared_core.resilience import reraise_as
from shared_core.usage import estimated_usage

# Questions and answers of a file, to be put into a cache: JSON lines or CSV, bad lines and all.
#
# line -> Row(request, answer or None) | BadLine(number, reason, text)


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


T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
AHEAD = 8
"""How many rows a thread has waiting for it."""

RowResult = Literal["stored", "asked", "present", "failed"]


@dataclass(slots=True)
class WarmReport:
    """What became of the rows. ``bad`` lines were not used; ``to_ask`` have no answer yet.

    ``input_tokens`` and ``output_tokens`` are estimates of what asking for those takes, counted in
    a dry run alone.
    """

    rows: int = 0
    stored: int = 0
    asked: int = 0
    present: int = 0
    bad: int = 0
    to_ask: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class AskFailed(Exception):
    """A model did not answer; the message says what it raised."""


def warm(
    path: Pipeline, pairs: Iterable[tuple[Request | str, Answer | str]], progress: bool = True
) -> int:
    """Store the answers of requests that have none, and return how many were stored.

    A text in the place of a request is a question to no model in particular. ``progress`` shows a
    bar with rate and time left, if tqdm is there. Controls and tags in force hold. What the store
    refuses is counted in ``stats().errors``. Raises TypeError for a pair that is none.
    """

    def store(pair: tuple[Request | str, Answer | str]) -> bool:
        request, answer = _pair(pair)
        return path.peek(request) is None and path.store(request, answer) is not None

    total = len(pairs) if isinstance(pairs, Sequence) else None
    shown = _shown(pairs, total, progress)
    return sum(found for found in _together(store, shown, THREADS))


def _pair(pair: Any) -> tuple[Request, Answer]:
    match pair:
        case (str() | Request() as asked, str() | Answer() as answered):
            request = Request.of(asked) if isinstance(asked, str) else asked
            return request, Answer(answered) if isinstance(answered, str) else answered
        case _:
            raise TypeError(f"warm takes pairs (request or text, answer or text), not {pair!r}")


def warm_rows(
    path: Pipeline,
    rows: Iterable[Row | BadLine],
    *,
    ask: Callable[[Row], object] | None = None,
    bad: Callable[[BadLine], object] = lambda _: None,
    threads: int = THREADS,
    total: int | None = None,
    progress: bool = True,
) -> WarmReport:
    """Store what rows say, ask for the answers that they lack, and report.

    ``ask`` asks a model and stores its answer; without it a row that has none is bad. ``bad`` is
    given each bad line, those whose asking failed too, in this thread.
    """
    report = WarmReport()

    def work(row: Row | BadLine) -> RowResult | BadLine:
        return row if isinstance(row, BadLine) else _warm_row(path, row, ask)

    for found in _together(work, _shown(rows, total, progress), threads):
        report.rows += 1
        if isinstance(found, BadLine):
            report.bad += 1
            bad(found)
        elif found == "present":
            report.present += 1
        else:
            report.stored += 1
            report.asked += found == "asked"
    return report


def _warm_row(path: Pipeline, row: Row, ask: Callable[[Row], object] | None) -> RowResult | BadLine:
    if path.peek(row.request) is not None:
        return "present"
    if row.answer is not None:
        kept = path.store(row.request, row.answer, tags=row.tags, ttl=row.ttl)
        return "stored" if kept else BadLine(row.line, "the store did not keep it", row.text)
    if ask is None:
        return BadLine(row.line, "no answer: --ask MODEL asks for it", row.text)
    try:
        reraise_as(AskFailed, ask, row)
    except AskFailed as error:
        return BadLine(row.line, f"the model did not answer: {error}", row.text)
    return "asked"


def foresee(
    path: Pipeline,
    rows: Iterable[Row | BadLine],
    *,
    asking: bool,
    answer_tokens: int,
    bad: Callable[[BadLine], object] = lambda _: None,
    spend: Callable[[str, dict[str, int]], object] = lambda *_: None,
) -> WarmReport:
    """Report what ``warm_rows`` would do, and do nothing.

    ``spend`` is told the model and estimated tokens of each row that would be asked for; its answer
    is taken to have ``answer_tokens``.
    """
    report = WarmReport()
    for row in rows:
        report.rows += 1
        if isinstance(row, BadLine):
            report.bad += 1
            bad(row)
        elif path.peek(row.request) is not None:
            report.present += 1
        elif row.answer is not None:
            report.stored += 1
        elif not asking:
            report.bad += 1
            bad(BadLine(row.line, "no answer: --ask MODEL asks for it", row.text))
        else:
            report.to_ask += 1
            text = "\n".join(str(message.get("content") or "") for message in row.messages)
            usage = {**estimated_usage(text, ""), "output_tokens": answer_tokens}
            report.input_tokens += usage["input_tokens"]
            report.output_tokens += answer_tokens
            spend(row.model, usage)
    return report


def _together(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what becomes of items, in their order; reads only so far ahead."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="tiered-cache-warm") as pool:
        try:
            for item in items:
                # a context can be entered once at a time, so each has a copy
                pending.append(pool.submit(copy_context().run, work, item))
                if len(pending) >= threads * AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                one.cancel()


def _shown(items: Iterable[T], total: int | None, progress: bool) -> Iterable[T]:
    """Return the items, with a bar on standard error that says how far they are."""
    if not progress:
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, total=total, unit=" rows", desc="warming")  # type: ignore[no-any-return]
