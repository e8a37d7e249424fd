"""Tokens to money."""

from __future__ import annotations

import sys

import pytest

from shared_core import pricing


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
