"""What all tests share: the real model, loaded once, and skips that CI counts as failures."""

from __future__ import annotations

import gc
import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from shared_core.embedding import Embedder

REQUIRE_ALL = os.environ.get("TIERED_CACHE_REQUIRE_ALL") == "1"


PROCESSES = min(4, os.cpu_count() or 1)

RARE_OBJECTS = 50_000
"""New objects between two searches for garbage, which took a thirtieth of the time."""

IN_MEMORY, ROOM = Path("/dev/shm"), 1_000_000_000  # noqa: S108 - pytest's own folder lies there
"""Where Linux keeps files in memory, and how much must be free: a run of all writes 100 MB."""

LEFT_OUT = re.compile(r"^pytestmark = .*pytest\.mark\.(model|redis|slow|browser)\b", re.MULTILINE)
"""What a module says of which the default run takes no test."""


def _is_default(config: pytest.Config) -> bool:
    """Tell whether only what needs fakes alone is to run."""
    return config.option.markexpr in config.getini("addopts")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole default suite in several processes; name a folder or file, or -n 0, for one."""
    option = config.option
    if (
        "PYTEST_XDIST_WORKER" not in os.environ  # one of these processes starts no others
        and config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and _is_default(config)
        and PROCESSES > 1
        and getattr(option, "numprocesses", 0) is None  # pytest-xdist is there, and told nothing
        and not (option.usepdb or option.collectonly)
    ):
        option.numprocesses, option.dist = PROCESSES, "worksteal"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import what the default run leaves out as a whole."""
    is_module = collection_path.suffix == ".py" and _is_default(config)
    if is_module and LEFT_OUT.search(collection_path.read_text(encoding="utf-8")):
        return True
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Collect no garbage at imports, as hardly any of it is; keep files in memory if they fit.

    SQLite waits for the disk at each commit of a new file, which took a fifth of the default run.
    All other runs, CI's among them, write to the disk.
    """
    gc.disable()
    if _is_default(config) and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave nothing of a good run in memory; what failed can be looked at, as pytest has it."""
    is_first = "PYTEST_XDIST_WORKER" not in os.environ
    if is_first and exitstatus == 0 and os.environ.get("PYTEST_DEBUG_TEMPROOT") == str(IN_MEMORY):
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        shutil.rmtree(factory.getbasetemp(), ignore_errors=True)


def pytest_collection_finish() -> None:
    """Leave modules and collected tests out of every later search for garbage."""
    import hypothesis  # noqa: F401 - it looks at its hooks' referrers, which are then not seen

    gc.freeze()
    gc.set_threshold(RARE_OBJECTS, 20, 20)
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
