"""What PyPI shows of the project: a page whose links lead somewhere, and metadata it takes."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import shared_core
from hatch_build import long_description, project_urls

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://code.example.org/someone/tiered-llm-cache"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Page(HTMLParser):
    """Collects what a page links to and shows, and its anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)
        if tag == "img":
            self.pictures.append(found.get("src") or "")
        if name := found.get("id"):
            self.anchors.add(name.removeprefix("user-content-"))


def page(repository: str) -> Page:
    """Return the README as PyPI renders it."""
    from readme_renderer import markdown

    text = long_description((ROOT / "README.md").read_text(), repository, "1.2.3")
    html = markdown.render(text)
    assert html, "PyPI could not render it"
    return Page(html)


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and MkDocs spell them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    bare = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"\s+", "-", heading) for heading in bare}


def test_every_link_and_picture_of_the_page_leads_to_a_file_of_this_version() -> None:
    shown = page(REPOSITORY)
    assert len(shown.links) > 20
    assert len(shown.pictures) >= 1
    for target, kind in [
        *((link, "blob") for link in shown.links),
        *((picture, "raw") for picture in shown.pictures),
    ]:
        parts = urlsplit(target)
        if target.startswith("#"):
            assert target.removeprefix("#").removeprefix("user-content-") in shown.anchors, target
        elif target.startswith(REPOSITORY):
            path, _, anchor = target.partition("#")
            inside = path.removeprefix(f"{REPOSITORY}/{kind}/v1.2.3/")
            assert (ROOT / inside).is_file(), target
            assert not anchor or anchor in anchors_of(ROOT / inside), target
        else:
            assert (parts.scheme, bool(parts.hostname)) == ("https", True), target


def test_without_a_repository_the_page_has_no_link_that_leads_nowhere() -> None:
    shown = page("")
    assert all(link.startswith(("https://", "#")) for link in shown.links)
    assert all(picture.startswith("https://") for picture in shown.pictures)
    assert project_urls("") == {}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](docs/b.md)", f"[a]({REPOSITORY}/blob/v2/docs/b.md)"),
        ("[`a[b]`](docs/b.md#c)", f"[`a[b]`]({REPOSITORY}/blob/v2/docs/b.md#c)"),
        ("![a](b.png)", f"![a]({REPOSITORY}/raw/v2/b.png)"),
        ("[a](https://x.org/b)", "[a](https://x.org/b)"),
        ("[a](#b)", "[a](#b)"),
    ],
)
def test_relative_targets_become_absolute(written: str, shown: str) -> None:
    assert long_description(written, REPOSITORY, "2") == shown


def test_the_hook_is_told_of_by_the_metadata_that_it_fills_in() -> None:
    assert {"version", "readme", "urls"} <= set(PROJECT["dynamic"])
    assert all(url.startswith(REPOSITORY) for url in project_urls(REPOSITORY).values())


def test_classifiers_are_those_that_pypi_knows() -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= classifiers


def test_one_version_stands_everywhere() -> None:
    version = shared_core.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_command_says_its_version() -> None:
    from typer.testing import CliRunner

    from shared_core.cli import app

    assert CliRunner().invoke(app, ["--version"]).output.strip() == shared_core.__version__
