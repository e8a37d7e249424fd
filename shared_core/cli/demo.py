"""Play a minute of a support bot behind the cache: what is served, what is refused, and why.

The visitors' questions are scripted, and nothing else. A step says what it expects of the cache;
what the cache did is shown, and compared with that.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from rich.console import Console

    from langchain_tiered_cache import TieredCache


PRICED_AS = "gpt-4o"
"""Whose prices are used; the model itself is a local stand-in."""

MODEL_S = (0.5, 0.9)
"""Seconds that the stand-in takes for an answer, at least and at most."""

PAUSE_S = 0.9
"""How long each answer stands before the next question, where a person watches."""

TOKENS_PER_CHARACTER = 0.25
A_DAY = 10_000
"""Questions a day for which the savings are scaled up at the end."""

SHOP = "You answer customers of an online bookshop, briefly, and only by the rules of the shop."
LIBRARY_DESK = (
    "You answer readers of a public library, briefly, and only by the rules of the library."
)

ANSWERS = {
    "cancel": "Open My orders and press Cancel; that works until we ship it.",
    "status": "Open My orders: each order shows its status and its parcel.",
    "voucher": "Type its code into the field Voucher in the basket.",
    "return 2024": "No: a book can be returned within 60 days, and those are over.",
    "return 2025": "Yes, within 60 days: open My orders and print the label.",
    "notify on": "Open Settings, Messages, and switch Order notifications on.",
    "notify off": "Open Settings, Messages, and switch Order notifications off.",
    "delivery": "Two working days.",
    "library": "Bring the book to any desk; it is then free for others.",
}
"""What the model knows, by topic."""

NEWS = {"delivery": "Five working days, because of the strike."}
"""What it knows once the world has changed."""

AUDIT, UNSURE = "audit", "risk"
"""Reasons of a miss that checks what would have been served, and of one that is not sure enough."""


@dataclass(frozen=True, slots=True)
class Step:
    """One question, whose answer it wants, and who may give it: a tier, "model", or "audit".

    ``near`` is a stored question that is nearly the same and must not be taken for it. ``reports``:
    the visitor says that the answer is wrong.
    """

    question: str
    topic: str
    expected: tuple[str, ...]
    near: str = ""
    system: str = SHOP
    reports: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """Who answered a step and what that saved: ``seconds`` of waiting, and ``dollars``.

    ``apart`` is what the guard sees between the question and the one that is nearly the same.
    """

    question: str
    served_by: str
    answer: str
    ms: float
    ok: bool
    reason: str | None = None
    similarity: float | None = None
    apart: str = ""
    seconds_saved: float = 0.0
    dollars_saved: float = 0.0


@dataclass(frozen=True, slots=True)
class Act:
    """Steps under one title; ``news``: the world changes before them; ``restart``: the app ends."""

    title: str
    steps: tuple[Step, ...]
    news: bool = False
    restart: bool = False


FRESH, EXACT, MEANING = ("model",), ("exact",), ("semantic", AUDIT, UNSURE)
"""Who may answer: by meaning, unless the policy checks that hit or is not sure enough of it."""

CANCEL = "How do I cancel my order?"
ORDERED_IN_2024 = "Can I return a book that I ordered in 2024?"
TURN_ON = "How do I turn on order notifications?"
DELIVERY = "How long does delivery take?"

SCRIPT = (
    Act(
        "The same question, and the same in other words",
        (
            Step(CANCEL, "cancel", FRESH),
            Step(CANCEL, "cancel", EXACT),
            Step("How can I cancel my order?", "cancel", ("semantic",)),
            Step("Where can I see my order status?", "status", FRESH),
            Step("Where do I see the status of my order?", "status", MEANING),
            Step("How do I redeem a voucher?", "voucher", FRESH),
            Step("How can I redeem a voucher?", "voucher", MEANING),
        ),
    ),
    Act(
        "Nearly the same words, and another answer",
        (
            Step(ORDERED_IN_2024, "return 2024", FRESH),
            Step(ORDERED_IN_2024.replace("2024", "2025"), "return 2025", FRESH, ORDERED_IN_2024),
            Step(TURN_ON, "notify on", FRESH),
            Step(TURN_ON.replace(" on ", " off "), "notify off", FRESH, TURN_ON),
        ),
    ),
    Act(
        "The same words to another bot: nothing is shared",
        (Step(CANCEL, "library", FRESH, system=LIBRARY_DESK),),
    ),
    Act(
        "Before the strike, parcels took two days",
        (Step(DELIVERY, "delivery", FRESH),),
    ),
    Act(
        "During the strike a visitor reports that answer as wrong, and it is gone",
        (
            Step(DELIVERY, "delivery", EXACT, reports=True),
            Step(DELIVERY, "delivery", FRESH),
            Step("How long will delivery take?", "delivery", MEANING),
        ),
        news=True,
    ),
    Act(
        "The app starts anew, on the same file",
        (
            Step(CANCEL, "cancel", EXACT),
            Step("Please tell me how to cancel my order", "cancel", MEANING),
            Step("How can I redeem a voucher?", "voucher", (*MEANING, *EXACT)),
            Step("How do I redeem a voucher?", "voucher", EXACT),
            Step("Where can I see my order status?", "status", EXACT),
            Step("How long does delivery take?", "delivery", EXACT),
        ),
        restart=True,
    ),
)


@dataclass(slots=True)
class Played:
    """What became of the steps so far; the first of a kind of hit counts as what it saved."""

    steps: list[StepResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether every step went as expected."""
        return all(step.ok for step in self.steps)

    @property
    def hits(self) -> int:
        """Return how many answers came from the cache."""
        return sum(step.served_by != "model" for step in self.steps)

    @property
    def seconds_saved(self) -> float:
        """Return the waiting that hits saved."""
        return sum(step.seconds_saved for step in self.steps)

    @property
    def dollars_saved(self) -> float:
        """Return the money that hits saved."""
        return sum(step.dollars_saved for step in self.steps)

    def counter(self) -> str:
        """Return the counter that runs along."""
        return (
            f"{len(self.steps)} questions, {self.hits} answered by the cache: "
            f"{1000 * self.seconds_saved:,.0f} ms and ${self.dollars_saved:.5f} saved"
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        names = ("ok", "hits", "seconds_saved", "dollars_saved")
        return {
            "steps": [asdict(step) for step in self.steps],
            **{name: getattr(self, name) for name in names},
        }


def run_demo(console: Console | None = None) -> Played:
    """Play the script and return what happened; without a console nothing is printed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one question keeps no second thread busy
    played, known = Played(), dict(ANSWERS)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'answers.db'}"
        screen = _Screen(console, played)
        cache = _opened(url)
        screen.opening(cache)
        model = stand_in(cache, known)
        with screen.live():
            for act in SCRIPT:
                if act.news:
                    known |= NEWS
                if act.restart:
                    cache.close()
                    cache = _opened(url)
                    model = stand_in(cache, known)
                screen.act(act.title)
                for step in act.steps:
                    screen.asked(step)
                    played.steps.append(_ask(model, cache, step, known))
                    screen.answered(step, played.steps[-1])
        cache.close()
        screen.closing()
    return played


def _opened(url: str) -> TieredCache:
    from langchain_tiered_cache import TieredCache

    cache = TieredCache(url)
    cache.preload()
    return cache


def _ask(
    model: BaseChatModel, cache: TieredCache, step: Step, known: Mapping[str, str]
) -> StepResult:
    from shared_core.cli.review import difference_line
    from shared_core.controls import LookupEvent
    from shared_core.guard import Guard
    from shared_core.usage import price

    started = time.perf_counter()
    with cache.cache.trace() as trace:
        message = model.invoke([("system", step.system), ("human", step.question)])
    seconds = time.perf_counter() - started
    event = next(event for event in trace.events if isinstance(event, LookupEvent))
    texts = step.question, step.near
    apart = "; ".join(difference_line(one, *texts) for one in Guard().differences(*texts))
    served_by = "model" if event.tier is None else str(event.tier)
    reason = (event.reason or event.outcome) if event.tier is None else None
    wanted = ANSWERS[step.topic] if step.reports else known[step.topic]
    who = reason if reason in step.expected else served_by
    ok = who in step.expected and message.text == wanted
    saved = (0.0, 0.0)
    if event.tier is not None:
        dollars = price(PRICED_AS, event.usage or {})
        saved = max(0.0, sum(MODEL_S) / 2 - seconds), dollars or 0.0
        if step.reports:
            cache.feedback(message, correct=False)
    return StepResult(
        *(step.question, served_by, message.text, 1000 * seconds, ok, reason, event.similarity),
        *(apart if step.near else "", *saved),
    )


def stand_in(cache: TieredCache, known: Mapping[str, str]) -> BaseChatModel:
    """Return a chat model that needs no network: it takes its time and counts its tokens."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    rng = random.Random(0)  # noqa: S311 - how long an answer takes is no secret
    topics = {(step.system, step.question): step.topic for act in SCRIPT for step in act.steps}

    class StandIn(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "local-stand-in"

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"model_name": PRICED_AS, "temperature": 0.0}

        def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
            time.sleep(rng.uniform(*MODEL_S))
            system, question = (message.text for message in messages)
            answer = known[topics[system, question]]
            asked = round(len(system + question) * TOKENS_PER_CHARACTER)
            answered = round(len(answer) * TOKENS_PER_CHARACTER)
            message = AIMessage(
                answer,
                response_metadata={"finish_reason": "stop", "model_name": PRICED_AS},
                usage_metadata={
                    "input_tokens": asked,
                    "output_tokens": answered,
                    "total_tokens": asked + answered,
                },
            )
            return ChatResult(generations=[ChatGeneration(message=message)])

    return StandIn(cache=cache)


class _Screen:
    """Prints the play: with a counter that runs along in a terminal, plainly elsewhere."""

    def __init__(self, console: Console | None, played: Played) -> None:
        self._console, self._played = console, played
        self._live: Any = None

    def opening(self, cache: TieredCache) -> None:
        policy = cache.cache.stats().policy
        self._print("A bookshop's support bot. Its model is a stand-in that takes 0.5 to 0.9 s;")
        self._print(f"the cache, the embeddings and the prices (of {PRICED_AS}) are real.")
        self._print(
            f"policy: the default, at most {100 * policy['max_error']:g} % of hits by meaning wrong"
        )

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the counter at the bottom while the block runs."""
        if self._console is None or not self._console.is_terminal:
            yield
            return
        from rich.live import Live

        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def act(self, title: str) -> None:
        self._print("")
        self._print(title, "bold")

    def asked(self, step: Step) -> None:
        self._print(f"  visitor  {step.question}")
        self._count()

    def answered(self, step: Step, got: StepResult) -> None:
        self._print(f"  bot      {got.answer}")
        self._print(f"           {_verdict(step, got)}", _style(got))
        if step.reports:
            self._print("           the visitor says that this is wrong: feedback(…, False)", "red")
        if not got.ok:
            self._print(f"           NOT as expected: {' or '.join(step.expected)}", "bold red")
        self._count()
        if self._live is not None:
            time.sleep(PAUSE_S)

    def closing(self) -> None:
        played = self._played
        a_day = A_DAY / max(1, len(played.steps))
        self._print("")
        self._print(played.counter(), "bold")
        self._print(
            f"At {A_DAY:,} such questions a day: ${played.dollars_saved * a_day:,.2f} and "
            f"{played.seconds_saved * a_day / 3600:,.1f} hours of waiting saved, every day."
        )
        self._print("next: tiered-cache doctor, and the LangChain example of README.md")

    def _count(self) -> None:
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(f"\n{self._played.counter()}", "bold cyan"), refresh=True)

    def _print(self, text: str, style: str = "") -> None:
        if self._console is not None:
            self._console.print(text, style=style or None, markup=False, highlight=False)


_WHY = {
    AUDIT: ", to check the cache, as with some of the first hits",
    UNSURE: ", as the cache is not sure enough of its nearest answer",
    "new_scope": ", as nothing was asked of this bot before",
}


def _verdict(step: Step, got: StepResult) -> str:
    """Say who answered, how fast, and why it was not the cache."""
    took = f"{got.ms:,.0f} ms" if got.ms >= 1 else f"{got.ms:.2f} ms"
    if got.served_by == "exact":
        return f"cache, the same words: {took}, ${got.dollars_saved:.5f} saved"
    if got.served_by == "semantic":
        cosine = f"{got.similarity or 0:.3f}"
        return f"cache, by meaning ({cosine}): {took}, ${got.dollars_saved:.5f} saved"
    if got.apart:
        return f"model: {took}\n           the cache refused its nearest answer: {got.apart}"
    is_worth_a_word = got.reason in step.expected or got.reason == "new_scope"
    return f"model{_WHY[got.reason or ''] if is_worth_a_word else ''}: {took}"


def _style(got: StepResult) -> str:
    if got.served_by != "model":
        return "green"
    return "yellow" if got.apart else "dim"
