"""The prior that ships: it was fitted to the features of now, and knows its own record."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise

import pytest

from shared_core.guard import KINDS, Guard
from shared_core.thresholds import (
    EDGES,
    FEATURES,
    OBJECTIONS,
    STRATA,
    Candidate,
    Prior,
    cold,
    shipped,
    weigh,
)
from shared_core.thresholds.features import FORBIDDEN, WEIGHED

REFIT = "features or guard changed: run benchmarks/fit_prior.py --data FOLDER"


def test_the_prior_and_the_features_have_not_parted_ways() -> None:
    body = json.loads(files("shared_core.thresholds").joinpath("prior.json").read_text("utf-8"))
    assert tuple(body["features"]) == FEATURES, REFIT
    assert len(body["probes"]) >= 10
    for asked, cached, cosine, expected in body["probes"]:
        near = Candidate(cosine, Guard().differences(asked, cached), cached, "g")
        best = weigh(asked, [near])
        values = best.values if best is not None else (0.0,) * len(FEATURES)
        score = sum(w * v for w, v in zip(shipped().mean, values, strict=True))
        assert score == pytest.approx(expected, abs=0.01), f"{REFIT}\n{asked!r} {cached!r}"


def test_every_kind_that_the_guard_reports_is_forbidden_or_an_objection_of_its_own() -> None:
    assert KINDS - FORBIDDEN - set(OBJECTIONS) == WEIGHED
    assert len(OBJECTIONS) < 50, "they are bits of a float"


def test_a_kind_that_is_not_known_speaks_against_a_candidate() -> None:
    from shared_core.guard import Difference

    near = Candidate(0.97, (Difference("of tomorrow", ("a",), ("b",)),), "how is it", "g")
    best = weigh("how is that", [near])
    assert best is not None
    assert best.objections == 1 << OBJECTIONS.index("other")


def test_the_record_says_that_higher_scores_were_wrong_less_often() -> None:
    strata = shipped().strata
    assert len(strata) == STRATA == len(EDGES) + 1
    rates = [rate for rate, _, _ in strata]
    assert rates[0] > 0.5
    assert rates[-1] < 0.02
    assert all(better <= worse + 0.05 for worse, better in pairwise(rates))
    assert 0.5 < sum(share for _, _, share in strata) < 1
    assert cold().strata == ()


def test_a_prior_survives_a_file_and_refuses_one_of_other_features() -> None:
    prior = shipped()
    assert Prior.from_json(prior.to_json()) == prior
    body = json.loads(prior.to_json())
    for broken in ({"features": FEATURES[:-1]}, {"mean": []}, {"strata": [[0.1, 1.0, 0.1]]}):
        with pytest.raises(ValueError, match=r"fit it anew|strata"):
            Prior.from_json(json.dumps(body | broken))
    with pytest.raises(ValueError, match="strata"):
        replace(prior, strata=prior.strata[1:])
