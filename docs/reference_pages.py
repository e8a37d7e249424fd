"""Generate the pages of the reference that follow from the code: a hook of MkDocs.

Options come from ``Options``, commands from the typer app, routes from the OpenAPI document and
metrics from the objects that export them, so that no page can be older than the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _table(*rows: tuple[object, ...]) -> str:
    head, *rest = rows
    lines = [head, ("---",) * len(head), *rest]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def options_page() -> str:
    """Return every option of a cache, with its default and what it does."""
    from shared_core import Options

    everywhere, redis = map(_options_said, re.split("^On Redis alone:", _doc(Options), flags=re.M))
    defaults = {field.name: _default(field) for field in fields(Options)}

    def rows(said: dict[str, str]) -> Iterator[tuple[str, str, str]]:
        return ((f"`{name}`", defaults[name], text) for name, text in said.items())

    head = ("option", "default", "what it does")
    return "\n\n".join(
        [
            "# Options",
            "Every keyword of `TieredCache(url, …)`, `ResponseCache.open(url, …)` and LlamaIndex's "
            "`install(url, …)`. A value that makes no sense raises `ValueError`, with the remedy.",
            _table(head, *rows(everywhere)),
            "`TieredCache` takes further ones: [the class](langchain.md) lists them.",
            "## On Redis alone",
            _table(head, *rows(redis)),
        ]
    )


def _doc(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def _options_said(doc: str) -> dict[str, str]:
    """Return what the docstring says of each option: lines of "- ``name``: text"."""
    lines = re.finditer(r"^- ``(\w+)``: (.*?)(?=^- |^\S|\Z)", doc, re.DOTALL | re.MULTILINE)
    return {found[1]: _code(found[2]) for found in lines}


def _code(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


def _default(field: Any) -> str:
    if field.default is MISSING:
        return f"`{field.default_factory.__name__}()`"
    if isinstance(field.default, timedelta):
        return f"{field.default.days} days"
    return f"`{field.default!r}`"


def cli_page() -> str:
    """Return every command, its arguments and its options."""
    import typer

    from shared_core.cli import app

    root: Any = typer.main.get_command(app)
    parts = [
        "# Command line",
        "`pip install 'tiered-llm-cache[cli]'` brings `tiered-cache`; `serve` needs `[service]`. "
        "`tiered-cache COMMAND --help` says the same as this page.",
    ]
    for name, command in sorted(root.commands.items()):
        context = command.context_class(command, info_name=f"tiered-cache {name}")
        usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
        parts += [f"## {name}", f"    {usage}", _paragraphs(command.help or "")]
        rows = list(_parameters(command, context))
        if rows:
            parts.append(_table(("argument or option", "default", "what it is"), *rows))
        if name == "serve":
            parts.append("Every [setting of the service](../service.md#settings) is an option.")
    return "\n\n".join(parts)


def _paragraphs(text: str) -> str:
    parts = inspect.cleandoc(text).replace("\b", "").replace("\f", "").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts)


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str, str]]:
    for parameter in command.params:
        said = getattr(parameter, "help", None) or ""
        default = parameter.get_default(context)
        shown = "" if default is None or default == [] else f"`{default}`"
        if parameter.param_type_name == "option":
            name = ", ".join((*parameter.opts, *parameter.secondary_opts))
        else:
            name = (parameter.name or "").upper()
        yield f"`{name}`", "required" if parameter.required else shown, said


def service_page() -> str:
    """Return every route of the service, with what it takes and returns."""
    from shared_core.service import Settings, create_app

    document = create_app(Settings()).openapi()
    parts = [
        "# Routes of the service",
        "What `GET /openapi.json` of a running server says, in short. [The service](../service.md) "
        "says who may call what, and which headers there are.",
    ]
    rows = [
        (f"`{method.upper()} {path}`", _first(route.get("description", "")), _schemas(route))
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    ]
    parts.append(_table(("route", "what it does", "takes, returns"), *rows))
    parts.append("## Bodies")
    for name, schema in sorted(document["components"]["schemas"].items()):
        if properties := schema.get("properties"):
            needed = schema.get("required", [])
            lines = [
                (f"`{key}`", _kind(of), "yes" if key in needed else "", of.get("description", ""))
                for key, of in properties.items()
            ]
            parts += [f"### {name}", _first(schema.get("description", ""))]
            parts.append(_table(("field", "type", "required", "what it is"), *lines))
    return "\n\n".join(parts)


def _first(text: str) -> str:
    return _cell(text.partition("\n\n")[0])


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [_kind(one) for one in schema["anyOf"]]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _schemas(route: dict[str, Any]) -> str:
    bodies = [route.get("requestBody", {}), route["responses"].get("200", {})]
    shown = [
        _kind(one["schema"])
        for body in bodies
        for one in body.get("content", {}).values()
        if "$ref" in one.get("schema", {})
    ]
    return ", ".join(dict.fromkeys(shown))


def metrics_page() -> str:
    """Return every metric: of the service, and of the hooks for Prometheus and OpenTelemetry."""
    return "\n\n".join(
        [
            "# Metrics",
            "Nothing here holds a prompt or an answer.",
            "## The service: `GET /metrics`",
            "Counted over all workers. Models and namespaces are labels up to the first hundred.",
            _table(("metric", "kind", "what it counts"), *_of_service()),
            "## `PrometheusHook`",
            "`ResponseCache.open(hooks=[PrometheusHook()])`, for an app with metrics of its own.",
            _table(("metric", "kind", "labels", "what it counts"), *_of_prometheus()),
            "## `OpenTelemetryHook`",
            "Each lookup is a span `cache_lookup MODEL`, too. Attributes of both are "
            "`tiered_cache.outcome`, `tiered_cache.tier`, `tiered_cache.reason` and "
            "`gen_ai.request.model`; `gen_ai.token.type` tells saved tokens apart.",
            _table(("metric", "kind", "unit", "what it counts"), *_of_opentelemetry()),
        ]
    )


def _of_service() -> Iterator[tuple[str, ...]]:
    from prometheus_client.parser import text_string_to_metric_families
    from starlette.testclient import TestClient

    from shared_core.service import Settings, create_app

    with TestClient(create_app(Settings()), base_url="http://127.0.0.1:8000") as client:
        text = client.get("/metrics").text
    for family in text_string_to_metric_families(text):
        yield f"`{_exposed(family.name, family.type)}`", family.type, family.documentation


def _of_prometheus() -> Iterator[tuple[str, ...]]:
    from prometheus_client import CollectorRegistry

    from shared_core.telemetry import PrometheusHook

    registry = CollectorRegistry()
    PrometheusHook(registry)
    for collector in registry._collector_to_names:
        for family in collector.collect():
            labels = ", ".join(f"`{name}`" for name in getattr(collector, "_labelnames", ()))
            name = f"`{_exposed(family.name, family.type)}`"
            yield name, family.type, labels, family.documentation


def _exposed(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _of_opentelemetry() -> list[tuple[str, ...]]:
    from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider

    from shared_core.telemetry import OpenTelemetryHook

    found: list[tuple[str, ...]] = []

    class Noted(NoOpMeter):
        def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
            found.append((f"`{name}`", "counter", unit, description))
            return super().create_counter(name, unit, description)

        def create_histogram(
            self, name: str, unit: str = "", description: str = "", **more: Any
        ) -> Any:
            found.append((f"`{name}`", "histogram", unit, description))
            return super().create_histogram(name, unit, description, **more)

    class Provider(NoOpMeterProvider):
        def get_meter(self, name: str, *_: Any, **__: Any) -> Any:
            return Noted(name)

    OpenTelemetryHook(meter_provider=Provider())
    return found


def architecture_page() -> str:
    """Return ARCHITECTURE.md; its links to files outside of the site become plain text."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\[([^]]+)\]\([A-Z]+\.md\)", r"\1", text)


def changelog_page() -> str:
    """Return CHANGELOG.md."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


PAGES: dict[str, Callable[[], str]] = {
    "architecture.md": architecture_page,
    "changelog.md": changelog_page,
    "reference/options.md": options_page,
    "reference/cli.md": cli_page,
    "reference/service.md": service_page,
    "reference/metrics.md": metrics_page,
}
