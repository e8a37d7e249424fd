"""A run that must be complete fails where a test or a module skips itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = {
    "a mark": "import pytest\n@pytest.mark.skip(reason='r')\ndef test_it(): pass\n",
    "a call": "import pytest\ndef test_it(): pytest.skip('r')\n",
    "a fixture": (
        "import pytest\n@pytest.fixture\ndef it(): pytest.skip('r')\ndef test_it(it): pass\n"
    ),
    "a module": "import pytest\npytest.importorskip('no_such_package')\ndef test_it(): pass\n",
}


@pytest.mark.parametrize("code", SKIPS.values(), ids=SKIPS.keys())
@pytest.mark.parametrize("required", [True, False])
def test_a_skip_fails_where_all_is_required(code: str, required: bool, tmp_path: Path) -> None:
    assert _exit_code(code, tmp_path, required) == (0 if not required else None)


def test_what_passes_or_fails_as_expected_still_passes(tmp_path: Path) -> None:
    code = "import pytest\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): assert False\n"
    assert _exit_code(code, tmp_path, required=True) == 0


def _exit_code(code: str, folder: Path, required: bool) -> int | None:
    """Run one test file under this suite's conftest; None stands for any failure."""
    conftest = Path(__file__).with_name("conftest.py")
    (folder / "conftest.py").write_text(conftest.read_text())
    (folder / "test_it.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {**os.environ, "TIERED_CACHE_REQUIRE_ALL": "1" if required else "0"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    nothing_ran = 5
    return 0 if ran.returncode in (0, nothing_ran) else None
