"""Opaque names of what was served; feedback needs nothing else, from any process."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{64})(?:\.([0-9a-f]{64})\.(-?[01]\.\d{4})(?:\.(-?\d+\.\d{4}))?)?")


@dataclass(frozen=True, slots=True)
class EntryId:
    """The record served; for a semantic hit also the question's key, similarity and score."""

    record: str
    asked: str | None = None
    similarity: float = 1.0
    score: float | None = None

    def __str__(self) -> str:
        if self.asked is None:
            return self.record
        score = "" if self.score is None else f".{self.score:.4f}"
        return f"{self.record}.{self.asked}.{self.similarity:.4f}{score}"

    @classmethod
    def parse(cls, text: object) -> EntryId | None:
        """Read an id; None if this library did not make it."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return None
        record, asked, similarity, score = found.groups()
        if asked is None:
            return cls(record)
        return cls(record, asked, float(similarity), None if score is None else float(score))
