"""The six numbers of the README's "Measured against others", made of benchmarks/results.

``report.py`` writes them between the two marks of README.md; a test compares them with the results
that are committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quality import TELEPHONE
from quality_report import OURS, averages, first_bars, new_questions, table

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- numbers of benchmarks/report.py -->", "<!-- end of the numbers -->"
DEFAULT = OURS[0]
NAMES = {
    "langchain-redis RedisSemanticCache": "langchain-redis",
    "langchain-redis RedisCache": "langchain-redis",
    "langchain-community SQLiteCache": "`SQLiteCache`",
    "RedisVL SemanticCache": "RedisVL",
    "GPTCache, sqlite and faiss": "GPTCache",
    "BetterDB SemanticCache": "BetterDB",
    "langgraph-checkpoint-redis middleware": "LangGraph's Redis middleware",
    "LiteLLM, redis-semantic": "LiteLLM",
    "vCache's algorithm": "vCache's algorithm",
}
EXACT = {
    "langchain-community SQLiteCache": "TieredCache, sqlite",
    "langchain-redis RedisCache": "TieredCache, redis, exact only",
}
Results = Mapping[str, Any]


def shared(identity: Results) -> tuple[str, str, str]:
    """Return how many pairs of calls that must not share an answer share one."""
    found: dict[str, list[str]] = {}
    total = len(identity["found"]["ours"]) - len(identity["same"])
    for name, kinds in identity["found"].items():
        asked = [
            told
            for kind, told in kinds.items()
            if kind not in identity["same"] and not str(told).startswith("-")
        ]
        shares = sum(told is True for told in asked)
        found.setdefault(f"{shares} of {len(asked)}", []).append(plain(name))
    (ours,) = (told for told, names in found.items() if "ours" in names)
    others = [f"{told}: {', '.join(names)}" for told, names in found.items() if "ours" not in names]
    what = f"{total} pairs of calls that must not share an answer: other model, tools, header …"
    return what, f"shares {ours.split()[0]}", "; ".join(others)


def plain(name: str) -> str:
    """Return the name of a peer without version and class, where it has one cache."""
    words = [word for word in name.split() if not word[0].isdigit()]
    return words[0] if words[0] not in ("langchain-core", "langchain-community") else words[-1]


def answered(rows: list[dict[str, Any]], behind: bool) -> tuple[str, str, str]:
    """Return how many of 100 questions are answered rightly and wrongly, as the caches come."""

    def wanted(row: dict[str, Any]) -> bool:
        place = row["system"] if behind else new_questions(row)
        return bool(place and row["setting"] == "default")

    means = averages(rows, wanted)
    good, bad = means[DEFAULT]
    others = sorted((100 * w, 100 * r, NAMES[n]) for n, (r, w) in means.items() if n in NAMES)
    told = [f"{name} {r:.0f} and {w:.1f}" for w, r, name in others]
    what = "of 100 new questions: answered rightly, and wrongly"
    if behind:
        what += ", behind a system prompt of 200 words"
    return what, f"{100 * good:.0f} and {100 * bad:.1f}", ", ".join(told)


def traps(near: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return how many near misses of the public benchmark are served."""
    found = {}
    for one in near:
        of = [counts for kind, counts in one["served"].items() if kind.startswith("trap")]
        found[one["cache"]] = (sum(hit for hit, _ in of), sum(count for _, count in of))
    total = found[DEFAULT][1]
    others = sorted((found[name][0], short) for name, short in NAMES.items() if name in found)
    told = ", ".join(f"{name} {hit}" for hit, name in others)
    what = f"{total} pairs of alike questions with different answers (fow-cache): taken for one"
    return what, str(found[DEFAULT][0]), told


def hits(tiers: Results, tier: str, ours: Mapping[str, str], what: str) -> tuple[str, str, str]:
    """Return how long a hit takes with each of ours, and how many times as long others take.

    ``ours`` are peers and which of ours they are compared with, "" for all others.
    """
    p10 = {row["cache"]: row["p10"] for row in tiers["rows"] if row["tier"] == tier}
    told = []
    for peer, value in sorted(p10.items(), key=lambda item: item[1]):
        beside = ours.get(peer, ours.get("", ""))
        if peer in NAMES and beside:
            told.append(f"{NAMES[peer]} {value / p10[beside]:.1f} times as long")
    mine = [p10[name] / 1000 for name in dict.fromkeys(ours.values())]
    shown = " and ".join(f"{one:.1f}" if one >= 1 else f"{one:.2f}" for one in mine)
    return what, f"{shown} ms", ", ".join(told)


def best(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Say where the default is the best of those that are right, and where it is not."""
    found = {stream: of[DEFAULT] for stream, of in first_bars(rows).items() if DEFAULT in of}
    missed = {stream: why for stream, why in found.items() if why}
    yield (
        "Is it the best of the caches that are right? We ask two things of it. Where some cache "
        "keeps its wrong answers at or under 2 %, ours should keep them there too, with the most "
        "right answers of all that do. Elsewhere it should not be wrong more often than a cache "
        "that serves half as much. Peers may use thresholds that were chosen on labelled questions "
        f"of the same kind. It is so on {len(found) - len(missed)} of {len(found)} streams"
        f"{'. Not on:' if missed else '.'}"
    )
    yield ""
    if missed:
        yield from (f"- {stream}: {why}" for stream, why in missed.items())
        yield ""
    if TELEPHONE in missed:
        yield (
            f"In the {TELEPHONE} replay a question has one answer in three apps with different "
            "system prompts. Caches that look at the question alone gain by that; ours never "
            "shares an answer between system prompts."
        )
        yield ""


def lines(results: Results) -> Iterator[str]:
    """Yield the table and what it does not show."""
    quality, tiers = results["quality"], results["tiers"]
    rows = [
        shared(results["identity"]),
        answered(quality["rows"], behind=False),
        answered(quality["rows"], behind=True),
        traps(quality["near"]),
        hits(tiers, "semantic hit", {"": "TieredCache, redis"}, "a hit by meaning, Redis"),
        hits(tiers, "exact hit", EXACT, "an exact hit, SQLite and Redis"),
    ]
    yield from table(("", "this library", "others"), rows)
    yield from best(quality["rows"])
    dates = sorted({row["date"] for row in quality["rows"]})
    timed = tiers["conditions"]
    yield (
        f"Answers were counted on {' and '.join(dates)}. Times are the 10th percentile, measured "
        f"on {timed['date']} ({timed['cpu']}), with prompts of 190 tokens and one model for all."
    )


def block(results: Results) -> str:
    return "\n".join([BEGIN, "", *lines(results), "", END])


def write(results: Results) -> None:
    """Put the numbers into the README."""
    page = README.read_text()
    head, rest = page.split(BEGIN)
    README.write_text(head + block(results) + rest.split(END)[1])
