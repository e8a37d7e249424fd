"""Take a lookup through the exact and the semantic tier, and a fresh answer into the store.

All of it blocks.

- lookup: store.get(key) -> Hit(exact), else SemanticTier.find -> Hit | Explore | Miss(reason)
- store: record(key, scope, question, answer, vector) -> store.put
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared_core.concurrency import Runtime
from shared_core.controls import (
    BYPASS,
    Controls,
    RewriteEvent,
    SharedEvent,
    StoreEvent,
    controls_of,
    lookup_event,
    tag_tuple,
    traces_of,
)
from shared_core.learning import REWRITTEN, VerifyEvent
from shared_core.options import Options, PrefixObserver, Seconds, seconds
from shared_core.record import (
    ERROR,
    Answer,
    EntryId,
    Explore,
    Hit,
    Miss,
    Outcome,
    PrefixMatch,
    Record,
    Tier,
    are_refusals,
    flaw_of,
    is_fresh,
    is_readable,
)
from shared_core.request import Address, Request, standalone_scope
from shared_core.resilience import CircuitBreaker, Unavailable, deadline, swallow
from shared_core.semantic import SemanticTier
from shared_core.stats import Counters
from shared_core.stores import Clock, KeyValue, Store, epoch_key

if TYPE_CHECKING:
    from shared_core.conversations import AskedAlone, Conversations

logger = logging.getLogger("tiered_cache")

SEALED = "\0sealed:"
"""Between a namespace's name and the fingerprint of the key that its records are encrypted with."""


class Pipeline:
    """Takes requests through the exact and the semantic tier of one store.

    Nothing here raises for a failure of a part: that is a miss or a store that keeps nothing,
    counted under ``errors:``. ``owner`` is the object that controls and traces are set for.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        owner: object,
        clock: Clock,
        key_fingerprints: Sequence[str] = (),
        values: KeyValue | None = None,
    ) -> None:
        self._store, self._options, self._owner, self._clock = store, options, owner, clock
        self._seal, *self._older_seals = [f"{SEALED}{one}" for one in key_fingerprints] or [""]
        self._ttl = None if options.ttl is None else seconds("ttl", options.ttl)
        self._stale = options.stale
        self.counters = Counters()
        # An epoch lies where the namespace's records lie, on a cluster too.
        probed = [epoch_key(self._options.namespace, "")]
        self.breaker = CircuitBreaker(
            "store", self.count_error, probe=lambda: store.get_many(probed)
        )
        self.conversations = self._conversations(store if values is None else values)
        parts = store, self.breaker, self.counters.add, self._tell_verified, self.conversations
        self.semantic = SemanticTier(options, *parts) if options.semantic else None

    def _conversations(self, values: KeyValue) -> Conversations | None:
        """Return what rewrites follow-ups, None where the history stays in every scope."""
        chosen = self._options.history
        if isinstance(chosen, str):
            return None
        from shared_core.conversations import Conversations

        notify = self.counters.add, self._tell_rewritten
        return Conversations(chosen, values, self.breaker, *notify, self._ttl)

    @property
    def values(self) -> KeyValue:
        """Return the store's small values."""
        return self._store

    def controls(self) -> Controls:
        """Return the controls in force here."""
        return controls_of(self._owner)

    def namespace(self, controls: Controls | None = None) -> str:
        """Return the namespace in force here, by which the store is asked.

        It is empty, and the request neither looked up nor kept, where one must be named and none
        is. With an encryption key it holds the key's seal: records of other keys are never found,
        and so never taken for corrupt. Of several keys it is the first's, which seals.
        """
        name = (controls or controls_of(self._owner)).namespace
        if name is None:
            name = "" if self._options.namespace_required else self._options.namespace
        return name + self._seal if name else ""

    def namespaces(self, controls: Controls | None = None) -> tuple[str, ...]:
        """Return the namespace in force under every key: what is new comes under the first.

        Where none is named it is the cache's own: this is for who deletes. A warning says so where
        one is required, as nothing lies in the cache's own then.
        """
        namespace = self.namespace(controls)
        if not namespace:
            namespace = self._options.namespace + self._seal
            logger.warning(
                "no namespace is named, so nothing of any tenant is deleted or made old: do it in "
                'a block "with cache.control(namespace=…):" for each'
            )
        return namespace, *self._older(namespace)

    def _older(self, namespace: str) -> list[str]:
        """Return the namespace under the keys that seal no more."""
        name = namespace.removesuffix(self._seal)
        return [name + seal for seal in self._older_seals] if name else []

    def unsealed(self, namespace: str) -> str:
        """Return the name of a namespace as its user gave it."""
        return namespace.partition(SEALED)[0]

    @staticmethod
    def sampled(request: Request, controls: Controls) -> Request:
        """Return the request for the sample whose number is in force, if one is."""
        if controls.sample is None:
            return request
        scope = f"{request.scope}\nsample {controls.sample}"  # no JSON holds a line feed
        return replace(request, scope=scope, is_sample=False)

    def count_error(self, kind: str) -> None:
        """Count a failure that the app did not see."""
        self.counters.add(f"errors:{kind}")

    def described(self, namespace: str) -> dict[str, Any]:
        """Return what a person wants to know of the policy, as JSON values."""
        if self.semantic is None:
            return {"policy": "exact"}
        described = self.semantic.describe(namespace)
        if self.conversations is not None:
            learnt = self.semantic.describe(namespace, REWRITTEN)
            described["standalone"] = {"stopped": "", **learnt, **self.conversations.describe()}
        return described

    def breakers(self) -> dict[str, str]:
        """Return the states of the circuit breakers by part."""
        found = {"store": self.breaker.state}
        if self.semantic is not None:
            found["embedder"] = self.semantic.embedder_state
        if self.conversations is not None:
            found["standalone"] = self.conversations.breaker.state
        return found

    def close(self) -> None:
        """Wait, for a bounded time, for what is judged in the background, and probe no more."""
        if self.semantic is not None:
            self.semantic.close()
        if self.conversations is not None:
            self.conversations.close()
        self.breaker.close()

    # --------------------------------------------------------------------------------- lookup

    def lookup(self, request: Request, stale: bool = False) -> Outcome:
        """Find the answer of this request, or of one that asks the same in other words.

        ``stale``: also one whose time is over, if the cache has it still and may keep a new one.
        """
        started = time.perf_counter()
        controls = controls_of(self._owner)
        if controls is BYPASS:
            return Miss("bypassed")
        request = self.sampled(request, controls)
        namespace = self.namespace(controls)
        address = request.address(namespace)
        with deadline(self._options.timeout):
            outcome: Outcome | None = self.why_not(request, namespace, controls)
            denylist = None
            if outcome is None:
                outcome, denylist = self._exact(
                    request, namespace, address, stale and controls.write
                )
            if outcome is None:
                outcome = self._by_meaning(request, namespace, address, denylist)
                if self._older_seals and isinstance(outcome, Miss):
                    outcome = self._under_older_keys(request, namespace, stale) or outcome
        if (
            controls.max_age is not None
            and isinstance(outcome, Hit)
            and controls.is_too_old(outcome.age)
        ):
            outcome = Miss("age")
        if self._options.prefix is not None and not isinstance(outcome, Hit):
            outcome = self._with_prefix(request, namespace, outcome)
        self._report(request, namespace, address, outcome, time.perf_counter() - started)
        return outcome

    @staticmethod
    def why_not(request: Request, namespace: str, controls: Controls) -> Miss | None:
        """Return the miss of a request that must not be looked up, else None."""
        if not namespace:
            return Miss("namespace")
        if not controls.read:
            return Miss("bypassed")
        return Miss(request.uncacheable) if request.uncacheable else None

    def peek(self, request: Request) -> Answer | None:
        """Return the exact answer if it is there, uncounted."""
        controls = controls_of(self._owner)
        request = self.sampled(request, controls)
        namespace = self.namespace(controls)
        if self.why_not(request, namespace, controls) is not None:
            return None
        found = self.exact(request, namespace, request.address(namespace))
        for older in self._older(namespace) if found is None else ():
            found = found or self.exact(request, older, request.address(older))
        if not isinstance(found, Hit) or controls.is_too_old(found.age):
            return None
        return found.answer

    def exact(self, request: Request, namespace: str, address: Address) -> Outcome | None:
        """Return a hit, a miss that ends the lookup, or None to go on to the semantic tier."""
        return self._exact(request, namespace, address)[0]

    def _exact(
        self, request: Request, namespace: str, address: Address, stale: bool = False
    ) -> tuple[Outcome | None, Record | None]:
        """Do so, and return what else was found in the place of an answer: refusals."""
        try:
            record = self.breaker.call(self._store.get, address.key)
        except Unavailable:
            return Miss("store"), None
        if (
            record is None
            or record.namespace != namespace
            or (record.scope != address.scope and record.scope not in _alone(request, namespace))
        ):
            return None, None
        if are_refusals(record):
            return None, record
        if not is_readable(record, request):
            return Miss("format"), None
        now = self._clock()
        is_stale = not is_fresh(record, now + self._stale)
        if is_stale and not stale:
            return None, None
        age, entry_id = max(0.0, now - record.created), str(EntryId(address.key))
        return Hit(record.answer, Tier.EXACT, 1.0, entry_id, age, is_stale), None

    def scopes(self, request: Request, namespace: str) -> tuple[str, ...]:
        """Return where the answers of a request's scope may lie, rewritten questions' included."""
        own = request.address(namespace).scope
        return (own,) if self.conversations is None else (own, _alone(request, namespace)[1])

    async def prepare(self, runtime: Runtime, request: Request) -> None:
        """Have a follow-up rewritten, if its lookup will ask for that; else do nothing.

        A lookup does so itself. Whoever has an event loop comes here first, so that no thread of
        the few that lookups run in waits for a model.
        """
        controls = controls_of(self._owner)
        namespace = self.namespace(controls)
        if self.conversations is None or self.why_not(request, namespace, controls) is not None:
            return
        if await runtime.run(lambda: self.peek(request)) is None:
            await self.conversations.rewritten(runtime, request, self.unsealed(namespace))

    def _asked_alone(
        self, request: Request, namespace: str, asks: bool = True
    ) -> AskedAlone | None:
        """Return a follow-up as a question that stands alone, None where there is none."""
        if self.conversations is None:
            return None
        tenant = self.unsealed(namespace)
        return self.conversations.asked_alone(request, namespace, tenant, asks=asks)

    def _under_older_keys(
        self, request: Request, namespace: str, stale: bool
    ) -> Hit | Explore | None:
        """Look for what was sealed by a key before the present one."""
        for older in self._older(namespace):
            address = request.address(older)
            outcome, denylist = self._exact(request, older, address, stale)
            if outcome is None:
                outcome = self._by_meaning(request, older, address, denylist)
            if not isinstance(outcome, Miss):
                return outcome
        return None

    def _by_meaning(
        self, request: Request, namespace: str, address: Address, denylist: Record | None
    ) -> Outcome:
        if self.semantic is None:
            return Miss("absent")
        now = self._clock()
        try:
            alone = self._asked_alone(request, namespace)
            if alone is None or self.conversations is None:
                return self.semantic.find(request, namespace, address, now, denylist)
            place = Address(address.key, alone.scope)
            outcome = self.semantic.find(
                *(alone.request, namespace, place, now, denylist), also=alone.first, kind=REWRITTEN
            )
        except Unavailable as failed:
            return Miss(failed.part)
        self.conversations.note(isinstance(outcome, Hit))
        return outcome

    def _with_prefix(
        self, request: Request, namespace: str, outcome: Explore | Miss
    ) -> Explore | Miss:
        """Add what front of the prompt was sent before; the model is about to be sent all of it."""
        found: list[PrefixMatch] = []

        def note(prefixes: PrefixObserver) -> None:
            found.append(prefixes.note(request, namespace))

        swallow(self.count_error, "prefix", note, self._options.prefix)
        return replace(outcome, prefix=found[0]) if found else outcome

    def _report(
        self, request: Request, namespace: str, address: Address, outcome: Outcome, latency: float
    ) -> None:
        self.counters.count_lookup(outcome, request.model, latency)
        traces = traces_of(self._owner)
        if traces or self._options.hooks:
            name = namespace.removesuffix(self._seal)
            event = lookup_event(request.model, name, address.key, outcome, latency)
            for trace in traces:
                trace.events.append(event)
            for hook in self._options.hooks:
                swallow(self.count_error, "hook", hook, event)

    def _tell_verified(self, event: VerifyEvent) -> None:
        for hook in self._options.hooks:
            if (verified := getattr(hook, "verified", None)) is not None:
                swallow(self.count_error, "hook", verified, event)

    def _tell_rewritten(self, event: RewriteEvent) -> None:
        for hook in self._options.hooks:
            if (rewritten := getattr(hook, "rewritten", None)) is not None:
                swallow(self.count_error, "hook", rewritten, event)

    def report_shared(self, request: Request, namespace: str, key: str, hit: Hit) -> None:
        """Tell that another's call answered a lookup that was reported as a miss."""
        self.counters.add("coalesced")
        name, usage = namespace.removesuffix(self._seal), hit.answer.usage
        for trace in traces_of(self._owner):
            trace.events.append(SharedEvent(hit.entry_id, key, name, request.model, usage))

    # ---------------------------------------------------------------------------------- store

    def store(
        self,
        request: Request,
        answer: Answer,
        *,
        tags: Iterable[str] = (),
        ttl: Seconds | None = None,
    ) -> str | None:
        """Keep an answer and return its entry id, or None if nothing was kept.

        ``tags`` are added to those of ``control``; ``ttl`` replaces the cache's (``math.inf``: for
        ever). Raises ValueError for a tag or ttl that makes no sense.
        """
        started = time.perf_counter()
        controls = controls_of(self._owner)
        request = self.sampled(request, controls)
        namespace = self.namespace(controls)
        lifetime = controls.ttl if ttl is None else seconds("ttl", ttl)
        all_tags = tag_tuple((*controls.tags, *tag_tuple(tags)))
        address = request.address(namespace)
        entry_id: str | None = None
        if namespace and controls.write and not request.uncacheable and self.keeps(request, answer):
            if flaw_of(answer) is not None:
                answer = replace(answer, exact_only=True)
            with deadline(self._options.timeout):
                alone = self._asked_alone(request, namespace, asks=False)
            if alone is not None:
                request, address = alone.request, Address(address.key, alone.scope)
            record = self.record(
                address, namespace, request.question, answer, request.model, all_tags, lifetime
            )
            with deadline(self._options.timeout):
                if self.semantic is not None:
                    record = self.semantic.completed(record, request)
                entry_id = self.put(record)
            if self.semantic is not None:
                self.semantic.stored(record)
        self.counters.count_call(answer.usage)
        latency = time.perf_counter() - started
        name = namespace.removesuffix(self._seal)
        event = StoreEvent(entry_id, address.key, name, request.model, latency, answer.usage)
        for trace in traces_of(self._owner):
            trace.events.append(event)
        for hook in self._options.hooks:
            if (stored := getattr(hook, "stored", None)) is not None:
                swallow(self.count_error, "hook", stored, event)
        return entry_id

    def keeps(self, request: Request, answer: Answer) -> bool:
        """Say whether an answer is whole and good, or wanted all the same.

        The result of a tool is no model's answer: ``validate`` is not asked about it.
        """
        flaw = flaw_of(answer)
        if flaw is not None and (flaw == ERROR or not self._options.keep_cut):
            self.counters.add(f"unkept:{flaw}")
            return False
        validate = self._options.validate
        if validate is None or request.exact_only == "tool":
            return True
        verdicts: list[object] = []
        swallow(self.count_error, "validate", lambda: verdicts.append(validate(answer)))
        is_valid = bool(verdicts and verdicts[0])
        if not is_valid:
            self.counters.add("unkept:invalid")
        return is_valid

    def record(
        self,
        address: Address,
        namespace: str,
        question: str | None,
        answer: Answer,
        model: str,
        tags: tuple[str, ...],
        ttl: float | None,
    ) -> Record:
        """Make a record of now; ``ttl`` None means the cache's, in seconds."""
        now = self._clock()
        ttl = self._ttl if ttl is None else ttl
        expires = None if ttl is None or ttl == float("inf") else now + ttl + self._stale
        return Record(
            address.key, address.scope, namespace, question, answer, model, tags, now, expires
        )

    def put(self, record: Record) -> str | None:
        """Store a record and return its entry id, None if that failed."""
        try:
            self.breaker.call(self._store.put, record)
        except Unavailable:
            return None
        self.counters.add("stores")
        return str(EntryId(record.key))


def _alone(request: Request, namespace: str) -> tuple[str, str]:
    """Return the scopes of a request without its conversation: of first questions, of rewritten."""
    from shared_core.conversations import scope_without_talk

    without = scope_without_talk(request.scope)
    first = replace(request, scope=without or request.scope).address(namespace).scope
    return first, standalone_scope(first)
