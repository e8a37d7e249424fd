"""Show what quality.py found as tables: right and wrong, the first bar, money, near misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from quality import FIRST, MAX_WRONG, STATIC, TELEPHONE

from shared_core.stats import wilson

Row = dict[str, Any]
CALL, PRICES = 0.01, (0.0, 0.1, 1.0, 10.0)
"""Dollars: of a call of the model, and of a wrong answer."""

NO_CACHE = "no cache"
OURS = ("TieredCache, default", "TieredCache, verifier right in 99 %", STATIC)
"""Names the caches of ours whose bar is shown; ``Static`` at its best."""

NOT_ASKED = (
    "LlamaIndex has no cache of answers of its own: its core knows the markers of providers' "
    "prompt caches alone, so that there is nothing to compare.",
    "LiteLLM's caches on Qdrant and Valkey match as its cache on Redis does, which is asked here.",
    "vCache's code may not be adapted; what is asked is its algorithm, written from the paper.",
    "Redis LangCache, Portkey, Helicone, Bifrost and Cloudflare's gateway are services or "
    "gateways, which one command cannot set up here.",
    "GPTCache's evaluators with a model of their own download it; asked is its default, the "
    "distance of vectors.",
)
"""Says which caches are not in the tables, and why."""


def share(part: int, whole: int) -> str:
    """Return a share in percent with its 95 % Wilson interval."""
    if not whole:
        return "-"
    low, high = wilson(part, whole)
    return f"{100 * part / whole:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def name_of(row: Row) -> str:
    """Return a cache and its setting as people read them."""
    name = str(row["cache"]).replace(STATIC, "TieredCache, `Static`")
    name = name.replace("verifier right in 99 %", "with a verifier")
    return f"{name}, {row['setting']}" if row["setting"] != "default" else name


def keeps(row: Row) -> bool:
    """Tell whether a row has hits, and few of them wrong."""
    return bool(row["hits"]) and row["wrong"] <= MAX_WRONG * row["hits"]


def more_wrong(one: Row, other: Row) -> bool:
    """Tell whether the share of wrong hits of one is significantly above that of the other.

    By two proportions, 5 % on both sides.

    >>> more_wrong({"hits": 100, "wrong": 20}, {"hits": 100, "wrong": 5})
    True
    >>> more_wrong({"hits": 100, "wrong": 7}, {"hits": 100, "wrong": 5})
    False
    """
    if not one["hits"] or not other["hits"]:
        return False
    pooled = (one["wrong"] + other["wrong"]) / (one["hits"] + other["hits"])
    spread = math.sqrt(pooled * (1 - pooled) * (1 / one["hits"] + 1 / other["hits"]))
    gap = one["wrong"] / one["hits"] - other["wrong"] / other["hits"]
    return gap > 1.96 * spread > 0


def first_bar(ours: Row, others: Sequence[Row]) -> str:
    """Return "" if a row of ours meets the first bar on its stream, else what is missing.

    Where some cache keeps its wrong hits at or under 2 %, ours is to do so with the most right
    answers of those that do. Elsewhere it may have no significantly larger share of wrong hits than
    any cache that serves at least half as much.
    """
    good = [row for row in others if keeps(row)]
    if good or keeps(ours):
        if not keeps(ours):
            return f"{ours['wrong']} of {ours['hits']} wrong, {share(ours['wrong'], ours['hits'])}"
        best = max(good, key=right, default=ours)
        if right(best) > right(ours):
            return f"{right(ours)} right answers, {name_of(best)} has {right(best)}"
        return ""
    worse = [row for row in others if 2 * row["hits"] >= ours["hits"] and more_wrong(ours, row)]
    if not worse:
        return ""
    best = min(worse, key=lambda row: row["wrong"] / row["hits"])
    return f"{share(ours['wrong'], ours['hits'])} wrong, {name_of(best)} {wrong_share(best)}"


def right(row: Row) -> int:
    return int(row["hits"] - row["wrong"])


def wrong_share(row: Row) -> str:
    return f"{100 * row['wrong'] / row['hits']:.1f} %"


def by_stream(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by stream, and say of each whether it is behind a system prompt."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row["stream"] + (", behind a system prompt" if row["system"] else "")
        found.setdefault(name, []).append(row)
    return found


def first_bars(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return what is missing to the first bar, "" where it is met, by stream and row of ours."""
    found: dict[str, dict[str, str]] = {}
    for stream, of in by_stream(rows).items():
        others = [row for row in of if not row["cache"].startswith("TieredCache")]
        mine = [row for row in of if row["cache"] in OURS]
        mine = [row for row in mine if row["cache"] != STATIC or row["setting"] == "best"]
        if others and mine:
            found[stream] = {name_of(row): first_bar(row, others) for row in mine}
    return found


def averages(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> dict[str, tuple[float, float]]:
    """Return the shares of all questions that are answered rightly and wrongly, by cache.

    Every stream counts the same; a cache that is not on all of them is left out.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in filter(wanted, rows):
        shares = right(row) / row["requests"], row["wrong"] / row["requests"]
        found.setdefault(name_of(row), []).append(shares)
    most = max(map(len, found.values()), default=0)
    return {
        name: (sum(r for r, _ in of) / most, sum(w for _, w in of) / most)
        for name, of in found.items()
        if len(of) == most
    }


def new_questions(row: Row) -> bool:
    """Tell whether a row is of a stream without repeats and without a system prompt."""
    return not row["system"] and row["stream"] != TELEPHONE


def saved(shares: tuple[float, float], price: float, call: float = CALL) -> float:
    """Return the dollars that 1,000 questions save: calls not made, less what wrong answers cost.

    >>> saved((0.3, 0.01), price=1.0, call=0.01)
    -6.9
    """
    served = sum(shares)
    return round(1000 * (served * call - shares[1] * price), 6)


def cheapest(caches: dict[str, tuple[float, float]], call: float = CALL) -> list[tuple[float, str]]:
    """Return which cache saves the most from which price of a wrong answer on, in dollars.

    >>> cheapest({"daring": (0.5, 0.1), "careful": (0.3, 0.0)}, call=0.01)
    [(0.0, 'daring'), (0.03, 'careful')]
    """
    found: list[tuple[float, str]] = []
    price, left = 0.0, {**caches, NO_CACHE: (0.0, 0.0)}
    name = max(left, key=lambda one: (saved(left[one], 0.0, call), -left[one][1]))
    while True:
        found.append((round(price, 6), name))
        served, wrong = sum(left[name]), left[name][1]
        crossings = [
            (call * (served - sum(of)) / (wrong - of[1]), of[1], other)
            for other, of in left.items()
            if of[1] < wrong
        ]
        if not crossings:
            return found
        price, _, name = min(crossings)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |"
    yield ""


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the section, without its heading."""
    yield (
        "Share of the questions that a cache answers rightly, and share of its answers that are "
        "another question's, with 95 % intervals. Nothing is asked twice in the same words, but "
        f"for the stream `{TELEPHONE}`, which is a replay with repeats, conversations and long "
        "system prompts. `best`: at the lowest cosine with at most 2 % wrong on other classes of "
        "the same set. As they come, RedisVL, BetterDB and LangGraph's middleware serve from a "
        "cosine of 0.9, langchain-redis from 0.8, GPTCache from 0.6, `Static` from 0.92; LiteLLM "
        "has no default, its pages show 0.8. vCache is asked for at most 2 % of all requests. The "
        "verifier is made up, and right in 99 % of its words."
    )
    yield ""
    yield "### In short"
    yield ""
    yield "Of 100 new questions, the mean of all streams without repeats and system prompt:"
    yield ""
    yield from short(found["rows"])
    yield from bar_lines(found["rows"])
    for stream, rows in by_stream(found["rows"]).items():
        yield f"### {stream}"
        yield ""
        yield from stream_table(rows)


def last_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the near misses, and who is not in the tables."""
    yield from near_misses(found["near"])
    yield "### Who is not in it"
    yield ""
    yield from (f"- {one}" for one in NOT_ASKED)
    left = found.get("left out", [])
    yield from (f"- {row['cache']} on {row.get('stream', '?')}: {row['reason']}" for row in left)
    yield ""


def short(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of what every cache answers, the mean of all streams."""
    found = averages(rows, new_questions)
    body = [
        (name, f"{100 * good:.1f}", f"{100 * bad:.1f}", _of_hits(good, bad))
        for name, (good, bad) in sorted(found.items(), key=lambda item: item[1][1] - item[1][0])
    ]
    yield from table(
        ("cache", "answered rightly", "answered wrongly", "wrong of the answers"), body
    )


def _of_hits(good: float, bad: float) -> str:
    return f"{100 * bad / (good + bad):.1f} %" if good + bad else "-"


def bar_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the first bar by stream, for each of ours that has one."""
    found = first_bars(rows)
    if not found:
        return
    yield "### Is ours the best that is right?"
    yield ""
    yield (
        "Where some cache keeps its wrong hits at or under 2 %, ours is to do so and to have the "
        "most right answers of those that do, at whatever setting; elsewhere it may have no "
        "significantly larger share of wrong hits than any cache that serves at least half as much."
    )
    yield ""
    names = list(dict.fromkeys(name for of in found.values() for name in of))
    body = [
        (stream, *(_verdict(of[name]) if name in of else "" for name in names))
        for stream, of in found.items()
    ]
    yield from table(("stream", *names), body)


def _verdict(missing: str) -> str:
    return f"**missed**: {missing}" if missing else "met"


def stream_table(rows: Sequence[Row]) -> Iterator[str]:
    ordered = sorted(rows, key=lambda row: (not keeps(row), row["wrong"] - row["hits"]))
    yield from table(
        (
            "cache",
            "from a cosine of",
            "answered rightly",
            "wrong of the answers",
            f"first {FIRST}: answered, wrong",
        ),
        [
            (
                name_of(row),
                row["similarity"] or "",
                f"{100 * right(row) / row['requests']:.1f} % of {row['requests']:,}",
                share(row["wrong"], row["hits"]),
                f"{row['first hits']}, {row['first wrong']}",
            )
            for row in ordered
        ],
    )


def money_lines(
    rows: Sequence[Row], prices: Sequence[float] = PRICES, call: float = CALL
) -> Iterator[str]:
    """Yield what the caches save by the price of a wrong answer, on the replay and on the rest."""
    yield "### What it saves"
    yield ""
    yield (
        f"Dollars that 1,000 questions save where a call of the model costs ${call:g}: calls that "
        "are not made, less what wrong answers cost you. The most in bold. Your own prices: "
        "`python benchmarks/report.py --call 0.002 --wrong 0 0.05 5`."
    )
    yield ""
    yield ("A verifier is left out: it asks a model too, and what that costs depends on the model.")
    yield ""
    for title, wanted in (
        (f"the replay `{TELEPHONE}`, with repeats", is_replay),
        ("new questions, the mean of all streams", new_questions),
    ):
        caches = averages(without_verifier(rows), wanted)
        if caches:
            yield f"On {title}:"
            yield ""
            yield from table(*money(caches, prices, call))
            yield ranges(caches, call)
            yield ""


def without_verifier(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of caches that ask no model by themselves."""
    return [row for row in rows if "verifier" not in row["cache"]]


def is_replay(row: Row) -> bool:
    """Tell whether a row is of the replay."""
    return bool(row["stream"] == TELEPHONE)


def money(
    caches: dict[str, tuple[float, float]], prices: Sequence[float], call: float
) -> tuple[list[str], list[list[str]]]:
    """Return a table of what 1,000 questions save with each cache, by price of a wrong answer."""
    kept = {name: [saved(of, price, call) for price in prices] for name, of in caches.items()}
    most = [max(0.0, *column) for column in zip(*kept.values(), strict=True)]
    head = ["cache", *(f"a wrong answer at ${price:g}" for price in prices)]
    body = [
        [name, *(f"**{v:.2f}**" if v == m else f"{v:.2f}" for v, m in zip(of, most, strict=True))]
        for name, of in sorted(kept.items(), key=lambda item: -item[1][len(prices) // 2])
    ]
    return head, body


def ranges(caches: dict[str, tuple[float, float]], call: float) -> str:
    """Say which cache saves the most at which price of a wrong answer."""
    found = cheapest(caches, call)
    ends = [*(start for start, _ in found[1:]), math.inf]
    parts = [
        f"{name} from ${start:.2g}" + (f" to ${end:.2g}" if end < math.inf else " on")
        for (start, name), end in zip(found, ends, strict=True)
    ]
    return f"By the price of a wrong answer, the most is saved by: {'; '.join(parts)}."


def near_misses(near: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the pairs of fow-cache: what is served of what should be and should not."""
    near = [one for one in near if one["served"]]
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
        rows.append((name_of(one | {"setting": "default"}), wrong, *cells))
    yield from table(("cache", "traps served", *names), rows)
