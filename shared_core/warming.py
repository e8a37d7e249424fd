"""Fills a cache before anyone asks: pairs of an app's own, or the rows of a file.

    row -> is there? skipped : has an answer? stored : asked for, and stored

What is there is skipped, so a run that was stopped is taken up again by starting it anew. Several
threads work at a time: their questions are embedded together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from shared_core.data_path import DataPath
from shared_core.pricing import estimated_usage
from shared_core.record import Answer
from shared_core.request import Request
from shared_core.resilience import raising
from shared_core.warming_rows import BadLine, Row

T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
AHEAD = 8
"""How many rows a thread has waiting for it."""

Outcome = Literal["stored", "asked", "present", "failed"]


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
    path: DataPath, pairs: Iterable[tuple[Request | str, Answer | str]], progress: bool = True
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
    path: DataPath,
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

    def work(row: Row | BadLine) -> Outcome | BadLine:
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


def _warm_row(path: DataPath, row: Row, ask: Callable[[Row], object] | None) -> Outcome | BadLine:
    if path.peek(row.request) is not None:
        return "present"
    if row.answer is not None:
        kept = path.store(row.request, row.answer, tags=row.tags, ttl=row.ttl)
        return "stored" if kept else BadLine(row.line, "the store did not keep it", row.text)
    if ask is None:
        return BadLine(row.line, "no answer: --ask MODEL asks for it", row.text)
    try:
        raising(AskFailed, ask, row)
    except AskFailed as error:
        return BadLine(row.line, f"the model did not answer: {error}", row.text)
    return "asked"


def foresee(
    path: DataPath,
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
