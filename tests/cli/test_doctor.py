"""What the doctor finds, and the command line around it."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner

from shared_core import Answer, Request, ResponseCache
from shared_core.cli import app, doctor
from shared_core.cli.doctor import Finding, examine
from tests.fakes import fake_embed

if TYPE_CHECKING:
    import redis


def about(findings: list[Finding], start: str) -> Finding:
    return next(finding for finding in findings if finding.text.startswith(start))


def test_a_package_that_is_absent_comes_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "usearch" else "9.9.9")
    found = about(examine(), "[ann]")
    assert (found.level, found.remedy) == ("absent", "pip install 'tiered-llm-cache[ann]'")


def test_a_langchain_with_a_known_hole_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.2.4")
    assert about(examine(), "langchain-core 1.2.4").level == "warning"


def test_without_anything_that_runs_a_model_the_semantic_tier_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = about(examine(), "semantic tier")
    assert found.level == "missing"
    assert found.remedy == "pip install 'tiered-llm-cache[onnx]'"


def test_without_redis_the_doctor_says_what_a_redis_url_needs() -> None:
    code = (
        "import sys; sys.modules['redis'] = sys.modules['redisvl'] = None\n"
        "from shared_core.cli import demo, doctor\n"
        "print(doctor.missing_for_demo() or 'the demo can run')\n"
        "print(*doctor.examine('redis://localhost:1'), sep='\\n')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the demo can run" in ran.stdout
    assert "pip install 'tiered-llm-cache[redis]'" in ran.stdout


def test_the_demo_names_all_that_it_lacks_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    missing = doctor.missing_for_demo()
    assert missing is not None
    assert missing.remedy == "pip install 'tiered-llm-cache[langchain,cli]'"


def test_a_file_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    found = about(examine(f"sqlite:///{path}"), "store")
    assert (found.level, "will be made" in found.text) == ("ok", True)
    assert not list(tmp_path.iterdir())


def url_of(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"


def filled(url: str, answers: int = 1, **options: Any) -> ResponseCache:
    cache = ResponseCache.open(url, embedder=fake_embed, timeout=5, **options)
    for number in range(answers):
        words = "abcdefg"[number] * 5
        cache.store(Request.of(question=f"What is {words}?", model="m"), Answer(words))
    return cache


def closed_store(path: Path) -> None:
    filled(url_of(path), 3).close()


def store_of_a_process_that_died(path: Path) -> None:
    origin = path.with_name("origin.db")
    cache = filled(url_of(origin), 3)
    for suffix in ("", "-wal"):
        shutil.copy(f"{origin}{suffix}", f"{path}{suffix}")
    cache.close()


def database_of_another(path: Path, mode: str = "DELETE") -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.commit()
    connection.close()


def database_of_another_in_wal_mode(path: Path) -> None:
    database_of_another(path, "WAL")


def text(path: Path) -> None:
    path.write_text("this is no database, but a text of some length" * 50)


@pytest.mark.parametrize(
    ("make", "level", "told"),
    [
        (closed_store, "ok", "3 entries"),
        (store_of_a_process_that_died, "ok", "recover"),
        (Path.touch, "ok", "will be made"),
        (database_of_another, "missing", "no such table"),
        (database_of_another_in_wal_mode, "missing", "no such table"),
        (text, "missing", "not a database"),
    ],
)
def test_a_file_is_looked_at_and_nothing_in_its_folder_changes(
    make: Callable[[Path], None], level: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "my answers?.db"
    make(path)
    before = {one: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()}
    found = about(examine(url_of(path)), "store")
    assert found.level == level
    assert told in found.text
    assert before == {one: (one.read_bytes(), one.stat().st_mtime_ns) for one in tmp_path.iterdir()}


def test_a_file_in_use_is_counted_with_what_was_just_stored(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    cache = filled(url, 2)
    assert "2 entries" in about(examine(url), "store: sqlite").text
    cache.close()


def test_the_doctor_hands_on_the_advice_of_the_caches_on_a_store(tmp_path: Path) -> None:
    url = url_of(tmp_path / "answers.db")
    with ResponseCache.open(url, embedder=fake_embed, threshold=0.9) as cache:
        for number in range(30):
            system = f"It is {number % 12}:15."
            request = Request.of(f"Where is room {number}?", "m", f"{system} Number {number}")
            cache.lookup(request)
            cache.store(request, Answer("Left."))
    (advice,) = [one.text for one in examine(url) if one.text.startswith("advice")]
    assert "the system message (a date or time in it)" in advice


def test_a_file_of_another_version_is_missing(tmp_path: Path) -> None:
    closed_store(tmp_path / "answers.db")
    connection = sqlite3.connect(tmp_path / "answers.db")
    connection.execute("UPDATE meta SET value = 99 WHERE name = 'schema'")
    connection.commit()
    connection.close()
    found = about(examine(f"sqlite:///{tmp_path / 'answers.db'}"), "store")
    assert (found.level, "its version is 99" in found.text) == ("missing", True)


@pytest.mark.parametrize(
    "url", ["ftp://host", "nonsense", "sqlite:///no/such/folder/answers.db", "sqlite:///{file}"]
)
def test_a_store_that_cannot_be_used_is_missing(url: str, tmp_path: Path) -> None:
    text(tmp_path / "text.db")
    found = about(examine(url.format(file=tmp_path / "text.db")), "store")
    assert found.level == "missing"


@pytest.mark.parametrize(
    ("environment", "url", "warned"),
    [
        ({"WEB_CONCURRENCY": "4"}, "memory://", True),
        ({"GUNICORN_CMD_ARGS": "--bind :80 --workers=3"}, "memory://", True),
        ({"GUNICORN_CMD_ARGS": "-w 3"}, "memory://", True),
        ({"WEB_CONCURRENCY": "1"}, "memory://", False),
        ({"WEB_CONCURRENCY": "many"}, "memory://", False),
        ({}, "memory://", False),
        ({"WEB_CONCURRENCY": "4"}, "sqlite:///answers.db", False),
    ],
)
def test_a_cache_per_worker_is_warned_of(
    environment: dict[str, str], url: str, warned: bool
) -> None:
    found = [one for one in examine(url, environment) if one.text.startswith("memory://")]
    assert [one.level for one in found] == ["warning"] * warned


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["doctor", f"sqlite:///{tmp_path}/nowhere/answers.db"])
    assert ran.exit_code == 1
    assert "there is no folder" in ran.output
    assert "mkdir -p" in ran.output


@pytest.mark.model
def test_the_command_finds_this_installation_in_order() -> None:
    pytest.importorskip("sentence_transformers", exc_type=ImportError)
    ran = CliRunner().invoke(app, ["doctor"])
    assert ran.exit_code == 0, ran.output
    assert "model: all-MiniLM-L6-v2" in ran.output


def test_the_demo_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    lack = Finding("missing", "the demo needs rich", "pip install 'tiered-llm-cache[cli]'")
    monkeypatch.setattr(doctor, "missing_for_demo", lambda: lack)
    ran = CliRunner().invoke(app, ["demo"])
    assert ran.exit_code == 1
    assert "pip install 'tiered-llm-cache[cli]'" in ran.output


# ---------------------------------------------------------------------------------- on a Redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Lend a client of an empty server whose settings are put back afterwards."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        settings = client.config_get("maxmemory*")
        yield client
        for name in ("maxmemory", "maxmemory-policy"):
            client.config_set(name, settings[name])


def told(url: str) -> list[Finding]:
    """Return what is found about the server of a URL."""
    return [one for one in examine(url) if one.text.startswith(("store", "memory:", *SUBJECTS))]


SUBJECTS = ("rights", "semantic tier:", "index")


def mend(client: redis.Redis, remedy: str | None) -> None:
    """Run the commands of a remedy as they are shown."""
    for command in (remedy or "").partition(" (")[0].split("; "):
        words = shlex.split(command)
        assert words[:2] == ["redis-cli", "-h"]
        client.execute_command(*words[5:])


@pytest.mark.redis
def test_a_server_in_order_is_described_and_left_as_it_is(
    redis_url: str, client: redis.Redis
) -> None:
    client.config_set("maxmemory", "1gb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    filled(redis_url, 3).close()

    def state() -> list[Any]:
        names = sorted(client.keys())
        lives = [client.expiretime(name) for name in names]
        asked = ("FT._LIST", "CONFIG GET *", "ACL LIST")
        return [names, lives, *(client.execute_command(*one.split(" ")) for one in asked)]

    before = state()
    found = told(redis_url)
    assert [one.level for one in found] == ["ok"] * 3, found
    assert re.search(r"Redis \d+\.\d+.* at redis://.*, \d+\.\d+ ms a round trip", found[0].text)
    assert "1,073.7 MB, allkeys-lru" in found[1].text
    assert found[2].text.endswith(":flat: 3 entries")
    assert state() == before


@pytest.mark.redis
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maxmemory": 0}, "no limit"),
        ({"maxmemory": "1gb", "maxmemory-policy": "noeviction"}, "noeviction"),
    ],
)
def test_memory_that_is_set_badly_is_mended_by_the_command_shown(
    redis_url: str, client: redis.Redis, settings: dict[str, Any], said: str
) -> None:
    for name, value in settings.items():
        client.config_set(name, value)
    found = about(examine(redis_url), "memory:")
    assert (found.level, said in found.text) == ("warning", True)
    mend(client, found.remedy)
    assert about(examine(redis_url), "memory:").level == "ok"


@pytest.mark.redis
def test_an_index_of_other_fields_is_mended_by_the_command_shown(
    redis_url: str, client: redis.Redis
) -> None:
    filled(redis_url).close()
    (name,) = client.execute_command("FT._LIST")
    client.execute_command("FT.DROPINDEX", name)
    client.execute_command("FT.CREATE", name, "PREFIX", 1, "tlc:{0}:r1:", "SCHEMA", "x", "TEXT")
    found = about(examine(redis_url), "index")
    assert found.level == "warning"
    assert "field x" in found.text
    mend(client, found.remedy)
    cache = filled(redis_url)
    assert about(examine(redis_url), "index").level == "ok"
    cache.close()


@pytest.mark.redis
def test_vectors_that_could_not_be_indexed_are_counted(redis_url: str, client: redis.Redis) -> None:
    filled(redis_url).close()
    (name,) = client.execute_command("FT._LIST")
    client.hset("tlc:{0}:r1:damaged", name.decode().split(":")[3], b"short")
    found = about(examine(redis_url), "index")
    assert (found.level, "1 could not be indexed" in found.text) == ("warning", True)


@pytest.mark.redis
def test_an_index_that_is_being_built_says_how_far_it_is(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared_core.cli import doctor as doctor_redis

    filled(redis_url).close()
    read = doctor_redis._pairs
    half = {"percent_indexed": b"0.5"}  # it takes thousands of entries to see it
    monkeypatch.setattr(doctor_redis, "_pairs", lambda reply: read(reply) | half)
    found = about(examine(redis_url), "index")
    assert (found.level, "50% of them indexed" in found.text) == ("warning", True)


@pytest.mark.redis
def test_two_kinds_of_index_over_the_same_vectors_are_warned_of(redis_url: str) -> None:
    for kind in ("flat", "hnsw"):
        filled(redis_url, index=kind).close()
    warnings = [one for one in told(redis_url) if "flat and hnsw" in one.text]
    assert [one.level for one in warnings] == ["warning"]


@pytest.fixture
def user(redis_url: str, client: redis.Redis) -> Iterator[tuple[str, str]]:
    """Lend a user who may do what docs/redis.md says: its name, and a URL that logs it in."""
    rule = re.search(r"^ACL SETUSER (\S+) (.+)$", docs(), re.MULTILINE)
    assert rule is not None
    words = rule[2].replace("PASSWORD", "geheim").split()
    client.execute_command("ACL", "SETUSER", "looked-at", *words)
    yield "looked-at", redis_url.replace("redis://", "redis://looked-at:geheim@")
    client.execute_command("ACL", "DELUSER", "looked-at")


def docs() -> str:
    return (Path(__file__).parents[2] / "docs" / "redis.md").read_text()


@pytest.mark.redis
def test_the_rights_that_are_asked_for_are_those_of_the_docs() -> None:
    from shared_core.cli.doctor import COMMANDS

    rule = re.search(r"^ACL SETUSER .+$", docs(), re.MULTILINE)
    assert rule is not None
    assert {one.split(" ")[0] for one in COMMANDS} == set(re.findall(r"\+(\S+)", rule[0]))


@pytest.mark.redis
def test_a_user_with_the_rights_of_the_docs_lacks_none(user: tuple[str, str]) -> None:
    found = told(user[1])
    assert [one.level for one in found] == ["ok"] * 2, found
    assert "this user may not ask" in found[0].text
    assert not any("geheim" in f"{one.text} {one.remedy}" for one in found)


@pytest.mark.redis
@pytest.mark.parametrize(
    ("without", "level"),
    [
        ("-hset", "missing"),
        ("-eval", "missing"),
        ("-exists -get", "missing"),
        ("-client|setinfo", "missing"),
        ("-ft.search", "warning"),
        ("-ft._list -ft.info", "warning"),
        ("resetkeys ~other:*", "missing"),
    ],
)
def test_a_right_that_is_lacking_is_named_and_given_by_the_command_shown(
    user: tuple[str, str], client: redis.Redis, without: str, level: str
) -> None:
    name, url = user
    client.execute_command("ACL", "SETUSER", name, *without.split())
    found = about(told(url), "rights")
    assert found.level == level
    assert not [one for one in told(url) if "NoPermission" in one.text]
    mend(client, found.remedy)
    assert not [one for one in told(url) if one.text.startswith("rights")]


@pytest.mark.redis
def test_a_database_that_cannot_be_searched_is_told(redis_url: str) -> None:
    url = re.sub(r"/\d+$", "/3", redis_url)
    assert about(examine(url), "semantic tier: Redis").level == "missing"


@pytest.mark.redis
def test_a_replica_is_told_with_its_primary(redis_url: str, client: redis.Redis) -> None:
    from tests.redis_server import RedisStack

    port = client.connection_pool.connection_kwargs["port"]
    with RedisStack("--replicaof", f"127.0.0.1 {port}") as replica:
        found = about(examine(replica.url), "store")
    assert found.level == "warning"
    assert f"127.0.0.1:{port}" in (found.remedy or "")


@pytest.fixture
def other_server() -> Iterator[Any]:
    """Lend a server without the search module, which a test may change."""
    from tests.redis_server import RedisStack, why_not

    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with RedisStack(modules=()) as server:
        yield server


@pytest.mark.redis
def test_a_server_without_the_search_module_lacks_the_semantic_tier(other_server: Any) -> None:
    found = about(examine(other_server.url), "semantic tier: the server")
    assert found.level == "missing"
    assert found.remedy == "docker run -p 6379:6379 redis:8 starts one that has it"


@pytest.mark.redis
@pytest.mark.parametrize("login", ["", ":falsch@", "nobody:falsch@"])
def test_a_login_that_is_refused_is_told_without_it(other_server: Any, login: str) -> None:
    import redis

    with redis.Redis.from_url(other_server.url) as client:
        client.config_set("requirepass", "geheim")
    found = told(other_server.url.replace("//", f"//{login}"))
    assert [one.level for one in found] == ["missing"]
    assert "Authentication" in found[0].text
    assert found[0].remedy == "write its user and password into the URL: redis://USER:PASSWORD@HOST"
    assert "falsch" not in f"{found}"
    assert not [f for f in told(other_server.url.replace("//", "//:geheim@")) if "geheim" in f"{f}"]


@pytest.mark.redis
def test_a_server_that_does_not_answer_is_given_up_soon(other_server: Any) -> None:
    other_server.freeze()
    start = time.monotonic()
    found = about(examine(other_server.url), "store")
    assert (found.level, "Timeout" in found.text) == ("missing", True)
    assert time.monotonic() - start < 30


@pytest.mark.redis
def test_nothing_listening_is_told_by_the_command_line_without_the_password() -> None:
    pytest.importorskip("redisvl", exc_type=ImportError)
    from tests.redis_server import free_port

    ran = CliRunner().invoke(app, ["doctor", f"redis://user:geheim@127.0.0.1:{free_port()}/0"])
    assert ran.exit_code == 1
    assert "Connection refused" in ran.output
    assert "check host and port" in ran.output
    assert "geheim" not in ran.output


@pytest.mark.parametrize("url", ["redis://u:geheim@host/x", "mysql://u:geheim@host"])
def test_a_url_that_is_refused_is_told_without_its_password(url: str) -> None:
    found = about(examine(url), "store")
    assert found.level == "missing"
    assert "geheim" not in found.text


@pytest.mark.redis
@pytest.mark.slow
def test_a_cluster_is_looked_at_where_the_default_namespace_lies() -> None:
    from tests.redis_server import why_not
    from tests.redis_topologies import ClusterStack

    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with ClusterStack() as cluster:
        filled(cluster.url, 2).close()
        found = told(cluster.url)
    assert [one.level for one in found] == ["ok", "warning", "ok"], found
    assert found[2].text.endswith(":flat: 2 entries")
