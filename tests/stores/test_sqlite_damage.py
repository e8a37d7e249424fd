"""What an app sees of a file that is damaged, full or read-only: misses, and then hits."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared_core import Answer, Hit, Request, ResponseCache
from shared_core.stores import StoreError
from shared_core.stores.sqlite import SqliteStore, database
from shared_core.stores.sqlite import file as file_module
from shared_core.testing.stores import keys_near, record, unit
from tests.fakes import fake_embed

ROOT = Path(__file__).parents[2]
ID_BYTES = range(68, 72)


def request(number: int) -> Request:
    return Request.of(f"Where is parcel {number}?", model="m", params={"temperature": 0})


def opened(path: Path, **options: object) -> ResponseCache:
    chosen = {"embedder": fake_embed, "threshold": 0.9, "max_entries": 500, **options}
    return ResponseCache.open(f"sqlite:///{path}", **chosen)


def fill(path: Path, entries: int) -> None:
    with opened(path) as cache:
        for number in range(entries):
            cache.store(request(number), Answer(f"On shelf {number}. " * 20), tags=["t"])


def set_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))


def serves_again(cache: ResponseCache, calls: int = 10) -> bool:
    """Say whether an answer that is kept now is found, after some calls that may fail inside."""
    for number in range(1000, 1000 + calls):
        cache.store(request(number), Answer("new"))
        if isinstance(cache.lookup(request(number)), Hit):
            return True
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a file of ours of some 100 pages."""
    path = tmp_path_factory.mktemp("whole") / "answers.db"
    fill(path, 120)
    return path.read_bytes()


# ------------------------------------------------------------------------------ damaged pages


def _damaged(whole: bytes, places: list[int], how: str, seed: int) -> bytes:
    """Change 512 bytes at each place, everywhere but in the four bytes that name us."""
    data, rng = bytearray(whole), random.Random(seed)
    for place in places:
        for at in range(place, min(place + 512, len(data))):
            if at not in ID_BYTES:
                data[at] = 0 if how == "zeros" else rng.randrange(256)
    return bytes(data[: places[0]] if how == "cut off" and places[0] > 100 else data)


damages = {
    "shares": st.lists(st.floats(0, 0.999), min_size=1, max_size=8),
    "how": st.sampled_from(["zeros", "noise", "cut off"]),
    "seed": st.integers(0, 999),
}


def _check_damage(whole: bytes, folder: Path, shares: list[float], how: str, seed: int) -> None:
    path = folder / f"{time.time_ns()}.db"
    path.write_bytes(_damaged(whole, [int(len(whole) * share) for share in shares], how, seed))
    with opened(path) as cache:
        for number in range(0, 120, 10):
            outcome = cache.lookup(request(number))
            if isinstance(outcome, Hit):
                assert outcome.answer.text.startswith("On shelf")
        cache.stats(all=True)
        cache.bump("t")
        assert serves_again(cache)
    with opened(path) as cache:
        assert serves_again(cache)
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**damages)
@example(shares=[0.0], how="zeros", seed=0)
@example(shares=[0.0], how="noise", seed=0)
@example(shares=[0.0005], how="zeros", seed=0)
def test_however_a_file_is_damaged_the_cache_serves_again(
    whole: bytes, tmp_path: Path, shares: list[float], how: str, seed: int
) -> None:
    _check_damage(whole, tmp_path, shares, how, seed)


@pytest.mark.slow
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(**damages)
def test_however_a_file_is_damaged_the_cache_serves_again_at_length(
    whole: bytes, tmp_path: Path, shares: list[float], how: str, seed: int
) -> None:
    _check_damage(whole, tmp_path, shares, how, seed)


def _spoil(path: Path, start: int = 100, end: int | None = None) -> None:
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(start)
        file.write(b"\x5a" * ((end or size) - start))


def test_a_file_that_is_damaged_at_start_is_set_aside_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    fill(path, 20)
    _spoil(path)
    damaged = path.read_bytes()
    with opened(path) as cache:
        assert serves_again(cache, 1)
    (aside,) = set_aside(path)
    assert aside.read_bytes() == damaged
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert str(aside) in warnings[0].getMessage()


def test_a_file_that_is_damaged_under_way_is_set_aside_and_no_call_raises(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    fill(path, 60)
    with opened(path) as cache:
        assert isinstance(cache.lookup(request(0)), Hit)
        _spoil(path)
        for number in range(60):
            cache.lookup(request(number))
        assert serves_again(cache)
        cache.store(request(1), Answer("found by meaning"))
        assert isinstance(cache.lookup(request(1)), Hit)
        assert cache.stats().breakers["store"] == "closed"
    assert len(set_aside(path)) == 1
    told = [one for one in caplog.records if "set aside" in one.getMessage()]
    assert len(told) == 1


def test_a_store_finds_what_is_put_after_damage_by_meaning_too(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with closing(SqliteStore(str(path))) as store:
        for key in "abc":
            store.put(record(key, unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 3) == ["a", "b", "c"]
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _spoil(path)
        failed = 0
        for key in "abcd":
            try:
                store.get(key)
            except StoreError:
                failed += 1
        assert failed == 1
        store.put(record("new", unit(1, 0, 0)))
        assert keys_near(store, unit(1, 0, 0), 3) == ["new"]


@pytest.mark.slow
def test_threads_and_processes_agree_on_one_new_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    fill(path, 60)
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.stores.test_sqlite_damage import opened, request, serves_again\n"
        "with opened(Path(sys.argv[1])) as cache:\n"
        "    print('ready', flush=True); sys.stdin.readline()\n"
        "    for number in range(60): cache.lookup(request(number))\n"
        "    assert serves_again(cache)\n"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    served: list[bool] = []
    try:
        assert [one.stdout.readline() for one in others if one.stdout] == ["ready\n"] * 3
        with opened(path) as cache:
            assert isinstance(cache.lookup(request(0)), Hit)
            _spoil(path)
            threads = [
                threading.Thread(target=lambda: served.append(serves_again(cache)))
                for _ in range(4)
            ]
            for one in threads:
                one.start()
            for other in others:
                other.communicate("go\n", timeout=60)
            for one in threads:
                one.join()
        assert served == [True] * 4
        assert [one.returncode for one in others] == [0, 0, 0]
    finally:
        for one in others:
            one.kill()
            one.wait()
    assert len(set_aside(path)) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_an_error_that_damage_did_not_cause_sets_nothing_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "answers.db"
    with closing(SqliteStore(str(path))) as store:
        store.put(record("a"))
        for _ in range(3):
            with pytest.raises(StoreError), store._file.reading() as reader:
                reader.execute("SELECT nothing FROM nowhere")
            assert store.get("a") is not None
    assert set_aside(path) == []
    assert not caplog.records


def test_a_file_of_an_earlier_version_gets_our_id_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    fill(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 0")
    assert not file_module.bears_our_id(str(path))
    with opened(path) as cache:
        assert isinstance(cache.lookup(request(0)), Hit)
    assert file_module.bears_our_id(str(path))


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG" * 2000, b"SQLite format 3\0" + b"\xff" * 5000, b"x", b"tlc1" * 17],
    ids=["png", "sqlite's name", "short", "our letters elsewhere"],
)
def test_a_damaged_file_of_others_is_never_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers.db"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="name another file"):
        opened(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["answers.db"]


def test_a_file_of_others_that_comes_in_our_place_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    fill(path, 60)
    theirs = b"\x89PNG" * 5000
    with opened(path) as cache:
        path.write_bytes(theirs)
        for number in range(60):
            cache.lookup(request(number))
            cache.store(request(number), Answer("new"))
        assert set_aside(path) == []
    assert path.read_bytes() == theirs


# ---------------------------------------------------------------------------------- full disks


def _mounted(place: Path, size: str) -> bool:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    command = [*sudo, "mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(place)]
    return not (sudo and shutil.which("sudo") is None) and subprocess.call(command) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if not _mounted(place, "6m"):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.call([*([] if os.geteuid() == 0 else ["sudo", "-n"]), "umount", "-l", str(place)])


@pytest.mark.slow
def test_on_a_full_disk_what_is_there_is_served_and_clear_frees_it(small_disk: Path) -> None:
    path = small_disk / "answers.db"
    with opened(path, max_entries=None) as cache, opened(path, max_entries=None) as second:
        other = opened(path, namespace="other")
        other.store(request(0), Answer("theirs"))
        cache.values.put_many({"document": b"kept"})
        kept = 0
        for number in range(3000):
            kept += cache.store(request(number), Answer("x" * 4000)) is not None
        assert 100 < kept < 3000
        assert isinstance(cache.lookup(request(5)), Hit)
        assert isinstance(second.lookup(request(6)), Hit)
        assert cache.stats().breakers["store"] == "closed"
        assert cache.clear() >= kept
        assert serves_again(cache, 1)
        for _ in range(3):
            second.lookup(request(1000))
        assert isinstance(second.lookup(request(1000)), Hit)
        assert isinstance(other.lookup(request(0)), Hit)
        assert cache.values.get_many(["document"]) == {"document": b"kept"}
        other.close()
    assert shutil.disk_usage(small_disk).free > 5e6
    with opened(path) as cache:
        assert isinstance(cache.lookup(request(1000)), Hit)


@pytest.mark.slow
def test_a_full_disk_at_start_means_memory_with_one_warning(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (small_disk / "ballast").write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    with pytest.raises(ValueError, match="answers"):
        opened(small_disk / "answers.db", strict=True)
    caplog.clear()
    with opened(small_disk / "answers.db") as cache:
        assert serves_again(cache, 1)
    assert len([one for one in caplog.records if "in memory" in one.getMessage()]) == 1


@pytest.mark.parametrize("has_room", [True, False])
def test_where_nothing_can_be_deleted_a_file_without_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    path = tmp_path / "answers.db"
    write = file_module._write
    sizes: list[int] = []

    def write_if_empty(place: str, data: bytes) -> None:
        gone = Path(f"{path}.gone")
        sizes.append(gone.stat().st_size if gone.exists() else -1)
        if not has_room and sizes[-1] != 0:
            raise OSError(28, "No space left on device")
        write(place, data)

    def refuse(*_: object) -> int:
        raise database.DiskFull("full")

    with opened(path) as cache, opened(path, namespace="other") as other:
        for number in range(20):
            cache.store(request(number), Answer("mine"), tags=["t"])
            other.store(request(number), Answer("theirs"), tags=["t"])
        with monkeypatch.context() as patched:
            patched.setattr(SqliteStore, "_delete_rows", refuse)
            patched.setattr(file_module, "_write", write_if_empty)
            assert cache.clear() == 20
        assert sizes == ([-1] if has_room else [-1, 0])
        assert cache.clear() == 0
        for number in range(20):
            assert isinstance(other.lookup(request(number)), Hit)
        other.bump("t")
        assert not any(isinstance(other.lookup(request(n)), Hit) for n in range(20))
        assert serves_again(cache, 1)
    assert not [one for one in os.listdir(tmp_path) if "gone" in one or "part" in one]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_is_too_much_for_memory_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_core.stores.sqlite.store.MAX_COPIED", 1000)

    def refuse(*_: object) -> int:
        raise database.DiskFull("full")

    path = tmp_path / "answers.db"
    with opened(path) as cache, opened(path, namespace="other") as other:
        cache.store(request(0), Answer("mine"))
        other.store(request(0), Answer("theirs"))
        with monkeypatch.context() as patched:
            patched.setattr(SqliteStore, "_delete_rows", refuse)
            assert cache.clear() == 0
        assert isinstance(cache.lookup(request(0)), Hit)
        assert isinstance(other.lookup(request(0)), Hit)


# ------------------------------------------------------------------- what cannot be used now


def _refusals() -> dict[str, Callable[[Path, pytest.MonkeyPatch], None]]:
    def refuses(code: int, message: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
        def patch(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
            def prepare(*_: object) -> None:
                error = sqlite3.OperationalError(message)
                error.sqlite_errorcode = code
                raise error

            monkeypatch.setattr(database, "prepare", prepare)
            monkeypatch.setattr(os, "access", lambda *_: False)

        return patch

    return {
        "read-only": refuses(sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
        "unreadable": refuses(sqlite3.SQLITE_CANTOPEN, "unable to open database file"),
        "full": refuses(sqlite3.SQLITE_FULL, "database or disk is full"),
        "failing": refuses(sqlite3.SQLITE_IOERR, "disk I/O error"),
    }


@pytest.mark.parametrize("kind", _refusals())
def test_a_file_that_cannot_be_used_means_memory_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / "answers.db"
    fill(path, 1)
    before = path.read_bytes()
    _refusals()[kind](path, monkeypatch)
    with pytest.raises(ValueError, match="answers"):
        opened(path, strict=True)
    with opened(path) as cache:
        assert serves_again(cache, 1)
        assert cache.clear() == 1
    monkeypatch.undo()
    assert path.read_bytes() == before
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(told) == 1
    assert str(path) in told[0]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_where_no_file_can_be_made_means_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ValueError, match="created"):
        opened(tmp_path / "answers.db", strict=True)
    with opened(tmp_path / "answers.db") as cache:
        assert serves_again(cache, 1)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_is_read_and_written_again_afterwards(
    small_disk: Path,
) -> None:
    path = small_disk / "answers.db"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with opened(path) as cache:
        cache.store(request(0), Answer("there"))
        reader = cache._path._store
        assert isinstance(cache.lookup(request(0)), Hit)
        reader._file._writer.close()  # type: ignore[attr-defined]  # else the remount is refused
        reader._file._writer = None  # type: ignore[attr-defined]
    subprocess.check_call([*sudo, "mount", "-o", "remount,ro", str(small_disk)])
    with opened(path) as cache:  # memory
        assert serves_again(cache, 1)
    subprocess.check_call([*sudo, "mount", "-o", "remount,rw", str(small_disk)])
    with opened(path) as cache:
        assert isinstance(cache.lookup(request(0)), Hit)


# ------------------------------------------------------------------------- clocks that ran ahead


@pytest.mark.parametrize("ahead", [3600.0, 86_400.0, 5e6])
def test_an_entry_of_a_clock_that_ran_ahead_outlives_its_ttl_by_no_more_than_that(
    tmp_path: Path, ahead: float
) -> None:
    path, now = tmp_path / "answers.db", [1e9]
    with opened(path, ttl=60, clock=lambda: now[0] + ahead) as cache:
        cache.store(request(0), Answer("from the future"))
    with opened(path, ttl=60, clock=lambda: now[0]) as cache:
        assert isinstance(cache.lookup(request(0)), Hit)
        now[0] += 60 + ahead
        assert not isinstance(cache.lookup(request(0)), Hit)
        cache.store(request(1), Answer("now"))
        now[0] += 59
        assert isinstance(cache.lookup(request(1)), Hit)
        now[0] += 2
        assert not isinstance(cache.lookup(request(1)), Hit)
