"""Split a text into tokens: words, numbers, dates, units, and what must not be taken apart.

text --NFKC, plain quotes and dashes--> clean --one regular expression--> tokens
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from shared_core.guard.vocabulary import canonical, listed

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
  | (?P<number>(?:(?<=\s)-|(?<=^)-|(?<=[($€£¥₹])-)?
    (?:\d{{1,3}}(?:,\d{{3}})+(?![\d,])|\d+)(?:\.\d+)?)(?P<tail>[A-Za-z][A-Za-z0-9_]*)?
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


_OWED = re.compile(r"(?<!\S)-([$€£¥₹])(?=\d)")
"""A sign before that of a currency: -£200."""


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


@lru_cache(maxsize=4096)
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
        found.append(_SPACES.sub(" ", fold.__wrapped__(inside)).strip(" .,!?;:"))
        return f" {inside} "

    return _QUOTED.sub(keep, text), tuple(sorted({each for each in found if each}))


def tokens(text: str) -> list[Token]:
    """Return the tokens of a clean text, in order."""
    found: list[Token] = []
    if "-" in text:
        text = _OWED.sub(r"\1-", text)
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind in ("tail", "number"):
            tail = match["tail"] or ""
            found.append(Token("number", match["number"].replace(",", ""), _BITS.get(tail, tail)))
        elif kind == "word":
            rest = match["rest"] or ""
            word = match["word"].removesuffix(rest)
            found.append(Token("word", _BITS.get(word, word), rest))
        elif kind != "symbol" or unicodedata.category(match[0])[0] == "S":  # else punctuation
            found.append(Token(kind, match[0], ""))
    return found


# Contractions, and the polite words before a question.


_ENDS = frozenset(".?!:;\n")

_SHORT_FORMS = {
    "whats": "what is", "wheres": "where is", "hows": "how is", "whos": "who is",
    "im": "i am", "ive": "i have", "dont": "do not", "doesnt": "does not", "didnt": "did not",
    "isnt": "is not", "arent": "are not", "wasnt": "was not", "werent": "were not",
    "cant": "can not", "cannot": "can not", "wont": "will not", "couldnt": "could not",
    "wouldnt": "would not", "shouldnt": "should not", "havent": "have not", "hasnt": "has not",
    "hadnt": "had not", "gonna": "going to", "wanna": "want to", "gotta": "have to",
    "ca": "can", "wo": "will", "sha": "shall", "kinda": "",
}  # fmt: skip
_SHORT_TAILS = {"re": "are", "ve": "have", "ll": "will", "d": "would", "m": "am"}
_WITH_IS = frozenset(
    listed("what where how who when why which it that there here he she this everything")
)

_POLITE = re.compile(
    r"""(?:(?:
    please | kindly | (?:hi|hello|hey)(?:\ there)? | dear | thanks | thank\ you | thank | ok | okay
  | so | well | and | but | also | sorry | just | actually | basically | excuse\ me | in\ advance
  | (?:a\ )?(?:quick\ )?question | to\ bother\ you | good\ (?:morning|afternoon|evening|day)
  | for\ (?:the|your)\ help
  | (?:can|could|will|would|may|might|can\ not)\ (?:you|i|someone|anyone|somebody|anybody)
    \ (?:please\ |kindly\ |also\ |just\ )?(?:tell|explain|help|show|advise|let|ask|inform|remind)
    (?:\ to)?(?:\ me|\ us)?(?:\ know|\ understand|\ find\ out|\ with)?
  | (?:i|we)\ (?:would\ like|want|need|wish|am\ trying|was\ wondering|am\ wondering|wonder
    |was\ hoping|would\ love|do\ not\ know|am\ not\ sure|am\ unsure|have\ no\ idea)
    (?:\ to)?(?:\ know|\ find\ out|\ ask|\ figure\ out|\ understand|\ learn)?
  | do\ you\ (?:know|happen\ to\ know) | (?:any|some|no)\ (?:idea|clue|advice)
  | may\ i\ (?:know|ask) | (?:tell|show|teach)\ (?:me|us) | explain(?:\ to\ me)? | advise
  | help\ me(?:\ understand)?
  | would\ you\ mind\ (?:telling|explaining|showing)(?:\ me)?
    )(?:\ about|\ on)?(?:\ whether|\ if)?(?:[\ ,.?!:;]+|$))*""",
    re.VERBOSE,
)
"""What people say before they ask; every turn of the loop takes at least one word."""


def spelt_out(words: Sequence[str]) -> list[str]:
    """Take contractions apart, and turn marks of punctuation into "," and "."."""
    said: list[str] = []
    for word in words:
        if word in _ENDS or word == ",":
            said.append("," if word == "," else ".")
        elif word in _SHORT_FORMS:
            said += _SHORT_FORMS[word].split()
        elif "'" in word:
            base, _, tail = word.partition("'")
            if tail == "t" and base.endswith("n"):
                said += (_SHORT_FORMS.get(base[:-1], base[:-1]), "not")
            elif tail in _SHORT_TAILS:
                said += (base, _SHORT_TAILS[tail])
            else:
                said += (base, "is") if tail == "s" and base in _WITH_IS else (base,)
        else:
            said.append(word)
    return said


def after_politeness(said: list[str]) -> list[str]:
    """Drop what people say before they ask."""
    if said and said[0] not in _OPENINGS:
        return said
    text = " ".join(said)
    match = _POLITE.match(text)
    return text[match.end() :].split() if match and match.end() < len(text) else said


_OPENINGS = frozenset(
    listed("""
    please kindly hi hello hey there dear thanks thank ok okay so well and but also sorry just
    actually basically excuse in a quick question to good for can could will would may might i we
    do any some no tell show teach explain advise help
    """)
)
"""Words that may begin a polite phrase."""


# Numbers, dates, versions and units in a stream of tokens.
#
# A figure is compared by its value, whatever its spelling: "50", "fifty" and "٥٠" are one. A unit
# is bound to the number before it ("5 kg"), or stands alone ("in kg").


class Figure(NamedTuple):
    """A number: its value as text, its kind, its unit or "".

    ``soft``: it may be no number at all ("one of them"). ``role`` is the word after it, or
    its unit.
    """

    value: str
    kind: str
    unit: str = ""
    soft: bool = False
    role: str = ""


_ONES = listed("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
    """)
_TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = listed("""
    zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth
    thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth
    """)

_SMALL = {word: number for words in (_ONES, _ORDINALS) for number, word in enumerate(words)} | {
    word: 10 * number
    for tens in (_TENS, [word[:-1] + "ieth" for word in _TENS])
    for number, word in enumerate(tens, 2)
}
_SMALL |= {"dozen": 12, "twice": 2, "thrice": 3, "ii": 2, "iii": 3, "vii": 7, "viii": 8}
QUANTITIES = {
    "half": "0.5", "halves": "0.5", "quarter": "0.25", "quarters": "0.25", "single": "1",
    "double": "2", "doubled": "2", "triple": "3", "tripled": "3", "quadruple": "4",
}  # fmt: skip
"""Words of a value that do not count: they join no other number word."""

SOFT = frozenset({"one", "first", "second", "zero"}) | QUANTITIES.keys() - {"half"}
"""Number words that are often something else: "which one", "first of all", "double check"."""

_SPELT = _SMALL.keys() | QUANTITIES.keys()

LARGE = {
    "hundred": 100, "thousand": 1000, "k": 1000, "lakh": 10**5, "lac": 10**5, "million": 10**6,
    "mn": 10**6, "crore": 10**7, "billion": 10**9, "bn": 10**9, "trillion": 10**12,
}  # fmt: skip
LARGE |= {
    f"{word}s": value
    for word, value in LARGE.items()
    if word.isalpha() and word not in ("k", "mn", "bn")
}


def _firsts(table: str) -> dict[str, str]:
    """Read "a b|c d" as every name and the first of its group."""
    groups = (group.split() for group in table.split("|"))
    return {name: group[0] for group in groups for name in group}


MONTHS = _firsts(
    "1 january jan|2 february feb|3 march|4 april apr|5 may|6 june jun|7 july jul|8 august aug"
    "|9 september sept sep|10 october oct|11 november nov|12 december dec"
)
DAYS = _firsts(
    "monday mondays mon|tuesday tuesdays tue tues|wednesday wednesdays|thursday thursdays thu"
    "|friday fridays fri|saturday saturdays|sunday sundays"
)
CLOCK = {"noon": "12:00", "midday": "12:00", "midnight": "0:00"}
DECADES = {tens[:-1] + "ies": f"19{number}0s" for number, tens in enumerate(_TENS, 2)}
SEASONS = frozenset({"winter", "summer", "autumn"})
_MONTH_CUES = frozenset(
    listed("in of since until till by this next last every during from early late mid")
)
_VERSION_CUES = frozenset(
    listed("""
    version versions ver v release python java node nodejs php ruby django rails react angular
    vue ubuntu debian android ios macos kubernetes postgres postgresql mysql redis numpy
    pandas pytorch tensorflow dotnet net go kotlin swift rust scala spring laravel
    """)
)

UNITS = _firsts("""
    kg kgs kilo kilos kilogram kilograms | g gram grams | mg milligram milligrams | mcg
    μg microgram micrograms | lb lbs | pound pounds quid | oz ounce ounces | tonne tonnes ton
    tons | stone stones | km kms kilometer kilometers kilometre kilometres | m meter meters
    metre metres | cm centimeter centimeters centimetre centimetres | mm millimeter
    millimeters millimetre millimetres | mile miles mi | yard yards yd | foot feet ft | inch
    inches | mph | kph kmh | liter liters litre litres l | ml milliliter milliliters
    millilitre millilitres | gallon gallons | pint pints | cup cups | tablespoon tablespoons
    tbsp | teaspoon teaspoons tsp | celsius centigrade c | fahrenheit f | kelvin | degree
    degrees ° | percent % pct percentage | usd $ dollar dollars bucks | eur € euro euros |
    gbp £ sterling | jpy ¥ yen | cny yuan rmb | inr ₹ rupee rupees rs | cad | aud | chf
    franc francs | btc bitcoin bitcoins | eth | peso pesos | cent cents | byte bytes | kb
    kilobyte kilobytes | mb megabyte megabytes | gb gigabyte gigabytes | tb terabyte
    terabytes | bit bits | kbit kilobit kilobits | mbit megabit megabits | gbit gigabit
    gigabits | tbit | mbps | gbps | hz hertz | mhz | ghz | watt watts w | kw | kwh |
    volt volts | amp amps | calorie calories kcal | joule joules | acre acres | hectare
    hectares | ms millisecond milliseconds | s sec secs second seconds | minute minutes min
    mins | hour hours hr hrs h | day days | week weeks wk wks | month months | year years yr
    yrs yo | decade decades | century centuries | am | pm | px pixel pixels
""")
UNIT_NAMES = frozenset(UNITS.values())
TIME_UNITS = frozenset({"second", "minute", "hour", "day", "week", "month", "year"})
CURRENCIES = frozenset("$€£¥₹")
_TAILS = UNITS.keys() - {"s"}
"""Units that may stand right after a number, without a space."""

_ORDINAL_TAILS = frozenset({"st", "nd", "rd", "th"})
_LOOSE = frozenset(
    listed("""
    g m l ml c f s h w am pm min amp cup foot stone second minute hour day week month year
    decade century bit degree mile cent yard peso eth watt px percentage
    """)
)
"""Units that, without a number, are often no unit at all ("one day", "a bit")."""

_YEARS = range(1500, 2100)
_YEAR_DIGITS = 4
_MONTHS_IN_YEAR = 12
_LONGEST_QUANTITY = 30


_SAYING = frozenset({*_SPELT, *MONTHS, *CLOCK, *DECADES, *DAYS, *SEASONS, *UNITS})
"""The words that may be a part of a figure, or a unit."""


def read_figures(stream: Sequence[Token]) -> FigureScan:
    """Read all figures and units of a text."""
    folded = [fold(token.text) if token.kind == "word" else token.text for token in stream]
    scan = FigureScan(stream, folded)
    place = 0
    while place < len(stream):
        if stream[place].kind == "word" and folded[place] not in _SAYING:
            place += 1  # most words: no part of a figure
        else:
            place = scan.step(place)
    return scan


@dataclass(slots=True)
class FigureScan:
    """What is gathered while figures are read.

    ``units`` are names, each with whether it is soft. ``taken`` tells the reader of words which
    places hold a part of a figure (""), or a unit (its name).
    """

    stream: Sequence[Token]
    folded: Sequence[str]
    figures: list[Figure] = field(default_factory=list)
    units: list[tuple[str, bool]] = field(default_factory=list)
    taken: dict[int, str] = field(default_factory=dict)

    def step(self, place: int) -> int:
        """Read what stands at a place; return the next place to read."""
        kind = self.stream[place].kind
        rate = self.folded[place] == "second" and self.folded[place - 1 : place] == ["per"]
        if kind == "number" or (kind == "word" and self.folded[place] in _SPELT and not rate):
            return self._number(place)
        if kind in ("iso", "date"):
            self._take(place, *_dated(self.stream[place]))
        elif kind == "version":
            self._take(place, Figure(fold(self.folded[place]).removeprefix("v"), "version"))
        elif kind == "clock":
            self._take(place, Figure(self.folded[place], "number"))
        else:
            self._word(place)
        return place + 1

    def _take(self, place: int, *figures: Figure) -> None:
        self.figures += figures
        self.taken[place] = ""

    def _word(self, place: int) -> None:
        """Read a month, a weekday, or a unit that stands alone."""
        word, token = self.folded[place], self.stream[place]
        if (
            word in MONTHS
            and token.kind == "word"
            and (word not in ("may", "march") or self._is_month(place))
        ):
            self._take(place, Figure(f"month {MONTHS[word]}", "date"))
        elif word in CLOCK:
            self._take(place, Figure(CLOCK[word], "number"))
        elif word in DECADES:
            self._take(place, Figure(DECADES[word], "date"))
        elif word in DAYS or word in SEASONS:
            self._take(place, Figure(DAYS.get(word, word), "date"))
        elif word in UNITS and token.kind == "sign":
            self.units.append((UNITS[word], False))
            self.taken[place] = UNITS[word]
        elif word in UNITS and len(word) > 1 and word not in ("am", "pm") and not token.tail:
            unit = UNITS[word]
            self.units.append((unit, unit in _LOOSE or word in _LOOSE))
            if unit not in _LOOSE:
                self.taken[place] = unit

    def _is_month(self, place: int) -> bool:
        near = self.stream[max(0, place - 1) : place + 2]
        return any(token.kind == "number" for token in near) or (
            place > 0 and self.folded[place - 1] in _MONTH_CUES
        )

    def _number(self, first: int) -> int:
        """Read one number with its multipliers and its unit; return the place after it."""
        token, tail = self.stream[first], fold(self.stream[first].tail)
        value, ordinal, place = token.text, tail in _ORDINAL_TAILS, first + 1
        if token.kind == "word":
            value, ordinal, place = _spelt(self.folded, first)
        if tail and not (ordinal or _is_decade(value, tail) or tail in LARGE or tail in _TAILS):
            return first + 1  # an identifier such as 4g: the reader of words takes it
        if tail in LARGE:
            value = _times(value, LARGE[tail])
        while place < len(self.folded) and self.folded[place] in LARGE and not ordinal:
            value = _times(value, LARGE[self.folded[place]])
            place += 1
        before = self.folded[first - 1] if first else ""
        unit = UNITS[tail] if tail in _TAILS else UNITS[before] if before in CURRENCIES else ""
        for index in range(first, place):
            self.taken[index] = ""
        after = self.folded[place] if place < len(self.folded) else ""
        if not unit and after in UNITS and not ordinal:
            unit = self.taken[place] = UNITS[after]
            place += 1
        figure = _figure(value, unit, tail, before)
        soft = figure.soft or (place <= first + 2 and self.folded[first] in SOFT)
        if unit:
            self.units.append((unit, soft))
        self.figures.append(figure._replace(soft=soft, role=unit or canonical(after)))
        return place


def _is_decade(value: str, tail: str) -> bool:
    """Tell whether "s" after a number makes a decade of it: the 1990s, the 90s."""
    return tail == "s" and value.endswith("0") and len(value) in (2, _YEAR_DIGITS)


def _figure(value: str, unit: str, tail: str, before: str) -> Figure:
    value = _plain(value)
    if _is_decade(value, tail):
        return Figure((value if len(value) == _YEAR_DIGITS else "19" + value) + "s", "date")
    if before in _VERSION_CUES:
        return Figure(value, "version", unit)
    if not unit and len(value) == _YEAR_DIGITS and value.isdecimal() and int(value) in _YEARS:
        return Figure(value, "date")
    return Figure(value, "number", unit, soft=value == "1" and bool(unit))


def _spelt(folded: Sequence[str], place: int) -> tuple[str, bool, int]:
    """Read number words: value, whether it is an ordinal, the place after them."""
    if folded[place] in QUANTITIES:
        return QUANTITIES[folded[place]], False, place + 1
    value, after = _SMALL[folded[place]], folded[place + 1 : place + 2]
    ones = _SMALL.get(after[0], 0) if after and folded[place] in _TENS else 0
    if 0 < ones < 10:  # noqa: PLR2004 - twenty one
        return str(value + ones), after[0] in _ORDINALS, place + 2
    return str(value), folded[place] in _ORDINALS, place + 1


def _times(value: str, factor: int) -> str:
    if len(value) > _LONGEST_QUANTITY:
        return f"{value} {factor}"
    whole, _, part = value.partition(".")
    places = len(part)
    product = str(int(whole + part) * factor).rjust(places + 1, "0")
    return f"{product[:-places]}.{product[-places:]}".rstrip("0") if places else product


def _plain(value: str) -> str:
    """Drop what does not count: leading zeros, and a fraction of zero. 3.1 and 3.10 stay apart."""
    sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
    whole, _, part = digits.partition(".")
    whole = whole.lstrip("0") or "0"
    return sign + (f"{whole}.{part}" if part.strip("0") else whole)


def _dated(token: Token) -> list[Figure]:
    """Take a numeric date apart: year, month, day. Of 3/4/2024 the month is taken to be first."""
    one, two, three = token.text.replace("/", "-").replace(".", "-").split("-")
    if token.kind == "iso":
        year, month, day = one, two, three
    elif int(one) > _MONTHS_IN_YEAR or "." in token.text:
        day, month, year = one, two, three
    else:
        month, day, year = one, two, three
    return [
        Figure(_plain(year if len(year) == _YEAR_DIGITS else "20" + year), "date"),
        Figure(f"month {_plain(month)}", "date"),
        Figure(_plain(day), "number"),
    ]


# Code and formulas, as they are written.


COMPARING = frozenset({"<", ">", "=", "<=", ">=", "==", "!="})

_SIGNED = re.compile(r"(?<!\S)(?=\?\S*\w|\S*[-!&|~^*\\\[\]{}<>=/+:;@#$%])\S+")
"""A run without spaces that has a sign of code in it."""

_PROSE = re.compile(
    r"""(?![^\W\d_]!$) [(\["']* (?:
      [^\W_]+(?:\+{1,2}|\#|-)? | [^\W_]+(?:['/-][^\W_]+)*        # first-time, and/or, it's
    | [-+]?[$€£¥₹]?\d[\d.,:/-]*[a-zA-Z%$€£¥₹°]* | (?i:https?://|www\.)\S* | [\w.+-]+@[\w.-]+
    | [-–—]+ | [:;+&] | [\w.~-]*(?:/[\w.-]+)+/? | [:;=8]-?[()DPp]+
    ) [)\]"'.,;:?!]*""",
    re.VERBOSE,
)
"""What looks like code and is prose: hyphens, numbers, addresses, dashes, smileys."""

POWER = frozenset(listed("mW MW mHz MHz mJ MJ mV MV mA MA mg Mg CO Co HF Hf"))
"""Units of which the case of the first letter is a factor of a thousand million, and a gas and a
metal."""

CHORD = re.compile(r"[A-G][mM]$")
"""A minor chord, or a major one."""


def read_notation(text: str) -> tuple[str, ...]:
    """Return the pieces of code and formulas in a text, with their case, in order."""
    found = [
        piece.strip(".,;?\"'").rstrip(":")
        for piece in _SIGNED.findall(text.rstrip(" .?!"))
        if not _PROSE.fullmatch(piece)
    ]
    return tuple(each for each in found if each and each not in COMPARING)
