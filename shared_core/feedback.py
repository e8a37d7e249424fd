"""What people say of a served answer: it is taken back, and the policy learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_core.entry_id import EntryId
from shared_core.resilience import Unavailable
from shared_core.stores import Selector, Store
from shared_core.thresholds import Label

if TYPE_CHECKING:
    from shared_core.data_path import DataPath


def take(path: DataPath, store: Store, entry_id: str, correct: bool, source: str) -> None:
    """Act on feedback; works from any process, without the lookup, and raises nothing.

    A wrong exact answer is deleted. A wrong semantic one is no longer served to that question, and
    the policy learns, from right ones too. An id that is not known (any more) is ignored and
    counted; other feedback is counted under its ``source``.
    """
    serving, semantic = EntryId.parse(entry_id), path.semantic
    try:
        record = path.fuse.call(store.get, serving.record) if serving else None
        if serving is None or record is None:
            path.counters.add("feedback:unknown")
            return
        path.counters.add(f"feedback:{source}")
        if serving.asked is None or semantic is None:
            if not correct:
                path.fuse.call(store.delete, Selector(record.namespace, key=record.key))
            return
        path.counters.add("labels:right" if correct else "labels:wrong")
        if not correct:
            semantic.refusals.add(record, serving.asked)
        semantic.suit(record.space)
        label = Label(correct, serving.similarity, score=serving.score)
        path.fuse.call(semantic.learner.learn, record.namespace, label)
    except Unavailable:
        return
