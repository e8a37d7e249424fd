"""An SQLite file of a test, and stores that are closed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared_core.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "answers.db")


@pytest.fixture
def open_at(path: str) -> Iterator[Callable[..., SqliteStore]]:
    opened: list[SqliteStore] = []

    def open_at(**options: Any) -> SqliteStore:
        opened.append(SqliteStore(path, **({"timeout": 5.0} | options)))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()
