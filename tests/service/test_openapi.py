"""What the OpenAPI document says is so: schemathesis makes requests of it and reads the answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from shared_core.service.access import new_key
from tests.service.conftest import Serve

FULL = os.environ.get("TIERED_CACHE_SOAK") == "full"
CASES = 3_000 if FULL else 300


@pytest.mark.slow
def test_no_request_of_the_document_breaks_the_service_or_the_document(
    serve: Serve, tmp_path: Path
) -> None:
    key, entry = new_key("tester", "admin", "shop")
    url = serve(keys=(str(entry),))
    # the phase "coverage" takes every keyword of every schema to its limits, over 1,000 cases
    phases = "examples,coverage,fuzzing,stateful" if FULL else "examples,fuzzing"
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {key}", "--phases", phases),
            *("--max-examples", "110" if FULL else "30", "--seed", "7"),
            *("--suppress-health-check", "all", "--continue-on-failure", "--no-color"),
        ],
        capture_output=True, text=True, check=False, timeout=900, cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    told = ran.stdout[-20_000:] + ran.stderr[-5_000:]
    assert ran.returncode == 0, told
    made = re.search(r"([\d,]+) generated", ran.stdout)
    assert made, told
    assert int(made[1].replace(",", "")) >= CASES, told


def test_every_operation_is_described_with_an_example_and_its_errors(serve: Serve) -> None:
    document = httpx.get(f"{serve()}/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            where = f"{method} {path}"
            assert one.get("description") or one.get("summary"), where
            assert "413" in one["responses"], where
            assert "431" in one["responses"], where
            if one.get("security"):
                assert "401" in one["responses"], where
            for body in one.get("requestBody", {}).get("content", {}).values():
                name = body["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"].get(name, body["schema"])
                assert schema.get("examples"), where
