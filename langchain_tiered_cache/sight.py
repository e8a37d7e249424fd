"""What caches do, seen from outside: ``with get_cache_trace() as trace``."""

from __future__ import annotations

from contextlib import AbstractContextManager

from shared_core.control import tracing
from shared_core.events import Trace


def get_cache_trace() -> AbstractContextManager[Trace]:
    """Collect what every cache does for the calls of a block; nothing is to be wired.

        with get_cache_trace() as trace:
            chain.batch(questions)
        print(trace.hits_by_tier, trace.tokens_saved, trace.money_saved)

    Seen is what is called in the block: tasks that it starts, threads of ``batch`` and of LangChain
    among it, other threads not. Blocks nest, each sees what happens inside it.
    """
    return tracing()
