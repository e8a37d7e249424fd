"""Decide whether a similar question's answer may be served: Static, Feedback and Verified.

What is learnt with numpy (``Gaussian``, ``fit``) is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names
from shared_core.thresholds.bounds import (
    EDGES,
    STRATA,
    Per,
    Pool,
    Promise,
    chance_of_so_few,
    interval,
)
from shared_core.thresholds.features import (
    FEATURES,
    OBJECTIONS,
    Evidence,
    weigh,
)
from shared_core.thresholds.policy import (
    DEFAULT_SIMILARITY,
    Candidate,
    Decision,
    Explore,
    Feedback,
    Label,
    Policy,
    Serve,
    Skip,
    Static,
    Teachable,
)
from shared_core.thresholds.prior import Prior, cold, shipped
from shared_core.thresholds.verified import (
    FLOOR,
    Verified,
    policy_from_json,
    policy_to_json,
)

if TYPE_CHECKING:
    from shared_core.thresholds.estimator import Fit, Gaussian, fit
else:
    __getattr__, __dir__ = lazy_names(
        __name__, dict.fromkeys(("Fit", "Gaussian", "fit"), "estimator")
    )

__all__ = [
    "DEFAULT_SIMILARITY",
    "EDGES",
    "FEATURES",
    "FLOOR",
    "OBJECTIONS",
    "STRATA",
    "Candidate",
    "Decision",
    "Evidence",
    "Explore",
    "Feedback",
    "Fit",
    "Gaussian",
    "Label",
    "Per",
    "Policy",
    "Pool",
    "Prior",
    "Promise",
    "Serve",
    "Skip",
    "Static",
    "Teachable",
    "Verified",
    "chance_of_so_few",
    "cold",
    "fit",
    "interval",
    "policy_from_json",
    "policy_to_json",
    "shipped",
    "weigh",
]
