"""What hits saved, as flat counts that a store can add up: by model and price tier.

a hit's usage -> ``KIND[@START]:MODEL``, where the tier begins above START tokens -> tokens, dollars
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from shared_core.pricing import PRICED, price_of_calls, tier_start

CALLS = "calls"


def saved_by(usage: object, model: str) -> dict[str, int]:
    """Return what to count of a hit, by the usage of the call that made its answer."""
    told = usage if isinstance(usage, Mapping) else {}  # an app's own may be anything
    counts = {name: n for name in PRICED if isinstance(n := told.get(name), int) and n > 0}
    if not counts:
        return {}
    start = tier_start(counts.get("input_tokens", 0))
    tier = f"@{start}" if start else ""
    return {f"{name}{tier}:{model}": n for name, n in {**counts, CALLS: 1}.items()}


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


def _parts(name: str) -> tuple[str, str, str]:
    """Return kind, tier and model of a count; a model's name may hold any sign."""
    kind, _, model = name.partition(":")
    kind, _, tier = kind.partition("@")
    return kind, tier, model
