"""Show a LangChain session on real embeddings: what is served, what is refused, and why.

Nothing about the outcome is scripted. A step says what it expects of the cache, the table says what
the cache did, and the two are compared.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_core.thresholds import DEFAULT_SIMILARITY

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from rich.console import Console

    from langchain_tiered_cache import TieredCache


_MODEL = "gpt-4o-mini"
"""Whose prices are used; the model itself is a local stand-in."""

SUPPORT = "You answer questions about the online shop of a bookseller, briefly."
LEGAL = "You are a lawyer. You answer questions about contracts, at length."

ANSWER = (
    "Open your account, choose Settings and then Security, and follow the link at the bottom of "
    "the page. You will get a message within five minutes; its link is good for one hour. If "
    "nothing arrives, look into the spam folder before you ask again, since each request makes "
    "the earlier links invalid."
)

MODEL_S = (0.6, 1.2)
TOKENS_PER_CHARACTER = 0.25
FAILED = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One question, and who must answer it: "model", "exact", "semantic", or None: either may.

    ``answer_to`` is the question that was asked when the right answer was stored.
    """

    title: str
    question: str
    expected: str | None
    answer_to: str
    system: str = SUPPORT


@dataclass(frozen=True, slots=True)
class StepResult:
    """Who answered a step, with the answer to which question, and what that saved."""

    served_by: str
    answer_to: str
    seconds: float
    reason: str | None = None
    similarity: float | None = None
    tokens: int = 0
    dollars: float | None = None


RESET = "How do I reset my password?"
POLITE = "Could you tell me how to reset my password, please?"
IN_2024 = "What is the refund policy for orders placed in 2024?"
IN_2025 = "What is the refund policy for orders placed in 2025?"
ENABLE = "How do I enable dark mode in the app settings?"
DISABLE = "How do I disable dark mode in the app settings?"

AT_A_SIMILARITY = (
    Step("first ask", RESET, "model", RESET),
    Step("asked again", RESET, "exact", RESET),
    Step("paraphrase", "How can I reset my password?", "semantic", RESET),
    Step("paraphrase", POLITE, "semantic", RESET),
    Step("far paraphrase", "I forgot my password, how do I get a new one?", None, RESET),
    Step("first ask", IN_2024, "model", IN_2024),
    Step("near miss", IN_2025, "model", IN_2025),
    Step("first ask", ENABLE, "model", ENABLE),
    Step("near miss", DISABLE, "model", DISABLE),
    Step("other system prompt", RESET, "model", RESET, LEGAL),
)

AFTER_RESTART = (
    Step("after a restart", RESET, "exact", RESET),
    Step("after a restart", "What are the steps to reset my password?", "semantic", RESET),
)

OTHER_PROCESS = (
    Step("another process", ENABLE, "exact", ENABLE),
    Step("another process", ENABLE.replace("do I", "can I"), "semantic", ENABLE),
)

BY_DEFAULT = (
    Step("first ask", RESET, "model", RESET),
    Step("asked again", RESET, "exact", RESET),
    Step("paraphrase", "How can I reset my password?", "semantic", RESET),
    Step("first ask", IN_2024, "model", IN_2024),
    Step("near miss", IN_2025, "model", IN_2025),
    Step("first ask", ENABLE, "model", ENABLE),
    Step("near miss", DISABLE, "model", DISABLE),
)
"""The default policy serves at once what public data proves."""


def run_demo(console: Console) -> int:
    """Play the session and return the exit code: 0, or 1 if an expectation was not met."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one question keeps no second thread busy
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'answers.db'}"
        console.print(f"model: a local stand-in for {_MODEL}, store: {url}")
        by_default = _session("memory://", BY_DEFAULT, console, threshold=None)
        played = list(zip(BY_DEFAULT, by_default, strict=True))
        console.print(f"from here on threshold={DEFAULT_SIMILARITY}, in a file")
        played += zip(AT_A_SIMILARITY, _session(url, AT_A_SIMILARITY), strict=True)
        played += zip(AFTER_RESTART, _session(url, AFTER_RESTART), strict=True)
        played += zip(OTHER_PROCESS, _in_another_process(url, OTHER_PROCESS), strict=True)
    return _tell(played, console)


def _session(
    url: str,
    steps: Sequence[Step],
    console: Console | None = None,
    threshold: float | None = DEFAULT_SIMILARITY,
) -> list[StepResult]:
    """Open the cache, ask, and close it again; a fixed threshold has nothing to learn first."""
    from langchain_tiered_cache import TieredCache

    options: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    cache = TieredCache(url, **options)
    started = time.perf_counter()
    cache.preload()
    if console is not None:
        took = time.perf_counter() - started
        console.print(f"embedding model: loaded in {took:.1f} s")
        policy = cache.cache.stats().policy
        told = ("policy", "max_error", "per", "start")
        console.print("policy:", ", ".join(f"{name} {policy[name]}" for name in told))
    model = local_model(cache)
    outcomes = [_ask(model, cache, step) for step in steps]
    cache.close()
    return outcomes


def _ask(model: BaseChatModel, cache: TieredCache, step: Step) -> StepResult:
    from shared_core.controls import LookupEvent
    from shared_core.usage import price

    started = time.perf_counter()
    with cache.cache.trace() as trace:
        message = model.invoke([("system", step.system), ("human", step.question)])
    answer_to = message.text.removesuffix(f" {ANSWER}")
    seconds = time.perf_counter() - started
    event = next(event for event in trace.events if isinstance(event, LookupEvent))
    if event.tier is None:
        reason = event.reason or event.outcome
        return StepResult("model", answer_to, seconds, reason, event.similarity)
    usage = event.usage or {}
    tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    saved = price(_MODEL, usage)
    return StepResult(str(event.tier), answer_to, seconds, None, event.similarity, tokens, saved)


def _in_another_process(url: str, steps: Sequence[Step]) -> list[StepResult]:
    code = (
        "import sys; from shared_core.cli.demo import answer_as_json; answer_as_json(*sys.argv[1:])"
    )
    asked = json.dumps([asdict(step) for step in steps])
    ran = subprocess.run(  # noqa: S603 - this interpreter, on arguments of our own
        [sys.executable, "-c", code, url, asked], check=True, stdout=subprocess.PIPE, text=True
    )
    return [StepResult(**outcome) for outcome in json.loads(ran.stdout.splitlines()[-1])]


def answer_as_json(url: str, steps: str) -> None:
    """Play steps and print their outcomes, both as JSON: what the second process does."""
    outcomes = _session(url, [Step(**step) for step in json.loads(steps)])
    print(json.dumps([asdict(outcome) for outcome in outcomes]))


def local_model(cache: TieredCache) -> BaseChatModel:
    """Return a chat model that needs no network: it takes its time and counts its tokens."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    rng = random.Random(0)  # noqa: S311 - how long an answer takes is no secret

    class LocalModel(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "local-stand-in"

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"model_name": _MODEL, "temperature": 0.0}

        def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
            time.sleep(rng.uniform(*MODEL_S))
            asked = round(sum(len(m.text) for m in messages) * TOKENS_PER_CHARACTER)
            answer = f"{messages[-1].text} {ANSWER}"  # it says which question it is about
            answered = round(len(answer) * TOKENS_PER_CHARACTER)
            message = AIMessage(
                answer,
                response_metadata={"finish_reason": "stop", "model_name": _MODEL},
                usage_metadata={
                    "input_tokens": asked,
                    "output_tokens": answered,
                    "total_tokens": asked + answered,
                },
            )
            return ChatResult(generations=[ChatGeneration(message=message)])

    return LocalModel(cache=cache)


def _tell(played: Sequence[tuple[Step, StepResult]], console: Console) -> int:
    from rich.table import Table

    table = Table()
    for name in ("step", "question", "answered by"):
        table.add_column(name)
    for name in ("similarity", "latency", "tokens saved", "$ saved"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("as expected")
    for step, got in played:
        table.add_row(
            step.title,
            step.question,
            got.served_by + (f" ({got.reason})" if got.reason else ""),
            "" if got.similarity is None else f"{got.similarity:.3f}",
            f"{got.seconds * 1000:,.1f} ms",
            str(got.tokens or ""),
            "" if got.dollars is None else f"{got.dollars:.6f}",
            _verdict(step, got),
        )
    console.print(table)
    hits = [got for _, got in played if got.served_by != "model"]
    misses = [got for _, got in played if got.served_by == "model"]
    tokens, dollars = sum(got.tokens for got in hits), sum(got.dollars or 0.0 for got in hits)
    console.print(
        f"{len(hits)} of {len(played)} answers came from the cache and saved {tokens:,} tokens, "
        f"${dollars:.6f} at the prices of {_MODEL}. Slowest hit "
        f"{max((got.seconds for got in hits), default=0.0) * 1000:,.0f} ms, fastest model call "
        f"{min((got.seconds for got in misses), default=0.0) * 1000:,.0f} ms."
    )
    failed = [step for step, got in played if _verdict(step, got).startswith("NO")]
    return FAILED if failed else 0


def _verdict(step: Step, got: StepResult) -> str:
    if got.answer_to != (step.question if got.served_by == "model" else step.answer_to):
        return f"NO: the answer to {got.answer_to!r}"
    if step.expected is None:
        return "either is right"
    return "yes" if step.expected == got.served_by else f"NO: {step.expected} was"
