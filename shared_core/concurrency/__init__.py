"""Concurrency: forks, threads, event loops, one computation for all who ask."""

from shared_core.concurrency.fork import gate, is_ending, keep_gate, renew_after_fork
from shared_core.concurrency.runtime import Blocking, Found, Hop, OnLoop, Runtime, finish, twin
from shared_core.concurrency.single_flight import Flight, Flights, current_task, once

__all__ = [
    "Blocking",
    "Flight",
    "Flights",
    "Found",
    "Hop",
    "OnLoop",
    "Runtime",
    "current_task",
    "finish",
    "gate",
    "is_ending",
    "keep_gate",
    "once",
    "renew_after_fork",
    "twin",
]
