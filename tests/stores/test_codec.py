"""Records as bytes and back; anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from shared_core.record import Answer, Record, copy_for_reader
from shared_core.stores.codec import LONGEST_DECODED, Codec, UndecodableError

any_text = st.text(st.characters(), max_size=20)
answers = st.builds(
    Answer,
    text=any_text,
    payload=st.none() | any_text,
    format=st.sampled_from(["text", "langchain/1"]),
    model=st.none() | any_text,
    usage=st.none() | st.dictionaries(st.sampled_from(["input_tokens", "x"]), st.integers(0)),
    finish_reason=st.none() | any_text,
    exact_only=st.booleans(),
)
records = st.builds(
    Record,
    key=any_text,
    scope=any_text,
    namespace=any_text,
    question=st.none() | any_text,
    answer=answers,
    model=any_text,
    tags=st.lists(any_text, max_size=3).map(tuple),
    created=st.floats(0, 1e10),
    expires=st.none() | st.floats(0, 1e10),
    space=any_text,
    group=any_text,
)
FULL = Record(
    *("k", "s", "n", "q?", Answer("a", "{}", "langchain/1", "m", {"x": 1}, "stop", True)),
    *("m", ("tag",), 1.0, 2.0, "space", "group", np.ones(2, np.float32)),
)
"""No field of it is as it is by default."""
RECORD = Record("k", "s", "n", "q?", Answer("a"))
KEY = Fernet.generate_key()


def test_a_lent_record_is_equal_in_every_field_and_shares_no_counts() -> None:
    twin = copy_for_reader(FULL)
    for name in Record.__slots__:
        mine, theirs = getattr(twin, name), getattr(FULL, name)
        assert mine is theirs or mine == theirs, name
    assert twin.vector is FULL.vector
    assert twin.answer.usage is not FULL.answer.usage


def test_what_one_reader_changes_reaches_no_other() -> None:
    codec = Codec()
    data = codec.encode(replace(RECORD, answer=Answer("a", usage={"input_tokens": 1})))
    for _ in range(3):
        usage: Any = codec.decode(data).answer.usage
        assert usage == {"input_tokens": 1}
        usage.clear()


def test_a_record_of_unusual_length_comes_back_equal() -> None:
    long = replace(RECORD, answer=Answer("a" * LONGEST_DECODED))
    assert Codec().decode(Codec().encode(long)) == long


@given(records, st.sampled_from([Codec(), Codec(KEY)]))
def test_a_record_comes_back_equal(record: Record, codec: Codec) -> None:
    assert codec.decode(codec.encode(record)) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"v": 2}',
        b'{"v": 1}',
        json.dumps({**json.loads(Codec().encode(RECORD)), "more": 1}).encode(),
        json.dumps({**json.loads(Codec().encode(RECORD)), "answer": "text"}).encode(),
        b"[" * 100_000,
        Codec().encode(RECORD)[:-1],
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        Codec().decode(data)


def test_an_encrypted_record_is_unreadable_without_its_key() -> None:
    sealed = Codec(KEY).encode(replace(RECORD, question="secret", answer=Answer("secret")))
    assert b"secret" not in sealed
    for codec in (Codec(), Codec(Fernet.generate_key())):
        with pytest.raises(UndecodableError, match="encrypted"):
            codec.decode(sealed)


@pytest.mark.parametrize("key", ["", "short", b"x" * 44, 5])
def test_a_key_that_is_none_is_refused_with_the_remedy(key: object) -> None:
    with pytest.raises(ValueError, match="generate_key"):
        Codec(key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("question", 5),
        ("created", "x"),
        ("created", None),
        ("created", float("nan")),
        pytest.param("created", 10**400, id="created-huge"),
        ("expires", "soon"),
        ("tags", "abc"),
        ("tags", [1]),
        ("namespace", None),
        ("answer", {"text": 5}),
        ("answer", {"text": None}),
        ("answer", {"text": "a", "usage": [1]}),
        ("answer", {"text": "a", "usage": {"input_tokens": "3"}}),
        ("answer", {"text": "a", "exact_only": "no"}),
        ("answer", {"text": "a", "finish_reason": 1}),
    ],
)
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    body = {**json.loads(Codec().encode(RECORD)), name: value}
    with pytest.raises(UndecodableError):
        Codec().decode(json.dumps(body).encode())


def test_counts_that_json_does_not_have_lose_no_answer() -> None:
    usage: Any = {"input_tokens": 3, "price": Decimal("0.1"), "odd": float("inf")}
    record = replace(RECORD, answer=Answer("a", usage=usage))
    assert Codec().decode(Codec().encode(record)).answer == Answer("a", usage={"input_tokens": 3})


def test_a_text_that_its_payload_repeats_is_kept_once() -> None:
    text = 'Öffne "Konto", dann\nVerlängern. ' * 20
    payload = json.dumps({"content": text, "note": "x"})
    record = replace(RECORD, answer=Answer(text, payload))
    data = Codec().encode(record)
    assert len(data) < 1.3 * len(json.dumps(text))
    assert Codec().decode(data) == record


@pytest.mark.parametrize("payload", ['{"a":"\0"}', '"\\u0000"', '""', '"a" "a"', "a"])
@pytest.mark.parametrize("text", ["", "a", "\0", '"a"'])
def test_a_payload_comes_back_whatever_it_holds(text: str, payload: str) -> None:
    record = replace(RECORD, answer=Answer(text, payload))
    assert Codec().decode(Codec().encode(record)) == record
