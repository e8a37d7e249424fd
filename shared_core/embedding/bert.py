"""A BERT with mean pooling, without torch: texts -> tokens -> states of the tokens -> their mean.

The states come from either of two runtimes, onnxruntime or numpy. Both give sentence-transformers'
own vectors, but for the last bits of a float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shared_core.embedding import LoadError
from shared_core.embedding.bert_folder import Shape, shape_of, weights_of
from shared_core.embedding.gate import gate

if TYPE_CHECKING:
    from numpy import bool_, float32, int32
    from numpy.typing import NDArray

    States = Callable[[NDArray[int32], NDArray[bool_]], NDArray[float32]]
    """Token ids and mask, both (n, l) -> states (n, l, d); where the mask is False, any numbers."""

Runtime = Literal["onnx", "numpy"]

MOST_TOGETHER = 16
"""How many texts go through the layers together; more than 8 gain nothing."""

PADDING = 1.25
"""How much longer than the shortest of them the longest may be: the rest is padded to it."""

FREE_PADDING = 4
"""By how many tokens it may be longer in any case."""


class Bert:
    """One BERT in memory."""

    def __init__(self, folder: Path, shape: Shape, states: States, runtime: Runtime) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.unknown, self.dimension = shape.unknown, shape.dimension
        self.max_tokens = shape.max_tokens
        self.runtime: Runtime = runtime
        self._states = states

    def tokens(self, text: str) -> list[int]:
        """Return all tokens of a text, however many. Safe for threads."""
        # One text at a time: encode_batch starts threads, and a fork after that complains.
        tokens: list[int] = self._tokenizer.encode(text).ids
        return tokens

    def rows(self, texts: list[str]) -> NDArray[float32]:
        """Return shape (n, d): the means of the tokens' states."""
        import numpy as np

        read = [self._cut(self.tokens(text)) for text in texts]
        rows = np.empty((len(texts), self.dimension), np.float32)
        for group in _groups([len(tokens) for tokens in read]):
            rows[group] = self._means([read[i] for i in group])
        return rows

    def _cut(self, tokens: list[int]) -> list[int]:
        if len(tokens) <= self.max_tokens:
            return tokens
        return [*tokens[: self.max_tokens - 1], tokens[-1]]

    def _means(self, read: Sequence[Sequence[int]]) -> NDArray[float32]:
        import numpy as np

        lengths = np.array([[len(tokens)] for tokens in read])
        mask = np.arange(lengths.max()) < lengths
        ids = np.zeros(mask.shape, np.int32)
        ids[mask] = [token for tokens in read for token in tokens]
        with gate:
            states = self._states(ids, mask)
        kept = np.where(mask[..., None], states, np.float32(0))
        means: NDArray[float32] = kept.sum(axis=1) / lengths.astype(np.float32)
        return means


def open_bert(folder: Path, only: Runtime | None = None) -> Bert | None:
    """Load a folder's model, by onnxruntime if it is there, else by numpy; ``only`` by that one.

    None if the model needs sentence-transformers, or if the packages are not there. Raises
    LoadError for files that cannot be read.
    """
    shape = shape_of(folder) if find_spec("tokenizers") is not None else None
    if shape is None or not (folder / "model.safetensors").is_file():
        return None
    try:
        weights = weights_of(folder)
        if only != "numpy" and find_spec("onnxruntime") is not None:
            from shared_core.embedding.bert_onnx import states_by_onnx

            try:
                return Bert(folder, shape, states_by_onnx(shape, weights), "onnx")
            except LoadError:  # a build of onnxruntime without what the graph needs
                if only is not None:
                    raise
        if only == "onnx":
            return None
        from shared_core.embedding.bert_numpy import states_by_numpy

        return Bert(folder, shape, states_by_numpy(shape, weights), "numpy")
    except (OSError, ValueError, KeyError) as error:
        raise LoadError(f"the model in {str(folder)!r} cannot be read: {error}") from error


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts that are worth padding to one length."""
    group: list[int] = []
    most = 0.0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) == MOST_TOGETHER or lengths[place] > most):
            yield group
            group = []
        if not group:
            most = max(PADDING * lengths[place], lengths[place] + FREE_PADDING)
        group.append(place)
    if group:
        yield group
