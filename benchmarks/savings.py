"""Replay a workload with and without each tier: calls, tokens, money, latency, wrong answers.

    python benchmarks/savings.py [--requests 5000] [--seeds 1 2 3] [--picture FILE.png]
    python benchmarks/savings.py --data FOLDER --sets banking77 clinc150

What is measured: which requests each tier answers, and with what; the time that lookups and stores
take. All else is assumed:

- Popularity: questions are asked as often as Zipf's law says (exponent ``--zipf``, 1.0), and so are
  the five wordings of each. ``data/savings.jsonl`` holds 40 questions to a telephone company with
  their answers, written for this benchmark. FOLDER holds ``<set>.jsonl.gz`` of rows
  {"t": question, "c": class} instead; a class is one question, at most ``--classes`` of them.
- Sessions: a user asks again with a probability of ``--again`` (0.4) after 20 s, with all of the
  conversation before; requests arrive at random, one every 3 s on average. Three apps, each with a
  system prompt of about 1,400 tokens, have a third of the sessions each.
- The model is right, and words the answer to one question in one way (temperature 0). An answer out
  of the cache is wrong if it is the answer to another question. What Verified learns from are the
  labels of the cache's own judge on the written answers. A class has only a made-up answer, of a
  template in which its name differs; there the judge is taken to be right, or, with
  ``--own-judge``, is the cache's own too, which templates mislead.
- Tokens are four bytes each. Prices are genai-prices' of today, per call.
- The provider's prompt cache keeps a conversation for 5 minutes after its last use, from 1,024
  tokens on, in steps of 128; tokens written to it cost what the provider takes for that.
- The model takes 400 ms, 0.1 ms per token it has to read (cached ones: none), 15 ms per token of
  its answer.

Money says nothing of a machine's own: embedding runs on this one. Needs the extras "embeddings" and
"client", and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from shared_core import Answer, Hit, Request, ResponseCache, Static, Verified
from shared_core.stats import wilson
from shared_core.usage import estimated_usage, price

DATA = Path(__file__).parent / "data" / "savings.jsonl"
APPS = ("the chat on the web site", "the phone line, whose answers are read aloud", "e-mail")
PROMPT_TOKENS = 1400
GAP_S, TURN_S = 3.0, 20.0


@dataclass(frozen=True, slots=True)
class Topic:
    """Hold a question in several wordings, and its answer."""

    answer: str
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Hold a request: when it comes (seconds), what was said before, its question and answer."""

    at: float
    before: tuple[dict[str, str], ...]
    question: str
    answer: str


def own_topics() -> list[Topic]:
    """Return the questions written for this benchmark."""
    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    return [Topic(row["answer"], tuple(row["questions"])) for row in rows]


def labelled_topics(folder: Path, name: str, classes: int, rng: random.Random) -> list[Topic]:
    """Return the classes of a set of labelled questions, in random order."""
    found: dict[str, dict[str, None]] = {}
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            found.setdefault(str(row["c"]), {})[row["t"]] = None
    topics = [
        Topic(f"This is what we say to every question of the kind {label}. " * 2, tuple(wordings))
        for label, wordings in found.items()
        if len(wordings) > 1
    ]
    rng.shuffle(topics)
    return topics[:classes]


def zipf(things: Sequence[Any], exponent: float, rng: random.Random) -> Any:
    """Pick one of them, the first most often."""
    weights = [1 / rank**exponent for rank in range(1, len(things) + 1)]
    return rng.choices(things, weights)[0]


def workload(
    topics: list[Topic], requests: int, exponent: float, again: float, rng: random.Random
) -> list[Ask]:
    """Return requests in order of arrival."""
    topics = rng.sample(topics, len(topics))
    material = "\n".join(f"- {topic.wordings[0]} {topic.answer}" for topic in topics)
    prompts = [_prompt(app, material) for app in APPS]
    asks: list[Ask] = []
    start = 0.0
    while len(asks) < requests:
        start += rng.expovariate(1 / (GAP_S / (1 - again)))
        said: tuple[dict[str, str], ...] = ({"role": "system", "content": rng.choice(prompts)},)
        at = start
        while True:
            topic = zipf(topics, exponent, rng)
            question = zipf(topic.wordings, exponent, rng)
            asks.append(Ask(at, said, question, topic.answer))
            if rng.random() >= again:
                break
            said = (
                *said,
                {"role": "user", "content": question},
                {"role": "assistant", "content": topic.answer},
            )
            at += TURN_S
    return sorted(asks, key=lambda ask: ask.at)[:requests]


def _prompt(app: str, material: str) -> str:
    opening = f"You answer customers' questions for {app}. Be brief and kind. What you know:\n"
    return (opening + material)[: PROMPT_TOKENS * 4]


def tokens(messages: Iterable[dict[str, str]], answer: str = "") -> tuple[int, int]:
    """Return the tokens of a prompt and of an answer."""
    usage = estimated_usage("\n".join(one["content"] for one in messages), answer)
    return usage["input_tokens"], usage["output_tokens"]


# ------------------------------------------------------------------------------- the replay
#
# request -> our cache -> served | the model, behind the provider's prompt cache -> usage, latency

KEPT_S, SMALLEST, STEP = 300.0, 1024, 128
FIRST_MS, READ_MS, WRITE_MS = 400.0, 0.1, 15.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Which tiers are on. ``threshold`` None: exact alone; ``response`` False: no cache of ours."""

    name: str
    response: bool = False
    threshold: Any = None
    prefix: bool = False


SETTINGS = (
    Setting("no cache"),
    Setting("prefix", prefix=True),
    Setting("exact", response=True),
    Setting("exact + Verified(0.02)", True, Verified(0.02)),
    Setting("exact + Static(0.90)", True, Static(0.90)),
    Setting("exact + Verified + prefix", True, Verified(0.02), True),
)


@dataclass(slots=True)
class Result:
    """Count hits and wrong ones of a replay by tier; latencies are in milliseconds."""

    requests: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    usages: list[dict[str, int]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def add(self, other: Result) -> None:
        """Add another replay of the same setting."""
        self.requests += other.requests
        self.hits.update(other.hits)
        self.wrong.update(other.wrong)
        self.usages += other.usages
        self.latencies += other.latencies

    def dollars(self, model: str) -> float:
        """Return what the calls cost."""
        return sum(_price(model, tuple(usage.items())) for usage in self.usages)


@cache
def _price(model: str, usage: tuple[tuple[str, int], ...]) -> float:
    found = price(model, dict(usage))
    assert found is not None, f"no price of {model}: install genai-prices"
    return found


class PromptCache:
    """The provider's: which fronts of conversations it has seen in the last minutes."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], float] = {}

    def split(self, messages: tuple[dict[str, str], ...], at: float) -> tuple[int, int]:
        """Return how many tokens are read from it, and how many written to it."""
        texts = tuple(one["content"] for one in messages)
        whole, _ = tokens(messages)
        read = 0
        for length in range(len(texts), 0, -1):
            if at - self._seen.get(texts[:length], -KEPT_S - 1) <= KEPT_S:
                front, _ = tokens(messages[:length])
                read = front // STEP * STEP if front >= SMALLEST else 0
                break
        for length in range(1, len(texts) + 1):
            self._seen[texts[:length]] = at
        return read, whole - read if whole >= SMALLEST else 0


def replay(asks: list[Ask], setting: Setting, embedder: Any, judge: Any) -> Result:
    """Send all requests through the tiers of a setting."""
    result, prompts = Result(), PromptCache()
    semantic = setting.threshold is not None
    options = (
        {"threshold": setting.threshold, "embedder": embedder, "judge": judge} if semantic else {}
    )
    now = [0.0]
    with ResponseCache.open(clock=lambda: now[0], semantic=semantic, **options) as opened:
        for ask in asks:
            now[0] = ask.at
            result.requests += 1
            latency, served = _answer(ask, opened if setting.response else None, result)
            if served is None:
                usage, model_ms = _call(ask, prompts if setting.prefix else None)
                result.usages.append(usage)
                latency += model_ms
            else:
                tier, text = served
                result.wrong[tier] += text != ask.answer
            result.latencies.append(latency)
    return result


def _answer(
    ask: Ask, opened: ResponseCache | None, result: Result
) -> tuple[float, tuple[str, str] | None]:
    """Return the milliseconds spent in the cache, and its tier and answer, if it has one."""
    if opened is None:
        return 0.0, None
    request = Request.of(
        ask.question,
        model="m",
        system=ask.before[0]["content"],
        history=ask.before[1:],
        params={"temperature": 0},
    )
    started = time.perf_counter()
    found = opened.lookup(request)
    if isinstance(found, Hit):
        result.hits[str(found.tier)] += 1
        spent = (time.perf_counter() - started) * 1000
        return spent, (str(found.tier), found.answer.text)
    opened.store(request, Answer(ask.answer))
    return (time.perf_counter() - started) * 1000, None


def _call(ask: Ask, prompts: PromptCache | None) -> tuple[dict[str, int], float]:
    """Return the tokens of a model call and the milliseconds that it takes."""
    messages = (*ask.before, {"role": "user", "content": ask.question})
    asked, answered = tokens(messages, ask.answer)
    usage = {"input_tokens": asked, "output_tokens": answered}
    read = 0
    if prompts is not None:
        read, written = prompts.split(messages, ask.at)
        usage |= {"cached_tokens": read, "cache_write_tokens": written}
    return usage, FIRST_MS + READ_MS * (asked - read) + WRITE_MS * answered


def is_the_same(fresh: Answer, cached: Answer) -> bool:
    """Judge made-up answers: only equal ones are the same."""
    return fresh.text == cached.text


# ------------------------------------------------------------------------------- the report

MODELS = ("gpt-4o-mini", "gpt-4o", "gemini-2.5-flash", "claude-sonnet-4-5")
STYLE = Path(__file__).parent.parent / "notebooks" / "plain.mplstyle"


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def wrong_of(one: Result) -> str:
    """Spell how many of the answers out of the cache were wrong, with a 95 % interval."""
    hits, wrong = one.hits.total(), one.wrong.total()
    if not hits:
        return "no hits"
    low, high = wilson(wrong, hits)
    return f"{wrong} of {hits:,} hits ({100 * low:.2f} to {100 * high:.2f} %)"


def wrong_by_meaning(*some: Result) -> str:
    """Spell how many of the hits by meaning were wrong in some replays, with a 95 % interval."""
    hits, wrong = (sum(one["semantic"] for one in of)
                   for of in ([r.hits for r in some], [r.wrong for r in some]))  # fmt: skip
    low, high = wilson(wrong, hits)
    return f"{wrong} of {hits:,} ({100 * low:.1f} to {100 * high:.1f} %)" if hits else ""


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
        sums: Counter[str] = Counter()
        for usage in one.usages:
            sums.update(usage)
        times = " | ".join(f"{percentile(one.latencies, share):.1f}" for share in (50, 90, 99))
        print(
            f"| {label} | {len(one.usages):,} | {one.hits['exact'] / one.requests:.1%} "
            f"| {semantic / one.requests:.1%} | {wrong_of(one)} | {wrong_by_meaning(one)} "
            f"| {sums['input_tokens']:,}, {sums['cached_tokens']:,} "
            f"| {sums['output_tokens']:,} | {times} |"
        )
    for policy in dict.fromkeys(one.threshold for one in SETTINGS if one.threshold):
        same = [results[one.name] for one in SETTINGS if one.threshold == policy]
        if len(same) > 1:
            said = wrong_by_meaning(*same)
            print(f"\nWrong by meaning in both with {type(policy).__name__}: {said}")
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
    wrong = f"\n{one.wrong.total()} of {hits:,} wrong" if hits else ""
    return f"{label.replace(' + ', chr(10) + '+ ', 1)}\n{served}{wrong}"


def main() -> None:
    from shared_core.embedding import resolve_embedder

    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--zipf", type=float, default=1.0)
    parser.add_argument("--again", type=float, default=0.4)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["banking77"])
    parser.add_argument("--classes", type=int, default=77)
    parser.add_argument("--own-judge", action="store_true")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    embedder = resolve_embedder(None)
    judge = is_the_same if given.data and not given.own_judge else None
    everything: dict[str, dict[str, Result]] = {}
    for name in given.sets if given.data else ["telephone company"]:
        results = everything[name] = {setting.name: Result() for setting in SETTINGS}
        for seed in given.seeds:
            rng = random.Random(seed)
            topics = (
                labelled_topics(given.data, name, given.classes, rng)
                if given.data
                else own_topics()
            )
            asks = workload(topics, given.requests, given.zipf, given.again, rng)
            for setting in SETTINGS:
                results[setting.name].add(replay(asks, setting, embedder, judge))
        show(name, results)
    if given.picture:
        draw(given.picture, everything)
        print(f"\nwritten to {given.picture}")


if __name__ == "__main__":
    main()
