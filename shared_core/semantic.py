"""Answer by meaning: question -> vector -> neighbours in scope -> guard -> policy -> outcome.

    QuestionReader   whether a question may be matched by meaning, its vector, how others differ
    ScopeWatch       whether scopes come again; a warning if hardly any does
    SemanticTier     the tier

Begin with ``SemanticTier.find``, one lookup; ``completed`` prepares a fresh answer for others.
A neighbour that may be served is a candidate. Where the policy is not sure, it explores: the model
is asked, and a judge's word on its fresh answer and the candidate's is the label it learns from.

Methods that touch the store or the embedder raise ``Unavailable`` when it fails.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from shared_core.advice import Milestones, changes
from shared_core.concurrency import free_after_fork
from shared_core.embedding import Memo, known_model
from shared_core.learning import (
    REWRITTEN,
    AnswerJudge,
    Denylist,
    GrayZone,
    Labeler,
    LabelStore,
    PendingLabel,
    PendingLabels,
    VerifyEvent,
    refused_answers,
)
from shared_core.options import Options
from shared_core.record import (
    EntryId,
    Explore,
    Hit,
    Miss,
    Neighbour,
    Outcome,
    Record,
    Tier,
    is_fresh,
    is_readable,
)
from shared_core.request import Address, Request, is_standalone
from shared_core.resilience import CircuitBreaker, Unavailable
from shared_core.stores import Store
from shared_core.thresholds import Candidate, Label, Serve, Skip, Teachable
from shared_core.thresholds import Explore as Try

if TYPE_CHECKING:
    from shared_core.conversations import Conversations
    from shared_core.guard import Difference
    from shared_core.record import Vector


# What the semantic tier reads in a question: may it be matched by meaning, and its vector.


EMBEDDER_REST_S = 30.0
ROUNDING = 1e-6


class QuestionReader:
    """Reads a question through guard and embedder, each behind a circuit breaker.

    Methods raise Unavailable when one fails. ``count_error`` counts a failure of a part in the
    cache's counters.
    """

    def __init__(self, options: Options, count_error: Callable[[str], None]) -> None:
        self._guard = options.chosen_guard()
        self._guard_breaker = CircuitBreaker("guard", count_error)
        self.memo = Memo(options.embedder, load=options.load)
        self.embedder_breaker = CircuitBreaker("embedder", count_error, rest=EMBEDDER_REST_S)
        self.preload = self.memo.preload
        self.when_ready = self.memo.when_ready

    @property
    def ready(self) -> bool:
        """Say whether a vector can be had without waiting for the model to load."""
        return self.memo.ready

    def why_exact_only(self, request: Request) -> str | None:
        """Return why the request is never matched by meaning, else None."""
        if request.exact_only is not None or request.question is None:
            return request.exact_only or "not_user_text"
        if not request.question.strip():
            return "not_user_text"
        guard = self._guard
        if guard is None:
            return None
        if not self._guard_breaker.call(guard.timeless, request.question):
            return "time"
        understands = getattr(guard, "understands", None)  # a guard of the app's own may lack it
        if understands and not self._guard_breaker.call(understands, request.question):
            return "language"
        return None

    def embed(self, question: str) -> tuple[str, Vector] | None:
        """Return the question's space and vector, None if it is longer than the model reads."""

        def embed() -> tuple[str, Vector] | None:
            if self.memo.truncates(question):
                return None
            vector = self.memo.vector(question)  # first: it may tell what the space is
            return self.memo.space, vector

        return self.embedder_breaker.call(embed)

    def model_of(self, space: str) -> str:
        """Return the name of the model that this space's vectors are of, else the space's."""
        try:
            return self.embedder_breaker.call(known_model, space, self.memo.vector)
        except Unavailable:  # counted; then it is a model that nobody knows
            return space

    def candidate(self, question: str, one: Neighbour, floor: float) -> Candidate:
        """Return a neighbour as a policy sees it, with differences from ``floor`` on."""
        cached = one.record.question or ""
        guard = self._guard
        differences: tuple[Difference, ...] = ()
        if guard is not None and one.similarity >= floor - ROUNDING:
            differences = self._guard_breaker.call(guard.differences, question, cached)
        return Candidate(one.similarity, differences, cached, one.record.group or one.record.key)


logger = logging.getLogger("tiered_cache")

ANY_SIMILARITY = -1.0

WIDEST = 64
"""How many neighbours are looked at when the guard objects to the nearest ones."""

GRAY = ("learning", "risk")
"""Why the model is asked about candidates that a verifier may decide about."""

SERVINGS = 2
"""How often a question is served by meaning before it is asked for real."""


# Which scopes are new, and why.


RECENT = 20
"""Requests by which it is judged whether most scopes are new."""

NEW_OF_RECENT = 16
"""Of which as many came in a new scope."""

MAX_SCOPES = 10_000
COMPARED = 4
"""New scopes that the next one is held against: several apps may share a cache."""

LONGEST_SCOPE = 200_000
"""Characters beyond which a scope is not held against others."""


class ScopeWatch:
    """Knows the scopes of the latest requests, and what changes if most of them are new.

    Threads may use it at once: a count that is off by one does no harm.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._texts: deque[str] = deque(maxlen=COMPARED)
        self._changes: deque[str] = deque(maxlen=RECENT)
        self._warned = False

    def knows(self, scope: str) -> bool:
        """Say whether a request came in this scope before, here, as far as it is remembered."""
        return scope in self._known

    def remember(self, scope: str) -> None:
        """Note that something was asked in a scope."""
        self._known[scope] = None
        if len(self._known) > MAX_SCOPES:
            with suppress(KeyError):  # another thread did it
                self._known.popitem(last=False)

    def note(self, scope: str, is_new: bool, text: str) -> None:
        """Note a request's scope, by its digest, and as the JSON ``text`` if it is new.

        Warns once when most of the recent ones are new.
        """
        self.remember(scope)
        self._recent.append(is_new)
        if not is_new or len(text) > LONGEST_SCOPE:
            return
        if self._texts:
            self._changes.append(min((changes(one, text) for one in self._texts), key=len))
        self._texts.append(text)
        if not self._warned and (cause := self.cause) is not None:
            self._warned = True
            logger.warning(
                "%d of the last %d requests came in a scope in which nothing was asked before, so "
                "nothing can be matched by meaning: %s changes from request to request. Put what "
                "changes into the question, or leave it out",
                sum(self._recent),
                len(self._recent),
                cause,
            )

    @property
    def cause(self) -> str | None:
        """Return what changes from request to request, if most recent scopes are new."""
        if len(self._recent) < RECENT or sum(self._recent) < NEW_OF_RECENT or not self._changes:
            return None
        return Counter(self._changes).most_common(1)[0][0]


CROWD = 0.1
"""How much farther the last of the neighbours may be than the first, for more to be looked at."""


def _is_crowded(candidates: Sequence[Candidate]) -> bool:
    """Say whether the guard objects to all, and the next ones are hardly farther."""
    if not candidates or not all(one.differences for one in candidates):
        return not candidates
    return candidates[0].similarity - candidates[-1].similarity <= CROWD


class SemanticTier:
    """Finds who answered the same question in other words, within one scope.

    ``breaker`` guards the store, and is the cache's own; ``count`` adds to the cache's counters.
    ``conversations`` hear of each checked hit of a rewritten question whether it was right.
    """

    def __init__(
        self,
        options: Options,
        store: Store,
        breaker: CircuitBreaker,
        count: Callable[[str], None],
        tell: Callable[[VerifyEvent], object] = lambda event: None,
        conversations: Conversations | None = None,
    ) -> None:
        def count_error(kind: str) -> None:
            count(f"errors:{kind}")

        self._store, self._breaker, self._count = store, breaker, count
        self._policy, self._conversations = options.policy, conversations
        self._policy_breaker = CircuitBreaker("policy", count_error)
        self._shadow, self._stale_ttl = options.shadow, options.stale
        self._pending = PendingLabels()
        # a policy's state may note what it decided
        self._deciding = free_after_fork(threading.Lock())
        self._space = ""
        self._scopes = ScopeWatch()
        self._milestones = {"": Milestones(), REWRITTEN: Milestones("rewritten follow-ups")}
        self._progress: dict[str, str | None] = {}
        self._rng = random.Random()  # noqa: S311 - chooses what to audit, keeps no secret
        self.reader = QuestionReader(options, count_error)
        self.labels = LabelStore(self._policy, store, count_error=count_error)
        self.denylist = Denylist(store, breaker)
        judge = options.judge or AnswerJudge()
        if isinstance(judge, AnswerJudge):
            judge.share(self.reader.memo)
        self._labeler = Labeler(judge, self.labels, breaker, count, self._regroup, self._note_label)
        self._gray = self._gray_zone(options, tell)

    def _gray_zone(
        self, options: Options, tell: Callable[[VerifyEvent], object]
    ) -> GrayZone | None:
        """Return where a verifier decides, None without one or in shadow mode."""
        if options.verifier is None or options.shadow:
            return None
        asked = options.verifier, options.verify_timeout, self._policy
        return GrayZone(*asked, self._store, self._breaker, self._count, tell, self.labels.era)

    @property
    def knows_embedder(self) -> bool:
        """Say whether the policy knows the embedder, and so which labels are its own."""
        return bool(self._space)

    def find(
        self,
        request: Request,
        namespace: str,
        address: Address,
        now: float,
        denylist: Record | None = None,
        *,
        also: str = "",
        kind: str = "",
    ) -> Outcome:
        """Return a Hit, an Explore, or a Miss with its reason.

        ``also`` is a further scope whose answers will do. ``kind``: whose labels count, see
        ``PendingLabel``.
        """
        reason = self.reader.why_exact_only(request)
        if reason is not None or request.question is None:
            self._pass(request.question, namespace + kind, reason)
            return Miss(reason or "not_user_text")
        embedded = self._embedded(request.question)
        if isinstance(embedded, Miss):
            return embedded
        self.use_embedder(embedded[0])
        state = self._breaker.call(self.labels.state, namespace + kind)
        until = now + self._stale_ttl
        is_new, near, candidates = self._neighbours(
            request, namespace, address, embedded, denylist, until, also
        )
        self._scopes.note(address.scope, is_new, request.scope)
        outcome = self._choose(request.question, near, candidates, state, address, now, kind)
        if isinstance(outcome, Hit):
            return outcome
        return self._explained(outcome, is_new, state, kind)

    def _embedded(self, question: str) -> tuple[str, Vector] | Miss:
        """Return the question's space and vector, or why there is none."""
        if not self.reader.ready:
            return Miss("loading")
        try:
            return self.reader.embed(question) or Miss("truncated")
        except Unavailable:
            return Miss("embedder")

    def _explained(
        self, outcome: Explore | Miss, is_new: bool, state: Any, kind: str
    ) -> Explore | Miss:
        """Say of what did not hit that its scope is new, or how far learning is."""
        if is_new and isinstance(outcome, Miss):
            return replace(outcome, reason="new_scope")
        progress = self._how_far(state, kind)
        return outcome if progress is None else replace(outcome, progress=progress)

    def _pass(self, question: str | None, namespace: str, reason: str | None) -> None:
        """Let the policy count a question that no neighbour may answer: it is a request, too."""
        if reason in ("time", "language") and self._policy.explores and self.knows_embedder:
            with suppress(Unavailable):  # counted; it is a miss anyway
                state = self._breaker.call(self.labels.state, namespace)
                with self._deciding:
                    decide = self._policy.decide
                    self._policy_breaker.call(decide, question or "", (), state, self._rng)

    def _neighbours(
        self,
        request: Request,
        namespace: str,
        address: Address,
        embedded: tuple[str, Vector],
        denylist: Record | None,
        until: float,
        also: str,
    ) -> tuple[bool, list[Neighbour], list[Candidate]]:
        """Return whether the scope is new, the neighbours that the asker may be given, and what the
        policy is told of them.

        If the guard objects to all of the k nearest, the one that is right may stand behind them.
        """
        k, floor, question = self._policy.k, self._policy.floor, request.question or ""
        known = self._scopes.knows(address.scope)
        lowest = floor if known else ANY_SIMILARITY  # is there anything at all?
        while True:
            found = self._breaker.call(self._store.nearest, address.scope, *embedded, k, lowest)
            if also:
                found += self._breaker.call(self._store.nearest, also, *embedded, k, lowest)
                found = sorted(found, key=lambda one: -one.similarity)[:k]
            near = [
                one
                for one in found
                if one.record.scope in (address.scope, also)
                and one.record.namespace == namespace
                and is_fresh(one.record, until)
                and is_readable(one.record, request)
                and not one.record.answer.exact_only
            ]
            refused = refused_answers(denylist, [one.record for one in near])
            near = [one for one in near if one.record.answer.text not in refused]
            candidates = [self.reader.candidate(question, one, floor) for one in near]
            if len(found) < k or k >= WIDEST or not _is_crowded(candidates):
                return not (known or found), near, candidates
            k = WIDEST

    def _choose(
        self,
        question: str,
        near: list[Neighbour],
        candidates: list[Candidate],
        state: Any,
        address: Address,
        now: float,
        kind: str,
    ) -> Outcome:
        policy = self._policy
        if kind and self._conversations is not None:
            policy = self._conversations.checking(policy)
        with self._deciding:
            decision = self._policy_breaker.call(
                policy.decide, question, candidates, state, self._rng
            )
        match decision:
            case Skip(reason):
                self._remember(address, PendingLabel(tuple(near), kind=kind))
                return Miss(reason, near[0].similarity if near else None)
            case Try(index, evidence, reason, score):
                seen = PendingLabel(
                    *(tuple(near), index, evidence), kind=kind, checked=reason == "audit"
                )
                clear = not candidates[index].differences and reason in GRAY
                if self._gray is None or not clear:
                    return self._explore(address, seen, reason)
                return self._verified(
                    self._gray, question, seen, score or 0.0, reason, address, now
                )
            case Serve(index, evidence, score):
                seen = PendingLabel(
                    *(tuple(near), index, evidence, score, self._shadow), kind=kind, checked=True
                )
                if self._shadow:
                    self._count("shadow:served")
                if self._shadow or self._is_due(address):
                    return self._explore(address, seen, "shadow" if self._shadow else "audit")
                self._pending.count_serving(address.key)
                return self._hit(near[index], address, score, now, kind)
            case _:
                assert_never(decision)

    def _verified(
        self,
        gray: GrayZone,
        question: str,
        seen: PendingLabel,
        score: float,
        reason: str,
        address: Address,
        now: float,
    ) -> Outcome:
        """Serve by a verifier's word what is neither proven nor hopeless, or explore it."""
        assert seen.candidate is not None  # noqa: S101 - what is explored is a candidate
        one = seen.near[seen.candidate]
        namespace = one.record.namespace
        word = gray.word(namespace, question, one.record.question or "", score)
        if word is None:
            return self._explore(address, seen, reason)
        said = gray.said(namespace + seen.kind, word, score)
        seen = replace(seen, said=said)
        if not word or said.chance == 1:
            return self._explore(address, seen, reason)
        if self._rng.random() < said.chance or self._is_due(address):
            return self._explore(address, replace(seen, checked=True), "audit")
        self._count("verifier:served")
        self._pending.count_serving(address.key)
        return self._hit(one, address, None, now, seen.kind)

    def use_embedder(self, space: str) -> None:
        """Let a policy that explores go by what is known of the embedder of this space."""
        if space == self._space:
            return
        model = self.reader.model_of(space) if self._policy.explores else space
        with self._deciding:
            if self._policy.explores and space != self._space:
                self._policy = self._policy.for_embedder(model)
                self.labels.use_embedder(self._policy, space)
            self._space = space

    def _hit(
        self, one: Neighbour, address: Address, score: float | None, now: float, kind: str
    ) -> Hit:
        record = one.record
        serving = EntryId(record.key, address.key, one.similarity, score, bool(kind))
        age = max(0.0, now - record.created)
        return Hit(record.answer, Tier.SEMANTIC, one.similarity, str(serving), age)

    def _explore(self, address: Address, pending: PendingLabel, reason: str) -> Explore:
        assert pending.candidate is not None  # noqa: S101 - what is explored is a candidate
        self._pending.remember(address.key, pending)
        one = pending.near[pending.candidate]
        return Explore(one.record, one.similarity, reason)

    def _how_far(self, state: Any, kind: str) -> str | None:
        """Return how far learning is, while it is not far enough to serve.

        As of the last label or ``stats()``: to describe a policy takes milliseconds.
        """
        if self._policy.explores and kind not in self._progress:
            with suppress(Unavailable):  # counted
                self._note_progress(self._policy_breaker.call(self._policy.describe, state), kind)
        return self._progress.get(kind)

    def _note_progress(self, described: Mapping[str, Any], kind: str) -> None:
        self._progress[kind] = described.get("learning")

    def _note_label(self, namespace: str, seen: PendingLabel, right: bool) -> None:
        """Hold a verifier to its word, and log what the latest label has changed."""
        namespace += seen.kind
        if seen.kind and seen.checked and self._conversations is not None:
            self._conversations.checked(right)
        if self._gray is not None and seen.said is not None:
            self._gray.learn(namespace, seen.said, right)
        if self._policy.explores:
            with suppress(Unavailable):  # counted
                state = self._breaker.call(self.labels.state, namespace)
                described = self._policy_breaker.call(self._policy.describe, state)
                self._milestones[seen.kind].note(described)
                self._note_progress(described, seen.kind)

    def _remember(self, address: Address, pending: PendingLabel) -> None:
        """Keep the neighbours, so that the fresh answer joins the group of those that equal it."""
        if self._policy.explores and pending.near:
            self._pending.remember(address.key, pending)

    def _is_due(self, address: Address) -> bool:
        """Say whether a question was served by meaning often enough to be asked for real.

        Its own answer is then stored under its own key, so that a wrong one is not served for ever.
        """
        return self._policy.explores and self._pending.servings(address.key) >= SERVINGS

    # ------------------------------------------------------------------------- what is stored

    def completed(self, record: Record, request: Request) -> Record:
        """Return the record with vector and answer group, where it may ever be served by meaning.

        If the lookup of its request explored, its answer labels the candidate: now, or when it is
        ``stored``. An answer that is served only exactly, such as an agent's call of a tool, labels
        nothing: another may follow it under this key.
        """
        self._scopes.remember(record.scope)
        pending = None if record.answer.exact_only else self._pending.take(record.key)
        try:
            if record.answer.exact_only or self.reader.why_exact_only(request) is not None:
                return record
        except Unavailable:
            return record
        record = self._labeler.settle(record, pending)
        if pending is not None and pending.near and self._labeler.judges_later:
            self._pending.remember(record.key, pending)
        if not self.reader.ready:
            self.reader.when_ready(lambda: self._add_vector_later(record))
            return record
        try:
            embedded = self.reader.embed(record.question or "")
        except Unavailable:
            return record
        if embedded is None:
            return record
        space, vector = embedded
        return replace(record, vector=vector, space=space)

    def stored(self, record: Record) -> None:
        """Have the background judge what the lookup of this record explored, if it did."""
        pending = None if record.answer.exact_only else self._pending.take(record.key)
        if pending is not None:
            self._labeler.stored(record, pending)

    def _regroup(self, record: Record, group: str) -> None:
        """Put a stored record into another's group, if it is still there."""
        if record.vector is None:
            return  # it is not found by meaning, or is completed later
        try:
            current = self._breaker.call(self._store.get, record.key)
            if current is not None and current.created == record.created:
                self._breaker.call(self._store.put, replace(record, group=group))
        except Unavailable:
            return  # counted

    def _add_vector_later(self, record: Record) -> None:
        """Complete a record that was stored while the model was loading, if it is still there."""
        try:
            embedded = self.reader.embed(record.question or "")
            current = self._breaker.call(self._store.get, record.key)
            if embedded is not None and current is not None and current.created == record.created:
                space, vector = embedded
                self._breaker.call(self._store.put, replace(record, vector=vector, space=space))
        except Unavailable:
            return

    def learn_stored(self, namespace: str, most: int) -> int:
        """Hold stored answers against older ones to questions like theirs; return the labels.

        Each record does so once, the newest ``most`` of those that never did. Such labels are no
        fair sample of what is asked: the policy learns from them what speaks for a candidate.
        """
        policy, call = self._policy, self._breaker.call
        if not isinstance(policy, Teachable):
            return 0
        records, cursor = list[Record](), ""
        while True:
            page, cursor = call(self._store.browse, namespace, cursor)
            records += [one for one in page if one.vector is not None and one.question]
            if not cursor:
                break
        if records:
            self.use_embedder(records[0].space)
        until = call(self.labels.taught_until, namespace)
        fresh = sorted((one for one in records if one.created > until), key=lambda r: r.created)
        learnt = 0
        for kind in ("", REWRITTEN):
            state, labels = call(self.labels.state, namespace + kind), list[Label]()
            for record in fresh[-most:]:
                is_own = is_standalone(record.scope) == bool(kind)
                label = self._taught_by(record, policy, state) if is_own else None
                if label is not None:
                    labels.append(label)
            call(self.labels.learn, namespace + kind, *labels)
            learnt += len(labels)
        if fresh:
            call(self.labels.note_taught, namespace, fresh[-1].created)
        return learnt

    def _taught_by(self, record: Record, policy: Teachable, state: Any) -> Label | None:
        if record.vector is None or record.answer.exact_only:
            return None
        question, floor = record.question or "", self._policy.floor
        found = self._breaker.call(
            self._store.nearest, record.scope, record.space, record.vector, self._policy.k, floor
        )
        near = [
            one
            for one in found
            if one.record.created < record.created
            and one.record.key != record.key
            and one.record.scope == record.scope
            and not one.record.answer.exact_only
        ]
        candidates = [self.reader.candidate(question, one, floor) for one in near]
        decision = self._policy_breaker.call(policy.examine, question, candidates, state)
        if decision is None:
            return None
        one = near[decision.index]
        right = self._labeler.compare(record.answer, one.record.answer)
        if right is None:
            return None
        return Label(right, one.similarity, decision.evidence, fair=False)

    def similar(self, question: str, scope: str, similarity: float) -> list[str]:
        """Return the keys of a scope's records whose questions are at or above a cosine."""
        embedded = self.reader.embed(question)
        wanted = 16
        while embedded is not None:
            near = self._breaker.call(self._store.nearest, scope, *embedded, wanted)
            found = [one.record.key for one in near if one.similarity >= similarity]
            if len(found) < wanted:
                return found
            wanted *= 4
        return []

    def describe(self, namespace: str, kind: str = "") -> dict[str, Any]:
        """Return what a person wants to know of the policy and the embedder, as JSON values."""
        try:
            state = self._breaker.call(self.labels.state, namespace + kind)
        except Unavailable:
            state = self._policy.initial_state()
        described = dict(self._policy.describe(state))
        self._note_progress(described, kind)
        if kind:
            return described
        if controls := self._labeler.controls:
            described["judge_on_same_words"] = dict(controls)
        if self._gray is not None:
            described["verifier"] = self._gray.describe(namespace)
        cause = self._scopes.cause
        return described if cause is None else {**described, "new_scopes": cause}

    @property
    def judging(self) -> int:
        """Return how many answers wait for a judge."""
        return self._labeler.pending

    def preload(self) -> None:
        """Load the embedding model now. Raises EmbedderError."""
        self.reader.preload()

    @property
    def embedder_state(self) -> str:
        """Return the state of the embedder's circuit breaker."""
        return self.reader.embedder_breaker.state

    def close(self) -> None:
        """Wait, for a bounded time, for what is judged in the background."""
        self._labeler.close()
