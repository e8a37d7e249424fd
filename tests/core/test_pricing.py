"""Tokens to money."""

from __future__ import annotations

import sys

import pytest

from shared_core import Answer, Request, ResponseCache
from shared_core import usage as pricing
from shared_core.costs import Costs


def test_a_known_model_has_a_price_in_proportion_to_its_tokens() -> None:
    pytest.importorskip("genai_prices")
    one = pricing.price("gpt-4o-mini", {"input_tokens": 1000, "output_tokens": 100})
    ten = pricing.price("gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 1000})
    assert one is not None
    assert ten == pytest.approx(10 * one)
    assert 0.00005 < one < 0.005


@pytest.mark.parametrize("model", ["no-such-model", ""])
def test_an_unknown_model_has_no_price(model: str) -> None:
    assert pricing.price(model, {"input_tokens": 1000}) is None


def test_without_the_price_list_nothing_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    pricing._price_list.cache_clear()
    try:
        assert pricing.price("gpt-4o-mini", {"input_tokens": 1000}) is None
    finally:
        pricing._price_list.cache_clear()


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("gpt-4o-mini", [10, 90_000, 150_000]),  # one price for all
        ("gemini-2.5-pro", [150_000, 150_000, 150_000]),  # 450,000 in all, each below the next tier
        ("gemini-2.5-pro", [100, 200_000, 200_001, 900_000]),
    ],
)
def test_stats_and_costs_price_what_hits_saved_alike(model: str, sizes: list[int]) -> None:
    pytest.importorskip("genai_prices")
    costs = Costs()
    cache = ResponseCache.open(semantic=False, hooks=[costs])
    for size in sizes:
        request = Request.of(f"question of {size}", model=model)
        usage = {"input_tokens": size, "output_tokens": 100, "cached_tokens": size // 2}
        cache.store(request, Answer("a", usage=usage))
        cache.lookup(request)
    expected = costs.account().by_tier["exact"].saved
    assert cache.stats().money_saved == pytest.approx(expected)
    assert cache.stats().tokens_saved == {
        "input_tokens": sum(sizes),
        "output_tokens": 100 * len(sizes),
    }


def test_every_tier_of_the_price_list_has_its_start_here() -> None:
    snapshot = pytest.importorskip("genai_prices.data_snapshot").get_snapshot()
    starts = set()
    for model in (model for provider in snapshot.providers for model in provider.models):
        lists = model.prices if isinstance(model.prices, list) else [model.prices]
        for prices in (getattr(one, "prices", one) for one in lists):
            for value in vars(prices).values():
                starts |= {tier.start for tier in getattr(value, "tiers", ())}
    assert starts
    assert starts <= set(pricing.TIER_STARTS)
