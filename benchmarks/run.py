"""Run every benchmark, draw the figures and write benchmarks/RESULTS.md: `make compare`.

    python benchmarks/run.py [--quick] [NAME ...]
    python benchmarks/run.py --list                  what each file of this folder is for

NAMEs run those alone; figures and report are made of the newest results of each. What a benchmark
prints goes to benchmarks/results/NAME.txt, unless it writes its tables to NAME.json itself.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rounds import RESULTS, conditions
from worker import ENVIRONMENTS, ONE_THREAD

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark, its arguments in full and for a quick run.

    ``tables`` says that it writes them itself; ``environment`` is one of a peer's.
    """

    name: str
    full: str = ""
    quick: str = ""
    tables: bool = False
    environment: str = ""


RUNS = (
    Run("tiers", "--entries 500 --rounds 200", "--quick", tables=True),
    Run("throughput", "--entries 500 --rounds 5", "--quick", tables=True),
    Run("entries", "--entries 1000 10000 30000 --rounds 200", "--quick", tables=True),
    Run("scale", "--quick", "--quick", tables=True),  # a million takes half an hour: by hand
    Run("memory", "--entries 3000", "--quick", tables=True),
    Run("startup", "--rounds 3", "--quick", tables=True),
    Run("lookups", "", "--rounds 300", environment="langchain-redis"),
    Run(
        "redis_lookups",
        "--entries 10000 --scopes 10",
        "--entries 1000 --scopes 10 --rounds 100",
        environment="langchain-redis",
    ),
    Run("embedding", "--rounds 100 --callers 1 8", "--rounds 40 --callers 8"),
    Run("stores", "exact", "exact"),
    Run("loop_lag", "--rounds 5", "--rounds 3"),
    Run("coalescing", "--call 1", "--call 1"),
    Run("rag"),
    Run("savings"),
)
"""In the order of the report; in full some 15 minutes on a quiet machine."""


def run(one: Run, quick: bool) -> bool:
    """Run a benchmark and keep what it prints; return whether it came to its end."""
    given = (one.quick if quick else one.full).split()
    place = ENVIRONMENTS / one.environment / "bin/python"
    python = str(place) if one.environment and place.exists() else sys.executable
    shown = " ".join(["python", f"benchmarks/{one.name}.py", *given])
    print(f"== {shown}", file=sys.stderr, flush=True)
    # The root is on the path for the environments of peers, which do not have ours installed.
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    before, began = conditions(shown), time.monotonic()
    done = subprocess.run(
        [python, str(HERE / f"{one.name}.py"), *given],
        stdout=None if one.tables else subprocess.PIPE,
        text=True,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": paths},
        check=False,
    )
    print(f"   {time.monotonic() - began:.0f} s", file=sys.stderr)
    if not one.tables and done.returncode == 0:
        head = f"{before['date']}, {before['cpu']}, load {before['load'][0]} before"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{one.name}.txt").write_text(f"$ {shown}\n{head}\n{done.stdout}")
    return done.returncode == 0


def purposes() -> Iterator[str]:
    """Yield each file of this folder with the first line of its docstring."""
    for file in sorted(HERE.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        yield f"{file.name:26s} {text.partition(chr(10))[0]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    names = [one.name for one in RUNS]
    parser.add_argument("names", nargs="*", choices=[[], *names], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="say what each file is for")
    given = parser.parse_args()
    if given.list:
        print(*purposes(), sep="\n")
        return
    chosen = [one for one in RUNS if not given.names or one.name in given.names]
    began = time.monotonic()
    failed = [one.name for one in chosen if not run(one, given.quick)]
    print(f"== all: {time.monotonic() - began:.0f} s", file=sys.stderr)
    for name in ("figures", "report"):
        subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
    if failed:
        raise SystemExit(f"did not come to their end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
