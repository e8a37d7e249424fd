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
        "‘": "'", "’": "'", "‛": "'", "′": "'", "`": "`",
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "「": '"', "」": '"',
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": " - ", "−": "-",
        "⇒": "→", "×": "*", "÷": "/", "\u00ad": None, "\u200b": None, "\ufeff": None,
    }
)  # fmt: skip

_ENDINGS = (
    "py|js|ts|jsx|tsx|java|cpp|hpp|rs|go|rb|php|sh|sql|html|css|json|yaml|yml|toml|xml|csv|tsv|txt"
    "|md|pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|mp3|mp4|zip|gz|tar|exe|dll|ipynb|log|ini|cfg|conf"
    "|com|org|net|io|dev|edu|gov|ai|co|uk|de|fr|in|eu"
)

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
  | (?P<word>[^\W\d_]+(?:'[^\W\d_]+)*(?P<rest>(?<=[A-Za-z])[\d_][A-Za-z0-9_]*)?|_\w+)
  | (?P<sign>(?<=\d\s)-(?=\s\d)|(?<=\d)-(?=\d)|->|=>|→|[$€£¥₹%°+*/=<>&^])
  | (?P<stop>[.?!:;\n,()"])
    """,
    re.VERBOSE,
)

_QUOTED = re.compile(
    r"""```(.+?)```|`([^`\n]+)`|"([^"\n]{1,300})"|(?<![\w'])'([^'\n]{1,300})'(?![\w'])""", re.DOTALL
)
_SPACES = re.compile(r"\s+")

_HYPHENED = re.compile(r"\b(?:([A-Za-z]{1,2})-(?=\d)|(wi)-(?=fi\b))", re.IGNORECASE)
"""W-2 is W2, and Wi-Fi WiFi."""


class Token(NamedTuple):
    """A piece of a text: its kind (a group of the pattern), its text, letters right after it."""

    kind: str
    text: str
    tail: str


def clean(text: str) -> str:
    """Bring compatibility forms, quotes, dashes and digits of any script into plain ones."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
        text = "".join(
            str(unicodedata.digit(char)) if not char.isascii() and char.isdecimal() else char
            for char in text
        )
    return _HYPHENED.sub(r"\1\2", text) if "-" in text else text


def symbols(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the mathematical signs of a clean text, and its other symbols: emoji and the like."""
    if text.isascii():
        return frozenset(), frozenset()
    kinds = {char: unicodedata.category(char) for char in set(text) if not char.isascii()}
    found = {kind: frozenset(c for c in kinds if kinds[c] == kind) for kind in ("Sm", "So")}
    return found["Sm"], found["So"]


def fold(text: str) -> str:
    """Drop case and accents."""
    if text.isascii():
        return text.lower()
    marked = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", "".join(c for c in marked if not unicodedata.combining(c)))


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
            yield Token("number", match["number"].replace(",", ""), match["tail"] or "")
        elif kind == "word":
            rest = match["rest"] or ""
            yield Token("word", match["word"].removesuffix(rest), rest)
        else:
            yield Token(kind, match[0], "")
