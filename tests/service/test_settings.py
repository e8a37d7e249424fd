"""Settings: where they come from, what makes no sense, and what is shown of them."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared_core.cli import app
from shared_core.service.access import new_key
from shared_core.service.settings import HANDED_OVER, Settings, handed_over, load_settings

DOCS = Path(__file__).parents[2] / "docs" / "service.md"
ADMIN = str(new_key("ops", "admin")[1])


def run(*words: str, **environment: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(words), env=environment)
    return done.exit_code, done.stdout, done.stderr


def test_flags_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\nnamespace = "of-file"\nkeys = []\n')
    monkeypatch.setenv("TIERED_CACHE_PORT", "2")
    monkeypatch.setenv("TIERED_CACHE_HOST", "127.0.0.3")
    found = load_settings({"port": "3", "config": str(file)})
    assert (found.port, found.host, found.namespace) == (3, "127.0.0.3", "of-file")
    monkeypatch.setenv("TIERED_CACHE_CONFIG", str(file))
    assert load_settings({}).namespace == "of-file"


def test_keys_come_as_a_list_or_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = str(new_key("a")[1]), str(new_key("b")[1])
    monkeypatch.setenv("TIERED_CACHE_KEYS", f"{one}, {two}")
    assert load_settings({}).keys == (one, two)
    assert load_settings({"keys": [one]}).keys == (one,)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"port": "x"}, r"port: 'x': .*integer.*\(--port, TIERED_CACHE_PORT\)"),
        ({"prot": "1"}, r"unknown setting 'prot'; did you mean 'port'\?"),
        ({"threshold": "2"}, "threshold: '2': .*less than or equal to 1"),
        ({"upstream": "api.openai.com"}, "upstream: give an address such as https://"),
        ({"cache": "memory://", "workers": "2"}, "workers=2 with cache=memory://.*redis://HOST"),
        ({"keys": "tc-abc"}, "keys: a key must read NAME:ROLE:NAMESPACE:SHA256"),
        ({"keys": "a:use:b:tc-abc"}, "the hash of key 'a' must be 64 hex digits"),
        ({"keys": f"a:root:b:{'0' * 64}"}, "the role of key 'a' must be use or admin, not 'root'"),
        ({"keys": f"a:use:b/c:{'0' * 64}"}, "the namespace of a key must be 1 to 64 of"),
        ({"keys": f"{ADMIN},{ADMIN}"}, "the key of 'ops' is there twice"),
        ({"namespace": "a:b"}, "namespace: 'a:b': give 1 to 64 of"),
        ({"ssl_keyfile": "/nowhere"}, "TLS needs both"),
        ({"ssl_keyfile": "/no", "ssl_certfile": "/no"}, "ssl_keyfile: there is no file /no"),
        ({"host": "0.0.0.0", "admin": True}, "admin=true on 0.0.0.0 without keys"),
        ({"host": "0.0.0.0", "upstream_key": "s"}, "anybody could spend your money"),
        ({"config": "/nowhere.toml"}, "config: /nowhere.toml cannot be read: No such file"),
        ({"body_limit": "0"}, "body_limit: '0': .*greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_remedy(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        load_settings(given)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1 2")
    with pytest.raises(ValueError, match=f"config: {re.escape(str(file))} is no TOML"):
        load_settings({"config": str(file)})


def test_no_error_shows_a_secret() -> None:
    with pytest.raises(ValueError, match="keys") as wrong:
        load_settings({"keys": "tc-secret", "upstream_key": ["s3cret"], "upstream": "u:s3cret@h"})
    assert "secret" not in str(wrong.value)
    assert "s3cret" not in str(wrong.value)


def test_the_printed_configuration_is_a_file_without_secrets() -> None:
    code, out, _ = run(
        *("serve", "--print-config", "--cache", "redis://:hunter2@h:1/0", "--ttl", "inf"),
        *("--keys", ADMIN, "--no-semantic"),
        TIERED_CACHE_UPSTREAM_KEY="sk-hunter2",
    )
    assert code == 0
    assert "hunter2" not in out
    told = load_settings({"cache": "redis://:hunter2@h/0", "upstream": "https://hunter2@h/v1"})
    assert "hunter2" not in repr(told)
    read = tomllib.loads(out)
    assert read["cache"] == "redis://:***@h:1/0"
    assert read["semantic"] is False
    assert read["keys"] == [ADMIN]
    assert read["ttl"] == float("inf")


def test_a_wrong_setting_ends_the_command_with_one_clear_line() -> None:
    code, _, told = run("serve", "--workers", "2")
    assert code == 1
    assert told.startswith("tiered-cache: workers=2 with cache=memory://")
    code, _, told = run("serve", "--cache", "foo://x")
    assert code == 1
    assert "known forms: memory://" in told


def test_a_new_key_is_told_once_and_its_line_is_what_a_server_takes() -> None:
    code, out, told = run("key", "shop-app", "--role", "use", "--namespace", "shop")
    key, line = out.splitlines()
    assert code == 0
    assert "shown only now" in told
    assert key not in line
    assert Settings(keys=(line,)).keys == (line,)
    assert run("key", "a:b")[0] == 1


def test_workers_get_every_setting_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Settings(
        cache="sqlite:///x.db", workers=2, keys=(ADMIN,), upstream_key="s", ttl=float("inf")
    )  # type: ignore[arg-type]  # pydantic takes a text
    monkeypatch.setenv(HANDED_OVER, json.dumps(told.revealed()))
    assert handed_over() == told


def test_every_setting_is_in_the_table_of_the_documentation() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {name: (default.strip("`"), told) for name, default, told in rows}
    fields = Settings.model_fields
    assert list(documented) == list(fields)
    for name, field in fields.items():
        default = {None: "", (): ""}.get(field.default, field.default)
        spelled = str(default).lower() if isinstance(default, bool) else str(default)
        assert documented[name] == (spelled, field.description)


def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIERED_CACHE_UPSTREAM_KYE", "sk-hunter2")
    with pytest.raises(ValueError, match=r"UPSTREAM_KYE; did you mean \w+UPSTREAM_KEY\?"):
        load_settings({})
    monkeypatch.delenv("TIERED_CACHE_UPSTREAM_KYE")
    for harmless in ("TIERED_CACHE_SERVICE_HOST", "TIERED_CACHE_PORT_8000_TCP"):  # Kubernetes' own
        monkeypatch.setenv(harmless, "10.0.0.1")
    assert load_settings({}).port == 8000


def test_neither_repr_nor_traceback_of_settings_holds_a_secret() -> None:
    secrets = {"upstream_key": "sk-hunter2", "cache": "redis://:hunter2@h:1/0"}
    found = load_settings(
        {**secrets, "encryption_key": "mY3o0bPzuCkFhzgXy0Sv2Kq5t9iYw7v0l4hN8dQ2x0E="}
    )
    for told in (repr(found), str(found), f"{found!r}", json.dumps(found.masked())):
        assert "hunter2" not in told
        assert "mY3o0bPz" not in told
    with pytest.raises(ValueError, match="port") as wrong:
        Settings(**{**secrets, "port": "hunter2"})  # type: ignore[arg-type]
    assert "hunter2" not in str(wrong.value)


def test_version_and_help_are_told_whatever_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"\d+\.\d+\S*|from source", out.strip())
    monkeypatch.setitem(sys.modules, "shared_core.service", None)
    code, out, _ = run("serve", "--help")
    assert code == 0
    assert "pip install 'tiered-llm-cache[service]'" in out
    code, _, told = run("serve")
    assert code == 1
    assert "pip install 'tiered-llm-cache[service]'" in told


def test_a_key_is_rotated_within_its_role_and_namespace() -> None:
    old = str(new_key("shop-app", "admin", "shop")[1])
    code, out, told = run("key", "shop-app", "--rotate", old)
    key, line = out.splitlines()
    assert code == 0
    assert line.split(":")[:3] == ["shop-app", "admin", "shop"]
    assert line != old
    assert "then remove it" in told
    assert len(Settings(keys=(old, line)).keys) == 2, "both are taken meanwhile"
    assert key not in line
    assert run("key", "other", "--rotate", old)[0] == 1


def test_harmless_headers_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERED_CACHE_IGNORE_HEADERS", "x-trace, x-run")
    options = Settings(upstream="http://a/v1").cache_options()
    assert options["ignore_headers"] == ("x-trace", "x-run")
