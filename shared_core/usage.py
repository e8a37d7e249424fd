"""Read the token counts of all providers under neutral names, price them, and add up savings.

Neutral: ``input_tokens`` (the whole prompt), of which ``cached_tokens`` were read out of the
provider's own prompt cache and ``cache_write_tokens`` written into it; ``output_tokens``, of which
``reasoning_tokens``; ``total_tokens``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_INPUT = (
    "prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount", "inputTokens",
    "prompt_eval_count",
)  # fmt: skip
_OUTPUT = (
    "completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount",
    "outputTokens", "eval_count",
)  # fmt: skip
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount", "totalTokens")
_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
"""Gemini counts them beside its output."""

_REASONING = ("reasoning_tokens", "reasoning", *_THOUGHTS)

_READ_BESIDE = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN_BESIDE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
"""Anthropic and Bedrock, in this order, count these beside their input tokens, not among them."""

_BESIDE_WHAT = ("input_tokens", "inputTokens")

_READ = (
    "cache_read",  # LangChain
    "cached_tokens",  # OpenAI, Mistral, and our own
    *_READ_BESIDE,
    "cached_content_token_count",  # Gemini, its SDK
    "cachedContentTokenCount",  # Gemini, as sent
    "prompt_cache_hit_tokens",  # DeepSeek
)
_WRITTEN = (
    "cache_creation",  # LangChain
    "cache_write_tokens",  # OpenAI from gpt-5.6 on, and our own
    *_WRITTEN_BESIDE,
)
_BY_LIFETIME = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Anthropic's counts of what was written for five minutes and for an hour."""

_HOLDERS = ("usage", "usage_metadata", "usageMetadata", "token_usage")
_INPUT_DETAILS = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = (
    "output_token_details", "completion_tokens_details", "output_tokens_details",
)  # fmt: skip

COUNTS = frozenset({*_INPUT, *_OUTPUT, *_TOTAL, *_READ, *_WRITTEN, *_THOUGHTS})
HOLDERS = frozenset({*_HOLDERS, *_INPUT_DETAILS, *_OUTPUT_DETAILS})
"""Names of counts, and of what holds them."""


@dataclass(frozen=True, slots=True)
class CachedTokens:
    """Prompt tokens ``read`` out of the provider's cache, and ``written`` into it."""

    read: int = 0
    written: int = 0


def cached_tokens(usage: Any) -> CachedTokens:
    """Read what a provider's prompt cache had in a usage, or in a response or message with one.

    Mappings and objects, of OpenAI, Anthropic, Gemini, Bedrock, DeepSeek, LangChain and LlamaIndex.
    Zero for what is not given.

    >>> usage = {"prompt_tokens": 900, "prompt_tokens_details": {"cached_tokens": 800}}
    >>> cached_tokens(usage).read
    800
    """
    return _cached(list(_places(usage, (*_HOLDERS, "response_metadata", *_INPUT_DETAILS), 3)))


def tokens_of(*sources: Any) -> dict[str, int] | None:
    """Return the neutral counts of a call, None if no source tells any.

    A source is a usage, or a response or message that holds one, of whoever ``cached_tokens``
    reads. The first that tells of a provider's prompt cache goes before those that do not.
    """
    found: dict[str, int] | None = None
    for source in sources:
        for place in _places(source, _HOLDERS, 1):
            counted = _neutral(place)
            if "cached_tokens" in counted or "cache_write_tokens" in counted:
                return counted
            found = found or counted or None
    return found


def _neutral(usage: Any) -> dict[str, int]:
    """Return what one usage tells. No count of what a cache had is without one of the input."""
    named = ((name, _count(usage, (name,))) for name in _INPUT)
    name, asked = next(((name, n) for name, n in named if n is not None), ("", None))
    answered, total = _count(usage, _OUTPUT), _count(usage, _TOTAL)
    if answered is not None:
        answered += _count(usage, _THOUGHTS) or 0
    cached = CachedTokens()
    if asked is not None:
        cached = _cached(list(_places(usage, _INPUT_DETAILS, 1)))
        beside = (_count(usage, _READ_BESIDE) or 0) + (_count(usage, _WRITTEN_BESIDE) or 0)
        if beside and (name in _BESIDE_WHAT or (total or 0) >= asked + (answered or 0) + beside):
            asked += beside
            total = None if total is None else asked + (answered or 0)
    reasoning = [_count(place, _REASONING) for place in _places(usage, _OUTPUT_DETAILS, 1)]
    counts = {
        "input_tokens": asked,
        "output_tokens": answered,
        "total_tokens": total,
        "cached_tokens": cached.read or None,
        "cache_write_tokens": cached.written or None,
        "reasoning_tokens": next(filter(None, reasoning), None),
    }
    known = {name: count for name, count in counts.items() if count is not None}
    return known if known.keys() - {"reasoning_tokens"} else {}


def _cached(places: list[Any]) -> CachedTokens:
    written = _first(places, _WRITTEN)
    if not written:
        written = sum(_first(places, (name,)) for name in _BY_LIFETIME)
    return CachedTokens(_first(places, _READ), written)


def _places(source: Any, within: tuple[str, ...], depth: int) -> Iterator[Any]:
    if source is None:
        return
    yield source
    for name in within if depth else ():
        yield from _places(_get(source, name), within, depth - 1)


def _first(places: list[Any], names: tuple[str, ...]) -> int:
    """Return the first count above zero: frameworks tell one count in several places."""
    counts = (_count(place, (name,)) for place in places for name in names)
    return next((n for n in counts if n), 0)


def _count(source: Any, names: tuple[str, ...]) -> int | None:
    counts = (_get(source, name) for name in names)
    return next(
        (n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None
    )


def _get(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return None if isinstance(source, (str, type)) else getattr(source, name, None)


# Tokens to money, by own prices or the price list of genai-prices.


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

    >>> Price(input=0.5, output=1.5, cache_read=0.05).output
    1.5
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


# What hits saved, as flat counts that a store can add up: by model and price tier.
#
# a hit's usage -> ``KIND[@START]:MODEL``, where the tier begins above START tokens -> tokens,
#     dollars


CALLS = "calls"


def saved_by(usage: object, model: str) -> dict[str, int]:
    """Return what to count of a hit, by the usage of the call that made its answer."""
    given = usage if isinstance(usage, Mapping) else {}  # an app's own may be anything
    counts: dict[str, int] = {}
    for name in PRICED:  # every hit comes here: no comprehension, which is a call of its own
        n = given.get(name)
        if isinstance(n, int) and n > 0:
            counts[name] = n
    if not counts:
        return {}
    start = tier_start(counts.get("input_tokens", 0))
    end = f"@{start}:{model}" if start else f":{model}"
    found = {f"{CALLS}{end}": 1}
    for name, n in counts.items():
        found[f"{name}{end}"] = n
    return found


def tokens_saved(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the tokens of input and output that the counted hits saved."""
    tokens: Counter[str] = Counter()
    for name, amount in counts.items():
        kind, _, _ = _parts(name)
        if kind in ("input_tokens", "output_tokens"):
            tokens[kind] += amount
    return dict(tokens)


def money_saved(counts: Mapping[str, int]) -> float | None:
    """Return the US dollars that the counted hits saved, None if none of the models has a price."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for name, amount in counts.items():
        kind, tier, model = _parts(name)
        sums.setdefault((model, tier), {})[kind] = amount
    prices = [
        price_of_calls(model, usage, usage.pop(CALLS, 1)) for (model, _), usage in sums.items()
    ]
    known = [dollars for dollars in prices if dollars is not None]
    return sum(known) if known else None


def dollars_by_model(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the US dollars of counted calls by model; models without a price are left out."""
    by_model: dict[str, dict[str, int]] = {}
    for name, amount in counts.items():
        by_model.setdefault(_parts(name)[2], {})[name] = amount
    dollars = {model: money_saved(own) for model, own in by_model.items()}
    return {model: amount for model, amount in dollars.items() if amount is not None}


def _parts(name: str) -> tuple[str, str, str]:
    """Return kind, tier and model of a count; a model's name may hold any sign."""
    kind, _, model = name.partition(":")
    kind, _, tier = kind.partition("@")
    return kind, tier, model
