"""Test a store, policy, embedder, judge or adapter of your own against what it has to promise.

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
    "shared_core.testing.adapters",
    "shared_core.testing.protocols",
    "shared_core.testing.stores",
)

if TYPE_CHECKING:
    from shared_core.testing.adapters import (
        WAYS,
        AdapterConformance,
        AdapterDriver,
        CompletionConformance,
        CountedModel,
        ModelCall,
        Mutation,
        Way,
    )
    from shared_core.testing.protocols import (
        EmbedderConformance,
        JudgeConformance,
        PolicyConformance,
    )
    from shared_core.testing.stores import BoundedStoreConformance, FakeClock, StoreConformance
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "AdapterConformance": "adapters",
            "AdapterDriver": "adapters",
            "BoundedStoreConformance": "stores",
            "CompletionConformance": "adapters",
            "CountedModel": "adapters",
            "EmbedderConformance": "protocols",
            "FakeClock": "stores",
            "JudgeConformance": "protocols",
            "ModelCall": "adapters",
            "Mutation": "adapters",
            "PolicyConformance": "protocols",
            "StoreConformance": "stores",
            "WAYS": "adapters",
            "Way": "adapters",
        },
    )

__all__ = [
    "WAYS",
    "AdapterConformance",
    "AdapterDriver",
    "BoundedStoreConformance",
    "CompletionConformance",
    "CountedModel",
    "EmbedderConformance",
    "FakeClock",
    "JudgeConformance",
    "ModelCall",
    "Mutation",
    "PolicyConformance",
    "StoreConformance",
    "Way",
]
