"""Who is served at all, as what, and which requests may reach the upstream.

request --Host ours? no other page's?--> whose key?--> routes --endpoint on the list?--> upstream

Browsers send requests for any page that a person visits, so a server on a person's machine, or
behind a firewall, must tell its own page's requests from all others.

Of client keys only hashes are kept. A key holds 256 random bits, so nobody finds it by trying: one
sha256 hides it as well as a slow hash would, which is for passwords that people choose, and which
every request would have to pay.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, get_args
from urllib.parse import unquote

from shared_core.service.errors import APIError

HeaderPairs = Sequence[tuple[bytes, bytes]]

TOKEN_HEADER = "x-tiered-cache-token"  # noqa: S105 - the name of a header
TOKEN_VARIABLE = "TIERED_CACHE_SERVER_TOKEN"  # noqa: S105 - the name of a variable
"""The variable by which all workers accept the token that one of them put into the page."""

CREDENTIALS = ("authorization", "api-key", "x-api-key")
"""Headers by which an upstream knows who pays."""

ANY_HOST = "*"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_REQUEST = frozenset(
    {b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url",
     b"x-original-uri", b"x-rewrite-url"}
)  # fmt: skip
"""Headers by which some servers take a request for another one."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[a-zA-Z0-9._-]{1,253})(:[0-9]{1,5})?")
_OF_HERE = "localhost"


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Say whether an address or name is that of this machine alone."""
    if host.lower() == _OF_HERE:
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@lru_cache(1024)
def _name_of(host: str) -> str:
    """Return the name or address of a Host header, "" for one that makes no sense."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found[1].strip("[]").lower()


def names_this_machine(host: str) -> bool:
    """Say whether a Host header has a loopback address, or localhost, whatever its port."""
    return is_loopback(_name_of(host))


def new_token() -> str:
    """Return a token for pages that nobody can guess."""
    return secrets.token_urlsafe(24)


class Access:
    """Decides for each request, before any route, whether it is served.

    - Its ``Host`` must be one of ours: else a page could point a name of its own to this server
      (DNS rebinding), and would then be of the same origin. Names are those of this machine and of
      the setting ``hosts``; an address cannot be pointed elsewhere, so a public server takes any.
    - A browser that says that the request is of another site is refused, whether it names an
      ``Origin`` or not, unless ``cors_origins`` names it.
    - What changes anything, asked by a page, needs the token that only our page was given.
    """

    def __init__(
        self, token: str, *, hosts: Iterable[str], origins: Iterable[str], any_address: bool
    ) -> None:
        self._token, self._any_address = token, any_address
        self._names = frozenset(name.lower() for name in hosts)
        self._origins = frozenset(origins)

    def check(self, method: str, path: str, headers: HeaderPairs) -> None:
        """Let a request through. Raises APIError 400 or 403 for one that is not served."""
        hosts: list[str] = []
        origins: list[str] = []
        sites: list[bytes] = []
        framing = 0
        for name, value in headers:
            if name == b"host":
                hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
            elif name == b"sec-fetch-site":
                sites.append(value)
            elif name in (b"content-length", b"transfer-encoding"):
                framing += 1
            elif name in _OTHER_REQUEST:
                why = f"{name.decode()}: a header must not make another request of this one"
                raise APIError(400, why, code="bad_header")
        if framing > 1:
            raise APIError(400, "a body must have one length", code="bad_framing")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            why = "this Host is not one of the server's: name it in the setting hosts"
            raise APIError(403, why, code="bad_host")
        if (origins or sites) and not (origins and self._origins.issuperset(origins)):
            # of a page that is not named: CORS says what those that are may read
            if not _is_of_our_page(hosts[0], origins, sites):
                if method != "GET" or path != "/" or not _is_visit(headers):
                    why = "pages of other origins may not ask: name them in cors_origins"
                    raise APIError(403, why, code="bad_origin")
            elif _is_action(method, path) and not self._has_token(headers):
                why = f"what a page changes needs its token in {TOKEN_HEADER}: load it anew"
                raise APIError(403, why, code="bad_token")

    def is_named(self, origin: str | None) -> bool:
        """Say whether pages of an origin may use the server."""
        return origin in self._origins

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        if not name:
            return False
        if is_loopback(name) or name in self._names or ANY_HOST in self._names:
            return True
        return self._any_address and (_address(name) is not None or name == _own_name())

    def _has_token(self, headers: HeaderPairs) -> bool:
        given = [value for name, value in headers if name == TOKEN_HEADER.encode()]
        return len(given) == 1 and hmac.compare_digest(given[0], self._token.encode())


def _is_of_our_page(host: str, origins: Iterable[str], sites: Iterable[bytes]) -> bool:
    return all(one.partition("://")[2] == host for one in origins) and all(
        one in (b"same-origin", b"none") for one in sites
    )


def _is_action(method: str, path: str) -> bool:
    return method not in _SAFE and path.startswith("/v1/cache") and path != "/v1/cache/get"


@lru_cache(1)
def _own_name() -> str:
    return socket.gethostname().lower()


def _is_visit(headers: HeaderPairs) -> bool:
    """Say whether a person follows a link to the page, which holds no data itself."""
    by_name = dict(headers)
    return (
        by_name.get(b"sec-fetch-mode") == b"navigate"
        and by_name.get(b"sec-fetch-dest") == b"document"
    )


# What of the upstream can be reached.


ENDPOINTS = (
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/embeddings",
    "POST /v1/responses",
    "POST /v1/responses/input_tokens",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "GET /v1/models",
    "GET /v1/models/*",
)
"""What every caller may ask of the upstream, with the server's credential or their own."""

STORED = (
    "assistants", "batches", "chat/completions", "containers", "conversations", "evals", "files",
    "fine_tuning", "messages/batches", "responses", "skills", "threads", "uploads", "vector_stores",
)  # fmt: skip
"""Where upstreams keep objects of an account: nobody is told whose they are but the credential."""

_NAMES_STORED = ("previous_response_id", "conversation")
_IDS = frozenset({"file_id", "file_ids", "vector_store_ids", "skill_id"})
_SAYS_WHENCE = ("_citation", "_location", "_output", "file_path")
"""How the kinds of objects end that say where an earlier answer had something from."""

_NAMES_NOTHING = frozenset({"metadata", "parameters", "input_schema", "schema", "input_examples"})
"""Fields whose content is the caller's own, and names nothing of the upstream's."""

_OF_TOOLS = frozenset(
    {("input", "tool_use"), ("input", "server_tool_use"), ("input", "mcp_tool_use"),
     ("results", "file_search_call")}
)  # fmt: skip
"""Fields, with the kind of object that they are in, that say what a tool was given or found."""

_HINTS = (b"_id", b'"id"', b"conversation", b"container", b"audio", b"_reference", b"\\u")
"""One of them is in every body that names a stored object; a name may be written in escapes."""

_RULE = re.compile(r"(\*|[A-Z]{3,7}) /v1((?:/[A-Za-z0-9._~:@-]+)+)(/\*)?")
_SEGMENT = re.compile(r"[A-Za-z0-9._~:@!$&'()+,=-]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """An endpoint of the upstream, or all below it: ``POST /v1/images/*``; ``*`` for any method."""

    method: str
    path: str
    below: bool

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule. Raises ValueError that says how one reads."""
        found = _RULE.fullmatch(text)
        if found is None or {".", ".."} & {*found[2].split("/")}:
            raise ValueError(
                f"an endpoint must read METHOD /v1/PATH, such as POST /v1/images/*, not {text!r}"
            )
        return cls(found[1], found[2].removeprefix("/"), bool(found[3]))

    def allows(self, method: str, path: str) -> bool:
        """Say whether a request is of this endpoint; who may GET may ask for the HEAD of it."""
        same = self.method in ("*", method) or (self.method == "GET" and method == "HEAD")
        return same and (path.startswith(f"{self.path}/") if self.below else path == self.path)


_ALWAYS = tuple(map(Rule.parse, ENDPOINTS))


def is_stored(path: str) -> bool:
    """Say whether a path, without ``/v1/``, is where an upstream keeps objects of an account."""
    return any(path == one or path.startswith(f"{one}/") for one in STORED)


def upstream_path(raw: str) -> str:
    """Return the decoded path of a request below ``/v1/``. Raises APIError 400 for a bad one.

    Whatever two servers could read in two ways is bad: dots, empty parts, backslashes, what is
    encoded twice. ``%2F`` in the name of a model is a slash for both.
    """
    path = unquote(raw, errors="replace")
    parts = path.split("/")
    if any(part in (".", "..") or not _SEGMENT.fullmatch(part) for part in parts):
        raise APIError(400, "this path is none of an API", code="bad_path")
    return path


def check_endpoint(rules: Iterable[Rule], method: str, path: str, *, is_own: bool) -> None:
    """Let a request through to the upstream. Raises APIError 403 for one that may not go there.

    ``is_own``: it carries the caller's own credential. Only then does it reach stored objects.
    """
    if any(rule.allows(method, path) for rule in _ALWAYS):
        return
    if is_stored(path):
        if is_own:
            return
        why = (
            "what the upstream stores belongs to a credential: send your own in Authorization, "
            "and the server's key, if it asks for one, in x-tiered-cache-key"
        )
        raise APIError(403, why, code="stored_objects")
    if not any(rule.allows(method, path) for rule in rules):
        why = f"{method} /v1/{path} is not passed on: an operator may name it in allow"
        raise APIError(403, why, code="endpoint_not_allowed")


def check_objects(body: object, content: bytes, allowed: Iterable[str] = ()) -> None:
    """Refuse a body that names what an account of the upstream stores. Raises APIError 403.

    It is for what is sent with the server's credential, whose objects are of all its callers.
    ``content`` is the body's bytes, ``allowed`` the ids that callers may name, or beginnings of
    them that end in ``*``.
    """
    if not any(one in content for one in _HINTS):
        return
    for name, id in _objects_of(body):
        if id and not any(
            id == one or (one[-1:] == "*" and id.startswith(one[:-1])) for one in allowed
        ):
            raise APIError(
                403,
                f"{name} names what the upstream stores: send your own credential for it, or have "
                "the operator name it in objects",
                code="stored_objects",
                param=name,
            )


def _objects_of(body: object) -> Iterator[tuple[str, str]]:
    """Yield each id of a stored object that a body names, with the field that names it."""
    rest: list[Any] = [body]
    if isinstance(body, Mapping):
        yield from ((name, _id_of(body[name])) for name in _NAMES_STORED if body.get(name))
        items = body.get("input")
        for item in items if isinstance(items, list) else ():
            if isinstance(item, Mapping) and not (item.get("type") or item.get("role")):
                yield "input", _id_of(item)  # an item without a kind is a reference
        rest = [{**body, "type": None}]  # whatever it says, a body is none of its parts
    while rest:
        value = rest.pop()
        if isinstance(value, list):
            rest += value
        elif isinstance(value, Mapping):
            kind = str(value.get("type"))
            for name, inner in value.items():
                yield from ((name, one) for one in _ids(name, inner, value, kind))
                if name not in _NAMES_NOTHING and (name, kind) not in _OF_TOOLS:
                    rest.append(inner)


def _ids(name: str, inner: Any, value: Mapping[str, Any], kind: str) -> Iterator[str]:
    """Yield the ids that a field of an object names; ``kind`` is what the object says it is."""
    if name in _IDS:
        if name == "skill_id" and kind != "custom":
            return  # one of the provider's own
        if not kind.endswith(_SAYS_WHENCE):
            yield from map(_id_of, inner if isinstance(inner, list) else [inner])
    elif (
        name == "container"
        or (name == "audio" and "role" in value)
        or (kind.endswith("_reference") and name.endswith("id"))
    ):
        yield _id_of(inner)


def _id_of(value: Any) -> str:
    """Return an id that stands by itself or in an object; "" for what is neither."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else ""


def check_browser(access: Access, method: str, headers: HeaderPairs) -> None:
    """Refuse what a browser asks by itself: an image, a script, a link. Raises APIError 403.

    Such a GET would reach the upstream for any page; browsers too old to say so tell their name.
    """
    if method not in _SAFE:
        return
    by_name = dict(headers)
    origin = by_name.get(b"origin", b"").decode("latin-1") or None
    by_browser = b"sec-fetch-site" in by_name or origin is not None
    by_browser = by_browser or by_name.get(b"user-agent", b"").startswith(b"Mozilla/")
    if by_browser and not access.is_named(origin):
        why = "browsers may not read from the upstream: name their origin in cors_origins"
        raise APIError(403, why, code="bad_origin")


# Client keys: who may come in, as what, and whose answers they see.


Role = Literal["use", "admin"]

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Names of callers and of namespaces: no ":" in them, which stands between parts of a name."""

_KEY_BYTES = 32
_KEY_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """What the sender of a request may do.

    ``namespace`` is the tenant that it belongs to. ``has_key``: it sent a client key of ours.
    ``brings_own``: it sent a credential of its own, which is for the upstream.
    """

    role: Role
    namespace: str
    has_key: bool
    brings_own: bool


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
        if not _KEY_DIGEST.fullmatch(digest):
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
