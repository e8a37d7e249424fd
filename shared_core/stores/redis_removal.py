"""Deletion that holds up nobody: a page is read, a batch deleted, and others are served between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shared_core.stores import Clock, Selector
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_epochs import Epochs
from shared_core.stores.redis_failures import IndexMissing, SearchMissing
from shared_core.stores.redis_index import IndexKind, RedisIndex
from shared_core.stores.redis_record import ABOUT, STAMPS, outline
from shared_core.stores.redis_scripts import BURY

BATCH: Mapping[IndexKind, int] = {"flat": 100, "hnsw": 5}
"""Records that one command deletes: a graph takes 1 to 3 ms for each, all else 0.1 ms."""

Death = tuple[bytes, bytes, bytes]
"""A dead record's name, and a field with the value that tells that it is dead."""


class RedisRemoval:
    """Deletes records of one store. Every method raises StoreError."""

    def __init__(
        self,
        connection: RedisConnection,
        index: RedisIndex,
        epochs: Epochs,
        kind: IndexKind,
        clock: Clock,
    ) -> None:
        self._connection, self._index, self._epochs = connection, index, epochs
        self._kind, self._clock = kind, clock

    def bury(self, tag: str, dead: Sequence[Death]) -> None:
        """Delete dead records that a read met, unless they were stored anew meanwhile."""
        signs = [word for _, field, value in dead for word in (field, value)]
        self._connection.run_script(tag, BURY, [name for name, _, _ in dead], *signs)

    def delete(self, selector: Selector) -> int:
        """Delete what matches and return how many of them were alive."""
        names = self._connection.names
        if selector.key is not None:
            tag = names.tag_of(selector.key)
            page = [names.record(selector.key)]
            return self._unlink(tag, self._matching(tag, selector, page))
        whole = selector == Selector(selector.namespace)
        live = 0
        for tag in names.tags_of_namespace(selector.namespace):
            pattern = names.records_pattern(tag, selector.namespace, selector.key_prefix or "")
            pages = self._connection.scan_all(tag, pattern)
            if whole and self._kind == "hnsw":
                live += self._clear(tag, selector, pages)
            else:
                for page in pages:
                    live += self._unlink(tag, self._matching(tag, selector, page))
        return live

    def _clear(self, tag: str, selector: Selector, pages: Iterable[Sequence[bytes]]) -> int:
        """Delete a whole namespace, its graph first where no other namespace is in it."""
        matching = [one for page in pages for one in self._matching(tag, selector, page)]
        try:
            alone = self._index.drop_if_alone(tag, len({name for name, _ in matching}))
        except (SearchMissing, IndexMissing):
            alone = True
        return self._unlink(tag, matching, BATCH["flat"] if alone else None)

    def _matching(
        self, tag: str, selector: Selector, page: Sequence[bytes]
    ) -> list[tuple[bytes, bool]]:
        """Return the names of the records that match, and whether they live."""
        bumps = self._connection.names.bumps(tag)
        reads = [("HMGET", name, ABOUT, STAMPS) for name in page]
        *replies, stands = self._connection.run_all(tag, [*reads, ("GET", bumps)])
        found: list[tuple[bytes, bool]] = []
        now = self._clock()
        for name, (about, stamps) in zip(page, replies, strict=True):
            record = outline(name, about)
            if record is not None and selector.matches(record):
                ahead = record.expires is None or record.expires > now
                found.append((name, ahead and self._epochs.hold(tag, record, stamps, stands)))
        return found

    def _unlink(
        self, tag: str, matching: Sequence[tuple[bytes, bool]], batch: int | None = None
    ) -> int:
        size = batch or BATCH[self._kind]
        live = 0
        for start in range(0, len(matching), size):
            some = matching[start : start + size]
            gone = int(self._connection.run(tag, "UNLINK", *(name for name, _ in some)))
            live += min(gone, sum(alive for _, alive in some))
        return live
