"""How long the tests of endurance run: in full with ``TIERED_CACHE_SOAK=full``."""

import os

FULL = os.environ.get("TIERED_CACHE_SOAK") == "full"
KILLS = 50 if FULL else 5
SECONDS = 30.0 if FULL else 3.0
SCOPE_MUTATIONS = 10_000 if FULL else 200
