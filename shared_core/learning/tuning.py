"""Find a threshold for labelled pairs of questions, with a bound on its errors.

log --neighbours_of--> pairs --labels--> rows, or a file of rows
rows --embed, guard--> similarity --pool above each threshold--> curve --binomial tests--> Tuning

Nothing here maximises F1: that buys hits with errors at any price.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared_core.embedding import Memo, resolve_embedder
from shared_core.guard import Difference, Guard
from shared_core.learning.judges import AnswerJudge, Judge
from shared_core.request import Request, split_question
from shared_core.thresholds import (
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
    from shared_core.learning.logs import LoggedCall
    from shared_core.record import Vector


# Labelled pairs of questions: Python objects, JSON lines or CSV; errors name row and remedy.


TRUE, FALSE, NONE = ("true", "1", "yes"), ("false", "0", "no"), ("", "none", "null")
_COLUMNS = "question, cached and same, or similarity and same"
PAIR = 3


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """One request, its nearest candidate, and whether one answer fits both.

    ``similarity`` is the cosine of the two questions, None if it is still to be computed. ``same``
    None means that there was no candidate.
    """

    question: str
    cached: str
    same: bool | None
    similarity: float | None = None

    @property
    def is_open(self) -> bool:
        """Say whether there is a pair that nobody has labelled."""
        return self.same is None and bool(self.question.strip() and self.cached.strip())


def rows_of(values: Iterable[Any], name: str = "row") -> tuple[LabelledPair, ...]:
    """Return the rows, without repeats and without questions that are equal to the cached one.

    The exact tier answers those. Raises ValueError for a row that makes no sense, naming it.
    """
    return _distinct(
        (_row(value, f"{name} {number}"), f"{name} {number}")
        for number, value in enumerate(values, 1)
    )


def read_rows(path: Path) -> tuple[LabelledPair, ...]:
    """Read a file of JSON lines, or of CSV if its name ends so.

    Rows with both questions and an empty ``same`` are not labelled yet, and left out.

    JSON lines are objects with the columns ``question``, ``cached`` and ``same``, or ``similarity``
    and ``same``, or lists [question, cached, same]; a CSV has these columns in its first line.
    Raises ValueError for what is not such a file, naming the line and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}; save it as UTF-8") from None
    read = _of_csv if path.suffix.lower() == ".csv" else _of_json_lines
    rows = _distinct(
        (_row(value, f"{path}, line {line}"), f"{path}, line {line}")
        for line, value in read(path, text)
    )
    known = tuple(row for row in rows if not row.is_open)
    if not known:
        hint = "tiered-cache review asks for the labels" if rows else f"give {_COLUMNS}"
        raise ValueError(f"{path} holds no labelled row; {hint}")
    return known


def _of_csv(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    names = reader.fieldnames or []
    if "same" not in names or not ({"question", "cached"} <= set(names) or "similarity" in names):
        named = ", ".join(names) or "nothing"
        raise ValueError(f"{path}, line 1 names {named}; a first line must name {_COLUMNS}")
    for value in reader:
        yield reader.line_num, {name: item for name, item in value.items() if name is not None}


def _of_json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for line, spelled in enumerate(text.split("\n"), 1):
        if not spelled.strip():
            continue
        try:
            yield line, json.loads(spelled)
        except ValueError as error:
            raise ValueError(
                f'{path}, line {line} is no JSON ({error}); write {{"question": …, "cached": …, '
                f'"same": true}}, or name the file .csv'
            ) from None


def _distinct(rows: Iterable[tuple[LabelledPair, str]]) -> tuple[LabelledPair, ...]:
    kept: list[LabelledPair] = []
    labels: dict[tuple[str, str], tuple[bool, str]] = {}
    for row, where in rows:
        if row.question and row.same is not None:
            if row.question == row.cached:
                continue
            pair = (row.question, row.cached)
            known, first = labels.setdefault(pair, (row.same, where))
            if known != row.same:
                raise ValueError(f"{where} contradicts {first}: one pair is labelled both ways")
            if first != where:
                continue
        kept.append(row)
    return tuple(kept)


def _row(value: Any, where: str) -> LabelledPair:
    if isinstance(value, LabelledPair):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != PAIR:
            raise ValueError(f"{where} has {len(value)} items; give question, cached, same")
        value = dict(zip(("question", "cached", "same"), value, strict=True))
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; give {_COLUMNS}")
    if "same" not in value:
        raise ValueError(f"{where} has no {'same'!r}; give {_COLUMNS}")
    same = _same(value["same"], where)
    similarity = _similarity(value.get("similarity"), where)
    texts = [value.get(name) or "" for name in ("question", "cached")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: question and cached must be texts, not {texts!r}")
    if same is not None and similarity is None and not all(text.strip() for text in texts):
        raise ValueError(f"{where} has neither two questions nor a similarity; give {_COLUMNS}")
    return LabelledPair(texts[0], texts[1], same, similarity)


def _same(value: Any, where: str) -> bool | None:
    spelled = "" if value is None else str(value).strip().lower()
    for known, meaning in ((TRUE, True), (FALSE, False), (NONE, None)):
        if spelled in known:
            return meaning
    raise ValueError(f"{where}: same is {value!r}; give true, false, or nothing if no candidate")


def _similarity(value: Any, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not -1 <= number <= 1 + 1e-6:
        raise ValueError(f"{where}: similarity is {value!r}; give a cosine from -1 to 1")
    return number


# Pairs that a log holds: each question with the nearest before it that a cache would have had.


NEAREST = 5
"""How many neighbours are looked at for one to which the guard does not object."""

SHUFFLED = 0
"""Seed of the order in which pairs are written, so that the first ones are a fair sample."""

PAIR_COLUMNS = ("question", "cached", "same", "similarity", "answer", "cached_answer")


@dataclass(frozen=True, slots=True)
class LoggedPair:
    """A question of a log, and the one before it whose answer a cache would have considered.

    ``similarity`` is their cosine, ``differences`` what the guard sees in them. ``same`` says
    whether one answer fits both, as far as a judge can tell by the two answers, else None.
    """

    asked: LoggedCall
    cached: LoggedCall
    similarity: float
    differences: tuple[Difference, ...] = ()
    same: bool | None = None

    @property
    def questions(self) -> tuple[str, str]:
        """Return both questions, the new one first."""
        return self.asked.question or "", self.cached.question or ""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a cache would have made of a log: every call is in one of these.

    ``repeats`` asked in the very words of an earlier call, which needs no policy. ``alone`` had no
    earlier question in their scope. ``unmatched`` are matched by meaning in no case, counted by the
    ``Miss.reason``. The others are ``pairs``.
    """

    pairs: tuple[LoggedPair, ...]
    repeats: int
    alone: int
    unmatched: Mapping[str, int]
    embedder: str

    @property
    def calls(self) -> int:
        """Return how many calls the log holds."""
        return len(self.pairs) + self.repeats + self.alone + sum(self.unmatched.values())

    def rows(
        self,
        labels: Mapping[tuple[str, str], bool | None] | None = None,
        unknown: bool | None = None,
    ) -> tuple[LabelledPair, ...]:
        """Return rows for ``tune``: the pairs with their labels, and the calls without a neighbour.

        ``labels`` say of (question, cached question) whether one answer fits both, and go before
        the judge's word. Pairs of which nobody knows are left out, or labelled ``unknown``.
        """
        known, found = labels or {}, list[LabelledPair]()
        for pair in self.pairs:
            label = known.get(pair.questions)
            same = pair.same if label is None else label
            same = unknown if same is None else same
            if same is not None:
                found.append(LabelledPair(*pair.questions, same, pair.similarity))
        others = self.alone + sum(self.unmatched.values())
        return *found, *(LabelledPair("", "", None),) * others

    def write(self, path: Path) -> None:
        """Write the pairs as CSV, to be labelled in the column "same" and given to ``tune``.

        They come in a random order, so that those labelled first are a fair sample. Raises OSError.
        """
        pairs = list(self.pairs)
        random.Random(SHUFFLED).shuffle(pairs)  # noqa: S311 - an order, no secret
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(PAIR_COLUMNS)
            for pair in pairs:
                same = "" if pair.same is None else str(pair.same).lower()
                answers = (
                    one.answer.text if one.answer else "" for one in (pair.asked, pair.cached)
                )
                writer.writerow((*pair.questions, same, f"{pair.similarity:.4f}", *answers))


def neighbours_of(
    calls: Iterable[LoggedCall],
    embedder: Any = None,
    *,
    guard: bool | Guard = True,
    judge: Judge | bool = True,
    progress: Callable[[str], object] = lambda _: None,
) -> Neighbours:
    """Hold every call of a log against the earlier ones that a cache would have had.

    Calls come in the order of their time, or as they are if some have none. Only those of one
    scope, which is everything but the question, are neighbours, and of the nearest the first to
    which the guard does not object. ``judge`` says of two answers whether they say the same: True
    for the cache's own, False for none. ``embedder`` and ``guard`` must be those of the cache.
    ``progress`` is called with what is done next. Raises EmbedderError if the embedder fails.
    """
    model = resolve_embedder(embedder)
    memo, listed = Memo(model), list(calls)
    chosen = Guard() if guard is True else guard or None
    asking = AnswerJudge(memo) if judge is True else judge or None
    if all(call.time is not None for call in listed):
        listed.sort(key=lambda call: call.time or 0.0)
    scoped: list[tuple[str, LoggedCall]] = []
    unmatched = Counter[str]()
    repeats, seen = 0, set[tuple[str, str]]()
    for call in listed:
        request, reason = _request_of(call, chosen, memo)
        if request is None:
            unmatched[reason] += 1
        elif (request.scope, call.question or "") in seen:
            repeats += 1
        else:
            seen.add((request.scope, call.question or ""))
            scoped.append((request.scope, call))
    progress(f"embedding {len(scoped):,} questions")
    vectors = _vectors(model, {call.question or "" for _, call in scoped})
    pairs = list[LoggedPair]()
    for number, (call, cached) in enumerate(_nearest_before(scoped, vectors)):
        if not number:
            progress("comparing their answers" if asking else "comparing")
        pairs.append(_pair(call, cached, chosen, asking))
    alone = len(scoped) - len(pairs)
    return Neighbours(tuple(pairs), repeats, alone, unmatched, model.name)


def _request_of(call: LoggedCall, guard: Guard | None, memo: Memo) -> tuple[Request | None, str]:
    """Return the request of a call that may be matched by meaning, else why it may not."""
    params = {**call.params, "model": call.model}
    try:
        request = split_question(call.messages).request(params, "text")
    except (TypeError, ValueError):
        return None, "unreadable"
    question = request.question or ""
    if request.exact_only is not None or not question.strip():
        return None, request.exact_only or "not_user_text"
    if guard is not None and not guard.timeless(question):
        return None, "time"
    if guard is not None and not guard.understands(question):
        return None, "language"
    return (None, "truncated") if memo.truncates(question) else (request, "")


def _nearest_before(
    scoped: Sequence[tuple[str, LoggedCall]], vectors: Mapping[str, Vector]
) -> Iterator[tuple[LoggedCall, list[tuple[float, LoggedCall]]]]:
    """Yield each call that has one before it in its scope, with the nearest of those."""
    import numpy as np

    scopes: dict[str, list[LoggedCall]] = {}
    of_scope = Counter(scope for scope, _ in scoped)
    matrices: dict[str, Any] = {}
    for scope, call in scoped:
        vector, before = vectors[call.question or ""], scopes.setdefault(scope, [])
        if scope not in matrices:
            matrices[scope] = np.empty((of_scope[scope], len(vector)), np.float32)
        matrix = matrices[scope]
        if before:
            cosines = matrix[: len(before)] @ vector
            near = np.argsort(-cosines, kind="stable")[:NEAREST].tolist()
            yield call, [(float(cosines[at]), before[at]) for at in near]
        matrix[len(before)] = vector
        before.append(call)


def _pair(
    call: LoggedCall,
    near: Sequence[tuple[float, LoggedCall]],
    guard: Guard | None,
    judge: Judge | None,
) -> LoggedPair:
    found: LoggedPair | None = None
    for similarity, cached in near:
        texts = call.question or "", cached.question or ""
        differences = guard.differences(*texts) if guard is not None else ()
        if found is None or not differences:
            found = LoggedPair(call, cached, similarity, differences)
        if not differences:
            break
    assert found is not None  # noqa: S101 - there is a nearest
    one, other = found.asked.answer, found.cached.answer
    if judge is None or one is None or other is None:
        return found
    return replace(found, same=judge(one, other))


def _vectors(model: Embedder, texts: Iterable[str]) -> dict[str, Vector]:
    """Return the vector of every text. Raises EmbedderError."""
    ordered = sorted(texts, key=lambda text: (len(text), text))  # a batch pads to its longest
    found: dict[str, Vector] = {}
    for start in range(0, len(ordered), _BATCH):
        batch = ordered[start : start + _BATCH]
        found.update(zip(batch, model.embed(batch), strict=True))
    return found


# What labels show of thresholds.


_STEPS = range(100, 39, -1)
"""The thresholds that are looked at, in hundredths, highest first; fixed before any label."""

STARTS = 2
"""How often the test may begin anew at a lower threshold; each start has its share of the risk."""

FARTHER = 4
"""How much larger the second start's pool is than the smallest that could pass."""

TELLING = 10
"""Labels of a pool that say something of how many more it takes, if there is such a pool."""

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
    return _vectors(embedder, {text for row in rows for text in (row.question, row.cached)})


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
    telling = [pool for pool in pools if pool.labels >= TELLING] or pools
    needed = [
        (rows * max(promise.labels_needed(pool), pool.labels + 1) / pool.labels, pool)
        for pool in telling
    ]
    if not needed:
        return "no row could be served: of every one the guard or the embedder says no"
    total, best = min(needed, key=lambda each: each[0])
    if math.isfinite(total):
        return (
            f"too few labels to show {target}: {_rate(best)}; about {math.ceil(total) - rows:,} "
            f"more rows like these {rows:,} would do"
        )
    best = min(telling, key=lambda pool: pool.rate)
    return f"more than {target} at every threshold, {_rate(best)}: more rows like these do not help"


def _rate(pool: Pool) -> str:
    return f"{pool.wrong:.0f} of {pool.labels:.0f} are wrong at or above {pool.threshold:.2f}"


def tuning_lines(tuning: Tuning) -> Iterator[str]:
    """Yield the curve as a table, and the verdict, for a person to read."""
    yield (
        f"{len(tuning.rows):,} rows; {tuning.barred:,} of them would be served at no threshold "
        "(guard, time, or length)"
    )
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
    if (point := tuning.point) is not None:
        highest = next(one.threshold for one in tuning.curve if one.served == point.served)
        if highest > point.threshold:
            yield (
                f"no row lies between {point.threshold:.2f} and {highest:.2f}: "
                f"take {highest:.2f} if the rows may be no fair sample of your traffic"
            )
    yield tuning.verdict
