"""What a loaded model offers, whichever library runs it, and whether it reads a text whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from unicodedata import category, normalize

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

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


class Model(Reader, Protocol):
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
