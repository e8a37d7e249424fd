"""Draw docs/figures/*.png of what lies in benchmarks/results: one figure for each result.

    python benchmarks/figures.py [NAME ...]

On white, so that they can be read on pages of any colour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator
from quality_report import averages, name_of, new_questions, saved, without_verifier
from rounds import load

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
OURS, OURS_LIBRARY, OTHER = "#0072b2", "#7fb8d0", "#8a8a8a"
PEERS = {
    "langchain-redis RedisSemanticCache": "#d55e00",
    "langchain-redis RedisCache": "#d55e00",
    "RedisVL SemanticCache": "#cc79a7",
    "GPTCache, sqlite and faiss": OTHER,
    "BetterDB SemanticCache": "#e69f00",
    "langchain-core InMemoryCache": "#009e73",
    "langchain-community SQLiteCache": "#00684c",
    "langgraph-checkpoint-redis middleware": "#b59a00",
    "vCache's algorithm": "#56b4e9",
    "LiteLLM, redis-semantic": "#444444",
}
"""Colours that people who see few of them tell apart (Okabe and Ito), and what lies between."""
RIGHT, WRONG = "#0072b2", "#d55e00"
STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


def colour(name: str) -> str:
    if name.startswith("TieredCache"):
        return OURS_LIBRARY if "sentence-transformers" in name else OURS
    return PEERS.get(name, "#8a8a8a")


def time_text(micro: float) -> str:
    if micro < 1000:
        return f"{micro:.0f} µs" if micro >= 10 else f"{micro:.1f} µs"
    return f"{micro / 1000:.1f} ms"


def bars(axes: Any, rows: list[tuple[str, float]], text: Callable[[float], str]) -> None:
    """Draw horizontal bars, the first on top, each with its value."""
    names = [name for name, _ in rows]
    values = [value for _, value in rows]
    drawn = axes.barh(range(len(rows)), values, color=[colour(name) for name in names], height=0.72)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.bar_label(drawn, [text(value) for value in values], padding=3, fontsize=8)
    axes.tick_params(axis="y", length=0)


def tiers(found: dict[str, Any]) -> Any:
    kinds = ["exact hit", "semantic hit", "semantic miss"]
    by = {
        kind: sorted(
            ((row["cache"], row["p10"]) for row in found["rows"] if row["tier"] == kind),
            key=lambda row: row[1],
        )
        for kind in kinds
    }
    heights = [len(by[kind]) for kind in kinds]
    figure, panels = plt.subplots(
        3, 1, figsize=(7.6, 6.4), sharex=True, height_ratios=heights, layout="constrained"
    )
    for axes, kind in zip(panels, kinds, strict=True):
        bars(axes, by[kind], time_text)
        axes.set_xscale("log")
        axes.set_title(kind)
    panels[-1].set_xlim(right=panels[-1].get_xlim()[1] * 3)
    ticks = {1: "1 µs", 10: "10 µs", 100: "100 µs", 1e3: "1 ms", 1e4: "10 ms", 1e5: "100 ms"}
    panels[-1].set_xticks(list(ticks), list(ticks.values()))
    panels[-1].set_xlabel("time of a lookup, p10, logarithmic; shorter is better")
    return figure


def throughput(found: dict[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    names = list(dict.fromkeys(row["cache"] for row in found["rows"]))
    names.sort(key=lambda name: (not name.startswith("TieredCache"), name))
    callers = sorted({row["callers"] for row in found["rows"]})
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        by = {row["callers"]: row for row in found["rows"] if row["cache"] == name}
        at = [i + (place - (len(names) - 1) / 2) * width for i in range(len(callers))]
        rates = [by[count]["rate"] for count in callers]
        spread = [[by[c]["rate"] - by[c]["least"] for c in callers]]
        spread.append([by[c]["most"] - by[c]["rate"] for c in callers])
        drawn = axes.bar(
            at, rates, width * 0.94, color=colour(name), label=name, yerr=spread,
            error_kw={"lw": 0.8, "ecolor": "#444444"},
        )  # fmt: skip
        axes.bar_label(drawn, [f"{rate:.0f}" for rate in rates], padding=2, fontsize=8)
    axes.set_xticks(range(len(callers)), [f"{c} caller{'s' * (c > 1)}" for c in callers])
    axes.set_ylabel("semantic hits a second")
    axes.set_title("throughput; lines are least and most of the rounds")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.3)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    return figure


def entries(found: dict[str, Any]) -> Any:
    figure, axes = plt.subplots(figsize=(7.6, 3.6), layout="constrained")
    rows = found["rows"]
    for name in dict.fromkeys(row["cache"] for row in rows):
        own = sorted((row["entries"], row["p10"] / 1000) for row in rows if row["cache"] == name)
        style = ":" if ", memory" in name else "--" if ", sqlite" in name else "-"
        axes.plot(*zip(*own, strict=True), style, marker="o", color=colour(name), label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=20))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("entries")
    axes.set_ylabel("p10, ms, without the embedding")
    axes.set_title("latency of a semantic lookup by entries")
    axes.grid(alpha=0.25, which="both", lw=0.5)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def scale(found: dict[str, Any]) -> Any:
    """Draw what an exact read, a search, a store and an entry cost as a store grows."""
    figure, panels = plt.subplots(1, 4, figsize=(11.2, 2.9), layout="constrained")
    kinds = {"memory": "#009e73", "sqlite": "#e69f00", "redis": OURS}
    for axes, (what, title, unit) in zip(panels, SCALED, strict=True):
        for kind, tint in kinds.items():
            rows = found["parts"].get(kind, {}).get("rows", [])
            if what == "bytes":
                lines = {"-": [(row["entries"], row["bytes"] / 1000) for row in rows]}
            else:
                parts = {"-": "p50", ":": "p99"}
                lines = {
                    style: [(row["entries"], row[what][part] / 1000) for row in rows]
                    for style, part in parts.items()
                }
            for style, line in lines.items():
                label = kind if style == "-" else None
                marker = "o" if style == "-" else None
                axes.plot(*zip(*line, strict=True), style, color=tint, marker=marker, label=label)
        axes.set_xscale("log")
        if what != "bytes":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks([10**n for n in range(3, 7)], ["1k", "10k", "100k", "1M"])
        axes.set_title(title)
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=0 if what == "bytes" else None)
        axes.grid(alpha=0.25, lw=0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    return figure


SCALED = (
    ("exact", "exact read", "ms: line p50, dots p99"),
    ("semantic", "search, 1,000 a scope", "ms"),
    ("store", "store", "ms"),
    ("bytes", "size", "kB an entry"),
)


def memory(found: dict[str, Any]) -> Any:
    figure, panels = plt.subplots(
        1, 2, figsize=(9.4, 2.6), layout="constrained", width_ratios=(1, 1)
    )
    redis = [(row["cache"], row["redis"] / 1000) for row in found["rows"] if row["redis"]]
    disk = [
        (row["cache"], (row["disk"] or row["process"]) / 1000)
        for row in found["rows"]
        if not row["redis"]
    ]
    shown = (("in Redis, index included", redis), ("in a process or a file", disk))
    for axes, (title, rows) in zip(panels, shown, strict=True):
        bars(axes, sorted(rows, key=lambda row: row[1]), lambda value: f"{value:.1f}")
        axes.set_title(title)
        axes.set_xlabel("kB per entry")
        axes.set_xlim(right=axes.get_xlim()[1] * 1.12)
    return figure


def startup(found: dict[str, Any]) -> Any:
    kinds = ["first exact hit", "first semantic hit"]
    by = {kind: [row for row in found["rows"] if row["until"] == kind] for kind in kinds}
    figure, panels = plt.subplots(
        2, 2, figsize=(9.0, 3.8), layout="constrained", sharex="col", sharey="row",
        height_ratios=[len(by[kind]) for kind in kinds],
    )  # fmt: skip
    for line, kind in zip(panels, kinds, strict=True):
        shown = (("cpu", "CPU seconds", "{:.1f}"), ("mb", "megabytes", "{:.0f}"))
        rows = sorted(by[kind], key=lambda row: row["cpu"])
        for axes, (name, title, form) in zip(line, shown, strict=True):
            bars(axes, [(row["cache"], row[name]) for row in rows], form.format)
            axes.set_title(f"start to {kind}, {title}")
    for line in panels[1:]:
        for axes in line:
            axes.set_xlim(right=axes.get_xlim()[1] * 1.1)
    panels[0][0].invert_yaxis()
    panels[1][0].invert_yaxis()
    return figure


def quality(found: dict[str, Any]) -> Any:
    """Draw how much each cache answers against how much of that is wrong, a panel a stream."""
    rows = [row for row in found["rows"] if not row["system"] and row["hits"]]
    names = list(dict.fromkeys(row["stream"] for row in rows))
    figure, panels = plt.subplots(
        2, (len(names) + 1) // 2, figsize=(9.6, 6.6), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    known: dict[str, Any] = {}
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, names, strict=False):
        axes.axhspan(0, 2, color="#e4eef5", lw=0)
        for row in (row for row in rows if row["stream"] == name):
            (line,) = axes.plot(
                100 * (row["hits"] - row["wrong"]) / row["requests"],
                100 * row["wrong"] / row["hits"],
                _marker(row),
                color=colour(row["cache"]),
                ms=7,
            )
            known[readable(name_of(row))] = line
        axes.set_title(name)
        axes.set_yscale("symlog", linthresh=2)
        axes.set_yticks(
            [0, 1, 2, 5, 10, 20, 50, 100], list(map(str, [0, 1, 2, 5, 10, 20, 50, 100]))
        )
        axes.set_xlim(left=0)
        axes.set_xlabel("answered rightly, %")
        axes.grid(alpha=0.25, lw=0.5)
    for line in panels:
        line[0].set_ylabel("wrong, % of the answers")
    figure.legend(
        known.values(), known.keys(), frameon=False, fontsize=8, loc="outside lower center", ncols=3
    )
    return figure


def _marker(row: dict[str, Any]) -> str:
    marks = {"default": "o", "anytime": "s", "verifier right in 99 %": "D", "memory": "X"}
    if row["setting"] == "best":
        return "^"
    return marks[row["cache"].removeprefix("TieredCache, ")] if "Tiered" in row["cache"] else "o"


def readable(name: str) -> str:
    """Return the name of a cache as a stranger reads it."""
    short = {
        "`": "",
        "TieredCache, default": "this library",
        "TieredCache, with": "this library with",
        "TieredCache, Static": "this library, fixed threshold",
        "TieredCache": "this library",
        ", exact only": "",
        ", redis-semantic": "",
        ", redis": ", Redis",
        ", sqlite and faiss": "",
        ", sqlite": ", SQLite",
        " RedisSemanticCache": "",
        " SemanticCache": "",
        "langgraph-checkpoint-redis middleware": "LangGraph's Redis middleware",
    }
    for old, new in short.items():
        name = name.replace(old, new)
    return name


def emphasise(axes: Any) -> None:
    """Print the names of ours in bold."""
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("this") else "normal")


def answers(found: dict[str, Any]) -> Any:
    """Draw what caches answer rightly and wrongly of 100 new questions, the mean of all streams."""

    def shown(setting: str, behind: bool) -> dict[str, tuple[float, float]]:
        def wanted(row: dict[str, Any]) -> bool:
            place = row["system"] if behind else new_questions(row)
            return bool(place and row["setting"] == setting)

        means = averages(found["rows"], wanted)
        return {readable(name).removesuffix(", best"): of for name, of in means.items()}

    panels = {
        "as it comes": shown("default", False),
        "at its best threshold": shown("best", False),
        "as it comes, behind a\nsystem prompt of 200 words": shown("default", True),
    }
    first = panels["as it comes"]
    names = [name for name, of in first.items() if sum(of) and "anytime" not in name]
    mine = [name for name in names if name.startswith("this")]
    names = mine + sorted(set(names) - set(mine), key=lambda name: first[name][1])
    figure, axes = plt.subplots(
        1, 3, figsize=(9.6, 0.34 * len(names) + 1.5), sharey=True, layout="constrained"
    )
    for one, (title, of) in zip(axes, panels.items(), strict=True):
        for at, name in enumerate(names):
            if name not in of:
                one.text(2, at, "no threshold to choose", va="center", fontsize=8, color="#666666")
                continue
            good, bad = (100 * share for share in of[name])
            one.barh(at, good, color=RIGHT, height=0.72)
            one.barh(at, bad, left=good, color=WRONG, height=0.72)
            one.text(good + bad + 1.5, at, f"{good:.0f} + {bad:.1f}", va="center", fontsize=8)
        one.set_title(title)
        one.set_xlim(0, 122)
        one.set_xticks([0, 25, 50, 75, 100])
        one.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    emphasise(axes[0])
    axes[1].set_xlabel("of 100 questions that were never asked in these words before")
    handles = [plt.Rectangle((0, 0), 1, 1, color=one) for one in (RIGHT, WRONG)]
    labels = ["answered rightly", "answered with another question's answer"]
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=2)
    return figure


def money(found: dict[str, Any]) -> Any:
    """Draw what caches save by the price of a wrong answer, on new questions."""
    means = averages(without_verifier(found["rows"]), new_questions)
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    prices = [10 ** (x / 40 - 3) for x in range(201)]
    for name, of in means.items():
        if not sum(of) or name.endswith(", best") or "anytime" in name:
            continue
        style = {"TieredCache, default": "-", "TieredCache, `Static`": ":"}.get(name, "--")
        mine = name.startswith("TieredCache")
        axes.plot(
            prices,
            [saved(of, price) for price in prices],
            style if mine else "-",
            color=colour(name) if mine else colour_of_peer(name),
            lw=2.4 if mine else 1.3,
            label=readable(name),
        )
    axes.axhline(0, color="#444444", lw=0.8)
    axes.set_xscale("log")
    ticks = {0.001: "0.1 cents", 0.01: "1 cent", 0.1: "10 cents", 1: "$1", 10: "$10", 100: "$100"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    top = max(saved(of, 0) for of in means.values())
    axes.set_ylim(-top, 1.05 * top)
    axes.set_xlim(0.001, 100)
    axes.set_xlabel("what a wrong answer costs you, logarithmic")
    axes.set_ylabel("dollars saved, less the cost of wrong answers")
    axes.set_title(
        "Which cache saves the most depends on what a wrong answer costs (a call: 1 cent)"
    )
    axes.grid(alpha=0.25, lw=0.5)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def colour_of_peer(name: str) -> str:
    return next((one for peer, one in PEERS.items() if name.startswith(peer)), OTHER)


def speed(found: dict[str, Any]) -> Any:
    """Draw how long a hit takes, ours beside others."""
    shown = {
        "exact hit": "the same request again",
        "semantic hit": "the same question in other words",
    }
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 2.9), layout="constrained")
    for axes, (tier, title) in zip(panels, shown.items(), strict=True):
        rows = [(row["cache"], row["p10"]) for row in found["rows"] if row["tier"] == tier]
        rows = [row for row in rows if row[0] not in HIDDEN[tier] and "floor" not in row[0]]
        rows.sort(key=lambda row: row[1])
        bars(axes, [(readable(name), value) for name, value in rows], time_text)
        for patch, (name, _) in zip(axes.patches, rows, strict=True):
            patch.set_color(OURS if name.startswith("TieredCache") else OTHER)
        emphasise(axes)
        axes.set_title(title)
        axes.set_xlim(right=axes.get_xlim()[1] * 1.15)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel("time of a lookup, 10th percentile", fontsize=8)
    return figure


HIDDEN = {
    "exact hit": {"TieredCache, redis", "TieredCache, redis, sentence-transformers"},
    "semantic hit": {"TieredCache, redis, sentence-transformers"},
}
"""Rows of ours that say nothing more to a stranger."""


DRAWN = {
    "quality": quality,
    "answers": answers,
    "money": money,
    "speed": speed,
    "tiers": tiers,
    "throughput": throughput,
    "entries": entries,
    "scale": scale,
    "memory": memory,
    "startup": startup,
}


SOURCES = {"answers": "quality", "money": "quality", "speed": "tiers"}
"""Figures of results that have another name."""


def main() -> None:
    mpl.use("Agg")
    mpl.rcParams.update(STYLE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or DRAWN:
        found = load(SOURCES.get(name, name))
        if found is None:
            print(f"no results of benchmarks/{name}.py yet")
            continue
        figure = DRAWN[name](found)
        figure.savefig(FOLDER / f"{name}.png", dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    main()
