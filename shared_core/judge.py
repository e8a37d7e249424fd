"""Do two answers say the same? The label of every explored candidate hangs on it.

A judge is given two ``Answer``s, the fresh one first, and returns True, False, or None if it does
not know: then nothing is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from shared_core.record import Answer

Judge = Callable[[Answer, Answer], bool | None]

SAME_CONTENT, OTHER_CONTENT = 0.6, 0.35
"""Jaccard index of content words from which answers are equal, and below which they differ."""

READ_CHARACTERS = 20_000

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LIST_NUMBER = re.compile(r"(?m)^\s*\(?\d{1,2}[.)]\s")
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|neither|nor|cannot|without|\w+n['’]t)\b", re.IGNORECASE
)
_FILLERS = frozenset(
    """a an the and or but if so of to in on at by for from with as is are was were be been it its
    this that these those you your we our i my me he she they their there here do does did can could
    will would should may might must have has had then than also just sure please hello hi thanks
    thank happy glad help helps hope great question course certainly let know need anything else yes
    no not what which who how when where why""".split()  # noqa: SIM905 - a list of 90 strings
)
_VERDICTS = {
    "yes": True,
    "no": False,
    "true": True,
    "false": False,
    "correct": True,
    "incorrect": False,
}


def same_answer(fresh: Answer, cached: Answer) -> bool | None:
    """Judge by the texts: equal but for spelling, or the same figures and most of the same words.

    Different numbers, an opposite "yes" or "no", or a negation on one side only make answers differ
    whatever else they share. Between 0.35 and 0.6 of shared content words it does not know.
    """
    one, two = _read(fresh.text), _read(cached.text)
    if one.words == two.words and one.words:
        return True
    if one.verdict is not None and two.verdict is not None and one.verdict != two.verdict:
        return False
    if one.numbers != two.numbers or one.negated != two.negated:
        return False
    if not one.content or not two.content:
        return True if one.verdict is not None and one.verdict == two.verdict else None
    shared = len(one.content & two.content) / len(one.content | two.content)
    if shared >= SAME_CONTENT:
        return True
    return False if shared < OTHER_CONTENT else None


class _Reading:
    """What counts in an answer's text."""

    __slots__ = ("content", "negated", "numbers", "verdict", "words")

    def __init__(self, text: str) -> None:
        text = text[:READ_CHARACTERS]
        plain = _LIST_NUMBER.sub(" ", text)
        self.words = tuple(_WORD.findall(plain.casefold()))
        self.numbers = frozenset(_NUMBER.findall(plain))
        self.content = frozenset(self.words) - _FILLERS
        self.negated = _NEGATION.search(plain) is not None
        self.verdict = _VERDICTS.get(self.words[0]) if self.words else None


@lru_cache(maxsize=1024)
def _read(text: str) -> _Reading:
    return _Reading(text)
