"""What one worker saw of a day, as plain numbers and texts that add up with those of others.

tallies of all workers --merged--> one --as_json, from_json--> rows of a store
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

T = TypeVar("T")

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400

BINS, LOWEST = 20, 0.5
"""Similarities are counted in equal bins from ``LOWEST`` to 1; what is less is counted apart."""

BELOW = -1

STEPS = 8
"""Latencies are counted in bins of a factor 2 ** (1 / 8): percentiles are true to 9 %."""

HITS_KEPT = 50
VERDICTS_KEPT = 500
NAMESPACES_KEPT = 200


@dataclass(frozen=True, slots=True)
class ServedByMeaning:
    """One answer that was served to a question in other words; the same again only counts.

    ``time`` is that of the last serving, in seconds since the epoch. The texts are None where
    questions are not recorded, ``stored`` also when the entry was gone before it was looked at.
    """

    entry_id: str
    namespace: str
    asked: str | None
    stored: str | None
    answer: str | None
    similarity: float
    time: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person said of an answer, and when, in seconds since the epoch."""

    correct: bool
    time: float


Bins = dict[int, int]


@dataclass(slots=True)
class Tally:
    """Counts of one day, recent hits, verdicts by entry id, and when namespaces were last used.

    ``minutes`` counts outcomes by minute since the epoch; ``similarities`` and ``latencies`` count
    bins by hour and by outcome or part.
    """

    minutes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    similarities: dict[int, dict[str, Bins]] = field(default_factory=dict)
    latencies: dict[int, dict[str, Bins]] = field(default_factory=dict)
    hits: dict[str, ServedByMeaning] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    namespaces: dict[str, float] = field(default_factory=dict)

    def see(self, namespace: str, now: float) -> None:
        """Remember that a namespace is used."""
        _keep(self.namespaces, namespace, now, NAMESPACES_KEPT)

    def count(self, outcome: str, now: float) -> None:
        """Count an outcome."""
        self.minutes[int(now // MINUTE_S)][outcome] += 1

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
        _keep(self.hits, hit.entry_id, hit, HITS_KEPT)

    def judge(self, entry_id: str, verdict: Verdict) -> None:
        """Remember what was said last of a hit."""
        known = self.verdicts.get(entry_id, verdict)
        newest = max(known, verdict, key=lambda one: one.time)
        _keep(self.verdicts, entry_id, newest, VERDICTS_KEPT)

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
        for name, time in tally.namespaces.items():
            total.see(name, max(time, total.namespaces.get(name, time)))
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
    return math.ceil(STEPS * math.log2(max(1.0, seconds * 1e6)))


def percentiles(bins: Mapping[int, int]) -> dict[str, float]:
    """Return p50, p90 and p99 in seconds: the middle of the bin in which each lies."""
    total = sum(bins.values())
    found: dict[str, float] = {}
    for share in (50, 90, 99):
        seen = 0
        for number in sorted(bins):
            seen += bins[number]
            if seen * 100 > total * share or seen == total:
                found[f"p{share}"] = 2 ** ((number - 0.5) / STEPS) / 1e6
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
