"""Define the command line: ``tiered-cache demo doctor key learn serve stats tune warm``."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

try:
    import typer
    from rich.console import Console
except ImportError:
    raise SystemExit("tiered-cache needs: pip install 'tiered-llm-cache[cli]'") from None

from shared_core.cli.warm import warm_command

if TYPE_CHECKING:
    from shared_core.learning import Tuning
    from shared_core.service import Settings

WIDTH_OF_A_PIPE = 160

app = typer.Typer(
    help="A cache for LLM answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("warm")(warm_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from shared_core import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """A cache for LLM answers."""


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(width=WIDTH_OF_A_PIPE, highlight=False)


@app.command()
def demo() -> None:
    """Play a LangChain session on real embeddings; needs no key and no network."""
    from shared_core.cli.demo import run_demo
    from shared_core.cli.doctor import missing_for_demo

    console = _console()
    missing = missing_for_demo()
    if missing is not None:
        console.print(f"{missing.text}\n-> {missing.remedy}", markup=False)
        raise typer.Exit(1)
    raise typer.Exit(run_demo(console))


@app.command()
def doctor(
    url: Annotated[
        str, typer.Argument(help="The store: memory://, sqlite:///PATH or redis://HOST.")
    ] = "memory://",
) -> None:
    """Say what is installed, what will be used, what is missing, and the command that mends it."""
    from shared_core.cli.doctor import examine

    console = _console()
    findings = examine(url)
    for finding in findings:
        console.print(f"{finding.level:7} {finding.text}", markup=False)
        if finding.remedy:
            console.print(f"{'':7} -> {finding.remedy}", markup=False)
    raise typer.Exit(1 if any(finding.level == "missing" for finding in findings) else 0)


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"tiered-cache: {error}", err=True)
    raise typer.Exit(1) from None


@app.command()
def stats(
    url: Annotated[str, typer.Argument(help="The store: sqlite:///PATH or redis://HOST.")],
    namespace: Annotated[str, typer.Option(help="The tenant.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what the caches on a store did: hits, misses and why, errors with intervals, savings."""
    from shared_core.stats import read_stats, stats_as_json, stats_lines
    from shared_core.stores import StoreError

    try:
        found = read_stats(url, namespace)
    except (ValueError, StoreError, ImportError) as error:
        _fail(error)
    if as_json:
        typer.echo(json.dumps(stats_as_json(found), indent=1))
        return
    console = _console()
    for name, text in stats_lines(found):
        console.print(f"{name:18} {text}", markup=False)


@app.command()
def learn(
    url: Annotated[str, typer.Argument(help="The store: sqlite:///PATH or redis://HOST.")],
    namespace: Annotated[str, typer.Option(help="The tenant.")] = "default",
    embedder: Annotated[
        str | None, typer.Option(help="Name or path of the embedding model that the app has.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Most of the newest answers to go by.")] = 500,
) -> None:
    """Hold stored answers against each other, so that the policy learns what they tell."""
    from shared_core import ResponseCache, StoreError
    from shared_core.embedding import EmbedderError

    try:
        with ResponseCache.open(url, namespace=namespace, embedder=embedder, strict=True) as cache:
            cache.preload()
            found = cache.learn(most)
            told = cache.stats().policy
    except (ValueError, OSError, ImportError, EmbedderError, StoreError) as error:
        _fail(error)
    typer.echo(f"{found:,} labels, {told.get('labels', 0):,} in all")


@app.command()
def tune(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, or CSV, with question, cached and same, or similarity and same."
        ),
    ],
    max_error: Annotated[float, typer.Option(help="Share of wrong answers to allow.")] = 0.02,
    per: Annotated[str, typer.Option(help='Of what: "hit" or "request".')] = "hit",
    embedder: Annotated[
        str | None, typer.Option(help="Name or path of a sentence-transformers model.")
    ] = None,
    guard: Annotated[bool, typer.Option(help="Whether the cache has its guard.")] = True,
    export: Annotated[
        Path | None, typer.Option(help="Write the policy to this file, as JSON.")
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="Export Verified with a prior, not a threshold.")
    ] = False,
) -> None:
    """Find the threshold that keeps wrong answers under a bound, by labelled questions."""
    from shared_core import learning
    from shared_core.embedding import EmbedderError

    if prior and export is None:
        _fail(ValueError("--prior is for --export: name a file to write"))
    try:
        rows = learning.read_rows(file)
        if texts := {
            text for row in rows if row.similarity is None for text in (row.question, row.cached)
        }:
            typer.echo(f"embedding {len(texts):,} questions", err=True)
        found = learning.tune(rows, max_error, per, embedder, guard=guard)  # type: ignore[arg-type]  # tune says what per may be
        console = _console()
        for line in learning.tuning_lines(found):
            console.print(line, markup=False)
        if export is not None:
            export.write_text(_exported(found, prior), encoding="utf-8")
            console.print(f"written to {export}", markup=False)
    except (ValueError, OSError, EmbedderError) as error:
        _fail(error)
    raise typer.Exit(0 if prior or found.threshold is not None else 1)


def _exported(found: Tuning, prior: bool) -> str:
    from shared_core.learning import policy_to_json
    from shared_core.thresholds import Verified

    policy = Verified(found.max_error, found.per, prior=found.prior()) if prior else found.policy()
    about = {"embedder": found.embedder, "rows": len(found.rows), "verdict": found.verdict}
    return policy_to_json(policy, **about)


ABOUT = "Run the service: an OpenAI-compatible proxy with the cache in it."
EXTRA = "tiered-cache serve needs: pip install 'tiered-llm-cache[service]'"

UNTOUCHED = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""Every setting is a flag, so the flags are read from the settings, not told to typer."""


@app.command(context_settings=UNTOUCHED)
def serve(context: typer.Context) -> None:
    """Run the service: an OpenAI-compatible proxy with the cache in it (--help: its options)."""
    try:
        from shared_core.service import load_settings, run
    except ImportError as error:
        if {"-h", "--help"} & {*context.args}:
            typer.echo(f"{ABOUT}\n{EXTRA}")
            return
        _fail(ImportError(f"{EXTRA} ({error})"))
    given = vars(_flags().parse_args(context.args))
    printing = given.pop("print_config")
    try:
        settings = load_settings(given)
        if printing:
            typer.echo(_printed(settings))
            return
        run(settings)
    except (ValueError, ImportError) as error:
        _fail(error)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[
        str, typer.Option(help="use: ask, and read and write answers; admin: everything.")
    ] = "use",
    namespace: Annotated[str, typer.Option(help="The tenant that it belongs to.")] = "default",
    rotate: Annotated[
        str | None,
        typer.Option(metavar="LINE", help="The line of the key that the new one takes over from."),
    ] = None,
) -> None:
    """Make a client key: the key, once, and the line by which a server knows it."""
    from shared_core.service import KeyEntry, new_key

    try:
        if rotate is not None:
            old = KeyEntry.parse(rotate)
            if old.name != name:
                raise ValueError(f"the line is that of the key {old.name!r}, not {name!r}")
            role, namespace = old.role, old.namespace
        made, entry = new_key(name, role, namespace)
    except ValueError as error:
        _fail(error)
    typer.echo(f"{made}\n{entry}")
    typer.echo(
        "The first line is the key: give it to the client, it is shown only now. The second is for "
        'the server: keys = ["…"] in its file, or TIERED_CACHE_KEYS.',
        err=True,
    )
    if rotate is not None:
        typer.echo(
            "Keep the old line beside the new one until no client has the old key, then remove it.",
            err=True,
        )


def _flags() -> argparse.ArgumentParser:
    """Return a parser with a flag for each setting; what is not given is None."""
    from pydantic.fields import FieldInfo

    from shared_core.service import Settings

    prefix = Settings.model_config["env_prefix"]
    parser = argparse.ArgumentParser(
        "tiered-cache serve",
        usage="tiered-cache serve [--cache URL] [--upstream URL] [--host HOST] [--port PORT] …",
        description="Run the service. Every option can stand in the environment "
        f"({prefix}UPSTREAM, say) or in the TOML file of --config, too.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print-config", action="store_true", help="Print the settings as TOML, and end."
    )

    def add(name: str, field: FieldInfo) -> None:
        options: dict[str, Any] = {"help": (field.description or "").replace("%", "%%")}
        if field.annotation in (bool, bool | None):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = "VALUE"
        if isinstance(field.default, tuple):
            options["action"] = "append"
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, **options)

    for name, field in Settings.model_fields.items():
        add(name, field)
    return parser


def _printed(settings: Settings) -> str:
    """Spell settings as TOML, of which every JSON text, number and list is a part."""

    def line(name: str, value: object) -> str:
        if value is None:
            return f"# {name} is not set"
        return f"{name} = {'inf' if value == math.inf else json.dumps(value)}"

    told = settings.masked()
    tables = [] if isinstance(told["upstream"], str) else told.pop("upstream")
    lines = [line(name, value) for name, value in told.items()]
    for table in tables:  # last: all that follows a table belongs to it
        lines += ["", "[[upstream]]", *(line(name, value) for name, value in table.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
