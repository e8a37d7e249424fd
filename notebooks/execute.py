"""Run the notebooks from top to bottom and write them with what they show.

    python notebooks/execute.py [NAME …]

NAME.py, in jupytext's percent format, is the source; NAME.ipynb is made of it.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("[0-9]*.py"))
TIMEOUT_S = 600.0
COLOURS = 96
"""Of a figure: enough for lines and letters, at a third of the size."""


def read(source: Path) -> NotebookNode:
    """Return the notebook of this source, not run yet."""
    notebook = jupytext.read(source)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else each run would change every one
    return notebook


def run(notebook: NotebookNode) -> None:
    """Run a notebook in a kernel of its own, in this folder; put what it shows into it.

    Raises ``nbclient.exceptions.CellExecutionError`` if a cell fails.
    """
    NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(HERE)}},
    ).execute()
    for name in ("language_info", "widgets"):  # widgets are of no use without their kernel
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"])


def small(png: str) -> str:
    """Return a picture, in base64, with fewer colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    written = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def main(names: list[str]) -> None:
    """Run those named, or all."""
    for source in SOURCES:
        if not names or source.stem in names:
            print(source.stem, flush=True)
            notebook = read(source)
            run(notebook)
            nbformat.write(notebook, source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
