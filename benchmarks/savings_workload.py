"""The requests of the savings benchmark: questions by Zipf's law, in sessions of several apps."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_core.usage import estimated_usage

DATA = Path(__file__).parent / "data" / "savings.jsonl"
APPS = ("the chat on the web site", "the phone line, whose answers are read aloud", "e-mail")
PROMPT_TOKENS = 1400
GAP_S, TURN_S = 3.0, 20.0


@dataclass(frozen=True, slots=True)
class Topic:
    """One question in several wordings, and its answer."""

    answer: str
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: when it comes (seconds), what was said before, what is asked, the answer."""

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
