"""Threshold policies: who may be served."""

from shared_core.thresholds.policy import (
    Candidate,
    Decision,
    Explore,
    Feedback,
    Label,
    Policy,
    Serve,
    Skip,
    Static,
)
from shared_core.thresholds.verified import Verified

__all__ = [
    "Candidate",
    "Decision",
    "Explore",
    "Feedback",
    "Label",
    "Policy",
    "Serve",
    "Skip",
    "Static",
    "Verified",
]
