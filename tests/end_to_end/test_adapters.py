"""The four ways into a cache agree: LangChain, LlamaIndex, the client and the proxy."""

from __future__ import annotations

import pytest

from shared_core.testing import AdapterConformance, CompletionConformance, Way
from tests.end_to_end.ways_in import ClientDriver, LangChainDriver, LlamaIndexDriver, ProxyDriver
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS

Ways = tuple[Way, Way]


@pytest.fixture(
    params=[("call", "astream"), pytest.param(("acall", "stream"), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def ways(request: pytest.FixtureRequest) -> Ways:
    """Give half of the ways in: two by default, the others with all tests."""
    found: Ways = request.param
    return found


class TestLangChain(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> LangChainDriver:
        return LangChainDriver(ways)


class TestLlamaIndex(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> LlamaIndexDriver:
        return LlamaIndexDriver(ways)


class TestClient(AdapterConformance):
    @pytest.fixture
    def adapter(self, ways: Ways) -> ClientDriver:
        return ClientDriver(ways)


class TestProxy(AdapterConformance, CompletionConformance):
    @pytest.fixture
    def adapter(self) -> ProxyDriver:
        return ProxyDriver()
