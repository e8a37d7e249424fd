"""Run clients of other environments against the service, before a fake upstream.

    python -m tests.service.clients.run PROGRAM ARGUMENTS…

The program gets SERVICE, the service's base URL, and DIRECT, the upstream's. It says ``case NAME``
before the first of equal requests and ``end NAME`` after the last, in lines of its own, and exits
with 0 if each got the same; here it is checked that each case asked the upstream once.
"""

from __future__ import annotations

import os
import subprocess
import sys

from shared_core.service.app import create_app
from shared_core.service.settings import Settings
from tests.service.serving import served
from tests.service.upstream import Upstream

PATIENCE_S = 300


def main(command: list[str]) -> int:
    """Run the program, and return 0 if all of its cases asked the upstream once."""
    upstream, wrong, cases = Upstream(), list[str](), 0
    with served(upstream.app) as there:
        app = create_app(Settings(upstream=f"{there}/v1", semantic=False))
        with served(app) as url:
            program = subprocess.Popen(
                command, env={**os.environ, "SERVICE": url, "DIRECT": there},
                stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert program.stdout is not None
            assert program.stdin is not None
            before = 0
            for line in program.stdout:
                word, _, name = line.strip().partition(" ")
                if word == "case":
                    before = upstream.calls
                elif word == "end":
                    asked, cases = upstream.calls - before, cases + 1
                    if asked != 1:
                        wrong.append(f"{name}: the upstream was asked {asked} times")
                print(line, end="", flush=True)
                if word in ("case", "end"):  # the program waits until it was counted
                    program.stdin.write("\n")
                    program.stdin.flush()
            code = program.wait(PATIENCE_S)
    print("\n".join(wrong) or f"{cases} cases, each asked the upstream once")
    return code or len(wrong) or int(cases == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
