"""Token counts: every provider's own under neutral names, and by each adapter into the sums."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from shared_core import Answer, Request, ResponseCache
from shared_core.costs import Costs
from shared_core.usage import Price, tokens_of
from tests.openai_server import Server

PRICES = {"m": Price(1.0, 10.0, cache_read=0.1, cache_write=2.0)}
CACHED = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 600},
}
COST = (400 * 1.0 + 600 * 0.1 + 100 * 10.0) / 1e6
NEUTRAL = {
    "input_tokens": 1000,
    "output_tokens": 100,
    "total_tokens": 1100,
    "cached_tokens": 600,
}
WRITTEN = {**NEUTRAL, "cache_write_tokens": 300}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (CACHED, NEUTRAL),
        ({"usage": CACHED}, NEUTRAL),
        (NEUTRAL, NEUTRAL),
        (
            {  # the Responses API
                "input_tokens": 1000,
                "output_tokens": 100,
                "total_tokens": 1100,
                "input_tokens_details": {"cached_tokens": 600},
            },
            NEUTRAL,
        ),
        (
            {  # Anthropic
                "input_tokens": 100,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
                "output_tokens": 100,
            },
            {k: v for k, v in WRITTEN.items() if k != "total_tokens"},
        ),
        (
            {  # Bedrock
                "usage": {
                    "inputTokens": 100,
                    "cacheReadInputTokens": 600,
                    "cacheWriteInputTokens": 300,
                    "outputTokens": 100,
                    "totalTokens": 1100,
                }
            },
            WRITTEN,
        ),
        (
            {  # Bedrock's counts under OpenAI's names, as LlamaIndex tells them
                "prompt_tokens": 100,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
                "completion_tokens": 100,
                "total_tokens": 1100,
            },
            WRITTEN,
        ),
        (
            {  # a proxy that tells the counts of Anthropic twice, in OpenAI's way
                **CACHED,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
            },
            WRITTEN,
        ),
        (
            {  # Gemini
                "usageMetadata": {
                    "promptTokenCount": 1000,
                    "cachedContentTokenCount": 600,
                    "candidatesTokenCount": 80,
                    "thoughtsTokenCount": 20,
                    "totalTokenCount": 1100,
                }
            },
            {**NEUTRAL, "reasoning_tokens": 20},
        ),
        (
            {  # LangChain
                "input_tokens": 1000,
                "output_tokens": 100,
                "total_tokens": 1100,
                "input_token_details": {"cache_read": 600, "cache_creation": 300},
                "output_token_details": {"reasoning": 7},
            },
            {**WRITTEN, "reasoning_tokens": 7},
        ),
        ({"prompt_cache_hit_tokens": 600, "prompt_tokens": 1000}, {"input_tokens": 1000} | {
            "cached_tokens": 600
        }),
        ({"input_tokens": True, "output_tokens": "many"}, None),
        ({"cached_tokens": 5}, None),
        (None, None),
    ],
    ids=str,
)  # fmt: skip
def test_counts_of_every_provider_have_neutral_names(
    usage: Any, expected: dict[str, int] | None
) -> None:
    assert tokens_of(usage) == expected


def test_the_source_that_tells_of_a_prompt_cache_goes_first() -> None:
    plain = {"prompt_tokens": 100, "completion_tokens": 100}
    assert tokens_of(plain, CACHED) == NEUTRAL
    assert tokens_of(None, plain, {"usage": None}) == {"input_tokens": 100, "output_tokens": 100}


# ------------------------------------------------------------- from adapters into stats and costs

Ask = Callable[[str], object]


@pytest.fixture
def server() -> Server:
    server = Server()
    server.usage = CACHED
    return server


@pytest.fixture
def costs() -> Costs:
    return Costs(PRICES)


@pytest.fixture
def cache(costs: Costs) -> Iterator[ResponseCache]:
    with ResponseCache.open(semantic=False, hooks=[costs]) as opened:
        yield opened


def by_answer(server: Server, cache: ResponseCache) -> Ask:
    def ask(question: str) -> Answer:
        return cache.answer(
            Request.of(question, model="m"), lambda: Answer("a", usage=tokens_of(server.usage))
        )

    return ask


def by_aanswer(server: Server, cache: ResponseCache) -> Ask:
    async def model() -> Answer:
        return Answer("a", usage=tokens_of(server.usage))

    return lambda question: asyncio.run(cache.aanswer(Request.of(question, model="m"), model))


def by_client(server: Server, cache: ResponseCache) -> Ask:
    from shared_core.client import CachedClient

    costs = next(hook for hook in cache.options.hooks if isinstance(hook, Costs))
    client = CachedClient(cache, server.client(), server.async_client(), costs=costs)
    return lambda question: client.chat([{"role": "user", "content": question}], model="m")


def by_aclient(server: Server, cache: ResponseCache) -> Ask:
    from shared_core.client import CachedClient

    costs = next(hook for hook in cache.options.hooks if isinstance(hook, Costs))
    client = CachedClient(cache, async_client=server.async_client(), costs=costs)

    async def ask(question: str) -> object:
        return await client.achat([{"role": "user", "content": question}], model="m")

    return lambda question: asyncio.run(ask(question))


def by_stream(server: Server, cache: ResponseCache) -> Ask:
    from shared_core.client import CachedClient

    costs = next(hook for hook in cache.options.hooks if isinstance(hook, Costs))
    client = CachedClient(cache, server.client(), costs=costs)
    return lambda question: list(client.stream([{"role": "user", "content": question}], model="m"))


def by_langchain(server: Server, cache: ResponseCache) -> Ask:
    openai = pytest.importorskip("langchain_openai")
    from langchain_tiered_cache import TieredCache

    model = openai.ChatOpenAI(
        model="m",
        api_key="none",
        cache=TieredCache(cache=cache),
        http_client=httpx.Client(transport=httpx.MockTransport(server)),
    )
    ask: Ask = model.invoke
    return ask


def by_llamaindex(server: Server, cache: ResponseCache) -> Ask:
    openai = pytest.importorskip("llama_index.llms.openai")
    from llama_index.core.llms import ChatMessage

    from llamaindex_tiered_cache import cached_llm

    llm = openai.OpenAI(
        model="gpt-4o-mini",
        api_key="none",
        http_client=httpx.Client(transport=httpx.MockTransport(server)),
    )
    cached = cached_llm(llm, cache)
    return lambda question: cached.chat([ChatMessage(question)])


WAYS = [by_answer, by_aanswer, by_client, by_aclient, by_stream, by_langchain, by_llamaindex]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_providers_cache_had_is_counted_once_and_only_for_misses(
    way: Callable[[Server, ResponseCache], Ask], server: Server, cache: ResponseCache, costs: Costs
) -> None:
    costs._prices["gpt-4o-mini"] = PRICES["m"]
    ask = way(server, cache)
    for _ in range(3):
        ask("What is a fuse?")
    ask("What is a relay?")
    stats, total = cache.stats(), costs.account().total
    assert stats.errors == {}
    assert (stats.provider_cached_tokens, stats.provider_cache_write_tokens) == (1200, 0)
    assert (total.calls, total.hits) == (2, 2)
    assert total.spent == pytest.approx(2 * COST)
    assert costs.account().by_tier["prefix"].saved == pytest.approx(2 * 600 * 0.9 / 1e6)


def test_what_is_written_to_a_providers_cache_is_counted(
    cache: ResponseCache, costs: Costs
) -> None:
    cache.store(Request.of("q", model="m"), Answer("a", usage=WRITTEN))
    assert cache.stats().provider_cache_write_tokens == 300
    assert costs.account().total.spent == pytest.approx((100 + 60 + 600 + 1000) / 1e6)


@pytest.mark.parametrize("usage", [{"cached_tokens": "many"}, {"cached_tokens": None}, 7, None])
def test_senseless_counts_cost_no_answer(cache: ResponseCache, usage: Any) -> None:
    request = Request.of("q", model="m")
    cache.store(request, Answer("a", usage=usage))
    assert cache.stats().provider_cached_tokens == 0
    assert cache.lookup(request).answer.text == "a"  # type: ignore[union-attr]


def test_all_processes_counts_are_one_sum(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/answers.db"
    for question in "ab":
        with ResponseCache.open(url, semantic=False) as cache:
            cache.store(Request.of(question, model="m"), Answer("a", usage=NEUTRAL))
    with ResponseCache.open(url, semantic=False) as cache:
        assert cache.stats(all=True).provider_cached_tokens == 1200
