"""Keep records and values in one SQLite file, which many threads and processes share."""

from shared_core.stores.sqlite.file import SCHEMA_VERSION, UnusableFile, bears_our_id
from shared_core.stores.sqlite.store import ReadOnlyFile, SqliteStore

__all__ = [
    "SCHEMA_VERSION",
    "ReadOnlyFile",
    "SqliteStore",
    "UnusableFile",
    "bears_our_id",
]
