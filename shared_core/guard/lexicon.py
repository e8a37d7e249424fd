"""Words that the guard treats apart: those that change nothing, and those that say "not"."""

from __future__ import annotations


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

PARTICLES = {
    "on": frozenset({"turn", "switch", "power"}),
    "off": frozenset({"turn", "switch", "power", "shut"}),
    "in": frozenset({"log", "sign", "check", "opt", "zoom"}),
    "out": frozenset({"log", "sign", "check", "opt", "zoom"}),
    "up": frozenset({"turn", "scale", "sign", "set", "top"}),
    "down": frozenset({"turn", "scale"}),
}
"""Particles that make another verb of the verb before them."""

ALIKE_ENDINGS = frozenset(
    listed("""
    e s y es ed er ers or ors ion ions ation ations ment ments ness ity al ally ly ive able
    ible ful ing ings ence ance ent ant ous ic ical ist ism ize ise ized ising i ies ier iest
    est th n an ian ish ese
    """)
) | {""}
"""What may follow a common front of two forms of one word ("manage", "management")."""
