"""Fill a cache before anyone asks: from pairs of an app's own, or the rows of a file.

    row -> is there? skipped : has an answer? stored : asked for, and stored

What is there is skipped, so a run that was stopped is taken up again by starting it anew. Several
threads work at a time: their questions are embedded together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from shared_core.controls import tag_tuple
from shared_core.learning import BadLine, LoggedCall, read_log
from shared_core.openai_format import Endpoint, request_of
from shared_core.options import seconds
from shared_core.pipeline import Pipeline
from shared_core.record import Answer
from shared_core.request import DEFAULT_BASE_URLS, Request
from shared_core.resilience import reraise_as
from shared_core.usage import estimated_usage

# Calls of a log, as what is to be put into a cache.
#
# LoggedCall -> Row(request, answer or None) | BadLine(number, reason, text)


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
    """Read the calls of a log, in any format that ``read_log`` knows, as what a cache may hold.

    Raises ValueError for a file that cannot be read, naming the remedy.
    """
    for call in read_log(path):
        try:
            yield call if isinstance(call, BadLine) else _row(call, asker)
        except (TypeError, ValueError, AttributeError) as error:
            yield BadLine(call.line, str(error), call.text)


def _row(call: LoggedCall, asker: Asker) -> Row:
    model = call.model or asker.model
    if not model:
        raise ValueError("no model: give one in the line, or for all with --model or --ask")
    request = request_of(asker.endpoint, call.messages, {**call.params, "model": model})
    tags, ttl = tag_tuple(call.tags), None if call.ttl is None else seconds("ttl", call.ttl)
    return Row(
        *(call.line, call.text, request, call.messages, model, call.params, call.answer, tags, ttl)
    )


T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
AHEAD = 8
"""How many rows a thread has waiting for it."""

RowResult = Literal["stored", "asked", "present", "failed"]


@dataclass(slots=True)
class WarmReport:
    """What became of the rows. ``bad`` lines were not used; ``to_ask`` have no answer yet.

    ``other`` lines hold no answered question and are no fault: runs of tools, failed calls.

    ``input_tokens`` and ``output_tokens`` are estimates of what asking for those takes, counted in
    a dry run alone.
    """

    rows: int = 0
    stored: int = 0
    asked: int = 0
    present: int = 0
    bad: int = 0
    other: int = 0
    to_ask: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add_bad(self, line: BadLine) -> None:
        """Count a line that was not used."""
        if line.is_other:
            self.other += 1
        else:
            self.bad += 1


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
            report.add_bad(found)
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

    ``spend`` is called with the model and estimated tokens of each row that would be asked for; its
    answer is taken to have ``answer_tokens``.
    """
    report = WarmReport()
    for row in rows:
        report.rows += 1
        if isinstance(row, BadLine):
            report.add_bad(row)
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
