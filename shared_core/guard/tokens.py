"""A text as tokens: words, numbers, marks, and what must not be taken apart.

text --NFKC, plain quotes and dashes--> clean --one regular expression--> tokens
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_PLAIN = str.maketrans(
    {
        "‘": "'", "’": "'", "‛": "'", "′": "'", "ʼ": "'", "ʻ": "'",
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "「": '"', "」": '"',
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": " - ", "−": "-",
        "⇒": "→", "×": "*", "÷": "/", "⁄": "/", "≤": "<=", "≥": ">=", "≠": "!=",
        "\u00ad": None, "\u200b": None, "\ufeff": None, "\ufe0f": None, "©": None, "®": None,
    }
)  # fmt: skip

_ENDINGS = (
    "py|js|ts|jsx|tsx|java|cpp|hpp|rs|go|rb|php|sh|sql|html|css|json|yaml|yml|toml|xml|csv|tsv|txt"
    "|md|pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|mp3|mp4|zip|gz|tar|exe|dll|ipynb|log|ini|cfg|conf"
    "|com|org|net|io|dev|edu|gov|ai|co|uk|de|fr|in|eu"
)

_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06ed\u0900-\u0963\u0966-\u0dff\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ecd"
    "\u0f18-\u0fbc\u102b-\u103e\u1056-\u109d\u17b4-\u17d3\u3099\u309a"
)
"""Vowel signs and accents that belong to the letter before them, though no letters themselves."""

_LETTERS = rf"[^\W\d_]++(?:[{_MARKS}]++[^\W\d_]*+)*+"

_TOKEN = re.compile(
    rf"""
    (?P<url>(?i:https?://|www\.)[^\s<>"'`]+)
  | (?P<email>(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
  | (?P<path>(?<![\w/\\])(?:~|\.{{1,2}}|[A-Za-z]:)?(?:[/\\][\w.+-]*\w)+[/\\]?)
  | (?P<dotted>(?<![\w.-])[^\W\d][\w-]*(?:\.[\w-]+)*\.(?i:{_ENDINGS})(?![\w-]))
  | (?P<acronym>(?<![\w.])(?:[^\W\d_]\.){{2,}}(?:[^\W\d_](?!\w))?)
  | (?P<iso>(?<![\w.])\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?![\w-]|\.\d))
  | (?P<date>(?<![\w.])\d{{1,2}}(?P<sep>[-/.])\d{{1,2}}(?P=sep)(?:\d{{4}}|\d\d)(?![\w-]|\.\d))
  | (?P<version>(?<![\w.])(?:[vV]\d+(?:\.\d+)*|\d+(?:\.\d+){{2,}})(?:-(?:rc|beta|alpha)[\d.]*)?
    (?!\w))
  | (?P<clock>(?<![\w.])\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?![\w:]))
  | (?P<number>(?:(?<=\s)-|(?<=^)-|(?<=\()-)?(?:\d{{1,3}}(?:,\d{{3}})+(?![\d,])|\d+)(?:\.\d+)?)
    (?P<tail>[A-Za-z][A-Za-z0-9_]*)?
  | (?P<word>{_LETTERS}(?:'{_LETTERS})*
    (?P<rest>(?<=[A-Za-z])[\d_][A-Za-z0-9_]*|(?:(?<=\b[A-Za-z])|(?<=\b[Aa][Bb]))(?:\+\+?|-|\#)(?!\w))?|_\w+)
  | (?P<sign>(?<=\d\s)-(?=\s\d)|(?<=\d)[-:](?=\d)|->|=>|→|\*\*|[<>=!]=|[$€£¥₹%°+*/=<>&^])
  | (?P<stop>[.?!:;\n,()"])
  | (?P<symbol>[^\w\s\x00-\x7f])
    """,
    re.VERBOSE,
)

_QUOTED = re.compile(
    r"""```(.+?)```|`([^`\n]+)`|"([^"\n]{1,300})"|(?<![\w'])'([^'\n]{1,300})'(?![\w'])""", re.DOTALL
)
_SPACES = re.compile(r"\s+")

_ACCENTS = re.compile(
    r"(?<![\u0400-\u052f])[\u0300-\u036f]|[\u0591-\u05bd\u05bf\u05c1-\u05c7\u064b-\u065f\u0670]"
)
"""Marks that writers leave out; those of kana, of Cyrillic and of India make another letter."""

_BITS = {"Kb": "Kbit", "Mb": "Mbit", "Gb": "Gbit", "Tb": "Tbit"}
"""The only words whose case tells what they mean: 10 MB are eight times 10 Mb."""


class Token(NamedTuple):
    """A piece of a text: its kind (a group of the pattern), its text, letters right after it."""

    kind: str
    text: str
    tail: str


def clean(text: str) -> str:
    """Bring compatibility forms, quotes, dashes and digits of any script into plain ones."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    return "".join(
        str(unicodedata.digit(char)) if not char.isascii() and char.isdecimal() else char
        for char in text
    )


def fold(text: str) -> str:
    """Drop case and accents."""
    if text.isascii():
        return text.lower()
    marked = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", marked))


def quoted(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text without the marks of quotes and code, and what stood between them, folded."""
    if "`" not in text and '"' not in text and "'" not in text:
        return text, ()
    found: list[str] = []

    def keep(match: re.Match[str]) -> str:
        inside = next(filter(None, match.groups()))
        found.append(_SPACES.sub(" ", fold(inside)).strip(" .,!?;:"))
        return f" {inside} "

    return _QUOTED.sub(keep, text), tuple(sorted({each for each in found if each}))


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of a clean text, in order."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind in ("tail", "number"):
            yield Token("number", match["number"].replace(",", ""), _bits(match["tail"] or ""))
        elif kind == "word":
            rest = match["rest"] or ""
            yield Token("word", _bits(match["word"].removesuffix(rest)), rest)
        elif kind != "symbol" or unicodedata.category(match[0])[0] == "S":  # else punctuation
            yield Token(kind, match[0], "")


def _bits(word: str) -> str:
    return _BITS.get(word, word)
