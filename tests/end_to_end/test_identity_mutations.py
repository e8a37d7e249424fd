"""Random mutations of each kind of identity: pairs, of which no two that differ share an answer.

    IDENTITY_MUTATIONS=2000 pytest tests/end_to_end/test_identity_mutations.py -m slow

What the pairs mean is known by rules of this test's own, so that a pair of equal ones must share.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from llama_index.core.base.llms.types import ChatMessage

from langchain_tiered_cache import TieredCache, parse
from llamaindex_tiered_cache.request import chat_request
from shared_core import Request, ResponseCache
from shared_core.decorator import cached
from shared_core.openai_format import Endpoint, request_of
from tests.langchain.chat_models import openai_string, prompt_of
from tests.langchain.test_identity import hiding
from tests.langchain.test_tools import Bench, made
from tests.llamaindex.fakes import FakeLLM

pytestmark = pytest.mark.slow

mutated = settings(
    max_examples=int(os.environ.get("IDENTITY_MUTATIONS", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

atoms = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "b"])
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)


def meaning(value: Any) -> str:
    """Spell a value by its types, too: True is not 1."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{meaning(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(meaning, value)) + "]"
    return f"{type(value).__name__} {value!r}"


HARMLESS = ("user-agent", "Accept-Language", "x-request-id", "TRACEPARENT", "x-stainless-lang")
names = st.sampled_from(["x-a", "X-A", "x-b", "Authorization", "cookie", *HARMLESS])
headers = st.dictionaries(names, st.sampled_from(["", "a", "b"]), max_size=4)


def sent(given: dict[str, str]) -> str:
    merged: dict[str, list[str]] = {}
    for name, value in given.items():
        if name not in HARMLESS:
            merged.setdefault(name.lower(), []).append(value)
    return repr(sorted(merged.items()))


def by_client(given: dict[str, str]) -> str:
    asked = [{"role": "user", "content": "q"}]
    return request_of(Endpoint("openai", "https://x", {}, given), asked, {"model": "m"}).scope


def by_call(given: dict[str, str]) -> str:
    asked = [{"role": "user", "content": "q"}]
    arguments = {"model": "m", "extra_headers": given}
    return request_of(Endpoint("openai", "https://x", {}), asked, arguments).scope


def by_langchain(given: dict[str, str]) -> str:
    return parse("q", openai_string(default_headers=given) if given else openai_string()).scope


def by_llamaindex(given: dict[str, str]) -> str:
    call = {"extra_headers": given} if given else {}
    return chat_request(FakeLLM(), [ChatMessage("q")], call).scope


@pytest.mark.parametrize("way", [by_client, by_call, by_langchain, by_llamaindex])
@mutated
@given(headers, headers)
def test_headers(
    way: Callable[[dict[str, str]], str], one: dict[str, str], other: dict[str, str]
) -> None:
    assert (way(one) == way(other)) == (sent(one) == sent(other))


@mutated
@given(st.sampled_from(["excluded", "unprinted", "shown", "_private"]), values, values)
def test_hidden_settings(where: str, one: Any, other: Any) -> None:
    tiered = TieredCache(semantic=False)

    def answer(value: Any) -> str:
        options = {} if where == "_private" else {where: value}
        private = value if where == "_private" else None
        return str(hiding(private=private, cache=tiered, **options).invoke("q").text)

    assert (answer(one) == answer(other)) == (meaning(one) == meaning(other))
    tiered.close()


parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_generation_call", "refusal", "odd"])},
    optional={
        "text": st.sampled_from(["a", "b"]), "id": st.sampled_from(["1", "2"]),
        "index": st.integers(0, 1), "data": values,
    },
)  # fmt: skip


def part_meaning(part: dict[str, Any]) -> str:
    kept = {name: value for name, value in part.items() if value is not None}
    if kept["type"] == "text":
        kept.pop("index", None)
        if "text" in kept:
            kept.pop("id", None)
    return meaning(kept)


@mutated
@given(st.lists(parts, min_size=2, max_size=2), st.lists(parts, min_size=2, max_size=2))
def test_content(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    def scope(content: list[dict[str, Any]]) -> str:
        return Request.of("q", history=[{"role": "assistant", "content": content}]).scope

    same = [*map(part_meaning, one)] == [*map(part_meaning, other)]
    assert (scope(one) == scope(other)) == same


def holding(value: Any) -> Callable[..., str]:
    return lambda word: f"{word} {value}"


def with_default(value: Any) -> Callable[..., str]:
    def function(word: str, *, held: Any = value) -> str:
        return f"{word} {held}"

    return function


def partially(value: Any) -> Callable[..., str]:
    return functools.partial(lambda held, word: f"{word} {held}", value)


@pytest.mark.parametrize("make", [holding, with_default, partially])
@mutated
@given(values, values)
def test_decorated_functions(make: Callable[[Any], Any], one: Any, other: Any) -> None:
    memory = ResponseCache.open(semantic=False)
    functions = [cached(memory)(make(value)) for value in (one, other)]
    for function in functions:
        function(word="w")
    hits = functions[1].cache_info().hits
    assert bool(hits) == (meaning(one) == meaning(other))
    memory.close()


@mutated
@given(values, values)
def test_tools(one: Any, other: Any) -> None:
    bench = Bench(tools=["search"])
    for value in (one, other):
        bench.call(made(holding(value)), word="w")
    assert (bench.runs == 1) == (meaning(one) == meaning(other))
    bench.cache.close()


tenants = st.none() | st.sampled_from(["", "a", "b", "default", 7, True])


def tenant(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and value not in ("", True) else None


@mutated
@given(tenants, tenants, st.booleans())
def test_tenants(one: Any, other: Any, awaited: bool) -> None:
    tiered = TieredCache(semantic=False, namespace_from="metadata.user")
    model = hiding(cache=tiered)

    def answer(value: Any) -> str:
        config: Any = {"metadata": {"user": value}}
        if awaited:
            return str(asyncio.run(model.ainvoke("q", config=config)).text)
        return str(model.invoke("q", config=config).text)

    first, second = tenant(one), tenant(other)
    assert (answer(one) == answer(other)) == (first is not None and first == second)
    tiered.close()


@mutated
@given(values, values)
def test_values_of_the_wrong_type(one: Any, other: Any) -> None:
    first, second = (Request.of("q", params={"temperature": value}) for value in (one, other))
    assert (first.scope == second.scope) == (meaning(one) == meaning(other))
    for value, request in ((one, first), (other, second)):
        is_off = value is None or (isinstance(value, (int, float)) and value <= 0)
        assert (request.exact_only is None) == is_off


@mutated
@given(st.text("ab", max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=3))
def test_state_on_the_server(one: str, other: str, name: str) -> None:
    first, second = (
        parse(prompt_of(HumanMessage("q")), openai_string(f"[('previous_response_id', {id!r})]"))
        for id in (one, other)
    )
    assert (first.scope == second.scope) == (one == other)
    over = openai_string(f"[('conversation', {'c' + name!r})]")
    tiered = TieredCache(semantic=False)
    prompt = prompt_of(HumanMessage("q"))
    tiered.update(prompt, over, [ChatGeneration(message=AIMessage("x"))])
    assert tiered.lookup(prompt, over) is None
    tiered.close()
