"""The replay of the savings benchmark: requests through the tiers, what is served and what called.

request -> our cache -> served | the model, behind the provider's prompt cache -> usage, latency
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from savings_workload import Ask, tokens

from shared_core import Answer, Hit, Request, ResponseCache, Static, Verified
from shared_core.usage import price

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
    """What one replay came to; latencies in milliseconds."""

    requests: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    usages: list[dict[str, int]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def add(self, other: Result) -> None:
        """Add another replay of the same setting."""
        self.requests += other.requests
        self.hits += other.hits
        self.wrong += other.wrong
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
            elif served != ask.answer:
                result.wrong += 1
            result.latencies.append(latency)
    return result


def _answer(ask: Ask, opened: ResponseCache | None, result: Result) -> tuple[float, str | None]:
    """Return the milliseconds spent in the cache, and what it answered, if it did."""
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
        return (time.perf_counter() - started) * 1000, found.answer.text
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
