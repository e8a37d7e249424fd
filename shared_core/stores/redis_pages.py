"""The records of a namespace, a page at a time, for whoever looks through all of them."""

from __future__ import annotations

from shared_core.codec import Codec
from shared_core.record import Record
from shared_core.stores import Clock
from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_epochs import Epochs
from shared_core.stores.redis_exchange import fields_read
from shared_core.stores.redis_record import STAMPS, record_of

BATCH = 100
"""Records that are read in one round trip: some hundreds of kilobytes."""


def page(
    connection: RedisConnection,
    epochs: Epochs,
    codec: Codec,
    clock: Clock,
    namespace: str,
    cursor: str,
) -> tuple[list[Record], str]:
    """Return some live records, and the cursor of the next page; see ``Browsable``."""
    names = connection.names
    tags = names.tags_of_namespace(namespace)
    at, _, place = cursor.partition("/")
    here = int(at or 0)
    tag = tags[here]
    keys, following = connection.scan(tag, names.records_pattern(tag, namespace, ""), place)
    found: list[Record] = []
    now = clock()
    for start in range(0, len(keys), BATCH):
        reads = [("HGETALL", name) for name in keys[start : start + BATCH]]
        *replies, stands = connection.run_all(tag, [*reads, ("GET", names.bumps(tag))])
        for read in replies:
            fields = fields_read(read)
            record = record_of(fields, codec)
            if (
                record is not None
                and record.namespace == namespace
                and (record.expires is None or record.expires > now)
                and epochs.hold(tag, record, fields.get(STAMPS), stands)
            ):
                found.append(record)
    if following:
        return found, f"{here}/{following}"
    return found, f"{here + 1}/" if here + 1 < len(tags) else ""
