"""Turn what speaks for and against a candidate into numbers, for the verified policy. Pure.

candidates --drop what the guard forbids--> answer groups vote --> nearest of the best --> values
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared_core.guard import IDLE, Difference, Reading, read
from shared_core.thresholds.policy import Candidate

FORBIDDEN = frozenset(
    {"number", "date", "version", "negation", "direction", "quote", "symbol", "script", "unread"}
)
"""Kinds of difference that no evidence outweighs."""

WEIGHED = frozenset({"addition"})
"""Kinds that are no objection here: the features of the words weigh what one side adds."""

FIGURES = frozenset({"number", "date"})

OBJECTIONS = (
    *("other", "name", "opposite", "content", "exchange", "qualifier", "unit", "identifier"),
    *("frame", "notation", "tense", "modal", "quantifier", "conditional", "focus", "role"),
    *("preposition", "number", "date"),
)
"""What speaks against a candidate in plain words; each is a bit of ``Evidence.objections``."""

_BITS = {kind: 1 << bit for bit, kind in enumerate(OBJECTIONS)}

FEATURES = (
    *("bias", "cosine", "above .8", "above .9", "closeness"),
    *("margin", "vote", "group cosine", "members", "alone", "crowd"),
    *("name", "opposite", "content", "other kind"),
    *("reordered", "same words", "length ratio", "one word"),
    *("fewer words", "more words", "within", "shared", "exchanged", "asks another", "length"),
    *("cosine of long", "cosine of differing", "cosine of exchanged"),
    *("vote of members", "margin within"),
)
"""The features, in the order of ``Evidence.values``."""

VOTE_WIDTH = 0.05
"""A neighbour this much farther than the nearest has 1/e of its vote."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The case for one candidate: its index, its answer group, and one value for each of FEATURES.

    ``objections`` has a bit for each kind of OBJECTIONS that speaks against it; a kind that is not
    listed there is "other".
    """

    index: int
    group: str
    values: tuple[float, ...]
    objections: int = 0


def forbids(difference: Difference) -> bool:
    """Say whether a difference drops a candidate outright.

    Of numbers and dates only those that contradict each other do. One that the other side does not
    mention ("for 3 days now") is weighed: in a long text it seldom decides the answer.
    """
    if difference.kind in FIGURES and not (difference.asked and difference.cached):
        return False
    return difference.kind in FORBIDDEN


def weigh(question: str, candidates: Sequence[Candidate]) -> Evidence | None:
    """Choose the answer group with the most votes and describe one of its members.

    It is the nearest against which nothing speaks, or the nearest if something speaks against each:
    an answer that was given to a question like this one is not held back by what tells it from
    another that was answered alike. ``candidates`` are nearest first. Those with a forbidden
    difference neither vote nor are chosen, but a rival among them still narrows the margin. None if
    no candidate may be chosen.
    """
    allowed = [
        place
        for place, candidate in enumerate(candidates)
        if not any(map(forbids, candidate.differences))
    ]
    if not allowed:
        return None
    groups = [one.group or str(place) for place, one in enumerate(candidates)]
    nearest = candidates[allowed[0]].similarity
    votes: dict[str, float] = {}
    for place in allowed:
        distance = nearest - candidates[place].similarity
        votes[groups[place]] = votes.get(groups[place], 0.0) + math.exp(-distance / VOTE_WIDTH)
    best = max(votes, key=lambda group: votes[group])
    members = [place for place in allowed if groups[place] == best]
    index = next((at for at in members if not _kinds(candidates[at])), members[0])
    chosen = candidates[index]
    rivals = [
        one.similarity for one, group in zip(candidates, groups, strict=True) if group != best
    ]
    rival = rivals[0] if rivals else candidates[-1].similarity - 0.02
    kinds = _kinds(chosen)
    words, exchanged, within = _of_words(read(question), read(chosen.question))
    cosine, length = 5 * (chosen.similarity - 0.75), words[-1]
    margin, vote = 5 * (chosen.similarity - rival), 2 * votes[best] / sum(votes.values()) - 1
    crowd = math.log1p(len(members)) - 1
    values = (
        *_of_similarity(chosen.similarity),
        margin,
        vote,
        2 * sum(candidates[at].similarity for at in members[:3]) / len(members[:3]) - 1.2,
        crowd,
        float(len(candidates) == 1),
        math.log1p(len(candidates)) - 1.5,
        *_of_kinds(kinds),
        *words,
        *(cosine * length, cosine * (not within), cosine * exchanged),
        *(vote * crowd, margin * within),
    )
    objections = 0
    for kind in kinds:
        objections |= _BITS.get(kind, 1)
    return Evidence(index, chosen.group, tuple(round(value, 4) for value in values), objections)


def _kinds(candidate: Candidate) -> set[str]:
    """Return the kinds of difference that speak against a candidate."""
    return {each.kind for each in candidate.differences} - WEIGHED


def _of_similarity(cosine: float) -> tuple[float, ...]:
    return (
        1.0,
        5 * (cosine - 0.75),
        10 * max(0.0, cosine - 0.8),
        20 * max(0.0, cosine - 0.9),
        1 + math.log(max(1e-3, 1.001 - cosine)) / 2,
    )


def _of_kinds(kinds: set[str]) -> tuple[float, ...]:
    known = ("name", "opposite", "content")
    return *(float(kind in kinds) for kind in known), float(bool(kinds.difference(known)))


def _of_words(asked: Reading, cached: Reading) -> tuple[tuple[float, ...], bool, bool]:
    """Return the features of the words; whether one stands for another, and one side adds none."""
    mine, theirs = asked.terms - IDLE, cached.terms - IDLE
    only_mine, only_theirs, both = mine - theirs, theirs - mine, mine & theirs
    fewer, more = sorted((len(only_mine), len(only_theirs)))
    exchanged, within = fewer == more == 1, fewer == 0
    in_order = [[term for term in each.line if term in mine] for each in (asked, cached)]
    values = (
        float(more == 0 and len(mine) > 2 and in_order[0] != in_order[1]),  # noqa: PLR2004
        float(more == 0),
        abs(math.log((len(asked.sequence) + 1) / (len(cached.sequence) + 1))),
        float(more == 1),
        min(fewer, 4) / 4,
        min(more, 4) / 4,
        float(within),
        len(both) / (1 + len(both) + fewer + more),
        float(exchanged),
        float(_asked_for(asked) != _asked_for(cached)),
        math.log1p(len(mine)) - 1.5,
    )
    return values, exchanged, within


_ASKING = {
    **dict.fromkeys(("who", "whom", "whose"), "person"),
    **{"when": "time", "where": "place", "why": "reason"},
}
_OF_WHAT = {
    **dict.fromkeys(("time", "day", "date", "year"), "time"),
    **{"place": "place", "reason": "reason"},
}
_MEASURES = frozenset({"much", "many", "long", "old", "often", "far"})


def _asked_for(reading: Reading) -> set[str]:
    """Return what is asked for: a person, a time, a place, a reason, or how much of what."""
    found, words = set[str](), reading.sequence
    for word, then in zip(words, (*words[1:], ""), strict=True):
        if word == "how" and then in _MEASURES:
            found.add(then)
        elif word == "what" and then in _OF_WHAT:
            found.add(_OF_WHAT[then])
        elif word in _ASKING:
            found.add(_ASKING[word])
    return found
