"""Every call path of LlamaIndex: the second run calls no model and gives what the first gave."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache
from tests.llamaindex_cases import CASES, oracle
from tests.llamaindex_fakes import FakeLLM

pytestmark = [
    # LlamaIndex leaves event loops and databases of its own for the garbage collector to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Its workflows look at every attribute of an agent, deprecated ones of pydantic included.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect what is left before the tests of other modules run, which turn warnings to errors."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.parametrize("chat_model", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("name", CASES)
def test_a_second_run_calls_no_model_and_gives_the_same(name: str, chat_model: bool) -> None:
    bare = FakeLLM(oracle, chat_model=chat_model)
    expected = CASES[name](bare)
    inner = FakeLLM(oracle, chat_model=chat_model)
    with ResponseCache.open(semantic=False) as cache:
        llm = cached_llm(inner, cache)
        assert CASES[name](llm) == expected
        assert inner.calls == bare.calls
        assert CASES[name](llm) == expected
        assert inner.calls == bare.calls
        assert not cache.stats().errors
