"""Say in plain words what keeps a cache from answering more, and what would mend it.

- ``changes`` names the part of the prompt that differs between two scopes.
- ``Milestones`` logs how far the policy has got, and warns when it stops serving.
- ``advice_of`` turns what was counted into one or two sentences, for ``stats().advice``.

No text of a prompt is kept for long, logged or returned: only names of its parts.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

logger = logging.getLogger("tiered_cache")

Path = tuple[Any, ...]


def changes(one: str, other: str) -> str:
    """Name the parts of a prompt that differ between two scopes, given as JSON.

    >>> changes(
    ...     '{"messages": [{"role": "system", "content": "It is 9:15."}]}',
    ...     '{"messages": [{"role": "system", "content": "It is 9:20."}]}',
    ... )
    'the system message (a date or time in it)'
    """
    try:
        scopes = json.loads(one), json.loads(other)
    except ValueError:
        return "a part of the prompt"
    found = dict.fromkeys(_named(path, scopes, a, b) for path, a, b in _apart(*scopes))
    return " and ".join(list(found)[:3]) or "a part of the prompt"


def _apart(one: Any, other: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Yield the places at which two JSON values differ, with what is there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from _apart(one.get(name), other.get(name), (*path, name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from _apart(*pair, (*path, place))
    elif one != other:
        yield path, one, other


def _named(path: Path, scopes: tuple[Any, Any], one: Any, other: Any) -> str:
    """Name a part of the prompt by its place in the scope."""
    what = _kind_of_change(one, other)
    in_it = f" ({what} in it)" if what else ""
    match path:
        case ("messages",):
            found = "the conversation before the question"
        case ("messages", int(place), *_):
            role = _role(scopes[0]["messages"][place])
            is_system = role in ("system", "developer")
            named = f"the {role} message" if is_system else f"message {place + 1}, of the {role}"
            found = named + in_it
        case (_, *_, name) if any("header" in str(part).lower() for part in path):
            found = f"the header {name!r}"
        case ("params", "extra", name, *inner):
            found = f"the setting {'.'.join(map(str, (name, *inner)))!r}{in_it}"
        case ("params", name, *_):
            found = f"the setting {name!r}"
        case (name, *_):
            found = f"the {name} of the request{in_it}"
        case _:
            found = "a part of the prompt"
    return found


def _role(message: Any) -> str:
    """Return who says a message: it is spelt "role" here and "type" there."""
    return str(message.get("role") or "app") if isinstance(message, dict) else "app"


_EDGE = re.compile(r"[\w:./+-]*")
_TIME = re.compile(
    r"\d{1,2}:\d{2}|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct"
    r"|nov|dec)[a-z]*\.? \d|\b1[5-9]\d{8}\b",
    re.IGNORECASE,
)
_ID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}|(?=\w{0,40}\d)(?=\w{0,40}[a-z])[\w-]{6,}|\d{6,}", re.IGNORECASE
)


def _kind_of_change(one: Any, other: Any) -> str:
    """Say of what kind two texts differ in: a time, an id, a number; "" if it is none."""
    if not isinstance(one, str) or not isinstance(other, str):
        return ""
    front = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    shortest = min(len(one), len(other)) - front
    back = next((at for at in range(shortest) if one[-1 - at] != other[-1 - at]), shortest)
    found = [_widened(text, front, len(text) - back) for text in (one, other)]
    for kind, pattern in (("a date or time", _TIME), ("an id", _ID)):
        if all(map(pattern.search, found)):
            return kind
    return "a number" if any(re.search(r"\d", text) for text in found) else ""


def _widened(text: str, start: int, end: int) -> str:
    """Return a piece of a text with the whole words at its edges, and some before it."""
    before = _EDGE.match(text[:start][::-1][:40])
    after = _EDGE.match(text[end : end + 40])
    left = start - len(before[0] if before else "")
    return text[left : end + len(after[0] if after else "")]


# How far the policy has got.


LASTING = 50
"""Labels for which it must have served again before its end is worth another warning."""

LOGGED_AT = (1, 10, 25, 50, 100, 200, 400, 800, 1600, 3200, 6400)
"""Labels at which the progress is logged."""


class Milestones:
    """Logs what becomes of a policy: labels as they come, the begin of serving, and its end.

    ``note`` takes what ``Policy.describe`` returns, each time that labels may have changed it.
    After serving has ended, nothing more is said of it until it has lasted for a while again: an
    app at the limit begins and ends every few labels. ``of`` names whose policy it is, if there are
    several.
    """

    def __init__(self, of: str = "") -> None:
        self._of = f"{of}: " if of else ""
        self._labels = self._since = 0
        self._serves: bool | None = None
        self._ended = False  # a warning says so, and nothing has taken it back
        self._basis: str | None = None

    def note(self, described: Mapping[str, Any]) -> None:
        """Log what has changed since the last time, if it matters."""
        if "share_served" not in described:
            return  # it does not learn from fresh answers
        labels, learning = int(described.get("labels") or 0), described.get("learning")
        serves = learning is None or described.get("serves_from") is not None
        basis = _basis_of(described)
        served, self._serves = self._serves, serves
        if served is not serves:
            self._since = labels
        if served and not serves and not self._ended:
            self._ended = True
            logger.warning("%snothing is served by meaning any more: %s", self._of, learning)
        elif self._ended and serves and labels - self._since >= LASTING:
            self._ended = False
            logger.info("%sanswers are served by meaning again: this rests on %s", self._of, basis)
        elif serves and served is False and not self._ended:
            logger.info("%sanswers are served by meaning now: this rests on %s", self._of, basis)
        elif serves and not self._ended and basis != self._basis and self._basis is not None:
            logger.info("%swhat is served by meaning rests on %s now", self._of, basis)
        elif any(self._labels < at <= labels for at in LOGGED_AT):
            right, wrong = described.get("right"), described.get("wrong")
            far = learning or f"serving, which rests on {basis}"
            logger.info(
                "%slabels: %d (%s right, %s wrong); %s", self._of, labels, right, wrong, far
            )
        self._labels, self._basis = labels, basis if serves else self._basis


def _basis_of(described: Mapping[str, Any]) -> str:
    rests_on = str(described.get("rests_on") or "labels of your own")
    return "labels of your own" if rests_on[:1].isdigit() else rests_on


# What the counters tell.


ENOUGH = 50
"""Lookups before there is any advice."""

MANY = 0.3
"""Share of lookups above which a reason is worth a word."""

REASONS: Mapping[str, str] = {
    "threshold": "The nearest question is less alike than the threshold. tiered-cache tune finds "
    "the lowest that your own labels show to be safe.",
    "absent": "Nobody asked this before. Nothing to do.",
    "new_scope": "Nothing was asked with this system prompt, history and settings. Many of these: "
    "look for a time or an id in the prompt.",
    "guard": "The nearest question differs where it matters, as in a number, a name or a negation. "
    "It is right to ask anew.",
    "learning": "A near answer is not proven yet. Judge answers, or let more traffic come.",
    "risk": "A near answer would be wrong too often. Judge more, or allow more with max_error.",
    "temperature": "The answer is sampled, so only the very same request matches. Ask with "
    "temperature 0 where one answer will do.",
    "time": "The question is about now and matches by its very words alone. Ask for a date.",
    "language": "The guard does not know this language, so only the very same words match. "
    "guard=Guard(any_language=True) with an embedder that knows it lets it be matched.",
    "template": "Question and material are one text, so only the very same text matches. Put the "
    "material into a message of its own.",
    "tool": "A tool's result is matched by its very arguments. Nothing to do.",
    "decision": "A decision is matched by its very words and options. Nothing to do.",
    "off": "Matching by meaning is turned off for this call.",
    "multimodal": "There is more than text in it, so only the very same request matches.",
    "opaque": "It is JSON, or has a tool that the provider runs, so only the very same request "
    "matches.",
    "truncated": "It is longer than the embedding model reads, so only the very same text matches. "
    "Shorten it, or take an embedder that reads more.",
    "agent_turn": "A tool's result came last: the model goes on with its work. Nothing to do.",
    "not_user_text": "No text of a user comes last, so only the very same request matches.",
    "verdict": "It asks for a verdict on a text, where every word counts. Nothing to do.",
    "format": "The answer was kept for another kind of client. It is asked for anew, once.",
    "age": "The answer was older than the request allows. Allow more, or ask anew.",
    "bypassed": "The request asked to go past the cache.",
    "namespace": "No namespace was named, and one is required. Name one in the request.",
    "server_state": "The answer depends on what the provider keeps, so it is not cached.",
    "unstable": "Something in the request cannot be told apart for sure, so it is not cached. The "
    "log names it.",
    "loading": "The embedding model was still being loaded. It passes; preload() avoids it.",
    "embedder": "The embedding model failed. Look at /ready and run tiered-cache doctor.",
    "store": "The store failed. Look at /ready and run tiered-cache doctor.",
    "policy": "The threshold policy failed. The log says why.",
}
"""What each reason of a miss means and what to do about it, in a sentence or two."""

_ADVICE: Mapping[str, str] = {
    "temperature": "have a temperature above 0 and are matched exactly only: set temperature=0 "
    "where one answer will do",
    "time": "ask of now or today and are matched exactly only",
    "language": "are in a language that the guard does not know and are matched exactly only: "
    "guard=Guard(any_language=True) with an embedder that knows it lets them be matched",
    "truncated": "are longer than the embedding model reads and are matched exactly only",
    "not_user_text": "end with something else than a user's text and are matched exactly only",
    "loading": "came while the embedding model was loading: preload() loads it before the first",
    "embedder": "found no embedding model that works: run tiered-cache doctor",
    "store": "could not reach the store: run tiered-cache doctor",
    "namespace": "came without a namespace and were passed over",
}


def advice_of(counts: Mapping[str, int], policy: Mapping[str, Any]) -> str:
    """Return one or two sentences on what holds the cache back; "" if nothing does.

    ``counts`` are flat counters, ``policy`` what the policy says of itself.
    """
    lookups = counts.get("lookups", 0)
    if cause := policy.get("new_scopes"):
        return (
            f"Nearly every request comes with something new before the question: {cause}. Nothing "
            "can be matched by meaning."
        )
    if lookups < ENOUGH:
        return ""
    said = [
        *_of_conversations(policy),
        *_of_reasons(counts, lookups),
        *_of_learning(counts, policy),
        *_of_hits(counts, policy),
    ]
    return " ".join(said[:2])


def _of_conversations(policy: Mapping[str, Any]) -> Iterator[str]:
    rewritten = policy.get("standalone") or {}
    if why := rewritten.get("stopped"):
        yield (
            f"Rewritten follow-ups are not served by meaning any more, as {why}. Perhaps "
            f"{rewritten.get('model')} leaves out what answers depend on."
        )


def _of_reasons(counts: Mapping[str, int], lookups: int) -> Iterator[str]:
    new = counts.get("misses:new_scope", 0)
    if new > MANY * lookups:
        yield (
            f"{new:,} of {lookups:,} requests came in a scope in which nothing was asked before: "
            "their system message, history or settings are new, so nothing can be matched by "
            "meaning."
        )
    found = [(counts.get(f"misses:{reason}", 0), text) for reason, text in _ADVICE.items()]
    for count, text in sorted(found, key=lambda each: -each[0]):
        if count > MANY * lookups:
            yield f"{count:,} of {lookups:,} requests {text}."


def _of_learning(counts: Mapping[str, int], policy: Mapping[str, Any]) -> Iterator[str]:
    labels = int(policy.get("labels") or 0)
    explores = counts.get("explores", 0)
    if policy.get("policy") == "feedback" and not labels:
        yield "Feedback() learns from cache.feedback(…) alone, and nobody has called it yet."
    elif explores >= ENOUGH and labels < explores / 5:
        yield (
            f"Labels have stalled: the model was asked {explores:,} times to check a neighbour, "
            f"and {labels:,} answers could be judged. A judge= that knows your answers would help."
        )
    elif policy.get("learning") and "share_served" in policy:
        yield f"Nothing is served by meaning yet: {policy['learning']}."


def _of_hits(counts: Mapping[str, int], policy: Mapping[str, Any]) -> Iterator[str]:
    lookups, exact = counts.get("lookups", 0), counts.get("hits:exact", 0)
    semantic, share = counts.get("hits:semantic", 0), policy.get("share_served")
    if share and not semantic:
        yield (
            f"{exact:,} of {lookups:,} questions were exact repeats; about {100 * share:.0f} % of "
            "the rest could be answered by meaning at the present bound."
        )
    elif semantic:
        yield (
            f"{exact:,} of {lookups:,} questions were exact repeats, and {semantic:,} more were "
            "answered by meaning."
        )
