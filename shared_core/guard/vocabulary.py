"""Say what words mean to the guard: inflections, synonyms, opposites, classes, stop words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from importlib.resources import files

from shared_core.guard.word_lists import (
    ALIKE,
    CLASSES,
    ENGLISH_AND_FOREIGN,
    FOREIGN_WORDS,
    OFTEN_FOREIGN_WORDS,
    OPPOSITES,
    QUALIFYING,
    SYNONYMS,
)


def listed(words: str) -> list[str]:
    """Take a word list apart."""
    return words.split()


STOP = frozenset(
    listed("""
    a an the this that these those some any all each every another such very really just also
    too so of for in on at by to from with into onto upon about as than per via during through
    within and or but nor if whether because while then else though although not no never i me
    my mine myself you your yours yourself we us our ours it its itself they them their theirs
    he him his she her hers one ones someone somebody something anyone anybody anything
    everyone is am are was were be been being do does did doing done have has had having s t d
    m re ve ll can could would should shall will may might must cannot ought let lets what
    which who whom whose when where why how there here please kindly tell give show explain
    know knowing want wants wanted wish need needs needed wonder wondering like help hi hello
    hey thanks thank sorry ok okay dear get gets getting got gotten go goes going gonna way
    ways make makes making thing things out off up down over under again more most much many
    lot lots bit mr mrs ms dr able sure find mean means question questions say says best good
    """)
)
"""Words that carry no content of their own: grammar, politeness, and filler."""

_NEGATIVE = {
    word: positive
    for pair in listed("""
    illegal/legal illegally/legally impossible/possible incorrect/correct
    incorrectly/correctly invalid/valid incomplete/complete inactive/active
    inaccurate/accurate insecure/secure inappropriate/appropriate ineligible/eligible
    insufficient/sufficient irregular/regular irresponsible/responsible abnormal/normal
    dislike/like disagree/agree dissatisfied/satisfied dishonest/honest immoral/moral
    immature/mature impatient/patient imperfect/perfect improper/proper
    inconsistent/consistent lack/have lacks/have lacked/have lacking/have
    """)
    for word, positive in [pair.split("/")]
}

_UNKNOWING = frozenset({"unsure", "unaware"})
"""Words of somebody who says that they ask, not what."""

_STUB = 3
"""Letters that are left of a word without its prefix at least: "unit" is no "it"."""


@lru_cache(maxsize=4096)
def positive(word: str) -> str | None:
    """Return the word that a folded one says "not" to: "safe" of "unsafe", "sugar" of "sugarless".

    What is left may be no word ("der" of "under"); that does no harm, as nobody else says it.
    """
    if word in _UNKNOWING:
        return None
    for prefix in ("un", "non"):
        if word.startswith(prefix) and len(word) >= len(prefix) + _STUB:
            return word.removeprefix(prefix)
    if word.endswith("less") and len(word) >= len("less") + _STUB:
        return word.removesuffix("less")
    return _NEGATIVE.get(word)


NEGATIONS = frozenset(
    listed("""
    not never none unable without cannot nobody nothing neither nor nowhere no non dont doesnt
    didnt isnt arent wasnt werent wont wouldnt shouldnt couldnt cant havent hasnt hadnt aint
    mustnt neednt except excepting exclude excludes excluded excluding refrain refrains
    refraining abstain
    """)
)

DAYS_AND_MONTHS = """
monday tuesday wednesday thursday friday saturday sunday january february march april may june july
august september october november december today tomorrow tonight noon midday midnight
"""

CEASING = frozenset(
    listed(
        "stop stops stopped stopping quit quits cease ceases ceased avoid avoids avoided avoiding"
    )
)
"""Verbs that deny the one after them: "stop watering"."""

FORGETTING = frozenset(
    listed("forget forgets forgot forgetting fail fails failed failing neglect neglects neglected")
)
"""Verbs that deny the one after "to": "forget to water"."""

PARTICLES = {
    "on": frozenset({"turn", "switch", "power"}),
    "off": frozenset({"turn", "switch", "power", "shut", "log", "sign"}),
    "in": frozenset({"log", "sign", "check", "opt", "zoom"}),
    "out": frozenset({"log", "sign", "check", "opt", "zoom"}),
    "up": frozenset({"turn", "scale", "sign", "set", "top", "back"}),
    "down": frozenset({"turn", "scale", "bring"}),
}
"""Particles that make another verb of the verb before them."""

_LOOSE = frozenset(
    listed("up out off down over away back through around along together forward apart aside")
)
"""Particles that may stand behind the object of their verb: "call the match off"."""

ALL_PARTICLES = _LOOSE | frozenset(listed("in on at to for with of by about after into across"))
"""Whatever makes a verb of several words of the one before it."""

ALIKE_ENDINGS = frozenset(
    listed("""
    cy ci z e s y es ed er ers or ors ion ions ation ations ment ments ness ity al ally ly ive able
    ible ful ing ings ence ance ent ant ous ic ical ist ism ize ise ized ising i ies ier iest
    est th n an ian ish ese
    """)
) | {""}
"""What may follow a common front of two forms of one word ("manage", "management")."""


# Words of one meaning: ``stem`` brings the inflections of a word together, ``canonical`` its close
# synonyms too, and ``alike`` tells of two words that may stand for each other.


_IRREGULAR = dict(
    pair.split("/")
    for pair in listed("""
    bought/buy sold/sell sent/send lost/lose paid/pay went/go gone/go made/make found/find
    kept/keep took/take taken/take gave/give given/give told/tell wrote/write written/write
    ran/run running/run broke/break broken/break chose/choose chosen/choose stole/steal
    stolen/steal spent/spend built/build caught/catch taught/teach thought/think brought/bring
    got/get men/man women/woman children/child people/person wives/wife feet/foot teeth/tooth
    mice/mouse used/use uses/use using/use won/win drew/draw drawn/draw grew/grow grown/grow
    began/begin begun/begin stuck/stick held/hold met/meet led/lead lent/lend slept/sleep
    ate/eat eaten/eat drank/drink drunk/drink drove/drive driven/drive flew/fly flown/fly
    risen/rise fell/fall fallen/fall knew/know known/know saw/see seen/see
    showed/show shown/show has/have had/have having/have froze/freeze frozen/freeze an/a
    forgot/forget forgotten/forget spoke/speak spoken/speak woke/wake woken/wake sang/sing sung/sing
    swam/swim swum/swim wore/wear worn/wear rode/ride ridden/ride hid/hide hidden/hide shook/shake
    shaken/shake threw/throw thrown/throw bitten/bite blew/blow blown/blow became/become came/come
    dug/dig fed/feed felt/feel fought/fight hung/hang heard/hear meant/mean proven/prove said/say
    sat/sit shot/shoot stood/stand struck/strike swept/sweep tore/tear torn/tear
    understood/understand
    lives/live lying/lie dying/die died/die dies/die tied/tie ties/tie
    """)
)


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Return the common form of a folded word's inflections, itself not always a word."""
    if "_" in word:
        head, _, particles = word.partition("_")
        return f"{stem(head)}_{particles}"
    word = _IRREGULAR.get(word, word)
    if len(word) > _STUB and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-3] + "y" if word.endswith("ies") and len(word) > _STUB + 1 else word[:-1]
    for ending in ("ing", "ed"):
        front = word.removesuffix(ending)
        if front != word and len(front) >= _STUB and _has_vowel(front) and word[-3:] != "eed":
            word = front
            break
    if len(word) <= _STUB:
        return word
    if word[-1] in (word[-2], "e"):
        return word[:-1]
    if word[-1] == "y" and word[-2] not in "aeiou":
        return word[:-1] + "i"
    return word


def _has_vowel(text: str) -> bool:
    return any(letter in "aeiouy" for letter in text)


def _synonyms() -> dict[str, str]:
    groups = (group.split() for group in SYNONYMS.split(";"))
    return {stem(word): stem(group[0]) for group in groups for word in reversed(group)}


_CANONICAL = _synonyms()


@lru_cache(maxsize=8192)
def canonical(word: str) -> str:
    """Return one form for all inflections and synonyms of a folded word."""
    form = stem(word)
    return _CANONICAL.get(form, form)


WORDNET = "wordnet.txt"
"""The file beside this one with groups of words of one meaning, taken from WordNet 3.1."""


@lru_cache(maxsize=1)
def groups() -> Mapping[str, Set[int]]:
    """Return stems and canonical forms -> numbers of the groups of like words they are in.

    Read at the first use: the groups of ``word_lists.ALIKE``, and those of WordNet. A line "a: b c"
    is of a word and others that may stand for it, but not for each other.
    """
    lines = files(__package__).joinpath(WORDNET).read_text("utf-8").splitlines()
    every = [*ALIKE.split(";"), *(line for line in lines if not line.startswith("#"))]
    found: dict[str, set[int]] = {}
    numbers_of: dict[str, list[set[int]]] = {}
    for place, line in enumerate(every):
        word, colon, others = line.partition(":")
        pairs = [(word, other) for other in others.split()] if colon else [line.split()]
        for number, group in enumerate(pairs):
            for each in group:
                known = numbers_of.get(each)
                if known is None:
                    form = stem.__wrapped__(each)
                    forms = {form, _CANONICAL.get(form, form)}
                    known = numbers_of[each] = [found.setdefault(form, set()) for form in forms]
                for numbers in known:
                    numbers.add(place + number * len(every))
    return found


def _members() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for word, form in _CANONICAL.items():
        found.setdefault(form, {form}).add(word)
    return {form: frozenset(words) for form, words in found.items()}


_MEMBERS = _members()

_NOWHERE: frozenset[int] = frozenset()


@lru_cache(maxsize=8192)
def meanings(term: str) -> frozenset[str | int]:
    """Return what a term may mean: its own form, and the groups of like words it is in."""
    forms = _degrees(term)
    return frozenset(forms).union(*(groups().get(form, _NOWHERE) for form in forms))


def alike(one: str, other: str) -> bool:
    """Tell whether two terms may stand for each other where all else is the same."""
    return not meanings(one).isdisjoint(meanings(other))


def _degrees(term: str) -> tuple[str, ...]:
    """Return a term and, for "quickest", "quicker" and "quickly", what may be "quick"."""
    if term.endswith("li") and len(term) > _STUB + 1:
        return term, canonical(term[:-2])  # "safely", as canonical gives it
    for ending in ("est", "er"):
        base = term.removesuffix(ending)
        if base != term and len(base) >= _STUB:
            base = base[:-1] + "y" if base.endswith("i") else base
            return term, canonical(base), canonical(base[:-1])
    return (term,)


def spellings(term: str) -> frozenset[str]:
    """Return the stems of all words that have this canonical form."""
    return _MEMBERS.get(term) or frozenset({term})


IDLE = STOP | {canonical(word) for word in STOP} | {",", "~"}
"""Terms that carry no content of their own, as ``canonical`` gives them."""

FILLERS = frozenset(
    map(
        canonical,
        listed("""
        exactly really actually basically currently current now right simply quickly easily
        possible possibly already yet still immediately correctly properly successfully usually
        usual normal normally general generally typical typically sometimes ever own well total
        whole wanna gotta think idea mind advise bother allowed permitted eligible able
        use try happen occur exist exists located available turn seem appear become look feel keep
        come take process procedure step method detail information thing item list part concept
        meaning kind type sort purpose case reason world person people minus forget
        earth hell plz pls ask excuse pardon hope appreciate curious grateful glad love favor favour
        understand learn figure mind assistance hear supposed manage option confirm
        clarify wonder somebody someone
        """),
    )
) | {canonical(word) for word in NEGATIONS}
"""Terms that add next to nothing to what is asked: light verbs, adverbs, and names of classes; and
negations, which are compared by themselves."""

CANCELLING = frozenset(
    map(
        canonical,
        listed("cancel end terminate disable unsubscribe deactivate leave block mute remove close"),
    )
)
"""What is said in place of a verb of CEASING and another: "unsubscribe", "stop receiving"."""

CEASED = frozenset(map(canonical, CEASING))

NO_GERUNDS = frozenset(
    listed("""
    anything something nothing everything thing during morning evening king ring spring string
    building buildings ceiling wedding weddings meeting meetings bullying crying
    """)
)
"""What may stand after a verb of CEASING and is a thing: "stop a meeting"."""

FAILURES = frozenset(
    canonical(word)
    for word in listed("""
    fail failure refuse decline reject deny lack miss missing broken break wrong stop prevent
    avoid error impossible block remove lose less bad problem freeze fix pending stuck
    disappear vanish gone delay
    """)
)
"""Canonical words that often stand where another says "not": "failed", "did not go through"."""

UNKNOWING = frozenset(map(canonical, listed("know understand sure certain idea figure clue mind")))
"""Terms after "I do not": somebody says that they ask, not what."""

UNABLE = frozenset(map(canonical, listed("find see remember recall locate figure tell sense")))
"""Terms after "I can not" that say the same: "I can't find my PIN", "where is my PIN"."""


# Classes of everyday words of which one excludes the others: places, colours, languages, products.
#
# Two questions that differ in two members of one class ask different things, in lower case too,
# where nothing marks a name. Only classes whose members are never synonyms of each other belong
# here.


def _numbered(classes: str) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, words in enumerate(classes.split(";")):
        for word in words.split():
            found.setdefault(canonical(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


ALTERNATIVES = _numbered(CLASSES)
"""Canonical word -> numbers of the classes that it is in."""


CASED = frozenset(
    listed("polish turkey china guinea jersey nice reading bath mobile cologne cork march august")
)
"""Words that name a place, a language or a month with a capital, and another thing without."""

CAPITALS = frozenset(listed("who us aids"))
"""Words that are abbreviations in capitals, and another thing in small letters."""


# Words that say which one is meant, of which one excludes the others: for whom, which plan, when.


QUALIFIERS = _numbered(QUALIFYING)
"""Canonical word -> numbers of the classes of qualifiers that it is in."""

PREFIXED = frozenset(
    listed("self off ex semi anti pro co pre post sub super multi mini mid all over under")
)
"""Words that make another word of the one after a hyphen: self-employed, off-peak."""


# Everyday English words of opposite meaning.
#
# A pair stands for all inflections and synonyms of its words; a domain's own words are no business
# of this file.


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in OPPOSITES.split():
        one, other = map(canonical, pair.split("/"))
        if one != other:
            found.setdefault(one, set()).add(other)
            found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


_KNOWN = _opposites()

_PREFIXES = [
    sides
    for pair in listed("""
    hypo/hyper hypo/hypero up/down in/out in/ex im/ex over/under pre/post inter/intra micro/macro
    """)
    for sides in (tuple(pair.split("/")), tuple(pair.split("/")[::-1]))
]

_ENDINGS = (("ful", "less"), (stem("less"), "ful"))


@lru_cache(maxsize=8192)
def opposites(term: str) -> frozenset[str]:
    """Return canonical words of the opposite meaning: listed ones, "up…" and "down…", "…less".

    What a changed prefix or ending makes may be no word ("outcrease"); that does no harm.
    """
    others = {
        canonical(opposite + term.removeprefix(prefix))
        for prefix, opposite in _PREFIXES
        if term.startswith(prefix) and len(term) >= len(prefix) + _STUB
    }
    for ending, opposite in _ENDINGS:
        if term.endswith(ending) and len(term) >= len(ending) + _STUB:
            others.add(canonical(term.removesuffix(ending) + opposite))
    return _KNOWN.get(term, frozenset()) | others


_FRONT = 4
"""Letters that two forms of one word have in common at least."""


def inflected(one: str, other: str) -> bool:
    """Tell whether two words are forms of one word, by a common front and usual endings."""
    if one[:_FRONT] != other[:_FRONT]:
        return False
    front = shared(one, other)
    endings = one[front:], other[front:]
    if "t" in endings and front > _FRONT:
        endings = endings[0].removeprefix("t"), endings[1].removeprefix("t")  # "complaint"
    return ALIKE_ENDINGS.issuperset(endings)


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Count the items that two sequences have in common from their beginning on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


# Slips of the pen: two spellings of one word, and not two words.


_SLIP = 4
"""Letters that the shorter of two spellings has at least; six where one letter is wrong."""

_TWO_WORDS = frozenset(
    tuple(sorted(map(stem, pair.split("/"))))
    for pair in listed("""
    adapt/adopt alert/alter altar/alter angel/angle better/butter beach/bleach brand/bread
    breast/breath broad/board carton/cartoon casual/causal collage/college coma/comma
    complement/compliment complex/complete conserve/converse contact/contract contain/continue
    corps/corpse costume/custom council/counsel counter/country counter/county country/county
    country/counter credible/creditable dairy/diary decent/descent desert/dessert devise/device
    diner/dinner election/erection exit/exist expansive/expensive farther/father form/from
    genius/genus heroin/heroine hostel/hotel human/humane induction/instruction
    ingenious/ingenuous invent/invest junction/injunction lighting/lightning loose/lose
    marital/martial master/matter mental/metal minister/minster monkey/money moral/mortal
    mortal/mortar mouth/month muscle/mussel organic/organize pain/paint partial/particle
    personal/personnel perspective/prospective place/palace plaintiff/plaintive plan/plain
    plane/plain poplar/popular powder/power preposition/proposition presence/presents
    principal/principle process/princess processor/professor project/protect quiet/quite
    react/relate rein/resign regard/reward remain/remind reserve/reverse respectful/respective
    reverse/revert sauce/source shot/short shower/slower slot/slit sting/string station/statin
    stationary/stationery statue/status status/statute statue/statute stitch/switch
    strain/strange sugar/sulfur test/text thought/though thought/through though/through
    trail/trial trip/tip united/untied vacation/vocation weather/whether warm/worm wander/wonder
    word/world
    """)
)
"""Words one letter apart that writers mean as they stand."""


def phrasal(term: str, words: Sequence[str]) -> Iterator[str]:
    """Yield the verbs that a term makes with particles behind it: "cal_off" of "call it off"."""
    for at, word in enumerate(words):
        if word in STOP or canonical(word) != term:
            continue
        for place in range(at + 1, min(at + 5, len(words))):
            particle = words[place]
            if particle in _LOOSE or (particle in ALL_PARTICLES and place == at + 1):
                then = words[place + 1] if place + 1 < len(words) else ""
                for verb in spellings(term):
                    yield f"{verb}_{particle}"
                    if then in ALL_PARTICLES:
                        yield f"{verb}_{particle}_{then}"


def exchangeable(one: str, other: str) -> bool:
    """Tell whether one term may stand in the place of another without asking another thing.

    They are alike, or two spellings of one word.
    """
    if alike(one, other):
        return True
    return any(_misspelt(a, b) for a in spellings(one) for b in spellings(other))


def _misspelt(one: str, other: str) -> bool:
    """Tell whether one letter inside a word is missing, wrong, or has changed places."""
    if one[0] != other[0] or one[-1] != other[-1] or abs(len(one) - len(other)) > 1:
        return False
    if tuple(sorted((one, other))) in _TWO_WORDS or (_is_known(one) and _is_known(other)):
        return False
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < _SLIP or "_" in longer:
        return False
    front = next(
        (at for at, pair in enumerate(zip(shorter, longer, strict=False)) if pair[0] != pair[1]),
        len(shorter),
    )
    if len(shorter) < len(longer):
        return shorter[front:] == longer[front + 1 :]
    moved = shorter[front : front + 2] == longer[front : front + 2][::-1]
    if moved and shorter[front + 2 :] == longer[front + 2 :]:
        return True
    return len(shorter) >= _SLIP + 2 and shorter[front + 1 :] == longer[front + 1 :]


def _is_known(term: str) -> bool:
    return term in groups() or term in ALTERNATIVES or term in _KNOWN or term in STOP


# Which language a text is in: common small words, as ``fold`` spells them.


FOREIGN = frozenset(listed(FOREIGN_WORDS.replace(";", " ")))
"""Small words of some twenty other languages in Latin letters."""

OFTEN_FOREIGN = frozenset(listed(OFTEN_FOREIGN_WORDS))
"""Small words of other languages that are names or abbreviations in English."""

ENGLISH = STOP - FOREIGN - OFTEN_FOREIGN - frozenset(listed(ENGLISH_AND_FOREIGN))
"""Small words of English alone."""

LOANED = frozenset(
    listed("""
    cafe naive resume facade cliche fiance fiancee creme brulee jalapeno pinata expose passe touche
    decor entree deja saute souffle pate puree protege risque vis-a-vis uber senor senora aperitif
    soiree melee role creche elite coup communique samsung unstrung fahrenheit
    """)
)
"""Words with an accent that English took over."""


# Words that ``grammar`` knows.


PEOPLE = frozenset(
    map(
        canonical,
        listed("""
        child baby toddler son daughter teenager kid wife husband spouse partner girlfriend
        boyfriend mother father parent grandmother grandfather grandparent brother sister sibling
        cousin uncle aunt nephew niece friend neighbour neighbor roommate boss manager employer
        employee colleague coworker assistant landlord tenant doctor patient teacher student
        lawyer client customer buyer seller agent accountant guest dog cat pet
        """),
    )
)
"""People and animals around who asks."""

BODIES = frozenset(
    map(
        canonical,
        listed("""
        company charity organisation organization school freelancer beginner novice expert foreigner
        citizen resident visitor tourist member pensioner minor adult couple group family driver
        """),
    )
)
"""Whom something may be asked as, besides the people around the asker."""

NO_PAST = frozenset(
    listed("""
    need feed seed speed indeed weed breed bleed exceed proceed succeed embed hundred sacred naked
    wicked red bed shed unneed united limited fed led wed
    """)
)
"""Words that end as participles do, and are none."""

PASTS = frozenset(
    listed("""
    bought sold sent lost paid went made found kept took gave told wrote ran broke chose stole
    spent built caught taught thought brought got won drew grew began stuck held met led lent slept
    ate drank drove flew rose fell knew saw came became sang left said sat stood swam wore spoke
    beat hid rode shook threw woke
    """)
)
"""Irregular forms of the past."""

PARTICIPLES = frozenset(
    listed("""
    bought sold sent lost paid made found kept taken given told written run broken chosen stolen
    spent built caught taught brought drawn grown held led lent eaten drunk driven flown known seen
    shown frozen done gone spoken worn hidden ridden thrown cut put set read
    """)
)
"""Irregular participles."""

TO_OR_FOR = frozenset(
    listed("""
    ticket flight train bus visa way trip direction access application apply entrance key solution
    answer alternative reason cure right cost due subscription subscribe donate registration sign_up
    transfer
    """)
)
"""Terms after which "to" and "for" say one thing."""


def _grouped(table: str) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, group in enumerate(table.split("|")):
        for word in group.split():
            found.setdefault(word, set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


EXCHANGED = {
    "preposition": _grouped(
        "in at on of within inside into|with using by via through over on|for to of with"
        "|about on of regarding concerning|to into onto for|to into onto at in towards"
        "|from of in at by with"
        "|near around by beside next|between among|under below beneath underneath|above over"
        "|during in while on at throughout over|until till to|before till until prior|after since"
        "|opposite across|outside beyond|without|behind|against|despite|like|after following upon"
        "|across through in"
    ),
    "quantifier": _grouped(
        "all every each both everything everyone|some any several few certain"
        "|many several multiple numerous|a an one another either some certain|a an each every|most"
        "|a an any another either some certain|someone anyone"
        "|something anything|none neither"
    ),
    "modal": _grouped(
        "can could may might would do does did|will would shall do does did|should ought shall"
        "|must need|do does did will would"
    ),
    "conditional": _grouped("and|or"),
    "tense": _grouped("is are am|was were|has have|had|do does will would|did"),
}
"""Small words by class; those of one group may stand for each other where all else is the same."""

CLOSED = frozenset().union(*EXCHANGED.values())


def opposed(table: str) -> frozenset[tuple[str, str]]:
    """Read "a b c|d e" as all pairs within a group, in both orders."""
    groups = [group.split() for group in table.split("|")]
    return frozenset((a, b) for group in groups for a in group for b in group if a != b)


OPPOSED = opposed(
    "during before after since until|after by|before by|until by|since by|on before|to from"
    "|from for|to for|from about|to about|for by|about by|with against|for against|with for"
    "|under on|under over|behind front|through around|in under"
    "|behind near|between during|to against|front in|within after|within over"
    "|from until|from before|instead before during after with near by for"
)
"""Classes of prepositions that contradict each other before one noun."""
