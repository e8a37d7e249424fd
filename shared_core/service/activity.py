"""Count what happens in all workers: lately, for the service's page, and ever, for its metrics.

    lookups, hits, verdicts --> this worker's tally --every 2 s--> its row in the store
    rows of all workers --merged--> picture
    lookups, calls of the upstream --Meter--> counters that all workers share through the store

Nothing of it is on the path of a request but a count under a lock. A store that fails loses nothing
but the others' part of the picture.
"""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from shared_core.cache import ResponseCache
from shared_core.concurrency import renew_after_fork
from shared_core.controls import LookupEvent, RewriteEvent
from shared_core.learning import VerifyEvent
from shared_core.record import Answer, EntryId, Hit, Record, Tier
from shared_core.resilience import CircuitBreaker, Unavailable
from shared_core.stats import BackgroundFlush, Counters
from shared_core.stores import Clock, Codec, UndecodableError
from shared_core.usage import MILLION, money_saved, saved_by

# What one worker saw of a day, as plain numbers and texts that add up with those of others.
#
# tallies of all workers --merged--> one --as_json, from_json--> rows of a store


T = TypeVar("T")

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400

BINS, LOWEST = 20, 0.5
"""Similarities are counted in equal bins from ``LOWEST`` to 1; what is less is counted apart."""

BELOW = -1

_STEPS = 8
"""Latencies are counted in bins of a factor 2 ** (1 / 8): percentiles are true to 9 %."""

MAX_HITS = 50
MAX_VERDICTS = 500
_MAX_NAMESPACES = 200


@dataclass(frozen=True, slots=True)
class ServedByMeaning:
    """One answer that was served to a question in other words; the same again only counts.

    ``time`` is that of the last serving, in seconds since the epoch. The texts are None where
    questions are not recorded, ``stored`` also when the entry was gone before it was looked at.
    ``model`` is that which was asked for.
    """

    entry_id: str
    namespace: str
    asked: str | None
    stored: str | None
    answer: str | None
    similarity: float
    time: float
    times: int = 1
    model: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person said of an answer, and when, in seconds since the epoch."""

    correct: bool
    time: float


Bins = dict[int, int]


@dataclass(slots=True)
class Tally:
    """Counts of one day, recent hits, verdicts by entry id, and when namespaces were last used.

    ``minutes`` counts outcomes by minute since the epoch, and what was "spent" and "saved" in
    billionths of a dollar; ``similarities`` and ``latencies`` count bins by hour and by outcome or
    part.
    """

    minutes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    similarities: dict[int, dict[str, Bins]] = field(default_factory=dict)
    latencies: dict[int, dict[str, Bins]] = field(default_factory=dict)
    hits: dict[str, ServedByMeaning] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    namespaces: dict[str, float] = field(default_factory=dict)

    def see(self, namespace: str, now: float) -> None:
        """Remember that a namespace is used."""
        _keep(self.namespaces, namespace, now, _MAX_NAMESPACES)

    def count(self, outcome: str, now: float, amount: int = 1) -> None:
        """Count an outcome, or an amount of money."""
        self.minutes[int(now // MINUTE_S)][outcome] += amount

    def count_similarity(self, outcome: str, similarity: float, now: float) -> None:
        """Count how near the nearest question was."""
        _add(self.similarities, int(now // HOUR_S), outcome, {similarity_bin(similarity): 1})

    def count_latency(self, part: str, seconds: float, now: float) -> None:
        """Count how long a part took."""
        _add(self.latencies, int(now // HOUR_S), part, {latency_bin(seconds): 1})

    def note(self, hit: ServedByMeaning) -> None:
        """Remember a hit as the newest; the oldest goes."""
        known = self.hits.pop(hit.entry_id, None)
        if known is not None:
            newest = max(known, hit, key=lambda one: one.time)
            hit = replace(newest, times=known.times + hit.times)
        _keep(self.hits, hit.entry_id, hit, MAX_HITS)

    def judge(self, entry_id: str, verdict: Verdict) -> None:
        """Remember what was said last of a hit."""
        known = self.verdicts.get(entry_id, verdict)
        newest = max(known, verdict, key=lambda one: one.time)
        _keep(self.verdicts, entry_id, newest, MAX_VERDICTS)

    def forget(self, now: float) -> None:
        """Drop what is older than a day."""
        since = now - DAY_S
        for counts, length in (
            (self.minutes, MINUTE_S),
            (self.similarities, HOUR_S),
            (self.latencies, HOUR_S),
        ):
            for period in [one for one in counts if (one + 1) * length <= since]:
                del counts[period]
        self.hits = {id: hit for id, hit in self.hits.items() if hit.time > since}
        self.verdicts = {id: one for id, one in self.verdicts.items() if one.time > since}
        self.namespaces = {name: time for name, time in self.namespaces.items() if time > since}

    def as_json(self) -> str:
        """Return the tally as JSON."""
        body = {
            "minutes": self.minutes,
            "similarities": self.similarities,
            "latencies": self.latencies,
            "hits": {id: asdict(hit) for id, hit in self.hits.items()},
            "verdicts": {id: asdict(verdict) for id, verdict in self.verdicts.items()},
            "namespaces": self.namespaces,
        }
        return json.dumps(body, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Read a tally; raises ValueError for what is none."""
        try:
            read, tally = json.loads(text), cls()
            for minute, counts in read["minutes"].items():
                tally.minutes[int(minute)] = Counter(counts)
            for name in ("similarities", "latencies"):
                for hour, kinds in read[name].items():
                    for kind, bins in kinds.items():
                        counted = {int(number): int(n) for number, n in bins.items()}
                        _add(getattr(tally, name), int(hour), kind, counted)
            tally.hits = {id: ServedByMeaning(**hit) for id, hit in read["hits"].items()}
            tally.verdicts = {id: Verdict(**one) for id, one in read["verdicts"].items()}
            tally.namespaces = {str(name): float(at) for name, at in read["namespaces"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a tally: {type(error).__name__}") from None
        return tally


def merged(tallies: Iterable[Tally]) -> Tally:
    """Add up what several workers saw."""
    total = Tally()
    hits: list[ServedByMeaning] = []
    for tally in tallies:
        for minute, counts in tally.minutes.items():
            total.minutes[minute].update(counts)
        for name in ("similarities", "latencies"):
            for hour, kinds in getattr(tally, name).items():
                for kind, bins in kinds.items():
                    _add(getattr(total, name), hour, kind, bins)
        hits += tally.hits.values()
        for id, verdict in tally.verdicts.items():
            total.judge(id, verdict)
        for name, seen in tally.namespaces.items():
            total.see(name, max(seen, total.namespaces.get(name, seen)))
    for hit in sorted(hits, key=lambda one: one.time):
        total.note(hit)
    return total


def over_the_day(hours: Mapping[int, Mapping[str, Bins]]) -> dict[str, Counter[int]]:
    """Add up the bins of all hours, by outcome or part."""
    total: dict[str, Counter[int]] = defaultdict(Counter)
    for kinds in hours.values():
        for kind, bins in kinds.items():
            total[kind].update(bins)
    return total


def similarity_bin(similarity: float) -> int:
    """Return the number of a similarity's bin, ``BELOW`` for what is under the lowest."""
    if similarity < LOWEST:
        return BELOW
    return min(BINS - 1, int((similarity - LOWEST) / (1 - LOWEST) * BINS + 1e-9))


def latency_bin(seconds: float) -> int:
    """Return the number of the bin whose upper end is ``2 ** (number / STEPS)`` microseconds."""
    return math.ceil(_STEPS * math.log2(max(1.0, seconds * 1e6)))


def percentiles(bins: Mapping[int, int]) -> dict[str, float]:
    """Return p50, p90 and p99 in seconds: the middle of the bin in which each lies."""
    total = sum(bins.values())
    found: dict[str, float] = {}
    for share in (50, 90, 99):
        seen = 0
        for number in sorted(bins):
            seen += bins[number]
            if seen * 100 > total * share or seen == total:
                found[f"p{share}"] = 2 ** ((number - 0.5) / _STEPS) / 1e6
                break
    return found


def _keep(held: dict[str, T], name: str, value: T, most: int) -> None:
    """Put a value last; the first go where there are too many."""
    held.pop(name, None)
    held[name] = value
    while len(held) > most:
        del held[next(iter(held))]


def _add(hours: dict[int, dict[str, Bins]], hour: int, kind: str, bins: Mapping[int, int]) -> None:
    held = hours.setdefault(hour, {}).setdefault(kind, {})
    for number, count in bins.items():
        held[number] = held.get(number, 0) + count


def picture_of(tally: Tally) -> dict[str, Any]:
    """Return a tally as the page reads it, newest hits first; see ``Activity.picture``."""
    similarities = over_the_day(tally.similarities)
    latencies = over_the_day(tally.latencies)
    return {
        "minutes": [
            {
                "time": minute * MINUTE_S,
                **{name: counts[name] for name in ("exact", "semantic", "explore", "miss")},
                **{name: counts[name] / BILLION for name in ("spent", "saved")},
            }
            for minute, counts in sorted(tally.minutes.items())
        ],
        "similarity": {
            outcome: {
                "bins": [similarities[outcome][number] for number in range(BINS)],
                "below": similarities[outcome][BELOW],
            }
            for outcome in ("hit", "explore", "miss")
        },
        "parts": {
            part: {"count": sum(bins.values()), **percentiles(bins)}
            for part, bins in sorted(latencies.items())
        },
        "recent": [
            {**asdict(hit), "verdict": _said(tally.verdicts.get(hit.entry_id))}
            for hit in reversed(tally.hits.values())
        ],
        "namespaces": sorted(tally.namespaces, key=tally.namespaces.__getitem__, reverse=True),
    }


def _said(verdict: Verdict | None) -> str | None:
    return None if verdict is None else "right" if verdict.correct else "wrong"


BILLION = 10**9
"""Money is counted in billionths of a dollar: a short answer costs some thousand of them."""

_PERIOD_S = 2.0
"""How often a worker writes its row at most."""

MAX_QUESTION_CHARACTERS, MAX_ANSWER_CHARACTERS = 1000, 300
"""Characters of a question and of an answer that are shown to a person."""

ROWS_READ = 256
"""Rows that are read for one picture at most: a worker that restarts leaves one for a day."""


@dataclass(frozen=True, slots=True)
class _Noted:
    """A hit whose stored question is not read yet."""

    asked: str
    hit: Hit
    namespace: str
    time: float
    model: str


class _Tokens(NamedTuple):
    """Tokens that a hit of a tier saved, or that a call cost: then the tier is None."""

    time: float
    tier: Tier | None
    model: str
    usage: Mapping[str, int]


class Activity:
    """Counts what a cache does, as one of its hooks, and shows it together with other workers.

    ``record_questions`` False keeps every text out of it: counts and similarities remain.

        activity = Activity()
        cache = ResponseCache.open("redis://localhost:6379/0", hooks=(activity,))
        activity.open(cache)

    Rows hold what is in ``Tally``, encrypted when the cache has an ``encryption_key``, and live for
    a day. Thread-safe; a forked child counts as another worker.
    """

    def __init__(self, *, record_questions: bool = True, clock: Clock = time.time) -> None:
        self._record_questions, self._clock = record_questions, clock
        self._shared: _Rows | None = None
        self._meter: Meter | None = None
        self._flusher = BackgroundFlush(self._write_if_due)
        self._start()
        renew_after_fork(self)

    def _start(self) -> None:
        self._worker = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._tally, self._changed, self._written = Tally(), False, 0.0
        self._noted: deque[_Noted] = deque(maxlen=MAX_HITS)
        self._uncounted: list[_Tokens] = []

    def renew_after_fork(self) -> None:
        """Let a child count for itself: what was counted so far is the parent's."""
        self._start()

    def open(self, cache: ResponseCache, meter: Meter | None = None) -> None:
        """Share what is seen through the cache's store, until ``close``; ``meter`` counts it."""
        self._shared, self._meter = _Rows(cache), meter

    def close(self) -> None:
        """Write what was seen a last time."""
        self._flusher.stop()
        self.flush()
        self._shared = None

    def __call__(self, event: LookupEvent) -> None:
        """Count a lookup."""
        now = self._clock()
        if self._meter is not None:
            self._meter.looked_up(event)
        outcome = event.outcome if event.tier is None else str(event.tier)
        with self._lock:
            self._tally.count(outcome, now)
            self._tally.see(event.namespace, now)
            if event.similarity is not None and event.tier is not Tier.EXACT:
                self._tally.count_similarity(event.outcome, event.similarity, now)
            if event.usage:
                self._uncounted.append(_Tokens(now, event.tier, event.model, event.usage))
            self._changed = True
        self._flusher.ensure()

    def answered(self, model: str, usage: Mapping[str, int] | None) -> None:
        """Count the tokens of a fresh answer, which were paid for."""
        if self._meter is not None:
            self._meter.answered(model, usage)
        self._spent(model, usage)

    def rewritten(self, event: RewriteEvent) -> None:
        """Count what rewriting a follow-up cost."""
        self._asked_aside("standalone", event)

    def verified(self, event: VerifyEvent) -> None:
        """Count what a verifier's word cost."""
        self._asked_aside("verifier", event)

    def _asked_aside(self, part: str, event: RewriteEvent | VerifyEvent) -> None:
        if self._meter is not None:
            self._meter.asked_aside(part, event.model, event.usage)
        self._spent(event.model, event.usage)

    def _spent(self, model: str, usage: Mapping[str, int] | None) -> None:
        if not usage:
            return
        with self._lock:
            self._uncounted.append(_Tokens(self._clock(), None, model, usage))
            self._changed = True
        self._flusher.ensure()

    def record_hit(self, asked: str | None, hit: Hit, namespace: str, model: str = "") -> None:
        """Remember an answer that was served by meaning, to be shown beside its question.

        An exact hit is not remembered: there is nothing to compare.
        """
        if hit.tier is Tier.EXACT:
            return
        text = (asked or "")[:MAX_QUESTION_CHARACTERS]
        with self._lock:
            self._noted.append(_Noted(text, hit, namespace, self._clock(), model))
            self._changed = True
        self._flusher.ensure()

    def record_verdict(self, entry_id: str, correct: bool) -> None:
        """Remember what a person said of a served answer."""
        if EntryId.parse(entry_id) is None:
            return
        with self._lock:
            self._tally.judge(entry_id, Verdict(correct, self._clock()))
            self._changed = True
        self._flusher.ensure()

    def took(self, part: str, seconds: float) -> None:
        """Count how long a part took, such as "upstream"; ``part`` is one of a few names."""
        with self._lock:
            self._tally.count_latency(part, seconds, self._clock())
            self._changed = True
        self._flusher.ensure()

    def picture(self, tenant: str | None = None) -> dict[str, Any]:
        """Return what all workers saw in the last day, as JSON values. Blocks.

        ``minutes`` counts outcomes by minute (``time``: its begin, in seconds since the epoch), and
        US dollars that were ``spent`` and ``saved``;
        ``similarity`` counts by outcome in 20 equal ``bins`` from 0.5 to 1, and ``below``;
        ``parts`` has percentiles in seconds; ``recent`` are hits by meaning, newest first;
        ``namespaces`` those that were used, the latest first; both of one ``tenant`` and its parts,
        if that is given. ``workers`` is how many added to it, ``complete`` False if the store could
        not be read.
        """
        self._read_stored()
        with self._lock:
            self._tally.forget(self._clock())
            own = merged([self._tally])
        others, complete = [], True
        if self._shared is not None:
            try:
                others = list(self._shared.read(self._worker))
            except Unavailable:
                complete = False
        tally = merged([own, *others])
        tally.forget(self._clock())
        picture = picture_of(tally)
        if tenant is not None:
            recent, names = picture["recent"], picture["namespaces"]
            picture["recent"] = [hit for hit in recent if is_within(hit["namespace"], tenant)]
            picture["namespaces"] = [name for name in names if is_within(name, tenant)]
        return {**picture, "workers": 1 + len(others), "complete": complete}

    def flush(self) -> None:
        """Write this worker's row now, if there is anything new in it."""
        self._read_stored()
        shared = self._shared
        with self._lock:
            if shared is None or not self._changed:
                return
            self._tally.forget(self._clock())
            row, self._changed = self._tally.as_json(), False
        try:
            shared.write(self._worker, row)
        except Unavailable:  # counted; the next row holds all of it again
            with self._lock:
                self._changed = True

    def _write_if_due(self) -> None:
        now = time.monotonic()
        if now - self._written >= _PERIOD_S:
            self._written = now
            self.flush()

    def _read_stored(self) -> None:
        """Find the stored questions of the hits that came since the last time, and the prices."""
        self.count_money()
        while True:
            with self._lock:
                if not self._noted:
                    return
                noted = self._noted.popleft()
            hit = self._shown(noted)
            with self._lock:
                self._tally.note(hit)

    def count_money(self) -> None:
        """Count the tokens of the latest hits and calls: here, as no request is to wait for it."""
        with self._lock:
            tokens, self._uncounted = self._uncounted, []
        sums: dict[tuple[float, str], Counter[str]] = defaultdict(Counter)
        for one in tokens:
            what = "spent" if one.tier is None else "saved"
            sums[one.time // MINUTE_S, what].update(saved_by(one.usage, one.model))
            if self._meter is not None and one.tier is not None:
                self._meter.saved(one.tier, one.model, one.usage)
        for (minute, what), counts in sums.items():
            dollars = money_saved(counts)
            if dollars:
                with self._lock:
                    self._tally.count(what, minute * MINUTE_S, round(dollars * BILLION))

    def _shown(self, noted: _Noted) -> ServedByMeaning:
        hit = noted.hit
        asked: str | None = noted.asked
        stored: str | None = None
        answer: str | None = hit.answer.text[:MAX_ANSWER_CHARACTERS]
        if not self._record_questions:
            asked = answer = None
        elif self._shared is not None:
            stored = self._shared.question(hit.entry_id)
        similarity = round(hit.similarity, 4)
        return ServedByMeaning(
            hit.entry_id,
            noted.namespace,
            asked,
            stored,
            answer,
            similarity,
            noted.time,
            model=noted.model,
        )


def is_within(namespace: str, tenant: str) -> bool:
    """Say whether a namespace is a tenant's own or a part of it."""
    return namespace == tenant or namespace.startswith(f"{tenant}:")


class _Rows:
    """One row per worker among the store's values. Methods raise Unavailable."""

    def __init__(self, cache: ResponseCache) -> None:
        self._values, self._store = cache.values, cache._path._store
        self._codec = Codec(cache.options.encryption_key)
        self._prefix = f"activity:{cache.options.namespace}:"
        self._breaker = CircuitBreaker("activity", cache.count_error)

    def write(self, worker: str, row: str) -> None:
        """Write a row, for a day. It goes as a record does, so that it is encrypted like one."""
        body = self._codec.encode(Record(worker, "", "", None, Answer(row)))
        self._breaker.call(self._values.put_many, {self._prefix + worker: body}, ttl=DAY_S)

    def read(self, but: str) -> Iterator[Tally]:
        """Yield the rows of all workers but one; what cannot be read is left out."""
        for body in self._breaker.call(self._bodies, self._prefix + but):
            try:
                yield Tally.from_json(self._codec.decode(body).answer.text)
            except (UndecodableError, ValueError):
                continue  # of another version, or encrypted with another key

    def _bodies(self, but: str) -> list[bytes]:
        keys: set[str] = set()
        cursor = ""
        while True:
            some, cursor = self._values.scan(self._prefix, cursor)
            keys.update(key for key in some if key != but)
            if not cursor or len(keys) >= ROWS_READ:
                return list(self._values.get_many(sorted(keys)[:ROWS_READ]).values())

    def question(self, entry_id: str) -> str | None:
        """Return the question of a stored entry, None if it is gone or cannot be read."""
        serving = EntryId.parse(entry_id)
        try:
            record = serving and self._breaker.call(self._store.get, serving.record)
        except Unavailable:
            return None
        text = record.question if record else None
        return None if text is None else text[:MAX_QUESTION_CHARACTERS]


# What /metrics tells: counts that all workers add up in the store, for ever.


BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

MAX_LABEL_VALUES = 100
OTHER = "other"

OWN = "service:"
"""How the names of counters begin that are the service's own."""


class Meter:
    """Counts what the service does into the counters of its cache, which all workers share.

    Names of models and namespaces are whatever callers send: the first hundred are told apart.
    """

    def __init__(self, cache: ResponseCache) -> None:
        self._counters: Counters = cache._path.counters
        self._lock = threading.Lock()
        self._labels: dict[str, set[str]] = {"model": set(), "namespace": set()}

    def label(self, kind: str, name: str) -> str:
        """Return a name as a label: itself, or "other" once there are a hundred.

        A "|" in it becomes a "/", as the counters' names hold labels between such bars.
        """
        known = self._labels[kind]
        name = name.replace("|", "/")
        if name in known:
            return name
        with self._lock:
            if len(known) >= MAX_LABEL_VALUES or len(name) > MAX_LABEL_VALUES:
                return OTHER
            known.add(name)
        return name

    def looked_up(self, event: LookupEvent) -> None:
        """Count a lookup: its latency, and for whom it was."""
        outcome = event.outcome if event.tier is None else str(event.tier)
        self.observe(f"lookup:{outcome}", event.latency)
        model = self.label("model", event.model)
        namespace = self.label("namespace", event.namespace)
        self.count(f"requests:{outcome}|{model}|{namespace}")
        if event.outcome == "explore" and event.reason == "audit":
            self.count("audits")

    def saved(self, tier: Tier, model: str, usage: Mapping[str, int]) -> None:
        """Count the tokens that a hit of a tier saved."""
        self._count_tokens(f"saved_by:{tier}", model, usage)

    def answered(self, model: str, usage: Mapping[str, int] | None) -> None:
        """Count the tokens of a fresh answer, which were paid for."""
        self._count_tokens("spent", model, usage)

    def asked_aside(self, part: str, model: str, usage: Mapping[str, int] | None) -> None:
        """Count the tokens of a call that the cache made itself, for a ``part`` of it."""
        self._count_tokens(f"aside:{part}", model, usage)

    def _count_tokens(self, name: str, model: str, usage: Mapping[str, int] | None) -> None:
        for kind, count in saved_by(usage, self.label("model", model)).items():
            self.count(f"{name}:{kind}", count)

    def count(self, name: str, amount: int = 1) -> None:
        """Count one more of the service's own."""
        self._counters.add(f"{OWN}{name}", amount)

    def observe(self, name: str, seconds: float) -> None:
        """Count a duration, in its bucket and in all."""
        bucket = bisect_left(BUCKETS_S, seconds)
        self.count(f"seconds:{name}:{bucket}")
        self.count(f"micros:{name}", round(seconds * MILLION))
