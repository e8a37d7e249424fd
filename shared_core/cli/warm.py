"""Define ``tiered-cache warm``: fill a cache from a file, and from a model where need be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from shared_core.cache import ResponseCache
    from shared_core.costs import Costs
    from shared_core.learning import BadLine
    from shared_core.warming import Asker, Row, WarmReport


INTERRUPTED = 130
"""What a shell's commands end with when they are stopped by Ctrl-C."""

BAD_SHOWN = 10
ANSWER_TOKENS = 300
CALLS_AT_ONCE = 8


def warm_command(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines, or CSV: question, and answer, model, system, history, params, tags, "
            "ttl where there are."
        ),
    ],
    url: Annotated[str, typer.Argument(help="The store: sqlite:///PATH or redis://HOST.")],
    model: Annotated[str | None, typer.Option(help="Model of lines that name none.")] = None,
    ask: Annotated[
        str | None, typer.Option(help="Ask this model for the answers that lines lack.")
    ] = None,
    provider: Annotated[str, typer.Option(help="Provider that the app asks.")] = "openai",
    base_url: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible API, as the app has it.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="The tenant.")] = "default",
    embedder: Annotated[
        str | None, typer.Option(help="Name or path of the embedding model that the app has.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="For the exact tier alone.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Most calls at once.")] = CALLS_AT_ONCE,
    rpm: Annotated[int | None, typer.Option(min=1, help="Most calls in a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Most tokens in a minute.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Store and ask nothing; say what it would cost.")
    ] = False,
    answer_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that a dry run expects of an answer.")
    ] = ANSWER_TOKENS,
    bad: Annotated[
        Path | None, typer.Option(help="Where to report bad lines; by default FILE.bad.jsonl.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show how far it is.")] = True,
) -> None:
    """Fill a cache from a file: what is there is skipped, so it can be started again."""
    from shared_core.cache import ResponseCache
    from shared_core.costs import Costs
    from shared_core.embedding import EmbedderError
    from shared_core.stores import StoreError
    from shared_core.warming import Asker

    if url.startswith("memory:"):
        _fail("memory:// ends with this command; name a file or a server")
    asker = Asker(model or ask, provider, base_url)
    costs = Costs()
    try:
        options: dict[str, Any] = {"namespace": namespace, "semantic": not exact}
        with (
            ResponseCache.open(url, embedder=embedder, **options) as cache,
            _bad_lines(bad or file.with_name(file.name + ".bad.jsonl")) as note,
        ):
            if dry_run:
                report = _foreseen(cache, file, asker, bool(ask), answer_tokens, note, costs)
            else:
                if not exact:
                    cache.preload()
                asking = _asking(cache, ask, base_url, concurrency, (rpm, tpm), costs)
                report = _warmed(cache, file, asker, asking, note, concurrency, progress)
    except (ValueError, OSError, ImportError, StoreError, EmbedderError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _tell(report, costs, dry_run)
    raise typer.Exit(1 if report.bad else 0)


def _warmed(
    cache: ResponseCache,
    file: Path,
    asker: Asker,
    asking: Callable[[Row], object] | None,
    note: Callable[[BadLine], None],
    threads: int,
    progress: bool,
) -> WarmReport:
    from shared_core.learning import count_lines
    from shared_core.warming import read_file, warm_rows

    return warm_rows(
        cache._path,
        read_file(file, asker),
        ask=asking,
        bad=note,
        threads=threads,
        total=count_lines(file) if progress and file.exists() else None,
        progress=progress,
    )


def _foreseen(
    cache: ResponseCache,
    file: Path,
    asker: Asker,
    asking: bool,
    answer_tokens: int,
    note: Callable[[BadLine], None],
    costs: Costs,
) -> WarmReport:
    from shared_core.warming import foresee, read_file

    return foresee(
        cache._path,
        read_file(file, asker),
        asking=asking,
        answer_tokens=answer_tokens,
        bad=note,
        spend=lambda model, usage: costs.spend(model, usage, estimated=True),
    )


def _asking(
    cache: ResponseCache,
    ask: str | None,
    base_url: str | None,
    concurrency: int,
    limits: tuple[int | None, int | None],
    costs: Costs,
) -> Callable[[Row], object] | None:
    """Return what asks for a row's answer and stores it, None if nothing is to be asked."""
    if ask is None:
        return None
    from shared_core.client import MISSING_SDK

    try:
        import openai
    except ImportError:
        raise ImportError(MISSING_SDK) from None
    from shared_core.client import CachedClient, RateLimit

    try:
        sdk = openai.OpenAI(base_url=base_url)
    except openai.OpenAIError as error:
        raise ValueError(f"{error}") from None
    client = CachedClient(cache, sdk, rate=RateLimit(*limits), concurrency=concurrency, costs=costs)

    def asking(row: Row) -> object:
        # read=False: what is near is not good enough, this very question is to have its answer
        return client.chat(
            row.messages,
            model=row.model,
            read=False,
            tags=row.tags,
            ttl=row.ttl,
            **row.params,
        )

    return asking


@contextmanager
def _bad_lines(path: Path) -> Iterator[Callable[[BadLine], None]]:
    """Give what writes bad lines to a file, which is made for the first; show some of them."""
    file: Any = None
    count = 0

    def note(bad: BadLine) -> None:
        nonlocal file, count
        if file is None:
            file = path.open("w", encoding="utf-8")
        count += 1
        row = {"line": bad.line, "reason": bad.reason, "text": bad.text}
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        if count <= BAD_SHOWN:
            typer.echo(f"line {bad.line}: {bad.reason}", err=True)

    if path.exists():
        path.unlink()  # of an earlier run, which this one repeats
    try:
        yield note
    finally:
        if file is not None:
            file.close()
            typer.echo(f"{count:,} bad lines, all of them in {path}", err=True)


def _tell(report: WarmReport, costs: Costs, dry_run: bool) -> None:
    from shared_core.costs import lines_of

    would = "would be " if dry_run else ""
    asked = report.to_ask if dry_run else report.asked
    stored = report.stored + report.to_ask
    typer.echo(
        f"{report.rows:,} lines: {stored:,} {would}stored, {asked:,} of them {would}asked for, "
        f"{report.present:,} already there, {report.bad:,} bad"
    )
    account = costs.account()
    if account.total.calls:
        if dry_run:
            typer.echo(
                f"about {report.input_tokens:,} input and {report.output_tokens:,} output tokens"
            )
            known = account.total.unpriced == 0
            typer.echo(f"about ${account.total.spent:,.4f}" if known else "at an unknown price")
            return
        typer.echo(dict(lines_of(account))["in all"])


def _fail(message: str) -> NoReturn:
    typer.echo(f"tiered-cache: {message}", err=True)
    raise typer.Exit(1) from None
