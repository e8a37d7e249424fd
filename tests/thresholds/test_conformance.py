"""Every policy of the package passes the suite for policies."""

from __future__ import annotations

import pytest

from shared_core.testing import PolicyConformance
from shared_core.thresholds import Feedback, Policy, Static, Verified

POLICIES = {
    "Static": Static(),
    "Static(1)": Static(1.0),
    "Feedback": Feedback(),
    "Verified": Verified(),
    "Verified(per=request)": Verified(0.05, per="request"),
}


class TestPolicies(PolicyConformance):
    @pytest.fixture(params=sorted(POLICIES))
    def policy(self, request: pytest.FixtureRequest) -> Policy:
        return POLICIES[request.param]
