"""Timing in rounds, and what is reported of it; results go to benchmarks/results/NAME.json."""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
RESAMPLED = 1000


@dataclass
class Series:
    """What one contender took, round by round: wall seconds of single calls, CPU seconds of all."""

    wall: list[float] = field(default_factory=list)
    cpu: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, told: Mapping[str, Any]) -> None:
        """Take in what a worker told of its turn."""
        self.wall += told["seconds"]
        self.cpu += told["cpu"]
        for name in ("right", "wrong", "none"):
            self.counts[name] = self.counts.get(name, 0) + told.get(name, 0)

    def summary(self) -> dict[str, Any]:
        """Return p10, p50, p99 and CPU time of a call in microseconds, and what came of them."""
        p10, p50, p99 = np.percentile(np.array(self.wall) * 1e6, [10, 50, 99])
        cpu = self.cpu / len(self.wall) * 1e6
        figures = {"p10": p10, "p50": p50, "p99": p99, "cpu": cpu}
        return {"calls": len(self.wall), **self.counts} | {
            name: round(float(value), 1) for name, value in figures.items()
        }


def shuffled(names: Iterable[T], rng: random.Random) -> list[T]:
    """Return the names in another order each time: none always comes after the same."""
    order = list(names)
    rng.shuffle(order)
    return order


def measured(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time calls of this process in turn; return microseconds, sorted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) * 1e6)
    return {name: sorted(found) for name, found in times.items()}


def ratio(slow: Sequence[float], fast: Sequence[float], share: float = 10) -> list[float]:
    """Return how many times as long ``slow`` takes, by p10, and the 95 % interval of that.

    Rounds are resampled 1,000 times (bootstrap), the same for both. For a quantity where more is
    better, give the better one first. Raises ValueError for different numbers of rounds.
    """
    first, second = np.array(slow), np.array(fast)
    middle = np.percentile(first, share) / np.percentile(second, share)
    rng = np.random.default_rng(4)
    rounds = rng.integers(len(second), size=(RESAMPLED, len(second)))
    tops, bottoms = (np.percentile(one[rounds], share, axis=1) for one in (first, second))
    drawn = tops / bottoms
    low, high = np.percentile(drawn, [2.5, 97.5])
    return [round(float(value), 2) for value in (middle, low, high)]


def processor() -> str:
    """Return what the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")


def conditions(command: str) -> dict[str, Any]:
    """Return where and when a run was made; ``finish`` adds the load at its end."""
    names = ("numpy", "langchain-core", "redis", "onnxruntime", "sentence-transformers", "torch")
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "load": [round(os.getloadavg()[0], 1)],
    }


def save(name: str, conditions: dict[str, Any], **tables: Any) -> None:
    """Write the results of a run."""
    conditions["load"].append(round(os.getloadavg()[0], 1))
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"conditions": conditions, **tables}, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(f"wrote benchmarks/results/{name}.json, load {conditions['load']}", file=sys.stderr)


def load(name: str) -> dict[str, Any] | None:
    """Return the results of a run, None if there was none."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def command() -> str:
    """Return how this program was called."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
