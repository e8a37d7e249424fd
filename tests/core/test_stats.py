"""What the counters add up to, and what is read of them from a store by whoever has no app."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared_core import Answer, Hit, Request, ResponseCache, Static, StoreError, Verified
from shared_core.stats import (
    Counters,
    Shadow,
    Stats,
    read_stats,
    stats_as_json,
    stats_lines,
    stats_of,
    wilson,
)
from shared_core.stores.sqlite import ReadOnlyFile
from tests.fakes import fake_embed
from tests.learning.test_exploring import ASKED, OTHER, RETURNS, Probing, ask

LEARNING = {
    "policy": "verified",
    "max_error": 0.02,
    "per": "hit",
    "labels": 34,
    "learning": "34 of about 80 labels",
    "error_per_hit": None,
    "error_per_hit_95": None,
    "error_per_request": None,
    "error_per_request_95": None,
}
SERVING = {
    **LEARNING,
    "labels": 300,
    "learning": None,
    "error_per_hit": 0.01,
    "error_per_hit_95": [0.002, 0.03],
    "error_per_request": 0.004,
    "error_per_request_95": [0.0008, 0.012],
}


def made(counts: Mapping[str, int], policy: Mapping[str, Any] | None = None) -> Stats:
    return stats_of(counts, policy=policy or {}, breakers={}, latencies={})


def told(stats: Stats) -> dict[str, str]:
    return dict(stats_lines(stats))


def test_a_policy_that_estimates_its_errors_is_believed_over_feedback() -> None:
    stats = made({"lookups": 500, "labels:wrong": 3}, SERVING)
    assert (stats.labels, stats.error_per_hit, stats.error_interval) == (300, 0.01, (0.002, 0.03))
    assert stats.error_per_request == 0.004
    assert stats.error_per_request_interval == (0.0008, 0.012)
    assert told(stats)["wrong per hit"] == "1.00 % [0.20 %, 3.00 %], from 300 labels"
    assert told(stats)["wrong per request"] == "0.40 % [0.08 %, 1.20 %]"


def test_an_estimate_without_a_label_is_said_to_be_expected_alone() -> None:
    of_public_data = made({"lookups": 500}, SERVING | {"labels": 0})
    assert (
        told(of_public_data)["wrong per hit"] == "1.00 % [0.20 %, 3.00 %], expected; no labels yet"
    )


@pytest.mark.parametrize(
    ("dollars", "shown"), [(0.0, "$0.00"), (0.000_05, "less than $0.01"), (1234.5, "$1,234.50")]
)
def test_savings_below_a_cent_are_not_shown_as_none(dollars: float, shown: str) -> None:
    stats = replace(made({"lookups": 2}), tokens_saved={"input_tokens": 7}, money_saved=dollars)
    assert told(stats)["saved"] == f"7 input tokens, {shown}"


def test_while_it_learns_there_is_no_estimate_but_progress() -> None:
    stats = made({"lookups": 40}, LEARNING)
    assert stats.progress == "34 of about 80 labels"
    assert (stats.labels, stats.error_per_hit, stats.error_per_request) == (34, None, None)
    assert stats.error_interval == stats.error_per_request_interval == (0.0, 1.0)
    assert told(stats)["learning"] == "34 of about 80 labels"
    assert told(stats)["wrong answers"] == "no estimate yet, 34 labels"


def test_without_such_a_policy_feedback_is_the_estimate() -> None:
    counts = {"lookups": 100, "hits:exact": 20, "hits:semantic": 40, "labels:right": 19}
    stats = made({**counts, "labels:wrong": 1}, {"policy": "static", "threshold": 0.9})
    assert (stats.labels, stats.error_per_hit) == (20, 0.05)
    assert stats.error_interval == wilson(1, 20)
    assert stats.error_per_request == pytest.approx(0.05 * 40 / 80)
    low, high = stats.error_per_request_interval
    assert (low, high) == pytest.approx(tuple(end / 2 for end in wilson(1, 20)))
    assert told(stats)["policy"] == "static: threshold 0.9"


def test_shadow_says_what_would_have_been_served_and_how_often_wrong() -> None:
    counts = {"lookups": 1000, "shadow:served": 120, "shadow:right": 77, "shadow:wrong": 3}
    stats = made({**counts, "shadow:unknown": 10})
    assert stats.shadow == Shadow(120, 80, 3, 3 / 80, wilson(3, 80))
    spoken = told(stats)
    assert spoken["shadow"] == "would have served 120 of 1,000 by meaning"
    assert spoken[""] == "3 of 80 judged wrong [1.28 %, 10.5 %]"
    assert made({"lookups": 5}).shadow is None


def test_a_cache_in_shadow_counts_what_it_would_have_served() -> None:
    cache = ResponseCache.open(embedder=fake_embed, threshold=0.8, shadow=True)
    ask(cache, ASKED, RETURNS)
    ask(cache, ASKED + " Please!", RETURNS)
    ask(cache, ASKED + " Really?", OTHER)
    cache.lookup(Request.of(ASKED + " Thanks!", model="m"))  # its model never answers
    shadow = cache.stats().shadow
    assert shadow is not None
    assert (shadow.served, shadow.judged, shadow.wrong) == (3, 2, 1)
    assert cache.stats().hits == 0


def test_savings_reasons_and_errors_are_told() -> None:
    counts = {"lookups": 9, "hits:exact": 4, "misses:absent": 2, "misses:guard": 3, "errors:x": 1}
    spoken = told(made({**counts, "saved:input_tokens:none": 1200, "saved:output_tokens:none": 30}))
    assert spoken["hits"] == "4 (44.4 %)"
    assert spoken["saved"] == "1,200 input tokens, 30 output tokens"
    assert spoken["error, x"] == "1, not seen by the app"
    order = [name.strip() for name, _ in stats_lines(made(counts))]
    assert order.index("guard") < order.index("absent"), "the most frequent comes first"


# -------------------------------------------------------------------------------- from a store


def fill(url: str, **options: Any) -> Stats:
    """Ask ten things in six wordings each, and return what the cache says of it."""
    with ResponseCache.open(url, embedder=fake_embed, **options) as cache:
        for number in range(60):
            thing = "abcdefghij"[number % 10]
            asked = Request.of(
                f"how is thing {thing} {'please ' * (number // 10)}called", model="m"
            )
            if not isinstance(cache.lookup(asked), Hit):
                usage = {"input_tokens": 10, "output_tokens": 4}
                cache.store(asked, Answer(f"thing {thing} is called {thing * 5}", usage=usage))
        return cache.stats()


@pytest.mark.parametrize("threshold", [Verified(0.02), Static(0.8)])
def test_a_store_tells_what_the_app_was_told(tmp_path: Path, threshold: Verified | Static) -> None:
    url = f"sqlite:///{tmp_path / 'my answers.db'}"
    known = fill(url, threshold=threshold)
    found = read_stats(url)
    for name in ("lookups", "hits_by_tier", "explores", "misses", "labels", "progress"):
        assert getattr(found, name) == getattr(known, name), name
    assert (found.error_per_hit, found.error_interval) == (
        known.error_per_hit,
        known.error_interval,
    )
    assert found.policy == json.loads(json.dumps(known.policy))
    assert json.loads(json.dumps(stats_as_json(found)))["lookups"] == 60


@pytest.mark.redis
def test_a_redis_tells_what_the_app_was_told(redis_url: str) -> None:
    known = fill(redis_url, threshold=Verified(0.02))
    found = read_stats(redis_url)
    assert (found.lookups, found.explores) == (known.lookups, known.explores)
    assert found.progress == known.progress


def test_namespaces_are_told_apart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    fill(url, namespace="books")
    assert read_stats(url, "books").lookups == 60
    with pytest.raises(ValueError, match="nothing was counted in namespace 'default'"):
        read_stats(url)


def test_reading_changes_nothing_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "answers.db"
    fill(f"sqlite:///{file}", threshold=Verified(0.02), ttl=0.001)
    before = file.read_bytes()
    read_stats(f"sqlite:///{file}")
    assert file.read_bytes() == before, "not even what expired is swept"
    reader = ReadOnlyFile(str(file), 1.0)
    with pytest.raises(StoreError, match="readonly"), reader.reading() as connection:
        connection.execute("DELETE FROM kv")
    reader.close()


def test_reading_goes_on_while_the_app_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    with ResponseCache.open(url, embedder=fake_embed) as cache:
        cache.lookup(Request.of("who is there", model="m"))
        cache.flush()
        assert read_stats(url).lookups == 1
        cache.lookup(Request.of("who is there", model="m"))
        cache.flush()
        assert read_stats(url).lookups == 2


def test_what_cannot_be_read_says_why_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"call cache.stats\(\) there"):
        read_stats("memory://")
    with pytest.raises(ValueError, match="there is no file"):
        read_stats(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("no database, but a text of some length" * 50)
    with pytest.raises(StoreError, match="not a database"):
        read_stats(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(ValueError, match="not understood"):
        read_stats("ftp://host")


def test_a_process_that_only_stores_does_not_overwrite_what_others_learnt(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    fill(url, threshold=Verified(0.02))
    known = read_stats(url).policy
    assert known["labels"] > 0
    with ResponseCache.open(url, embedder=fake_embed) as other:
        other.store(Request.of("what is new", model="m"), Answer("nothing at all"))
    assert read_stats(url).policy == known


def test_a_policy_whose_description_fails_costs_the_description_alone(tmp_path: Path) -> None:
    class Silent(Probing):
        def describe(self, state: int) -> dict[str, Any]:
            raise RuntimeError("no words")

    url = f"sqlite:///{tmp_path / 'answers.db'}"
    cache = ResponseCache.open(url, embedder=fake_embed, threshold=Silent())
    ask(cache, ASKED, RETURNS)
    ask(cache, ASKED + " Please!", OTHER)
    cache.close()
    found = read_stats(url)
    assert (found.lookups, found.explores, dict(found.policy)) == (2, 1, {})


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    counters = Counters()
    counters.add("stores", 3)
    taken = counters.take_unflushed()
    counters.add("stores")
    counters.give_back(taken)
    counters.add("lookups", 2)
    assert counters.take_unflushed() == {"stores": 4, "lookups": 2}
    assert counters.take_unflushed() == {}
    assert counters.counts() == {"stores": 4, "lookups": 2}


SCRIPT = """
import os, sys
from shared_core import Answer, Request, ResponseCache
cache = ResponseCache.open(sys.argv[1], semantic=False)
request = Request.of("What is a fuse?", model="m")
cache.answer(request, lambda: Answer("It melts."))
if sys.argv[2] == "fork" and os.fork() == 0:
    cache.answer(request, lambda: Answer("It melts."))
    sys.exit()
if sys.argv[2] == "fork":
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "lookups"), [("alone", 1), ("fork", 2)])
def test_a_script_that_ends_at_once_leaves_its_counters(
    tmp_path: Path, how: str, lookups: int
) -> None:
    url = f"sqlite:///{tmp_path}/answers.db"
    subprocess.run([sys.executable, "-c", SCRIPT, url, how], check=True, timeout=60)
    assert read_stats(url).lookups == lookups
