"""Run the examples of a page of docs, each twice, before ``tests.service.clients.run``.

They stand in fences that say ``py``: what runs them is not installed with this project. It runs in
an environment of its own (``make test-clients``).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

BLOCK = re.compile(r"^## (.+?)$.*?^```py\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main(page: Path) -> None:
    os.environ |= {"OPENAI_API_KEY": "sk", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    os.environ |= {"OPENAI_AGENTS_DISABLE_TRACING": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    for name, code in BLOCK.findall(page.read_text("utf-8")):
        print(f"case {name}", flush=True)
        input()
        for _ in range(2):
            here = code.replace("http://127.0.0.1:8000", os.environ["SERVICE"])
            exec(compile(here, f"{page}, {name}", "exec"), {"__name__": "__main__"})  # noqa: S102
        print(f"end {name}", flush=True)
        input()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
