"""Running servers for the tests: a fake upstream, and the service before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from tests.service.serving import served
from tests.service.upstream import Upstream

Serve = Callable[..., str]

FAST = "test_app.py"
"""Whose servers run by default, too; those of the others with all tests."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts two servers as slow."""
    for item in items:
        if "upstream" in getattr(item, "fixturenames", ()) and item.path.name != FAST:
            item.add_marker("slow")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Give a fake OpenAI-compatible API that runs; ``upstream.url`` ends in /v1."""
    fake = Upstream()
    with served(fake.app) as url:
        fake.url = f"{url}/v1"
        yield fake


@pytest.fixture
def serve(upstream: Upstream) -> Iterator[Serve]:
    """Give a function of settings that starts a server and returns its base URL.

    Unless told otherwise it has the exact tier alone, in memory, before ``upstream``. ``opened=``
    is an open ResponseCache to serve.
    """
    with ExitStack() as stack:

        def start(*, opened: Any = None, **settings: Any) -> str:
            known = {"upstream": upstream.url, "semantic": False, **settings}
            app = create_app(Settings(**known), cache=opened)
            return stack.enter_context(served(app))

        yield start
