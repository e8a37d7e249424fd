"""Measure the judges of answers, on this project's answers and on pairs in a folder of your own.

    python benchmarks/judges.py [--half held|model|fresh|fit|all] [--folder PATH] [--judges A,B]
    python benchmarks/judges.py --fit [--write]
    python benchmarks/judges.py --bot 1500 [--seeds 5] [--identical 0.33] [--judges oracle,default]
    taskset -c 0 python benchmarks/judges.py --speed 2000 [--rate 200]

``data/judged_answers.jsonl`` holds groups of answers in 37 domains: {"half", "domain",
"question", "same": wordings of one answer, each in a style of its own, "again": the first of them
as the same writer might put it another time (of some groups), "near": answers to questions that are
nearly the same, "contradicted": the answer with one fact contradicted}. Every two of "same" and
"again" are the same; each of them differs from each of the others, and from the answers of other
groups ("elsewhere"). Halves were drawn before anything was fitted; "fresh" are groups of eight
domains that came later, "model" such as came after those, answers to three wordings of a question
in the style of one model, half of them of one shop; the other halves of both are in "fit".
``data/answers.jsonl`` is older: {"same", "other"}.

``--folder`` names a folder with an ``answer_pairs.jsonl``: rows {"set", "fresh", "cached",
"label": "same" | "diff"}. ``--fit`` fits the weights of AnswerJudge on the fitting half and on
``answers.jsonl``, prints what they do to answers left out, and with ``--write`` puts them into
``shared_core/learning/judges.py``. ``--bot`` asks the questions of the held half in other words,
answers each in one of its wordings, a share of them in the first, and counts what the default
policy serves with each judge; "oracle" knows which answers are the same. "sampled" is an LLMJudge
asked about a fifth, "checked" the default judge with such a check, "verifier" the default judge and
a verifier: by a simulated model that is right in 99 % of its words. ``--speed`` stores so many
answers, so many a second, each of which is to be judged, and says how many were judged or dropped,
and how long a store took its caller beside one with a judge that does nothing. Needs the local
model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared_core import Hit, Request, ResponseCache
from shared_core.embedding import Memo, resolve_embedder
from shared_core.learning import AnswerJudge, EmbeddingJudge, Judge, LLMJudge, same_answer
from shared_core.learning.answers import OVERLAP, overlap, read_answer
from shared_core.learning.judges import opinion_at, spread
from shared_core.record import Answer
from shared_core.thresholds import Candidate, Explore, Label, Skip

DATA = Path(__file__).parent / "data"
FILE = DATA / "judged_answers.jsonl"
OLDER = DATA / "answers.jsonl"
JUDGES = Path(__file__).parent.parent / "shared_core" / "learning" / "judges.py"

SAME, AGAIN = "same", "again"
WEIGHT = {"same": 1.0, "again": 0.5, "near": 0.5, "contradicted": 1.0, "elsewhere": 0.02}
"""The total weight of the pairs of one kind and group when the judge is fitted."""

HELPFUL = ("cosine", "contained", "akin", "numbers_shared")
"""Numbers whose weight may not be negative; that of all others may not be positive."""

FOLDS = 8
RIDGE = 1.0
ROUNDS = 4000


class Pair(NamedTuple):
    """Two answers, their kind ("same" or what else), and the group that they are of."""

    one: str
    two: str
    kind: str
    group: str


def rows(file: Path) -> list[dict[str, Any]]:
    """Read the groups of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def own_pairs(half: str = "held") -> list[Pair]:
    """Return the pairs of the project's own answers: of one half, or "all"."""
    groups = [row for row in rows(FILE) if half in ("all", row["half"])]
    found = [pair for row in groups for pair in _of_group(row)]
    for one, two in combinations(groups, 2):
        found.append(Pair(one["same"][0], two["same"][1], "elsewhere", one["question"]))
    return found


def _of_group(row: dict[str, Any]) -> Iterator[Pair]:
    first, *others = row["same"]
    again = row.get(AGAIN, [])
    for one, two in combinations((first, *others), 2):
        yield Pair(one, two, SAME, row["question"])
    for one, two in product(others, again):
        yield Pair(one, two, SAME, row["question"])
    for two in again:
        yield Pair(first, two, AGAIN, row["question"])
    for kind in ("near", "contradicted"):
        for one, two in product((first, *others, *again), row[kind]):
            yield Pair(one, two, kind, row["question"])


def older_pairs() -> list[Pair]:
    """Return the pairs of ``answers.jsonl``, whose "other" mostly contradict in one fact."""
    found = []
    for row in rows(OLDER):
        group = row["same"][0]
        found += [Pair(one, two, SAME, group) for one, two in combinations(row["same"], 2)]
        every = product(row["same"], row["other"])
        found += [Pair(one, two, "contradicted", group) for one, two in every]
    return found


def pairs_of(folder: Path) -> list[Pair]:
    """Return the pairs of a folder's ``answer_pairs.jsonl``, by set and label."""
    return [
        Pair(row["fresh"], row["cached"], f"{row['set'].partition('-')[0]} {row['label']}"
             if row["set"] != "open-near-miss" else "open near miss", row["group"])
        for row in rows(folder / "answer_pairs.jsonl")
    ]  # fmt: skip


def judged(judge: Judge, pairs: Iterable[Pair]) -> dict[str, Counter[bool | None]]:
    """Return how often a judge said what of each kind."""
    said: dict[str, Counter[bool | None]] = {}
    for pair in pairs:
        said.setdefault(pair.kind, Counter())[judge(Answer(pair.one), Answer(pair.two))] += 1
    return said


def print_table(name: str, said: dict[str, Counter[bool | None]], seconds: float) -> None:
    """Print what a judge said of each kind."""
    total = sum(map(Counter.total, said.values()))
    print(f"\n{name}: {1000 * seconds / total:.2f} ms a pair")
    for kind, counts in said.items():
        n = counts.total()
        shares = "  ".join(
            f"{what} {100 * counts[verdict] / n:5.1f} %"
            for what, verdict in (("same", True), ("unknown", None), ("different", False))
        )
        print(f"  {kind:15s} n={n:5d}   {shares}")


# ------------------------------------------------------------------------------------- fitting


def fitted(values: Any, right: Any, shares: Any, names: list[str]) -> Any:
    """Return weights (d + 1,) of a logistic regression, the constant last, signs as in HELPFUL.

    By accelerated projected gradient, on columns of unit variance.
    """
    mean, scale = values.mean(0), values.std(0) + 1e-9
    columns = np.column_stack([(values - mean) / scale, np.ones(len(values))])
    low = np.array([0.0 if name in HELPFUL else -np.inf for name in names] + [-np.inf])
    high = np.array([np.inf if name in HELPFUL else 0.0 for name in names] + [np.inf])
    ridge = np.array([RIDGE] * len(names) + [0.0])
    step = 1 / (0.25 * np.linalg.norm(columns * np.sqrt(shares)[:, None], 2) ** 2 + RIDGE)
    weights = ahead = np.zeros(len(names) + 1)
    for number in range(ROUNDS):
        chance = 1 / (1 + np.exp(-columns @ ahead))
        slope = columns.T @ (shares * (chance - right)) + ridge * ahead
        moved = np.clip(ahead - step * slope, low, high)
        ahead = moved + number / (number + 3) * (moved - weights)
        weights = moved
    real = weights[:-1] / scale
    return np.append(real, weights[-1] - real @ mean)


class Fitting(NamedTuple):
    """Pairs that are weighed, neither brief nor fields, with what is known of them."""

    pairs: list[Pair]
    values: Any
    right: Any
    shares: Any
    folds: Any


def to_fit(pairs: list[Pair], memo: Memo) -> Fitting:
    """Return what the weights are fitted to."""
    kept, values = [], []
    for pair in pairs:
        one, two = read_answer(pair.one), read_answer(pair.two)
        if one.is_brief or two.is_brief or (one.fields and two.fields):
            continue
        kept.append(pair)
        cosine = float(memo.vector(pair.one) @ memo.vector(pair.two))
        values.append((cosine, *overlap(one, two)))
    of = Counter((pair.kind, pair.group) for pair in kept)
    shares = [WEIGHT[pair.kind] / of[pair.kind, pair.group] for pair in kept]
    folds = [int(hashlib.md5(p.group.encode()).hexdigest(), 16) % FOLDS for p in kept]  # noqa: S324
    right = np.array([float(pair.kind in (SAME, AGAIN)) for pair in kept])
    return Fitting(kept, np.array(values), right, np.array(shares), np.array(folds))


def fit(write: bool) -> None:
    """Fit the weights with and without cosines; print what they say of answers left out."""
    memo = Memo()
    pairs = own_pairs("fit") + older_pairs()
    data = to_fit(pairs, memo)
    found: dict[str, dict[str, float]] = {}
    every = ["cosine", *OVERLAP]
    for title, columns in (("BY_VECTORS", every), ("BY_WORDS", every[1:])):
        used = data.values[:, len(every) - len(columns) :]
        weights = fitted(used, data.right, data.shares, columns)
        found[title] = {"constant": weights[-1], **dict(zip(columns, weights[:-1], strict=True))}
        opinions = []
        for fold in range(FOLDS):
            rest, here = data.folds != fold, data.folds == fold
            w = fitted(used[rest], data.right[rest], data.shares[rest], columns)
            these = {"constant": w[-1], **dict(zip(columns, w[:-1], strict=True))}
            for at in np.flatnonzero(here):
                pair, cosine = data.pairs[at], float(data.values[at, 0])
                seen = cosine if title == "BY_VECTORS" else None
                opinion = opinion_at(read_answer(pair.one), read_answer(pair.two), seen, these)
                opinions.append((pair, opinion.same, opinion.why))
        _print_left_out(title, opinions)
    judge = AnswerJudge(memo)
    brief = [p for p in pairs if p.kind != "elsewhere" and p not in set(data.pairs)]
    opinions = [(p, *judge.opinion(Answer(p.one), Answer(p.two))[::2]) for p in brief]
    _print_left_out("brief answers and fields", opinions)
    scale = spread(memo.vector)
    print(f"\nscale: {scale[0]:.3f} {scale[1]:.3f}")
    for title, weights in found.items():
        print(f"\n{title}: " + ", ".join(f"{name} {value:.2f}" for name, value in weights.items()))
    if write:
        _write(found, scale)


def _print_left_out(title: str, opinions: list[tuple[Pair, bool | None, str]]) -> None:
    """Print verdicts by kind, and the error of each reason for a verdict at even odds."""
    print(f"\n{title}, answers left out of the fit")
    for kind in dict.fromkeys(pair.kind for pair, *_ in opinions):
        said = Counter(same for pair, same, _ in opinions if pair.kind == kind)
        n = said.total()
        print(f"  {kind:13s} n={n:4d} same {said[True] / n:.3f} different {said[False] / n:.3f}")
    of = Counter(pair.kind in (SAME, AGAIN) for pair, *_ in opinions if pair.kind != "elsewhere")
    for why in dict.fromkeys(why for *_, why in opinions if why):
        these = [(p.kind in (SAME, AGAIN), same) for p, same, reason in opinions
                 if reason == why and p.kind != "elsewhere"]  # fmt: skip
        shares = {right: sum(r == right for r, _ in these) / of[right] for right in (True, False)}
        false = shares[False] if these[0][1] else shares[True]
        print(f"  error of {why!r}: {false / (sum(shares.values()) or 1):.3f} ({len(these)} pairs)")


def _write(found: dict[str, dict[str, float]], scale: tuple[float, float]) -> None:
    text = JUDGES.read_text(encoding="utf-8")
    for title, weights in found.items():
        lines = "".join(f'    "{name}": {value + 0.0:.2f},\n' for name, value in weights.items())
        start = f"{title}: Mapping[str, float] = "
        text = re.sub(rf"(?ms)^{re.escape(start)}\{{.*?^\}}$", f"{start}{{\n{lines}}}", text)
    text = re.sub(r"(?m)^SCALE = .*$", f"SCALE = ({scale[0]:.3f}, {scale[1]:.3f})", text)
    JUDGES.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------------------------- a bot

BEFORE = (
    "", "Hi! ", "Hello, ", "Please tell me: ", "Quick question: ", "Could you help me? ",
    "I was wondering: ", "One more thing: ", "Excuse me, ", "Good morning. ",
)  # fmt: skip
AFTER = ("", " Thanks!", " Thank you.", " Please be brief.", " I am new here.", " It is urgent.")


RIGHT = 0.99
"""Share of its words in which a simulated model says the truth."""


class Model:
    """A simulated language model that judges answers or verifies questions; it counts its calls."""

    def __init__(self, group_of: Mapping[str, str], seed: int, right: float = RIGHT) -> None:
        self._group_of, self._rng, self._right = group_of, random.Random(seed), right
        self.calls = 0

    def __call__(self, prompt: str) -> str:
        texts = json.loads(prompt[prompt.index("{\n") :])
        return "SAME" if self.says(texts["first"], texts["second"]) else "DIFFERENT"

    def says(self, one: str, two: str) -> bool:
        """Say whether two texts are of one group; falsely now and then."""
        self.calls += 1
        same = self._group_of[one] == self._group_of[two]
        return same if self._rng.random() < self._right else not same


class Result(NamedTuple):
    """Hits by meaning of one run, how many of them were wrong, and calls of a simulated model."""

    hits: int
    wrong: int
    calls: int


def run_bot(name: str, requests: int, seed: int, identical: float, embed: Any) -> Result:
    """Run the bot once: with a judge of ``judges()``, or with a simulated model."""
    rng = random.Random(seed)
    groups = [row for row in rows(FILE) if row["half"] == "held"]
    every = [(row, f"{b}{row['question']}{a}") for row in groups for b in BEFORE for a in AFTER]
    group_of = {text: row["question"] for row in groups for text in row["same"]}
    group_of |= {question: row["question"] for row, question in every}
    oracle, model = Model(group_of, seed, 1.0), Model(group_of, seed)
    options: dict[str, Any] = {
        "oracle": lambda: {"judge": lambda one, two: oracle.says(one.text, two.text)},
        "sampled": lambda: {"judge": LLMJudge(model, sample=0.2, rng=rng)},
        "checked": lambda: {
            "judge": AnswerJudge(embed, check=LLMJudge(model, sample=0.2, rng=rng))
        },
        "verifier": lambda: {"verifier": model.says},
    }.get(name, lambda: {"judge": judges(embed)[name]()})()
    hits = wrong = 0
    with ResponseCache.open(embedder=embed, ttl=None, **options) as cache:
        for row, question in rng.sample(every, min(requests, len(every))):
            request = Request.of(question=question, model="bot")
            found = cache.lookup(request)
            if isinstance(found, Hit):
                hits += 1
                wrong += group_of[found.answer.text] != row["question"]
                continue
            text = row["same"][0] if rng.random() < identical else rng.choice(row["same"])
            cache.store(request, Answer(text))
            _wait_for_judge(cache)  # a model takes seconds for each answer
    return Result(hits, wrong, model.calls)


def _wait_for_judge(cache: ResponseCache) -> None:
    cache._path.semantic._labeler.drain()  # type: ignore[union-attr]


def bot(options: argparse.Namespace) -> None:
    """Print hits and wrong hits by judge, over all seeds."""
    inner = resolve_embedder(None)
    known: dict[str, Any] = {}

    def embed(texts: list[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, inner.embed(new), strict=True))
        return np.stack([known[text] for text in texts])

    for name in options.judges.split(","):
        runs = [
            run_bot(name, options.bot, seed, options.identical, embed)
            for seed in range(options.seeds)
        ]
        hits, wrong, calls = map(sum, zip(*runs, strict=True))
        each = " ".join(f"{hit}/{bad}" for hit, bad, _ in runs)
        print(
            f"{name:10s} hits {hits}, wrong {wrong} ({100 * wrong / max(1, hits):.2f} %): {each}; "
            f"{calls} calls of a judging model",
            flush=True,
        )


# ------------------------------------------------------------------------------------- speed


@dataclass(frozen=True)
class AlwaysExplore:
    """A policy that has the nearest candidate labelled, whatever it is."""

    k: int = 5
    learns: bool = True
    explores: bool = True
    floor: float = -1.0
    labels: list[Label] = field(default_factory=list)

    def for_embedder(self, embedder: str) -> AlwaysExplore:
        """Return itself."""
        return self

    def initial_state(self) -> None:
        """Return nothing."""

    def decide(
        self, question: str, candidates: Sequence[Candidate], state: None, rng: random.Random
    ) -> Explore | Skip:
        """Explore the nearest."""
        return Explore(0) if candidates else Skip("absent")

    def learn(self, state: None, label: Label) -> None:
        """Count the label."""
        self.labels.append(label)

    def settle(self, state: None) -> None:
        """Do nothing."""

    def describe(self, state: None) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


def speed(answers: int, rate: float) -> None:
    """Print what becomes of answers that come at a rate, and how long a store takes."""
    rng = random.Random(0)
    groups = [row["same"] for row in rows(FILE)]
    kinds: dict[str, Judge] = {"default": AnswerJudge(), "nothing": lambda fresh, cached: None}
    for name, judge in kinds.items():
        took = list[float]()
        with ResponseCache.open(
            embedder=_no_meaning, judge=judge, threshold=AlwaysExplore(), max_entries=200
        ) as cache:
            began = time.perf_counter()
            for number in range(answers):
                request = Request.of(question=f"What about it, number {number}?", model="m")
                cache.lookup(request)
                text = f"{rng.choice(rng.choice(groups))} That was case {number}."
                start = time.perf_counter()
                cache.store(request, Answer(text))
                took.append(time.perf_counter() - start)
                time.sleep(max(0.0, began + (number + 1) / rate - time.perf_counter()))
            seconds = time.perf_counter() - began
            _wait_for_judge(cache)
            counts = cache._path.counters.counts()
        judged_now = sum(n for kind, n in counts.items() if kind.startswith("explored:"))
        median, late = np.percentile(took, [50, 99]) * 1e3
        print(
            f"judge {name:8s} {answers / seconds:6.1f} answers a second: {judged_now} judged, "
            f"{counts.get('errors:judge_busy', 0)} dropped; a store takes {median:.3f} ms, "
            f"p99 {late:.2f} ms"
        )


def _no_meaning(texts: list[str]) -> Any:
    """Embed questions for nothing: all are near, so that each answer is judged."""
    return np.stack([np.eye(8)[0] + 1e-3 * (len(text) % 7) for text in texts])


def judges(embedder: Any = None) -> dict[str, Callable[[], Judge]]:
    """Return how to make each judge that needs no model of a provider."""
    return {
        "words": lambda: same_answer,
        "default": lambda: AnswerJudge(embedder),
        "strict": lambda: EmbeddingJudge(embedder, same=0.8, other=0.4),
    }


def main() -> None:
    """Print what each judge says of each kind of pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("held", "model", "fit", "fresh", "all"), default="held")
    parser.add_argument("--folder", type=Path, help="a folder with an answer_pairs.jsonl")
    parser.add_argument("--judges", default=",".join(judges()))
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--bot", type=int, default=0, metavar="REQUESTS")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--identical", type=float, default=0.0)
    parser.add_argument("--speed", type=int, default=0, metavar="ANSWERS")
    parser.add_argument("--rate", type=float, default=200.0, help="answers a second")
    options = parser.parse_args()
    if options.speed:
        speed(options.speed, options.rate)
        return
    if options.bot:
        bot(options)
        return
    if options.fit:
        fit(options.write)
        return
    for name in options.judges.split(","):
        judge = judges()[name]()
        for pairs in (own_pairs(options.half), pairs_of(options.folder) if options.folder else []):
            started = time.perf_counter()
            said = judged(judge, pairs)
            if said:
                print_table(name, said, time.perf_counter() - started)


if __name__ == "__main__":
    main()
