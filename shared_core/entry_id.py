"""Opaque names of what was served; feedback needs nothing else, from any process."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{64})(?:\.([0-9a-f]{64})\.(-?[01]\.\d{4}))?")


@dataclass(frozen=True, slots=True)
class EntryId:
    """The record served and, for a semantic hit, the key of the question and its similarity."""

    record: str
    asked: str | None = None
    similarity: float = 1.0

    def __str__(self) -> str:
        if self.asked is None:
            return self.record
        return f"{self.record}.{self.asked}.{self.similarity:.4f}"

    @classmethod
    def parse(cls, text: object) -> EntryId | None:
        """Read an id; None if this library did not make it."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return None
        record, asked, similarity = found.groups()
        return cls(record) if asked is None else cls(record, asked, float(similarity))
