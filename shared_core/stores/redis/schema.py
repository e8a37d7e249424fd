"""Define what lies in the server: the fields of a record, the Lua scripts, the search indexes.

    FT.SEARCH @scope:{digest}=>[KNN k @vector $vector]    records in its reply

The scope is filtered inside the index, so that no other scope's neighbour takes a place. RedisVL
builds schema and query; redis-py runs the query, because RedisVL's own way decodes what comes back
as text, which breaks bytes that are none, and takes 0.04 ms longer.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import redis
from redisvl.exceptions import RedisVLError
from redisvl.index import SearchIndex
from redisvl.query import VectorQuery
from redisvl.schema import IndexSchema

from shared_core.record import Answer, Record
from shared_core.stores.codec import Codec, UndecodableError
from shared_core.stores.redis.connection import (
    Command,
    IndexMissing,
    RedisConnection,
    RedisScript,
    fields_read,
    store_error,
)
from shared_core.stores.redis.keys import Names, encoded, key_of, signature

if TYPE_CHECKING:
    from shared_core.record import Vector


logger = logging.getLogger("tiered_cache")

IndexKind = Literal["flat", "hnsw"]
Precision = Literal["float32", "float16"]


DISTANCE = b"vector_distance"


class Space(NamedTuple):
    """Where vectors can be compared: one embedder's, of one dimension, held in one precision."""

    embedder: str
    dimension: int
    precision: Precision

    @property
    def vector_field(self) -> str:
        """Name the field of the vector; its first letter tells the precision."""
        return f"{'f' if self.precision == 'float32' else 'h'}{self._signature}"

    @property
    def scope_field(self) -> str:
        """Name the field of the scope: records of other spaces have none of this name."""
        return f"s{self._signature}"

    @property
    def _signature(self) -> str:
        return signature(self.embedder, self.dimension)


class SearchRow(NamedTuple):
    """A row of a search: the record's name, its distance (0..2), its fields (none: it expired)."""

    name: bytes
    distance: float
    fields: Mapping[bytes, bytes]


class RedisIndex:
    """Makes, compares, searches and drops the indexes of one connection. Thread-safe.

    Every method raises StoreError: SearchMissing where the server has no search module.
    """

    def __init__(self, connection: RedisConnection, kind: IndexKind, timeout: float) -> None:
        self._connection, self._kind = connection, kind
        self._timeout_ms = max(1, int(timeout * 1000))
        self._ready: frozenset[tuple[str, Space]] = frozenset()

    def ensure(self, tag: str, space: Space) -> None:
        """Make the index of a space unless it is there; once for each space and process.

        One of another schema under its name, which nobody should have made, is made anew; records
        stay. Many may do this at once.
        """
        if (tag, space) not in self._ready:
            schema = self._schema(tag, space)
            self._connection.at(tag, lambda server: _make(server, schema))
            self._ready |= {(tag, space)}

    def search(self, tag: str, space: Space, scope: str, vector: bytes, k: int) -> Command:
        """Return the command that finds the k nearest of a scope.

        One that has just expired may come as a name without fields: a filter on the end of life
        would keep it away, and take as long again as the search itself where entries are many.
        """
        given = ("PARAMS", 4, "vector", vector, "scope", scope)
        # The server gives up when we do: else it would go on searching for nobody.
        return (*_search(tag, space, self._kind, k), *given, "TIMEOUT", self._timeout_ms)

    def forget(self) -> None:
        """Look again whether indexes are there."""
        self._ready = frozenset()

    def drop_if_alone(self, tag: str, records: int) -> bool:
        """Drop HNSW indexes that hold at most so many records: those that are to be deleted.

        To take a record out of an HNSW graph blocks the server for 1 to 3 ms; without the graph it
        takes 5 us. The next search makes the index again. Returns whether no such index is left.
        """

        def work(server: redis.Redis) -> bool:
            left = False
            names = [str(bytes(name), "utf-8") for name in server.execute_command("FT._LIST")]
            for name in names:
                if name.startswith(self._connection.names.index(tag, "")) and name.endswith("hnsw"):
                    info = server.execute_command("FT.INFO", name)
                    if int(info[info.index(b"num_docs") + 1]) <= records:
                        server.execute_command("FT.DROPINDEX", name)
                    else:
                        left = True
            return not left

        gone = self._connection.at(tag, work)
        self.forget()
        return gone

    def _schema(self, tag: str, space: Space) -> Any:
        vector = {
            "algorithm": self._kind,
            "dims": space.dimension,
            "distance_metric": "cosine",
            "datatype": space.precision,
        }
        index = {
            "name": _name(tag, space, self._kind),
            "prefix": self._connection.names.records(tag),
            "storage_type": "hash",
        }
        fields = [
            {"name": space.scope_field, "type": "tag", "attrs": {"case_sensitive": True}},
            {"name": space.vector_field, "type": "vector", "attrs": vector},
        ]
        return IndexSchema.from_dict({"index": index, "fields": fields})


def _name(tag: str, space: Space, kind: IndexKind) -> str:
    return Names.index(tag, f"{space.vector_field}:{kind}")


@lru_cache
def _search(tag: str, space: Space, kind: IndexKind, k: int) -> tuple[Any, ...]:
    """Return the command but for what is sought: built once, as RedisVL takes 0.06 ms for it."""
    query = VectorQuery(
        vector=b"",
        vector_field_name=space.vector_field,
        return_fields=["b", "e"],
        filter_expression=f"@{space.scope_field}:{{$scope}}",
        num_results=k,
        dtype=space.precision,
    )
    return "FT.SEARCH", _name(tag, space, kind), *query.get_args()


def _make(server: redis.Redis, schema: Any) -> None:
    """Make an index, or accept the one that is there if it is the same."""
    index = SearchIndex(schema, redis_client=server)
    name = schema.index.name
    try:
        there = _comparable(SearchIndex.from_existing(name, redis_client=server).schema)
    except RedisVLError as error:
        if not isinstance(store_error(error), IndexMissing):
            raise
    else:
        if there == _comparable(schema):
            return
        logger.warning("the index %s has another schema than ours and is made anew", name)
        index.delete(drop=False)
    try:
        index.create()
    except RedisVLError as error:
        if "already exists" not in str(error).lower():  # else another process was first
            raise


def _comparable(schema: Any) -> dict[str, Any]:
    found: dict[str, Any] = schema.to_dict()
    found["fields"] = sorted(found["fields"], key=lambda field: str(field["name"]))
    return found


def rows(reply: Any) -> Iterator[SearchRow]:
    """Read the reply of ``search``. What is odd in it is left out."""
    if not isinstance(reply, list):
        return
    for name, pairs in zip(reply[1::2], reply[2::2], strict=False):
        fields = fields_read(pairs or ())
        try:
            distance = float(fields.get(DISTANCE, b"nan"))
        except ValueError:
            continue
        yield SearchRow(name, distance, fields)


# A record as the fields of a hash.
#
# b  the encoded record                     i  what selectors ask, as JSON e  the epochs it was
# stored under f… or h…  the vector, float32 or float16  s…  the scope, for the index  only with a
# vector


BODY, ABOUT, STAMPS = b"b", b"i", b"e"
SCOPE_DIGITS = 32
DTYPES: Mapping[Precision, str] = {"float32": "<f4", "float16": "<f2"}

_VECTOR = re.compile(rb"[fh][0-9a-f]{12}")
_VECTOR_LENGTH = 13
_DIGEST = re.compile(r"[0-9a-f]{64}")


def fields_of(record: Record, codec: Codec) -> list[Any]:
    """Return names and values of the fields that every record has."""
    about = (record.namespace, record.model, record.scope, record.created, record.expires)
    return [BODY, codec.encode(record), ABOUT, json.dumps([*about, record.tags])]


def indexed_fields(record: Record, vector: Vector, space: Space) -> list[Any]:
    """Return names and values of the fields that the index reads; none for what is no direction.

    The distance of such a vector to anything would be no number.
    """
    import numpy as np

    if not (np.isfinite(vector).all() and vector.any()):
        return []
    return [
        *(space.vector_field, vector_bytes(vector, space.precision)),
        *(space.scope_field, scope_text(record.scope)),
    ]


def vector_bytes(vector: Vector, precision: Precision) -> bytes:
    """Return a vector as the index compares it."""
    import numpy as np

    return np.asarray(vector, DTYPES[precision]).tobytes()


def scope_text(scope: str) -> str:
    """Return a scope as the index holds it: 128 bits in hex digits, which need no escapes."""
    digest = scope if _DIGEST.fullmatch(scope) else sha256(encoded(scope)).hexdigest()
    return digest[-SCOPE_DIGITS:]  # the first ones are the namespace's


def record_of(fields: Mapping[bytes, bytes], codec: Codec) -> Record | None:
    """Return the record of these fields, with its vector if that is among them, None if odd."""
    try:
        for name, data in fields.items():
            if len(name) == _VECTOR_LENGTH and _VECTOR.fullmatch(name):
                import numpy as np

                kind = DTYPES["float32" if name.startswith(b"f") else "float16"]
                vector = np.frombuffer(data, kind).astype(np.float32)
                return codec.decode(fields[BODY], vector)
        return codec.decode(fields[BODY])
    except (UndecodableError, ValueError, KeyError):
        return None


def outline(name: bytes, about: bytes | None) -> Record | None:
    """Return what selectors ask of a record: all but its question and answer. None if odd."""
    try:
        namespace, model, scope, created, expires, tags = json.loads(about or b"")
    except (ValueError, TypeError):
        return None
    return Record(
        *(key_of(name), scope, namespace, None, Answer("")),
        model=model,
        tags=tuple(tags),
        created=created,
        expires=expires,
    )


# What must happen in the server at once, in Lua; each runs on any replica of one hash slot.


PUT = RedisScript("""
-- KEYS: record, bumps, epochs... ARGV: life in ms or '', a new number, fields and values...
local fields = {unpack(ARGV, 3)}
local stamps = {}
for i = 3, #KEYS do
    redis.call('SET', KEYS[i], ARGV[2], 'NX')
    stamps[i - 2] = redis.call('GET', KEYS[i])
end
if #stamps > 0 then
    redis.call('SET', KEYS[2], ARGV[2], 'NX')
    fields[#fields + 1] = 'e'
    fields[#fields + 1] = table.concat(stamps, ',')
end
local old = redis.pcall('HKEYS', KEYS[1])
if old.err then  -- no hash
    redis.call('UNLINK', KEYS[1])
    old = {}
end
-- First what a full server refuses: then nothing has changed.
redis.call('HSET', KEYS[1], unpack(fields))
local kept = {}
for i = 1, #fields, 2 do kept[fields[i]] = true end
for _, field in ipairs(old) do
    if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
""")
"""Store a record stamped with the epochs of its tags, replacing the one that is there."""

SET_ALL = RedisScript("""
-- KEYS: values. ARGV: life in ms or '', contents...
for i, key in ipairs(KEYS) do
    if ARGV[1] == '' then redis.call('SET', key, ARGV[i + 1])
    else redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
end
""")
"""Store all or, where a full server refuses, none: the server decides when a script starts."""

INCREMENT = RedisScript("""
-- KEYS: counters..., bumps. ARGV: amount and start ('' for 0) of each..., a new number or ''
local n = #KEYS - 1
for i = 1, n do
    local value = redis.pcall('GET', KEYS[i])
    if type(value) == 'table'
    or (value and (#value > 18 or not string.match(value, '^-?%d+$'))) then
        return redis.error_reply('NOTANINTEGER ' .. i)
    end
end
local sums = {}
for i = 1, n do
    if ARGV[2 * i] ~= '' then redis.call('SET', KEYS[i], ARGV[2 * i], 'NX') end
    redis.call('INCRBY', KEYS[i], ARGV[2 * i - 1])
    sums[i] = redis.call('GET', KEYS[i])  -- as text: a number of Lua's would be rounded
end
if ARGV[#ARGV] ~= '' then redis.call('SET', KEYS[#KEYS], ARGV[#ARGV]) end
return sums
""")
"""Add to all counters or to none; a new epoch starts at its own number."""

PUSH = RedisScript("""
-- KEYS: labels, number of the last. ARGV: most that are kept, labels...
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('SET', KEYS[2], redis.call('LLEN', KEYS[1]))
end
redis.call('INCRBY', KEYS[2], #ARGV - 1)
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
""")
"""Append labels, number them, and drop the oldest."""

PULL = RedisScript("""
-- KEYS: labels, number of the last. ARGV: the last number known
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local new = last - tonumber(ARGV[1])
if new <= 0 then return {last, {}} end
return {last, redis.call('LRANGE', KEYS[1], -new, -1)}
""")
"""Return the number of the last label, and the labels that are new."""

BURY = RedisScript("""
-- KEYS: records... ARGV: for each a field and the value that it had when the record was found dead
local gone = 0
for i = 1, #KEYS do
    local now = redis.pcall('HGET', KEYS[i], ARGV[2 * i - 1])
    if type(now) == 'table' or now == ARGV[2 * i] or (not now and ARGV[2 * i] == '') then
        gone = gone + redis.call('UNLINK', KEYS[i])
    end
end
return gone
""")
"""Delete records that were found dead, unless they were stored anew meanwhile."""
