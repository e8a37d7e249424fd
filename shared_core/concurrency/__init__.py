"""Run code across forks, threads and event loops, and compute a thing once for all who ask."""

from shared_core.concurrency.runtime import (
    BackgroundLoop,
    Blocking,
    OnLoop,
    Runtime,
    ThreadRunner,
    Value,
    async_twin,
    called_with,
    ending,
    finish,
    free_after_fork,
    gate,
    keep_gate,
    renew_after_fork,
)
from shared_core.concurrency.single_flight import (
    Flight,
    LeaderFailed,
    SingleFlight,
    current_task,
    once,
)

__all__ = [
    "BackgroundLoop",
    "Blocking",
    "Flight",
    "LeaderFailed",
    "OnLoop",
    "Runtime",
    "SingleFlight",
    "ThreadRunner",
    "Value",
    "async_twin",
    "called_with",
    "current_task",
    "ending",
    "finish",
    "free_after_fork",
    "gate",
    "keep_gate",
    "once",
    "renew_after_fork",
]
