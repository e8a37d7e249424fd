"""Tokens as money, by the public price list of genai-prices."""

from __future__ import annotations

from collections.abc import Mapping


def price(model: str, usage: Mapping[str, int]) -> float | None:
    """Return what a call of a model costs, in US dollars; None if that is not known.

    ``usage`` counts ``input_tokens`` and ``output_tokens``. None, too, without genai-prices
    (``pip install 'tiered-llm-cache[cli]'``). No network is used: the price list is in the package.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    tokens = {name: usage.get(name, 0) for name in ("input_tokens", "output_tokens")}
    try:
        return float(calc_price(Usage(**tokens), model_ref=model).total_price)
    except LookupError:
        return None
