"""Tokens to money, by own prices or the price list of genai-prices."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MILLION = 1_000_000
BYTES_PER_TOKEN = 4

PRICED = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")
"""What of a usage has a price. The tokens of a provider's prompt cache are input tokens too."""

TIER_STARTS = (
    32_000, 100_000, 128_000, 199_999, 200_000, 256_000, 272_000, 512_000, 524_288,
)  # fmt: skip
"""Above so many tokens of input some model of genai-prices costs more, for all tokens of a call."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; None: as much as other input.

    ``cache_read`` and ``cache_write`` are for tokens that a provider's prompt cache has, or takes
    in. Raises ValueError for a price below 0.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for price in (self.input, self.output, self.cache_read, self.cache_write):
            if price is not None and not price >= 0:
                raise ValueError(f"a price must be dollars per million tokens, not {price!r}")

    def of(self, usage: Mapping[str, float]) -> float:
        """Return what a usage costs in US dollars."""
        counted = _counted(usage)
        read, write = counted["cached_tokens"], counted["cache_write_tokens"]
        plain = counted["input_tokens"] - read - write
        dollars = plain * self.input + counted["output_tokens"] * self.output
        dollars += read * (self.input if self.cache_read is None else self.cache_read)
        dollars += write * (self.input if self.cache_write is None else self.cache_write)
        return dollars / MILLION


def price(
    model: str, usage: Mapping[str, float], prices: Mapping[str, Price] | None = None
) -> float | None:
    """Return what ``usage`` costs in US dollars; None if the model or genai-prices is not known.

    ``usage`` counts ``input_tokens`` and ``output_tokens``, and of the input what a provider's
    prompt cache had (``cached_tokens``) and took in (``cache_write_tokens``); whatever else it
    holds is left out. ``prices`` by model go before the list's. It is the usage of one call: some
    models cost more from some length on.
    """
    own = (prices or {}).get(model)
    if own is not None:
        return own.of(usage)
    listed = _price_list()
    if listed is None or not model:
        return None
    counts = _counted(usage)
    counts["cache_read_tokens"] = counts.pop("cached_tokens")
    counted = listed.Usage(**counts)
    try:
        return float(listed.calc_price(counted, model_ref=model).total_price)
    except LookupError:
        return None


def tier_start(input_tokens: float) -> int:
    """Return above how many tokens of input the price tier of a call begins, 0 for the lowest."""
    above = bisect_left(TIER_STARTS, input_tokens)
    return TIER_STARTS[above - 1] if above else 0


def price_of_calls(model: str, sums: Mapping[str, int], calls: int) -> float | None:
    """Return what calls of one price tier cost together, by the sums of their usages.

    They cost so many times what their mean costs, which is of that tier, too.
    """
    each = price(model, {name: amount / calls for name, amount in sums.items()})
    return None if each is None else each * calls


def _counted(usage: Mapping[str, float]) -> dict[str, float]:
    """Return what has a price. More cached tokens than input tokens would be a bug of others."""
    counted = {name: max(0, usage.get(name) or 0) for name in PRICED}
    room = counted["input_tokens"]
    for name in ("cached_tokens", "cache_write_tokens"):
        counted[name] = min(counted[name], room)
        room -= counted[name]
    return counted


def estimated_usage(asked: str, answered: str) -> dict[str, int]:
    """Return about how many tokens two texts have: one for every four bytes of UTF-8.

    That is the rule of thumb for English text; it says less of other languages and of code.
    """
    return {"input_tokens": _estimated(asked), "output_tokens": _estimated(answered)}


def _estimated(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


@lru_cache(maxsize=1)
def _price_list() -> Any:
    try:
        import genai_prices
    except ImportError:
        return None
    return genai_prices
