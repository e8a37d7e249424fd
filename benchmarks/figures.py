"""Draw docs/figures/*.png of what lies in benchmarks/results: one figure for each result.

    python benchmarks/figures.py [NAME ...]

On white, so that they can be read on pages of any colour.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator
from rounds import RESULTS, load

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
OURS, OURS_LIBRARY = "#0b6e99", "#7fb8d0"
PEERS = {
    "langchain-redis RedisSemanticCache": "#c2410c",
    "langchain-redis RedisCache": "#c2410c",
    "RedisVL SemanticCache": "#7c5cbf",
    "GPTCache, sqlite and faiss": "#8a8a8a",
    "BetterDB SemanticCache": "#b59a00",
    "langchain-core InMemoryCache": "#5b8c5a",
    "langchain-community SQLiteCache": "#3f6b4f",
    "langgraph-checkpoint-redis middleware": "#a78bda",
    "vCache's algorithm": "#d1639b",
    "LiteLLM, redis-semantic": "#555555",
}
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
    rows = found["rows"] + larger()
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


LARGE = 100_000


def larger() -> list[dict[str, Any]]:
    """Return what embedded_sizes.py printed of searches in larger stores."""
    file, rows, name, count = RESULTS / "embedded_sizes.txt", [], "", 0
    for line in file.read_text().splitlines() if file.exists() else []:
        if title := re.match(r"(sqlite|memory), (\d+) entries in (\d+) scopes?", line):
            name = f"TieredCache, {title[1]}" + (f", {title[3]} scopes" if title[3] != "1" else "")
            count = int(title[2])
        elif count < LARGE:
            continue  # a quick run: its sizes are measured above, in LangChain
        elif taken := re.match(r" +nearest p10 +([\d.]+)", line):
            rows = [row for row in rows if (row["cache"], row["entries"]) != (name, count)]
            rows.append({"cache": name, "entries": count, "p10": 1000 * float(taken[1])})
    return rows


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
    names = list(dict.fromkeys(row["stream"] for row in found["rows"]))
    figure, panels = plt.subplots(
        1, len(names), figsize=(3.1 * len(names), 3.6), sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for axes, name in zip(panels[0], names, strict=True):
        axes.axhspan(0, 2, color="#e8f3e8", lw=0)
        for row in found["rows"]:
            if row["stream"] != name or row["system"] or not row["hits"]:
                continue
            label = f"{row['cache']}, {row['setting']}"
            axes.plot(
                100 * row["hits"] / row["requests"],
                100 * row["wrong"] / row["hits"],
                "o" if row["setting"] == "default" else "^",
                color=colour(row["cache"]),
                label=label.replace("TieredCache, memory", "TieredCache, Static"),
                ms=7,
            )
        axes.set_title(name)
        axes.set_yscale("symlog", linthresh=2)
        axes.set_yticks(
            [0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"]
        )
        axes.set_xlim(left=0)
        axes.set_xlabel("answered, %")
        axes.grid(alpha=0.25, lw=0.5)
    panels[0][0].set_ylabel("wrong, % of the answers")
    known: dict[str, Any] = {}
    for axes in panels[0]:
        known |= {line.get_label(): line for line in axes.get_lines()}
    figure.legend(
        known.values(), known.keys(), frameon=False, fontsize=8, loc="outside lower center", ncols=3
    )
    return figure


DRAWN = {
    "quality": quality,
    "tiers": tiers,
    "throughput": throughput,
    "entries": entries,
    "memory": memory,
    "startup": startup,
}


def main() -> None:
    mpl.use("Agg")
    mpl.rcParams.update(STYLE)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or DRAWN:
        found = load(name)
        if found is None:
            print(f"no results of benchmarks/{name}.py yet")
            continue
        figure = DRAWN[name](found)
        figure.savefig(FOLDER / f"{name}.png", dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    main()
