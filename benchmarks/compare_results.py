"""Tell what became slower, faster, more often right or wrong since results that were kept.

    python benchmarks/compare_results.py OLD NEW [--times 1.15]

OLD and NEW are folders like benchmarks/results, or single files of it. A time is named only if it
differs by more than the factor ``--times``, since machines differ in their load; a share of answers
only if the 95 % intervals do not meet. Exit status 1 if something became worse.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared_core.stats import wilson

TIMED = {"tiers": ("cache", "tier"), "entries": ("cache", "entries"), "memory": ("cache",)}
FIGURES = {
    "tiers": ("p10", "cpu"),
    "entries": ("p10", "cpu"),
    "memory": ("redis", "process", "disk"),
}


def results(place: Path) -> dict[str, Any]:
    """Read what lies in a folder, or one file. Raises SystemExit if there is nothing."""
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    found = {file.stem: json.loads(file.read_text()) for file in files if file.exists()}
    if not found:
        raise SystemExit(f"no results in {place}: give a folder with files like tiers.json")
    return found


def timed(name: str, old: Any, new: Any, times: float) -> Iterator[tuple[bool, str]]:
    """Yield (worse, what) for every figure that differs by more than the factor."""

    def keyed(told: Any) -> dict[tuple[Any, ...], Any]:
        return {tuple(row[key] for key in TIMED[name]): row for row in told["rows"]}

    before, after = keyed(old), keyed(new)
    for key in before.keys() & after.keys():
        for figure in FIGURES[name]:
            was, now = before[key].get(figure), after[key].get(figure)
            if was and now and not 1 / times <= now / was <= times:
                what = ", ".join(map(str, key))
                yield now > was, f"{name}: {what}: {figure} {was} -> {now} ({now / was:.2f} x)"


def judged(old: Any, new: Any) -> Iterator[tuple[bool, str]]:
    """Yield (worse, what) for every share of wrong or of given answers that differs surely."""
    names = ("cache", "setting", "stream", "system")

    def keyed(told: Any) -> dict[tuple[Any, ...], Any]:
        return {tuple(row[key] for key in names): row for row in told["rows"]}

    before, after = keyed(old), keyed(new)
    for key in before.keys() & after.keys():
        for part, whole, more_is_worse in (("wrong", "hits", True), ("hits", "requests", False)):
            was, now = before[key], after[key]
            one, two = (wilson(row[part], row[whole]) for row in (was, now))
            if one[1] < two[0] or two[1] < one[0]:
                rose = two[0] > one[1]
                shares = " -> ".join(f"{row[part]}/{row[whole]}" for row in (was, now))
                what = ", ".join(str(part) for part in key[:3])
                yield rose is more_is_worse, f"quality: {what}: {part} of {whole} {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--times", type=float, default=1.15)
    given = parser.parse_args()
    old, new = results(given.old), results(given.new)
    told: list[tuple[bool, str]] = []
    for name in old.keys() & new.keys():
        if name in TIMED:
            told += timed(name, old[name], new[name], given.times)
        elif name == "quality":
            told += judged(old[name], new[name])
    for worse, what in sorted(told, reverse=True):
        print("worse " if worse else "better", what)
    if not told:
        print("nothing that is certain")
    raise SystemExit(any(worse for worse, _ in told))


if __name__ == "__main__":
    main()
