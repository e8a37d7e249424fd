"""A run that must be complete fails where a test or a module skips itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "test_mark.py": "import pytest\n@pytest.mark.skip(reason='r')\ndef test_it(): pass\n",
    "test_call.py": "import pytest\ndef test_it(): pytest.skip('r')\n",
    "test_fixture.py": (
        "import pytest\n@pytest.fixture\ndef it(): pytest.skip('r')\ndef test_it(it): pass\n"
    ),
    "test_module.py": "import pytest\npytest.importorskip('no_such')\ndef test_it(): pass\n",
    "test_others.py": (
        "import pytest\ndef test_a(): pass\n@pytest.mark.xfail\ndef test_b(): assert False\n"
    ),
}


@pytest.mark.parametrize(
    ("required", "closing"),
    [
        (False, "1 passed, 4 skipped, 1 xfailed"),
        (True, "1 failed, 1 passed, 1 xfailed, 3 errors"),
    ],
)
def test_a_skip_fails_where_all_is_required(required: bool, closing: str, tmp_path: Path) -> None:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    conftest = Path(__file__).parents[1] / "conftest.py"
    (tmp_path / "conftest.py").write_text(conftest.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {
        **os.environ,
        "TIERED_CACHE_REQUIRE_ALL": "1" if required else "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--continue-on-collection-errors", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    assert closing in ran.stdout.splitlines()[-1], ran.stdout
    assert (ran.returncode != 0) is required
