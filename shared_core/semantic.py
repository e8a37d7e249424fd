"""The semantic tier: question -> vector -> neighbours in scope -> guard -> policy -> who is served.

Methods that touch the store or the embedder raise ``Unavailable`` when it fails.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from shared_core.embedding.memo import Memo
from shared_core.embedding.recognition import known_model
from shared_core.entry_id import EntryId
from shared_core.exploring import Exploration, Explorations
from shared_core.forking import renew_after_fork
from shared_core.judge import same_answer
from shared_core.labelling import Labeller, Refusals
from shared_core.learning import Learner
from shared_core.options import Options
from shared_core.record import Explore, Hit, Miss, Neighbour, Outcome, Record, Tier
from shared_core.request import Address, Request
from shared_core.resilience import Fuse, Unavailable
from shared_core.stores import Store
from shared_core.thresholds import Candidate, Serve, Skip
from shared_core.thresholds import Explore as Try

if TYPE_CHECKING:
    from shared_core.record import Vector

logger = logging.getLogger("tiered_cache")

CUT_OFF = frozenset(
    {"length", "max_tokens", "max_output_tokens", "content_filter", "refusal", "error"}
)
"""Finish reasons, in lower case, of answers that are only served to the very same request."""

EMBEDDER_REST_S = 30.0

WIDEST = 64
"""How many neighbours are looked at when the guard objects to the nearest ones."""

SERVINGS = 2
"""How often a question is served by meaning before it is asked for real."""


class SemanticTier:
    """Finds who answered the same question in other words, within one scope.

    ``fuse`` guards the store, and is the cache's own; ``count`` adds to the cache's counters.
    """

    def __init__(
        self, options: Options, store: Store, fuse: Fuse, count: Callable[[str], None]
    ) -> None:
        def count_error(kind: str) -> None:
            count(f"errors:{kind}")

        self._store, self._fuse, self._count = store, fuse, count
        self._guard, self._policy = options.chosen_guard(), options.policy
        self._guard_fuse = Fuse("guard", count_error)
        self._policy_fuse = Fuse("policy", count_error)
        self._shadow = options.shadow
        self._explorations = Explorations()
        self._deciding = threading.Lock()  # a policy's state may note what it decided
        self._suited_to = ""
        self._told = False
        renew_after_fork(self)
        self._rng = random.Random()  # noqa: S311 - chooses what to audit, keeps no secret
        self._memo = Memo(options.embedder, load=options.load)
        self.embedder_fuse = Fuse("embedder", count_error, rest=EMBEDDER_REST_S)
        self.learner = Learner(self._policy, store)
        self.refusals = Refusals(store, fuse)
        self._labeller = Labeller(options.judge or same_answer, self.learner, fuse, count)

    def renew_after_fork(self) -> None:
        """Give the child a lock of its own."""
        self._deciding = threading.Lock()

    @property
    def is_suited(self) -> bool:
        """Say whether the policy knows the embedder, and so which labels are its own."""
        return bool(self._suited_to)

    def find(self, request: Request, namespace: str, address: Address, now: float) -> Outcome:
        """Return a Hit, an Explore, or a Miss with its reason."""
        reason = self._why_exact_only(request)
        if reason is not None or request.question is None:
            return Miss(reason or "not_user_text")
        if not self._memo.ready:
            return Miss("loading")
        try:
            embedded = self._embed(request.question)
        except Unavailable:
            return Miss("embedder")
        if embedded is None:
            return Miss("truncated")
        if embedded[0] != self._suited_to:
            self._suit(embedded[0])
        state = self._fuse.call(self.learner.state, namespace)
        near, candidates = self._neighbours(request, namespace, address, embedded)
        return self._choose(request.question, near, candidates, state, address, now)

    def _neighbours(
        self, request: Request, namespace: str, address: Address, embedded: tuple[str, Vector]
    ) -> tuple[list[Neighbour], list[Candidate]]:
        """Return the neighbours that the asker may be given, and what the policy is told of them.

        If the guard objects to all of the k nearest, the one that is right may stand behind them.
        """
        k = self._policy.k
        while True:
            found = self._fuse.call(self._store.nearest, address.scope, *embedded, k)
            near = [
                one
                for one in found
                if one.record.scope == address.scope
                and one.record.namespace == namespace
                and is_readable(one.record, request)
                and not one.record.answer.exact_only
            ]
            candidates = [self._candidate(request.question or "", one) for one in near]
            if len(found) < k or k >= WIDEST or not all(one.differences for one in candidates):
                return near, candidates
            k = WIDEST

    def _choose(
        self,
        question: str,
        near: list[Neighbour],
        candidates: list[Candidate],
        state: Any,
        address: Address,
        now: float,
    ) -> Outcome:
        best = near[0].similarity if near else None
        decide = self._policy_fuse.call
        while True:
            with self._deciding:
                decision = decide(self._policy.decide, question, candidates, state, self._rng)
            match decision:
                case Skip(reason):
                    self._remember(address, Exploration(tuple(near)))
                    return Miss(reason, best)
                case Try(index, evidence, reason):
                    if reason == "learning":
                        self._tell_of_learning(state)
                    seen = Exploration(tuple(near), index, evidence)
                    return self._explore(address, seen, reason)
                case Serve(index, evidence, score):
                    seen = Exploration(tuple(near), index, evidence, score, self._shadow)
                    if self._shadow:
                        self._count("shadow:served")
                    if self._shadow or self._is_due(address):
                        return self._explore(address, seen, "shadow" if self._shadow else "audit")
                    if not self.refusals.has(near[index].record, address.key):
                        self._explorations.count_serving(address.key)
                        return self._hit(near[index], address, score, now)
                    refused = near[index].record.answer.text
                    for i in reversed(range(len(near))):  # that answer, whoever was given it first
                        if near[i].record.answer.text == refused:
                            del near[i], candidates[i]
                case _:
                    assert_never(decision)

    def _suit(self, space: str) -> None:
        """Let a policy that explores go by what is known of this embedder."""
        model = space
        if self._policy.explores:
            with suppress(Unavailable):  # counted; then it is a model that nobody knows
                model = self.embedder_fuse.call(known_model, space, self._memo.vector)
        with self._deciding:
            if self._policy.explores and space != self._suited_to:
                self._policy = self._policy.suited_to(model)
                self.learner.suit(self._policy, space)
            self._suited_to = space

    def _hit(self, one: Neighbour, address: Address, score: float | None, now: float) -> Hit:
        record = one.record
        serving = EntryId(record.key, address.key, one.similarity, score)
        age = max(0.0, now - record.created)
        return Hit(record.answer, Tier.SEMANTIC, one.similarity, str(serving), age)

    def _explore(self, address: Address, exploration: Exploration, reason: str) -> Explore:
        assert exploration.candidate is not None  # noqa: S101 - what is explored is a candidate
        self._explorations.remember(address.key, exploration)
        one = exploration.near[exploration.candidate]
        return Explore(one.record, one.similarity, reason)

    def _tell_of_learning(self, state: Any) -> None:
        """Say once why questions that look alike are not served."""
        if not self._told:
            self._told = True
            progress = self._policy.describe(state).get("learning")
            logger.info("learning which answers may be served by meaning: %s", progress)

    def _remember(self, address: Address, exploration: Exploration) -> None:
        """Keep the neighbours, so that the fresh answer joins the group of those that equal it."""
        if self._policy.explores and exploration.near:
            self._explorations.remember(address.key, exploration)

    def _is_due(self, address: Address) -> bool:
        """Say whether a question was served by meaning often enough to be asked for real.

        Its own answer is then stored under its own key, so that a wrong one is not served for ever.
        """
        return self._policy.explores and self._explorations.servings(address.key) >= SERVINGS

    def _candidate(self, question: str, one: Neighbour) -> Candidate:
        cached = one.record.question or ""
        guard = self._guard
        differences = (
            self._guard_fuse.call(guard.differences, question, cached) if guard is not None else ()
        )
        return Candidate(one.similarity, differences, cached, one.record.group or one.record.key)

    def _why_exact_only(self, request: Request) -> str | None:
        if request.exact_only is not None or request.question is None:
            return request.exact_only or "not_user_text"
        if not request.question.strip():
            return "not_user_text"
        guard = self._guard
        if guard is not None and not self._guard_fuse.call(guard.timeless, request.question):
            return "time"
        return None

    def _embed(self, question: str) -> tuple[str, Vector] | None:
        """Return the question's space and vector, None if it is longer than the model reads."""

        def embed() -> tuple[str, Vector] | None:
            if self._memo.truncates(question):
                return None
            vector = self._memo.vector(question)  # first: it may tell what the space is
            return self._memo.space, vector

        return self.embedder_fuse.call(embed)

    # ------------------------------------------------------------------------- what is stored

    def completed(self, record: Record, request: Request) -> Record:
        """Return the record with vector and answer group, where it may ever be served by meaning.

        If the lookup of its request explored, its answer labels the candidate.
        """
        exploration = self._explorations.take(record.key)
        try:
            if record.answer.exact_only or self._why_exact_only(request) is not None:
                return record
        except Unavailable:
            return record
        if exploration is not None:
            record = self._labeller.settle(record, exploration)
        if not self._memo.ready:
            self._memo.when_ready(lambda: self._add_vector_later(record))
            return record
        try:
            embedded = self._embed(record.question or "")
        except Unavailable:
            return record
        if embedded is None:
            return record
        space, vector = embedded
        return replace(record, vector=vector, space=space)

    def _add_vector_later(self, record: Record) -> None:
        """Complete a record that was stored while the model was loading, if it is still there."""
        try:
            embedded = self._embed(record.question or "")
            current = self._fuse.call(self._store.get, record.key)
            if embedded is not None and current is not None and current.created == record.created:
                space, vector = embedded
                self._fuse.call(self._store.put, replace(record, vector=vector, space=space))
        except Unavailable:
            return

    def similar(self, question: str, scope: str, similarity: float) -> list[str]:
        """Return the keys of a scope's records whose questions are at or above a cosine."""
        embedded = self._embed(question)
        wanted = 16
        while embedded is not None:
            near = self._fuse.call(self._store.nearest, scope, *embedded, wanted)
            found = [one.record.key for one in near if one.similarity >= similarity]
            if len(found) < wanted:
                return found
            wanted *= 4
        return []

    def describe(self, namespace: str) -> dict[str, Any]:
        """Return what a person wants to know of the policy and the embedder, as JSON values."""
        try:
            state = self._fuse.call(self.learner.state, namespace)
        except Unavailable:
            state = self._policy.start()
        return dict(self._policy.describe(state))

    def preload(self) -> None:
        """Load the embedding model now. Raises EmbedderError."""
        self._memo.preload()

    def close(self) -> None:
        """Wait, for a bounded time, for what is judged in the background."""
        self._labeller.close()


def is_readable(record: Record, request: Request) -> bool:
    """Say whether the asker's framework can read the record's answer."""
    return record.answer.format in ("text", request.format)
