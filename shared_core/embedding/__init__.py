"""Texts as vectors: the protocol; ``shared_core.embedding.resolve`` makes one of anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class EmbedderError(Exception):
    """An embedder is missing or failed. The cache turns it into a miss of the semantic tier."""


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
    """

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int | None: ...

    def embed(self, texts: Sequence[str]) -> NDArray[float32]:
        """Return float32 of shape (n, dimension), rows of length 1. Raises EmbedderError."""
