"""What LlamaIndex itself leaves behind, kept away from tests that turn warnings into errors."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

MARKS = [
    # Event loops and databases of its own are left for the garbage collector to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # Its workflows look at every attribute of an agent, deprecated ones of pydantic included.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Collect what is left before the tests of other modules run."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    gc.freeze()  # so that the next search is as short
