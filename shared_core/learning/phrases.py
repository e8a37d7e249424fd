"""English words and phrases that answers are read by: patterns and lists, for ``answers``."""

from __future__ import annotations

import re

# ------------------------------------------------------------------------------- what adds nothing

PLEASANTRY = re.compile(
    r"""^\W*+(?:
      (?:(?:oh|well|so|okay|ok|ah)\W+)?(?:sure|certainly|absolutely|of\s+course|gladly
        |(?:with|my)\s+pleasure|no\s+problem|(?:great|good)\s+question|hi|hello|hey|thanks?
        (?:\s+you)?(?:\s+for\s+(?:[a-z]+ing|your|the)(?:\s+[a-z]+){0,3})?)(?:\W+(?:thing|there))?
    | (?:(?:i'm|i\s+am|we're|we\s+are)\s+)?(?:very\s+|so\s+|really\s+)?
      (?:happy|glad|pleased)\s+to\s+help.*
    | (?:(?:i'm|i\s+am|we're|we\s+are)\s+)?(?:very\s+|so\s+|really\s+)?
      sorry\b(?!.*\b(?:but|can|could)).*
    | .*\b(?:let\s+(?:me|us)\s+know|feel\s+free\s+to|don't\s+hesitate
      |hope\s+(?:this|that|it)\s+helps|(?:happy|glad)\s+to\s+help|anything\s+(?:else|is\s+unclear)
      |further\s+(?:questions|help|assistance))\b.*
    | here(?:'s|\s+is|\s+are)?\s+(?:a|an|the|some|how|what|one|your)?\b[^.]{0,40}:
    | (?:(?:no\s+(?:problem|worries|trouble)(?:\s+at\s+all)?|my\s+pleasure|any\s?time|take\s+care
        |don't\s+mention\s+it|you(?:'re|\s+are)\s+(?:very\s+|most\s+|always\s+)?welcome
        |(?:happy|glad)\s+(?:i|we)\s+could\s+help|have\s+a\s+(?:nice|good|great|lovely)\s+\w++
        |(?:good)?bye|see\s+you(?:\s+soon)?|good\s+(?:morning|afternoon|evening|day))\W*+)+
    )\W*$""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""A sentence that greets, thanks, offers help or announces the answer."""

ANNOUNCES = re.compile(
    r"""\W*(?:here(?:'s|\s+is|\s+are)\s+(?:a|an|the|some|how|what|one|your)\b[^.:]{0,40}
      |(?:happy|glad)\s+to\s+help|sure|certainly|of\s+course|gladly|(?:with|my)\s+pleasure):\s+""",
    re.VERBOSE | re.IGNORECASE,
)
"""The same before a colon, and the answer behind it."""

# ----------------------------------------------------------------------- yes, no, and no answer

DECLINES = re.compile(
    r"""\b(?:
      i\s+(?:do\s+not|don't|cannot|can't|can\s+not|couldn't|could\s+not|am\s+not\s+able\s+to
        |am\s+unable\s+to|won't|have\s+no)\s+(?:\w+\s+){0,2}?
      (?:know|tell|say|help|answer|assist|find|access|provide|confirm|look|idea|share|discuss|comply
        |do\s+that|have\s+(?:\w+\s+){0,2}?(?:access|information|data|details|record|answer))
    | i(?:'m|\s+am)\s+(?:not\s+sure|unsure|unable|not\s+able|not\s+certain|not\s+allowed)
    | no\s+(?:information|idea)\b | as\s+an\s+ai\b | unable\s+to\s+(?:help|answer|find|assist)
    | (?:is|was)\s+not\s+(?:mentioned|specified|provided)\b
    )""",
    re.VERBOSE | re.IGNORECASE,
)
"""A sentence that says that there is no answer."""

GOES_ON = re.compile(r"\b(?:however|but|instead|though|that\s+said)\b", re.IGNORECASE)
"""What leads from there to an answer after all."""

SORRY_BUT = re.compile(r"\b(?:sorry|afraid)\W+but\b", re.IGNORECASE)
"""What leads to none."""

YES_OR_NO = re.compile(
    r"^\W*(?:(?:well|so|oh|short\s+answer)\W+)?"
    r"(yes|yep|yeah|true|correct|no|nope|false|incorrect)(?=\W|$)[ ,;:.!-]*",
    re.IGNORECASE,
)
"""The very word with which an answer says yes or no."""

AFFIRMS = re.compile(
    r"""^\W*(?:absolutely|definitely|it\s+(?:does|is)(?!\s+not)|you\s+can(?!'t|not|\s+not)
      |we\s+do(?!n't|\s+not)|of\s+course(?!\s+not)|there\s+is(?!\s+no)|that's\s+possible)\b""",
    re.VERBOSE | re.IGNORECASE,
)
REJECTS = re.compile(
    r"""^\W*(?:unfortunately|not|never|you\s+can(?:'t|not)|it\s+(?:isn't|is\s+not|doesn't|does\s+not)
      |we\s+do(?:n't|\s+not)|they\s+can't|there\s+is\s+no)\b""",
    re.VERBOSE | re.IGNORECASE,
)
YES_WORDS = "yes yep yeah true correct"
"""Those that say yes."""

DENYING_WORDS = """
    no not never none neither nor cannot without nothing nobody isn't aren't wasn't weren't don't
    doesn't didn't won't wouldn't can't couldn't shouldn't mustn't needn't haven't hasn't hadn't
    unable avoid except apart exclude excludes excluded excluding forbidden prohibited banned ignore
    ignoring leaving lack lacks refuse refuses refused fails impossible illegal
"""
"""Words that deny what is said beside them, or take it away."""

CLAUSE = re.compile(
    r"""(?<![,;:.!?()])[,;:.!?()]+(?=\s|$)|\s[-–]\s|—
    |\b(?:but|and|although|though|because|since|whereas|while|unless|which|however|instead)\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""Where what a negation denies ends at the latest."""

# ------------------------------------------------------------------------------------- words

IDLE_WORDS = """
    please sorry sure happy glad help hello hi thanks thank welcome question answer certainly course
    great usually normally typically generally mostly often simply just also about around roughly
    approximately some any okay note e g i etc example instance such however though yes no called
    known available possible possibly may might can could should would everything anything something
"""
"""Words that say nothing of what an answer is about."""

COMMON_WORDS = """
    the a an of to in on at by for from with as is are was were be been it its this that these you
    your we our i my they their and or but if not can will have has do does there which what who how
    when where so than then no yes any all more each every because before after within between
    during while until only about into over under see use take get need must should would could
    may also once first here them own nothing
"""
"""The commonest words of English texts."""

COPULAS = "is was are were has had won wrote played invented painted"
"""Words before which a capital marks a name, even at the start of a sentence."""

OPPOSITE_WORDS = """
    before:after ahead:after earlier:later early:late until:after until:from first:last start:end
    above:below over:under inside:outside up:down on:off left:right front:back front:behind
    with:without both:neither all:none always:never everywhere:nowhere everyone:nobody full:half
    required:optional mandatory:optional must:needn't allowed:forbidden allowed:prohibited
    permitted:forbidden permitted:prohibited legal:illegal valid:invalid possible:impossible
    more:less more:fewer most:least most:fewest high:low higher:lower highest:lowest
    fast:slow fast:slowly faster:slower faster:slowly quick:slow quickly:slowly
    long:short longer:shorter longest:shortest large:small larger:smaller largest:smallest
    big:small bigger:smaller biggest:smallest greater:smaller raise:lower raised:lowered
    raises:lowers rise:fall rises:falls increase:decrease increased:decreased increases:decreases
    increases:reduces increase:reduce increased:reduced grow:shrink grows:shrinks gain:lose
    gains:loses strengthens:weakens adds:removes added:removed add:remove import:export
    open:closed open:close opens:closes opened:closed send:receive sends:receives
    free:charged free:paid free:fee cheap:expensive cheaper:dearer easy:hard easy:difficult
    easier:harder safe:dangerous safe:unsafe safe:harmful safe:toxic safe:poisonous
    harmless:dangerous harmless:harmful harmless:toxic harmless:poisonous busy:quiet
    busiest:quietest crowded:quiet crowded:quietest crowded:empty busy:empty hot:cold hot:cool
    hotter:colder warm:cold warmer:colder warmer:cooler dry:wet dark:light dark:bright black:white
    clean:dirty adult:child adults:children seller:buyer owner:tenant landlord:tenant
    employer:employee morning:evening day:night weekday:weekend weekdays:weekends
    completely:partly fully:partly covered:uncovered worn:unworn treated:untreated known:unknown
    locked:unlocked plugged:unplugged plug:unplug strong:weak soft:hard mild:strong gentle:firm
    thick:thin positive:negative automatic:manual automatically:manually fixed:variable
    public:private permanent:temporary same:different best:worst better:worse succeed:fail
    recommend:discourage recommended:discouraged available:unavailable online:offline
"""
"""Words of which one side says the one and the other side the other: they say the opposite."""
