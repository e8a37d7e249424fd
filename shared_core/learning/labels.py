"""What fresh answers and people say of candidates: groups, labels, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from shared_core.docket import Docket, LateJudge
from shared_core.exploring import Exploration
from shared_core.judge import Judge, same_answer
from shared_core.learning import Learner
from shared_core.record import Answer, Record
from shared_core.resilience import Fuse, Unavailable
from shared_core.stores import Store
from shared_core.thresholds import Label

REFUSED = "refused/1"
"""Format of what is no answer, and so is served to nobody."""


class Labeller:
    """Holds a fresh answer against those of the neighbours that its lookup saw.

    A judge whose attribute ``background`` is true labels what was explored later, in a thread, and
    only what its ``wants()`` chooses; answers are then grouped by ``same_answer``. ``count`` adds
    to the cache's counters; ``fuse`` guards the store.
    """

    def __init__(
        self, judge: Judge, learner: Learner, fuse: Fuse, count: Callable[[str], None]
    ) -> None:
        self._learner, self._fuse, self._count = learner, fuse, count
        asked = partial(_judged, Fuse("judge", lambda kind: count(f"errors:{kind}")), judge)
        self._late = judge if isinstance(judge, LateJudge) and judge.background else None
        self._judge = asked if self._late is None else same_answer
        self._docket = Docket(asked)

    def settle(self, record: Record, exploration: Exploration | None) -> Record:
        """Group the fresh answer with the neighbour it equals, and label what was explored."""
        if exploration is None:
            return grouped(record)
        verdicts: dict[str, bool | None] = {}
        for one in exploration.near:
            group = one.record.group or one.record.key
            if verdicts.get(group) is None:
                verdicts[group] = self._judge(record.answer, one.record.answer)
        equal = [group for group, same in verdicts.items() if same]
        if exploration.candidate is not None:
            one = exploration.near[exploration.candidate]
            label = partial(self._label, record.namespace, one.similarity, exploration)
            if self._late is None:
                label(verdicts[one.record.group or one.record.key])
            elif self._late.wants() and not self._docket.add(
                record.answer, one.record.answer, label
            ):
                self._count("errors:judge_busy")
        return replace(record, group=equal[0]) if equal else grouped(record)

    def _label(
        self, namespace: str, similarity: float, exploration: Exploration, right: bool | None
    ) -> None:
        kind = "shadow" if exploration.in_shadow else "explored"
        verdict = {True: "right", False: "wrong", None: "unknown"}[right]
        self._count(f"{kind}:{verdict}")
        if right is None:
            return
        label = Label(right, similarity, exploration.evidence, exploration.score)
        with suppress(Unavailable):  # counted
            self._fuse.call(self._learner.learn, namespace, label)

    def close(self) -> None:
        """Wait, for a bounded time, for what is judged in the background."""
        self._docket.drain()


def grouped(record: Record) -> Record:
    """Put a record into the group of all answers of its very text, wherever they were given."""
    text = " ".join(record.answer.text.split()).casefold()
    if not text:
        return record
    return replace(
        record, group=blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    )


def _judged(fuse: Fuse, judge: Judge, fresh: Answer, cached: Answer) -> bool | None:
    try:
        return fuse.call(judge, fresh, cached)
    except Unavailable:
        return None


class Refusals:
    """Answers that must not be served to one question again, known to all processes at once.

    They are kept where the question's own answer would be, so that the read which finds none brings
    them along. ``add`` raises Unavailable when the store fails.
    """

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse

    def add(self, record: Record, asked: str) -> None:
        """Serve this answer to this question no more, until it is stored anew."""
        there = self._fuse.call(self._store.get, asked)
        if there is not None and not are_refusals(there):
            return  # the question has an answer of its own by now
        refused = {**_refused(there), record.key: record.created}
        answer = Answer(json.dumps(refused), format=REFUSED, exact_only=True)
        kept = replace(record, key=asked, question=None, answer=answer, tags=(), vector=None)
        self._fuse.call(self._store.put, kept)


def are_refusals(record: Record) -> bool:
    """Say whether this is no answer, but what ``Refusals`` keeps in its place."""
    return record.answer.format == REFUSED


def refused_answers(refusals: Record | None, records: Sequence[Record]) -> set[str]:
    """Return the answers, whoever was given them first, that ``refusals`` keep from a question."""
    refused = _refused(refusals)
    return {one.answer.text for one in records if refused.get(one.key) == one.created}


def _refused(refusals: Record | None) -> dict[str, float]:
    """Return when each refused record was made, by its key; what is odd refuses nothing."""
    try:
        return {} if refusals is None else dict(json.loads(refusals.answer.text))
    except (ValueError, TypeError):
        return {}
