"""Define the commands ``tiered-cache serve`` and ``tiered-cache key``."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from shared_core.service import Settings


ABOUT = "Run the service: an OpenAI-compatible proxy with the cache in it."
EXTRA = "tiered-cache serve needs: pip install 'tiered-llm-cache[service]'"

UNTOUCHED = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""Every setting is a flag, so the flags are read from the settings, not told to typer."""


def serve(context: typer.Context) -> None:
    """Run the service: an OpenAI-compatible proxy with the cache in it (--help: its options)."""
    try:
        from shared_core.service import load_settings, run
    except ImportError as error:
        if {"-h", "--help"} & {*context.args}:
            typer.echo(f"{ABOUT}\n{EXTRA}")
            return
        _fail(f"{EXTRA} ({error})")
    given = vars(_flags().parse_args(context.args))
    printing = given.pop("print_config")
    try:
        settings = load_settings(given)
        if printing:
            typer.echo(_printed(settings))
            return
        run(settings)
    except (ValueError, ImportError) as error:
        _fail(str(error))


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
                _fail(f"the line is that of the key {old.name!r}, not {name!r}")
            role, namespace = old.role, old.namespace
        made, entry = new_key(name, role, namespace)
    except ValueError as error:
        _fail(str(error))
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
    return "\n".join(
        f"# {name} is not set"
        if value is None
        else f"{name} = {'inf' if value == math.inf else json.dumps(value)}"
        for name, value in settings.masked().items()
    )


def _fail(message: str) -> NoReturn:
    typer.echo(f"tiered-cache: {message}", err=True)
    raise typer.Exit(1) from None
