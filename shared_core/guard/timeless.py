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

_RELATIVE = re.compile(
    rf"""\b(?:
    today | tonight | tonite | tomorrow | yesterday | nowadays | now(?!\s+that) | currently | lately
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


def is_timeless(question: str) -> bool:
    """Tell whether a question has no word of relative time in what the guard reads of it."""
    return _RELATIVE.search(clean(question[:LIMIT])) is None
