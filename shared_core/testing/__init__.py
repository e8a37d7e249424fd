"""Test a store, policy, embedder or judge of your own against the promises of its protocol.

Subclass a suite in a test file and give its fixture; pytest then runs every test of the suite. It
needs pytest, and is loaded by nothing else of the package.

    from shared_core.testing import EmbedderConformance

    class TestMyEmbedder(EmbedderConformance):
        @pytest.fixture
        def embedder(self):
            return MyEmbedder()
"""

from typing import TYPE_CHECKING

import pytest

from shared_core.lazy import lazy_names

pytest.register_assert_rewrite(
    "shared_core.testing.embedders",
    "shared_core.testing.judges",
    "shared_core.testing.policies",
    "shared_core.testing.stores",
)

if TYPE_CHECKING:
    from shared_core.testing.embedders import EmbedderConformance
    from shared_core.testing.judges import JudgeConformance
    from shared_core.testing.policies import PolicyConformance
    from shared_core.testing.stores import BoundedStoreConformance, FakeClock, StoreConformance
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BoundedStoreConformance": "stores",
            "EmbedderConformance": "embedders",
            "FakeClock": "stores",
            "JudgeConformance": "judges",
            "PolicyConformance": "policies",
            "StoreConformance": "stores",
        },
    )

__all__ = [
    "BoundedStoreConformance",
    "EmbedderConformance",
    "FakeClock",
    "JudgeConformance",
    "PolicyConformance",
    "StoreConformance",
]
