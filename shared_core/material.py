"""Tells texts that only ask from templates around material, only a part of which asks."""

from __future__ import annotations

import re

_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")
_TAG = re.compile(r"<(?:context|documents?|sources?|passages?)\b[^<>]*>", re.IGNORECASE)
_LABEL = re.compile(
    r"\b(?:(context|documents?|sources?|passages?)|question|query)\b[^:\n]{0,40}:", re.IGNORECASE
)


def is_material(text: str) -> bool:
    """Tell whether a text looks like a template around material.

    A blank line, a tag such as ``<context>``, or labels of both a context and a question.
    """
    text = text.strip()
    if ("\n" in text and _PARAGRAPHS.search(text)) or ("<" in text and _TAG.search(text)):
        return True
    # Most questions have no colon, and this search takes longer than all the rest.
    return ":" in text and len({match[1] is None for match in _LABEL.finditer(text)}) > 1
