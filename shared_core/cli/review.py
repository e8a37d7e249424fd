"""Say what a question would hit, and have pairs judged: ``tiered-cache inspect`` and ``review``.

store --records, labels--> Examiner --a question--> Inspection
Examiner --its own questions--> ServedPair --a person's y or n--> label
"""

from __future__ import annotations

import csv
import math
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from shared_core.advice import REASONS
from shared_core.cache import ResponseCache
from shared_core.guard import Difference
from shared_core.learning import REWRITTEN, LabelStore, refused_answers
from shared_core.options import Options
from shared_core.record import EntryId, Neighbour, Record, are_refusals
from shared_core.request import HOME_DIGITS, Request, is_standalone
from shared_core.semantic import QuestionReader
from shared_core.stats import policy_of_all
from shared_core.stores import Store, open_store
from shared_core.thresholds import Decision, Feedback, Policy, Serve, Skip, Static, Verified

_PATIENCE_S = 5.0
"""How long a person waits for a store."""

SHOWN = 5
"""How many neighbours an inspection shows."""


@dataclass(frozen=True, slots=True)
class InspectedNeighbour:
    """A stored question near the one that is inspected, in its scope, and what sets them apart.

    ``entry_id`` is for ``invalidate``; ``age`` is in seconds; ``refused``: feedback said that its
    answer is wrong for this question.
    """

    question: str
    answer: str
    similarity: float
    differences: tuple[Difference, ...]
    refused: bool
    entry_id: str
    age: float


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a question would hit now, and why not.

    ``outcome`` is "hit" or "miss"; ``tier`` "exact", "semantic" or None; ``reason`` that of the
    miss, as ``Miss.reason`` has it, None for a hit. ``why`` says it in words, ``what_to_do`` what
    changes it. ``chance`` is the policy's estimate that the nearest answer is right, 0..1, and
    ``needed`` the least at which it serves, if it is of a kind that estimates. ``policy`` is what
    it says of itself. ``scope`` is the digest of the system message, history, model and settings
    that the neighbours were asked with; ``scopes`` counts all that the store holds answers for.
    """

    question: str
    outcome: Literal["hit", "miss"]
    tier: Literal["exact", "semantic"] | None
    reason: str | None
    why: str
    what_to_do: str
    answer: str | None
    similarity: float | None
    chance: float | None
    needed: float | None
    neighbours: tuple[InspectedNeighbour, ...]
    scope: str | None
    scopes: int
    entries: int
    policy: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the inspection for a person to read."""
        if self.tier is None:
            yield f"miss ({self.reason}): the model would be asked. {self.why}"
        else:
            cosine = "" if self.similarity is None else f", similarity {self.similarity:.3f}"
            yield f"hit ({self.tier}{cosine}). {self.why}"
            yield f"answer: {_short(self.answer or '')}"
        if self.chance is not None:
            needed = "" if self.needed is None else f"; served from {100 * self.needed:.1f} % on"
            yield f"chance that the answer is right: {100 * self.chance:.1f} %{needed}"
        yield f"what to do: {self.what_to_do}"
        yield f"policy: {_policy_line(self.policy)}"
        if self.scope is not None:
            others = self.scopes - 1
            yield (
                f"scope {self.scope[:12]} (model, system message, history, settings)"
                + (f"; other scopes that hold answers: {others:,}, never shared" if others else "")
            )
        for one in self.neighbours:
            apart = _apart(one, self.question) or "no difference seen"
            refused = " [taken back by feedback]" if one.refused else ""
            yield f"  {one.similarity:.3f}  {_short(one.question)}{refused}"
            yield f"         {apart}"


@dataclass(frozen=True, slots=True)
class ServedPair:
    """Two stored questions of one scope, where the later one would be given the other's answer.

    ``own`` is what the model answered to the later one; ``entry_id`` is for ``feedback``.
    """

    asked: str
    cached: str
    answer: str
    own: str
    similarity: float
    entry_id: str

    @property
    def names(self) -> str:
        """Return both keys, which stand for the pair whenever it is seen."""
        serving = EntryId.parse(self.entry_id)
        assert serving is not None  # noqa: S101 - made here
        return f"{serving.record}.{serving.asked}"


class _NeverAudit(random.Random):
    """Says no when a policy asks whether to check a hit by asking the model."""

    def random(self) -> float:
        return math.nextafter(1.0, 0.0)


class Examiner:
    """Examines what the caches on a store would do, by its records, labels and policy.

    ``policy`` None: the one that a cache described last in this namespace, else the default.
    Nothing is written. Raises ValueError, StoreError, ImportError and EmbedderError, naming the
    remedy.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "default",
        policy: Policy | float | None = None,
        embedder: Any = None,
    ) -> None:
        self._store = _open_there(url)
        self._namespace = namespace
        described = policy_of_all(self._store, namespace) or {}
        options = {"threshold": policy_of(described) if policy is None else policy}
        self.options = Options.of({**options, "namespace": namespace, "embedder": embedder})
        self._policy = self.options.policy
        self._reader = QuestionReader(self.options, lambda kind: None)
        self._labels = LabelStore(self._policy, self._store)
        self._space, self._state = "", self._policy.initial_state()
        found = dict[str, Record]()
        cursor, is_first = "", True
        while cursor or is_first:
            page, cursor = self._store.browse(namespace, cursor)
            found |= {record.key: record for record in page}
            is_first = False
        self._denylists = {key: one for key, one in found.items() if are_refusals(one)}
        self.records = [
            one
            for key, one in found.items()
            if key not in self._denylists and one.question is not None
        ]
        self._reader.preload()

    def __enter__(self) -> Examiner:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def inspect(self, question: str, model: str | None = None, scope: str = "") -> Inspection:
        """Say what a question would hit in the scope of its nearest neighbour.

        ``model`` and ``scope``, the beginning of a digest, narrow down which scopes are looked at.
        """
        there = [
            one
            for one in self.records
            if one.scope.startswith(scope) and model in (None, one.model)
        ]
        same = [one for one in there if one.question == question and not is_standalone(one.scope)]
        if same:
            return self._inspected(question, None, Neighbour(same[-1], 1.0), (), "exact")
        reason = self._reader.why_exact_only(Request.of(question))
        embedded = None if reason or not there else self._reader.embed(question)
        if embedded is None:
            return self._inspected(
                question, reason or ("truncated" if there else "empty"), None, ()
            )
        space, vector = embedded
        near = sorted(
            (
                Neighbour(one, float(one.vector @ vector))
                for one in there
                if one.vector is not None and one.space == space
            ),
            key=lambda one: -one.similarity,
        )
        if not near:
            return self._inspected(question, "other_embedder", None, ())
        self._use(space, near[0].record.scope)
        near = [one for one in near if one.record.scope == near[0].record.scope]
        denylist = self._denylists.get(_key_of(near[0].record, question))
        refused = refused_answers(denylist, [one.record for one in near])
        left = [one for one in near if one.record.answer.text not in refused]
        served = [one for one in left if not one.record.answer.exact_only][: self._policy.k]
        decision = self._decide(question, served)
        shown = [(one, one.record.answer.text in refused) for one in near[:SHOWN]]
        match decision:
            case Serve(index):
                return self._inspected(question, None, served[index], shown, "semantic", decision)
            case Skip(reason):
                reason = (
                    "refused" if refused and len(left) < len(near[: self._policy.k]) else reason
                )
                return self._inspected(question, reason, None, shown, decision=decision)
            case _:
                return self._inspected(question, decision.reason, None, shown, decision=decision)

    def served_pairs(self, most: int = 1000) -> Iterator[ServedPair]:
        """Yield the pairs that would be served, of the ``most`` newest questions, newest first.

        Of each stored question it is the older one of its scope whose answer the policy would give.
        """
        scopes: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in self.records:
            if record.vector is not None and not record.answer.exact_only:
                scopes[record.scope, record.space].append(record)
        stored = (one for of_scope in scopes.values() for one in of_scope)
        for record in sorted(stored, key=lambda one: -one.created)[:most]:
            older = (
                Neighbour(one, float(one.vector @ record.vector))
                for one in scopes[record.scope, record.space]
                if one.vector is not None
                and record.vector is not None
                and one.created < record.created
            )
            near = sorted(older, key=lambda one: -one.similarity)[: self._policy.k]
            if not near:
                continue
            self._use(record.space, record.scope)
            question = record.question or ""
            decision = self._decide(question, near)
            if isinstance(decision, Serve):
                one = near[decision.index]
                name = EntryId(
                    *(one.record.key, record.key, one.similarity, decision.score),
                    rewritten=is_standalone(record.scope),
                )
                texts = one.record.question or "", one.record.answer.text, record.answer.text
                yield ServedPair(question, *texts, one.similarity, str(name))

    def _use(self, space: str, scope: str) -> None:
        """Bring the policy to the embedder of this space, with the labels of this scope's kind."""
        if space != self._space:
            name = self._reader.model_of(space) if self._policy.explores else space
            self._policy, self._space = self._policy.for_embedder(name), space
            self._labels.use_embedder(self._policy, space)
        kind = REWRITTEN if is_standalone(scope) else ""
        self._state = self._labels.state(self._namespace + kind)

    def _decide(self, question: str, near: Sequence[Neighbour]) -> Decision:
        floor = self._policy.floor
        candidates = [self._reader.candidate(question, one, floor) for one in near]
        return self._policy.decide(question, candidates, self._state, _NeverAudit())

    def _inspected(
        self,
        question: str,
        reason: str | None,
        hit: Neighbour | None,
        near: Sequence[tuple[Neighbour, bool]],
        tier: Literal["exact", "semantic"] | None = None,
        decision: Decision | None = None,
    ) -> Inspection:
        policy = dict(self._policy.describe(self._state))
        shown = tuple(self._shown(question, one, refused) for one, refused in near)
        score = getattr(decision, "score", None)
        why, what_to_do = _words_for(tier or reason or "", question, shown, policy)
        nearest = hit or (near[0][0] if near else None)
        return Inspection(
            question=question,
            outcome="miss" if hit is None else "hit",
            tier=tier,
            reason=reason,
            why=why,
            what_to_do=what_to_do,
            answer=None if hit is None else hit.record.answer.text,
            similarity=None if nearest is None else round(nearest.similarity, 4),
            chance=None if score is None else round(1 / (1 + math.exp(-score)), 4),
            needed=policy.get("serves_from"),
            neighbours=shown,
            scope=None if nearest is None else nearest.record.scope,
            scopes=len({one.scope for one in self.records}),
            entries=len(self.records),
            policy=policy,
        )

    def _shown(self, question: str, one: Neighbour, refused: bool) -> InspectedNeighbour:
        record = one.record
        differences = self._reader.candidate(question, one, -1.0).differences
        age = max(0.0, time.time() - record.created)
        shown = record.question or "", record.answer.text, round(one.similarity, 4)
        return InspectedNeighbour(*shown, differences, refused, str(EntryId(record.key)), age)


def _key_of(record: Record, question: str) -> str:
    """Return the key of another question in a record's scope, "" if it cannot be told.

    The scope's digest opens with digits of the namespace instead of its own, which are found by
    trying what gives the record's own key.
    """
    known = f"{record.scope[HOME_DIGITS:]}\ntext "
    for number in range(16**HOME_DIGITS):
        front = f"{number:0{HOME_DIGITS}x}{known}"
        digest = sha256((front + (record.question or "")).encode("utf-8", "surrogatepass"))
        if digest.hexdigest()[HOME_DIGITS:] == record.key[HOME_DIGITS:]:
            key = sha256((front + question).encode("utf-8", "surrogatepass")).hexdigest()
            return record.key[:HOME_DIGITS] + key[HOME_DIGITS:]
    return ""


def policy_of(described: Mapping[str, Any]) -> Policy:
    """Return the policy that a cache described in its store, the default for one not known.

    >>> policy_of({"policy": "static", "threshold": 0.9})
    Static(similarity=0.9)
    """
    try:
        match described:
            case {"policy": "static", "threshold": float() | int() as threshold}:
                return Static(threshold)
            case {"policy": "feedback"}:
                return Feedback()
            case {"policy": "verified"}:
                names = ("max_error", "per", "start", "guarantee")
                return Verified(**{name: described[name] for name in names if name in described})
    except (TypeError, ValueError):
        pass  # of another version
    return Verified()


def _open_there(url: str) -> Store:
    """Open a store that is there. Raises ValueError if it is not."""
    if url.startswith("memory:"):
        raise ValueError(f"{url} lives inside the app; name a file or a server")
    if url.startswith("sqlite:///"):
        path = Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
        if not path.is_file():
            raise ValueError(f"there is no file {path}; an app makes it with its first answer")
    return open_store(url, timeout=_PATIENCE_S)


_WORDS: Mapping[str, tuple[str, str]] = {
    "exact": ("The very same words were asked before.", "nothing"),
    "semantic": ("A stored question wants the same answer.", "nothing"),
    "empty": (
        "No answer is stored here.",
        "look at --namespace, --model and --scope; tiered-cache doctor URL counts the entries",
    ),
    "other_embedder": (
        "All questions here were embedded by another model.",
        "name the app's model with --embedder",
    ),
    "absent": (
        "No stored question is near enough to be looked at.",
        "nothing: it is a new question, and its answer serves the next who asks it",
    ),
    "guard": (
        "The nearest questions ask for something else: {differences}.",
        "nothing, if they want other answers; if one answer fits both, Verified learns that from "
        "the answers that come",
    ),
    "threshold": (
        "The nearest question is at {similarity:.3f}, and {threshold} is needed.",
        "tiered-cache tune finds the lowest threshold that your own labels show to be safe",
    ),
    "learning": (
        "Nothing is served by meaning yet: {learning}.",
        "let the app run: each answer to a question with a neighbour is a label; tiered-cache "
        "learn gives some from what is stored",
    ),
    "risk": (
        "The policy is not sure enough that the nearest answer is right.",
        "labels make it surer: the app's own traffic, tiered-cache learn, tiered-cache review; "
        "Verified(max_error=…) allows more errors",
    ),
    "refused": (
        "Feedback said that the stored answer is wrong for this question.",
        "nothing: the model is asked, and its answer is stored",
    ),
}
"""Tier of a hit, or reason of a miss, to what it means for this question and what changes it.

Reasons that say the same of every question are in ``advice.REASONS``.
"""


def _words_for(
    reason: str, question: str, shown: Sequence[InspectedNeighbour], policy: Mapping[str, Any]
) -> tuple[str, str]:
    why, what_to_do = _WORDS.get(
        reason,
        (
            REASONS.get(reason, f"Only the very same words are matched ({reason})."),
            "see docs/matching.md",
        ),
    )
    looked_at = shown[:1] if reason == "risk" else shown
    apart = next((_apart(one, question) for one in looked_at if one.differences), "")
    if apart and reason == "risk":
        why += " Against it speaks: {differences}."
    values = {
        "differences": apart or "they differ where it matters",
        "similarity": shown[0].similarity if shown else 0.0,
        "threshold": policy.get("threshold"),
        "learning": policy.get("learning") or "there are no labels",
    }
    return why.format(**values), what_to_do


_KINDS: Mapping[str, str] = {
    "number": "another number",
    "unit": "another unit",
    "date": "another date",
    "version": "another version",
    "negation": "a negation",
    "quote": "another quotation",
    "identifier": "another identifier",
    "name": "another name",
    "opposite": "the opposite",
    "direction": "another direction",
    "symbol": "another symbol",
    "script": "another script",
    "frame": "another thing in the same sentence",
    "content": "another thing",
    "unread": "more than the guard reads",
    "tense": "another time",
    "modal": "may, must or can",
    "quantifier": "another quantity",
    "conditional": "another condition",
    "focus": "another emphasis",
    "role": "other roles",
    "preposition": "another relation",
    "qualifier": "another qualifier",
    "exchange": "one word in the place of another",
    "addition": "what one of them adds",
    "notation": "another notation",
}
"""Kind of a difference to words for a person."""


def difference_line(difference: Difference, asked: str, cached: str) -> str:
    """Spell a difference of two questions for a person: its kind, and what either says.

    >>> difference_line(Difference("date", ("2025",), ("2024",)), "and in 2025?", "and in 2024?")
    'another date (2025, not 2024)'
    """
    kind = _KINDS.get(difference.kind, difference.kind)
    here, there = _spelt(difference.asked, asked), _spelt(difference.cached, cached)
    match here, there:
        case (None, _) | (_, None) | ("", ""):
            return kind
        case ("", only) | (only, ""):
            return f"{kind} ({only})"
        case _:
            return f"{kind} ({here}, not {there})"


def _spelt(terms: Sequence[str], text: str) -> str | None:
    """Return the words of a text that terms stand for, None where one cannot be found in it."""
    words = [word.rstrip(".,:/'-") for word in re.findall(r"[\w.,:/%€$£'-]+", text)]
    found = [next((w for w in words if w.lower().startswith(term.lower())), None) for term in terms]
    return None if None in found else " ".join(dict.fromkeys(map(str, found)))


def _apart(one: InspectedNeighbour, question: str) -> str:
    """Spell all that sets a neighbour's question apart from another."""
    return "; ".join(difference_line(each, question, one.question) for each in one.differences)


def _policy_line(policy: Mapping[str, Any]) -> str:
    names = ("threshold", "max_error", "per", "labels", "rests_on")
    settings = (f"{name.replace('_', ' ')} {policy[name]}" for name in names if policy.get(name))
    return f"{policy.get('policy')}: {', '.join(settings)}"


def _short(text: str, most: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


# Judge pairs in the terminal.


Letter = Literal["y", "n", "s", "q"]
Ask = Callable[[str], Letter]
"""Shows a pair and returns what a person says: yes, no, skip, quit."""

REVIEWED = "reviewed:"
"""Front of the keys under which a store notes which pairs a person has judged."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What came of a review: pairs that were right, wrong and skipped, and those left to judge."""

    right: int
    wrong: int
    skipped: int
    left: int

    def as_json(self) -> dict[str, int]:
        """Return the counts as JSON values."""
        return asdict(self)


def review_store(
    url: str,
    ask: Ask,
    *,
    namespace: str = "default",
    policy: Policy | float | None = None,
    embedder: Any = None,
    most: int = 50,
) -> Reviewed:
    """Have the pairs that a store's caches would serve judged; the verdicts go to ``feedback``.

    Each pair is asked about once, whoever reviews. Raises what ``Examiner`` raises.
    """
    with Examiner(url, namespace, policy, embedder) as examiner:
        pairs, options = list(examiner.served_pairs()), examiner.options
    chosen = {"threshold": options.threshold, "embedder": options.embedder}
    with ResponseCache.open(url, namespace=namespace, strict=True, **chosen) as cache:
        names = {f"{REVIEWED}{namespace}:{pair.names}": pair for pair in pairs}
        known = cache.values.get_many(list(names)) if names else {}
        open_pairs = [(name, pair) for name, pair in names.items() if name not in known]

        def note(name: str, right: bool) -> None:
            cache.feedback(names[name].entry_id, right, source="review")
            cache.values.put_many({name: b"y" if right else b"n"})

        shown = [(name, _pair_text(*_texts(pair), pair.own)) for name, pair in open_pairs]
        return _judged(shown, ask, note, most)


def _texts(pair: ServedPair) -> tuple[str, str, str]:
    return pair.asked, pair.cached, pair.answer


def review_file(path: Path, ask: Ask, most: int = 50) -> Reviewed:
    """Have the pairs of a CSV that have no label yet judged, and write the labels into it.

    It is the file that ``tiered-cache tune --pairs`` writes. Raises ValueError for another.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not {"question", "cached", "same"} <= set(names):
        raise ValueError(
            f"{path}, line 1 names {', '.join(names) or 'nothing'}; it must name question, cached "
            "and same: tiered-cache tune LOG --pairs FILE writes such a file"
        )
    unknown = {
        str(number): row
        for number, row in enumerate(rows)
        if row["question"] and row["cached"] and not (row["same"] or "").strip()
    }

    def note(name: str, right: bool) -> None:
        unknown[name]["same"] = str(right).lower()
        partial = path.with_name(f".{path.name}.part")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)

    shown = [
        (name, _pair_text(row["question"], row["cached"], row.get("cached_answer") or ""))
        for name, row in unknown.items()
    ]
    return _judged(shown, ask, note, most)


def _pair_text(asked: str, cached: str, answer: str, own: str = "") -> str:
    lines = [f"asked:   {asked}", f"cached:  {cached}"]
    lines += [f"answer:  {_short(answer, 400)}"] if answer else []
    lines += [f"(model:  {_short(own, 400)})"] if own and own != answer else []
    return "\n".join(lines)


def _judged(
    shown: Iterable[tuple[str, str]], ask: Ask, note: Callable[[str, bool], object], most: int
) -> Reviewed:
    pairs = list(shown)
    right = wrong = skipped = 0
    for place, (name, text) in enumerate(pairs[:most], 1):
        match ask(f"[{place} of {min(most, len(pairs))}]\n{text}"):
            case "q":
                break
            case "s":
                skipped += 1
            case "y":
                right += 1
                note(name, True)
            case "n":
                wrong += 1
                note(name, False)
    return Reviewed(right, wrong, skipped, len(pairs) - right - wrong)
