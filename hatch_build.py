"""Make the description that PyPI shows: the README with links that work outside of the repository.

Where the repository is published is written in one place, ``repository`` of this hook's table in
``pyproject.toml``. With it, relative links and pictures lead to the files of this version's tag. As
long as it is empty, links into the repository and pictures become plain text, so that no link leads
nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^]]*)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[((?:[^][]|\[[^]]*\])+)\]\(([^)]+)\)")
ELSEWHERE = ("https://", "mailto:")


def long_description(readme: str, repository: str, version: str) -> str:
    """Return the text for PyPI: every relative target absolute, or gone without a repository."""
    tag = f"v{version}"

    def picture(found: re.Match[str]) -> str:
        if found[2].startswith(ELSEWHERE):
            return found[0]
        return f"![{found[1]}]({repository}/raw/{tag}/{found[2]})" if repository else found[1]

    def link(found: re.Match[str]) -> str:
        if found[2].startswith((*ELSEWHERE, "#")):
            return found[0]
        return f"[{found[1]}]({repository}/blob/{tag}/{found[2]})" if repository else found[1]

    return LINK.sub(link, PICTURE.sub(picture, readme))


def project_urls(repository: str) -> dict[str, str]:
    """Return the links at the side of PyPI's page; none without a repository."""
    if not repository:
        return {}
    return {
        "Source": repository,
        "Documentation": f"{repository}/blob/main/docs/index.md",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


class Hook(MetadataHookInterface):
    """Fills in ``readme`` and ``urls`` when a wheel or an sdist is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the two fields to the metadata."""
        root = Path(self.root)
        repository = str(self.config.get("repository", "")).rstrip("/")
        version = re.search(
            r'^__version__ = "(.+)"$', (root / "shared_core/__init__.py").read_text(), re.MULTILINE
        )
        assert version is not None  # noqa: S101 - hatchling reads the version by the same line
        readme = (root / "README.md").read_text(encoding="utf-8")
        text = long_description(readme, repository, version[1])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = project_urls(repository)
