"""Every call path of LlamaIndex: the second run calls no model and gives what the first gave."""

from __future__ import annotations

import pytest

from llamaindex_tiered_cache import cached_llm
from shared_core import ResponseCache
from tests.llamaindex.cases import CASES, oracle
from tests.llamaindex.fakes import FakeLLM
from tests.llamaindex.leftovers import MARKS, collected  # noqa: F401 - for every test here

pytestmark = MARKS


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
