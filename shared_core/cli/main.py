"""Define the command line ``tiered-cache``: all commands but those that read logs.

Every command prints one JSON value with ``--json``, and nothing else to standard output; what is
said on the way, and what went wrong, goes to standard error. A failure ends with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from shared_core.service import Settings

WIDTH_OF_A_PIPE = 160

app = typer.Typer(
    help="A cache for LLM answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


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


def make_console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(width=WIDTH_OF_A_PIPE, highlight=False)


def print_json(body: object) -> None:
    """Print one JSON value, which is all that goes to standard output then."""
    typer.echo(json.dumps(body, indent=1, ensure_ascii=False))


def fail(error: Exception | str) -> NoReturn:
    typer.echo(f"tiered-cache: {error}", err=True)
    raise typer.Exit(1) from None


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
Url = Annotated[str, typer.Argument(help="The store: sqlite:///PATH or redis://HOST.")]
Tenant = Annotated[str, typer.Option("--namespace", help="The tenant.")]
Model = Annotated[
    str | None,
    typer.Option("--embedder", help="Name or path of the embedding model that the app has."),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Judge by this similarity, not by the policy that the app's cache last had.",
    ),
]


@app.command()
def demo(as_json: AsJson = False) -> None:
    """Play a minute of a support bot behind the cache.

    It shows hits, refusals with their reason, and a wrong answer that is reported and gone. It
    needs no key and no network. A stand-in plays the model, with a delay; embeddings, cache and
    prices are real. The exit code is 0 if everything went as the demo says, else 1.

    --json: an object with "steps" (question, served_by, reason, similarity, ms, dollars_saved, ok),
    "hits", "seconds_saved", "dollars_saved".
    """
    from shared_core.cli.demo import run_demo
    from shared_core.cli.doctor import missing_for_demo

    console = make_console()
    missing = missing_for_demo()
    if missing is not None:
        fail(f"{missing.text}\n-> {missing.remedy}")
    played = run_demo(None if as_json else console)
    if as_json:
        print_json(played.as_json())
    raise typer.Exit(0 if played.ok else 1)


@app.command()
def doctor(
    url: Annotated[
        str, typer.Argument(help="The store: memory://, sqlite:///PATH or redis://HOST.")
    ] = "memory://",
    as_json: AsJson = False,
) -> None:
    """Say what is missing, and the command that mends it.

    With the URL of a store it looks at that too: can it be used, what does it hold, and what do the
    caches on it say holds them back. It changes nothing. The exit code is 1 if something is missing
    without which the cache does not do what it is for.

    --json: a list of objects with "level" (ok, absent, warning, missing), "text", "remedy".
    """
    from shared_core.cli.doctor import examine

    findings = examine(url)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console = make_console()
        for finding in findings:
            console.print(f"{finding.level:7} {finding.text}", markup=False)
            if finding.remedy:
                console.print(f"{'':7} -> {finding.remedy}", markup=False)
    raise typer.Exit(1 if any(finding.level == "missing" for finding in findings) else 0)


@app.command()
def stats(url: Url, namespace: Tenant = "default", as_json: AsJson = False) -> None:
    """Say what the caches on a store did, and what they saved.

    That is hits, misses and why, wrong answers with intervals, tokens and money, and advice. It
    reads what all processes wrote, up to about a second ago, changes nothing and loads no model.

    --json: an object with the fields of cache.stats().
    """
    from shared_core.stats import read_stats, stats_as_json, stats_lines
    from shared_core.stores import StoreError

    try:
        found = read_stats(url, namespace)
    except (ValueError, StoreError, ImportError) as error:
        fail(error)
    if as_json:
        print_json(stats_as_json(found))
        return
    console = make_console()
    for name, text in stats_lines(found):
        console.print(f"{name:18} {text}", markup=False)


@app.command()
def inspect(
    url: Url,
    question: Annotated[str, typer.Argument(help="What a user might ask.")],
    namespace: Tenant = "default",
    model: Annotated[
        str | None, typer.Option(help="Look at answers of this model of the app's alone.")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Look at scopes whose digest begins so; --json has them whole.")
    ] = "",
    threshold: Threshold = None,
    embedder: Model = None,
    as_json: AsJson = False,
) -> None:
    """Say what a question would hit, or why not and what to do.

    Prints the outcome with its reason, the policy's estimate, and the nearest stored questions of
    one scope with what sets each apart. A scope is all but the question that an answer depends on;
    that of the nearest question is looked at. All entries of the namespace are read, and nothing is
    changed or counted. The exit code is 0 for a hit and for a miss.

    --json: an object with "outcome", "tier", "reason", "why", "what_to_do", "answer", "similarity",
    "chance", "needed", "neighbours", "scope", "scopes", "entries", "policy".
    """
    from shared_core import StoreError
    from shared_core.cli.review import Examiner
    from shared_core.embedding import EmbedderError
    from shared_core.resilience import Unavailable

    try:
        with Examiner(url, namespace, threshold, embedder) as examiner:
            found = examiner.inspect(question, model, scope)
    except (ValueError, OSError, ImportError, EmbedderError, StoreError, Unavailable) as error:
        fail(error)
    if as_json:
        print_json(asdict(found))
        return
    console = make_console()
    for line in found.lines():
        console.print(line, markup=False)


@app.command()
def review(
    where: Annotated[
        str,
        typer.Argument(
            metavar="URL|PAIRS.csv",
            help="A store, or a file that tiered-cache tune LOG --pairs wrote.",
        ),
    ],
    namespace: Tenant = "default",
    most: Annotated[int, typer.Option(min=1, help="Most pairs to ask about.")] = 50,
    threshold: Threshold = None,
    embedder: Model = None,
    as_json: AsJson = False,
) -> None:
    """Judge in the terminal whether cached answers fit.

    Would the answer to one question do for the other? Of a store these are the pairs that its
    caches would serve now, newest first: y and n go to feedback, so the policy learns and a wrong
    answer is not served again. Of a file of pairs they are those without a label, and the labels
    are written into it. Answer y (yes), n (no), s (skip) or q (quit); each verdict is kept at once.

    --json: an object with "right", "wrong", "skipped" and "left", the pairs left to judge.
    """
    from shared_core import StoreError
    from shared_core.cli.review import review_file, review_store
    from shared_core.embedding import EmbedderError
    from shared_core.resilience import Unavailable

    try:
        if "://" in where:
            found = review_store(
                where,
                _verdict,
                namespace=namespace,
                policy=threshold,
                embedder=embedder,
                most=most,
            )
        else:
            found = review_file(Path(where), _verdict, most)
    except (ValueError, OSError, ImportError, EmbedderError, StoreError, Unavailable) as error:
        fail(error)
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(
        f"{found.right:,} right, {found.wrong:,} wrong, {found.skipped:,} skipped, "
        f"{found.left:,} left to judge"
    )
    if not any((found.right, found.wrong, found.skipped, found.left)):
        typer.echo("no pair is to be judged: none would be served now, or each has a label already")


def _verdict(text: str) -> Literal["y", "n", "s", "q"]:
    """Show a pair and read one letter; the end of the input quits."""
    typer.echo(f"\n{text}", err=True)
    while True:
        typer.echo("does the answer fit? [y/n/s/q] ", err=True, nl=False)
        line = sys.stdin.readline()
        letter = line.strip().lower()[:1]
        if not line or letter == "q":
            return "q"
        if letter in ("y", "n", "s"):
            return letter  # type: ignore[return-value]  # one of the three


ABOUT = "Run the service: an OpenAI-compatible proxy with the cache in it."
EXTRA = "tiered-cache serve needs: pip install 'tiered-llm-cache[service]'"

UNTOUCHED = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""Every setting is a flag, so the flags are read from the settings, not declared to typer."""


@app.command(context_settings=UNTOUCHED)
def serve(context: typer.Context) -> None:
    """Run the service; --help lists its options."""
    try:
        from shared_core.service import load_settings, run
    except ImportError as error:
        if {"-h", "--help"} & {*context.args}:
            typer.echo(f"{ABOUT}\n{EXTRA}")
            return
        fail(ImportError(f"{EXTRA} ({error})"))
    given = vars(_flags().parse_args(context.args))
    printing = given.pop("print_config")
    try:
        settings = load_settings(given)
        if printing:
            typer.echo(_printed(settings))
            return
        run(settings)
    except (ValueError, ImportError) as error:
        fail(error)


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
    as_json: AsJson = False,
) -> None:
    """Make a client key for the service.

    It prints the key, once, and the line by which a server knows it.

    --json: an object with "key", for the client, and "line", for the server.
    """
    from shared_core.service import KeyEntry, new_key

    try:
        if rotate is not None:
            old = KeyEntry.parse(rotate)
            if old.name != name:
                raise ValueError(f"the line is that of the key {old.name!r}, not {name!r}")
            role, namespace = old.role, old.namespace
        made, entry = new_key(name, role, namespace)
    except ValueError as error:
        fail(error)
    if as_json:
        print_json({"key": made, "line": str(entry)})
        return
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

    values = settings.masked()
    tables = [] if isinstance(values["upstream"], str) else values.pop("upstream")
    lines = [line(name, value) for name, value in values.items()]
    for table in tables:  # last: all that follows a table belongs to it
        lines += ["", "[[upstream]]", *(line(name, value) for name, value in table.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
