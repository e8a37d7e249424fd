"""Many vectors in one scope: the matrix, the graph that takes over, and what happens between."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_core.stores import Selector, Store, open_store
from shared_core.stores import vectors as module
from shared_core.stores.vectors import Graph, GraphsUnavailableError, ScopeVectors
from shared_core.testing.stores import FakeClock, StoreConformance, record
from tests.stores.test_stores import Model, play

ROOT = Path(__file__).parents[2]
DIMENSION = 24
FROM = 300


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let graphs begin where tests are fast."""
    monkeypatch.setattr(module, "GRAPH_FROM", FROM)
    monkeypatch.setattr(module, "_RECENT", 20)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the thread's work in the search that would have started it."""
    search = ScopeVectors.search
    woken: weakref.WeakSet[ScopeVectors] = weakref.WeakSet()
    one_at_a_time = threading.Lock()

    def search_and_work(self: ScopeVectors, *args: Any) -> Any:
        found = search(self, *args)
        with one_at_a_time:
            while self in woken and self.work():
                pass
            woken.discard(self)
        return found

    monkeypatch.setattr(ScopeVectors, "search", search_and_work)
    monkeypatch.setattr(ScopeVectors, "_wake", lambda self: woken.add(self))  # noqa: PLW0108 - bound to it
    monkeypatch.setattr(module, "GRAPH_FROM", 2)
    monkeypatch.setattr(module, "_RECENT", 1)


def units(count: int, seed: int = 0, dimension: int = DIMENSION) -> Any:
    points = np.random.default_rng(seed).standard_normal((count, dimension))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


class Held:
    """Vectors as a store holds them, and their index."""

    def __init__(self, rows: Any) -> None:
        self.rows = dict(enumerate(rows))
        self.vectors = ScopeVectors(rows.shape[1], self.fetch)
        self.vectors.extend(list(self.rows), rows)

    def fetch(self, numbers: Any) -> dict[int, Any]:
        return {number: self.rows[number] for number in numbers if number in self.rows}

    def drop(self, number: int) -> None:
        del self.rows[number]
        self.vectors.discard([number])

    def put(self, number: int, row: Any) -> None:
        self.rows[number] = row
        self.vectors.extend([number], row[None, :])

    def nearest(self, vector: Any, k: int) -> list[tuple[int, float]]:
        everything = [(number, float(row @ vector)) for number, row in self.rows.items()]
        return sorted(everything, key=lambda one: -one[1])[:k]

    def search(self, vector: Any, k: int) -> list[tuple[int, float]]:
        return self.vectors.search(vector, k)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def settle(vectors: ScopeVectors) -> None:
    """Search until a graph is there and no thread works at it."""
    vectors.search(units(1)[0], 1)
    wait_for(lambda: vectors._graph is not None and vectors._worker is None)


def close_to(expected: list[tuple[int, float]]) -> list[tuple[int, Any]]:
    return [(number, pytest.approx(similarity, abs=1e-6)) for number, similarity in expected]


def test_a_graph_takes_over_and_finds_the_same_at_full_precision() -> None:
    held = Held(units(1000))
    assert held.search(held.rows[7], 3) == close_to(held.nearest(held.rows[7], 3))
    settle(held.vectors)
    assert len(held.vectors._rows) == 0
    assert len(held.vectors) == 1000
    asked = units(100, seed=1)
    exact = sum(held.search(one, 3) == close_to(held.nearest(one, 3)) for one in asked)
    assert exact >= 95


def test_few_vectors_are_searched_exactly_and_start_no_thread() -> None:
    held = Held(units(FROM - 1))
    held.search(held.rows[0], 1)
    assert held.vectors._worker is None
    assert held.vectors._graph is None


def test_what_comes_after_the_graph_is_found_at_once_and_moved_into_it_later() -> None:
    held = Held(units(FROM))
    settle(held.vectors)
    for number, row in enumerate(units(100, seed=1), 1000):
        held.put(number, row)
        assert held.search(row, 1) == close_to([(number, 1.0)])
    wait_for(lambda: held.vectors._worker is None)
    assert len(held.vectors._rows) < 20
    assert len(held.vectors) == FROM + 100
    assert held.search(held.rows[1050], 1)[0][0] == 1050


def test_what_is_dropped_is_found_no_more_whenever_it_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside, release = threading.Event(), threading.Event()
    add = Graph.add

    def held_up(self: Graph, numbers: Any, rows: Any) -> None:
        add(self, numbers, rows)
        inside.set()
        assert release.wait(30)

    monkeypatch.setattr(module, "AT_ONCE", 100)
    monkeypatch.setattr(Graph, "add", held_up)
    held = Held(units(FROM))
    held.search(held.rows[0], 1)
    assert inside.wait(30)
    for number in range(0, 100, 2):  # while the graph is made, and holds the first hundred
        held.drop(number)
    release.set()
    settle(held.vectors)
    assert len(held.vectors) == FROM - 50
    for number in range(100, 200, 2):  # from the graph
        held.drop(number)
    held.put(5000, units(1, seed=2)[0])
    held.drop(5000)  # from the rows beside it
    left = set(held.rows)
    for asked in units(50, seed=3):
        assert {number for number, _ in held.search(asked, 5)} <= left
    assert sorted(held.vectors.numbers) == sorted(left)


def test_the_dead_that_only_the_store_knows_hide_no_living_one() -> None:
    near = units(1)[0]
    crowd = near + 0.01 * units(500, seed=1)
    crowd /= np.linalg.norm(crowd, axis=1, keepdims=True)
    held = Held(np.concatenate([crowd.astype(np.float32), units(100, seed=2)]))
    settle(held.vectors)
    for number in range(500):
        del held.rows[number]
    assert held.search(near, 2) == close_to(held.nearest(near, 2))


def test_a_graph_of_which_much_is_dead_is_made_anew() -> None:
    held = Held(units(1000))
    settle(held.vectors)
    worn = held.vectors._graph
    for number in range(300):
        held.drop(number)
    held.put(2000, units(1, seed=3)[0])
    held.search(held.rows[2000], 1)
    wait_for(lambda: held.vectors._worker is None)
    graph = held.vectors._graph
    assert graph is not None
    assert graph is not worn
    assert graph.size == len(held.vectors) == 701
    found = [held.search(held.rows[number], 1)[0][0] for number in held.rows]
    assert sum(one == number for one, number in zip(found, held.rows, strict=True)) > 690


def test_only_the_nearest_comes_from_below_the_least_similarity() -> None:
    held = Held(units(FROM))
    settle(held.vectors)
    asked = units(1, seed=1)[0]
    found = held.vectors.search(asked, 5, 0.99)
    assert [number for number, _ in found] == [held.nearest(asked, 1)[0][0]]
    assert held.vectors.search(held.rows[3], 5, 0.99)[0][0] == 3


def test_searches_do_not_wait_for_a_graph_that_is_being_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(units(FROM))
    inside, release = threading.Event(), threading.Event()
    add = Graph.add

    def slow(self: Graph, numbers: Any, rows: Any) -> None:
        inside.set()
        assert release.wait(30)
        add(self, numbers, rows)

    monkeypatch.setattr(Graph, "add", slow)
    held.search(held.rows[0], 1)
    assert inside.wait(30)
    held.put(999, units(1, seed=1)[0])
    assert held.search(held.rows[999], 1)[0][0] == 999  # the thread stands still, this does not
    release.set()
    settle(held.vectors)
    assert held.search(held.rows[999], 1)[0][0] == 999


def test_without_usearch_the_matrix_goes_on_and_one_warning_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> None:
        raise GraphsUnavailableError("No module named 'usearch'")

    monkeypatch.setattr("shared_core.stores.vectors._usearch", missing)
    monkeypatch.setattr("shared_core.stores.vectors._warned", False)
    with caplog.at_level(logging.WARNING, "tiered_cache"):
        for _ in range(2):
            held = Held(units(FROM))
            held.search(held.rows[5], 1)
            wait_for(lambda held=held: held.vectors._worker is None)
            assert held.search(held.rows[5], 1)[0][0] == 5
            assert held.vectors._worker is None
    assert [line.count("pip install 'tiered-llm-cache[ann]'") for line in caplog.messages] == [1]


def test_a_graph_that_fails_leaves_the_matrix(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Graph, numbers: Any, rows: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Graph, "add", fail)
    held = Held(units(FROM))
    held.search(held.rows[5], 1)
    wait_for(lambda: held.vectors._worker is None)
    assert held.search(held.rows[5], 1)[0][0] == 5
    assert held.vectors._worker is None  # it rests
    assert "no graph of 300 vectors" in caplog.text


@pytest.mark.slow
def test_the_thread_ends_with_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    held = Held(units(5000))
    held.search(held.rows[0], 1)
    thread, gone = held.vectors._worker, weakref.ref(held.vectors)
    assert thread is not None
    del held
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert gone() is None


# The stores

PROCESS = """
import sys, time
import numpy as np
from shared_core.stores import open_store, vectors
from shared_core.testing.stores import record
vectors.GRAPH_FROM = 20000 if "exact" in sys.argv else 300
rows = np.random.default_rng(0).standard_normal((20000, 64)).astype(np.float32)
rows /= np.linalg.norm(rows, axis=1, keepdims=True)
store = open_store("memory://")
for number, row in enumerate(rows):
    store.put(record(f"k{number}", row))
"""


def run(script: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS + script, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_process_ends_at_once_while_a_graph_is_being_made() -> None:
    out = run("store.nearest('scope', 'fake/3', rows[0], 1); print(time.time())")
    assert time.time() - float(out) < 5.0


@pytest.mark.slow
def test_an_onnx_model_may_be_loaded_after_a_graph_was_made() -> None:
    pytest.importorskip("onnxruntime")
    out = run("""
store.nearest('scope', 'fake/3', rows[0], 1)
time.sleep(0.5)
assert 'usearch' in sys.modules
import onnxruntime
print('loaded')
""")
    assert out.split() == ["loaded"]


@pytest.mark.slow
@pytest.mark.model
def test_a_process_that_imported_usearch_itself_embeds_without_onnxruntime() -> None:
    pytest.importorskip("onnxruntime")
    code = """
import sys
import usearch.index
from shared_core.embedding.resolve import resolve_embedder
assert resolve_embedder(None).embed(["How do I reset my password?"]).shape == (1, 384)
assert "onnxruntime" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_forked_while_a_graph_is_made_or_changed_makes_its_own() -> None:
    out = run("""
import os, warnings
warnings.simplefilter('ignore')
def works():
    near = store.nearest('scope', 'fake/3', rows[17], 1)
    for number in range(2000):
        store.put(record(f"new{number}", -rows[number]))
    other = store.nearest('scope', 'fake/3', -rows[1999], 1)
    return near[0].record.key == 'k17' and other[0].record.key == 'new1999'
for pause in (0.1, 0.2, 20):
    store.nearest('scope', 'fake/3', rows[0], 1)
    time.sleep(pause if pause < 1 else 0.5)
    child = os.fork()
    if not child:
        os._exit(0 if works() else 1)
    print(os.waitpid(child, 0)[1])
    for number in range(3000):
        store.put(record(f"more{pause}{number}", np.roll(rows[number], 9)))
""")
    assert out.split() == ["0", "0", "0"]


class GraphConformance(StoreConformance):
    @pytest.mark.parametrize("dead", [1, 5, 300])
    @pytest.mark.parametrize("end", ["expire", "bump", "delete"])
    def test_dead_neighbours_never_hide_a_live_one(
        self, store: Store, clock: FakeClock, dead: int, end: str
    ) -> None:
        """Leave out "replace": a graph of 300 equal vectors may have no way to the one other."""
        super().test_dead_neighbours_never_hide_a_live_one(store, clock, dead, end)


@pytest.mark.usefixtures("at_once")
class TestMemoryWithGraphs(GraphConformance):
    @pytest.fixture
    def open_one(self, clock: FakeClock) -> Callable[..., Store]:
        return lambda **options: open_store("memory://", clock=clock, **options)


@pytest.mark.usefixtures("at_once")
class TestSqliteWithGraphs(GraphConformance):
    @pytest.fixture
    def open_one(self, clock: FakeClock, tmp_path: Path) -> Iterator[Callable[..., Store]]:
        opened: list[Store] = []

        def open_one(**options: Any) -> Store:
            url = f"sqlite:///{tmp_path}/answers.db"
            opened.append(open_store(url, clock=clock, timeout=5.0, **options))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/{name}.db"])
@pytest.mark.slow
def test_any_history_with_a_graph_is_that_of_a_plain_dict(url: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for name in range(30):
        clock, model = FakeClock(), Model(limit=8)
        start = clock.now
        store = open_store(url.format(folder=tmp_path, name=name), max_entries=8, clock=clock)
        for _ in range(60):
            key, angle = rng.choice(list("abcdefghijkl")), int(rng.integers(8))
            kinds = ["put", "put", "put", "nearest", "nearest", "get", "delete", "wait", "bump"]
            match rng.choice(kinds):
                case "put":
                    step: tuple[Any, ...] = ("put", key, angle, rng.choice(["", "s", "st"]))
                case "nearest":
                    step = ("nearest", angle)
                case "wait":
                    step = ("wait", 1)
                case "bump":
                    step = ("bump", rng.choice(["s", "t"]))
                case kind:
                    step = (str(kind), key)
            play(step, store, model)
            clock.now = start + model.now
        store.close()


# Kept beside the file


def filled(path: Path, count: int = FROM, seed: int = 0) -> Any:
    rows = units(count, seed)
    store = open_store(f"sqlite:///{path}", timeout=5.0)
    for number, row in enumerate(rows):
        store.put(record(f"k{number}", row))
    return store, rows


def near(store: Store, vector: Any, k: int = 1) -> list[str]:
    return [one.record.key for one in store.nearest("scope", "fake/3", vector, k)]


def index_of(store: Any) -> ScopeVectors:
    (index,) = store._indexes._shelf._kept.values()
    vectors: ScopeVectors = index.vectors
    return vectors


def kept(path: Path) -> list[Path]:
    found = path.parent.glob(f"{path.name}-graph-*")
    return [one for one in found if not one.name.endswith((".claim", ".part"))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file whose graph has been kept."""
    store, rows = filled(tmp_path / "answers.db")
    near(store, rows[0])
    settle(index_of(store))
    store.close()
    assert len(kept(tmp_path / "answers.db")) == 1
    return tmp_path / "answers.db"


@pytest.fixture
def no_making(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: ScopeVectors) -> bool:
        raise AssertionError("a graph is made anew")

    monkeypatch.setattr(ScopeVectors, "_begin", begin)


@pytest.mark.usefixtures("no_making")
def test_the_next_to_open_the_file_finds_the_graph(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    rows = units(FROM)
    assert [near(store, row) for row in rows[:50]] == [[f"k{n}"] for n in range(50)]
    assert len(index_of(store)._rows) == 0
    store.close()


@pytest.mark.usefixtures("no_making")
def test_a_kept_graph_is_caught_up_with_what_was_put_and_deleted_since(path: Path) -> None:
    rows, new = units(FROM), units(10, seed=1)
    store = open_store(f"sqlite:///{path}")
    store.put(record("k5", new[0]))
    store.put(record("added", new[1]))
    store.delete(Selector("n", key="k7"))
    store.close()
    store = open_store(f"sqlite:///{path}")
    assert near(store, new[0]) == ["k5"]
    assert near(store, new[1]) == ["added"]
    assert "k5" not in near(store, rows[5])
    assert "k7" not in near(store, rows[7], 5)
    store.close()


def test_a_graph_that_has_grown_is_written_down_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"sqlite:///{path}")
    new = units(200, seed=1)
    for number, row in enumerate(new):
        store.put(record(f"new{number}", row))
    near(store, new[0])
    wait_for(lambda: index_of(store)._worker is None)  # type: ignore[arg-type]
    store.close()
    monkeypatch.setattr(module, "_RECENT", 1)
    store = open_store(f"sqlite:///{path}")
    assert near(store, new[150]) == ["new150"]
    assert len(index_of(store)._rows) == 0
    store.close()


@pytest.mark.parametrize("change", ["other", "cut", "flipped", "empty", "lied"])
def test_a_kept_graph_that_is_not_of_this_file_is_made_anew(path: Path, change: str) -> None:
    (graph,) = kept(path)
    data = graph.read_bytes()
    rows = units(FROM, seed=9 if change == "other" else 0)
    if change == "other":
        for one in path.parent.glob("answers.db*"):
            if one != graph:
                one.unlink()
        filled(path, seed=9)[0].close()
    else:
        flipped = bytes([*data[:2000], data[2000] ^ 1, *data[2001:]])
        lied = data.replace(b'"last": 300', b'"last": 999')
        changed = {"cut": data[:-9], "flipped": flipped, "empty": b"", "lied": lied}
        graph.write_bytes(changed[change])
    store = open_store(f"sqlite:///{path}")
    assert near(store, rows[3]) == ["k3"]
    assert len(index_of(store)._rows) + len(index_of(store)._pending) > 0 or change == "other"
    settle(index_of(store))
    assert kept(path)[0].read_bytes() != (data if change == "other" else b"")
    assert [near(store, row) for row in rows[:20]] == [[f"k{n}"] for n in range(20)]
    store.close()


def test_clearing_a_file_deletes_its_graphs_and_those_of_others_stay(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    for number, row in enumerate(units(FROM, seed=1)):
        store.put(record(f"o{number}", row, scope="other", namespace="m"))
    store.nearest("other", "fake/3", units(1)[0], 1)
    wait_for(lambda: len(kept(path)) == 2)
    assert store.delete(Selector("n")) == FROM
    assert len(kept(path)) == 1
    assert store.delete(Selector("m")) == FROM
    assert kept(path) == []
    store.close()


def test_a_graph_that_another_process_makes_is_waited_for_and_then_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (graph,) = kept(path)
    hidden = graph.rename(path.parent / "hidden")
    claim = Path(f"{graph}.claim")
    claim.touch()
    monkeypatch.setattr(module, "_REST_S", 0.0)
    store, rows = open_store(f"sqlite:///{path}"), units(FROM)
    near(store, rows[0])
    wait_for(lambda: index_of(store)._worker is None)
    assert index_of(store)._graph is None  # the matrix answers
    assert near(store, rows[1]) == ["k1"]
    wait_for(lambda: index_of(store)._worker is None)  # the thread that the search began
    hidden.rename(graph)
    settle(index_of(store))
    assert near(store, rows[1]) == ["k1"]
    assert claim.exists()  # it is not this process's
    store.close()


def test_a_claim_that_was_left_behind_keeps_nobody_for_ever(path: Path) -> None:
    (graph,) = kept(path)
    graph.unlink()
    claim = Path(f"{graph}.claim")
    claim.touch()
    os.utime(claim, (time.time() - 10_000, time.time() - 10_000))
    store, rows = open_store(f"sqlite:///{path}"), units(FROM)
    near(store, rows[0])
    settle(index_of(store))
    assert graph.exists()
    assert not claim.exists()
    store.close()


def test_a_graph_is_readable_by_its_owner_alone(path: Path) -> None:
    assert kept(path)[0].stat().st_mode & 0o077 == 0
