"""Define what an embedder is, and check what it returns.

``Embedder`` is the protocol; ``unit_rows`` turns its output into float32 rows of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class EmbedderError(Exception):
    """An embedder is missing or failed. The cache turns it into a miss of the semantic tier.

    Raise it in an embedder of your own:

        def embed(self, texts):
            try:
                return self.client.embed(texts)
            except ConnectionError as error:
                raise EmbedderError(f"no vectors: {error}") from error
    """


class LoadError(EmbedderError):
    """A model could not be loaded; another attempt is not worth it for a while."""

    down = True


class Unresponsive(EmbedderError):
    """An embedder did not answer in time; another attempt is not worth it for a while."""

    down = True


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors of length 1.

    ``name`` and ``dimension`` say in which space they lie: vectors of two embedders are compared
    only if both are equal. ``max_tokens`` is how much of a text is read (None: not known).

    Two methods are optional: ``count_tokens(text) -> int``, and ``reads(text) -> bool``, False for
    a text that is too long or has parts that the model does not know, and takes for equal.

        class Hashed:  # an Embedder
            name, dimension, max_tokens = "letters", 26, None

            def embed(self, texts: Sequence[str]) -> NDArray[float32]:
                rows = [[text.count(letter) + 0.1 for letter in ascii_lowercase] for text in texts]
                return unit_rows(rows, len(texts), self.dimension)


        embedder: Embedder = Hashed()
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int | None: ...

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""


# What an embedder returned, as float32 rows of length 1, or an error that says what is wrong.


def unit_rows(values: Any, n: int, dimension: int | None = None) -> NDArray[float32]:
    """Return ``values`` as float32 of shape (n, d), each row of length 1.

    ``dimension`` None takes any d of at least 1. Raises EmbedderError for another shape, for
    numbers that are not finite, and for a row of zeros, which has no direction.
    """
    import numpy as np

    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EmbedderError(f"the embedder returned no (n, d) array of numbers: {error}") from None
    d = dimension or (rows.shape[-1] if rows.ndim else 0)
    if rows.shape != (n, d) or d < 1:
        wanted = f"({n}, {dimension or 'd'})"
        raise EmbedderError(f"the embedder returned shape {rows.shape} instead of {wanted}")
    if not np.isfinite(rows).all():
        raise EmbedderError("the embedder returned numbers that are not finite")
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    if not (largest > 0).all():
        raise EmbedderError("the embedder returned a vector of zeros")
    rows = rows / largest  # squares neither overflow nor vanish
    unit: NDArray[float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
