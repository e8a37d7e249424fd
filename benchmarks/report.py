"""Write benchmarks/RESULTS.md of what lies in benchmarks/results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rounds import RESULTS, load
from run import RUNS

from shared_core.stats import wilson

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
CALL, PRICES = 0.01, (0.0, 0.1, 1.0, 10.0)
"""Dollars: of a call of the model, and of a wrong answer."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |"
    yield ""


def section(title: str, found: dict[str, Any], image: bool = True) -> Iterator[str]:
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


def share(part: int, whole: int) -> str:
    """Return a share in percent with its 95 % Wilson interval."""
    if not whole:
        return "-"
    low, high = wilson(part, whole)
    return f"{100 * part / whole:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def quality(found: dict[str, Any]) -> Iterator[str]:
    yield from section("Right and wrong", found)
    yield (
        "Share of the questions that a cache answers, and share of its answers that are another "
        "question's, with 95 % intervals. Nothing is asked twice in the same words. `default`: as "
        "it comes; `best`: at the cosine with the most right answers of those with at most 2 % "
        "wrong on other classes of the same set. LiteLLM has no default; its pages show 0.8."
    )
    yield ""
    places = dict.fromkeys((row["stream"], row["system"]) for row in found["rows"])
    for stream, system in places:
        yield f"### {stream}{', behind a system prompt of 200 words' if system else ''}"
        yield ""
        rows = [r for r in found["rows"] if (r["stream"], r["system"]) == (stream, system)]
        rows.sort(key=lambda row: (row["wrong"] > 0.02 * row["hits"], row["wrong"] - row["hits"]))
        yield from table(
            ("cache", "setting", "answered", "wrong of the answers", "first 300: answered, wrong"),
            [
                (
                    row["cache"].replace("TieredCache, memory", "TieredCache, `Static`"),
                    row["setting"] + (f" {row['similarity']}" if row["similarity"] else ""),
                    f"{100 * row['hits'] / row['requests']:.1f} % of {row['requests']:,}",
                    share(row["wrong"], row["hits"]),
                    f"{row['first hits']}, {row['first wrong']}",
                )
                for row in rows
            ],
        )
    yield "### What it costs"
    yield ""
    yield (
        "Dollars per 1,000 questions, over all streams without a system prompt: a call of the "
        "model at one cent, and what a wrong answer is worth to you. The cheapest in bold."
    )
    yield ""
    yield from table(*money(found["rows"]))
    yield from near_misses(found["near"])


def money(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return a table of what 1,000 questions cost with each cache, by the price of a wrong answer.

    Every stream counts the same.
    """
    totals: dict[str, list[tuple[float, float]]] = {}
    for row in (row for row in rows if not row["system"]):
        served, wrong = (row[name] / row["requests"] for name in ("hits", "wrong"))
        totals.setdefault(f"{row['cache']}, {row['setting']}", []).append((served, wrong))
    longest = max(map(len, totals.values()))
    costs = {
        name: [
            1000 * sum((1 - served) * CALL + wrong * price for served, wrong in of) / len(of)
            for price in PRICES
        ]
        for name, of in totals.items()
        if len(of) == longest
    }
    cheapest = [min(column) for column in zip(*costs.values(), strict=True)]
    head = ["cache", *(f"a wrong answer at ${price:g}" for price in PRICES)]
    body = [
        [
            name,
            *(f"**{v:.2f}**" if v == c else f"{v:.2f}" for v, c in zip(of, cheapest, strict=True)),
        ]
        for name, of in sorted(costs.items(), key=lambda item: item[1][2])
    ]
    return head, body


def near_misses(near: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of the pairs of fow-cache: what is served of what should be and should not."""
    if not near:
        return
    yield "### Near misses (fow-cache)"
    yield ""
    yield (
        "One question is stored in an empty cache, the other asked, at each cache's default "
        "(`Static` at 0.92). Traps should not be served."
    )
    yield ""
    names = list(near[0]["served"])
    rows = []
    for one in near:
        traps = [counts for name, counts in one["served"].items() if name.startswith("trap")]
        wrong = share(sum(hit for hit, _ in traps), sum(of for _, of in traps))
        cells = [f"{hit} of {of}" for hit, of in (one["served"][name] for name in names)]
        rows.append((one["cache"], wrong, *cells))
    yield from table(("cache", "traps served", *names), rows)


def bars(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield every bar beside what was measured."""
    rows: list[tuple[Any, ...]] = []
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
    if rows:
        yield "## Bars"
        yield ""
        yield from table(("what", "bar", "measured", "by CPU time", ""), rows)


def late(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, bool]]:
    by = {row["cache"]: row["late_ms"] for row in rows}
    ours, theirs = by.get("TieredCache, redis"), by.get("RedisVL SemanticCache")
    if ours is not None:
        yield "64 awaited at once: loop late by", "at most 50 ms", f"{ours} ms", ours <= 50
    if ours is not None and theirs is not None:
        what = "64 awaited at once: loop late by, share of RedisVL's acheck"
        yield what, "at most 0.05", f"{ours / theirs:.3f}", ours <= theirs / 20


SECTIONS = {
    "quality": quality,
    "tiers": tiers,
    "throughput": throughput,
    "entries": entries,
    "memory": memory,
    "startup": startup,
}


def lines() -> Iterator[str]:
    yield HEAD
    results = {name: found for name in SECTIONS if (found := load(name)) is not None}
    yield from bars(results)
    for name, found in results.items():
        yield from SECTIONS[name](found)
    for one in RUNS:
        file = RESULTS / f"{one.name}.txt"
        if not one.tables and file.exists():
            yield f"## benchmarks/{one.name}.py"
            yield ""
            yield f"```text\n{file.read_text().rstrip()}\n```"
            yield ""


def main() -> None:
    FILE.write_text("\n".join(lines()).rstrip() + "\n")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
