"""Write benchmarks/RESULTS.md of what lies in benchmarks/results, and the README's numbers.

    PYTHONPATH=. python benchmarks/report.py [--call 0.01] [--wrong 0 0.1 1 10]

``--call`` and ``--wrong`` are dollars: of a call of the model, and of a wrong answer. All tables
are also written into one file with the date of the newest, which compare_results.py reads.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import quality_report
import readme_numbers
from quality_report import table
from rounds import RESULTS, load
from run import RUNS

FILE = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Written by `make compare` (`benchmarks/report.py`); do not edit. Every section names the command
that makes it alone. Look at the ratios: absolute times are those of one machine and its load.

"p10" is the time that one in ten calls stays under, "CPU" the mean CPU time of a call in its
process; brackets are 95 % bootstrap intervals over the rounds. Every cache answers at a cosine of
0.92 with all-MiniLM-L6-v2. RedisVL's and GPTCache's interfaces take the bare question and get it;
LangChain's caches are given LangChain's prompt: langchain-redis and BetterDB embed all of it, ours
the question alone.
"""


def section(title: str, found: dict[str, Any]) -> Iterator[str]:
    """Begin a section with how, when and where it was measured."""
    where = found["conditions"]
    peers: dict[str, str] = {}
    for told in found.get("peers", {}).values():
        peers |= told
    for row in found.get("rows", []):
        peers |= row.get("versions", {})
    versions = ", ".join(f"{name} {one}" for name, one in (where["versions"] | peers).items())
    yield f"## {title}"
    yield ""
    yield (
        f"`{where['command']}`, {where['date']}, {where['cpu']}, Python {where['python']}, "
        f"load average {where['load'][0]} before and {where['load'][1]} after."
    )
    yield f"{versions}."
    yield ""


def micro(value: float) -> str:
    """Return microseconds as people read them."""
    return f"{value:.0f} us" if value < 1000 else f"{value / 1000:.1f} ms"


def times(ratio: Sequence[float]) -> str:
    middle, low, high = ratio
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "**missed**"


def tiers(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Latency by tier", found)
    yield (
        f"{found['entries']} entries, {found['rounds']} rounds; each cache in a process of its "
        "own, asked in turn; exact hits go through all entries again and again. Served: right / "
        "another question's answer / nothing."
    )
    yield ""
    order = ("exact hit", "exact miss", "semantic hit", "semantic miss")
    rows = sorted(found["rows"], key=lambda row: (order.index(row["tier"]), row["p10"]))
    yield from table(
        ("", "cache", "asked with", "p10", "p50", "p99", "CPU", "served"),
        [
            (
                *(row["tier"], row["cache"], row["asked"]),
                *(micro(row[name]) for name in ("p10", "p50", "p99", "cpu")),
                f"{row['right']} / {row['wrong']} / {row['none']}",
            )
            for row in rows
        ],
    )
    yield "Stores, each after a miss of the same question:"
    yield ""
    puts = sorted(found.get("stores", []), key=lambda row: row["p10"])
    parts = ("p10", "p50", "p99", "cpu")
    yield from table(
        ("cache", "p10", "p50", "p99", "CPU"),
        [(row["cache"], *(micro(row[name]) for name in parts)) for row in puts],
    )


def throughput(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Throughput by callers", found)
    yield "Lookups a second by threads of one process, semantic hits; the middle of the rounds."
    yield ""
    yield from table(
        ("cache", "callers", "a second", "least and most", "CPU of a lookup"),
        [
            (
                *(row["cache"], row["callers"], row["rate"]),
                *(f"{row['least']} to {row['most']}", f"{row['cpu_ms']} ms"),
            )
            for row in sorted(found["rows"], key=lambda row: (row["callers"], -row["rate"]))
        ],
    )
    yield "64 lookups awaited together on one event loop:"
    yield ""
    yield from table(
        ("cache", "loop late by at most (middle round, worst round)", "all 64 take"),
        [
            (row["cache"], f"{row['late_ms']} ms, {row['worst_ms']} ms", f"{row['seconds']} s")
            for row in found["late"]
        ],
    )


def entries(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Latency by entries in one scope, Redis", found)
    yield "Made-up vectors: what the caches do themselves. Ratio of p10 to ours."
    yield ""
    yield from table(
        ("entries", "cache", "p10", "p50", "p99", "CPU", "ratio"),
        [
            (
                *(f"{row['entries']:,}", row["cache"]),
                *(micro(row[name]) for name in ("p10", "p50", "p99", "cpu")),
                times(row["ratio"]),
            )
            for row in found["rows"]
        ],
    )


def scale(found: dict[str, Any]) -> Iterator[str]:
    yield "## As a store grows"
    yield ""
    for part, told in found["parts"].items():
        where = told["conditions"]
        yield (
            f"{part}: `{where['command']}`, {where['date']}, {where['cpu']}, {where['seconds']} s, "
            f"load average {where['load'][0]} before and {where['load'][-1]} after."
        )
        yield ""
    yield (
        "No model and no LangChain: an exact read, four nearest neighbours in a scope drawn by "
        "chance, a put. Beside: p50 over that of a store of 10,000 entries, asked in turn."
    )
    yield ""
    head = ("", "entries", "scopes", "exact p50", "p99", "beside", "search p50", "p99", "beside")
    rows = []
    for part in ("memory", "sqlite", "redis", "scopes"):
        for row in found["parts"].get(part, {}).get("rows", []):
            cells = [part, f"{row['entries']:,}", f"{row['scopes']:,}"]
            for name in ("exact", "semantic"):
                own = row[name]
                share = own["p50"] / row["beside"][name]["p50"]
                cells += [micro(own["p50"]), micro(own["p99"]), f"{share:.2f}"]
            cells += [micro(row["store"]["p50"]), f"{row['bytes']:,}"]
            rows.append(cells)
    yield from table((*head, "store p50", "bytes an entry"), rows)
    for row in found["parts"].get("cluster", {}).get("rows", []):
        middle = row["turns"][len(row["turns"]) // 2]
        yield (
            f"- {row['name']}: entries {row['entries']}, {middle['per_s']:,} lookups a second by 8 "
            f"processes, {middle['server_us']} us of a server each; busy cores "
            f"{middle['server_cores']}"
        )
    yield ""


def scale_bars(found: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the bars of a million entries, where as many were measured."""
    for kind in ("sqlite", "redis", "scopes"):
        for row in found["parts"].get(kind, {}).get("rows", []):
            if row["entries"] < 1_000_000:
                continue
            what = f"{kind}, 1,000,000 entries in {row['scopes']:,} scopes:"
            for name, most in (("exact", 1.1), ("semantic", 1.2)):
                own = row[name]
                share = own["p50"] / row["beside"][name]["p50"]
                if kind == "sqlite":
                    met = own["p50"] < 2000 and own["p99"] < 20_000
                    told = f"{micro(own['p50'])}, {micro(own['p99'])}"
                    yield f"{what} {name} p50, p99", "2, 20 ms", told, None, verdict(met)
                elif kind == "redis" or name == "exact":
                    about = f"{what} {name} p50, share of that of 10,000"
                    bar, told = f"at most {most}", f"{share:.2f}"
                    yield about, bar, told, None, verdict(share <= most)


def memory(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Bytes per entry", found)
    lengths = found["lengths"]
    yield (
        f"{found['entries']} entries; prompts of {lengths['prompt']} characters, answers of "
        f"{lengths['answer']}, {lengths['generation']} as LangChain serialises them."
    )
    yield ""
    yield from table(
        ("cache", "in Redis", "in the process", "on the disk"),
        [
            (row["cache"], *(f"{row[name]:,}" if row[name] else None for name in kinds))
            for kinds in [("redis", "process", "disk")]
            for row in found["rows"]
        ],
    )


def startup(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Start-up", found)
    yield "A process from its start to its first hit, one answer stored, the model on the disk."
    yield ""
    yield from table(
        ("until", "cache", "CPU s", "beyond langchain-core", "MB", "loads"),
        [
            (
                *(row["until"], row["cache"], row["cpu"], row["beyond"], row["mb"]),
                ", ".join(row["heavy"]),
            )
            for row in found["rows"]
        ],
    )


def quality(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Right and wrong", found)
    dates = sorted({row["date"] for row in found["rows"]})
    yield f"Rows of {' and '.join(dates)}, each cache and stream by itself."
    yield ""
    yield "![Answered rightly, and wrong of the answers, by stream](../docs/figures/quality.png)"
    yield ""
    yield from quality_report.lines(found)


def identity(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Who shares what must not be shared", found)
    yield (
        "Pairs of calls that differ in what an answer may depend on, and that are answered by one "
        "answer; pairs that differ in nothing that matters, and that share one. "
        "[Each pair](../docs/identity.md#what-other-caches-share)."
    )
    yield ""
    same, rows = set(found["same"]), []
    for name, kinds in found["found"].items():
        asked = {kind: told for kind, told in kinds.items() if not str(told).startswith("-")}
        wrong = [told is True for kind, told in asked.items() if kind not in same]
        good = [told is True for kind, told in asked.items() if kind in same]
        rows.append((name, f"{sum(wrong)} of {len(wrong)}", f"{sum(good)} of {len(good)}"))
    yield from table(("cache", "shared, and must not be", "shared, and should be"), rows)


def bars(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield every bar beside what was measured."""
    rows: list[tuple[Any, ...]] = list(judged(results.get("quality", {}).get("rows", [])))
    for bar in results.get("tiers", {}).get("bars", []):
        least, found = bar["bar"], bar["ratio"]
        what = f"{bar['tier']}: {bar['ours']}, times as fast as {bar['peer']}"
        met = None if least is None else found[0] >= least
        rows.append((what, least and f"at least {least:g}", times(found), bar["cpu"], verdict(met)))
    for bar in results.get("throughput", {}).get("bars", []):
        least, found = bar["bar"], bar["ratio"]
        what = f"{bar['callers']} callers: {bar['ours']}, times the throughput of {bar['peer']}"
        rows.append(
            (what, f"at least {least:g}", times(found), bar.get("cpu"), verdict(found[0] >= least))
        )
    for what, limit, value, met in late(results.get("throughput", {}).get("late", [])):
        rows.append((what, limit, value, None, verdict(met)))
    for bar in results.get("memory", {}).get("bars", []):
        most, found = bar["bar"], bar["share"]
        what = f"bytes per entry: {bar['ours']}, share of {bar['peer']}"
        met = None if most is None else found <= most
        rows.append((what, most and f"at most {most:g}", found, None, verdict(met)))
    for bar in results.get("startup", {}).get("bars", []):
        most, found = bar["bar"], bar["found"]
        rows.append((bar["what"], f"at most {most:g} CPU s", found, None, verdict(found <= most)))
    rows += scale_bars(results["scale"]) if "scale" in results else ()
    rows += printed("lookups", LOOKUPS_BAR, lambda found: (*found.groups()[1:], found[1] == "met "))
    rows += printed("redis_lookups", MACHINERY, machinery)
    if rows:
        yield "## Bars"
        yield ""
        yield from table(("what", "bar", "measured", "by CPU time", ""), rows)


def judged(rows: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the first bar: on how many streams the default is the best that is right."""
    found = quality_report.first_bars(rows)
    name = quality_report.OURS[0]
    missed = [stream for stream, of in found.items() if of.get(name)]
    if any(name in of for of in found.values()):
        told = f"{len(found) - len(missed)}" + (f", not on {', '.join(missed)}" if missed else "")
        what = f"right and wrong: {name}, streams on which it is the best that is right"
        yield what, f"all {len(found)}", told, None, verdict(not missed)


LOOKUPS_BAR = re.compile(r"^(met |MISS) (.+?) {2,}(\S.*?\]) +(at (?:most|least) .+)$")
MACHINERY = re.compile(r"^ours (hit|miss) .* us +([\d.]+) x ")
MACHINERY_MOST = {"hit": 0.9, "miss": 1.1}


def machinery(found: re.Match[str]) -> tuple[str, str, str, bool]:
    kind, value, most = found[1], float(found[2]), MACHINERY_MOST[found[1]]
    what = f"semantic {kind} on Redis, vectors known: time, share of langchain-redis"
    return what, f"{value:.2f}", f"at most {most:g}", value <= most


def printed(
    name: str, pattern: re.Pattern[str], read: Callable[[re.Match[str]], tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """Yield the bars that a benchmark printed beside what it measured."""
    file = RESULTS / f"{name}.txt"
    for line in file.read_text().splitlines() if file.exists() else ():
        if found := pattern.match(line):
            what, value, bar, met = read(found)
            yield f"{name}.py: {what}", bar, value, None, verdict(met)


def late(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, bool]]:
    by = {row["cache"]: row["late_ms"] for row in rows}
    ours, theirs = by.get("TieredCache, redis"), by.get("RedisVL SemanticCache")
    if ours is not None:
        yield "64 awaited at once: loop late by", "at most 50 ms", f"{ours} ms", ours <= 50
    if ours is not None and theirs is not None:
        what = "64 awaited at once: loop late by, share of RedisVL's acheck"
        yield what, "at most 0.05", f"{ours / theirs:.3f}", ours <= theirs / 20


KEPT = ("quality", "identity", "tiers", "throughput", "entries", "scale", "memory", "startup")
SECTIONS = {
    "quality": quality,
    "identity": identity,
    "tiers": tiers,
    "throughput": throughput,
    "entries": entries,
    "scale": scale,
    "memory": memory,
    "startup": startup,
}


def lines(prices: Sequence[float], call: float) -> Iterator[str]:
    yield HEAD
    results = {name: found for name in SECTIONS if (found := load(name)) is not None}
    yield from bars(results)
    for name, found in results.items():
        yield from SECTIONS[name](found)
        if name == "quality":
            yield from quality_report.money_lines(found["rows"], prices, call)
            yield "![Dollars saved by the price of a wrong answer](../docs/figures/money.png)"
            yield ""
            yield from quality_report.last_lines(found)
    printed_by = [one.name for one in RUNS if not one.tables]
    others = sorted({file.stem for file in RESULTS.glob("*.txt")} - {*printed_by})
    for name in [*printed_by, *others]:
        file = RESULTS / f"{name}.txt"
        if file.exists():
            yield f"## benchmarks/{name}.py"
            yield ""
            yield f"```text\n{file.read_text().rstrip()}\n```"
            yield ""


def keep() -> Path:
    """Write all tables into one file with the date of the newest, for compare_results.py."""
    tables = {name: found for name in KEPT if (found := load(name)) is not None}
    dates = [found["conditions"]["date"] for found in tables.values() if "conditions" in found]
    file = RESULTS / f"{max(dates)}.json"
    lines = [f"{json.dumps(name)}: {json.dumps(found)}" for name, found in tables.items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", type=float, nargs="+", default=quality_report.PRICES)
    parser.add_argument("--call", type=float, default=quality_report.CALL)
    given = parser.parse_args()
    FILE.write_text("\n".join(lines(given.wrong, given.call)).rstrip() + "\n")
    print(f"wrote {FILE} and {keep()}")
    found = {name: load(name) for name in ("quality", "identity", "tiers")}
    if all(found.values()):
        readme_numbers.write(found)
        print(f"wrote {readme_numbers.README}")


if __name__ == "__main__":
    main()
