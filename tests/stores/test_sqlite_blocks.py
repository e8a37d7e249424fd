"""Vectors of a scope that lie together in the file: as right as reading the records themselves."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_core.stores import MemoryStore, Selector, Store, StoreError
from shared_core.stores.sqlite import SqliteStore, index
from shared_core.stores.sqlite.index import PACK_FROM, PACKED_AT_ONCE, ScopeIndexes
from shared_core.testing.stores import SPACE, FakeClock, record
from tests.soak import KILLS

ROOT = Path(__file__).parents[2]
Open = Callable[..., SqliteStore]

ALWAYS, NEVER = (lambda: 0.0), (lambda: 0.999)
"""What a store draws: every put packs; none does."""


@pytest.fixture(autouse=True)
def packs_small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PACKED_ABOVE", 0)


def units(count: int, dimension: int = 16, seed: int = 1) -> Any:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def near(store: Store, vector: Any, k: int = 4, scope: str = "scope") -> dict[str, Any]:
    return {n.record.key: n.similarity for n in store.nearest(scope, SPACE, vector, k)}


def blocks(path: str) -> list[tuple[bytes, list[int], int]]:
    """Return scope, numbers and count of vectors of every block."""
    with closing(sqlite3.connect(path)) as connection:
        if (
            connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'packed'").fetchone()
            is None
        ):
            return []
        rows = connection.execute("SELECT scope, ids, length(vectors) / 2 / dimension FROM packed")
        return [(scope, np.frombuffer(ids, "<i8").tolist(), held) for scope, ids, held in rows]


def numbers(path: str) -> list[int]:
    return sorted(number for _, ids, _ in blocks(path) for number in ids)


def alter(path: str, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_found_is_what_a_comparison_with_all_records_finds(
    path: str, open_at: Open, seed: int
) -> None:
    """Puts, replacements, deletions, expiry and eviction in any order; cold scopes all along."""
    rng, draws, clock = random.Random(seed), random.Random(seed + 100), FakeClock()
    limit = None if seed % 2 else 400
    file = open_at(max_entries=limit, clock=clock, rng=lambda: draws.random() / 8)
    memory = MemoryStore(max_entries=limit, clock=clock)
    vectors, scopes = units(1200, seed=seed), ["a", "b", "c"]
    for number, vector in enumerate(vectors):
        key = f"{number if rng.random() < 0.8 else rng.randrange(number + 1)}"
        expires = clock() + rng.uniform(50, 5000) if rng.random() < 0.3 else None
        for store in (file, memory):
            store.put(record(key, vector, scope=scopes[int(key) % 3], expires=expires))
        clock.now += 1
        if rng.random() < 0.05:
            victim = Selector("n", key=f"{rng.randrange(number + 1)}")
            assert file.delete(victim) == memory.delete(victim)
        if rng.random() < 0.05:
            file._indexes = ScopeIndexes(file._file, capacity=1)
            asked, scope = vectors[rng.randrange(len(vectors))], rng.choice(scopes)
            found, expected = near(file, asked, 5, scope), near(memory, asked, 5, scope)
            assert list(found) == list(expected)
            assert found == pytest.approx(expected, abs=1e-6)
    assert blocks(path)


def test_a_scope_is_read_from_its_blocks(path: str, open_at: Open) -> None:
    store, vectors = open_at(rng=ALWAYS), units(5 * PACK_FROM)
    for number, vector in enumerate(vectors):
        store.put(record(f"{number}", vector, scope=f"{number % 2}"))
    held = numbers(path)
    assert len(held) == len(set(held)) >= len(vectors) - 2 * PACK_FROM
    assert all(len(ids) == count for _, ids, count in blocks(path))
    alter(path, "UPDATE packed SET vectors = zeroblob(length(vectors))")
    found = near(open_at(), vectors[0], len(vectors), "0")
    assert len(found) == len(vectors) / 2  # what it found them by is gone, not what they are like
    assert found["0"] == pytest.approx(1.0)
    assert found["2"] == pytest.approx(float(vectors[0] @ vectors[2]), abs=1e-6)


def test_a_file_of_an_earlier_version_is_read_and_packed_on_the_way(
    path: str, open_at: Open
) -> None:
    old, vectors = open_at(rng=NEVER), units(PACKED_AT_ONCE + 200)
    for number, vector in enumerate(vectors):
        old.put(record(f"{number}", vector))
    assert not blocks(path)
    store = open_at(rng=NEVER)
    for number in (0, 300, len(vectors) - 1):
        assert next(iter(near(store, vectors[number]))) == f"{number}"
    assert not blocks(path)  # a search writes nothing
    for number in range(2):
        store.put(record(f"new {number}", units(2, seed=9)[number], scope="another"))
    assert numbers(path) == list(range(1, len(vectors) + 1))
    old.put(record("later", vectors[7]))  # who opened it before it had blocks
    later = open_at(rng=NEVER)
    assert list(near(later, vectors[7], 2)) in (["7", "later"], ["later", "7"])
    for number in (0, 300, len(vectors) - 1):
        assert next(iter(near(later, vectors[number]))) == f"{number}"


def test_similarities_are_those_of_the_records_and_not_rounded(open_at: Open) -> None:
    store, vectors = open_at(rng=ALWAYS), units(3 * PACK_FROM, 384)
    vectors[1] = vectors[0] + 3e-3 * vectors[1]  # nearer to each other than blocks are exact
    vectors[1] /= np.linalg.norm(vectors[1])
    for number, vector in enumerate(vectors):
        store.put(record(f"{number}", vector))
    later = open_at()
    for asked in (*vectors[:20], *units(20, 384, seed=5)):
        cosines = vectors @ asked
        best = [f"{number}" for number in np.argsort(-cosines, kind="stable")[:6]]
        found = near(later, asked, 6)
        assert list(found) == best
        assert found == pytest.approx({key: float(cosines[int(key)]) for key in best}, abs=1e-6)


def test_vectors_of_any_kind_share_a_scope(path: str, open_at: Open) -> None:
    store = open_at(rng=ALWAYS)
    odd = [np.full(16, np.nan, np.float32), 3 * units(1)[0], units(1, 8)[0], None]
    for number, vector in enumerate(units(3 * PACK_FROM)):
        store.put(record(f"{number}", vector))
        store.put(record(f"odd {number}", odd[number % 4]))
    assert numbers(path)
    found = near(open_at(), units(3 * PACK_FROM)[5], 3)
    assert next(iter(found)) in ("5", "odd 1") or found["5"] == pytest.approx(1.0)
    assert "5" in near(open_at(), units(3 * PACK_FROM)[5], 3 * PACK_FROM)
    assert len(near(open_at(), units(1, 8)[0], 99)) == 3 * PACK_FROM // 4


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE packed SET ids = x'00'",
        "UPDATE packed SET vectors = x''",
        "UPDATE packed SET ids = ids || ids",
        "UPDATE packed SET ids = CAST(ids || ids AS BLOB),"
        " vectors = CAST(vectors || vectors AS BLOB)",
        "UPDATE packed SET ids = 7, vectors = 'text', dimension = 16",
        "UPDATE packed SET ids = zeroblob(length(ids))",
        "UPDATE packed SET last = 'far'",
        "DELETE FROM packed WHERE block % 2 = 1",
        "DROP TABLE packed",
    ],
)
def test_damaged_blocks_hide_nothing(path: str, open_at: Open, damage: str) -> None:
    store, vectors = open_at(rng=ALWAYS), units(4 * PACK_FROM)
    for number, vector in enumerate(vectors[: 3 * PACK_FROM]):
        store.put(record(f"{number}", vector))
    alter(path, damage)
    later = open_at(rng=ALWAYS)
    for number in range(0, 3 * PACK_FROM, 7):
        assert next(iter(near(later, vectors[number]))) == f"{number}"
    for number in range(3 * PACK_FROM, 4 * PACK_FROM):
        later.put(record(f"{number}", vectors[number]))
    last = open_at()
    for number in range(0, 4 * PACK_FROM, 7):
        assert next(iter(near(last, vectors[number]))) == f"{number}"


def test_a_file_whose_indexes_fit_in_memory_is_not_packed(
    path: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "PACKED_ABOVE", 4 * 16 * 300)
    store = open_at(rng=ALWAYS)
    for number, vector in enumerate(units(400)):
        store.put(record(f"{number}", vector))
        assert bool(blocks(path)) == (number >= 299) or number % 50


def test_what_is_cleared_leaves_no_block(path: str, open_at: Open) -> None:
    store = open_at(rng=ALWAYS)
    for number, vector in enumerate(units(4 * PACK_FROM)):
        mine = number % 2
        store.put(record(f"{number}", vector, scope=f"{mine}", namespace=f"n{mine}"))
    assert {scope for scope, _, _ in blocks(path)} == {b"0", b"1"}
    store.delete(Selector("n1"))
    assert {scope for scope, _, _ in blocks(path)} == {b"0"}
    store.delete(Selector("n0"))
    assert not blocks(path)


def test_a_scope_whose_records_went_one_by_one_has_no_neighbours(path: str, open_at: Open) -> None:
    store, vectors = open_at(rng=ALWAYS), units(3 * PACK_FROM)
    for number, vector in enumerate(vectors):
        store.put(record(f"{number}", vector))
    for number in range(len(vectors)):
        store.delete(Selector("n", key=f"{number}"))
    assert near(open_at(), vectors[0]) == {}
    store.put(record("new", vectors[1]))
    assert list(near(open_at(), vectors[0])) == ["new"]


@pytest.mark.parametrize("how", ["evicted", "expired", "replaced"])
def test_blocks_do_not_grow_with_what_is_gone(path: str, open_at: Open, how: str) -> None:
    clock, draws = FakeClock(), random.Random(3)
    limit = 200 if how == "evicted" else None
    store = open_at(rng=lambda: draws.random() / 16, clock=clock, max_entries=limit)
    for number, vector in enumerate(units(3000)):
        key = number % 200 if how == "replaced" else number
        expires = clock() + 200 if how == "expired" else None
        store.put(record(f"{key}", vector, expires=expires))
        clock.now += 1.0
    assert len(numbers(path)) < 1200


def test_threads_and_stores_pack_every_row_once(path: str, open_at: Open) -> None:
    stores, vectors = [open_at(rng=ALWAYS) for _ in range(3)], units(600)

    def put(number: int) -> None:
        stores[number % 3].put(record(f"{number}", vectors[number], scope=f"{number % 2}"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(put, range(len(vectors))))
    held = numbers(path)
    assert len(held) == len(set(held)) >= len(vectors) - 2 * PACK_FROM
    later = open_at()
    for number in range(0, 600, 11):
        assert next(iter(near(later, vectors[number], 1, f"{number % 2}"))) == f"{number}"


def test_a_put_is_done_though_its_scope_cannot_be_packed(
    path: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise StoreError("full")

    monkeypatch.setattr(index, "pack", fail)
    store, vectors = open_at(rng=ALWAYS), units(9)
    for number, vector in enumerate(vectors):
        store.put(record(f"{number}", vector))
    assert len(near(store, vectors[0], 9)) == 9


WRITER = """
import sys
from itertools import count
from shared_core.stores.sqlite import SqliteStore, index
from shared_core.testing.stores import record
from tests.stores.test_sqlite_blocks import units
index.PACKED_ABOVE = 0
store = SqliteStore(sys.argv[1], timeout=5.0, rng=lambda: 0.0)
for number in count():
    key = int(sys.argv[2]) * 100_000 + number
    store.put(record(f"{key}", units(1, seed=key)[0], scope=f"{key % 2}"))
    print(key, flush=True)
"""


@pytest.mark.slow
def test_kill_9_while_packing_loses_and_breaks_nothing(path: str) -> None:
    done: list[int] = []
    for turn in count():
        if turn >= min(KILLS, 20):
            break
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(turn)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            killer = threading.Timer(random.uniform(0.05, 0.3), writer.kill)
            killer.start()
            lines = (first + writer.stdout.read()).split("\n")
            assert writer.wait() == -signal.SIGKILL
        done += map(int, lines[:-1])
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        store = SqliteStore(path, timeout=5.0)
        for key in random.sample(done, 20):
            found = near(store, units(1, seed=key)[0], 1, f"{key % 2}")
            assert found == {f"{key}": pytest.approx(1.0)}
        store.close()
    held = numbers(path)
    assert len(held) == len(set(held)) > len(done) / 2


def test_a_cold_scope_is_read_without_its_records(path: str, open_at: Open) -> None:
    """Which is what blocks are for: read operations, not time, that a busy machine stretches."""
    store, vectors = open_at(rng=ALWAYS), units(1000, 384)
    for number, vector in enumerate(vectors):
        store.put(record(f"{number}", vector, scope=f"{number % 2}"))
    started = time.perf_counter()
    read: list[str] = []
    later = open_at()
    with later._file.reading() as reader:
        reader.set_trace_callback(read.append)
    near(later, vectors[0], 1, "0")
    assert time.perf_counter() - started < 30
    by_row = [one for one in read if "SELECT id, CASE" in one or "WHERE id IN" in one]
    assert len(by_row) <= 2
    outside = 500 - sum(len(ids) for scope, ids, _ in blocks(path) if scope == b"0")
    assert 0 <= outside < PACK_FROM
