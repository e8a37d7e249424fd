"""Tell what became slower, faster, more often right or wrong since results that were kept.

    python benchmarks/compare_results.py [OLD [NEW]] [--times 1.15]

OLD and NEW are folders like benchmarks/results, single files of it, or the dated files in it, which
hold all tables of a day. Without them the newest results are compared with the dated file before.
A time is named only if it differs by more than the factor ``--times``, since machines differ in
their load; a share of answers only if the 95 % intervals do not meet. Exit status 1 if something of
ours became worse.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared_core.stats import wilson

RESULTS = Path(__file__).parent / "results"
DATED = re.compile(r"\d{4}-\d\d-\d\d")
TIMED = {
    "tiers": ("cache", "tier"),
    "throughput": ("cache", "callers"),
    "entries": ("cache", "entries"),
    "memory": ("cache",),
    "startup": ("cache", "until"),
}
FIGURES = {
    "tiers": ("p10", "cpu"),
    "throughput": ("rate",),
    "entries": ("p10", "cpu"),
    "memory": ("redis", "process", "disk"),
    "startup": ("cpu", "mb"),
}
MORE_IS_BETTER = {"rate"}

Told = tuple[bool, str]
"""States whether something became worse, and what."""


def results(place: Path) -> dict[str, Any]:
    """Read what lies in a folder, or one file. Raises SystemExit if there is nothing."""
    if place.is_dir():
        files = [file for file in sorted(place.glob("*.json")) if not DATED.fullmatch(file.stem)]
        found = {file.stem: json.loads(file.read_text()) for file in files}
    elif place.exists():
        read = json.loads(place.read_text())
        found = read if DATED.fullmatch(place.stem) else {place.stem: read}
    else:
        found = {}
    if not found:
        raise SystemExit(f"no results in {place}: give a folder with files like tiers.json")
    return found


def last(place: Path) -> Path:
    """Return the newest dated file that is older than the results. Raises SystemExit for none."""
    tables = results(place).values()
    date = max((one["conditions"]["date"] for one in tables if "conditions" in one), default="")
    dated = [file for file in place.glob("*.json") if DATED.fullmatch(file.stem)]
    before = [file for file in dated if file.stem < date]
    if not before:
        raise SystemExit(f"no dated results before {date or 'today'} in {place}")
    return max(before)


def keyed(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    return {tuple(row[name] for name in names): row for row in rows}


def timed(name: str, old: Any, new: Any, times: float) -> Iterator[Told]:
    """Yield (worse, what) for every figure that differs by more than the factor."""
    before, after = keyed(old["rows"], TIMED[name]), keyed(new["rows"], TIMED[name])
    for key in (key for key in before if key in after):
        for figure in FIGURES[name]:
            was, now = before[key].get(figure), after[key].get(figure)
            if was and now and was > 0 and now > 0 and not 1 / times <= now / was <= times:
                what = ", ".join(map(str, key))
                worse = (now > was) is (figure not in MORE_IS_BETTER)
                yield worse, f"{name}: {what}: {figure} {was} -> {now} ({now / was:.2f} x)"


def differs(was: tuple[int, int], now: tuple[int, int]) -> int:
    """Return 1 if a share (part, whole) surely rose, -1 if it surely fell, else 0."""
    one, two = wilson(*was), wilson(*now)
    return (two[0] > one[1]) - (two[1] < one[0])


def judged(old: Any, new: Any) -> Iterator[Told]:
    """Yield (worse, what) for every share of wrong or of given answers that differs surely."""
    names = ("cache", "setting", "stream", "system")
    before, after = keyed(old["rows"], names), keyed(new["rows"], names)
    for key in (key for key in before if key in after):
        for part, whole, more_is_worse in (("wrong", "hits", True), ("hits", "requests", False)):
            was, now = ((row[part], row[whole]) for row in (before[key], after[key]))
            if rose := differs(was, now):
                where = ", ".join(str(one) for one in key[:3]) + " behind a prompt" * key[3]
                shares = f"{was[0]}/{was[1]} -> {now[0]}/{now[1]}"
                yield (rose > 0) is more_is_worse, f"quality: {where}: {part} of {whole} {shares}"
    yield from traps(old.get("near", []), new.get("near", []))


def traps(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Told]:
    """Yield (worse, what) for every kind of near miss that is surely served more or less often."""
    before, after = keyed(old, ("cache",)), keyed(new, ("cache",))
    for key in (key for key in before if key in after):
        was, now = before[key]["served"], after[key]["served"]
        for kind in (kind for kind in was if kind in now):
            if rose := differs(tuple(was[kind]), tuple(now[kind])):
                shares = f"{was[kind][0]}/{was[kind][1]} -> {now[kind][0]}/{now[kind][1]}"
                worse = (rose > 0) is kind.startswith("trap")
                yield worse, f"near misses: {key[0]}: {kind} {shares}"


def shared(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Told]:
    """Yield (worse, what) for every pair of calls that a cache tells apart otherwise than before.

    Caches are matched without the numbers of their versions.
    """

    def plain(found: dict[str, Any]) -> dict[str, Any]:
        return {re.sub(r" \d[\w.]*", "", name): kinds for name, kinds in found.items()}

    before, after = plain(old["found"]), plain(new["found"])
    for cache in (cache for cache in before if cache in after):
        for kind, was in before[cache].items():
            now = after[cache].get(kind)
            if was != now and isinstance(was, bool) and isinstance(now, bool):
                yield (
                    now is (kind not in new["same"]),
                    f"identity: {cache}: {kind}: {'now' if now else 'no longer'} shared",
                )


def told(old: dict[str, Any], new: dict[str, Any], times: float) -> list[Told]:
    """Return all that changed, what became worse first."""
    found: list[Told] = []
    for name in (name for name in old if name in new):
        if name in TIMED:
            found += timed(name, old[name], new[name], times)
        elif name == "quality":
            found += judged(old[name], new[name])
        elif name == "identity":
            found += shared(old[name], new[name])
    return sorted(found, key=lambda one: (not one[0], one[1]))


def alarming(found: list[Told]) -> bool:
    """Tell whether something of ours became worse.

    >>> alarming([(True, "tiers: GPTCache, semantic hit: p10 1 -> 2 (2.00 x)")])
    False
    """
    return any(worse and ("TieredCache" in what or "ours" in what) for worse, what in found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, nargs="?")
    parser.add_argument("new", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--times", type=float, default=1.15)
    given = parser.parse_args()
    old = given.old or last(given.new)
    print(f"{old} -> {given.new}")
    found = told(results(old), results(given.new), given.times)
    for worse, what in found:
        print("worse " if worse else "better", what)
    if not found:
        print("nothing that is certain")
    raise SystemExit(alarming(found))


if __name__ == "__main__":
    main()
