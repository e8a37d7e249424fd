"""Vectors in Redis: an index for each embedder, made through RedisVL by whoever needs it first.

    FT.SEARCH @scope:{digest}=>[KNN k @vector $vector]    records in its reply

The scope is filtered inside the index, so that no other scope's neighbour takes a place. RedisVL
builds schema and query; redis-py runs the query, because RedisVL's own way decodes what comes back
as text, which breaks bytes that are none, and takes 0.04 ms longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import redis
from redisvl.exceptions import RedisVLError
from redisvl.index import SearchIndex
from redisvl.query import VectorQuery
from redisvl.schema import IndexSchema

from shared_core.stores.redis_connection import RedisConnection
from shared_core.stores.redis_exchange import Command, fields_read
from shared_core.stores.redis_failures import IndexMissing, store_error
from shared_core.stores.redis_names import signature

logger = logging.getLogger("tiered_cache")

IndexKind = Literal["flat", "hnsw"]
Precision = Literal["float32", "float16"]


DISTANCE = b"vector_distance"


@dataclass(frozen=True, slots=True)
class Space:
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


@dataclass(frozen=True, slots=True)
class Found:
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
        head = ("FT.SEARCH", self._name(tag, space), *_query(space, k))
        given = ("PARAMS", 4, "vector", vector, "scope", scope)
        # The server gives up when we do: else it would go on searching for nobody.
        return (*head, *given, "TIMEOUT", self._timeout_ms)

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

    def _name(self, tag: str, space: Space) -> str:
        return self._connection.names.index(tag, f"{space.vector_field}:{self._kind}")

    def _schema(self, tag: str, space: Space) -> Any:
        vector = {
            "algorithm": self._kind,
            "dims": space.dimension,
            "distance_metric": "cosine",
            "datatype": space.precision,
        }
        index = {
            "name": self._name(tag, space),
            "prefix": self._connection.names.records(tag),
            "storage_type": "hash",
        }
        fields = [
            {"name": space.scope_field, "type": "tag", "attrs": {"case_sensitive": True}},
            {"name": space.vector_field, "type": "vector", "attrs": vector},
        ]
        return IndexSchema.from_dict({"index": index, "fields": fields})


@lru_cache
def _query(space: Space, k: int) -> tuple[Any, ...]:
    """Return what follows the index's name: built once, as RedisVL takes 0.06 ms for it."""
    query = VectorQuery(
        vector=b"",
        vector_field_name=space.vector_field,
        return_fields=["b", "e"],
        filter_expression=f"@{space.scope_field}:{{$scope}}",
        num_results=k,
        dtype=space.precision,
    )
    return tuple(query.get_args())


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


def rows(reply: Any) -> Iterator[Found]:
    """Read the reply of ``search``. What is odd in it is left out."""
    if not isinstance(reply, list):
        return
    for name, pairs in zip(reply[1::2], reply[2::2], strict=False):
        fields = fields_read(pairs or ())
        try:
            distance = float(fields.get(DISTANCE, b"nan"))
        except ValueError:
            continue
        yield Found(name, distance, fields)
