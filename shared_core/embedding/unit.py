"""What an embedder returned, as float32 rows of length 1, or an error that says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared_core.embedding import EmbedderError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


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
