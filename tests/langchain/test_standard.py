"""LangChain's own cache suites, unmodified, on both embedded stores, with and without meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import BaseCache
from langchain_tests.integration_tests.cache import AsyncCacheTestSuite, SyncCacheTestSuite

from langchain_tiered_cache import TieredCache
from tests.fakes import fake_embed


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/answers.db"


@pytest.fixture(params=[{"semantic": False}, {"embedder": fake_embed, "threshold": 0.8}])
def opened(url: str, request: pytest.FixtureRequest) -> Iterator[TieredCache]:
    options: dict[str, Any] = request.param
    cache = TieredCache(url, **options)
    yield cache
    cache.close()


class TestBlocking(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, opened: TieredCache) -> BaseCache:
        return opened


class TestAwaited(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, opened: TieredCache) -> BaseCache:
        return opened
