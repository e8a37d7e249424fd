"""The report of the savings benchmark: what was served, what it cost, how much of it was wrong."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

from savings_replay import Result

from shared_core.stats import wilson

MODELS = ("gpt-4o-mini", "gpt-4o", "gemini-2.5-flash", "claude-sonnet-4-5")
STYLE = Path(__file__).parent.parent / "notebooks" / "plain.mplstyle"


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def wrong_of(one: Result) -> str:
    """Spell how many of the answers out of the cache were wrong, with a 95 % interval."""
    hits = one.hits.total()
    if not hits:
        return "no hits"
    low, high = wilson(one.wrong, hits)
    return f"{one.wrong} of {hits:,} hits ({100 * low:.2f} to {100 * high:.2f} %)"


def show(name: str, results: dict[str, Result]) -> None:
    """Print what was served, what it cost, and beside both how much of it was wrong."""
    print(f"\n## {name}\n")
    print(
        "| tiers | calls | exact | semantic | wrong, 95 % | wrong of semantic "
        "| input tokens, of a prompt cache | output | p50 | p90 | p99 ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for label, one in results.items():
        semantic = one.hits["semantic"]
        low, high = wilson(one.wrong, semantic)
        wrong = f"{one.wrong} of {semantic} ({100 * low:.1f} to {100 * high:.1f} %)"
        sums: Counter[str] = Counter()
        for usage in one.usages:
            sums.update(usage)
        times = " | ".join(f"{percentile(one.latencies, share):.1f}" for share in (50, 90, 99))
        print(
            f"| {label} | {len(one.usages):,} | {one.hits['exact'] / one.requests:.1%} "
            f"| {semantic / one.requests:.1%} | {wrong_of(one)} | {wrong if semantic else ''} "
            f"| {sums['input_tokens']:,}, {sums['cached_tokens']:,} "
            f"| {sums['output_tokens']:,} | {times} |"
        )
    requests = next(iter(results.values())).requests
    print(f"\nUS dollars per 1,000 requests, and what is saved ({requests:,} requests):\n")
    print("| tiers | " + " | ".join(MODELS) + " | wrong answers |")
    print("|---|" + "---|" * len(MODELS) + "---|")
    for label, one in results.items():
        cells = [f"{one.dollars(m) / requests * 1000:.3f} ({saved(results, label, m):.0%})"
                 for m in MODELS]  # fmt: skip
        print(f"| {label} | " + " | ".join(cells) + f" | {wrong_of(one)} |")


def saved(results: dict[str, Result], label: str, model: str) -> float:
    """Return the share of the money that a setting saves."""
    return 1 - results[label].dollars(model) / results["no cache"].dollars(model)


def draw(file: Path, everything: dict[str, dict[str, Result]]) -> None:
    """Draw the share of money saved by setting, one panel for each set."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.style.context(STYLE):
        figure, panels = plt.subplots(
            len(everything), 1, figsize=(10, 4.4 * len(everything)), squeeze=False
        )
        for axis, (name, results) in zip(panels[:, 0], everything.items(), strict=True):
            labels = [label for label in results if label != "no cache"]
            width = 0.8 / len(MODELS)
            for number, model in enumerate(MODELS):
                shares = [100 * saved(results, label, model) for label in labels]
                places = [place + number * width - 0.4 for place in range(len(labels))]
                bars = axis.bar(places, shares, width * 0.94, align="edge", label=model)
                axis.bar_label(bars, fmt="%.0f", fontsize=8, padding=1)
            axis.set_xticks(
                range(len(labels)), [_named(label, results[label]) for label in labels], fontsize=9
            )
            axis.set(ylabel="% of the money saved", ylim=(0, 100))
            axis.grid(axis="x", visible=False)
            axis.set_title(f"{name}, {next(iter(results.values())).requests:,} requests")
            axis.legend(loc="upper left", ncols=len(MODELS), fontsize=9)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=96)


def _named(label: str, one: Result) -> str:
    hits = one.hits.total()
    served = f"{hits / one.requests:.0%} from the cache" if hits else "no answers reused"
    wrong = f"\n{one.wrong} of {hits:,} wrong" if hits else ""
    return f"{label.replace(' + ', chr(10) + '+ ', 1)}\n{served}{wrong}"
