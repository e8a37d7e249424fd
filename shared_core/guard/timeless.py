"""Words of relative time: a question that has one is answered anew every time it is asked."""

from __future__ import annotations

import re

from shared_core.guard.reading import LIMIT
from shared_core.guard.tokens import clean

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

_RELATIVE = re.compile(
    rf"""\b(?:
    today | tonight | tonite | tomorrow | yesterday | nowadays | currently | lately
  | {_NOT_HOW_LONG} now(?!\s+that)
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

_LEAST_WORDS = 5
"""Words that it takes to tell what happened: "my balance now" asks."""

_ASKING = re.compile(
    r"""^\W*(?:wh\w+|how|is|are|am|was|were|do|does|did|can|could|should|shall|will|would|has|have|had
  | may | might | must | please | tell | show | give | list | find | get | set | send | call
  | make)\b
  | \b(?:need|want|like|love|wish|wonder(?:ing)?|know|hope|looking|tell|show|find|find\s+out|help)\b
  | \?\s*$""",
    re.VERBOSE | re.IGNORECASE,
)


def is_timeless(question: str) -> bool:
    """Tell whether the answer does not depend on when the question is asked.

    It does if there is a word of relative time in it, except where somebody tells what happened to
    them: "I vomited this morning. …" asks the same on any day, "Who won yesterday?" does not.
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
        and len(one.split()) >= _LEAST_WORDS
        for one in timed
    )


def _tells(clause: str) -> bool:
    """Say whether a clause has no word of relative time, or tells with it what happened to one."""
    found = _RELATIVE.findall(clause)
    if not found:
        return True
    return (
        all(map(_PAST.fullmatch, found))
        and _ABOUT_ME.match(_RELATIVE.sub("", clause)) is not None
        and len(clause.split()) >= _LEAST_WORDS
        and not _ASKING.search(clause)
    )
