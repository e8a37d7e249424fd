"""Keep records in a Redis with search: one hash for each record, one index for each space."""

from shared_core.stores.redis.address import RedisAddress, address_of, address_of_client
from shared_core.stores.redis.connection import RedisConnection, SearchMissing
from shared_core.stores.redis.store import RedisStore

__all__ = [
    "RedisAddress",
    "RedisConnection",
    "RedisStore",
    "SearchMissing",
    "address_of",
    "address_of_client",
]
