"""Records in a Redis with search."""

from shared_core.stores.redis.address import RedisAddress, address_of, address_of_client
from shared_core.stores.redis.connection import RedisConnection, RedisScript, SearchMissing
from shared_core.stores.redis.store import RedisStore

__all__ = [
    "RedisAddress",
    "RedisConnection",
    "RedisScript",
    "RedisStore",
    "SearchMissing",
    "address_of",
    "address_of_client",
]
