"""What only a file can suffer: other processes, kill -9, forks, wrong paths, broken rows."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_core.stores import Selector, StoreError, epoch_key
from shared_core.stores.codec import Codec
from shared_core.stores.sqlite import SqliteStore
from shared_core.stores.sqlite.index import ScopeIndexes
from shared_core.stores.sqlite.store import BATCH
from shared_core.testing.stores import SPACE, FakeClock, keys_near, record, unit
from tests.soak import KILLS, SECONDS

ROOT = Path(__file__).parents[2]
BODY = json.loads(Codec().encode(record("k")))
spawn = multiprocessing.get_context("spawn")


def python(script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


# Other processes

ECHO = """
import sys
from shared_core.stores import Selector, epoch_key
from shared_core.stores.sqlite import SqliteStore
from shared_core.testing.stores import keys_near, record, unit
store = SqliteStore(sys.argv[1], timeout=5.0)
print("ready", flush=True)
for line in sys.stdin:
    match line.split():
        case ["put", key]:
            store.put(record(key, unit(1, 0, 0), tags=("t",)))
            print("done", flush=True)
        case ["near"]:
            print(",".join(keys_near(store, unit(1, 0, 0), 9)), flush=True)
        case ["bump"]:
            store.increment({epoch_key("n", "t"): 1})
            print("done", flush=True)
        case ["delete", key]:
            print(store.delete(Selector("n", key=key)), flush=True)
"""


def test_two_processes_see_each_others_writes_at_once(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    store = open_at()
    with python(ECHO, path) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def ask(line: str) -> str:
            print(line, file=other.stdin, flush=True)
            return other.stdout.readline().strip()  # type: ignore[union-attr]  # checked above

        assert other.stdout.readline() == "ready\n"
        for i in range(20):
            assert ask(f"put theirs{i}") == "done"
            assert store.get(f"theirs{i}") is not None
            assert len(keys_near(store, unit(1, 0, 0), 99)) == 2 * i + 1
            store.put(record(f"ours{i}", unit(1, 0, 0)))
            assert len(ask("near").split(",")) == min(2 * i + 2, 9)
        assert ask("delete ours0") == "1"
        assert "ours0" not in keys_near(store, unit(1, 0, 0), 99)
        assert ask("bump") == "done"
        assert all(key.startswith("ours") for key in keys_near(store, unit(1, 0, 0), 99))
        assert store.get("theirs0") is None
        other.stdin.close()


WRITER = """
import sys
import numpy as np
from shared_core.stores.sqlite import SqliteStore
from shared_core.testing.stores import record, unit
store = SqliteStore(sys.argv[1], timeout=5.0, max_entries=100_000)
rng = np.random.default_rng()
for i in range(10**9):
    key = f"{sys.argv[2]}/{i}"
    store.put(record(key, unit(*rng.standard_normal(384)), tags=("t",), expires=9e9))
    store.add_labels("labels", [key])
    print(key, flush=True)
    if i % 10 == 9:
        store.put(record(f"{sys.argv[2]}/again", unit(*rng.standard_normal(384))))
"""


@pytest.mark.slow
def test_kill_9_loses_no_acknowledged_write_and_breaks_nothing(path: str) -> None:
    rng = random.Random(os.urandom(8))
    acknowledged: list[str] = []
    for turn in range(KILLS):
        with python(WRITER, path, str(turn)) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            killer = threading.Timer(rng.uniform(0, 0.2), writer.kill)
            killer.start()
            lines = (first + writer.stdout.read()).split("\n")
            killer.join()
            assert writer.wait() == -signal.SIGKILL
        acknowledged += lines[:-1]  # the last may have been cut short
        store = SqliteStore(path)
        labels = [label for _, label in store.load_state({"labels": 0})["labels"]]
        assert labels == sorted(labels, key=lambda key: [int(n) for n in key.split("/")])
        assert set(acknowledged[-5000:]) <= set(labels)
        for key in acknowledged:
            assert store.get(key) is not None, key
        counted = store.info().entries
        store.close()
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM records").fetchone() == (counted,)
        connection.close()
    assert len(acknowledged) >= KILLS


def endure(path: str, process: int, seconds: float, results: Any) -> None:
    store = SqliteStore(path, timeout=1.0)
    errors: list[str] = []
    done = [0] * 4

    def work(thread: int) -> None:
        rng = np.random.default_rng([process, thread])
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                key = f"{process}/{thread}/{done[thread]}"
                vector = unit(*rng.standard_normal(32))
                scope = f"scope {done[thread] % 7}"
                store.put(record(key, vector, scope=scope, tags=("t",)))
                done[thread] += 1
                if store.get(key) is None:
                    errors.append(f"{key} was not there")
                for _ in range(3):
                    store.get(f"{process}/{thread}/{rng.integers(done[thread])}")
                if store.nearest(scope, SPACE, vector, 1)[0].record.key != key:
                    errors.append(f"{key} was not nearest to itself")
                store.increment({"count": 1})
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    results.put((process, done, errors))


@pytest.mark.slow
def test_eight_processes_of_four_threads_lose_nothing_and_meet_no_error(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    results = spawn.Queue()
    processes = [spawn.Process(target=endure, args=(path, n, SECONDS, results)) for n in range(8)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=SECONDS + 60) for _ in processes]
    for process in processes:
        process.join()
    assert [error for _, _, errors in outcomes for error in errors] == []
    store = open_at()
    for process_number, done, _ in outcomes:
        for thread, count in enumerate(done):
            for i in range(count):
                assert store.get(f"{process_number}/{thread}/{i}") is not None
    total = sum(sum(done) for _, done, _ in outcomes)
    assert store.info().entries == total
    assert store.get_many(["count"]) == {"count": b"%d" % total}


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # threads and fork: on purpose
def test_a_fork_in_the_middle_of_work_leaves_both_sides_working(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    for i in range(200):
        store.put(record(f"{i}", unit(1, i, 0)))
    keys_near(store, unit(1, 0, 0), 1)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while not stop.is_set():
                store.put(record(name, unit(1, 1, 1)))
                store.get("7")
                keys_near(store, unit(1, 0, 0), 3)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for i in range(200):
                    assert store.get(f"{i}") is not None
                    assert len(keys_near(store, unit(1, i, 0), 1)) == 1
                store.put(record(f"child {n}"))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0]
    assert failures == []
    assert all(store.get(f"child {n}") is not None for n in range(3))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_child_inherits_no_open_handle(path: str, open_at: Callable[..., SqliteStore]) -> None:
    store = open_at()
    store.put(record())
    store.get("k")
    pid = os.fork()
    if pid == 0:
        held = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
        os._exit(int(path in held))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.get("k") is not None


def test_a_store_that_is_closed_stays_closed_in_a_child(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    store.close()
    pid = os.fork()
    if pid == 0:
        try:
            store.get("k")
        except StoreError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# The file and what is in it


def test_a_file_is_readable_by_its_owner_alone(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    open_at().put(record())
    for name in os.listdir(os.path.dirname(path)):
        assert os.stat(os.path.join(os.path.dirname(path), name)).st_mode & 0o777 == 0o600


def test_everything_is_there_when_the_file_is_opened_again(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    store.put(record("a", unit(1, 0, 0), tags=("t",)))
    store.add_labels("id", ["x"])
    store.put_many({"key": b"value"})
    store.close()
    store = open_at()
    assert store.get("a") == record("a", tags=("t",))
    assert keys_near(store, unit(1, 0, 0), 1) == ["a"]
    assert store.load_state({"id": 0}) == {"id": [(1, "x")]}
    assert store.get_many(["key"]) == {"key": b"value"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("body", b"{"),
        ("body", b"\xff\xfe"),
        ("body", b"[]"),
        ("body", b'{"v":99}'),
        ("key", b"another"),
        ("vector", b"123"),
        ("vector", "text of 12 b"),
        ("body", json.dumps({**BODY, "question": 5}).encode()),
        ("body", json.dumps({**BODY, "created": None}).encode()),
        ("body", json.dumps({**BODY, "answer": {"text": None}}).encode()),
        ("body", json.dumps({**BODY, "answer": {"text": "a", "usage": [1]}}).encode()),
    ],
)
def test_a_record_that_does_not_decode_is_none_and_deleted(
    path: str, open_at: Callable[..., SqliteStore], column: str, value: bytes
) -> None:
    store = open_at()
    store.put(record("k", unit(1, 0, 0)))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE records SET {column} = ?", (value,))
    connection.close()
    assert keys_near(store, unit(1, 0, 0), 1) == (["k"] if column == "key" else [])
    assert store.get("another" if column == "key" else "k") is None
    assert store.info().entries == 0


def test_a_neighbour_that_does_not_decode_hides_no_other(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    store = open_at()
    for key, scope, y in [("broken", "scope", 0), ("moved", "other", 0.1), ("live", "scope", 1)]:
        store.put(record(key, unit(1, y, 0), scope=scope))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET body = x'00' WHERE key = CAST('broken' AS BLOB)")
        connection.execute("UPDATE records SET scope = CAST('scope' AS BLOB)")
    connection.close()
    assert keys_near(store, unit(1, 0, 0), 1) == ["live"]
    store.put(record("next"))
    assert store.info().entries == 2


def test_expired_records_are_removed_when_the_file_is_opened(
    open_at: Callable[..., SqliteStore],
) -> None:
    clock = FakeClock()
    store = open_at(clock=clock)
    for i in range(10):
        store.put(record(f"{i}", expires=clock.now + 1))
    clock.now += 2
    assert open_at(clock=clock).info().entries == 0


def test_opening_with_a_smaller_limit_brings_the_file_down_to_it(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    for i in range(1200):
        store.put(record(f"{i}"))
    smaller = open_at(max_entries=10)
    assert smaller.info().entries == 10
    assert smaller.get("1199") is not None
    assert smaller.get("1189") is None


def test_uses_are_known_to_the_next_process_after_close(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at(max_entries=2)
    store.put(record("a"))
    store.put(record("b"))
    store.get("a")
    store.close()
    store = open_at(max_entries=2)
    store.put(record("c"))
    assert store.get("a") is not None
    assert store.get("b") is None


def test_a_read_writes_nothing(path: str, open_at: Callable[..., SqliteStore]) -> None:
    store = open_at(max_entries=10)
    store.put(record("a", unit(1, 0, 0)))
    size = os.path.getsize(path + "-wal")
    for _ in range(100):
        store.get("a")
        keys_near(store, unit(1, 0, 0), 1)
    assert os.path.getsize(path + "-wal") == size


def test_a_writer_that_holds_the_file_is_a_store_error_within_the_time_limit(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    store = open_at(timeout=0.05)
    store.put(record("a"))
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreError, match="locked"):
        store.put(record("b"))
    assert time.monotonic() - started < 1.0
    assert store.get("a") is not None
    blocker.execute("ROLLBACK")
    blocker.close()
    store.put(record("b"))
    assert store.get("b") is not None


def test_a_failed_put_changes_nothing(path: str, open_at: Callable[..., SqliteStore]) -> None:
    store = open_at()
    store.put(record("a", unit(1, 0, 0), tags=("t",)))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON tags BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    connection.close()
    with pytest.raises(StoreError, match="full"):
        store.put(record("a", unit(0, 1, 0), tags=("t",)))
    assert store.get("a") is not None
    assert store.nearest("scope", SPACE, unit(1, 0, 0), 1)[0].similarity == 1.0
    store.put(record("untagged"))


def test_a_long_deletion_lets_others_write_meanwhile(
    open_at: Callable[..., SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_at(), open_at()
    for i in range(2 * BATCH + 1):
        store.put(record(f"{i}"))
    writing, batches = store._file.writing, []

    @contextmanager
    def then_let_another_write() -> Iterator[sqlite3.Connection]:
        with writing() as writer:
            yield writer
        batches.append(1)
        other.put(record(f"meanwhile {len(batches)}", namespace="other"))

    monkeypatch.setattr(store._file, "writing", then_let_another_write)
    assert store.delete(Selector("n")) == 2 * BATCH + 1
    assert len(batches) == 3
    assert store.info().entries == 3


def test_indexes_stay_within_their_bytes_and_still_find_everything(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    for i in range(200):
        store.put(record(f"{i}", unit(1, i, 0), scope=f"{i % 20}"))
    store._indexes = ScopeIndexes(store._file, capacity=5_000)
    for _ in range(2):
        for scope in range(20):
            assert len(keys_near(store, unit(1, 0, 0), 99, f"{scope}")) == 10
    assert store._indexes._shelf._total <= 5_000
    assert 1 <= len(store._indexes._shelf._kept) < 20


def test_a_path_that_can_not_be_a_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("not a database, but long enough to be looked at " * 40)
    (tmp_path / "short.txt").write_text("hello")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE records (id)")
    connection.close()
    wrong = {
        "": "is a folder",
        "missing/answers.db": "create it first",
        "note.txt": "name another file",
        "short.txt": "name another file",
        "other.db": "another application",
    }
    for name, remedy in wrong.items():
        with pytest.raises(ValueError, match=remedy) as caught:
            SqliteStore(str(tmp_path / name))
        assert str(tmp_path / name).rstrip("/") in str(caught.value)
    assert (tmp_path / "short.txt").read_text() == "hello"
    assert not (tmp_path / "missing").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_place_where_no_file_can_be_made_is_a_wrong_path() -> None:
    with pytest.raises(ValueError, match="/proc/answers"):
        SqliteStore("/proc/answers.db")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_file_that_may_not_be_written_is_a_wrong_path() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "answers.db")
        SqliteStore(path).close()
        for place, mode in ((folder, 0o755), (path, 0o444)):
            os.chmod(place, mode)
        child = os.fork()
        if child == 0:  # root may write anything, so ask as somebody else
            told = ""
            try:
                if os.geteuid() == 0:
                    os.setuid(nobody)
                SqliteStore(path)
            except ValueError as error:
                told = str(error)
            finally:
                os._exit(0 if "make it writable" in told else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_an_unknown_schema_version_is_named(path: str, open_at: Callable[..., SqliteStore]) -> None:
    open_at().close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema'")
    connection.close()
    with pytest.raises(ValueError, match="version 99"):
        SqliteStore(path)


def test_many_threads_may_open_one_new_file_at_once(path: str) -> None:
    opened: list[SqliteStore] = []
    threads = [
        threading.Thread(target=lambda: opened.append(SqliteStore(path, timeout=5.0)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    opened[0].put(record())
    assert all(store.get("k") is not None for store in opened)
    for store in opened:
        store.close()


def test_nothing_is_pickled_and_records_are_json(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    open_at().put(record("k", unit(1, 0, 0), tags=("t",)))
    with sqlite3.connect(path) as connection:
        ((body, vector),) = connection.execute("SELECT body, vector FROM records")
    connection.close()
    assert json.loads(body)["answer"]["text"] == "answer k"
    assert len(vector) == 12


def test_the_exact_tier_loads_no_numpy(path: str) -> None:
    script = """
import sys
from shared_core.record import Answer, Record
from shared_core.stores import open_store
for url in ("memory://", "sqlite:///" + sys.argv[1]):
    store = open_store(url)
    store.put(Record("k", "s", "n", "q", Answer("a")))
    assert store.get("k").answer.text == "a"
    store.close()
assert not {"numpy", "torch", "redis"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=True)


def test_a_bump_costs_the_same_for_any_number_of_records(
    open_at: Callable[..., SqliteStore],
) -> None:
    store = open_at()
    for i in range(300):
        store.put(record(f"{i}", tags=("t",)))
    statements: list[str] = []
    with store._file.writing() as writer:
        writer.set_trace_callback(statements.append)
    store.increment({epoch_key("n", "t"): 1})
    assert store.get("0") is None
    assert len(statements) <= 6
    assert not any("records" in statement for statement in statements)


@pytest.mark.parametrize("there_is_another", [False, True])
def test_a_file_that_was_deleted_or_replaced_is_left(
    path: str,
    open_at: Callable[..., SqliteStore],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    there_is_another: bool,
) -> None:
    store = open_at()
    store.put(record("old", unit(1, 0, 0)))
    assert keys_near(store, unit(1, 0, 0), 1) == ["old"]
    for name in (path, path + "-wal", path + "-shm"):
        os.unlink(name)
    if there_is_another:
        other = SqliteStore(str(tmp_path / "other.db"))
        other.put(record("theirs", unit(1, 0, 0)))
        other.close()
        os.rename(tmp_path / "other.db", path)
    store.put(record("new", unit(0, 1, 0)))
    assert store.get("old") is None
    assert keys_near(store, unit(0, 1, 0), 1) == ["new"]
    assert keys_near(store, unit(1, 0, 0), 2) == (
        ["theirs", "new"] if there_is_another else ["new"]
    )
    elsewhere = open_at()
    assert elsewhere.get("new") is not None
    told = [one for one in caplog.records if "deleted or replaced" in one.message]
    assert len(told) == 1


@pytest.mark.slow
@pytest.mark.parametrize("left", [(), ("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_file_that_was_deleted_alone_is_made_anew_by_all_its_processes(
    path: str, open_at: Callable[..., SqliteStore], left: tuple[str, ...]
) -> None:
    store = open_at()
    with python(ECHO, path) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        for number in range(20):
            store.put(record(f"{number}", unit(1, number, 0)))
        print("near", file=other.stdin, flush=True)
        assert len(other.stdout.readline().split(",")) == 9
        for rest in {"", "-wal", "-shm"} - set(left):
            os.unlink(path + rest)
        store.put(record("ours", unit(1, 0, 0)))
        print("put theirs", file=other.stdin, flush=True)
        assert other.stdout.readline() == "done\n"
        assert sorted(keys_near(store, unit(1, 0, 0), 9)) == ["ours", "theirs"]
        other.stdin.close()
    store.close()
    assert open_at().info().entries == 2


def test_a_limit_is_kept_as_fast_in_a_file_that_came_later(
    path: str, open_at: Callable[..., SqliteStore]
) -> None:
    store = open_at(max_entries=2)
    for name in (path, path + "-wal", path + "-shm"):
        os.unlink(name)
    for key in "abc":
        store.put(record(key))
    with sqlite3.connect(path) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "records_by_use" in names
    assert [key for key in "abc" if store.get(key)] == ["b", "c"]


def test_a_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another application's tables"):
        SqliteStore(str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["theirs.db"]


def test_a_file_that_is_locked_when_it_is_opened_is_ready_later(
    path: str, open_at: Callable[..., SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_core.stores.sqlite.database.OPENING", 0.05)
    open(path, "w").close()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("PRAGMA journal_mode = WAL")
    blocker.execute("BEGIN IMMEDIATE")
    store = open_at(timeout=0.05)
    with pytest.raises(StoreError, match="locked"):
        store.get("a")
    blocker.execute("ROLLBACK")
    store.put(record("a"))
    assert store.get("a") is not None
    blocker.execute("BEGIN IMMEDIATE")
    monkeypatch.undo()
    started = time.monotonic()
    assert open_at(timeout=0.05).get("a") is not None
    assert time.monotonic() - started < 1.0
    blocker.close()


def test_rows_that_were_replaced_leave_the_index(open_at: Callable[..., SqliteStore]) -> None:
    store = open_at()
    for _ in range(20):
        for number in range(20):
            store.put(record(f"k{number}", unit(1, number, 0)))
        keys_near(store, unit(1, 0, 0), 1)
    indexes = store._indexes
    assert indexes is not None
    (index,) = indexes._shelf._kept.values()
    assert len(index.vectors) < 150
    assert keys_near(store, unit(1, 0, 0), 20) == [f"k{number}" for number in range(20)]
