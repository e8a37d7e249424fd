"""Whether time tells a known client key from an unknown one: in the process, and over HTTP.

    python benchmarks/service_keys.py

Kinds of keys are tried in turn, in an order shuffled anew each round, so that what else the machine
does falls on all alike. The difference of medians has a 95 % interval by bootstrap; "noise" is that
of one kind against itself, its rounds split in two.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable

import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray

from shared_core.service.access import Keyring, new_key
from shared_core.service.app import create_app
from shared_core.service.settings import Settings

KEYS = 50
IN_PROCESS, OVER_HTTP = 20_000, 1_500
RESAMPLES = 1_000


def measured(
    kinds: dict[str, Callable[[], object]], rounds: int, chance: random.Random
) -> dict[str, NDArray[np.float64]]:
    """Return microseconds by kind, (rounds,) each."""
    names, took = list(kinds), {name: np.zeros(rounds) for name in kinds}
    for i in range(rounds):
        chance.shuffle(names)
        for name in names:
            began = time.perf_counter_ns()
            kinds[name]()
            took[name][i] = (time.perf_counter_ns() - began) / 1000
    return took


def difference(
    one: NDArray[np.float64], other: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the difference of medians and its 95 % interval."""
    drawn = [
        np.median(rng.choice(one, one.size)) - np.median(rng.choice(other, other.size))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.median(one) - np.median(other)), float(low), float(high)


def report(title: str, took: dict[str, NDArray[np.float64]]) -> None:
    """Print p10, median, and each kind's difference from the unknown key."""
    rng = np.random.default_rng(1)
    print(f"{title}, µs")
    unknown = took["unknown"]
    for name, times in took.items():
        p10, median = np.percentile(times, [10, 50])
        told = ""
        if name != "unknown":
            shift, low, high = difference(times, unknown, rng)
            told = f"   against unknown {shift:+.2f} [{low:+.2f}, {high:+.2f}]"
        print(f"  {name:14} p10 {p10:9.2f}   median {median:9.2f}{told}")
    shift, low, high = difference(unknown[::2], unknown[1::2], rng)
    print(f"  {'noise':14} unknown against itself {shift:+.2f} [{low:+.2f}, {high:+.2f}]")


def main() -> None:
    """Measure both ways."""
    chance = random.Random(5)
    made = [new_key(f"app{number}", "use") for number in range(KEYS)]
    first, last = made[0][0], made[-1][0]
    unknown = new_key("nobody")[0]
    near = first[:-1] + ("A" if first[-1] != "A" else "B")
    keys = {"unknown": unknown, "almost known": near, "known, first": first, "known, last": last}

    ring = Keyring(str(entry) for _, entry in made)
    found = measured({n: (lambda k=k: ring.find(k)) for n, k in keys.items()}, IN_PROCESS, chance)
    report(f"Keyring.find among {KEYS} keys, {IN_PROCESS:,} each", found)

    settings = Settings(semantic=False, keys=tuple(str(entry) for _, entry in made))
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
        run = threading.Thread(target=server.run, args=([listening],), daemon=True)
        run.start()
        while not server.started:
            time.sleep(0.01)
        with httpx.Client(base_url=url) as client:
            # known keys of the role "use" are refused there, too, with 403 instead of 401
            over = measured(
                {
                    name: lambda k=key: client.get(
                        "/v1/cache/stats", headers={"authorization": f"Bearer {k}"}
                    )
                    for name, key in keys.items()
                },
                OVER_HTTP,
                chance,
            )
        server.should_exit = True
        run.join()
    report(f"refusals over HTTP, {OVER_HTTP:,} each", over)
    print("load average", ", ".join(f"{one:.1f}" for one in os.getloadavg()))


if __name__ == "__main__":
    main()
