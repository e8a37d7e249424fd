"""Name things in Redis, and say on which shard of a cluster they lie.

    tlc:{0}:r1:ab12:KEY       a record, a hash       tlc:{0}:i1:SIGNATURE   an index of records
    tlc:{0}:v:KEY             a value                tlc:{0}:l:ID           labels, a list
    tlc:{0}:bumps             a new number           tlc:{0}:n:ID           number of the last label
                              with every bump

On one server, and with its replicas, the hash tag is the same for all, so that one index serves
every namespace. On a cluster it is the first digits of the namespace's digest: all that a namespace
needs together lies on one shard, and namespaces spread over the shards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from shared_core.request import HOME_DIGITS, namespace_digest

NOWHERE = "_" * HOME_DIGITS
"""The home of keys that open with no namespace's digest; the cache itself makes none."""

_DIGEST = re.compile(rf"(?:value:)?([0-9a-f]{{{HOME_DIGITS}}})[0-9a-f]{{12}}")
_EPOCH = re.compile(r"epoch:(\d+):")
_RECORD = re.compile(rb"tlc:\{[0-9a-f_]+\}:r1:")
_SPECIAL = re.compile(rb"([*?\[\]^\\-])")


@dataclass(frozen=True, slots=True)
class Names:
    """Names for one server (``sharded`` False) or for a cluster."""

    sharded: bool

    def tag_of(self, digest: str) -> str:
        """Return the hash tag under which a record's key or scope lies."""
        return home_of(digest) if self.sharded else "0"

    def tags_of_namespace(self, namespace: str) -> tuple[str, ...]:
        """Return every hash tag under which records of a namespace lie."""
        return (namespace_home(namespace), NOWHERE) if self.sharded else ("0",)

    def value_tag(self, key: str) -> str:
        """Return the hash tag of a value or of labels.

        Epochs lie with their namespace's records. What shares its first two parts lies together:
        that is how one increment changes many counters.
        """
        if not self.sharded:
            return "0"
        epoch = _EPOCH.match(key)
        if epoch is not None:
            namespace = key[epoch.end() : epoch.end() + int(epoch[1])]
            return namespace_home(namespace)
        return namespace_digest(":".join(key.split(":", 2)[:2]))[:HOME_DIGITS]

    def record(self, key: str) -> bytes:
        """Name the hash of a record."""
        return encoded(f"{self.records(self.tag_of(key))}{home_of(key)}:{key}")

    def value(self, key: str) -> bytes:
        """Name a value."""
        return encoded(f"tlc:{{{self.value_tag(key)}}}:v:{key}")

    def label_keys(self, id: str) -> list[bytes]:
        """Name the list of labels and the number of the last one."""
        tag = self.value_tag(id)
        return [encoded(f"tlc:{{{tag}}}:{kind}:{id}") for kind in "ln"]

    @staticmethod
    def records(tag: str) -> str:
        """Return the prefix of all records under a hash tag."""
        return f"tlc:{{{tag}}}:r1:"

    @staticmethod
    def bumps(tag: str) -> bytes:
        """Name what changes with every bump under a hash tag."""
        return f"tlc:{{{tag}}}:bumps".encode()

    @staticmethod
    def index(tag: str, signature: str) -> str:
        """Name an index of the records under a hash tag."""
        return f"tlc:{{{tag}}}:i1:{signature}"

    def records_pattern(self, tag: str, namespace: str, key_prefix: str) -> bytes:
        """Return the glob that every record of a namespace matches, and few others do."""
        home = "".join(f"[{a}{b}]" for a, b in zip(namespace_home(namespace), NOWHERE, strict=True))
        return encoded(f"{self.records(tag)}{home}:") + literally(key_prefix) + b"*"

    def values_pattern(self, prefix: str) -> bytes:
        """Return the glob that the names of all values with this prefix match."""
        return encoded(f"tlc:{{{'*' if self.sharded else '0'}}}:v:") + literally(prefix) + b"*"


def is_record(name: bytes) -> bool:
    """Say whether a key of the server is the name of a record."""
    return _RECORD.match(name) is not None


def home_of(digest: str) -> str:
    """Return the digits that a key or a scope shares with its namespace."""
    found = _DIGEST.match(digest)
    return found[1] if found else NOWHERE


def namespace_home(namespace: str) -> str:
    """Return the digits that open all keys and scopes of a namespace."""
    return namespace_digest(namespace)[:HOME_DIGITS]


def key_of(name: bytes) -> str:
    """Return the key of the record or value of this name."""
    _, _, kind, rest = decoded(name).split(":", 3)
    return rest.split(":", 1)[1] if kind.startswith("r") else rest


def encoded(decoded: str) -> bytes:
    """Return text as Redis holds it: UTF-8 that allows lone surrogates."""
    return decoded.encode("utf-8", "surrogatepass")


def decoded(data: bytes) -> str:
    """Return the text of ``data``."""
    return data.decode("utf-8", "surrogatepass")


def literally(prefix: str) -> bytes:
    """Return a glob that matches this text alone."""
    return _SPECIAL.sub(rb"\\\1", encoded(prefix))


def signature(*parts: object) -> str:
    """Return 12 hex digits that tell these parts from any others."""
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:12]
