"""Learn from labels: of fresh answers, of slow judges, of people; shared by all processes."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, runtime_checkable

from shared_core.concurrency import free_after_fork, renew_after_fork
from shared_core.learning.judges import AnswerJudge, Judge, same_answer
from shared_core.learning.verifiers import Said
from shared_core.record import REFUSED, Answer, Neighbour, Record, are_refusals
from shared_core.resilience import CircuitBreaker, Unavailable, reraise_as
from shared_core.stores import Store
from shared_core.thresholds import Label, Policy

# Cases that a slow judge decides later: no request waits for it.
#
# add(fresh, cached, then) -> queue -> one thread -> judge(fresh, cached) -> then(verdict)


WAITING = 200
"""Cases that wait at most; more are refused, so that a slow judge costs labels and no memory."""

GRACE_S = 0.002
"""How long the thread leaves the interpreter to the call that stored the answer."""

LINGER_S = 10.0
"""How long the thread waits for another case: to start one may take a call milliseconds."""

DRAIN_S = 5.0
"""How long closing a cache waits for the cases that are left."""


@runtime_checkable
class BackgroundJudge(Protocol):
    """A judge that takes its time: it is called in the background if ``background`` is true."""

    background: bool

    def wants(self) -> bool:
        """Say whether it is to judge the next case; chosen by chance, so that labels are fair."""

    def __call__(self, fresh: Answer, cached: Answer) -> bool | None:
        """Judge as any ``Judge`` does."""


class JudgeTask(NamedTuple):
    """Two answers, and what is to be done with the verdict on them."""

    fresh: Answer
    cached: Answer
    then: Callable[[bool | None], object]


class JudgeQueue:
    """Has a judge decide case after case, in a thread that ends when there were none for a while.

    Equal texts need no judge. ``judge`` and what is done with its verdicts must not raise. Safe for
    threads; the child of a fork begins with no case, as its parent decides those that there were.
    """

    def __init__(self, judge: Judge, waiting: int = WAITING) -> None:
        self._judge, self._most = judge, waiting
        self._start_fresh()
        renew_after_fork(self)

    def renew_after_fork(self) -> None:
        """Leave the parent's cases and its thread to the parent."""
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._cases: deque[JudgeTask] = deque()
        self._changed = threading.Condition()
        self._lives = self._works = self._ends = False

    def add(self, fresh: Answer, cached: Answer, then: Callable[[bool | None], object]) -> bool:
        """Queue a case and return True; False if too many wait or no thread can be had."""
        with self._changed:
            if len(self._cases) >= self._most:
                return False
            self._cases.append(JudgeTask(fresh, cached, then))
            if self._lives:
                self._changed.notify_all()
            else:
                thread = threading.Thread(target=self._work, name="tiered-cache judge", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads can be had, or the interpreter ends
                    self._cases.pop()
                    return False
                self._lives, self._ends = True, False
        return True

    @property
    def pending(self) -> int:
        """Return how many cases wait."""
        return len(self._cases)

    def drain(self, timeout: float = DRAIN_S) -> bool:
        """Wait until all cases are decided, ``timeout`` seconds at most; drop what is left then.

        Returns whether all were decided.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: not self._cases and not self._works, timeout)
            self._cases.clear()
            return done

    def close(self) -> None:
        """Wait as ``drain`` does, and let the thread end."""
        self.drain()
        with self._changed:
            self._ends = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (case := self._next()) is not None:
            # Here and not in the judge, so that no such case looks like a judge that works again.
            equal = case.fresh.text == case.cached.text and bool(case.fresh.text.strip())
            case.then(True if equal else self._judge(case.fresh, case.cached))

    def _next(self) -> JudgeTask | None:
        """Wait for the next case; None when the thread is to end."""
        with self._changed:
            self._works = False
            self._changed.notify_all()
            waited = not self._cases
            if waited:
                self._changed.wait_for(lambda: self._cases or self._ends, LINGER_S)
            if not self._cases:
                self._lives = False
                return None
            self._works = True
            case = self._cases.popleft()
        if waited:
            time.sleep(GRACE_S)
        return case


# What a policy learnt, shared by all processes: a fold over the labels in the store.


STALE_S = 2.0
"""How old the labels known here may be before a lookup waits for newer ones.

The cache's own thread brings them up to date every second; only what it has left behind, as after a
pause, is read by a lookup.
"""

MAX_NAMESPACES = 1000


class LabelRefused(Exception):
    """A policy raised when it was given a label: the label is passed over, the next ones count."""

    down = False


class LabelStore:
    """Keeps a policy's state for each namespace and brings it up to date from the store.

    Every process folds the same labels in the same order, so all come to one state. A label that
    the policy raises at is passed over, in all of them; ``count_error`` is given "policy" then.
    Methods that read or write the store raise StoreError.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        count_error: Callable[[str], None] = lambda part: None,
    ) -> None:
        self._policy, self._store, self._clock = policy, store, clock
        self._breaker = CircuitBreaker("policy", count_error)
        self._topic = ""
        self._known: dict[str, tuple[int, int, float, Any]] = {}  # era, label number, when, state
        self._asked: set[str] = set()
        self._lock = free_after_fork(threading.Lock())

    def use_embedder(self, policy: Policy, space: str) -> None:
        """Go on with a policy for this space; evidence of other spaces is not its."""
        with self._lock:
            self._policy, self._topic = policy, f"{space}:"
            self._known.clear()

    def state(self, namespace: str) -> Any:
        """Return the state, read from the store if what is known is older than ``STALE_S``."""
        if not self._policy.learns:
            return None
        known = self._known.get(namespace)
        if known is None or self._clock() - known[2] >= STALE_S:
            return self.refresh(namespace)
        self._asked.add(namespace)
        return known[3]

    def catch_up(self) -> None:
        """Fold what others learnt in the namespaces that were asked for since the last time."""
        while self._asked:
            self.refresh(self._asked.pop())

    def refresh(self, namespace: str) -> Any:
        """Fold what was added since the last time, and return the state."""
        return self._fold(namespace, self.era(namespace))

    def _fold(self, namespace: str, era: int) -> Any:
        with self._lock:
            known = self._known.get(namespace)
            seen, state = (
                (known[1], known[3])
                if known and known[0] == era
                else (0, self._policy.initial_state())
            )
            name = self._log(namespace, era)
            for number, text in self._store.load_state({name: seen}).get(name, ()):
                seen = number
                label = Label.from_json(text)
                if label is not None and self._wants(label):
                    with suppress(Unavailable):  # counted
                        state = self._ask(self._policy.learn, state, label)
            with suppress(Unavailable):  # counted
                self._ask(self._policy.settle, state)
            if len(self._known) >= MAX_NAMESPACES:
                self._known.clear()
                self._asked.clear()
            self._known[namespace] = (era, seen, self._clock(), state)
            return state

    def _ask(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the policy. Raises Unavailable for whatever it raises."""
        return self._breaker.call(reraise_as, LabelRefused, method, *args)

    def learn(self, namespace: str, *labels: Label) -> None:
        """Add labels for all processes; here they are in effect at once."""
        labels = tuple(filter(self._wants, labels))
        if self._policy.learns and labels:
            known = self._known.get(namespace)
            era = known[0] if known else self.era(namespace)
            log = self._log(namespace, era)
            self._store.add_labels(log, [label.to_json() for label in labels])
            self._fold(namespace, era)

    def _wants(self, label: Label) -> bool:
        """Say whether the policy learns from it: not all know what to do with what is unknown."""
        is_plain = not label.unknown and (label.truth is None or bool(label.evidence))
        return is_plain or getattr(self._policy, "weighs_unknown", False)

    def taught_until(self, namespace: str) -> float:
        """Return when the newest record was made that was held against older ones."""
        key = f"{_TAUGHT}{self._topic}{namespace}"
        return float(self._store.get_many([key]).get(key, b"0"))

    def note_taught(self, namespace: str, until: float) -> None:
        """Remember that records up to this moment were held against each other."""
        self._store.put_many({f"{_TAUGHT}{self._topic}{namespace}": repr(until).encode()})

    def forget(self, namespace: str) -> None:
        """Start anew, in every process."""
        self._store.increment({_era_key(namespace): 1})
        self._known.pop(namespace, None)

    def _log(self, namespace: str, era: int) -> str:
        return f"labels:{era}:{self._topic}{namespace}"

    def era(self, namespace: str) -> int:
        """Return the number of this namespace's learning, which ``forget`` raises."""
        key = _era_key(namespace)
        return int(self._store.get_many([key]).get(key, b"0"))


_TAUGHT = "taught:"


def _era_key(namespace: str) -> str:
    return f"era:{namespace}"


# What a lookup saw and could not serve, until the fresh answer comes and labels it.


REWRITTEN = "\0standalone"
"""Behind a namespace: the labels of questions that were rewritten to stand alone. A rewriter that
errs ends the serving of those, and of no others."""

MAX_PENDING = 1000
MAX_SERVINGS = 10_000


@dataclass(frozen=True, slots=True)
class PendingLabel:
    """A question's neighbours, nearest first, and which of them the fresh answer will label.

    ``evidence`` is the policy's; ``in_shadow`` says that the candidate would have been served.
    ``said`` is what a verifier said of it; ``checked`` says that it might have been served, and
    the model was asked all the same.
    ``kind`` is "" or ``REWRITTEN``: what was asked in conversations has labels of its own.
    """

    near: tuple[Neighbour, ...]
    candidate: int | None = None
    evidence: tuple[float, ...] = ()
    score: float | None = None
    in_shadow: bool = False
    said: Said | None = None
    checked: bool = False
    kind: str = ""


class PendingLabels:
    """Explorations by the key of their request, and how often a question was served by meaning.

    Both are of this process, and bounded: the oldest go first.
    """

    def __init__(self) -> None:
        self._pending: OrderedDict[str, PendingLabel] = OrderedDict()
        self._servings: OrderedDict[str, int] = OrderedDict()
        self._lock = free_after_fork(threading.Lock())

    def remember(self, key: str, pending: PendingLabel) -> None:
        """Keep what is pending until its answer is stored."""
        with self._lock:
            self._pending[key] = pending
            self._pending.move_to_end(key)
            if len(self._pending) > MAX_PENDING:
                self._pending.popitem(last=False)

    def take(self, key: str) -> PendingLabel | None:
        """Return what is pending for a request, once."""
        with self._lock:
            return self._pending.pop(key, None)

    def servings(self, key: str) -> int:
        """Return how often a question was served by meaning."""
        return self._servings.get(key, 0)

    def count_serving(self, key: str) -> None:
        """Count that a question was served by meaning."""
        with self._lock:
            self._servings[key] = self._servings.get(key, 0) + 1
            self._servings.move_to_end(key)
            if len(self._servings) > MAX_SERVINGS:
                self._servings.popitem(last=False)


Regroup = Callable[[Record, str], object]
"""Puts a record that was stored into the group of another: (record, group)."""


Learnt = Callable[[str, PendingLabel, bool], object]
"""Is called with each label: (namespace, what was explored, whether it was right)."""


class Labeler:
    """Holds a fresh answer against those of the neighbours that its lookup saw.

    A judge whose attribute ``background`` is true, as the default one's is, judges after the answer
    was stored, in a thread: it labels what was explored, if ``wants()`` chooses it, and puts the
    answer into the group of those that say the same. One that only labels a sample, or asks a
    model, leaves the groups to the default. Its ``check``, a better judge, is asked about a sample
    of the same answers, and ``error`` is the share of its words "same" that it holds for false. Any
    other judge is asked at once.

    ``count`` adds to the cache's counters; ``breaker`` guards the store. ``regroup``, and
    ``learnt``, which is called with each new label, must not raise.
    """

    def __init__(
        self,
        judge: Judge,
        labels: LabelStore,
        breaker: CircuitBreaker,
        count: Callable[[str], None],
        regroup: Regroup,
        learnt: Learnt,
    ) -> None:
        self._labels, self._breaker, self._count = labels, breaker, count
        self._regroup, self._learnt = regroup, learnt
        self._controls: Counter[bool | None] = Counter()
        check: Judge | None = getattr(judge, "check", None)
        chooses = getattr(check, "wants", lambda: check is not None)
        self._checks = partial(_chosen, self._judge_breaker(), chooses)
        self._error = float(getattr(judge, "error", 0.0))
        self._late = judge if isinstance(judge, BackgroundJudge) and judge.background else None
        self._groups_by_default = self._late is not None and not isinstance(judge, AnswerJudge)
        self._judge = partial(_judged, self._judge_breaker(), judge)
        never: Callable[[], bool] = bool
        wants = never if self._late is None else self._late.wants
        self._wants = partial(_chosen, self._judge_breaker(), wants)
        self._queue = JudgeQueue(self._judge)
        self._better = partial(_judged, self._judge_breaker(), check or same_answer)
        grouping = same_answer if self._groups_by_default else judge
        self._same = partial(_judged, self._judge_breaker(), grouping)
        self._grouping = JudgeQueue(self._same) if self._groups_by_default else self._queue

    def _judge_breaker(self) -> CircuitBreaker:
        return CircuitBreaker("judge", lambda kind: self._count(f"errors:{kind}"))

    def settle(self, record: Record, pending: PendingLabel | None) -> Record:
        """Group the fresh answer; ask a judge that is not in the background."""
        record = grouped(record)
        if pending is None or self._late is not None:
            return record
        verdicts = {
            one.record.group or one.record.key: self._same(record.answer, one.record.answer)
            for one in reversed(pending.near)
        }
        if pending.candidate is not None:
            one = pending.near[pending.candidate]
            self._label(record, pending, verdicts[one.record.group or one.record.key])
        equal = (one.record.group or one.record.key for one in pending.near)
        return replace(record, group=next(filter(verdicts.get, equal), record.group))

    @property
    def controls(self) -> Mapping[str, int]:
        """Return what the judge said of answers to one question in the very same words.

        They are right, as far as the model answers alike: "different" is the judge's error on the
        right side, measured for nothing. Of this process.
        """
        names = {True: "same", False: "different", None: "unknown"}
        return {names[said]: count for said, count in self._controls.items()}

    @property
    def judges_later(self) -> bool:
        """Say whether what was explored is judged when it is ``stored``."""
        return self._late is not None

    def stored(self, record: Record, pending: PendingLabel) -> None:
        """Have a judge in the background label what was explored, and group the answer."""
        if self._late is None:
            return
        candidate = pending.candidate
        one = pending.near[candidate or 0]
        label = partial(self._label, record, pending)
        group = partial(self._group, record, pending)
        if one.record.group == record.group:  # the very words: no judge is needed
            if candidate is not None and self._wants():
                label(True, judged=False)
            return
        fresh, cached = record.answer, one.record.answer
        if self._groups_by_default:
            if candidate is not None and self._wants():
                self._add(self._queue, fresh, cached, label)
            self._add(self._grouping, fresh, cached, group)
        elif candidate is None or not self._wants():
            self._add(self._grouping, fresh, cached, group)
        else:
            self._add(self._queue, fresh, cached, lambda same: (label(same), group(same)))

    def _add(
        self,
        queue: JudgeQueue,
        fresh: Answer,
        cached: Answer,
        then: Callable[[bool | None], object],
    ) -> None:
        if not queue.add(fresh, cached, then):
            self._count("errors:judge_busy")

    def _group(self, record: Record, pending: PendingLabel, same: bool | None) -> None:
        """Put the answer into the group of the nearest that says the same, if there is one."""
        first = pending.near[pending.candidate or 0].record
        verdicts = {first.group or first.key: same}
        for one in pending.near:
            group = one.record.group or one.record.key
            if group == record.group:
                return
            if group not in verdicts:
                verdicts[group] = self._same(record.answer, one.record.answer)
            if not pending.kind and same_words(record.question, one.record.question):
                self._note_control(record.namespace, verdicts[group])
            if verdicts[group]:
                self._regroup(record, group)
                return

    def _note_control(self, namespace: str, said: bool | None) -> None:
        """Count what the judge said of two answers to one question: they are right."""
        self._controls[said] += 1
        label = Label(said is True, 1.0, fair=False, unknown=said is None, truth=True)
        with suppress(Unavailable):  # counted
            self._breaker.call(self._labels.learn, namespace, label)

    def _label(
        self, record: Record, pending: PendingLabel, right: bool | None, judged: bool = True
    ) -> None:
        kind = "shadow" if pending.in_shadow else "explored"
        verdict = {True: "right", False: "wrong", None: "unknown"}[right]
        self._count(f"{kind}:{verdict}")
        if pending.candidate is None:
            return
        one = pending.near[pending.candidate]
        truth = self._checked(record.answer, one.record.answer) if judged else None
        label = Label(
            right is True,
            one.similarity,
            pending.evidence,
            pending.score,
            unknown=right is None,
            truth=truth,
            error=self._error if judged else 0.0,
        )
        with suppress(Unavailable):  # counted
            self._breaker.call(self._labels.learn, record.namespace + pending.kind, label)
        known = right if truth is None else truth
        if known is not None:
            self._learnt(record.namespace, pending, known)

    def _checked(self, fresh: Answer, cached: Answer) -> bool | None:
        """Return what a better judge says, if it is to be asked; chosen before anything is known.

        Only for a judge in the background: no request waits for two.
        """
        if self._late is None or not self._checks():
            return None
        found = self._better(fresh, cached)
        self._count("errors:judge_check" if found is None else "judge:checked")
        return found

    def drain(self, timeout: float = DRAIN_S) -> bool:
        """Wait, for a bounded time, for what is judged in the background; say whether all is."""
        queues = dict.fromkeys((self._queue, self._grouping))
        return all([queue.drain(timeout) for queue in queues])

    @property
    def pending(self) -> int:
        """Return how many answers wait for the judge."""
        return self._queue.pending

    def compare(self, fresh: Answer, cached: Answer) -> bool | None:
        """Judge two answers at once, by their words where the judge takes its time."""
        return self._judge(fresh, cached)

    def close(self) -> None:
        """Wait, for a bounded time, for what is judged in the background, and drop the rest."""
        for queue in dict.fromkeys((self._queue, self._grouping)):
            queue.close()


def same_words(one: str | None, two: str | None) -> bool:
    """Tell whether two questions differ in case, spaces and punctuation at most."""
    words = [re.findall(r"\w+", (text or "").casefold()) for text in (one, two)]
    return bool(words[0]) and words[0] == words[1]


def grouped(record: Record) -> Record:
    """Put a record into the group of all answers of its very text, wherever they were given."""
    text = " ".join(record.answer.text.split()).casefold()
    if not text:
        return record
    return replace(
        record, group=blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    )


def _judged(breaker: CircuitBreaker, judge: Judge, fresh: Answer, cached: Answer) -> bool | None:
    try:
        return breaker.call(judge, fresh, cached)
    except Unavailable:
        return None


def _chosen(breaker: CircuitBreaker, wants: Callable[[], bool]) -> bool:
    """Say whether a judge wants the next case; one that fails to say so does not."""
    try:
        return bool(breaker.call(wants))
    except Unavailable:  # counted
        return False


class Denylist:
    """Answers that must not be served to one question again, known to all processes at once.

    They are kept where the question's own answer would be, so that the read which finds none brings
    them along. ``add`` raises Unavailable when the store fails.
    """

    def __init__(self, store: Store, breaker: CircuitBreaker) -> None:
        self._store, self._breaker = store, breaker

    def add(self, record: Record, asked: str) -> None:
        """Serve this answer to this question no more, until it is stored anew."""
        there = self._breaker.call(self._store.get, asked)
        if there is not None and not are_refusals(there):
            return  # the question has an answer of its own by now
        refused = {**_refused(there), record.key: record.created}
        answer = Answer(json.dumps(refused), format=REFUSED, exact_only=True)
        kept = replace(record, key=asked, question=None, answer=answer, tags=(), vector=None)
        self._breaker.call(self._store.put, kept)


def refused_answers(denylist: Record | None, records: Sequence[Record]) -> set[str]:
    """Return the answers, whoever was given them first, that ``refusals`` keep from a question."""
    refused = _refused(denylist)
    return {one.answer.text for one in records if refused.get(one.key) == one.created}


def _refused(denylist: Record | None) -> dict[str, float]:
    """Return when each refused record was made, by its key; what is odd refuses nothing."""
    try:
        return {} if denylist is None else dict(json.loads(denylist.answer.text))
    except (ValueError, TypeError):
        return {}
