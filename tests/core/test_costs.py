"""Costs: what is spent and saved, by whom, at which price, and when a budget is passed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from shared_core import Answer, Request, ResponseCache
from shared_core.costs import Budget, Costs, Line, Overspent, lines_of
from shared_core.usage import Price, estimated_usage, price
from tests.fakes import Clock

PRICES = {"m": Price(1.0, 10.0, cache_read=0.1, cache_write=1.25), "plain": Price(2.0, 4.0)}
USAGE = {"input_tokens": 100_000, "output_tokens": 10_000}


def costs(**options: Any) -> Costs:
    return Costs(PRICES, **options)


def test_own_prices_go_before_the_list() -> None:
    assert price("gpt-4o-mini", USAGE, {"gpt-4o-mini": Price(1, 10)}) == pytest.approx(0.2)


def test_cached_tokens_are_priced_as_what_they_are() -> None:
    usage = {"input_tokens": 1_000_000, "cached_tokens": 600_000, "cache_write_tokens": 200_000}
    assert PRICES["m"].of(usage) == pytest.approx(0.2 * 1 + 0.6 * 0.1 + 0.2 * 1.25)
    assert PRICES["plain"].of(usage) == pytest.approx(2.0), "no price of its own: as other input"
    assert PRICES["m"].of({"input_tokens": 10, "cached_tokens": 99}) == pytest.approx(1e-6)


def test_the_list_knows_prices_of_cached_tokens() -> None:
    pytest.importorskip("genai_prices")
    whole = price("gpt-4o-mini", {"input_tokens": 1000})
    cached = price("gpt-4o-mini", {"input_tokens": 1000, "cached_tokens": 1000})
    assert whole is not None
    assert cached is not None
    assert 0 < cached < whole


def test_an_estimate_counts_four_bytes_a_token() -> None:
    assert estimated_usage("", "x" * 9) == {"input_tokens": 0, "output_tokens": 3}
    assert estimated_usage("é" * 4, "")["input_tokens"] == 2


def test_spent_and_saved_are_kept_by_model_tier_and_namespace() -> None:
    ledger = costs()
    assert ledger.spend("m", USAGE, namespace="a") == pytest.approx(0.2)
    ledger.spend("plain", USAGE, namespace="b")
    assert ledger.save("m", USAGE, tier="exact", namespace="a") == pytest.approx(0.2)
    ledger.save("m", USAGE, tier="semantic", namespace="b")
    account = ledger.account()
    assert account.total == Line(2, 2, pytest.approx(0.44), pytest.approx(0.4))
    assert account.by_model["m"].savings_rate == pytest.approx(2 / 3)
    assert account.by_tier["semantic"].saved == pytest.approx(0.2)
    assert account.by_tier["model"].spent == pytest.approx(0.44)
    assert account.by_namespace["b"].spent == pytest.approx(0.24)
    assert (account.by_namespace["a"].calls, account.by_namespace["a"].hits) == (1, 1)


def test_what_has_no_price_or_was_estimated_is_said() -> None:
    ledger = costs()
    assert ledger.spend("unknown-model", USAGE) is None
    assert ledger.save("m", None, tier="exact") is None
    ledger.spend("m", USAGE, estimated=True)
    total = ledger.account().total
    assert (total.unpriced, total.estimated, total.calls, total.hits) == (2, 1, 2, 1)
    assert dict(lines_of(ledger.account()))["in all"] == (
        "spent $0.2000, saved $0.0000 (0.0%), 2 calls, 1 hits, 1 estimated, 2 unpriced"
    )


def test_a_prompt_cache_saves_by_the_tier_prefix() -> None:
    ledger = costs()
    ledger.spend("m", {"input_tokens": 1_000_000, "cached_tokens": 1_000_000})
    ledger.spend("m", {"input_tokens": 1_000_000, "cache_write_tokens": 1_000_000})
    account = ledger.account()
    assert account.total.spent == pytest.approx(0.1 + 1.25)
    assert account.by_tier["prefix"].saved == pytest.approx(0.9 - 0.25), "net of the writing"


def test_as_a_hook_it_counts_what_hits_save_and_stored_answers_cost() -> None:
    ledger = costs()
    cache = ResponseCache.open(semantic=False, namespace="shop", hooks=[ledger])
    request = Request.of("What is a fuse?", model="m")
    cache.lookup(request)
    cache.store(request, Answer("It melts.", usage=USAGE))
    cache.lookup(request)
    account = ledger.account()
    both = Line(1, 1, spent=pytest.approx(0.2), saved=pytest.approx(0.2))
    assert account.by_namespace["shop"] == both
    assert account.by_tier.keys() == {"exact", "model"}


def test_a_stored_answer_without_usage_is_no_call() -> None:
    ledger = costs()
    cache = ResponseCache.open(semantic=False, hooks=[ledger])
    cache.store(Request.of("What is a fuse?", model="m"), Answer("It melts."))
    assert ledger.account().total == Line()


def test_by_hand_the_cache_tells_nothing() -> None:
    ledger, other = costs(), costs()
    cache = ResponseCache.open(semantic=False, hooks=[ledger, other])
    with ledger.by_hand():
        cache.store(Request.of("What is a fuse?", model="m"), Answer("It melts.", usage=USAGE))
        cache.lookup(Request.of("What is a fuse?", model="m"))
    assert ledger.account().total == Line()
    assert (other.account().total.calls, other.account().total.hits) == (1, 1)


def test_a_budget_is_told_of_once_when_it_is_passed() -> None:
    told: list[Overspent] = []
    budget = Budget(0.5, told.append)
    ledger = costs(budgets=[budget])
    for _ in range(2):
        ledger.spend("m", USAGE)
    assert told == []
    for _ in range(3):
        ledger.spend("m", USAGE)
    assert told == [Overspent(budget, pytest.approx(0.6))]


def test_a_budget_starts_anew_each_period() -> None:
    told, clock = list[Overspent](), Clock(now=86_400.0 * 10)
    ledger = costs(budgets=[Budget(0.3, told.append, period=86_400)], clock=clock)
    for now in (10.0, 10.5, 11.0, 11.2, 11.9):
        clock.now = 86_400 * now
        ledger.spend("m", USAGE)
    assert [round(one.spent, 6) for one in told] == [0.4, 0.4]


def test_a_budget_counts_its_own_model_and_namespace() -> None:
    told: list[Overspent] = []
    ledger = costs(budgets=[Budget(0.1, told.append, model="m", namespace="a")])
    ledger.spend("m", USAGE, namespace="b")
    ledger.spend("plain", USAGE, namespace="a")
    assert told == []
    ledger.spend("m", USAGE, namespace="a")
    assert len(told) == 1


def test_a_hook_that_raises_affects_no_call() -> None:
    def hook(_: Overspent) -> None:
        raise RuntimeError("pager is down")

    ledger = costs(budgets=[Budget(0.1, hook)])
    assert ledger.spend("m", USAGE) == pytest.approx(0.2)
    assert ledger.hook_errors == 1


def test_a_hook_may_ask_for_the_account() -> None:
    seen: list[float] = []
    ledger = costs(budgets=[Budget(0.1, lambda _: seen.append(ledger.account().total.spent))])
    ledger.spend("m", USAGE)
    assert seen == [pytest.approx(0.2)]


def test_threads_lose_no_dollar() -> None:
    ledger = costs()
    threads = [
        threading.Thread(target=lambda: [ledger.spend("m", USAGE) for _ in range(200)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.account().total.calls == 1600
    assert ledger.account().total.spent == pytest.approx(320)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Price(-1, 1), "a price must be"),
        (lambda: Budget(0, print), "limit and period"),
        (lambda: Budget(1, print, period=0), "limit and period"),
        (lambda: Budget(1, None), "hook must be"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
