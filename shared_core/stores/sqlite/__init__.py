"""Records in an SQLite file."""

from shared_core.stores.sqlite.database import VERSION
from shared_core.stores.sqlite.store import SqliteStore
from shared_core.stores.sqlite.values import ReadOnlyFile

__all__ = [
    "VERSION",
    "ReadOnlyFile",
    "SqliteStore",
]
