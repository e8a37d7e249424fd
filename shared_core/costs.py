"""Account for what model calls cost and what the cache saved, with budgets.

a call's usage --price--> spent        a hit's usage --price--> saved
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from shared_core.concurrency import renew_after_fork
from shared_core.controls import LookupEvent, RewriteEvent, StoreEvent
from shared_core.learning import VerifyEvent
from shared_core.resilience import swallow
from shared_core.usage import Price, price

MODEL = "model"
"""The tier of what no tier answered."""

_PREFIX = "prefix"
"""The tier of a provider's prompt cache: input that was cheaper, in calls that were made."""

_VERIFIER = "verifier"
"""The tier of words that a verifier was asked for; what they saved is in the semantic tier's."""


_STANDALONE = "standalone"
"""The tier of follow-ups that a model rewrote; what they saved is in the semantic tier's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One sum of an account, in US dollars.

    ``calls`` were made, ``hits`` were answered without one. Of both, ``estimated`` say how many
    token counts were estimated, and ``unpriced`` how many had no price or no usage: what those
    cost is in neither sum. Savings of prompt caches are net of what writing them cost.
    """

    calls: int = 0
    hits: int = 0
    spent: float = 0.0
    saved: float = 0.0
    estimated: int = 0
    unpriced: int = 0

    @property
    def savings_rate(self) -> float:
        """Return the share of what would have been spent without a cache that was not spent."""
        whole = self.spent + self.saved
        return self.saved / whole if whole > 0 else 0.0

    def plus(self, other: Line) -> Line:
        """Return the sum of two lines."""
        return Line(
            self.calls + other.calls,
            self.hits + other.hits,
            self.spent + other.spent,
            self.saved + other.saved,
            self.estimated + other.estimated,
            self.unpriced + other.unpriced,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """What was spent and saved: in all, and by model, tier and namespace."""

    total: Line
    by_model: Mapping[str, Line]
    by_tier: Mapping[str, Line]
    by_namespace: Mapping[str, Line]


@dataclass(frozen=True, slots=True)
class Overspent:
    """What a budget's hook is given: the budget, and the dollars spent in its period so far."""

    budget: Budget
    spent: float


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of US dollars, and what to call when it is passed: once, or once in each period.

    ``model`` and ``namespace`` None: all of them. ``period`` in seconds, counted from the epoch
    (86,400: a UTC day); None: for ever. Raises ValueError for a limit or period not above 0.

        costs = Costs(budgets=[Budget(20.0, lambda passed: print(passed.spent), period=86_400)])
    """

    limit: float
    hook: Callable[[Overspent], object]
    model: str | None = None
    namespace: str | None = None
    period: float | None = None

    def __post_init__(self) -> None:
        if not self.limit > 0 or not (self.period is None or self.period > 0):
            raise ValueError(
                f"limit and period must be above 0, not {self.limit!r} and {self.period!r}"
            )
        if not callable(self.hook):
            raise ValueError(f"hook must be a callable that takes an Overspent, not {self.hook!r}")


@dataclass(slots=True)
class _Purse:
    """What was spent of a budget in the period that began last."""

    spent: float = 0.0
    period: int = -1
    is_reported: bool = False


_by_hand: ContextVar[tuple[Costs, ...]] = ContextVar("tiered_cache_costs_by_hand", default=())


@dataclass(slots=True)
class _Book:
    lines: dict[tuple[str, str, str], Line] = field(default_factory=dict)
    purses: list[_Purse] = field(default_factory=list)
    hook_errors: int = 0


class Costs:
    """Keeps account of what was spent and saved, in this process. Safe for threads.

    ``prices`` by model go before genai-prices' list. A ``CachedClient`` given one fills it. As a
    hook of a cache it sees what hits save, and what the answers that are stored cost; ``spend``
    is for calls whose answers go past the cache.

        costs = Costs(budgets=[Budget(20.0, print, period=86_400)])
        cache = ResponseCache.open(hooks=[costs])
        costs.account().total.savings_rate
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | None = None,
        budgets: Iterable[Budget] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prices, self._budgets, self._clock = dict(prices or {}), tuple(budgets), clock
        self.renew_after_fork()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Start the child with an empty account: the parent's is the parent's to report."""
        self._lock = threading.Lock()
        self._book = _Book(purses=[_Purse() for _ in self._budgets])

    def price(self, model: str, usage: Mapping[str, int]) -> float | None:
        """Return what a usage costs in US dollars, None if the model has no price."""
        return price(model, usage, self._prices)

    def spend(
        self,
        model: str,
        usage: Mapping[str, int] | None,
        *,
        namespace: str = "default",
        estimated: bool = False,
    ) -> float | None:
        """Count a model call and return its dollars, None without a price.

        What a provider's prompt cache made cheaper is saved by the tier "prefix".
        """
        dollars = None if usage is None else self.price(model, usage)
        line = Line(calls=1, estimated=int(estimated), unpriced=int(dollars is None))
        self._add((model, MODEL, namespace), replace(line, spent=dollars or 0.0))
        if dollars is None or usage is None:
            return None
        if usage.get("cached_tokens") or usage.get("cache_write_tokens"):
            whole = {name: usage.get(name) or 0 for name in ("input_tokens", "output_tokens")}
            saved = (self.price(model, whole) or 0.0) - dollars
            self._add((model, _PREFIX, namespace), Line(saved=saved))
        self._charge(model, namespace, dollars)
        return dollars

    def save(
        self,
        model: str,
        usage: Mapping[str, int] | None,
        *,
        tier: str,
        namespace: str = "default",
        estimated: bool = False,
    ) -> float | None:
        """Count an answer that needed no call; return the dollars that it saved, None unpriced."""
        dollars = None if usage is None else self.price(model, usage)
        line = Line(hits=1, estimated=int(estimated), unpriced=int(dollars is None))
        self._add((model, tier, namespace), replace(line, saved=dollars or 0.0))
        return dollars

    def __call__(self, event: LookupEvent) -> None:
        """Count what a hit saved: this object is a hook of caches."""
        if event.outcome == "hit" and self not in _by_hand.get():
            usage, tier = event.usage or None, str(event.tier)
            self.save(event.model, usage, tier=tier, namespace=event.namespace)

    def stored(self, event: StoreEvent) -> None:
        """Count what a stored answer cost; one without usage is not known to be of a call."""
        if event.usage and self not in _by_hand.get():
            self.spend(event.model, event.usage, namespace=event.namespace)

    def verified(self, event: VerifyEvent) -> None:
        """Count what a verifier's word cost, under the tier "verifier"."""
        self._count_aside(event, _VERIFIER)

    def rewritten(self, event: RewriteEvent) -> None:
        """Count what rewriting a follow-up cost, under the tier "standalone"."""
        self._count_aside(event, _STANDALONE)

    def _count_aside(self, event: VerifyEvent | RewriteEvent, tier: str) -> None:
        """Count a call that the cache made itself."""
        dollars = None if event.usage is None else self.price(event.model, event.usage)
        line = Line(calls=1, spent=dollars or 0.0, unpriced=int(dollars is None))
        self._add((event.model, tier, event.namespace), line)
        if dollars is not None:
            self._charge(event.model, event.namespace, dollars)

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        """Hear no cache in this block: whoever enters it tells what is spent and saved."""
        token = _by_hand.set((*_by_hand.get(), self))
        try:
            yield
        finally:
            _by_hand.reset(token)

    def account(self) -> Account:
        """Return the sums so far."""
        with self._lock:
            lines = dict(self._book.lines)
        total, by = Line(), ({}, {}, {})  # type: tuple[Line, tuple[dict[str, Line], ...]]
        for names, line in lines.items():
            total = total.plus(line)
            for sums, name in zip(by, names, strict=True):
                sums[name] = sums.get(name, Line()).plus(line)
        return Account(total, *by)

    @property
    def hook_errors(self) -> int:
        """Return how often a budget's hook raised; that is logged, and affects no call."""
        return self._book.hook_errors

    def _add(self, names: tuple[str, str, str], line: Line) -> None:
        with self._lock:
            lines = self._book.lines
            lines[names] = lines.get(names, Line()).plus(line)

    def _charge(self, model: str, namespace: str, dollars: float) -> None:
        """Take dollars out of every budget that they belong to, and call the hooks of passed ones.

        The hooks run without the lock: they may ask for the account.
        """
        now, passed = self._clock(), list[Overspent]()
        with self._lock:
            for budget, purse in zip(self._budgets, self._book.purses, strict=True):
                if budget.model not in (None, model) or budget.namespace not in (None, namespace):
                    continue
                period = 0 if budget.period is None else int(now // budget.period)
                if period != purse.period:
                    purse.spent, purse.period, purse.is_reported = 0.0, period, False
                purse.spent += dollars
                if purse.spent > budget.limit and not purse.is_reported:
                    purse.is_reported = True
                    passed.append(Overspent(budget, purse.spent))
        for overspent in passed:
            swallow(self._count_hook_error, "budget hook", overspent.budget.hook, overspent)

    def _count_hook_error(self, _: str) -> None:
        with self._lock:
            self._book.hook_errors += 1


def lines_of(account: Account) -> list[tuple[str, str]]:
    """Return an account as names and texts, for people."""

    def text(line: Line) -> str:
        notes = [
            f"{count:,} {name}"
            for name, count in (("estimated", line.estimated), ("unpriced", line.unpriced))
            if count
        ]
        return (
            f"spent ${line.spent:,.4f}, saved ${line.saved:,.4f} ({line.savings_rate:.1%}), "
            f"{line.calls:,} calls, {line.hits:,} hits" + "".join(f", {note}" for note in notes)
        )

    named = [("in all", account.total)]
    for kind, lines in (
        ("model", account.by_model),
        ("tier", account.by_tier),
        ("namespace", account.by_namespace),
    ):
        named += [(f"{kind} {name}", line) for name, line in sorted(lines.items())]
    return [(name, text(line)) for name, line in named]
