"""Check what every store promises: records by key and by vector, values, labels, time and threads.

class TestMyStore(StoreConformance):
    @pytest.fixture
    def open_one(self, clock):
        return lambda **options: MyStore(clock=clock, **options)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from shared_core.record import Answer, Record
from shared_core.stores import Selector, Store, StoreError, epoch_key

SPACE = "fake/3"


class FakeClock:
    """A clock that stands until it is moved; seconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def unit(*values: float) -> Any:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def record(key: str = "k", vector: Any = None, **fields: Any) -> Record:
    given: dict[str, Any] = {
        "scope": "scope",
        "namespace": "n",
        "question": f"question {key}",
        "answer": Answer(text=f"answer {key}"),
        "space": SPACE,
    }
    return Record(key=key, vector=vector, **(given | fields))


def keys_near(store: Store, vector: Any, k: int, scope: str = "scope") -> list[str]:
    return [neighbour.record.key for neighbour in store.nearest(scope, SPACE, vector, k)]


def scanned(store: Store, prefix: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        keys, cursor = store.scan(prefix, cursor)
        found += keys
        if not cursor:
            return found


def browsed(store: Store, namespace: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    cursor = ""
    while True:
        records, cursor = store.browse(namespace, cursor)
        found |= {record.key: record for record in records}
        if not cursor:
            return found


class StoreConformance:
    """What every store does. ``open_one(**options)`` opens an empty store on ``clock``.

    A store whose server has a clock of its own gives a ``clock`` that moves that one along.

        class TestMine(StoreConformance):
            @pytest.fixture
            def open_one(self, clock):
                return lambda **options: MyStore(clock=clock, **options)
    """

    rounding = 1e-6
    """Of a vector's numbers and of similarities."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def open_one(self, clock: FakeClock) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_one: Callable[..., Store]) -> Store:
        return open_one()

    # Records by key

    def test_an_unknown_key_is_none(self, store: Store) -> None:
        assert store.get("unknown") is None

    def test_a_record_comes_back_whole(self, store: Store) -> None:
        answer = Answer(
            "text", '{"a":1}', "langchain", "gpt", {"input_tokens": 3}, "stop", exact_only=True
        )
        put = record(
            vector=unit(1, 2, 3),
            answer=answer,
            model="gpt",
            tags=("a", "b"),
            created=5.5,
            expires=9e9,
        )
        store.put(put)
        got = store.get("k")
        assert got == put
        assert got is not None
        assert got.vector is not None
        assert got.vector.dtype == np.float32
        assert np.allclose(got.vector, unit(1, 2, 3), atol=self.rounding)

    def test_a_record_without_vector_or_question_is_found_by_key_alone(self, store: Store) -> None:
        store.put(record(question=None))
        got = store.get("k")
        assert got is not None
        assert got.question is None
        assert got.vector is None
        assert keys_near(store, unit(1, 0, 0), 3) == []

    @pytest.mark.parametrize(
        "odd", ["žluťoučký 猫 🐈", "lone \ud800 surrogate", "nul \0 inside", ""]
    )
    def test_any_text_comes_back_as_it_was(self, store: Store, odd: str) -> None:
        put = record(odd, question=odd, answer=Answer(odd), namespace=odd, model=odd, tags=(odd,))
        store.put(put)
        assert store.get(odd) == put
        assert store.delete(Selector(odd, model=odd, tag=odd)) == 1

    def test_a_put_replaces_the_record_and_its_vector(self, store: Store) -> None:
        store.put(record(vector=unit(1, 0, 0)))
        store.put(record(vector=unit(0, 1, 0), answer=Answer("new")))
        (found,) = store.nearest("scope", SPACE, unit(1, 0, 0), 5)
        assert found.record.answer.text == "new"
        assert found.similarity == pytest.approx(0, abs=1e-6)
        assert store.info().entries == 1

    def test_a_replaced_record_leaves_its_old_scope(self, store: Store) -> None:
        store.put(record(vector=unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["k"]
        store.put(record(vector=unit(1, 0, 0), scope="other"))
        assert keys_near(store, unit(1, 0, 0), 1) == []
        assert keys_near(store, unit(1, 0, 0), 1, "other") == ["k"]

    def test_changing_what_was_put_changes_nothing_stored(self, store: Store) -> None:
        vector, usage = unit(1, 0, 0), {"input_tokens": 1}
        store.put(record(vector=vector, answer=Answer("a", usage=usage)))
        vector[:] = 0
        usage["input_tokens"] = 99
        got = store.get("k")
        assert got is not None
        assert got.answer.usage == {"input_tokens": 1}
        assert np.array_equal(got.vector, unit(1, 0, 0))  # type: ignore[arg-type]  # it has one

    def test_changing_what_was_read_changes_nothing_stored(self, store: Store) -> None:
        kept = record(vector=unit(1, 0, 0), answer=Answer("a", usage={"input_tokens": 3}))
        store.put(kept)
        (near,) = store.nearest("scope", SPACE, unit(1, 0, 0), 1)
        for read in (store.get("k"), near.record):
            usage: Any = read and read.answer.usage
            usage["input_tokens"] = 99
        assert store.get("k") == kept
        assert store.nearest("scope", SPACE, unit(1, 0, 0), 1)[0].record == kept

    @pytest.mark.parametrize(
        "odd",
        [Decimal("0.1"), float("inf"), 10**400, "3", None, [1], {}],
        ids=lambda odd: str(odd)[:9],
    )
    def test_an_odd_count_loses_neither_the_answer_nor_the_other_counts(
        self, store: Store, odd: Any
    ) -> None:
        store.put(record(answer=Answer("a", usage={"input_tokens": 3, "odd": odd})))
        got = store.get("k")
        assert got is not None
        assert got.answer.text == "a"
        assert got.answer.usage is not None
        assert got.answer.usage["input_tokens"] == 3

    def test_counts_that_are_no_mapping_lose_no_answer(self, store: Store) -> None:
        usage: Any = [1]
        store.put(record(answer=Answer("a", usage=usage)))
        got = store.get("k")
        assert got is not None
        assert got.answer.text == "a"

    # Time

    def test_a_record_lives_until_it_expires_and_no_longer(
        self, store: Store, clock: FakeClock
    ) -> None:
        store.put(record(vector=unit(1, 0, 0), expires=clock.now + 10))
        clock.now += 9.9
        assert store.get("k") is not None
        assert keys_near(store, unit(1, 0, 0), 1) == ["k"]
        clock.now += 0.1
        assert store.get("k") is None
        assert keys_near(store, unit(1, 0, 0), 1) == []

    def test_a_use_does_not_extend_a_life(self, store: Store, clock: FakeClock) -> None:
        store.put(record(expires=clock.now + 10))
        for _ in range(3):
            clock.now += 4
            store.get("k")
        assert store.get("k") is None

    def test_expired_records_are_removed_by_later_writes(
        self, store: Store, clock: FakeClock
    ) -> None:
        for i in range(100):
            store.put(record(f"old {i}", vector=unit(1, 0, 0), expires=clock.now + 1))
        clock.now += 2
        for i in range(3):
            store.put(record(f"new {i}"))
        assert store.info().entries == 3

    def test_replacing_an_expired_record_revives_its_key(
        self, store: Store, clock: FakeClock
    ) -> None:
        store.put(record(expires=clock.now + 1))
        clock.now += 2
        store.put(record(expires=clock.now + 1))
        assert store.get("k") is not None

    # Neighbours

    def test_the_nearest_come_first_with_their_cosines(self, store: Store) -> None:
        for key, angle in [("far", 1.2), ("near", 0.1), ("middle", 0.5)]:
            store.put(record(key, unit(np.cos(angle), np.sin(angle), 0)))
        found = store.nearest("scope", SPACE, unit(1, 0, 0), 2)
        assert [n.record.key for n in found] == ["near", "middle"]
        assert [n.similarity for n in found] == pytest.approx(
            [np.cos(0.1), np.cos(0.5)], abs=self.rounding
        )

    def test_what_is_too_far_may_be_left_out_but_never_the_nearest(self, store: Store) -> None:
        for key, angle in [("near", 0.1), ("middle", 0.5), ("far", 1.2)]:
            store.put(record(key, unit(np.cos(angle), np.sin(angle), 0)))
        for least, expected in [(0.99, ["near"]), (0.8, ["near", "middle"]), (1.0, ["near"])]:
            found = store.nearest("scope", SPACE, unit(1, 0, 0), 3, least)
            assert [n.record.key for n in found] == expected

    def test_a_similarity_never_leaves_minus_one_to_one(self, store: Store) -> None:
        rng = np.random.default_rng(5)
        for i in range(50):
            vector = unit(*rng.standard_normal(384))
            store.put(record(f"{i}", vector))
            store.put(record(f"-{i}", -vector))
            found = store.nearest("scope", SPACE, vector, 100)
            assert found[0].similarity <= 1.0
            assert found[-1].similarity >= -1.0

    def test_scopes_and_spaces_never_meet(self, store: Store) -> None:
        store.put(record("other scope", unit(1, 0, 0), scope="other"))
        store.put(record("other space", unit(1, 0, 0), space="other"))
        store.put(record("other length", unit(1, 0, 0, 0)))
        store.put(record("here", unit(0, 1, 0)))
        assert keys_near(store, unit(1, 0, 0), 5) == ["here"]

    def test_asking_for_more_than_there_is_gives_what_there_is(self, store: Store) -> None:
        assert keys_near(store, unit(1, 0, 0), 3) == []
        store.put(record(vector=unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 3) == ["k"]

    @pytest.mark.parametrize("dead", [1, 5, 300])
    @pytest.mark.parametrize("end", ["expire", "bump", "delete", "replace"])
    def test_dead_neighbours_never_hide_a_live_one(
        self, store: Store, clock: FakeClock, dead: int, end: str
    ) -> None:
        store.put(record("live", unit(1, 1, 0)))
        for i in range(dead):
            store.put(record(f"{i}", unit(1, 0, i / 400), tags=("t",), expires=clock.now + 1))
        assert keys_near(store, unit(1, 0, 0), 1) == ["0"]
        match end:
            case "expire":
                clock.now += 2
            case "bump":
                store.increment({epoch_key("n", "t"): 1})
            case "delete":
                assert store.delete(Selector("n", tag="t")) == dead
            case "replace":
                for i in range(dead):
                    store.put(record(f"{i}", unit(-1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["live"]
        assert keys_near(store, unit(1, 0, 0), 2)[0] == "live"

    def test_a_vector_that_is_no_number_hides_nothing(self, store: Store) -> None:
        store.put(record("nan", np.full(3, np.nan, np.float32)))
        store.put(record("live", unit(0, 1, 0)))
        assert keys_near(store, unit(1, 0, 0), 1) == ["live"]
        store.put(record("nan"))
        assert store.delete(Selector("n")) == 2

    def test_a_random_history_finds_what_a_full_comparison_finds(self, store: Store) -> None:
        rng = np.random.default_rng(7)
        there: dict[str, Any] = {}
        for step in range(400):
            key = str(rng.integers(60))
            if rng.random() < 0.3:
                store.delete(Selector("n", key=key))
                there.pop(key, None)
            else:
                there[key] = unit(*rng.standard_normal(8))
                store.put(record(key, there[key]))
            if step % 10 == 0 and there:
                query = unit(*rng.standard_normal(8))
                best = sorted(there, key=lambda key: -float(there[key] @ query))[:4]
                assert keys_near(store, query, 4) == best

    # Tags and deletion

    def test_a_bump_ends_all_that_was_put_before_and_nothing_after(self, store: Store) -> None:
        store.put(record("before", tags=("docs", "v1")))
        store.put(record("untagged"))
        store.put(record("elsewhere", namespace="m", tags=("docs",)))
        store.increment({epoch_key("n", "docs"): 1})
        store.put(record("after", tags=("docs",)))
        assert store.get("before") is None
        for key in ("untagged", "elsewhere", "after"):
            assert store.get(key) is not None
        store.increment({epoch_key("n", "docs"): 1})
        assert store.get("after") is None

    def test_a_bump_reaches_no_namespace_whose_name_runs_into_the_tag(self, store: Store) -> None:
        store.put(record(namespace="a:b", tags=("c",)))
        store.increment({epoch_key("a", "b:c"): 1})
        assert store.get("k") is not None

    @pytest.mark.parametrize(
        ("fields", "deleted"),
        [
            ({}, "abcd"),
            ({"key": "a"}, "a"),
            ({"key": "x"}, ""),
            ({"model": "gpt"}, "ab"),
            ({"tag": "t"}, "bc"),
            ({"scope": "other"}, "cd"),
            ({"created_before": 3.0}, "ab"),
            ({"key_prefix": "b"}, "b"),
            ({"key_prefix": ""}, "abcd"),
            ({"model": "gpt", "tag": "t"}, "b"),
            ({"tag": "t", "scope": "other", "created_before": 9.0}, "c"),
        ],
    )
    def test_a_selector_deletes_what_matches_all_of_it_and_nothing_else(
        self, store: Store, fields: dict[str, Any], deleted: str
    ) -> None:
        store.put(record("a", unit(1, 0, 0), model="gpt", created=1.0))
        store.put(record("b", unit(1, 1, 0), model="gpt", tags=("t", "u"), created=2.0))
        store.put(record("c", unit(1, 0, 1), tags=("t",), scope="other", created=3.0))
        store.put(record("d", unit(0, 0, 1), scope="other", created=4.0))
        store.put(record("x", model="gpt", tags=("t",), scope="other", namespace="m"))
        assert store.delete(Selector("n", **fields)) == len(deleted)
        assert [key for key in "abcdx" if store.get(key) is None] == list(deleted)
        near = keys_near(store, unit(1, 0, 0), 9) + keys_near(store, unit(1, 0, 0), 9, "other")
        assert sorted(near) == sorted(set("abcd") - set(deleted))

    def test_a_deletion_counts_only_the_living(self, store: Store, clock: FakeClock) -> None:
        store.put(record("expired", expires=clock.now + 1))
        store.put(record("bumped", tags=("t",)))
        store.put(record("live"))
        clock.now += 2
        store.increment({epoch_key("n", "t"): 1})
        assert store.delete(Selector("n")) == 1
        assert store.info().entries == 0

    def test_deleting_very_many_counts_every_one(self, store: Store) -> None:
        for i in range(1234):
            store.put(record(f"{i}"))
        assert store.delete(Selector("n")) == 1234
        assert store.info().entries == 0

    # Labels

    def test_browsing_meets_every_live_record_of_the_namespace_and_no_other(
        self, store: Store, clock: FakeClock
    ) -> None:
        assert browsed(store, "n") == {}
        for number in range(450):
            store.put(record(f"{number}", unit(1, number, 0)))
        store.put(record("expired", unit(1, 0, 0), expires=clock.now + 5))
        store.put(record("bumped", unit(1, 0, 0), tags=("t",)))
        store.put(record("tagged", tags=("u",)))
        store.put(record("foreign", unit(1, 0, 0), namespace="n2"))
        store.increment({epoch_key("n", "t"): 1})
        clock.now += 10
        found = browsed(store, "n")
        assert found.keys() == {*map(str, range(450)), "tagged"}
        assert found["7"].question == "question 7"
        assert found["7"].vector == pytest.approx(unit(1, 7, 0), abs=1e-3)
        assert browsed(store, "n2").keys() == {"foreign"}

    def test_labels_are_numbered_from_one_in_their_order(self, store: Store) -> None:
        store.add_labels("a", ["x", "y"])
        store.add_labels("b", ["z"])
        store.add_labels("a", [])
        store.add_labels("a", ["ž\ud800"])
        assert store.load_state({"a": 0, "b": 0, "c": 0}) == {
            "a": [(1, "x"), (2, "y"), (3, "ž\ud800")],
            "b": [(1, "z")],
            "c": [],
        }
        assert store.load_state({"a": 2, "b": 1}) == {"a": [(3, "ž\ud800")], "b": []}

    def test_the_newest_ten_thousand_labels_are_kept(self, store: Store) -> None:
        for start in range(0, 12_000, 4_000):
            store.add_labels("a", [str(n) for n in range(start + 1, start + 4_001)])
        store.add_labels("a", ["last"])
        kept = store.load_state({"a": 0})["a"]
        assert len(kept) >= 10_000
        assert kept[-1] == (12_001, "last")
        assert kept[-10_000:-1] == [(n, str(n)) for n in range(2_002, 12_001)]

    # Values

    def test_values_are_put_replaced_and_deleted(self, store: Store) -> None:
        store.put_many({"a": b"1", "b": b"\x00\xff", "ž\ud800": b""})
        store.put_many({"a": b"2"})
        assert store.get_many(["a", "b", "ž\ud800", "c"]) == {
            "a": b"2",
            "b": b"\x00\xff",
            "ž\ud800": b"",
        }
        assert store.delete_many(["a", "c", "a"]) == 1
        assert store.get_many(["a"]) == {}

    def test_a_value_lives_as_long_as_its_ttl(self, store: Store, clock: FakeClock) -> None:
        store.put_many({"a": b"1", "b": b"1"}, ttl=10)
        store.put_many({"b": b"2"})
        clock.now += 10
        assert store.get_many(["a", "b"]) == {"b": b"2"}
        assert store.scan("") == (["b"], "")
        assert store.delete_many(["a"]) == 0

    def test_add_stores_only_if_absent_or_expired(self, store: Store, clock: FakeClock) -> None:
        assert store.add("lease", b"me", ttl=5)
        assert not store.add("lease", b"you", ttl=5)
        clock.now += 5
        assert store.add("lease", b"you")
        clock.now += 1e6
        assert store.get_many(["lease"]) == {"lease": b"you"}

    def test_counters_start_at_zero_and_read_as_decimal_text(self, store: Store) -> None:
        assert store.increment({"a": 2, "b": -1}) == {"a": 2, "b": -1}
        assert store.increment({"a": 10**17}) == {"a": 10**17 + 2}
        assert store.get_many(["a", "b"]) == {"a": b"100000000000000002", "b": b"-1"}

    def test_an_expired_counter_starts_again_and_a_living_one_keeps_its_end(
        self, store: Store, clock: FakeClock
    ) -> None:
        store.put_many({"a": b"5"}, ttl=10)
        assert store.increment({"a": 1}) == {"a": 6}
        clock.now += 10
        assert store.increment({"a": 1}) == {"a": 1}
        clock.now += 1e6
        assert store.get_many(["a"]) == {"a": b"1"}

    def test_a_failed_increment_changes_nothing(self, store: Store) -> None:
        store.put_many({"b": b"text"})
        with pytest.raises(StoreError, match="'b'"):
            store.increment({"a": 1, "b": 1})
        assert store.get_many(["a", "b"]) == {"b": b"text"}

    def test_a_scan_returns_every_key_with_the_prefix(self, store: Store) -> None:
        expected = {f"p:{i}" for i in range(2_500)} | {"p:", "p:ž", "p:\U0010ffff"}
        store.put_many(dict.fromkeys([*expected, "o", "q", "p", ""], b""))
        assert set(scanned(store, "p:")) == expected
        assert set(scanned(store, "")) == {*expected, "o", "q", "p", ""}

    def test_expired_values_are_removed_by_later_writes(
        self, store: Store, clock: FakeClock
    ) -> None:
        store.put_many(dict.fromkeys(map(str, range(100)), b""), ttl=1)
        clock.now += 2
        for _ in range(2):
            store.put_many({"new": b""})
        clock.now -= 2  # what is only hidden would show again
        assert store.scan("")[0] == ["new"]

    # Threads and the end

    def test_no_label_count_or_record_is_lost_between_threads(
        self, open_one: Callable[..., Store]
    ) -> None:
        store = open_one()

        def work(name: int) -> None:
            for i in range(50):
                store.put(record(f"{name}/{i}", unit(1, name, i)))
                assert store.get(f"{name}/{i}") is not None
                store.add_labels("shared", [f"{name}"])
                store.increment({"count": 1})
                assert len(keys_near(store, unit(1, name, i), 1)) == 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert store.info().entries == 200
        assert store.get_many(["count"]) == {"count": b"200"}
        assert [n for n, _ in store.load_state({"shared": 0})["shared"]] == list(range(1, 201))
        assert len(keys_near(store, unit(1, 0, 0), 500)) == 200

    def test_one_of_many_threads_gets_the_lease(self, store: Store) -> None:
        won: list[int] = []
        threads = [
            threading.Thread(target=lambda i=i: won.append(i) if store.add("l", b"") else None)
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1

    def test_a_closed_store_can_be_closed_again_and_says_so_when_used(self, store: Store) -> None:
        store.put(record())
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.get("k")
        with pytest.raises(StoreError, match="closed"):
            store.put(record())


class BoundedStoreConformance(StoreConformance):
    """What a store does that keeps ``max_entries`` itself."""

    def test_the_limit_holds_right_after_every_put(self, open_one: Callable[..., Store]) -> None:
        store = open_one(max_entries=3)
        for i in range(10):
            store.put(record(f"{i}", unit(1, i, 0)))
            assert store.info().entries == min(i + 1, 3)
        assert [key for key in map(str, range(10)) if store.get(key)] == ["7", "8", "9"]
        assert sorted(keys_near(store, unit(1, 0, 0), 9)) == ["7", "8", "9"]

    def test_a_limit_of_one_keeps_the_newest(self, open_one: Callable[..., Store]) -> None:
        store = open_one(max_entries=1)
        for key in "ab":
            store.put(record(key))
        assert store.get("a") is None
        assert store.get("b") is not None

    @pytest.mark.parametrize("use", ["get", "nearest", "put"])
    def test_the_least_recently_used_goes_first(
        self, open_one: Callable[..., Store], use: str
    ) -> None:
        store = open_one(max_entries=3)
        vectors = {"a": unit(1, 0, 0), "b": unit(0, 1, 0), "c": unit(0, 0, 1)}
        for key, vector in vectors.items():
            store.put(record(key, vector))
        match use:
            case "get":
                store.get("a")
            case "nearest":
                assert keys_near(store, unit(1, 0.3, 0.2), 3) == ["a", "b", "c"]
            case "put":
                store.put(record("a", vectors["a"]))
        store.put(record("d"))
        store.put(record("e"))
        assert [key for key in "abcde" if store.get(key)] == ["a", "d", "e"]

    def test_a_replacement_evicts_nothing(self, open_one: Callable[..., Store]) -> None:
        store = open_one(max_entries=2)
        for key in "abbb":
            store.put(record(key))
        assert store.get("a") is not None
