"""How long the tests of endurance run: in full with ``TIERED_CACHE_SOAK=full``."""

import os

FULL = os.environ.get("TIERED_CACHE_SOAK") == "full"
KILLS = 50 if FULL else 5
SECONDS = 30.0 if FULL else 3.0
CALL_S = 3.0 if FULL else 0.3
"""Seconds of a model call that many wait for."""
SCOPE_MUTATIONS = 10_000 if FULL else 200
