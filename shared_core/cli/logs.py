"""Define the commands that read logs: ``tiered-cache warm``, ``learn`` and ``tune``.

All three read what ``shared_core.learning.read_log`` reads.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared_core.cli.main import AsJson, Model, Tenant, Url, app, fail, make_console, print_json

if TYPE_CHECKING:
    from shared_core.cache import ResponseCache
    from shared_core.costs import Costs
    from shared_core.learning import BadLine, LabelledPair, Neighbours, Tuning
    from shared_core.warming import Asker, Row, WarmReport

LOG_FORMATS = (
    "CSV or JSON lines with question, answer, model, system, history, params, tags, ttl; LangSmith "
    "runs; Langfuse observations; OpenAI requests and responses."
)


INTERRUPTED = 130
"""What a shell's commands end with when they are stopped by Ctrl-C."""

BAD_SHOWN = 10
ANSWER_TOKENS = 300
CALLS_AT_ONCE = 8


_LogFile = Annotated[
    Path, typer.Argument(metavar="LOG", help=f"A log of model calls: {LOG_FORMATS}")
]
_Model = Annotated[str | None, typer.Option("--model", help="Model of calls that name none.")]
_Provider = Annotated[str, typer.Option("--provider", help="Provider that the app asks.")]
_BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", help="Address of an OpenAI-compatible API, as the app has it."),
]


@app.command()
def warm(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    file: _LogFile,
    url: Url,
    model: _Model = None,
    ask: Annotated[
        str | None, typer.Option(help="Ask this model for the answers that the log lacks.")
    ] = None,
    provider: _Provider = "openai",
    base_url: _BaseUrl = None,
    namespace: Tenant = "default",
    embedder: Model = None,
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
    as_json: AsJson = False,
) -> None:
    """Fill a cache with the answers of a log.

    Its first users then find them there. What is there already is skipped, so a run that was
    stopped is taken up by starting it again. An entry has the key of the app whose requests the log
    holds: model, system message, history and settings are those of the log. A line that cannot be
    used stops nothing: it is reported with its number and the reason. Runs of tools, failed calls
    and other lines that are no answered question are counted apart. The exit code is 1 if there
    were bad lines.

    --json: an object with "rows", "stored", "asked", "present", "bad", "other", "to_ask",
    "input_tokens", "output_tokens", "spent" (US dollars, null if unknown).
    """
    from shared_core.cache import ResponseCache
    from shared_core.costs import Costs
    from shared_core.embedding import EmbedderError
    from shared_core.stores import StoreError
    from shared_core.warming import Asker

    if url.startswith("memory:"):
        fail("memory:// ends with this command; name a file or a server")
    asker = Asker(model or ask, provider, base_url)
    costs = Costs()
    try:
        _check_log(file)
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
                shows = progress and not as_json
                report = _warmed(cache, file, asker, asking, note, concurrency, shows)
    except (ValueError, OSError, ImportError, StoreError, EmbedderError) as error:
        fail(error)
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        total = costs.account().total
        known = not total.calls or total.unpriced == 0
        print_json({**asdict(report), "spent": total.spent if known else None})
    else:
        _tell(report, costs, dry_run)
    raise typer.Exit(1 if report.bad else 0)


@app.command()
def learn(
    url: Url,
    log: Annotated[
        Path | None,
        typer.Argument(metavar="[LOG]", help=f"A log to store first, as warm does: {LOG_FORMATS}"),
    ] = None,
    namespace: Tenant = "default",
    model: _Model = None,
    provider: _Provider = "openai",
    base_url: _BaseUrl = None,
    embedder: Model = None,
    most: Annotated[int, typer.Option(min=1, help="Most of the newest answers to go by.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Let the policy learn from the answers that are stored.

    Answers to questions that look alike are compared, those of the newest entries that this was not
    done for; the policy learns what speaks for a candidate. How often it is wrong it still learns
    from requests alone. Run it while the app is idle, or after warm: with a log, both are done.

    --json: an object with "labels", "labels_in_all" and "stored" (of the log).
    """
    from shared_core import ResponseCache, StoreError
    from shared_core.embedding import EmbedderError
    from shared_core.warming import Asker

    stored = 0
    try:
        if log is not None:
            _check_log(log)
        with ResponseCache.open(url, namespace=namespace, embedder=embedder, strict=True) as cache:
            cache.preload()
            if log is not None:
                with _bad_lines(log.with_name(log.name + ".bad.jsonl")) as note:
                    asker = Asker(model, provider, base_url)
                    stored = _warmed(
                        cache, log, asker, None, note, CALLS_AT_ONCE, not as_json
                    ).stored
            found = cache.learn(most)
            in_all = cache.stats().policy.get("labels", 0)
    except (ValueError, OSError, ImportError, EmbedderError, StoreError) as error:
        fail(error)
    if as_json:
        print_json({"labels": found, "labels_in_all": in_all, "stored": stored})
        return
    if log is not None:
        typer.echo(f"{stored:,} answers stored")
    typer.echo(f"{found:,} labels, {in_all:,} in all")


@app.command()
def tune(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS|LOG",
            help="Pairs, as CSV or JSON lines with question, cached and same, or similarity and "
            f"same. Or a log: {LOG_FORMATS}",
        ),
    ],
    max_error: Annotated[float, typer.Option(help="Share of wrong answers to allow.")] = 0.02,
    per: Annotated[str, typer.Option(help='Of what: "hit" or "request".')] = "hit",
    embedder: Model = None,
    guard: Annotated[bool, typer.Option(help="Whether the cache has its guard.")] = True,
    export: Annotated[
        Path | None, typer.Option(help="Write the policy to this file, as JSON.")
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="Export Verified with a prior, not a threshold.")
    ] = False,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Write the pairs that a log holds to this CSV, to be labelled."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the lowest threshold that labels show to be safe.

    That is the lowest similarity at which few enough answers are wrong. A pair is a question, the
    nearest that was asked before it, and whether one answer fits both. A log holds such pairs: the
    default judge compares their two answers, and what it cannot tell counts as wrong. Better: write
    them with --pairs, label them with tiered-cache review, and tune on that file; what has no label
    there is left out. The exit code is 1 if the labels show no threshold; nothing is exported then.

    --json: an object with "threshold", "verdict", "max_error", "per", "confidence", "rows",
    "barred", "curve" (threshold, served, wrong, hit_rate, precision, recall, error, interval), and
    for a log "log" (calls, pairs, open, repeats, alone, unmatched).
    """
    from shared_core import learning
    from shared_core.embedding import EmbedderError

    log: Neighbours | None = None
    try:
        if prior and export is None:
            raise ValueError("--prior is for --export: name a file to write")
        if _holds_labels(file):
            rows = _labelled(file, pairs)
        else:
            log = _neighbours(file, embedder, guard)
            rows = log.rows(unknown=False)
            if pairs is not None:
                log.write(pairs)
        if prior:  # it is fitted to vectors, which the questions are embedded for
            rows = tuple(replace(row, similarity=None) if row.question else row for row in rows)
        found = learning.tune(rows, max_error, per, embedder, guard=guard)  # type: ignore[arg-type]  # tune says what per may be
        if export is not None and (prior or found.threshold is not None):
            export.write_text(_exported(found, prior), encoding="utf-8")
    except (ValueError, OSError, EmbedderError) as error:
        fail(error)
    if as_json:
        print_json(_tuning_as_json(found, log))
    else:
        console = make_console()
        for line in [*_log_lines(log, pairs), *learning.tuning_lines(found)]:
            console.print(line, markup=False)
        if export is not None and (prior or found.threshold is not None):
            console.print(f"written to {export}", markup=False)
    raise typer.Exit(0 if prior or found.threshold is not None else 1)


def _holds_labels(path: Path) -> bool:
    """Say whether a file holds labelled pairs, by its first line; a log holds calls.

    Raises ValueError for a file that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in file if line.strip()), "")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix.lower() == ".csv":
        names = {name.strip() for name in next(csv.reader([first]), [])}
        return "same" in names or "similarity" in names
    try:
        value = json.loads(first)
    except ValueError:
        return False
    match value:
        case [str(), str(), _]:
            return True
        case dict():
            return "same" in value or "similarity" in value
        case _:
            return False


def _labelled(path: Path, pairs: Path | None) -> tuple[LabelledPair, ...]:
    """Return the labelled pairs of a file, and say how many questions will be embedded."""
    from shared_core.learning import read_rows

    if pairs is not None:
        raise ValueError("--pairs is for a log; this file holds pairs already")
    rows = read_rows(path)
    embedded = [row for row in rows if row.similarity is None]
    if texts := {text for row in embedded for text in (row.question, row.cached)}:
        typer.echo(f"embedding {len(texts):,} questions", err=True)
    return rows


def _neighbours(path: Path, embedder: str | None, guard: bool) -> Neighbours:
    from shared_core.learning import LoggedCall, neighbours_of, read_log

    with _bad_lines(path.with_name(path.name + ".bad.jsonl")) as note:
        calls = list[LoggedCall]()
        for one in read_log(path):
            if isinstance(one, LoggedCall):
                calls.append(one)
            else:
                note(one)
    if not calls:
        raise ValueError(f"{path} holds no call of a model")
    return neighbours_of(
        calls, embedder, guard=guard, progress=lambda text: typer.echo(text, err=True)
    )


def _log_lines(found: Neighbours | None, pairs: Path | None) -> Iterator[str]:
    """Yield what a log held, for a person to read."""
    if found is None:
        return
    unsure = sum(pair.same is None for pair in found.pairs)
    yield (
        f"{found.calls:,} calls: {found.repeats:,} exact repeats, {len(found.pairs):,} with an "
        f"earlier question in their scope, {found.alone:,} without"
    )
    for reason, count in sorted(found.unmatched.items(), key=lambda each: -each[1]):
        yield f"{count:,} are matched by meaning in no case ({reason})"
    if unsure:
        yield (
            f"{unsure:,} pairs the judge cannot tell by their answers: they count as wrong until "
            "they are labelled"
        )
    if pairs is not None:
        yield f"written to {pairs}; next: tiered-cache review {pairs}, and tune on it"
    elif unsure:
        yield "--pairs FILE.csv writes them for tiered-cache review"
    yield ""


def _tuning_as_json(found: Tuning, log: Neighbours | None) -> dict[str, Any]:
    names = ("threshold", "verdict", "max_error", "per", "confidence", "barred", "embedder")
    body = {name: getattr(found, name) for name in names}
    body |= {"rows": len(found.rows), "curve": [asdict(point) for point in found.curve]}
    if log is not None:
        body["log"] = {
            "calls": log.calls,
            "pairs": len(log.pairs),
            "open": sum(pair.same is None for pair in log.pairs),
            "repeats": log.repeats,
            "alone": log.alone,
            "unmatched": dict(log.unmatched),
        }
    return body


def _exported(found: Tuning, prior: bool) -> str:
    from shared_core.thresholds import Verified, policy_to_json

    policy = Verified(found.max_error, found.per, prior=found.prior()) if prior else found.policy()
    about = {"embedder": found.embedder, "rows": len(found.rows), "verdict": found.verdict}
    return policy_to_json(policy, **about)


def _check_log(path: Path) -> None:
    """Raise ValueError for a file that cannot be read at all, before anything else is done."""
    from shared_core.learning import read_log

    next(read_log(path), None)


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
    others = Counter[str]()

    def note(bad: BadLine) -> None:
        nonlocal file, count
        if bad.is_other:
            others[bad.reason] += 1
            return
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
            lines = "1 bad line, kept" if count == 1 else f"{count:,} bad lines, all of them"
            typer.echo(f"{lines} in {path}", err=True)
        for reason, number in others.most_common(BAD_SHOWN):
            typer.echo(f"{number:,} lines passed over: {reason}", err=True)


def _tell(report: WarmReport, costs: Costs, dry_run: bool) -> None:
    from shared_core.costs import lines_of

    would = "would be " if dry_run else ""
    asked = report.to_ask if dry_run else report.asked
    stored = report.stored + report.to_ask
    typer.echo(
        f"{report.rows:,} lines: {stored:,} {would}stored, {asked:,} of them {would}asked for, "
        f"{report.present:,} already there, {report.bad:,} bad"
        + (f", {report.other:,} no answered question" if report.other else "")
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
