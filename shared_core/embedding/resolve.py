"""Make one embedder out of anything that embeds: name, path, function, a framework's embeddings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

from shared_core.embedding.api import Embedder, EmbedderError, unit_rows
from shared_core.embedding.local import (
    LibraryModel,
    SentenceTransformerEmbedder,
    reads_whole,
    source_of,
)
from shared_core.resilience import reraise_as

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from shared_core.record import Vector


PROBE = "The quick brown fox jumps over 13 lazy dogs."
"""What an embedder without a name is asked, to know it again by its vector."""

GRID = 0.01
"""How finely the probe's vector is read: float32 errs by 1e-7, other models differ by far more."""

MODEL_ATTRIBUTES = ("model", "model_name", "model_id", "deployment", "repo_id")
MODELS_INSIDE = ("_client", "client", "_model")
"""Where LangChain's and LlamaIndex's embeddings keep a sentence-transformers model."""

MODEL_SETTINGS = ("dimensions", "output_dimensionality", "base_url", "openai_api_base")

_shared: WeakValueDictionary[str, SentenceTransformerEmbedder] = WeakValueDictionary()
_nameless: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def resolve_embedder(embedder: Any = None) -> Embedder:
    """Return an embedder whose rows are float32 of length 1, and checked.

    Takes None (the local all-MiniLM-L6-v2), the name or path of a sentence-transformers model, such
    a model itself, an ``Embedder``, LangChain or LlamaIndex embeddings, or a callable: list of n
    texts
    -> (n, d). Neither loads a model nor calls anything. Caches of one process share a model.

    Raises ValueError for anything else.
    """
    if embedder is None or isinstance(embedder, (str, Path)):
        return _local(embedder)
    if isinstance(embedder, (SentenceTransformerEmbedder, CheckedEmbedder, FunctionEmbedder)):
        return embedder
    if isinstance(embedder, type) or inspect.iscoroutinefunction(embedder):
        what = "a class: pass an object" if isinstance(embedder, type) else "a coroutine function"
        raise ValueError(f"embedder {embedder!r} is {what}")
    if callable(getattr(embedder, "embed", None)) and _has(embedder, "name", "dimension"):
        return CheckedEmbedder(embedder)
    for method in ("embed_documents", "get_text_embedding_batch", "encode"):
        if callable(function := getattr(embedder, method, None)):
            return FunctionEmbedder(
                function,
                owner=embedder,
                name=declared_name(embedder),
                limit=_limit(embedder),
                model=_model_inside(embedder),
            )
    if callable(embedder):
        return FunctionEmbedder(embedder, owner=embedder)
    raise ValueError(
        "embedder must be None, the name or path of a sentence-transformers model, an Embedder, "
        "LangChain or LlamaIndex embeddings, or a callable (list of n texts -> (n, d) array), "
        f"not {embedder!r}"
    )


_OF_AN_API = re.compile(
    r"(models/)?(text-embedding-|embed-|textembedding-|gemini-embedding|voyage-|mistral-embed"
    r"|codestral-embed|amazon\.titan-embed|cohere\.embed|jina-embeddings-v\d+$)"
)
"""How names of models begin that only an API runs."""


def _local(name_or_path: str | Path | None) -> SentenceTransformerEmbedder:
    if isinstance(name_or_path, str) and _OF_AN_API.match(name_or_path):
        raise ValueError(
            f"embedder: {name_or_path!r} is a model of an API; pass the embeddings object that "
            f"calls it, such as embedder=OpenAIEmbeddings(model={name_or_path!r}) of LangChain or "
            "an embedding of LlamaIndex"
        )
    source = source_of(name_or_path)
    embedder = _shared.get(source)
    if embedder is None:
        embedder = _shared[source] = SentenceTransformerEmbedder(name_or_path)
    return embedder


def _has(embedder: Any, *names: str) -> bool:
    """Look for attributes without asking for their values, which may load a model."""
    missing = object()
    return all(inspect.getattr_static(embedder, name, missing) is not missing for name in names)


def _limit(embedder: Any) -> int | None:
    limit = getattr(embedder, "max_seq_length", None)
    return limit if isinstance(limit, int) else None


def _model_inside(embedder: Any) -> Any:
    """Return the sentence-transformers model that embeds for the embedder, or None."""
    inside = (getattr(embedder, attribute, None) for attribute in MODELS_INSIDE)
    for model in (embedder, *inside):
        parts = (getattr(model, part, None) for part in ("encode", "tokenizer"))
        if all(map(callable, parts)) and hasattr(model, "max_seq_length"):
            return model
    return None


def declared_name(embeddings: Any) -> str | None:
    """Return class, model and settings of a framework's embeddings; None if they name no model."""
    for attribute in MODEL_ATTRIBUTES:
        model = getattr(embeddings, attribute, None)
        if isinstance(model, str) and model and model != "unknown":
            break
    else:
        return None
    kind = type(embeddings)
    settings = [
        f"{name}={value}" for name in MODEL_SETTINGS if (value := getattr(embeddings, name, None))
    ]
    return " ".join([f"{kind.__module__}.{kind.__qualname__}", model, *settings])


class CheckedEmbedder:
    """An embedder of the user's whose rows are normalised and checked."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        count: Any = getattr(embedder, "count_tokens", None)
        self.count_tokens: Callable[[str], int] | None = None
        if callable(count):
            self.count_tokens = lambda text: reraise_as(EmbedderError, lambda: int(count(text)))
        reads: Any = getattr(embedder, "reads", None)
        self.reads: Callable[[str], bool] | None = None
        if callable(reads):
            self.reads = lambda text: reraise_as(EmbedderError, lambda: bool(reads(text)))

    @property
    def name(self) -> str:
        """Return the name that the embedder gives itself. Raises EmbedderError."""
        return reraise_as(EmbedderError, lambda: str(self._embedder.name))

    @property
    def dimension(self) -> int:
        """Return d. Raises EmbedderError."""
        return reraise_as(EmbedderError, lambda: int(self._embedder.dimension))

    @property
    def max_tokens(self) -> int | None:
        """Return how much of a text is read, None if not known. Raises EmbedderError."""
        return reraise_as(EmbedderError, lambda: getattr(self._embedder, "max_tokens", None))

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""
        rows = reraise_as(EmbedderError, self._embedder.embed, list(texts))
        return unit_rows(rows, len(texts), self.dimension)


class FunctionEmbedder:
    """A function from n texts to (n, d) numbers, as an embedder.

    Without a declared name it is known by the vector that it gives to one fixed text: two functions
    never share a space, and one function has the same in every process. ``owner`` is the object
    whose function it is; ``model`` the sentence-transformers model inside it, if there is one,
    which says what it reads. Any thread may call it at any time.
    """

    def __init__(
        self,
        function: Callable[[list[str]], Any],
        *,
        owner: Any,
        name: str | None = None,
        limit: int | None = None,
        model: Any = None,
    ) -> None:
        self._function, self._owner = function, owner
        self._name = name
        self._dimension: int | None = None
        self._limit = limit
        self.reads: Callable[[str], bool] | None = None
        if model is not None:
            reader = LibraryModel(model)
            self.reads = lambda text: reraise_as(EmbedderError, reads_whole, reader, text)

    @property
    def name(self) -> str:
        """Return the declared name, or one made of the probe's vector. Raises EmbedderError."""
        if self._name is None:
            self._name = self._fingerprint()
        return self._name

    @property
    def dimension(self) -> int:
        """Return d, which the first call of the function tells. Raises EmbedderError."""
        if self._dimension is None:
            self.embed([PROBE])
        assert self._dimension is not None  # noqa: S101 - embed has set it
        return self._dimension

    @property
    def max_tokens(self) -> int | None:
        """Return how much of a text is read, None if not known."""
        return self._limit

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""
        import numpy as np

        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        rows = unit_rows(
            reraise_as(EmbedderError, self._function, list(texts)), len(texts), self._dimension
        )
        self._dimension = rows.shape[1]
        return rows

    def _fingerprint(self) -> str:
        import numpy as np

        label = getattr(self._owner, "__qualname__", type(self._owner).__qualname__)
        worked_before = self._dimension is not None
        try:
            vector = self.embed([PROBE])[0]
        except EmbedderError:
            if not worked_before:
                raise
            return f"{label}@{self._token()}"  # a function that knows some texts only, as in tests
        cells = np.rint(vector / GRID).astype("<i2")
        return f"{label}@{sha256(cells.tobytes()).hexdigest()[:16]}"

    def _token(self) -> str:
        """Return a name that no other object has, in no process."""
        try:
            return _nameless.setdefault(self._owner, uuid4().hex)
        except TypeError:  # the owner can be no weak key
            return uuid4().hex


# Which model made these vectors: a callable has no name, but the cosines of three sentences tell.
#
# What was learnt of one model's cosines helps with no other's, and costs nothing where the model is
# the same under another name, or in another library's wrapping.


SENTENCES = (
    "How do I reset my password?",
    "The last train to the airport leaves at midnight.",
    "Is it safe to eat raw eggs?",
)
KNOWN: Mapping[str, tuple[int, tuple[float, ...]]] = {
    "all-MiniLM-L6-v2": (384, (0.0314, 0.0616, -0.0073)),
}
"""Name of a model: its dimension, and the cosines of the sentences, each with each."""

TOLERANCE = 2e-3
"""How far a cosine may be off: half precision and other runtimes stay well below."""


def known_model(space: str, vector: Callable[[str], Vector]) -> str:
    """Return the name of the model behind a space ``NAME:DIMENSION``, the space if it is not known.

    ``vector`` embeds a text to (d,) of length 1; it is called only where the name says nothing and
    the dimension fits. Raises what it raises.
    """
    name, _, dimension = space.rpartition(":")
    for model, (d, cosines) in KNOWN.items():
        if name == model:
            return model
        if dimension == str(d):
            pairs = combinations(map(vector, SENTENCES), 2)
            found = [float(one @ other) for one, other in pairs]
            if all(abs(a - b) <= TOLERANCE for a, b in zip(found, cosines, strict=True)):
                return model
    return space
