"""Write records as versioned JSON, question and answer encrypted on demand; never pickle.

The vector is not part of it: stores keep it beside, as float32 bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import lru_cache
from hashlib import sha256
from types import NoneType
from typing import TYPE_CHECKING, Any

from shared_core.record import Answer, Record, copy_for_reader

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

    from shared_core.record import Vector
    from shared_core.stores.api import KeyValue


VERSION = 1

_HOLE = "\0"
"""Stands for the answer's text inside of its payload: no JSON holds this character itself."""

_UNSAID = {field.name: field.default for field in fields(Answer)}
"""What an answer is where its bytes do not say; its model is the record's."""

MAX_DECODED, LONGEST_DECODED = 512, 16_000
"""Newest records read that are kept decoded, and the bytes of the longest."""


class UndecodableError(ValueError):
    """Bytes that are no record of this version, or are encrypted with another key.

    A store takes it for a miss:

        try:
            record = codec.decode(data)
        except UndecodableError:
            record = None  # a miss
    """


class Codec:
    """Turn records into bytes and back.

    ``encryption_key`` is a Fernet key (``cryptography.fernet.Fernet.generate_key()``), or several:
    the first seals, all of them open. A sealed record is one token that holds every field, so that
    what a store keeps beside it (key, scope, times) is compared with what was sealed; its vector is
    bound to it by a digest. With a key, a record that is not sealed is refused.

    ``key_fingerprints`` names the keys in their order, and is empty without one: caches of other
    keys must not meet.

    Raises ValueError if a key is not a Fernet key, ImportError if ``cryptography`` is missing.
    """

    def __init__(self, encryption_key: str | bytes | Sequence[str | bytes] | None = None) -> None:
        self._keys: MultiFernet | None = None
        self.key_fingerprints: tuple[str, ...] = ()
        if encryption_key is not None:
            if isinstance(encryption_key, (str, bytes)):
                encryption_key = [encryption_key]
            self._keys, self.key_fingerprints = _opened(encryption_key)
        # What is asked for often is read often.
        self._decode_once = lru_cache(MAX_DECODED)(self._decode)

    def encode(self, record: Record) -> bytes:
        """Return the record as bytes, without its vector."""
        body: dict[str, Any] = {
            "v": VERSION,
            "key": record.key,
            "scope": record.scope,
            "namespace": record.namespace,
            "model": record.model,
            "created": record.created,
            "expires": record.expires,
            "space": record.space,
        }
        if record.group:
            body["group"] = record.group
        if record.tags:
            body["tags"] = record.tags
        body["question"] = record.question
        body["answer"] = _answer(record)
        if self._keys is None:
            return _json(body)
        if record.vector is not None:
            body["vector"] = _digest(record.vector)
        return _json({"v": VERSION, "sealed": self._keys.encrypt(_json(body)).decode()})

    def decode(self, data: bytes, vector: Any = None) -> Record:
        """Return the record; raises UndecodableError for anything that ``encode`` did not write."""
        is_kept = len(data) <= LONGEST_DECODED
        record, digest = self._decode_once(data) if is_kept else self._decode(data)
        record = copy_for_reader(record) if is_kept else record
        if vector is None:
            return record
        if self._keys is not None and digest != _digest(vector):
            raise UndecodableError("the vector is not the one that was sealed")
        return replace(record, vector=vector)

    def _decode(self, data: bytes) -> tuple[Record, str | None]:
        """Return the record and the digest of its vector, None where it has none."""
        try:
            body = json.loads(str(data, "utf-8"))  # bytes are first searched for their encoding
            if self._keys is not None or "sealed" in body:
                body = json.loads(self._decrypt(body["sealed"]))
            if body.pop("v") != VERSION:
                raise UndecodableError("a record of another version")
            digest = body.pop("vector", None)
            body["answer"] = _answer_of(body["answer"], body["model"])
            if not isinstance(tags := body.pop("tags", []), list):
                raise UndecodableError("tags that are no list")
            body["tags"] = tuple(tags)
            record = Record(**body)
            if not _is_whole(record):
                raise UndecodableError("a field of another type")
        except UndecodableError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UndecodableError(f"not a record: {type(error).__name__}") from None
        return record, digest

    def encrypt(self, data: bytes) -> bytes:
        """Return bytes that only this codec's keys open; without a key, the same."""
        return data if self._keys is None else self._keys.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        """Return what was sealed. Raises UndecodableError for what no key of it sealed."""
        return data if self._keys is None else self._decrypt(data)

    def _decrypt(self, token: str | bytes) -> bytes:
        if self._keys is None:
            raise UndecodableError("the record is encrypted and no encryption_key is given")
        from cryptography.fernet import InvalidToken

        try:
            return self._keys.decrypt(token)
        except InvalidToken:
            raise UndecodableError("the record is encrypted with another key, or altered") from None


class SealedValues:
    """Small values of a store, each sealed together with its key and its end of life.

    What was not sealed so, or was moved or altered, is as absent. Keys stay in the clear, and so do
    the numbers of ``increment``: read them with an ``increment`` of 0.
    """

    def __init__(self, values: KeyValue, codec: Codec, clock: Callable[[], float]) -> None:
        self._values, self._codec, self._clock = values, codec, clock
        self.delete_many, self.scan = values.delete_many, values.scan
        self.increment = values.increment

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values that are there. Raises StoreError."""
        found: dict[str, bytes] = {}
        for key, data in self._values.get_many(keys).items():
            with suppress(UndecodableError, ValueError):
                about, _, value = self._codec.decrypt(data).partition(b"\n")
                name, expires = json.loads(about)
                if name == key and (expires is None or expires > self._clock()):
                    found[key] = value
        return found

    def put_many(self, items: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Store all or none. Raises StoreError."""
        sealed = {key: self._sealed(key, value, ttl) for key, value in items.items()}
        self._values.put_many(sealed, ttl)

    def add(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Store if absent; atomic; return whether it was stored. Raises StoreError."""
        return self._values.add(key, self._sealed(key, value, ttl), ttl)

    def _sealed(self, key: str, value: bytes, ttl: float | None) -> bytes:
        expires = None if ttl is None else self._clock() + ttl
        return self._codec.encrypt(json.dumps([key, expires]).encode() + b"\n" + value)


def _opened(keys: Sequence[str | bytes]) -> tuple[MultiFernet, tuple[str, ...]]:
    """Return the keys as one that seals and opens, and their fingerprints."""
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise ImportError(
            "encryption_key needs cryptography: pip install 'tiered-llm-cache[encryption]'"
        ) from None
    try:
        opened = MultiFernet([Fernet(key) for key in keys])
        spelled = [key.encode() if isinstance(key, str) else key for key in keys]
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "encryption_key is not a Fernet key, nor a list of them; make one with "
            "cryptography.fernet.Fernet.generate_key()"
        ) from None
    named = [sha256(b"tiered-cache seal\n" + key).hexdigest()[:16] for key in spelled]
    return opened, tuple(dict.fromkeys(named))


def _digest(vector: Vector) -> str:
    """Return a digest of a vector that is the same in both precisions in which stores keep it."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        return sha256(np.asarray(vector, "<f2").tobytes()).hexdigest()[:32]


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _answer(record: Record) -> dict[str, Any]:
    """Return what of the answer goes without saying neither by default nor by the record."""
    answer = record.answer
    usage = answer.usage
    if usage is not None:  # an answer is not lost for a count that JSON does not have
        counts = usage.items() if isinstance(usage, Mapping) else ()
        answer = replace(answer, usage={str(name): n for name, n in counts if _is_number(n)})
    unsaid = {**_UNSAID, "model": record.model}
    fields = {name: value for name, value in asdict(answer).items() if value != unsaid[name]}
    if answer.payload is not None and _HOLE not in answer.payload:
        fields["frame"] = fields.pop("payload").replace(json.dumps(answer.text), _HOLE)
    return fields


def _answer_of(fields: dict[str, Any], model: str) -> Answer:
    if "frame" in fields:
        fields["payload"] = fields.pop("frame").replace(_HOLE, json.dumps(fields["text"]))
    return Answer(**{"model": model, **fields})


def _is_whole(record: Record) -> bool:
    """Say whether every field is of its type: what is read may be anybody's."""
    answer = record.answer
    texts = (
        *(record.key, record.scope, record.namespace, record.model, record.space),
        *(record.group, answer.text, answer.format, *record.tags),
    )
    or_none = (*(record.question, answer.payload, answer.model, answer.finish_reason, answer.flaw),)
    return (
        {*map(type, texts)} == {str}
        and {*map(type, or_none)} <= _TEXT_OR_NONE
        and _is_number(record.created)
        and (record.expires is None or _is_number(record.expires))
        and isinstance(answer.exact_only, bool)
        and (answer.usage is None or _counts(answer.usage))
    )


_TEXT_OR_NONE = {str, NoneType}


def _counts(usage: object) -> bool:
    return isinstance(usage, dict) and all(map(_is_number, usage.values()))


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
