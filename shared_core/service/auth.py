"""Check client keys: who may come in, as what, and whose answers they see. Only hashes are kept.

A key holds 256 random bits, so nobody finds it by trying: one sha256 hides it as well as a slow
hash would, which is for passwords that people choose, and which every request would have to pay.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

Role = Literal["use", "admin"]

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Names of callers and of namespaces: no ":" in them, which stands between parts of a name."""

_KEY_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """What the sender of a request may do.

    ``namespace`` is the tenant that it belongs to. ``upstream_key``: the upstream is asked with the
    server's own credential, or with none if it has none, and none of the request's is passed on;
    else the request's own credential headers are.
    """

    role: Role
    namespace: str
    upstream_key: bool


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One client key as the configuration has it: ``NAME:ROLE:NAMESPACE:SHA256``."""

    name: str
    role: Role
    namespace: str
    digest: str

    @classmethod
    def parse(cls, line: str) -> KeyEntry:
        """Read a line of the configuration. Raises ValueError that says what is wrong with it."""
        parts = line.strip().split(":")
        if len(parts) != 4:  # noqa: PLR2004 - the four fields
            raise ValueError(
                "a key must read NAME:ROLE:NAMESPACE:SHA256, as `tiered-cache key NAME` prints it"
            )
        name, role, namespace, digest = parts
        for what, text in (("name", name), ("namespace", namespace)):
            if not NAME.fullmatch(text):
                raise ValueError(
                    f"the {what} of a key must be 1 to 64 of A-Z a-z 0-9 _ . -, not {text!r}"
                )
        if role not in get_args(Role):
            raise ValueError(f"the role of key {name!r} must be use or admin, not {role!r}")
        if not _DIGEST.fullmatch(digest):
            raise ValueError(
                f"the hash of key {name!r} must be 64 hex digits, as `tiered-cache key` prints it; "
                "never put a key itself into the configuration"
            )
        return cls(name, "admin" if role == "admin" else "use", namespace, digest)

    def __str__(self) -> str:
        return f"{self.name}:{self.role}:{self.namespace}:{self.digest}"


def new_key(name: str, role: str = "use", namespace: str = "default") -> tuple[str, KeyEntry]:
    """Make a key, and the entry by which a server knows it. Raises ValueError as ``parse`` does."""
    key = f"tc-{secrets.token_urlsafe(_KEY_BYTES)}"
    return key, KeyEntry.parse(f"{name}:{role}:{namespace}:{_digest(key)}")


class Keyring:
    """All keys of a server; empty: nobody needs one. Raises ValueError for a key given twice."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._entries = tuple(KeyEntry.parse(line) for line in lines)
        digests = [entry.digest for entry in self._entries]
        for entry in self._entries:
            if digests.count(entry.digest) > 1:
                raise ValueError(f"the key of {entry.name!r} is there twice: remove one line")

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def entries(self) -> tuple[KeyEntry, ...]:
        """Return what is known of each key."""
        return self._entries

    def find(self, key: str) -> KeyEntry | None:
        """Return the entry of a key, None for an unknown one.

        Every entry is compared, each in constant time, so that the time taken tells neither
        whether a key is known nor which it is.
        """
        digest, place = _digest(key), 0
        for number, entry in enumerate(self._entries, 1):
            place += number * hmac.compare_digest(entry.digest, digest)  # no branch: no time of it
        return self._entries[place - 1] if place else None


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
