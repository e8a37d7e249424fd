"""What all tests share: the real model, loaded once, and skips that CI counts as failures."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shared_core.embedding import Embedder

REQUIRE_ALL = os.environ.get("TIERED_CACHE_REQUIRE_ALL") == "1"


def pytest_configure() -> None:
    """Collect no garbage while the tests are imported: hardly any of it is garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of every later search for garbage."""
    import hypothesis  # noqa: F401 - it looks at its hooks' referrers, which are then not seen

    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With TIERED_CACHE_REQUIRE_ALL=1, a test that does not run is a test that fails."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and every test must run: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and every test must run"
    return report


@pytest.fixture(scope="session")
def model_embedder() -> Embedder:
    """Return the real all-MiniLM-L6-v2, run by whatever is installed."""
    pytest.importorskip("tokenizers")
    from shared_core.embedding.resolve import resolve_embedder

    embedder = resolve_embedder(None)
    embedder.embed(["is it there?"])
    return embedder


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """Return the URL of a Redis with the search module: REDIS_URL, else one started for the tests.

    Its data is the tests' to delete.
    """
    pytest.importorskip("redisvl", exc_type=ImportError)
    from tests.redis_server import RedisStack, why_not

    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with RedisStack() as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, of each kind in turn."""
    if request.param == "redis":
        found: str = request.getfixturevalue("redis_url")
        return found
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Return the URL of a Redis without any data."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server
