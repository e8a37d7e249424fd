"""A record as the fields of a hash.

b  the encoded record                     i  what selectors ask, as JSON
e  the epochs it was stored under
f… or h…  the vector, float32 or float16  s…  the scope, for the index  only with a vector
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from shared_core.codec import Codec, UndecodableError
from shared_core.record import Answer, Record
from shared_core.stores.redis_index import Precision, Space
from shared_core.stores.redis_names import encoded, key_of

if TYPE_CHECKING:
    from shared_core.record import Vector

BODY, ABOUT, STAMPS = b"b", b"i", b"e"
SCOPE_DIGITS = 32
DTYPES: Mapping[Precision, str] = {"float32": "<f4", "float16": "<f2"}

_VECTOR = re.compile(rb"[fh][0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def fields_of(record: Record, codec: Codec) -> list[Any]:
    """Return names and values of the fields that every record has."""
    about = (record.namespace, record.model, record.scope, record.created, record.expires)
    return [BODY, codec.encode(record), ABOUT, json.dumps([*about, record.tags])]


def indexed_fields(record: Record, vector: Vector, space: Space) -> list[Any]:
    """Return names and values of the fields that the index reads; none for what is no direction.

    The distance of such a vector to anything would be no number.
    """
    import numpy as np

    if not (np.isfinite(vector).all() and vector.any()):
        return []
    return [
        *(space.vector_field, vector_bytes(vector, space.precision)),
        *(space.scope_field, scope_text(record.scope)),
    ]


def vector_bytes(vector: Vector, precision: Precision) -> bytes:
    """Return a vector as the index compares it."""
    import numpy as np

    return np.asarray(vector, DTYPES[precision]).tobytes()


def scope_text(scope: str) -> str:
    """Return a scope as the index holds it: 128 bits in hex digits, which need no escapes."""
    digest = scope if _DIGEST.fullmatch(scope) else sha256(encoded(scope)).hexdigest()
    return digest[-SCOPE_DIGITS:]  # the first ones are the namespace's


def record_of(fields: Mapping[bytes, bytes], codec: Codec) -> Record | None:
    """Return the record of these fields, with its vector if that is among them, None if odd."""
    try:
        for name, data in fields.items():
            if _VECTOR.fullmatch(name):
                import numpy as np

                kind = DTYPES["float32" if name.startswith(b"f") else "float16"]
                vector = np.frombuffer(data, kind).astype(np.float32)
                return codec.decode(fields[BODY], vector)
        return codec.decode(fields[BODY])
    except (UndecodableError, ValueError, KeyError):
        return None


def outline(name: bytes, about: bytes | None) -> Record | None:
    """Return what selectors ask of a record: all but its question and answer. None if odd."""
    try:
        namespace, model, scope, created, expires, tags = json.loads(about or b"")
    except (ValueError, TypeError):
        return None
    return Record(
        *(key_of(name), scope, namespace, None, Answer("")),
        model=model,
        tags=tuple(tags),
        created=created,
        expires=expires,
    )
