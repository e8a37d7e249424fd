"""Read in one question everything that two questions are compared by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise

from shared_core.guard.grammar import AGREEING, NO_GRAMMAR, SMALL, Grammar, Sides, read_grammar
from shared_core.guard.tokens import (
    CHORD,
    COMPARING,
    POWER,
    SOFT,
    UNIT_NAMES,
    Figure,
    Token,
    clean,
    fold,
    quoted,
    read_figures,
    read_notation,
    tokens,
)
from shared_core.guard.vocabulary import (
    ALTERNATIVES,
    CAPITALS,
    CASED,
    CEASING,
    ENGLISH,
    FOREIGN,
    FORGETTING,
    IDLE,
    LOANED,
    NEGATIONS,
    NO_GERUNDS,
    OFTEN_FOREIGN,
    PARTICLES,
    PREFIXED,
    QUALIFIERS,
    STOP,
    UNABLE,
    UNKNOWING,
    canonical,
    listed,
    positive,
)

LIMIT = 6000
"""Characters read closely; of what follows only a digest of the words is compared."""

MAX_OPERANDS = 40
"""Operands kept of one text: they are compared pair by pair."""

CONNECTORS = {
    "to": "to", "into": "to", "→": "to", "->": "to", "=>": "to", "than": "than", ">": "than",
    "<": "than", "<=": "than", ">=": "than", "before": "before", "after": "before",
    "over": "over", "instead": "instead", "from": "from", "in": "in",
}  # fmt: skip
"""Words between two operands whose order counts -> the relation they make."""

_MIXED = re.compile(r"[^\W\d_]*?[a-zà-ÿ]+[A-ZÀ-Þ][^\W_]+$|[a-z][A-Z]{2,}$")
"""Words with a capital inside: iPhone, GitHub; not PCs, nor slips such as THere."""

_SIGNS = {"+": "plus", "-": "minus", "*": "time", "/": "divid"}

_LAST_LATIN = "\u024f"

_LONGEST_WORD = 40
"""Letters from which on a word is a key or a code: no model tells two such apart."""

SYMMETRIC = frozenset(
    {"and", "or", "vs", "versus", "v", "&", "+", "*", "plus", "times", "time", "nor", ","}
)

_AFTER_A_NO = frozenset({",", "thank", "i", "it", "that", "this", "we", "you"})
"""Terms before which "no" answers something said before, and belongs to no noun."""

_INFINITIVE_AFTER = frozenset(
    map(
        canonical,
        listed("""
        cost take long time able possible try plan decide safe easy hard difficult legal illegal
        ready necessary required allowed important good better dangerous worth cheap expensive
        """),
    )
)
"""Terms after which "to" is no way from here to there: "what it costs to ship"."""

FRAMES = frozenset(
    map(
        canonical,
        listed("""
        a an the this that these those my our your i we you it there am is are was were be been
        being do does did can could will would shall should may might must to please kindly just
        also so very really the some any here thanks thank hi hello hey ok okay what which
        """),
    )
) | {"~", ","}
"""Terms that may differ between two questions of one wording."""

Operands = tuple[str, frozenset[str], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One question as the guard sees it.

    ``sequence`` is every word, number and sign in order, folded; two readings of one sequence do
    not differ. ``line`` is the same in canonical terms. ``odd`` tells whether the negations are odd
    in number; ``negatives`` are words such as "unsafe", with their positive. ``symbols`` are signs
    of comparison, emoji and the like, in order; ``foreign`` the words of other scripts than Latin.
    ``rest`` digests what lies beyond LIMIT; ``squashed`` is the sequence without spaces;
    ``labels`` are words with the single letter after them, as in "vitamin c". ``content`` is the
    line without the words that carry no meaning of their own, ``core`` that without those alone
    that frame a question, ``grammar`` what the small words say;
    ``alternatives`` and ``qualifiers`` are the terms that are in a class of such.
    ``notation`` are pieces of code and formulas as they are written, ``cased`` words such as
    "Polish" that mean another thing in lower case, as they are written. ``prefixed`` are words
    behind a prefix with a hyphen: self-employed.
    """

    sequence: tuple[str, ...]
    words: frozenset[str]
    line: tuple[str, ...]
    terms: frozenset[str]
    figures: tuple[Figure, ...]
    units: tuple[tuple[str, bool], ...]
    odd: bool
    negatives: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    identifiers: tuple[str, ...]
    quotes: tuple[str, ...]
    operands: tuple[Operands, ...]
    origins: frozenset[str]
    targets: frozenset[str]
    symbols: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    rest: bytes = b""
    squashed: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    content: tuple[str, ...] = ()
    content_terms: frozenset[str] = frozenset()
    core: tuple[str, ...] = ()
    alternatives: frozenset[str] = frozenset()
    qualifiers: frozenset[str] = frozenset()
    grammar: Grammar = NO_GRAMMAR
    notation: tuple[str, ...] = ()
    cased: tuple[str, ...] = ()
    prefixed: tuple[tuple[str, str], ...] = ()

    def labelled(self, word: str) -> tuple[str, ...]:
        """Return the single letters that follow a word, in order."""
        return tuple(letter for before, letter in self.labels if before == word)


@dataclass(slots=True)
class _Words:
    """What is gathered while the words are read, in order."""

    sequence: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    terms: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    negatives: list[tuple[str, str]] = field(default_factory=list)
    negated: list[int] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    cased: list[str] = field(default_factory=list)
    upper: int = 0
    lower: int = 0


def read(text: str) -> Reading:
    """Read a question; remembered for the latest ones."""
    return _read_short(text) if len(text) <= 1000 else _read_long(text)  # noqa: PLR2004


def _read(text: str) -> Reading:
    plain = clean(text[:LIMIT])
    rest = _digest(text[LIMIT:]) if len(text) > LIMIT else b""
    unquoted, quotes = quoted(plain)
    stream = tokens(unquoted)
    scan = read_figures(stream)
    words = _read_words(stream, scan.taken)
    operands, origins, targets = _read_operands(words.terms)
    content = tuple(filter(is_content, words.terms))
    title = words.upper > (2 if words.lower == 0 else 2 * words.lower + 2)
    return Reading(
        sequence=tuple(words.sequence),
        words=frozenset(words.words),
        line=tuple(words.terms),
        terms=frozenset(words.terms),
        figures=tuple(scan.figures),
        units=tuple(scan.units),
        odd=sum(not _is_idle(words.terms, place) for place in words.negated) % 2 == 1,
        negatives=tuple(words.negatives),
        names=() if title else tuple(dict.fromkeys(words.names)),
        identifiers=tuple(dict.fromkeys(words.identifiers)),
        quotes=quotes,
        operands=tuple(operands[:MAX_OPERANDS]),
        origins=frozenset(origins),
        targets=frozenset(targets),
        symbols=tuple(words.symbols),
        foreign=tuple(words.foreign),
        rest=rest,
        squashed="".join(words.sequence),
        labels=tuple([two for two in pairwise(words.terms) if len(two[1]) == 1 and _is_label(two)]),
        content=content,
        content_terms=frozenset(content),
        core=tuple([term for term in words.terms if term not in FRAMES]),
        alternatives=frozenset(ALTERNATIVES.keys() & words.terms),
        qualifiers=frozenset(QUALIFIERS.keys() & words.terms),
        grammar=read_grammar([fold(token.text) for token in stream]),
        prefixed=tuple(
            (canonical(fold(one)), canonical(fold(other)))
            for one, other in _HYPHENED.findall(unquoted)
            if fold(one) in PREFIXED
        ),
        notation=read_notation(unquoted),
        cased=tuple(words.cased) if words.lower > words.upper else (),
    )


_read_short = lru_cache(maxsize=4096)(_read)
_read_long = lru_cache(maxsize=128)(_read)


def _digest(text: str) -> bytes:
    words = (fold(token.text + token.tail) for token in tokens(clean(text)) if token.kind != "stop")
    return sha256(" ".join(words).encode("utf-8", "surrogatepass")).digest()


def _read_words(stream: Sequence[Token], taken: dict[int, str]) -> _Words:
    words, initial = _Words(), True
    for place, token in enumerate(stream):
        if token.kind == "stop":
            initial = initial or token.text in '.?!:\n"'
            if token.text == ",":
                words.terms.append(",")
            continue
        whole = fold(token.text + token.tail)
        words.sequence.append(whole)
        if place in taken:
            name = taken[place]
            words.words.add(whole)
            words.terms.append(name or (whole if whole in SOFT else f"#{whole}"))
        elif token.kind in ("url", "email", "path", "dotted"):
            identifier = whole.rstrip(".,;:!?)]}/").removeprefix("https://").removeprefix("http://")
            words.identifiers.append(identifier.removeprefix("www."))
            words.terms.append(words.identifiers[-1])
        elif token.kind in ("number", "word") and token.tail:
            if CHORD.match(token.text):
                words.cased.append(token.text + token.tail)
            words.identifiers.append(whole)
            words.words.add(whole)
            words.terms.append(whole)
        elif token.kind == "acronym":
            _read_word(words, token.text.replace(".", ""), initial)
        elif token.kind == "word":
            _read_word(words, token.text, initial)
        elif token.kind in ("sign", "symbol"):
            if token.kind == "symbol" or whole in COMPARING:
                words.symbols.append(whole)
            words.terms.append(_SIGNS.get(whole, whole))
        initial = False
    return words


def _read_word(words: _Words, text: str, initial: bool) -> None:
    word = fold(text)
    if word.endswith("n't"):
        word = _without_negation(word)
        words.negated.append(len(words.terms) + 1)
    if "'" in word:
        word = next(filter(None, word.split("'")), word)
    if word in NEGATIONS:
        words.negated.append(len(words.terms))
    elif _is_denied(words.sequence, word):
        words.negated.append(len(words.terms) - 1)
    elif denied := positive(word):
        words.negatives.append((canonical(word), canonical(denied)))
    elif word == "free" and words.terms and words.terms[-1] not in STOP and not _predicated(words):
        words.negatives.append((canonical(word), words.terms[-1]))  # "sugar-free" says no to sugar
    if not word.isascii() and max(word) > _LAST_LATIN:
        words.foreign.append(word)
    abbreviated = word in CAPITALS and (text.isupper() or text.islower())
    spoon = word in ("t", "m") and words.terms[-1:] and words.terms[-1].startswith("#")
    if abbreviated or spoon or text in POWER or (word in CASED and not initial):
        words.cased.append(text)
    words.words.add(word)
    particle = word in PARTICLES and _with_particle(words, word)
    words.terms.append(particle or canonical(word))
    if not text[0].isupper():
        words.lower += not initial
    elif not initial and word != "i":
        words.upper += 1
    if len(word) >= _LONGEST_WORD or (_MIXED.match(text) and word not in STOP):
        words.identifiers.append(word)
    elif text[0].isupper() and not initial and (word not in STOP or word == "us"):
        words.names.append(word)


def _predicated(words: _Words) -> bool:
    """Tell whether what comes next is said of a thing: "is the wifi free"."""
    return not {"is", "are", "was", "wer", "the", "my", "your"}.isdisjoint(words.terms[-3:-1])


_HYPHENED = re.compile(r"(?<![\w-])([^\W\d_]+)-([^\W\d_]+)")


@lru_cache(maxsize=4096)
def is_content(term: str) -> bool:
    """Tell whether a term has a meaning of its own, and is neither figure nor sign."""
    return term[:1].isalpha() and term not in IDLE and term not in SMALL and term not in SOFT


def _is_label(pair: tuple[str, str]) -> bool:
    word, letter = pair
    if letter in ("i", "u"):
        return False  # "the account i have"
    return len(letter) == 1 < len(word) and letter.isalpha()


def _is_idle(terms: Sequence[str], place: int) -> bool:
    """Tell whether a negation is idle: "or not", "No, …", "I do not know why"."""
    before, here = terms[max(0, place - 4) : place], terms[place : place + 2]
    if before[-1:] == ["or"] or before[-2:] == ["or", "why"]:
        return here[:1] != ["never"]
    if not before and here[:1] == ["no"]:
        return not here[1:] or here[1] in _AFTER_A_NO
    first = "i" in before or len(before) <= 1 or before[-2:-1] in (["and"], ["but"])
    if first and before[-1:] == ["can"] and not UNABLE.isdisjoint(terms[place : place + 5]):
        return True
    return first and not UNKNOWING.isdisjoint(terms[place : place + 3])


def _is_denied(said: Sequence[str], word: str) -> bool:
    """Tell whether the verbs before a word deny it: "stop watering", "forget to water"."""
    before = said[-3:-1]
    if before[-1:] and before[-1] in CEASING:
        return word.endswith("ing") and len(word) >= len("being") and word not in NO_GERUNDS
    return len(before) == len(("forget", "to")) and before[0] in FORGETTING and before[1] == "to"


def _without_negation(word: str) -> str:
    """Return "is" of "isn't"."""
    return {"ca": "can", "wo": "will", "sha": "shall"}.get(word[:-3], word[:-3])


def _with_particle(words: _Words, word: str) -> str | None:
    """Join "turn … off" to one verb, in the place of the verb; return the particle's own term."""
    verbs = PARTICLES.get(word)
    if not verbs:
        return None
    for at in range(len(words.terms) - 1, max(-1, len(words.terms) - 5), -1):
        if words.terms[at] == ",":
            break
        if words.terms[at] in verbs:
            words.terms[at] = canonical(f"{words.terms[at]}_{word}")
            return "~"
    return None


def _read_operands(terms: Sequence[str]) -> tuple[list[Operands], set[str], set[str]]:
    """Find what stands beside the words whose two sides are not the same; origins; targets."""
    found: list[Operands] = []
    origins: set[str] = set()
    targets: set[str] = set()
    for place, term in enumerate(terms):
        relation = CONNECTORS.get(term)
        if relation is None:
            continue
        right = _side(terms[place + 1 : place + 5], relation)
        if relation == "from":
            origins |= right
        if relation == "to":
            targets |= right
        reach = 6 if relation == "than" else 4
        left = _side(terms[max(0, place - reach) : place][::-1], relation)
        if term in ("after", "<"):
            left, right = right, left
        if relation == "in" and not (left & UNIT_NAMES and right & UNIT_NAMES):
            continue  # "in" turns one unit into another, or says where and when
        if left and right and not (relation == "to" and terms[place - 1] in _INFINITIVE_AFTER):
            found.append((relation, left, right))
    return found, origins, targets


def _side(terms: Iterable[str], relation: str) -> frozenset[str]:
    """Pick the operand next to a connector: up to two words, three beside "than"."""
    picked: list[str] = []
    for term in terms:
        if term == "," or (term in CONNECTORS and relation != "than"):
            break
        if term not in STOP and term != "~":
            picked.append(term)
        elif picked and relation != "than":
            break
        if len(picked) == (3 if relation == "than" else 2):
            break
    return frozenset(picked)


# Order that matters: from here to there, this bigger than that, who does what to whom.


UNSIDED = frozenset(
    map(
        canonical,
        listed("""
        compare comparison difference different differ distance between similar similarity vs versus
        """),
    )
)
"""Terms that make the order of two operands of no matter."""


def turned(asked: Reading, cached: Reading) -> Sides | None:
    """Find what one side goes to and the other comes from."""
    to = (asked.targets & cached.origins) - asked.origins - cached.targets
    since = (asked.origins & cached.targets) - asked.targets - cached.origins
    if not to and not since:
        return None
    mine = *(f"from {word}" for word in sorted(since)), *(f"to {word}" for word in sorted(to))
    theirs = *(f"to {word}" for word in sorted(since)), *(f"from {word}" for word in sorted(to))
    return mine, theirs


def reversed_operands(asked: Sequence[Operands], cached: Sequence[Operands]) -> Sides | None:
    """Find two operands that have changed sides of one connector."""
    for one in asked:
        for other in cached:
            if _reversed(one, other) and _reversed(other, one):
                return _spelt(one), _spelt(other)
    return None


def _spelt(operands: Operands) -> tuple[str, str]:
    _, left, right = operands
    return " ".join(sorted(left)), " ".join(sorted(right))


def _reversed(one: Operands, other: Operands) -> bool:
    """Tell whether what stands left of one connector stands right of the other."""
    return one[0] == other[0] and bool(
        (one[1] - other[1]) & other[2] and (one[2] - other[2]) & other[1]
    )


def swapped(mine: Sequence[str], theirs: Sequence[str], names: Collection[str]) -> Sides | None:
    """Return the operands if two have changed places: "do cats eat dogs", "do dogs eat cats".

    All other words must be the same, and those between must not be "and", "or" and the like. If
    none is between, both must be names or of one class: "train Rome Oslo", "French-English".
    """
    if len(mine) != len(theirs) or mine == theirs:
        return None
    mine, theirs = ([_AGREEING.get(word, word) for word in each] for each in (mine, theirs))
    if mine == theirs:
        return None
    moved = [
        place for place, pair in enumerate(zip(mine, theirs, strict=True)) if pair[0] != pair[1]
    ]
    start, end = moved[0], moved[-1] + 1
    mine, theirs = mine[start:end], theirs[start:end]
    for size in range(1, min(4, len(mine))):
        for other in range(1, min(4, len(mine) - size + 1)):
            between = mine[size : len(mine) - other]
            if (
                mine[:size] == theirs[-size:]
                and mine[-other:] == theirs[:other]
                and between == theirs[other : len(theirs) - size]
                and _is_ordered(mine[:size], between, mine[-other:], names)
            ):
                one, two = " ".join(mine[:size]), " ".join(mine[-other:])
                return (one, two), (two, one)
    return None


ARTICLES = frozenset({"a", "the"})
_AGREEING = {canonical(form): canonical(of) for form, of in AGREEING.items()}


def _is_ordered(
    one: Sequence[str], between: Sequence[str], other: Sequence[str], names: Collection[str]
) -> bool:
    if between:
        return not set(between) <= SYMMETRIC
    if all(word in names or word in UNIT_NAMES for word in (*one, *other)):
        return True
    nowhere: frozenset[int] = frozenset()
    return bool(ALTERNATIVES.get(one[-1], nowhere) & ALTERNATIVES.get(other[0], nowhere))


# Words of relative time: a question that has one is answered anew every time it is asked.


_SPAN = (
    r"(?:few\s+|couple\s+(?:of\s+)?|\d+\s+|two\s+|three\s+)?(?:second|minute|hour|day|night|week"
    r"|weekend|fortnight|month|quarter|year|decade|century|season|spring|summer|autumn|winter|morning"
    r"|afternoon|evening|monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february"
    r"|march|april|may|june|july|august|september|october|november|december|time|moment|minute"
    r"|game|match|election|episode|release|version)s?"
)

_NOT_HOW_LONG = "".join(
    rf"(?<!{unit}\s)"
    for one in ["while", "time", "hour", "day", "week", "month", "year"]
    for unit in (one, f"{one}s")
)
"""Not in "for some weeks now", which is as long on any day."""

_NOT_AS_PHRASE = "".join(
    rf"(?<!\b{before}\s)" for before in [r"i\sdo", r"we\sdo", "what", "from", "for"]
)
"""Not in "what do I do now", "from now on" and "for now", which are no time of day."""

_RELATIVE = re.compile(
    rf"""\b(?:
    today | tonight | tonite | tomorrow | yesterday | nowadays | currently | lately
  | {_NOT_HOW_LONG}{_NOT_AS_PHRASE} now(?!\s+that)
  | recent(?:ly)? | latest | newest | upcoming | so\s+far | up[\s-]to[\s-]date | these\s+days
  | at\s+(?:the\s+moment|present) | present[\s-]day | at\s+this\s+(?:time|point) | as\s+of
  | (?<!electric\s)(?<!alternating\s)(?<!direct\s)(?<!eddy\s)
    current(?!\s+(?:account|password|passcode|address|balance\s+sheet|liabilit|asset|density|flow))
  | (?:this|next|coming|past|last|previous) \s+ {_SPAN}
  | {_SPAN} \s+ (?:ago|from\s+now) | a\s+(?:while|moment)\s+ago | just\s+now | still\s+alive
  | year[\s-]to[\s-]date | ytd | breaking\s+news | live\s+(?:score|result|update)s?
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)


_CLAUSE = re.compile(r"[^.,;?!\n]+[.,;?!\n]*")
_SENTENCE = re.compile(r"(?:[^.?!\n]|\.(?=\S))+[.?!\n]*")

_PAST = re.compile(
    r"(?:now|currently|recent(?:ly)?|lately|yesterday|just\s+now|this\s+morning|.*\sago"
    r"|(?:past|last|previous)\s.*)",
    re.IGNORECASE | re.DOTALL,
)

_ABOUT_ME = re.compile(
    r"""\W*(?:(?:and|but|so|then|also|hi|hello|hey|well|actually|because|since|although|though|when
    |a|for|over|during|in|the|about)\W+)*(?:i|we|my|our|i'm|i've|i'd|we've|we're|im|ive)\b""",
    re.VERBOSE | re.IGNORECASE,
)

_ME = re.compile(r"\b(?:i|me|my|mine|we|us|our|i'm|i've|i'd|im|ive)\b", re.IGNORECASE)

_MIN_WORDS = 5
"""Words that it takes to tell what happened: "my balance now" asks."""

_ASKING = re.compile(
    r"""^\W*(?:wh\w+|how|is|are|am|was|were|do|does|did|can|could|should|shall|will|would|has|have|had
  | may | might | must | please | tell | show | give | list | find | get | set | send | call
  | make)\b
  | \b(?:need|want|like|love|wish|wonder(?:ing)?|know|hope|looking|tell|show|find|find\s+out|help)\b
  | \?\s*$""",
    re.VERBOSE | re.IGNORECASE,
)


_AT_ONCE = re.compile(
    r"""(?:right\s+|just\s+)?now | at\s+(?:the\s+moment|present|this\s+(?:time|point))""",
    re.VERBOSE | re.IGNORECASE,
)
"""Words of relative time that only say when an order is to be carried out."""

_ORDER = re.compile(
    r"""^\W*(?:(?:ok(?:ay)?|hey|hi|hello|well|and|so|now|right\s+now|then|go\s+ahead\s+and|i\s+said)\W+)*
    (?: (?:please|kindly|just)\s+ | (?:(?:could|would|will)\s+you\s+)(?:please\s+|kindly\s+)?
      | (?:i|we)\s*(?:'d|\s+would)?\s*(?:need|want|like|wish|have)\s+(?:you\s+)?to\s+(?:please\s+)?
    )?
    (?:abandon|abort|activate|add|adjust|apply|begin|block|book|cancel|change|close|connect|deactivate
    |decrease|delete|disable|disconnect|discontinue|edit|enable|end|engage|exit|freeze|increase|join
    |leave|lock|log|lower|mute|open\s+an|order|pause|pay|place|put|quit|raise|redeem|refrain|refund
    |register|remove|rename|replace|reset|restart|resume|return|reverse|roll|save|schedule|sell
    |send(?!\s+(?:me|us))|set|shut|sign|start|stop|submit|subscribe|swap|switch|sync|terminate|transfer|turn|unblock
    |unfreeze|unlock|unsubscribe|unsync|update|upgrade|use|withdraw)\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""An order or a wish to have something done, by a verb of doing; none to tell or to show."""

_HOW_TO = re.compile(
    r"""\bhow\s+(?:(?:do|can|could|should|would|shall)\s+(?:i|we|you|one)(?:\s+go\s+about)?|to)\s+
    (?:\w+\s+){1,3}?(?:my|our|your)\s+current\s+\w+[^,.;?!]*[.?!\s]*$""",
    re.VERBOSE | re.IGNORECASE,
)
"""How to do something with what is one's own: "change my current plan" is done like any plan."""

_ASKED_OF = re.compile(r"\b(?:wh\w+|how|if|whether|tell|show|know|see|find|check)\b", re.IGNORECASE)


def _orders(clause: str) -> bool:
    """Tell whether a clause asks to do something at once, and not how something stands now."""
    found = _RELATIVE.findall(clause)
    if all(map(_AT_ONCE.fullmatch, found)):
        return _ORDER.match(clause) is not None and _ASKED_OF.search(clause) is None
    return [each.lower() for each in found] == ["current"] and _HOW_TO.search(clause) is not None


@lru_cache(maxsize=4096)
def is_timeless(question: str) -> bool:
    """Tell whether the answer does not depend on when the question is asked.

    It does if there is a word of relative time in it, except where somebody tells what happened to
    them ("I vomited this morning. …" asks the same on any day, "Who won yesterday?" does not), and
    where an order is to be carried out at once: "Close my account now".
    """
    text = clean(question[:LIMIT])
    if _RELATIVE.search(text) is None:
        return True
    return all(map(_tells, _CLAUSE.findall(text))) or _tells_before_asking(text)


def _tells_before_asking(text: str) -> bool:
    """Say whether one tells of one's past and asks in other sentences, without a word of time."""
    sentences = _SENTENCE.findall(text)
    timed = [one for one in sentences if _RELATIVE.search(one)]
    return len(timed) < len(sentences) and all(
        _ME.search(one) is not None
        and _ASKING.search(one) is None
        and all(map(_PAST.fullmatch, _RELATIVE.findall(one)))
        and len(one.split()) >= _MIN_WORDS
        for one in timed
    )


def _tells(clause: str) -> bool:
    """Say whether a clause has no word of relative time, or tells with it what happened to one."""
    found = _RELATIVE.findall(clause)
    if not found or _orders(clause):
        return True
    return (
        all(map(_PAST.fullmatch, found))
        and _ABOUT_ME.match(_RELATIVE.sub("", clause)) is not None
        and len(clause.split()) >= _MIN_WORDS
        and not _ASKING.search(clause)
    )


# Which language a question is in.


@lru_cache(maxsize=4096)
def is_english(question: str) -> bool:
    """Tell whether a question is in English, or too short of words to say otherwise.

    Most letters are Latin, and the small words that English alone has are not outnumbered by those
    of other languages and by words with foreign letters. What stands in quotes does not count.
    """
    text = clean(question[:LIMIT])
    if text.isascii():
        said = set(_LETTERS.findall(text.lower()))
        if FOREIGN.isdisjoint(said) and not ENGLISH.isdisjoint(said):
            return True
    else:
        letters = [char for char in text if char.isalpha()]
        others = sum(char > _LAST_LATIN and not "\u1e00" <= char <= "\u1eff" for char in letters)
        if 2 * others > len(letters):
            return False
    foreign = english = shaped = 0
    often: set[str] = set()
    words = _LETTERS.findall(_QUOTES.sub(" ", text))
    for place, word in enumerate(words):
        folded = fold(word)
        if folded in ENGLISH:
            english += 1
        elif not word.islower() and (place or not word.isascii()):
            continue  # a name
        elif folded in FOREIGN or (not word.isascii() and folded not in LOANED):
            foreign += 1
        elif folded in OFTEN_FOREIGN:
            often.add(folded)
        elif _GERMAN.fullmatch(folded) and folded not in LOANED:
            shaped = 1
    return len(words) <= 1 or foreign + len(often) // 2 + shaped <= english


_GERMAN = re.compile(
    r"(?:ein|aus|ab|auf|um|herunter|hoch|zuruck|ver|ent)[a-z]{3,}(?:en|ern|eln)"
    r"|[a-z]{4,}(?:ung|keit|heit|schaft)(?:en)?"
)
"""Shapes of words that are German and no English: einschalten, Rechnung."""

_LETTERS = re.compile(r"[^\W\d_]+")
_QUOTES = re.compile(r"""`[^`\n]*`|"[^"\n]*\"""")
