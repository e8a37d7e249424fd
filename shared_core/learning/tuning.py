"""Find a threshold for labelled pairs, with a bound on its errors; read and write policies.

rows --embed, guard--> similarity --pool above each threshold--> curve --binomial tests--> Tuning

Nothing here maximises F1: that buys hits with errors at any price.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from shared_core.embedding import Memo, resolve_embedder
from shared_core.guard import Guard
from shared_core.learning.pairs import LabelledPair, rows_of
from shared_core.thresholds import (
    Feedback,
    Per,
    Pool,
    Prior,
    Promise,
    Static,
    Verified,
    chance_of_so_few,
    interval,
)

if TYPE_CHECKING:
    from shared_core.embedding import Embedder
    from shared_core.record import Vector


_STEPS = range(100, 39, -1)
"""The thresholds that are looked at, in hundredths, highest first; fixed before any label."""

STARTS = 2
"""How often the test may begin anew at a lower threshold; each start has its share of the risk."""

FARTHER = 4
"""How much larger the second start's pool is than the smallest that could pass."""

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Point:
    """What serving at or above a threshold does to the labelled rows.

    ``hit_rate`` is the share of all rows that is served, ``precision`` that of right ones among the
    served, ``recall`` that of the served among the right ones. ``error`` is the share of wrong
    ones, per hit or per request as asked for, with the 95 % Clopper-Pearson interval of this
    threshold alone.
    """

    threshold: float
    served: int
    wrong: int
    hit_rate: float
    precision: float
    recall: float
    error: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the labels support: a threshold, or None and a ``verdict`` that says what is missing.

    With probability ``confidence``, serving at ``threshold`` keeps the wrong answers per hit, or
    per request, at or below ``max_error`` on traffic of which the rows are a random sample.
    ``curve`` has a point for each threshold at which anything is served, highest first. ``barred``
    of the ``rows`` are served at no threshold: the guard objects, or the embedder does not read
    them whole.

        found: Tuning = tune(rows, max_error=0.05)
        print(found.verdict)
        cache = ResponseCache.open(threshold=found.policy())
    """

    max_error: float
    per: Per
    confidence: float
    threshold: float | None
    verdict: str
    curve: tuple[Point, ...]
    rows: tuple[LabelledPair, ...] = field(repr=False)
    barred: int
    embedder: str
    vectors: Mapping[str, Vector] = field(repr=False, compare=False)

    @property
    def point(self) -> Point | None:
        """Return the curve's point at the threshold, None if there is none."""
        return next((one for one in self.curve if one.threshold == self.threshold), None)

    def policy(self) -> Static:
        """Return the policy that serves at the threshold. Raises ValueError if there is none."""
        if self.threshold is None:
            raise ValueError(f"no threshold: {self.verdict}")
        return Static(self.threshold)

    def prior(self) -> Prior:
        """Fit to the rows what ``Verified(prior=…)`` believes before its first label.

        Raises ValueError for rows without questions, or too few of either kind.
        """
        from shared_core.learning.prior_fit import prior_of_rows

        return prior_of_rows(self.rows, self.vectors, self.embedder)


def tune(
    pairs_or_log: Iterable[Any],
    max_error: float = 0.02,
    per: Per = "hit",
    embedder: Any = None,
    *,
    guard: bool | Guard = True,
    confidence: float = 0.95,
) -> Tuning:
    """Find the lowest threshold at which labels show that few enough answers are wrong.

    A row is one request, its nearest candidate and whether one answer fits both: (question, cached
    question, same), or a mapping with ``question``, ``cached`` and ``same``, or with ``similarity``
    and ``same``. A row whose ``same`` is None is a request without a candidate. ``embedder`` and
    ``guard`` must be those of the cache.

    >>> log = [{"similarity": 0.95, "same": True}] * 300 + [{"similarity": 0.7, "same": False}] * 50
    >>> tune(log).threshold
    0.71

    Raises ValueError for a row or an option that makes no sense, EmbedderError if the embedder
    fails. Too few labels raise nothing: ``threshold`` is None.
    """
    Verified(max_error, per)  # raises for either
    if isinstance(confidence, bool) or not 0 < confidence < 1:
        raise ValueError(f"confidence must be above 0 and below 1, not {confidence!r}")
    rows = rows_of(pairs_or_log)
    if not rows:
        raise ValueError("there are no labelled rows; give (question, cached question, same)")
    model = resolve_embedder(embedder)
    wanted = [row for row in rows if row.similarity is None and row.same is not None]
    vectors = vectors_of(model, wanted)
    scores = _scores(rows, vectors, Memo(model), Guard() if guard is True else guard or None)
    curve = _curve(rows, scores, per)
    pools = [
        Pool(one.threshold, one.served if per == "hit" else len(rows), one.wrong, 1.0)
        for one in curve
    ]
    found = lowest(pools, max_error, confidence)
    return Tuning(
        max_error=max_error,
        per=per,
        confidence=confidence,
        threshold=None if found is None else found.threshold,
        verdict=_verdict(found, pools, len(rows), max_error, per, confidence),
        curve=tuple(curve),
        rows=rows,
        barred=sum(s is None and row.same is not None for s, row in zip(scores, rows, strict=True)),
        embedder=model.name if wanted else "",
        vectors=vectors,
    )


def vectors_of(embedder: Embedder, rows: Sequence[LabelledPair]) -> dict[str, Vector]:
    """Return the vector of every question in the rows. Raises EmbedderError."""
    different = {text for row in rows for text in (row.question, row.cached)}
    texts = sorted(different, key=lambda text: (len(text), text))  # a batch pads to its longest
    found: dict[str, Vector] = {}
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        found.update(zip(batch, embedder.embed(batch), strict=True))
    return found


def _scores(
    rows: Sequence[LabelledPair], vectors: Mapping[str, Vector], memo: Memo, guard: Guard | None
) -> list[float | None]:
    """Return each row's cosine; None for what is served at no threshold."""

    def score(row: LabelledPair) -> float | None:
        if row.same is None:
            return None
        asked, cached = row.question, row.cached
        objecting = guard if asked else None
        if objecting and not objecting.timeless(asked):
            return None
        if objecting and objecting.differences(asked, cached):
            return None
        if row.similarity is not None:
            return row.similarity
        if memo.truncates(asked) or memo.truncates(cached):
            return None
        return float(vectors[asked] @ vectors[cached])

    return [score(row) for row in rows]


def _curve(rows: Sequence[LabelledPair], scores: Sequence[float | None], per: Per) -> list[Point]:
    pairs = zip(scores, rows, strict=True)
    known = sorted((-s, row.same is False) for s, row in pairs if s is not None)
    right = sum(row.same is True for row in rows)
    points, served, wrong = list[Point](), 0, 0
    for step in _STEPS:
        while served < len(known) and -known[served][0] >= step / 100 - 1e-9:
            wrong += known[served][1]
            served += 1
        if served:
            of = served if per == "hit" else len(rows)
            points.append(
                Point(
                    threshold=step / 100,
                    served=served,
                    wrong=wrong,
                    hit_rate=served / len(rows),
                    precision=(served - wrong) / served,
                    recall=(served - wrong) / right if right else 0.0,
                    error=wrong / of,
                    interval=interval(wrong, of),
                )
            )
    return points


def lowest(pools: Sequence[Pool], max_error: float, confidence: float) -> Pool | None:
    """Return the last pool that labels show to keep the bound; ``pools`` from the highest down.

    Each pool is tested by the exact binomial test that Clopper and Pearson's bound inverts (1934,
    Biometrika 26), in the order given. So many tests would find a lucky threshold: so a pool is
    tested only while all before it passed, with the risk that they passed on, and the chain may
    begin anew once, with the other half of the risk (Wiens 2003, "A fixed sequence Bonferroni
    procedure", Pharmaceutical Statistics 2). The chance that the bound is broken at *any* pool that
    passes is then at most 1 - ``confidence``.
    """
    share = (1 - confidence) / STARTS
    least = math.log(share) / math.log1p(-max_error)  # labels that pass if none is wrong
    risk, starts, found = 0.0, 0, None
    for pool in pools:
        while starts < STARTS and pool.labels >= least * FARTHER**starts:
            risk, starts = risk + share, starts + 1
        if risk and chance_of_so_few(pool.wrong, pool.labels, max_error) <= risk:
            found = pool
        else:
            risk = 0.0
    return found


def _verdict(
    found: Pool | None,
    pools: Sequence[Pool],
    rows: int,
    max_error: float,
    per: Per,
    confidence: float,
) -> str:
    target = f"{100 * max_error:g} % wrong per {per}"
    if found is not None:
        sure = f"with {100 * confidence:g} % confidence"
        return f"at or above {found.threshold:.2f}, at most {target}, {sure}"
    promise = Promise(max_error, "hit", 1 - (1 - confidence) / STARTS)
    needed = [
        (rows * max(promise.labels_needed(pool), pool.labels + 1) / pool.labels, pool)
        for pool in pools
    ]
    if not needed:
        return "no row could be served: of every one the guard or the embedder says no"
    total, best = min(needed, key=lambda each: each[0])
    if math.isfinite(total):
        return (
            f"too few labels to show {target}: {_told(best)}; about {math.ceil(total) - rows:,} "
            f"more rows like these {rows:,} would do"
        )
    best = min(pools, key=lambda pool: pool.rate)
    return f"more than {target} at every threshold, {_told(best)}: more rows like these do not help"


def _told(pool: Pool) -> str:
    return f"{pool.wrong:.0f} of {pool.labels:.0f} are wrong at or above {pool.threshold:.2f}"


def tuning_lines(tuning: Tuning) -> Iterator[str]:
    """Yield the curve as a table, and the verdict, for a person to read."""
    yield f"{len(tuning.rows):,} rows, {tuning.barred:,} of them served at no threshold"
    yield ""
    yield f"threshold  served  wrong  hit rate  precision  recall  wrong per {tuning.per} [95 %]"
    last = None
    for one in tuning.curve:
        if (one.served, one.wrong) != last or one.threshold == tuning.threshold:
            low, high = one.interval
            chosen = "  <- lowest that is shown to do" * (one.threshold == tuning.threshold)
            yield (
                f"{one.threshold:9.2f}  {one.served:6d}  {one.wrong:5d}  {one.hit_rate:8.3f}  "
                f"{one.precision:9.3f}  {one.recall:6.3f}  {100 * one.error:5.2f} % "
                f"[{100 * low:.2f}, {100 * high:.2f}]{chosen}"
            )
        last = (one.served, one.wrong)
    yield ""
    yield tuning.verdict


# A policy as a JSON text, so that what was tuned in one place is used in another.


_FORMAT = "tiered-llm-cache policy 1"
_KINDS = {"static": Static, "feedback": Feedback, "verified": Verified}


def policy_to_json(policy: Static | Feedback | Verified, **about: object) -> str:
    """Spell a policy; ``about`` is kept with it for people to read, and not read back.

    >>> policy_from_json(policy_to_json(Static(0.9), made_of="May's log")).similarity
    0.9
    """
    name = next(name for name, kind in _KINDS.items() if isinstance(policy, kind))
    options = {one.name: getattr(policy, one.name) for one in fields(policy)}
    if isinstance(prior := options.get("prior"), Prior):
        options["prior"] = json.loads(prior.to_json())
    body = {"format": _FORMAT, "policy": name, "options": options, "about": about}
    return json.dumps(body, indent=1) + "\n"


def policy_from_json(text: str) -> Static | Feedback | Verified:
    """Read a policy that ``policy_to_json`` spelled.

    >>> policy_from_json(policy_to_json(Static(0.9)))
    Static(similarity=0.9)

    Raises ValueError for any other text.
    """
    body = json.loads(text)
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise ValueError(f"this is no policy: its format must be {_FORMAT!r}")
    kind, options = _KINDS.get(body.get("policy", "")), body.get("options")
    if kind is None or not isinstance(options, dict):
        raise ValueError(f"the policy {body.get('policy')!r} is not known; known are {[*_KINDS]}")
    chosen: dict[str, Any] = dict(options)
    if chosen.get("prior") is not None:
        chosen["prior"] = Prior.from_json(json.dumps(chosen["prior"]))
    try:
        made: Static | Feedback | Verified = kind(**chosen)
    except TypeError as error:
        raise ValueError(f"the options of the policy are not understood: {error}") from None
    return made
