"""The command line: ``tiered-cache demo`` and ``tiered-cache doctor``."""

from __future__ import annotations

from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError:
    raise SystemExit("tiered-cache needs: pip install 'tiered-llm-cache[cli]'") from None

WIDTH_OF_A_PIPE = 160

app = typer.Typer(
    help="A cache for LLM answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(width=WIDTH_OF_A_PIPE, highlight=False)


@app.command()
def demo() -> None:
    """Play a LangChain session on real embeddings; needs no key and no network."""
    from shared_core.demo import run
    from shared_core.doctor import missing_for_demo

    console = _console()
    missing = missing_for_demo()
    if missing is not None:
        console.print(f"{missing.text}\n-> {missing.remedy}", markup=False)
        raise typer.Exit(1)
    raise typer.Exit(run(console))


@app.command()
def doctor(
    url: Annotated[
        str, typer.Argument(help="The store: memory:// or sqlite:///PATH.")
    ] = "memory://",
) -> None:
    """Say what is installed, what will be used, what is missing, and the command that mends it."""
    from shared_core.doctor import examine

    console = _console()
    findings = examine(url)
    for finding in findings:
        console.print(f"{finding.level:7} {finding.text}", markup=False)
        if finding.remedy:
            console.print(f"{'':7} -> {finding.remedy}", markup=False)
    raise typer.Exit(1 if any(finding.level == "missing" for finding in findings) else 0)


if __name__ == "__main__":
    app()
