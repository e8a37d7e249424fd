"""Entries that a person looks for, by words of their questions or by meaning.

    browse a namespace --questions that match--> the newest, or the nearest

A walk through all of it, bounded in time: for people, not for requests.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from shared_core.cache import ResponseCache
from shared_core.entry_id import EntryId
from shared_core.labelling import are_refusals
from shared_core.record import Record
from shared_core.resilience import Unavailable
from shared_core.stores import Store

if TYPE_CHECKING:
    from shared_core.data_path import DataPath

By = Literal["words", "meaning"]

PATIENCE_S = 3.0
"""How long a search walks: some ten thousand entries of a Redis, more of the other stores."""

ROOM = 8
"""How many times the limit is held while walking."""

ANSWER_KEPT = 300

LEAST_SIMILARITY = 0.3
"""What is less near than this is not of the same meaning for anybody."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A stored question and how its answer begins.

    ``similarity`` is the cosine to the text that was searched by meaning.
    """

    entry_id: str
    question: str
    answer: str
    model: str
    tags: tuple[str, ...]
    created: float
    expires: float | None
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    ``seen`` entries were looked at; ``complete`` says whether those were all and none that matched
    was left out.
    """

    entries: list[FoundEntry]
    seen: int
    complete: bool


def search(
    cache: ResponseCache,
    query: str,
    by: By,
    limit: int,
    *,
    patience: float = PATIENCE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Return at most ``limit`` entries of the namespace in force here. Blocks.

    By "words": those whose question holds every word of the query, the newest first; by "meaning":
    the nearest first. What fails finds nothing, and is then not complete.
    """
    path = cache._path
    store = cast("Store", cache.values)  # an opened store serves every protocol
    until = clock() + patience
    met: dict[str, FoundEntry] = {}
    seen, complete = 0, True
    try:
        weigh = _by_words(query) if by == "words" else _by_meaning(path, query)
        for record in _walk(path, store):
            if clock() > until:
                complete = False
                break
            if record.question is None or are_refusals(record):
                continue
            seen += 1
            similarity = weigh(record)
            if similarity is None:
                continue
            met[record.key] = _found(record, similarity if by == "meaning" else None)
            if len(met) > ROOM * limit:
                met, complete = {one.entry_id: one for one in _best(met, limit)}, False
    except Unavailable:
        complete = False
    return Found(_best(met, limit), seen, complete and len(met) <= limit)


def _best(met: dict[str, FoundEntry], limit: int) -> list[FoundEntry]:
    return heapq.nlargest(limit, met.values(), key=lambda one: (one.similarity or 0.0, one.created))


def _walk(path: DataPath, store: Store) -> Iterator[Record]:
    """Yield the records of the namespace in force; one may come twice. Raises Unavailable."""
    cursor = ""
    while True:
        records, cursor = path.fuse.call(store.browse, path.namespace(), cursor)
        yield from records
        if not cursor:
            return


def _by_words(query: str) -> Callable[[Record], float | None]:
    words = query.casefold().split()

    def weigh(record: Record) -> float | None:
        question = (record.question or "").casefold()
        return 1.0 if all(word in question for word in words) else None

    return weigh


def _by_meaning(path: DataPath, query: str) -> Callable[[Record], float | None]:
    """Compare with the question's vector; nothing is near without a semantic tier."""
    embedded = None if path.semantic is None else path.semantic.reader.embed(query)

    def weigh(record: Record) -> float | None:
        if embedded is None or record.vector is None or record.space != embedded[0]:
            return None
        similarity = float(record.vector @ embedded[1])
        return similarity if similarity >= LEAST_SIMILARITY else None

    return weigh


def _found(record: Record, similarity: float | None) -> FoundEntry:
    return FoundEntry(
        entry_id=str(EntryId(record.key)),
        question=record.question or "",
        answer=record.answer.text[:ANSWER_KEPT],
        model=record.model,
        tags=record.tags,
        created=record.created,
        expires=record.expires,
        similarity=None if similarity is None else round(min(1.0, similarity), 4),
    )
