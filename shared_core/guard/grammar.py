"""The grammar of one question: tense, modals, quantifiers, conditions, persons, prepositions.

These are small closed classes of English words that vectors hardly see: "who was", "must I", "all",
"unless", "to you", "during". Whatever people often say in either way of one thing ("why was it
declined", "why is it declined") is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from shared_core.guard.tokens import after_politeness, spelt_out
from shared_core.guard.vocabulary import (
    BODIES,
    CLOSED,
    DAYS_AND_MONTHS,
    EXCHANGED,
    NO_PAST,
    PARTICIPLES,
    PASTS,
    PEOPLE,
    STOP,
    TO_OR_FOR,
    canonical,
    listed,
    opposed,
    shared,
)
from shared_core.guard.word_lists import (
    CLAUSE_MARKERS,
    FIRST,
    FOCUS,
    NONE_AFTER,
    NONE_BEFORE,
    OWNERS,
    PERSONS,
    PHRASES,
    PREPOSITIONS,
    QUANTIFIERS,
    STATED,
)

Sides = tuple[tuple[str, ...], tuple[str, ...]]

_WH = frozenset(listed("what which who whom whose where when why how"))
_PRESENT = frozenset(listed("is are am do does"))
_PAST = frozenset(listed("was were did had"))
_PERFECT = frozenset(listed("has have"))
_BE = frozenset(listed("is are am was were be been being"))
_MODALS = {
    "can": "can", "could": "can", "may": "can", "might": "can", "must": "must",
    "should": "should", "ought": "should", "will": "will", "shall": "will", "would": "",
}  # fmt: skip
_AUXILIARIES = _PRESENT | _PAST | _PERFECT | _MODALS.keys()
_WEAK = frozenset(listed("all any some most many both enough none exactly"))
"""Quantifiers that many leave out: "see all my cards", "see my cards"."""

_ACTING = frozenset({"any", "some", "most", "few"})
"""Quantifiers that count where they open what acts: "can any", "why do few"; not "see any"."""

_ACTED_BY = frozenset({"", "why", "very", "not", "if", ".", "nearly", "almost"}) | _AUXILIARIES

_NOT_CONDITIONS = frozenset(
    listed("know wonder see tell ask check sure matter idea what as say wondering find unsure")
)
"""Words before which "if" and "when" only open what is asked."""

_HARD = frozenset({"only if", "even if", "unless"})
_APART = opposed(
    "if until|if before|while unless|until unless|until only|until while|while before"
    "|once while|once before|once unless|once until"
)

SMALL = frozenset(map(canonical, ("going", "prior", "front", "if", "when", "least"))).union(
    *(
        map(canonical, table)
        for table in (
            *(QUANTIFIERS, PREPOSITIONS, CLAUSE_MARKERS, FOCUS),
            *(_AUXILIARIES, PERSONS, OWNERS),
        )
    )
)
"""Terms that are compared as grammar, and not as content."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the small words of one question say; see ``read_grammar``.

    ``wh`` is the question word or "". ``tense`` is "present", "past", "future", "had" (of "should
    have") or "" where it does not count; ``copula`` says that it is that of "is" or "was".
    ``verbs`` are verbs that carry it themselves, each with whether it is past. ``modal`` is "can",
    "must", "have to", "need", "should", "will" or "". ``persons`` tells who acts, in order;
    ``owners`` and ``relations`` are nouns with whose they are, and with their prepositions.
    ``done`` and ``undone`` are a pronoun with its verb, as in "I ordered" and "I did not order";
    ``capacity`` is what somebody asks as: "as a student". ``time`` is "future" or "past" where all
    of the text is. ``mine`` says that it is about the asker, ``passive`` that something is done to
    somebody, ``single`` that the text is one clause.
    """

    wh: str = ""
    tense: str = ""
    copula: bool = False
    verbs: frozenset[tuple[str, bool]] = frozenset()
    modal: str = ""
    quantifiers: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()
    focus: frozenset[str] = frozenset()
    persons: tuple[str, ...] = ()
    owners: frozenset[tuple[str, str]] = frozenset()
    relations: frozenset[tuple[str, str]] = frozenset()
    done: frozenset[tuple[str, str]] = frozenset()
    undone: frozenset[tuple[str, str]] = frozenset()
    capacity: frozenset[str] = frozenset()
    time: str = ""
    mine: bool = False
    passive: bool = False
    single: bool = True


NO_GRAMMAR = Grammar()


def read_grammar(words: Sequence[str]) -> Grammar:
    """Read the small words of a text: its words, folded, with its marks of punctuation."""
    said = after_politeness(spelt_out(words))
    at = _question(said)
    clause = _clause(said, at)
    wh = clause[0] if clause and clause[0] in _WH else ""
    mine = not _FIRST_PERSON.isdisjoint(said)
    passive = any(map(_is_participle, clause[1:]))
    tense, copula, verbs = _tense(clause, wh, mine, passive)
    persons = _persons(said)
    return Grammar(
        "what" if wh == "which" else wh,
        tense,
        copula,
        verbs,
        _modal(clause, wh),
        _quantifiers(said),
        *_conditions(said, at),
        persons,
        _owners(said),
        _relations(said),
        *_deeds(said),
        _capacity(said),
        _time(said),
        mine,
        passive,
        _JOINTS.isdisjoint(said[:-1])
        and ("because" not in said or ("because", "of") in pairwise(said)),
    )


_JOINTS = frozenset({",", ".", "and", "but"})
_FIRST_PERSON = FIRST.keys() | {"my", "our", "mine"}


def _question(said: Sequence[str]) -> int | None:
    """Return where the question begins; None in a statement."""
    opening, embedded = True, None
    for place, word in enumerate(said):
        if word in _WH or (opening and word in _AUXILIARIES):
            after = said[place + 1] if place + 1 < len(said) else ""
            if opening and not (word in ("when", "where") and after not in _AUXILIARIES):
                return place
            if embedded is None and word in _WH and after in _AUXILIARIES:
                embedded = place
        opening = word in (".", ",")
    return embedded


def _clause(said: Sequence[str], at: int | None) -> list[str]:
    if at is None:
        return []
    clause: list[str] = []
    for word in said[at:]:
        if word == "." or (clause and word in ("if", "unless", "because", "that")):
            break
        clause.append(word)
    return clause


@lru_cache(maxsize=4096)
def _is_participle(word: str) -> bool:
    return word in PARTICIPLES or (word.endswith("ed") and word not in NO_PAST)


def _is_past(word: str) -> bool:
    return word in PASTS or (word.endswith("ed") and word not in NO_PAST)


_NO_VERBS: frozenset[tuple[str, bool]] = frozenset()


def _time(said: Sequence[str]) -> str:
    """Return "past" or "future" if words of that alone are in a text."""
    past = [word for before, word in pairwise(said) if before not in _BE and _is_past(word)]
    if "will" in said or ("going" in said and ("going", "to") in pairwise(said)):
        return "" if past else "future"
    return "past" if past or said[:1] in (["was"], ["were"], ["did"]) else ""


def _auxiliary(clause: Sequence[str]) -> int | None:
    """Return the place of the first auxiliary of a clause."""
    for place, word in enumerate(clause[:8]):
        if word == ",":
            return None
        if word in _AUXILIARIES:
            return place
    return None


def _tense(
    clause: Sequence[str], wh: str, mine: bool, passive: bool
) -> tuple[str, bool, frozenset[tuple[str, bool]]]:
    """Return the tense of a question, whether "be" carries it, and verbs that carry it."""
    if wh == "why" or "happened" in clause or "happens" in clause:
        ahead = wh == "why" and clause[1:2] == ["will"] and "not" not in clause[2:4]
        return "future" if ahead else "", False, _NO_VERBS
    place = _auxiliary(clause)
    if place is None:
        words = clause[1:6] if wh else ()
        return "", False, frozenset([(canonical(word), _is_past(word)) for word in words])
    word, rest = clause[place], clause[place + 1 :]
    passive = passive and (word not in _PERFECT or bool(place) or "been" in rest)
    to_come = word in ("will", "shall") or (
        word in ("is", "are") and ("going", "to") in pairwise(rest)
    )
    there = rest[:1] in (["there"], ["you"]) and word not in _PAST
    if there or (word in _MODALS and not to_come):  # "will there be a fee", "is there a fee"
        had = word in _MODALS and rest[1:2] == ["have"] and any(map(_is_participle, rest[2:4]))
        return "had" if had else "", False, _NO_VERBS  # "should I have paid"
    if passive and mine:  # "is my order sent", "was my order sent"
        tense = "future" if word == "will" else "past" if word in _PERFECT else ""
        return tense if place == 0 else "", False, _NO_VERBS
    if to_come:
        return "future", False, _NO_VERBS
    present = word in _PRESENT or (word in _PERFECT and place > 0 and not passive)
    doing = [each for each in rest[:1] if each.endswith("ing") and present and word in _BE]
    verbs = frozenset((canonical(each), False) for each in doing)
    return "present" if present else "past", word in _BE and not passive, verbs


def _modal(clause: Sequence[str], wh: str) -> str:
    """Return what may, must or should be done; "" where people say it in any way."""
    place = None if wh in ("how", "why") else _auxiliary(clause)
    if place is None:
        return ""
    word, rest = clause[place], clause[place + 1 :]
    if rest[:1] == ["you"] or (wh == "what" and "do" in rest):
        return ""
    if word == "will" and rest[:1] in (["i"], ["we"]):
        return ""
    if word in ("do", "does", "did"):
        return next((_NEEDS[pair] for pair in pairwise(rest) if pair in _NEEDS), "")
    if word in _BE:
        return next((STATED[each] for each in rest if each in STATED), "")
    return _MODALS.get(word, "")


_NEEDS = {("have", "to"): "have to", ("need", "to"): "need"}


def _quantifiers(said: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    if "one" in said:
        if ("exactly", "one") in pairwise(said):
            found.add("exactly")
        elif ("more", "than") in pairwise(said):
            found.add("many")
    if QUANTIFIERS.keys().isdisjoint(said):
        return frozenset(found)
    for place, word in enumerate(said):
        kind = QUANTIFIERS.get(word)
        if kind is None:
            continue
        before = said[place - 1] if place else ""
        after = said[place + 1] if place + 1 < len(said) else ""
        if before in NONE_AFTER.get(word, "").split():
            if word in ("few", "little") and before in ("a", "quite"):
                found.add("some")
            continue
        if after in NONE_BEFORE.get(word, "").split():
            continue
        there = kind == "few" and before == "there"
        acts = before in _ACTED_BY or after == "of" or word == "either"
        if kind in _ACTING and not acts and not there:
            continue
        if word == "many" and before == "too":
            kind = "too many"
        found.add(kind)
    return frozenset(found)


def _conditions(said: Sequence[str], at: int | None) -> tuple[frozenset[str], frozenset[str]]:
    """Return conditions, and words such as "only" and "even"."""
    found: set[str] = set()
    focus: set[str] = set()
    for place, word in enumerate(said):
        before = said[place - 1] if place else ""
        if word in ("if", "when") and place != at and before not in _NOT_CONDITIONS:
            found.add("even if" if before == "even" else "if")
        elif word in CLAUSE_MARKERS:
            found.add(CLAUSE_MARKERS[word])
        elif (before, word) in (("to", "last"), ("but", "one")):
            focus.add("last but one")
        elif word in FOCUS:
            after = said[place + 1] if place + 1 < len(said) else ""
            if FOCUS[word] in ("nth", "next") and after.endswith("est") and place:
                focus.add("next to most")
            elif word != "even" or ((at is not None or not place) and after not in _NO_FOCUS):
                focus.add(FOCUS[word])
        elif before == "this" and word in _TIMES_NAMED:
            focus.add("this")
        elif before == "at" and word in ("least", "most"):
            focus.add(f"at {word}")
        elif (before, word) in (("prior", "to"), ("long", "as"), ("in", "case")):
            found.add("before" if before == "prior" else "if")
    if "only" in focus and _only_if(said, at):
        found = found - {"if"} | {"only if"}
        focus.discard("only")
    return frozenset(found), frozenset(focus)


def _only_if(said: Sequence[str], at: int | None) -> bool:
    """Tell whether "only" belongs to a condition: "only if", "does it only run when"."""
    asks = at is not None and said[at] in _AUXILIARIES
    return any(pair in _ONLY_IF for pair in pairwise(said)) or (asks and "if" in said)


_ONLY_IF = frozenset({("only", "if"), ("only", "when")})

_TIMES_NAMED = frozenset(listed(f"{DAYS_AND_MONTHS} week weekend month year summer winter"))

_NO_FOCUS = frozenset(listed("if though when number numbers"))


def _persons(said: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for place, word in enumerate(said):
        if word in PERSONS:
            bare = word in ("me", "us") and place and said[place - 1] not in PREPOSITIONS
            found.append(PERSONS[word] + ("o" if bare else ""))
        elif len(word) > 2 and (term := canonical(word)) in PEOPLE:  # noqa: PLR2004
            found.append(term)
    return tuple(found)


def _owners(said: Sequence[str]) -> frozenset[tuple[str, str]]:
    if OWNERS.keys().isdisjoint(said):
        return frozenset()
    return frozenset(
        (canonical(said[place + 1]), OWNERS[word])
        for place, word in enumerate(said[:-1])
        if word in OWNERS and said[place + 1] != "own"
    )


def _relations(said: Sequence[str]) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    place = 0
    while place < len(said):
        relation = PHRASES.get((said[place], said[place + 1])) if place + 1 < len(said) else None
        step = 1 if relation is None else 2
        if relation is None:
            relation = PREPOSITIONS.get(said[place])
        place += step
        if relation:
            if relation == "to" and place > 1 and canonical(said[place - 2]) in TO_OR_FOR:
                relation = "for"
            then = "".join(said[place : place + 1])
            if relation in _NEED_DETERMINER and not (then in _DETERMINED or then[:1].isdigit()):
                continue
            for word in said[place : place + 4]:
                if word == "of":
                    continue
                if word in _OBJECTS or (word not in STOP and word not in PREPOSITIONS):
                    found.add((PERSONS.get(word, "") or canonical(word), relation))
                    break
                if word in PREPOSITIONS or word in (".", ","):
                    break
    return frozenset(found)


_NEED_DETERMINER = frozenset({"to", "from", "for", "by", "about", "with", "against"})
"""Prepositions that are often something else before a bare word: "to pay", "go about paying"."""

_DETERMINED = frozenset(
    listed(f"""
    the a an my your our his her their this that these those me you him them us {DAYS_AND_MONTHS}
    """)
)


def _capacity(said: Sequence[str]) -> frozenset[str]:
    """Return the persons and bodies that follow "as a" and "as an"."""
    if "as" not in said:
        return frozenset()
    return frozenset(
        noun
        for place, pair in enumerate(pairwise(said[:-1]))
        if pair in (("as", "a"), ("as", "an"))
        and ((noun := canonical(said[place + 2])) in PEOPLE or noun in BODIES)
    )


def _deeds(said: Sequence[str]) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """Return what a pronoun does, and what it does not do."""
    found: tuple[set[tuple[str, str]], set[tuple[str, str]]] = set(), set()
    for place, word in enumerate(said):
        if word not in _ACTORS:
            continue
        denied = place > 0 and said[place - 1] == "not"  # "why can't I"
        for then in said[place + 1 : place + 5]:
            if then in ("not", "never"):
                denied = True
            elif then != "else" and then not in _AUXILIARIES:
                if then not in STOP and then not in PREPOSITIONS and then not in _SEEMING:
                    found[denied].add((word, canonical(then)))
                break
    return frozenset(found[0]), frozenset(found[1])


_SEEMING = frozenset(
    listed("think thought believe seem seems seemed appear appears receive received")
)
"""Verbs that are denied for what comes after them: "I did not receive the full amount"."""

_ACTORS = frozenset(listed("i we you he she they it someone somebody"))

_OBJECTS = frozenset(listed("me you him her them us"))


# Two readings of the small words to what differs between them.


def tense_differs(asked: Grammar, cached: Grammar) -> bool:
    """Tell whether one asks of what is, and the other of what was or will be."""
    one, other = asked.tense, cached.tense
    if {asked.time, cached.time} == {"past", "future"} and asked.wh == cached.wh != "why":
        return True
    if "had" in (one, other) or asked.wh == cached.wh == "why":
        return one != other
    if one and other:
        if one == other or "past" in (one, other):
            return one != other
        return not (asked.mine or cached.mine or {asked.wh, cached.wh} & {"how", "when"})
    if asked.verbs and cached.verbs:
        turned = {(verb, not past) for verb, past in asked.verbs}
        return not turned.isdisjoint(cached.verbs)
    return "future" in (one, other) and any(past for _, past in asked.verbs | cached.verbs)


def modal_differs(asked: Grammar, cached: Grammar) -> bool:
    """Tell whether one asks what may be done, and the other what must, should or will."""
    both = {asked.modal, cached.modal}
    if len(both) == 1 or "" in both or both == {"have to", "must"}:
        return False
    if "where" in (asked.wh, cached.wh) and both != {"can", "must"}:
        return False  # "where should I park", "where can I"
    if "need" in both:
        return not both <= {"need", "have to", "must", "should"}
    return both != {"have to", "should"} or not (asked.wh or cached.wh)  # "what do I have to"


def quantifiers_apart(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find "all" where the other side has "some", and "few" where it has nothing."""
    one, other = asked.quantifiers - cached.quantifiers, cached.quantifiers - asked.quantifiers
    every = (one if cached.wh else other) & {"all", "most"}
    if {asked.wh, cached.wh} == {"", "what"} and every:
        return tuple(sorted(one)), tuple(sorted(other))  # "which seats fold", "do all seats fold"
    if one | other == {"none", "any"}:
        return None  # "none of them is", "they are not any"
    if (one and other) or (one | other) - _WEAK:
        return tuple(sorted(one)), tuple(sorted(other))
    return None


def conditions_apart(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find "unless" where the other side has "if", "only if" or no condition."""
    one, other = asked.conditions - cached.conditions, cached.conditions - asked.conditions
    hard = (one | other) & _HARD
    if hard or any((a, b) in _APART for a in one for b in other):
        return tuple(sorted(one)), tuple(sorted(other))
    return None


def focus_apart(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find "only" or "even" that the other side does not say."""
    one, other = asked.focus - cached.focus, cached.focus - asked.focus
    if "only" in one | other and "just" in asked.focus | cached.focus:
        return None
    if (one | other) & {"only", "even", "again", "last but one", "next to most"} or (one and other):
        return tuple(sorted(one)), tuple(sorted(other))
    return None


def roles_apart(
    asked: Grammar, cached: Grammar, mine: frozenset[str], theirs: frozenset[str]
) -> Sides | None:
    """Find who acts, or whose it is, where that is somebody else on the other side.

    ``mine`` and ``theirs`` are the content words that only one side has.
    """
    if asked.persons == cached.persons and asked.owners == cached.owners:
        return None
    sides = _spelt(asked), _spelt(cached)
    others = mine - PEOPLE, theirs - PEOPLE
    if not any(others) and _acts_apart(asked, cached, bool(mine or theirs)):
        return sides
    if not any(others) and _owned_apart(asked, cached):
        return sides
    return None


def _spelt(grammar: Grammar) -> tuple[str, ...]:
    return (*grammar.persons, *(f"{owner}:{noun}" for noun, owner in sorted(grammar.owners)))


def _acts_apart(asked: Grammar, cached: Grammar, people_differ: bool) -> bool:
    one, other = asked.persons, cached.persons
    if asked.passive != cached.passive:
        return False
    if people_differ:  # "can I", "can my child"
        mine = {noun for noun, owner in asked.owners | cached.owners if owner in "13"}
        return not mine.isdisjoint(set(one) ^ set(other))
    if asked.wh != cached.wh or len(one) != len(other):
        return False
    plain, plainer = [each.rstrip("o") for each in one], [each.rstrip("o") for each in other]
    if sorted(plain) == sorted(plainer):
        turned = plain != plainer and any(each.isdigit() for each in plain)
        moved = plain == plainer and one != other and len(one) == 1  # "I call", "call me"
        return asked.single and cached.single and (turned or moved)
    pairs = {frozenset(pair) for pair in zip(plain, plainer, strict=True) if pair[0] != pair[1]}
    both_be = asked.copula and cached.copula
    others = frozenset("13") in pairs or frozenset("23") in pairs
    return (others and (not asked.wh or both_be)) or (frozenset("12") in pairs and both_be)


def _owned_apart(asked: Grammar, cached: Grammar) -> bool:
    """Find a noun that is mine on one side and yours on the other, unless all of it is turned."""
    one, other = _whose(asked), _whose(cached)
    if {frozenset(one), frozenset(other)} == {frozenset("1"), frozenset("2")} and (
        asked.persons and cached.persons
    ):
        return False  # "how do I change my", "how do you change your"
    theirs = dict(cached.owners)
    return any(noun in theirs and theirs[noun] != owner for noun, owner in asked.owners)


def _whose(grammar: Grammar) -> set[str]:
    return {p[0] for p in grammar.persons if p[0].isdigit()} | {o for _, o in grammar.owners}


def contradiction(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find "I did not order" on one side where the other says "I ordered", and only that."""
    for one, other in ((asked, cached), (cached, asked)):
        against = (one.undone & other.done) - one.done - other.undone
        if against:
            who, verb = min(against)
            said, denied = (f"{who} {verb}",), (f"{who} not {verb}",)
            return (denied, said) if one is asked else (said, denied)
    return None


def actors_apart(asked: Sequence[str], cached: Sequence[str]) -> Sides | None:
    """Find another actor in the same words: "who trains", "whom does"; "can I", "can my boss"."""
    sides = _sought(asked), _sought(cached)
    if {*sides} != {"actor", "other"}:
        sides = _acting(asked), _acting(cached)
        who = next((each for each in sides if each and each != "1"), "")
        if {*sides} != {"1", who} or not who or not _BY_OTHERS.isdisjoint((*asked, *cached)):
            return None
    return sides[:1], sides[1:]


def doers_apart(asked: Grammar, cached: Grammar) -> Sides | None:
    """Find a verb that the asker does on one side, and somebody else on the other."""
    for verb in sorted({verb for _, verb in asked.done} & {verb for _, verb in cached.done}):
        sides = [{who for who, what in each.done if what == verb} for each in (asked, cached)]
        for one, other in (sides, sides[::-1]):
            if one <= _ASKER and other <= _SOMEBODY:
                return (f"{min(sides[0])} {verb}",), (f"{min(sides[1])} {verb}",)
    return None


_ASKER = frozenset({"i", "we"})
_SOMEBODY = frozenset(listed("he she someone somebody"))

_BY_OTHERS = frozenset({"be", "been", "being", "get"})


def _acting(words: Sequence[str]) -> str:
    """Return who acts in a question, by its auxiliary: "1" for the asker."""
    at = int(words[0] in _WH) if words else 0
    helper, who, then = (*words[at : at + 3], "", "", "")[:3]
    if helper not in _AUXILIARIES - _BE:
        return ""
    return "1" if who in ("i", "we") else canonical(then) if who in OWNERS and then else ""


def _sought(words: Sequence[str]) -> str:
    """Tell "who trains the teacher", an actor, from "whom does the teacher train", the other."""
    if ("who" not in words and "whom" not in words) or "by" in words:
        return ""
    at = next(at for at, word in enumerate(words) if word in ("who", "whom"))
    then, third = (*words[at + 1 : at + 3], "", "")[:2]
    helped = then in ("do", "does", "did", "to") or third in ("i", "you", "he", "she", "we", "they")
    done = then in ("is", "are", "was", "were") and third.endswith(("ed", "en"))
    return "other" if words[at] == "whom" or helped or done else "actor"


# One small word in the place of another, where all the rest is the same word by word.


AGREEING = {"does": "do", "are": "is", "were": "was", "has": "have"}
"""Forms that follow the number of who acts: "does the bank", "do the banks"."""


def _asks_freely(before: Sequence[str], pair: set[str]) -> bool:
    """Tell whether two modals say one behind these words: "what", "how"; not "how often"."""
    if _WH.isdisjoint(before):
        return False
    return before[-1] in _WH or "how" not in before or not pair.isdisjoint(("do", "does", "did"))


_MEASURES = frozenset(listed("many much long often far old big tall fast high deep wide"))


def asked_apart(asked: Sequence[str], cached: Sequence[str]) -> Sides | None:
    """Find "why" where the other side asks "how", "how many" or the like for all the rest."""
    at = shared(asked, cached)
    one, other = asked[at : at + 1], cached[at : at + 1]
    if at and asked[at - 1] == "how" and _MEASURES.issuperset((*one, *other)):
        at -= 1
    elif not one or not other or not _WH.issuperset((*one, *other)):
        return None
    (mine, rest), (theirs, other_rest) = _asking(asked[at:]), _asking(cached[at:])
    both = {mine, theirs}
    if both in _ASKED_ALIKE or len(both) == 1 or len(rest) != len(other_rest):
        return None
    if "what" in both and (both & {*_HOW_MUCH} or not _TIME.isdisjoint(rest)):
        return None  # "what is the fee", "how much is the fee"; "what is the best time to"
    if both == {"how", "why"} and _FIRST_PERSON.isdisjoint(rest[:3]):
        return None  # "how do volcanoes erupt"
    if all(a == b or canonical(a) == canonical(b) for a, b in zip(rest, other_rest, strict=True)):
        return (mine,), (theirs,)
    return None


_ASKED_ALIKE = ({"how", "where"}, {"how", "what"}, {"what", "where"}, {"what", "who"})
_HOW_MUCH, _TIME = {f"how {each}" for each in _MEASURES}, frozenset(("time", "date", "day"))


def _asking(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Split what is asked for from the rest: "how many", "when", "what"."""
    first, then = (*words[:2], "")[:2]
    if first == "how" and then in _MEASURES:
        return f"how {then}", words[2:]
    if first in ("what", "which") and then == "time":
        return "when", words[2:]
    if first == "which" and then != "of":
        first = "what"
    return {"whom": "who", "whose": "who"}.get(first, first), words[1:]


def small_word_exchanged(asked: Sequence[str], cached: Sequence[str]) -> tuple[str, Sides] | None:
    """Find one small word in the place of another of its class, and the class: "at", "after"."""
    if len(asked) != len(cached):
        return None
    at = -1
    for place, one in enumerate(asked):
        other = cached[place]
        if AGREEING.get(one, one) == AGREEING.get(other, other):
            continue
        if one in CLOSED or canonical(one) != canonical(other):
            if at >= 0 or one not in CLOSED or other not in CLOSED:
                return None
            at = place
    if at < 0:
        return None
    one, other = asked[at], cached[at]
    for kind, groups in EXCHANGED.items():
        if one not in groups or other not in groups or groups[one] & groups[other]:
            continue
        freely = asked[at + 1 : at + 2] == ("you",) or _asks_freely(asked[:at], {one, other})
        if kind == "modal" and freely:
            continue  # "how can I", "how should I"; "could you", "must you"
        if kind == "tense" and at:
            continue  # "why was it declined", "why is it declined"
        return kind, ((one,), (other,))
    return None
