"""Tokens to money, by the price list of genai-prices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any


def price(model: str, usage: Mapping[str, int]) -> float | None:
    """Return what ``usage`` costs in US dollars; None if the model or genai-prices is not known.

    ``usage`` counts ``input_tokens`` and ``output_tokens``; whatever else it holds is left out.
    """
    listed = _price_list()
    if listed is None or not model:
        return None
    counted = listed.Usage(
        input_tokens=usage.get("input_tokens", 0), output_tokens=usage.get("output_tokens", 0)
    )
    try:
        return float(listed.calc_price(counted, model_ref=model).total_price)
    except LookupError:
        return None


@lru_cache(maxsize=1)
def _price_list() -> Any:
    try:
        import genai_prices
    except ImportError:
        return None
    return genai_prices
