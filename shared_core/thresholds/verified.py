"""Serve what public data or own labels prove, ask the model about the rest: the verified policy.

candidates --weigh--> evidence --model--> score --plan--> Serve | Explore
labels --fit--> model --strata--> plan
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from shared_core.thresholds.bounds import LEAST, Per, Pool, Promise, group_number
from shared_core.thresholds.features import FEATURES, OBJECTIONS, weigh
from shared_core.thresholds.policy import (
    Candidate,
    Decision,
    Explore,
    Feedback,
    Label,
    Serve,
    Skip,
    Static,
)
from shared_core.thresholds.prior import Prior, cold, shipped

if TYPE_CHECKING:
    from shared_core.thresholds.estimator import Learned, LinearModel

Start = Literal["public", "own"]
Guarantee = Literal["average", "anytime"]


FLOOR = 0.4
"""Cosine below which no candidate is looked at, whatever speaks for it."""

FAR, LABELS_FOR_FAR = 0.75, 150
"""Cosine below which public data alone vouches for no candidate, and own labels before one may be
served: in a young cache votes and margin say little, as few others are there."""

BELIEVED = 20.0
"""Labels of each stratum that public data counts for at most."""

ALERT = 0.25
"""Share of hits that is checked more when a change of the world is all but believed."""

AUDITED_OF_WRONG = 0.5
MAX_AUDITED = 0.05
"""Half as many hits are asked for real as are expected to be wrong, up to a share of all: where
more goes wrong, more labels are needed to know how much, and each saves more."""

FIRST_AUDITED = 0.25
CHECKED = 10.0
"""Share of the first hits that is asked for real, and the labels of served candidates that halve
it."""

CONFIDENCE: Mapping[Guarantee, float] = {"average": 0.7, "anytime": 0.95}
"""Of the estimate that lets candidates be served, half a standard deviation above its mean; of the
bound that holds at every moment."""

_TINY = 1e-9
_FORMAT = 3.0
"""First number of the evidence; labels of another format only count."""

FRONT = 6
"""Numbers before the values: format, score, chance of being explored, group, objections, and the
least chance that any candidate had then."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Serve a neighbour if it is known that at most ``max_error`` of what is served is wrong.

        cache = ResponseCache.open("sqlite:///answers.db", threshold=Verified(max_error=0.01))

    - ``max_error``: the share of wrong answers to keep below, above 0 and below 1
    - ``per``: "hit": of the answers served; "request": of all requests, as the literature counts
    - ``start``: "public": what public data proves is served from the first request, the first hits
      are checked often, and the app's own labels take over as they come; "own": nothing is served
      before own labels prove it, as it is in any case with an embedder that public data says
      nothing of
    - ``guarantee``: "average": over the life of an app; "anytime": at every moment, for later and
      fewer hits
    - ``prior``: what is believed before the first label; None: what was fitted for all-MiniLM-L6-v2
    - ``label_noise``: the share of labels believed to say the opposite of the truth, 0 to below
      0.5; where a better judge checks some of them, it is measured. Labels are held to what a judge
      that errs so would say if the promise were just kept
    - ``confidence``: of the estimate that lets candidates be served (None: 0.7), or of the bound at
      every moment (None: 0.95)
    - ``audit``: the least share of hits for which the model is asked all the same

    What speaks against a candidate in plain words, an opposite or another name, is not served
    before own labels prove that kind. The promise is on the average over the traffic, not on a
    single question or user, and holds as far as the latest labels speak for the next requests.

    >>> Verified(max_error=0.02).start
    'public'

    Raises ValueError for a value outside its range.
    """

    max_error: float = 0.02
    per: Per = "hit"
    start: Start = "public"
    guarantee: Guarantee = "average"
    prior: Prior | None = None
    label_noise: float = 0.0
    confidence: float | None = None
    audit: float = 0.02
    k = 10
    learns = True
    explores = True
    weighs_unknown = True
    floor = FLOOR

    def __post_init__(self) -> None:
        _check("max_error", self.max_error, 0, 1, "above 0 and below 1")
        _check("label_noise", self.label_noise, -_TINY, 0.5, "from 0 to below 0.5")
        if self.confidence is not None:
            _check("confidence", self.confidence, 0.5 - _TINY, 1, "from 0.5 to below 1")
        _check("audit", self.audit, 0, 1, "above 0 and below 1")
        if self.per not in ("hit", "request"):
            raise ValueError(f'Verified(per) must be "hit" or "request", not {self.per!r}')
        if self.start not in ("public", "own"):
            raise ValueError(f'Verified(start) must be "public" or "own", not {self.start!r}')
        if self.guarantee not in CONFIDENCE:
            raise ValueError(
                f'Verified(guarantee) must be "average" or "anytime", not {self.guarantee!r}'
            )

    def for_embedder(self, embedder: str) -> Verified:
        """Return the policy for an embedder of this name.

        Cosines of another embedder mean other things: a policy that was given no ``prior`` then
        begins with hardly any, and serves nothing before own labels prove it.
        """
        known = self.prior is not None or embedder.partition(":")[0] == shipped().embedder
        return self if known else replace(self, prior=cold(), start="own")

    def initial_state(self) -> Learned:
        """Return the state before any label."""
        from shared_core.thresholds.estimator import Learned

        prior = self.prior or shipped()
        public = self.start == "public"
        certify = self.guarantee == "anytime"
        belief = prior.belief(BELIEVED)
        return Learned.start(prior.gaussian(), belief, self._promise, public, certify)

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        state: Learned,
        rng: random.Random,
    ) -> Decision:
        """Serve the candidate with the best case if such cases are proven, else explore it.

        The reason is "learning" until something may be served, "risk" for a candidate below that,
        and "audit" for one above that is asked for real all the same; the first hit of a process is
        not.
        """
        if state.is_overdue:
            self.settle(state)
        near = [one for one in candidates if one.similarity >= FLOOR]
        best = weigh(question, near)
        if best is None:
            state.arrive(None)
        else:
            state.arrive(best.values, best.objections)
        model = state.model
        reason = "learning" if model.serving is None else "risk"
        if best is None:
            return Skip("guard" if near else reason if candidates else "absent")
        group = group_number(best.group)
        score = round(model.score(best.values), 4)
        chance = 1.0
        least = min(1.0, self._audited(model) + ALERT * state.watch.suspicion**2)
        served_from = model.threshold_of(best.objections)
        if self._is_too_far(near[best.index], state):
            served_from = math.inf
        if best.objections and served_from > score >= model.threshold:
            reason = "guard"
        if score >= served_from and group not in state.groups.debts:
            reason = "audit"
            chance = min(1.0, least + state.groups.urgency(group))
            if not state.has_served:
                chance = 0.0  # whoever tries the cache out sees a hit, and not its check
        front = (_FORMAT, score, round(chance, 4), group, float(best.objections), round(least, 4))
        evidence = (*front, *best.values)
        if rng.random() < chance:
            return Explore(best.index, evidence, reason, score)
        state.has_served = True
        if group:
            state.groups.serve(group)
        return Serve(best.index, evidence, score)

    def examine(
        self, question: str, candidates: Sequence[Candidate], state: Learned
    ) -> Explore | None:
        """Return which candidate an answer to the question would label; count and learn nothing."""
        near = [one for one in candidates if one.similarity >= FLOOR]
        best = weigh(question, near)
        if best is None:
            return None
        score = round(state.model.score(best.values), 4)
        front = (_FORMAT, score, 1.0, group_number(best.group), float(best.objections), 1.0)
        return Explore(best.index, (*front, *best.values), "taught")

    def learn(self, state: Learned, label: Label) -> Learned:
        """Add a label to the state, in place, and return it; the fit waits for ``settle``."""
        evidence = label.evidence
        if label.truth is not None:
            state.judged.check(None if label.unknown else label.right, label.truth)
            if not evidence:
                return state
        if (
            len(evidence) == FRONT + len(FEATURES)
            and evidence[0] == _FORMAT
            and all(map(math.isfinite, evidence))
        ):
            _, score, chance, group, objections, least, *values = evidence
            if label.unknown:
                state.add_unknown(objections, values)
                return state
            if not label.fair:
                state.add_taught(label.right, values)
                return state
            if label.right:
                state.judged.add(label.error)
            state.add(label.right, score, chance, group, objections, least, values)
        elif label.unknown:
            return state
        elif label.score is not None and math.isfinite(label.score):
            state.add_scored(label.right, label.score)
        else:
            state.count(label.right)
        return state

    def settle(self, state: Learned) -> None:
        """Fit the model and the plan if enough labels came; else do nothing.

        Whoever folds labels does this beside the requests, so that no lookup waits for the fit; a
        decision does it only where nobody has for long.
        """
        if state.is_due:
            from shared_core.thresholds.estimator import refit

            state.replan(refit(state, self._promise, self.label_noise))

    def describe(self, state: Learned) -> Mapping[str, Any]:
        """Return labels, errors with their 95 % intervals and the plan of now, as JSON values.

        The interval is of the labels alone, the estimate also of what is believed. ``rests_on``
        says whose labels let the hits of now be served, ``outweighed`` which objections of the
        guard own labels have outweighed; ``stopped`` why nothing is served that was served before;
        ``idle``: nothing asked lately is as near as what may be.
        """
        self.settle(state)
        model = state.model
        serving = model.serving
        described: dict[str, Any] = {
            "policy": "verified",
            "max_error": self.max_error,
            "per": self.per,
            "start": self.start,
            "guarantee": self.guarantee,
            "labels": state.right + state.wrong,
            "right": state.right,
            "wrong": state.wrong,
            "changes_noticed": state.changes,
            "rests_on": _rests_on(serving, self._promise_of(model), state.wealth is not None),
            "outweighed": [kind for bit, kind in enumerate(OBJECTIONS) if 1 << bit in model.proven],
            "learning": None if serving else self._progress(state, model),
            "stopped": state.stopped,
            "idle": model.idle,
            "serves_from": None,
            "share_served": 0.0,
            "error_per_hit": None,
            "error_per_hit_95": None,
            "error_per_request": None,
            "error_per_request_95": None,
            "judge": _judge_in_words(state),
        }
        if serving is not None:
            judge = model.judge
            low, high = map(judge.truly_wrong, serving.error_between())
            error = judge.truly_wrong(serving.error)
            share = serving.share
            described |= {
                "serves_from": round(1 / (1 + math.exp(-serving.threshold)), 4),
                "share_served": round(share, 4),
                "error_per_hit": round(error, 5),
                "error_per_hit_95": [round(low, 5), round(high, 5)],
                "error_per_request": round(error * share, 5),
                "error_per_request_95": [round(low * share, 5), round(high * share, 5)],
            }
        return described

    def _is_too_far(self, candidate: Candidate, state: Learned) -> bool:
        """Tell whether a candidate is farther than public data alone may vouch for."""
        young = self.start == "public" and state.known < LABELS_FOR_FAR
        return young and candidate.similarity < FAR

    def _audited(self, model: LinearModel) -> float:
        """Return the share of hits to ask for real: more where more are expected to be wrong."""
        serving = model.serving
        if serving is None:
            return 1.0
        at_first = FIRST_AUDITED * CHECKED / (CHECKED + serving.labels)
        error = model.judge.truly_wrong(serving.error)
        return max(self.audit, at_first, min(MAX_AUDITED, AUDITED_OF_WRONG * error))

    @property
    def _promise(self) -> Promise:
        confidence = CONFIDENCE[self.guarantee] if self.confidence is None else self.confidence
        return Promise(self.max_error, self.per, confidence)

    def _promise_of(self, model: LinearModel) -> Promise:
        return replace(self._promise, judge=model.judge)

    def _progress(self, state: Learned, model: LinearModel) -> str:
        """Say how many labels there are and, if it can be told, how many will do."""
        known = state.known
        if state.wealth is not None:
            more = math.ceil(state.wealth.labels_needed())
            return f"{known} labels; {more} right ones more would certify a first pool"
        parts = [f"stopped, as {state.stopped}"] if state.stopped else []
        needed = [
            known * self._promise_of(model).labels_needed(pool) / pool.labels
            for pool in model.pools
            if pool.labels
        ]
        about = min(needed, default=math.inf)
        if math.isfinite(about):
            parts.append(f"{known} of about {max(known + 1, round(about))} labels")
        elif needed:
            parts.append(f"{known} labels, and too many of them wrong")
        else:
            parts.append(f"{known} labels, too few to tell how many it takes")
        if self.prior == cold():
            parts.append("public data says nothing of this embedder")
        return "; ".join(parts)


def _judge_in_words(state: Learned) -> Mapping[str, Any]:
    """Return what is known of the judge of answers: its limits, and how many words were checked."""
    judge, checked = state.model.judge, sum(state.judged.said.values())
    return {
        "false_same_at_most": round(judge.false_same, 4),
        "false_different_at_least": round(judge.false_different, 4),
        "knows_of_wrong_to_right": round(judge.heard, 3),
        "unknown": len(state.unknown),
        "checked": checked,
    }


def _rests_on(serving: Pool | None, promise: Promise, certified: bool) -> str | None:
    """Say on what serving rests: own labels, if they alone would prove it, else public data."""
    if serving is None:
        return None
    proven = serving.labels >= LEAST and (certified or promise.is_kept_by(serving))
    return f"{round(serving.labels)} labels of your own" if proven else "public data"


def _check(name: str, value: object, above: float, below: float, expected: str) -> None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (known and above < value < below):  # type: ignore[operator]  # a number is compared
        raise ValueError(f"Verified({name}) must be a number {expected}, not {value!r}")


# A policy as a JSON text, so that what was tuned in one place is used in another.


_FILE_FORMAT = "tiered-llm-cache policy 1"
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
    body = {"format": _FILE_FORMAT, "policy": name, "options": options, "about": about}
    return json.dumps(body, indent=1) + "\n"


def policy_from_json(text: str) -> Static | Feedback | Verified:
    """Read a policy that ``policy_to_json`` spelled.

    >>> policy_from_json(policy_to_json(Static(0.9)))
    Static(similarity=0.9)

    Raises ValueError for any other text.
    """
    body = json.loads(text)
    if not isinstance(body, dict) or body.get("format") != _FILE_FORMAT:
        raise ValueError(f"this is no policy: its format must be {_FILE_FORMAT!r}")
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
