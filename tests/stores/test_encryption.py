"""At rest: what was not sealed by a key of ours, or was moved or altered, is a miss."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared_core import Answer, Hit, Miss, Request, ResponseCache
from shared_core.options import Options
from shared_core.record import Record
from shared_core.stores import Codec, MemoryStore, SealedValues, UndecodableError, without_password
from tests.fakes import fake_embed

FIRST, SECOND, THIRD = (Fernet.generate_key().decode() for _ in range(3))
RECORD = Record(
    *("k" * 64, "s" * 64, "n", "Where is my parcel?", Answer("In the post.")),
    created=1.0,
    expires=9e9,
    vector=np.full(4, 0.5, np.float32),
)
ASKED, ANSWER = "How do I change my password?", Answer("In the settings, under Account.")


def request(question: str = ASKED, model: str = "m") -> Request:
    return Request.of(question, model=model, params={"temperature": 0})


def opened(url: str, key: Any, **options: Any) -> ResponseCache:
    return ResponseCache.open(
        url, **{"embedder": fake_embed, "threshold": 0.8, "encryption_key": key, **options}
    )


# ------------------------------------------------------------------------------- one record


def test_a_sealed_record_shows_nothing_but_its_token() -> None:
    assert set(json.loads(Codec(FIRST).encode(RECORD))) == {"v", "sealed"}


@pytest.mark.parametrize("precision", ["<f4", "<f2"])
def test_a_sealed_record_comes_back_with_its_vector_in_either_precision(precision: str) -> None:
    vector = np.linspace(-1, 1, 384, dtype=np.float32)
    data = Codec(FIRST).encode(replace(RECORD, vector=vector))
    kept = vector.astype(precision).astype(np.float32)
    assert Codec(FIRST).decode(data, kept) == RECORD


def test_another_vector_beside_a_sealed_record_is_refused() -> None:
    codec = Codec(FIRST)
    for data, vector in (
        (codec.encode(RECORD), -np.full(4, 0.5, np.float32)),
        (codec.encode(replace(RECORD, vector=None)), np.full(4, 0.5, np.float32)),
    ):
        with pytest.raises(UndecodableError, match="vector"):
            codec.decode(data, vector)


def test_a_record_in_the_clear_is_refused_where_a_key_is_given() -> None:
    with pytest.raises(UndecodableError):
        Codec(FIRST).decode(Codec().encode(RECORD))


BOTH = Codec([FIRST, SECOND])
SEALED = BOTH.encode(RECORD)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_altered_sealed_record_is_read(data: st.DataObject) -> None:
    """Bytes changed anywhere, cut off, added, or fields set in the clear."""
    body = json.loads(SEALED)
    token = base64.urlsafe_b64decode(body["sealed"])
    if data.draw(st.booleans(), "in the token"):
        place = data.draw(st.integers(0, len(token) - 1))
        flipped = token[place] ^ data.draw(st.integers(1, 255))
        token = data.draw(
            st.sampled_from(
                [token[:place] + bytes([flipped]) + token[place + 1 :], token[:place], token + b"x"]
            )
        )
        altered = json.dumps({**body, "sealed": base64.urlsafe_b64encode(token).decode()}).encode()
    else:
        plain = json.loads(Codec().encode(RECORD))
        names = data.draw(st.lists(st.sampled_from(sorted(plain)), min_size=1, unique=True))
        altered = json.dumps({name: plain[name] for name in names}).encode()
    with pytest.raises(UndecodableError):
        BOTH.decode(altered)


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old, both, new = Codec(FIRST), Codec([SECOND, FIRST]), Codec(SECOND)
    assert both.decode(old.encode(RECORD)) == RECORD
    assert new.decode(both.encode(RECORD)) == RECORD
    with pytest.raises(UndecodableError):
        old.decode(both.encode(RECORD))


@pytest.mark.parametrize("keys", [[], [FIRST, "short"], [FIRST, 5], 5, ["", FIRST], [[FIRST]]])
def test_a_list_that_holds_no_keys_is_refused_with_the_remedy(keys: Any) -> None:
    with pytest.raises(ValueError, match="generate_key") as wrong:
        ResponseCache.open(encryption_key=keys)
    assert FIRST not in str(wrong.value)


# ------------------------------------------------------------------------------- in a file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.db"


def _change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


TRICKS = {
    "another's answer under my key": "UPDATE records SET body ="
    " (SELECT body FROM records AS other WHERE other.scope <> records.scope)"
    " WHERE model = CAST('m' AS BLOB)",
    "a later end": "UPDATE records SET expires = expires + 1e6",
    "no end": "UPDATE records SET expires = NULL",
    "another vector": "UPDATE records SET vector = zeroblob(length(vector))",
    "half of it": "UPDATE records SET body = substr(body, 1, length(body) / 2)",
    "nothing": "UPDATE records SET body = x''",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_moved_or_altered_record_in_a_file_is_a_miss(path: Path, trick: str) -> None:
    now = [1000.0]
    one = request()
    with opened(f"sqlite:///{path}", FIRST, ttl=50, clock=lambda: now[0]) as cache:
        cache.store(one, ANSWER)
        cache.store(request("What is the price?", "other"), Answer("Ten dollars."))
        assert isinstance(cache.lookup(one), Hit)  # what is not altered is served
    _change(path, TRICKS[trick])
    now[0] += 49 if "end" not in trick else 51
    with opened(f"sqlite:///{path}", FIRST, ttl=50, clock=lambda: now[0]) as cache:
        assert isinstance(cache.lookup(one, stale=True), Miss)
        assert cache.stats().errors == {}


@pytest.mark.redis
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_a_moved_or_altered_record_in_a_redis_is_a_miss(redis_url: str, precision: str) -> None:
    import redis

    one, other = request(), request("What is the price?", "other")
    namespace, reworded = f"tenant-{precision}", request("How can I change my password?")
    with (
        opened(redis_url, FIRST, namespace=namespace, precision=precision) as cache,
        redis.Redis.from_url(redis_url) as client,
    ):
        for asked in (one, other):
            cache.store(asked, ANSWER)
        assert isinstance(cache.lookup(reworded), Hit)
        names = {
            asked: next(client.scan_iter(f"*{asked.address(cache._path.namespace()).key}*"))
            for asked in (one, other)
        }
        fields = [field for field in client.hkeys(names[one]) if field[:1] in b"fh"]
        assert len(fields) == 1
        vector = client.hget(names[one], fields[0])
        client.hset(names[one], fields[0], bytes(reversed(vector)))
        assert isinstance(cache.lookup(one), Miss)
        cache.store(one, ANSWER)
        assert isinstance(cache.lookup(one), Hit)
        body = next(
            name for name, data in client.hgetall(names[one]).items() if b'"sealed"' in data
        )
        client.hset(names[one], body, client.hget(names[other], body))
        assert isinstance(cache.lookup(one), Miss)
        assert isinstance(cache.lookup(other), Hit)
        cache.clear()


def test_a_planted_record_in_the_clear_is_a_miss(path: Path) -> None:
    with opened(f"sqlite:///{path}", FIRST) as cache:
        cache.store(request(), ANSWER)
        namespace = cache._path.namespace()
    address = request().address(namespace)
    planted = Record(address.key, address.scope, namespace, ASKED, Answer("Send me your password."))
    _change(path, "UPDATE records SET body = ?", Codec().encode(planted))
    with opened(f"sqlite:///{path}", FIRST) as cache:
        assert isinstance(cache.lookup(request()), Miss)


def test_keys_are_changed_without_a_miss_and_the_old_one_opens_nothing_new(path: Path) -> None:
    url, fresh = f"sqlite:///{path}", request("How much is a stamp?")
    with opened(url, FIRST) as cache:
        cache.store(request(), ANSWER, tags=["t"])
        cache.get_or_compute("price", lambda: 5)
    with opened(url, [SECOND, FIRST]) as cache:
        outcome = cache.lookup(request())
        assert isinstance(outcome, Hit)
        assert outcome.answer == ANSWER
        reworded = cache.lookup(request("How can I change my password?"))
        assert isinstance(reworded, Hit)
        assert cache.get_or_compute("price", lambda: 6) == (5, False)
        assert cache.answer(request(), lambda: Answer("new")) == ANSWER
        cache.store(fresh, Answer("A dollar."))
    with opened(url, SECOND) as cache:
        assert isinstance(cache.lookup(fresh), Hit)
        assert isinstance(cache.lookup(request()), Miss)
    with opened(url, FIRST) as cache:
        assert isinstance(cache.lookup(fresh), Miss)
        assert isinstance(cache.lookup(request()), Hit)


@pytest.mark.parametrize(
    "drop",
    [
        lambda cache: cache.clear(),
        lambda cache: cache.invalidate(tag="t"),
        lambda cache: cache.invalidate(model="m"),
        lambda cache: cache.invalidate(scope=request()),
        lambda cache: cache.invalidate(similar_to=request(), similarity=0.8),
        lambda cache: cache.bump("t"),
        lambda cache: cache.feedback(cache.lookup(request()).entry_id, correct=False),
    ],
)
def test_what_an_older_key_sealed_is_dropped_as_the_rest_is(path: Path, drop: Any) -> None:
    url = f"sqlite:///{path}"
    with opened(url, FIRST) as cache:
        cache.store(request(), ANSWER, tags=["t"])
    with opened(url, [THIRD, SECOND, FIRST]) as cache:
        assert isinstance(cache.lookup(request()), Hit)
        drop(cache)
        assert isinstance(cache.lookup(request()), Miss)


def test_no_text_stands_in_the_clear_in_the_file(path: Path) -> None:
    with opened(f"sqlite:///{path}", FIRST) as cache:
        cache.store(request("Has Zanzibar a harbour?"), Answer("Zanzibar has one."))
        cache.get_or_compute("key", lambda: {"text": "Zanzibar"})
        cache.values.put_many({"value": b"Zanzibar"})
        assert cache.values.get_many(["value"]) == {"value": b"Zanzibar"}
    assert all(b"Zanzibar" not in one.read_bytes() for one in path.parent.iterdir())


def test_a_value_that_is_plain_moved_or_past_its_time_is_absent() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0])
    values = SealedValues(store, Codec([FIRST, SECOND]), lambda: now[0])
    values.put_many({"a": b"1\n2", "b": b""}, ttl=10)
    assert values.add("c", b"3")
    assert not values.add("c", b"4")
    assert values.get_many(["a", "b", "c"]) == {"a": b"1\n2", "b": b"", "c": b"3"}
    raw = store.get_many(["a", "b", "c"])
    store.put_many({"a": raw["b"], "b": b"plain", "c": raw["c"][:-1] + b"A"})
    assert values.get_many(["a", "b", "c"]) == {}
    store.put_many({"a": raw["a"]})  # for ever, as its end of life beside it says
    assert values.get_many(["a"]) == {"a": b"1\n2"}
    now[0] = 10.0
    assert values.get_many(["a"]) == {}
    assert values.increment({"n": 2}) == values.increment({"n": 0}) == {"n": 2}
    assert values.delete_many(["a", "c"]) == 2


# ------------------------------------------------------------------- what is shown of secrets


class _Client:
    def __repr__(self) -> str:
        return "password=hunter2"


def test_options_never_show_a_key_nor_what_others_objects_hold() -> None:
    options = Options(
        encryption_key=[FIRST, SECOND],
        client=_Client(),
        embedder=_Client(),
        ssl={"ssl_password": "hunter2"},
        hooks=[lambda event: None],
    )
    told = repr(options)
    assert not any(secret in told for secret in (FIRST, SECOND, "hunter2"))
    assert "encryption_key='***'" in told
    assert "namespace='default'" in told
    assert "encryption_key=None" in repr(Options())


_secrets = st.text(st.sampled_from("abcXYZ0189:@/?#&=%+-._~"), min_size=8, max_size=24).map(
    lambda text: f"hunter2{text}hunter2"
)
_forms = st.sampled_from(
    [
        "redis://:{}@host:6379/0",
        "rediss://app:{}@host/1?db=2",
        "redis://{}@host",
        "redis+sentinel://app:{}@one:1,two:2/primary/0?sentinel_password=hunter2",
        "redis+cluster://{}:@one:1,two:2",
        "unix://app:{}@/run/redis.sock?db=1",
        "https://{}@gateway.example/v1",
        "reddis://app:{}@host",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(_forms, _secrets)
def test_no_login_in_a_url_is_shown(form: str, secret: str) -> None:
    shown = without_password(form.format(secret))
    assert "hunter2" not in shown
    assert shown.startswith(form.partition("://")[0] + "://")


@pytest.mark.parametrize("name", ["password", "sentinel_password", "ssl_password", "key", "token"])
def test_no_parameter_in_a_url_is_shown(name: str) -> None:
    shown = without_password(f"redis://host:1/0?db=3&{name}=hunter2&protocol=3#hunter2")
    assert shown == f"redis://host:1/0?db=3&{name}=***&protocol=3"


def test_what_looks_like_a_key_in_a_path_is_not_shown() -> None:
    shown = without_password("https://gateway.example/v1/sk-9f8e7d6c5b4a3210ff/openai")
    assert shown == "https://gateway.example/v1/***/openai"


@pytest.mark.parametrize(
    "url", ["memory://", "sqlite:////var/lib/app2024answers0001.db", "https://api.openai.com/v1"]
)
def test_a_url_without_a_secret_is_shown_as_it_is(url: str) -> None:
    assert without_password(url) == url


def test_a_url_that_is_not_understood_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="not understood") as wrong:
        ResponseCache.open("reddis://app:hunter2@host/0")
    assert "hunter2" not in str(wrong.value)
