"""What happened lately, in all workers: the hook that counts it, and the rows that they share.

    lookups, hits, verdicts --> this worker's tally --every 2 s--> its row in the store
    rows of all workers --merged--> picture

Nothing of it is on the path of a request but a count under a lock. A store that fails loses nothing
but the others' part of the picture.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from shared_core.cache import ResponseCache
from shared_core.codec import Codec, UndecodableError
from shared_core.entry_id import EntryId
from shared_core.events import LookupEvent
from shared_core.forking import renew_after_fork
from shared_core.record import Answer, Hit, Record, Tier
from shared_core.resilience import Fuse, Unavailable
from shared_core.service.tally import (
    DAY_S,
    HITS_KEPT,
    ServedByMeaning,
    Tally,
    Verdict,
    merged,
    picture_of,
)
from shared_core.stores import Clock, Store
from shared_core.upkeep import Upkeep

PERIOD_S = 2.0
"""How often a worker writes its row at most."""

QUESTION_KEPT, ANSWER_KEPT = 1000, 300
"""Characters of a question and of an answer that are shown to a person."""

ROWS_READ = 256
"""Rows that are read for one picture at most: a worker that restarts leaves one for a day."""


@dataclass(frozen=True, slots=True)
class _Noted:
    """A hit whose stored question is not read yet."""

    asked: str
    hit: Hit
    namespace: str
    time: float


class Activity:
    """Counts what a cache does, as one of its hooks, and shows it together with other workers.

    ``record_questions`` False keeps every text out of it: counts and similarities remain.

        activity = Activity()
        cache = ResponseCache.open("redis://localhost:6379/0", hooks=(activity,))
        activity.open(cache)

    Rows hold what is in ``Tally``, encrypted when the cache has an ``encryption_key``, and live for
    a day. Thread-safe; a forked child counts as another worker.
    """

    def __init__(self, *, record_questions: bool = True, clock: Clock = time.time) -> None:
        self._record_questions, self._clock = record_questions, clock
        self._shared: _Rows | None = None
        self._upkeep = Upkeep(self._write_if_due)
        self._start()
        renew_after_fork(self)

    def _start(self) -> None:
        self._worker = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._tally, self._changed, self._written = Tally(), False, 0.0
        self._noted: deque[_Noted] = deque(maxlen=HITS_KEPT)

    def renew_after_fork(self) -> None:
        """Let a child count for itself: what was counted so far is the parent's."""
        self._start()

    def open(self, cache: ResponseCache) -> None:
        """Share what is seen through the store of the cache, until ``close``."""
        self._shared = _Rows(cache)

    def close(self) -> None:
        """Write what was seen a last time."""
        self._upkeep.stop()
        self.flush()
        self._shared = None

    def __call__(self, event: LookupEvent) -> None:
        """Count a lookup."""
        now = self._clock()
        outcome = event.outcome if event.tier is None else str(event.tier)
        with self._lock:
            self._tally.count(outcome, now)
            self._tally.see(event.namespace, now)
            if event.similarity is not None and event.tier is not Tier.EXACT:
                self._tally.count_similarity(event.outcome, event.similarity, now)
            self._changed = True
        self._upkeep.ensure()

    def record_hit(self, asked: str | None, hit: Hit, namespace: str) -> None:
        """Remember an answer that was served by meaning, to be shown beside its question.

        An exact hit is not remembered: there is nothing to compare.
        """
        if hit.tier is Tier.EXACT:
            return
        text = (asked or "")[:QUESTION_KEPT]
        with self._lock:
            self._noted.append(_Noted(text, hit, namespace, self._clock()))
            self._changed = True
        self._upkeep.ensure()

    def record_verdict(self, entry_id: str, correct: bool) -> None:
        """Remember what a person said of a served answer."""
        if EntryId.parse(entry_id) is None:
            return
        with self._lock:
            self._tally.judge(entry_id, Verdict(correct, self._clock()))
            self._changed = True
        self._upkeep.ensure()

    def took(self, part: str, seconds: float) -> None:
        """Count how long a part took, such as "upstream"; ``part`` is one of a few names."""
        with self._lock:
            self._tally.count_latency(part, seconds, self._clock())
            self._changed = True
        self._upkeep.ensure()

    def picture(self, tenant: str | None = None) -> dict[str, Any]:
        """Return what all workers saw in the last day, as JSON values. Blocks.

        ``minutes`` counts outcomes by minute (``time``: its begin, in seconds since the epoch);
        ``similarity`` counts by outcome in 20 equal ``bins`` from 0.5 to 1, and ``below``;
        ``parts`` has percentiles in seconds; ``recent`` are hits by meaning, newest first;
        ``namespaces`` those that were used, the latest first; both of one ``tenant`` and its parts,
        if that is given. ``workers`` is how many added to it, ``complete`` False if the store could
        not be read.
        """
        self._read_stored()
        with self._lock:
            self._tally.forget(self._clock())
            own = merged([self._tally])
        others, complete = [], True
        if self._shared is not None:
            try:
                others = list(self._shared.read(self._worker))
            except Unavailable:
                complete = False
        tally = merged([own, *others])
        tally.forget(self._clock())
        picture = picture_of(tally)
        if tenant is not None:
            recent, names = picture["recent"], picture["namespaces"]
            picture["recent"] = [hit for hit in recent if is_within(hit["namespace"], tenant)]
            picture["namespaces"] = [name for name in names if is_within(name, tenant)]
        return {**picture, "workers": 1 + len(others), "complete": complete}

    def flush(self) -> None:
        """Write this worker's row now, if there is anything new in it."""
        self._read_stored()
        shared = self._shared
        with self._lock:
            if shared is None or not self._changed:
                return
            self._tally.forget(self._clock())
            row, self._changed = self._tally.as_json(), False
        try:
            shared.write(self._worker, row)
        except Unavailable:  # counted; the next row holds all of it again
            with self._lock:
                self._changed = True

    def _write_if_due(self) -> None:
        now = time.monotonic()
        if now - self._written >= PERIOD_S:
            self._written = now
            self.flush()

    def _read_stored(self) -> None:
        """Find the stored questions of the hits that came since the last time."""
        while True:
            with self._lock:
                if not self._noted:
                    return
                noted = self._noted.popleft()
            hit = self._shown(noted)
            with self._lock:
                self._tally.note(hit)

    def _shown(self, noted: _Noted) -> ServedByMeaning:
        hit = noted.hit
        asked: str | None = noted.asked
        stored: str | None = None
        answer: str | None = hit.answer.text[:ANSWER_KEPT]
        if not self._record_questions:
            asked = answer = None
        elif self._shared is not None:
            stored = self._shared.question(hit.entry_id)
        similarity = round(hit.similarity, 4)
        return ServedByMeaning(
            hit.entry_id, noted.namespace, asked, stored, answer, similarity, noted.time
        )


def is_within(namespace: str, tenant: str) -> bool:
    """Say whether a namespace is a tenant's own or a part of it."""
    return namespace == tenant or namespace.startswith(f"{tenant}:")


class _Rows:
    """One row per worker among the store's values. Methods raise Unavailable."""

    def __init__(self, cache: ResponseCache) -> None:
        self._store = cast("Store", cache.values)  # an opened store serves both protocols
        self._codec = Codec(cache.options.encryption_key)
        self._prefix = f"activity:{cache.options.namespace}:"
        self._fuse = Fuse("activity", cache.count_error)

    def write(self, worker: str, row: str) -> None:
        """Write a row, for a day. It goes as a record does, so that it is encrypted like one."""
        body = self._codec.encode(Record(worker, "", "", None, Answer(row)))
        self._fuse.call(self._store.put_many, {self._prefix + worker: body}, ttl=DAY_S)

    def read(self, but: str) -> Iterator[Tally]:
        """Yield the rows of all workers but one; what cannot be read is left out."""
        for body in self._fuse.call(self._bodies, self._prefix + but):
            try:
                yield Tally.from_json(self._codec.decode(body).answer.text)
            except (UndecodableError, ValueError):
                continue  # of another version, or encrypted with another key

    def _bodies(self, but: str) -> list[bytes]:
        keys: set[str] = set()
        cursor = ""
        while True:
            some, cursor = self._store.scan(self._prefix, cursor)
            keys.update(key for key in some if key != but)
            if not cursor or len(keys) >= ROWS_READ:
                return list(self._store.get_many(sorted(keys)[:ROWS_READ]).values())

    def question(self, entry_id: str) -> str | None:
        """Return the question of a stored entry, None if it is gone or cannot be read."""
        serving = EntryId.parse(entry_id)
        try:
            record = serving and self._fuse.call(self._store.get, serving.record)
        except Unavailable:
            return None
        text = record.question if record else None
        return None if text is None else text[:QUESTION_KEPT]
