"""Records as bytes: versioned JSON, its question and answer encrypted on demand. Never pickle.

The vector is not part of it: stores keep it beside, as float32 bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import lru_cache
from hashlib import sha256
from types import NoneType
from typing import TYPE_CHECKING, Any

from shared_core.record import Answer, Record, copy_for_reader

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


VERSION = 1

_HOLE = "\0"
"""Stands for the answer's text inside of its payload: no JSON holds this character itself."""

_UNSAID = {field.name: field.default for field in fields(Answer)}
"""What an answer is where its bytes do not say; its model is the record's."""

MAX_DECODED, LONGEST_DECODED = 512, 16_000
"""Newest records read that are kept decoded, and the bytes of the longest."""


class UndecodableError(ValueError):
    """Bytes that are no record of this version, or are encrypted with another key."""


class Codec:
    """Turn records into bytes and back.

    ``encryption_key`` is a Fernet key (``cryptography.fernet.Fernet.generate_key()``): question and
    answer are then unreadable at rest; keys, digests, tags and the model's name stay in the clear.
    ``seal`` is a name for the key, "" without one: caches of other seals must not meet.

    Raises ValueError if the key is not a Fernet key, ImportError if ``cryptography`` is missing.
    """

    def __init__(self, encryption_key: str | bytes | None = None) -> None:
        self._fernet: Fernet | None = None
        self.key_fingerprint = ""
        if encryption_key is not None:
            try:
                from cryptography.fernet import Fernet
            except ImportError:
                raise ImportError(
                    "encryption_key needs cryptography: pip install 'tiered-llm-cache[encryption]'"
                ) from None
            try:
                self._fernet = Fernet(encryption_key)
            except (ValueError, TypeError):
                raise ValueError(
                    "encryption_key is not a Fernet key; make one with "
                    "cryptography.fernet.Fernet.generate_key()"
                ) from None
            key = encryption_key.encode() if isinstance(encryption_key, str) else encryption_key
            self.key_fingerprint = sha256(b"tiered-cache seal\n" + key).hexdigest()[:16]
        self._decode_once = lru_cache(MAX_DECODED)(
            self._decode
        )  # what is asked for often is read often

    def encode(self, record: Record) -> bytes:
        """Return the record as bytes, without its vector."""
        secret = {"question": record.question, "answer": _answer(record)}
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
        if self._fernet is None:
            body.update(secret)
        else:
            body["sealed"] = self._fernet.encrypt(json.dumps(secret).encode()).decode()
        return json.dumps(body, separators=(",", ":")).encode()

    def decode(self, data: bytes, vector: Any = None) -> Record:
        """Return the record; raises UndecodableError for anything that ``encode`` did not write."""
        is_kept = len(data) <= LONGEST_DECODED
        record = copy_for_reader(self._decode_once(data)) if is_kept else self._decode(data)
        return record if vector is None else replace(record, vector=vector)

    def _decode(self, data: bytes) -> Record:
        try:
            body = json.loads(str(data, "utf-8"))  # bytes are first searched for their encoding
            if body.pop("v") != VERSION:
                raise UndecodableError("a record of another version")
            if "sealed" in body:
                body.update(json.loads(self._unseal(body.pop("sealed"))))
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
        return record

    def _unseal(self, token: str) -> bytes:
        if self._fernet is None:
            raise UndecodableError("the record is encrypted and no encryption_key is given")
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            raise UndecodableError("the record is encrypted with another key") from None


def _answer(record: Record) -> dict[str, Any]:
    """Return what of the answer goes without saying neither by default nor by the record."""
    answer = record.answer
    usage = answer.usage
    if usage is not None:  # an answer is not lost for a count that JSON does not have
        counts = usage.items() if isinstance(usage, Mapping) else ()
        answer = replace(answer, usage={str(name): n for name, n in counts if _is_number(n)})
    unsaid = {**_UNSAID, "model": record.model}
    told = {name: value for name, value in asdict(answer).items() if value != unsaid[name]}
    if answer.payload is not None and _HOLE not in answer.payload:
        told["frame"] = told.pop("payload").replace(json.dumps(answer.text), _HOLE)
    return told


def _answer_of(told: dict[str, Any], model: str) -> Answer:
    if "frame" in told:
        told["payload"] = told.pop("frame").replace(_HOLE, json.dumps(told["text"]))
    return Answer(**{"model": model, **told})


def _is_whole(record: Record) -> bool:
    """Say whether every field is of its type: what is read may be anybody's."""
    answer = record.answer
    texts = (
        *(record.key, record.scope, record.namespace, record.model, record.space),
        *(record.group, answer.text, answer.format, *record.tags),
    )
    or_none = (record.question, answer.payload, answer.model, answer.finish_reason)
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
