"""Read the server's settings: flags, else the environment, else a TOML file, else defaults.

flags > TIERED_CACHE_* > file --validated--> Settings --> options of the cache, of uvicorn
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared_core.options import Options
from shared_core.service.access import NAME, TOKEN_VARIABLE, Keyring, Rule, is_loopback, is_stored
from shared_core.stores import without_password
from shared_core.thresholds import Static, Verified

PREFIX = "TIERED_CACHE_"
HANDED_OVER = "TIERED_CACHE_SERVER_SETTINGS"
"""The variable by which workers get the settings of the process that started them."""

_NO_SETTINGS = re.compile(
    rf"{HANDED_OVER}|{TOKEN_VARIABLE}|{PREFIX}(SOAK|REQUIRE_ALL|QUESTIONS)"
    rf"|{PREFIX}(SERVICE_(HOST|PORT)|PORT_[0-9]).*"
)
"""Variables of this prefix that others read, or that Kubernetes sets for a service of this name."""

DAY_S = 86_400.0

Texts = Annotated[tuple[str, ...], NoDecode]
"""Several texts: a list in a file, separated by commas or spaces in the environment."""

Endpoints = Annotated[tuple[str, ...], NoDecode]
"""Several endpoints: a list in a file, separated by commas in the environment."""


ApiKind = Literal["openai", "anthropic"]

_UPSTREAM_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NOT_A_NAME = frozenset({"health", "metrics", "page", "ready", "v1"})
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_MODEL = re.compile(r"[!-)+-~]{1,200}\*?|\*")
MAX_UPSTREAMS = 20
MAX_KEY_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """One of several upstreams, as a table ``[[upstream]]`` of the file has it.

    ``kind`` is the API that it speaks; None: whatever a request is of. ``key_env`` and ``key_file``
    say where the server's credential is, ``models`` which it has: names, or beginnings of names
    that end in ``*``; none: all that no other has. ``allow`` names further endpoints.
    """

    name: str
    url: str
    kind: ApiKind | None = None
    key_env: str | None = None
    key_file: Path | None = None
    models: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    key: SecretStr | None = field(default=None, repr=False)

    DEFAULT: ClassVar[str] = "default"
    """The name of the only upstream of a server whose setting is an address."""

    @classmethod
    def of(cls, table: Any) -> UpstreamEntry:
        """Read a table. Raises ValueError that names the value and the remedy."""
        if isinstance(table, cls):
            return table
        if not isinstance(table, Mapping):
            kind = type(table).__name__
            raise ValueError(f"each upstream must be a table [[upstream]], not a {kind}")
        names = [one.name for one in fields(cls) if one.name != "key"]
        for one in table:
            if one not in names:
                near = difflib.get_close_matches(str(one), names, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(names)}"
                raise ValueError(f"an upstream has no {one!r}{hint}")
        name = table.get("name")
        if not isinstance(name, str) or not _UPSTREAM_NAME.fullmatch(name) or name in _NOT_A_NAME:
            raise ValueError(
                f"the name {name!r} of an upstream must be 1 to 32 of a-z 0-9 -, a letter first, "
                f"and none of {', '.join(sorted(_NOT_A_NAME))}"
            )
        try:
            return cls(name, **_checked(table))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def read_key(self) -> SecretStr | None:
        """Return the credential. Raises ValueError, without any of it, if there is none.

        What stands in the place of a name and looks like none may be the credential itself.
        """
        if self.key_env is not None:
            text, where = os.environ.get(self.key_env, ""), f"the variable {self.key_env}"
            if not _VARIABLE.fullmatch(self.key_env):
                where = "key_env is the name of a variable such as OPENAI_API_KEY, and that"
        elif self.key_file is not None:
            where = f"the file {self.key_file}"
            if self.key_file.name == str(self.key_file):
                where = "key_file is the path of a file such as /run/secrets/key, which"
            try:
                with self.key_file.open(encoding="ascii") as file:
                    text = file.read(MAX_KEY_CHARACTERS)
            except (OSError, ValueError) as error:
                raise ValueError(f"{where} cannot be read: {type(error).__name__}") from None
        else:
            return self.key
        if not re.fullmatch(r"[!-~]+", text.strip()):
            raise ValueError(f"{where} must hold a key in one line, and does not")
        return SecretStr(text.strip())


def _checked(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an upstream but its name. Raises ValueError."""
    kind = table.get("kind") or "openai"
    if kind not in get_args(ApiKind):
        raise ValueError(f"kind must be openai or anthropic, not {kind!r}")
    several: dict[str, tuple[str, ...]] = {}
    for name in ("models", "allow"):
        value = table.get(name) or ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise ValueError(f'{name} must be a list of texts such as ["…"], not {value!r}')
        several[name] = tuple(value)
    for model in several["models"]:
        if not _MODEL.fullmatch(model):
            raise ValueError(
                f"models: {model!r} must be the name of a model, or its beginning and a *"
            )
    places = {name: table.get(name) for name in ("key_env", "key_file")}
    for name, value in places.items():
        if not isinstance(value, (str, Path, NoneType)) or value == "":
            raise ValueError(f"{name} must be a text, not a {type(value).__name__}")
    if None not in places.values():
        raise ValueError("key_env and key_file are both there: leave one out")
    file = places["key_file"]
    entry: dict[str, Any] = {
        "url": _url_of(table),
        "kind": kind,
        "key_env": places["key_env"],
        "key_file": None if file is None else Path(file),
        "models": several["models"],
        "allow": checked_rules(several["allow"]),
    }
    UpstreamEntry("", **entry).read_key()
    return entry


def _url_of(table: Mapping[str, Any]) -> str:
    try:
        return checked_url(str(table.get("url") or ""))
    except ValueError as error:
        raise ValueError(f"url: {error}") from None


def checked_url(value: str) -> str:
    """Return the address of an upstream as it is used. Raises ValueError that does not show it."""
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise ValueError("give an address such as https://api.openai.com/v1")
    return value.rstrip("/")


def checked_rules(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return endpoints that may be allowed. Raises ValueError for one that may not."""
    for rule in map(Rule.parse, value):
        if is_stored(rule.path):
            raise ValueError(
                f"/v1/{rule.path}: what the upstream stores passes with the caller's own "
                "credential, and with nothing else: leave it out"
            )
    return value


def checked_upstreams(tables: Sequence[Any]) -> tuple[UpstreamEntry, ...]:
    """Read all tables. Raises ValueError for one that is wrong, or for two that clash."""
    if not 1 <= len(tables) <= MAX_UPSTREAMS:
        raise ValueError(f"give 1 to {MAX_UPSTREAMS} upstreams, not {len(tables)}")
    entries = tuple(map(UpstreamEntry.of, tables))
    names: set[str] = set()
    owners: dict[tuple[str, str | None], str] = {}
    for entry in entries:
        if entry.name in names:
            raise ValueError(f"two upstreams have the name {entry.name!r}: rename one")
        names.add(entry.name)
        for model in entry.models or ("*",):
            other = owners.setdefault((model, entry.kind), entry.name)
            if other != entry.name:
                raise ValueError(
                    f"{other} and {entry.name} both have the model {model!r}: leave it out of one, "
                    f"and ask it of the other below /{entry.name}/v1"
                )
    return entries


class Settings(BaseSettings):
    """Everything that can be configured; see docs/service.md. Raises ValidationError."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    config: Path | None = Field(None, description="A TOML file with any of these settings.")
    cache: str = Field(
        "memory://", repr=False, description="The store: memory://, sqlite:///PATH, redis://…"
    )
    upstream: Annotated[str | tuple[UpstreamEntry, ...], NoDecode] = Field(
        "https://api.openai.com/v1",
        repr=False,
        description="The OpenAI-compatible API that is asked; several: tables [[upstream]].",
    )
    upstream_key: SecretStr | None = Field(
        None, description="The server's own key at the upstream; none: callers send theirs."
    )
    upstream_timeout: float = Field(
        600.0, gt=0, description="Seconds that the upstream may be silent."
    )
    host: str = Field("127.0.0.1", description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on.")
    hosts: Texts = Field(
        (), description="Names in Host that are the server's, beyond this machine's; *: any."
    )
    workers: int = Field(1, ge=1, description="Processes; more than one need a store for all.")
    ssl_keyfile: Path | None = Field(None, description="TLS: the private key, PEM.")
    ssl_certfile: Path | None = Field(None, description="TLS: the certificate chain, PEM.")
    keys: Texts = Field((), description="Client keys, NAME:ROLE:NAMESPACE:SHA256; none: no keys.")
    namespace: str = Field("default", description="The tenant of callers without a key.")
    shared: bool = Field(
        False, description="Without keys: callers of different credentials share answers."
    )
    admin: bool | None = Field(
        None, description="The admin API; default: on with keys, or on a loopback address."
    )
    ignore_headers: Texts = Field(
        (), description="Further headers on which no answer depends, such as a gateway's trace ids."
    )
    allow: Endpoints = Field(
        (), description="Further endpoints that are passed on, such as POST /v1/images/*."
    )
    objects: Texts = Field(
        (),
        description="Ids of what the upstream stores that callers may name in bodies, such as "
        "vs_123, or beginnings: file-*.",
    )
    request_timeout: float = Field(
        60.0, gt=0, description="Seconds in which a request must have come whole."
    )
    body_limit: int = Field(20 * 2**20, ge=1, description="Most bytes of a request's body.")
    header_limit: int = Field(32 * 2**10, ge=1024, description="Most bytes of a request's headers.")
    record_questions: bool = Field(
        True, description="Show on the page what was asked and served by meaning."
    )
    cors_origins: Texts = Field((), description="Origins whose pages may call; none: CORS is off.")
    upstream_down_after: float = Field(
        30.0, gt=0, description="Seconds of failing calls after which the upstream counts as down."
    )
    hide_headers: bool = Field(False, description="Leave out the x-tiered-cache-* headers.")
    access_log: bool = Field(False, description="Log a line for each request.")
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info", description="What is logged; never a prompt or an answer."
    )
    shutdown_timeout: int = Field(
        30, ge=1, description="Seconds that requests under way have to finish at a shutdown."
    )
    semantic: bool = Field(True, description="Match questions by meaning, too.")
    threshold: float | None = Field(
        None, ge=0, le=1, description="Serve at this similarity, instead of learning what to serve."
    )
    max_error: float = Field(
        0.02, gt=0, lt=1, description="Most wrong answers per hit by meaning, as a share."
    )
    embedder: str | None = Field(None, description="The embedding model, by name or path.")
    load: Literal["lazy", "background"] = Field(
        "background", description="When the model is loaded: background delays no answer."
    )
    standalone_model: str | None = Field(
        None,
        min_length=1,
        description="A model of the upstream that rewrites follow-ups of conversations to "
        "questions that stand alone, to match them by meaning; asked with the server's own key.",
    )
    standalone_timeout: float = Field(
        2.0, gt=0, description="Seconds that one rewriting may take; then history stays in scope."
    )
    shadow: bool = Field(False, description="Learn and report, serve nothing by meaning.")
    ttl: float | None = Field(7 * DAY_S, gt=0, description="Seconds that an answer lives.")
    max_entries: int | None = Field(None, ge=1, description="Most entries; not for Redis.")
    near_cache: int = Field(0, ge=0, description="Redis: entries kept in each process, too.")
    timeout: float = Field(
        0.25, gt=0, description="Seconds that a request may wait for the store, in all."
    )
    lease: float = Field(
        30.0, gt=0, description="Seconds that equal requests wait for one call, at most."
    )
    encryption_key: SecretStr | None = Field(
        None,
        description="A Fernet key, or several: questions and answers are encrypted in the store. "
        "The first seals, all of them open.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: what is given, the environment, the file."""
        given = init_settings() if isinstance(init_settings, InitSettingsSource) else {}
        path = given.get("config") or os.environ.get(f"{PREFIX}CONFIG")
        file = InitSettingsSource(settings_cls, _read(Path(path)) if path else {})
        return init_settings, env_settings, file

    @field_validator("allow", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(one.strip() for one in value.split(",") if one.strip())

    @field_validator("allow")
    @classmethod
    def _are_endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return checked_rules(value)

    @field_validator("keys", "cors_origins", "hosts", "ignore_headers", "objects", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _listed(value) if isinstance(value, str) else value

    @field_validator("encryption_key", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        are_texts = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        return ",".join(value) if are_texts else value

    @field_validator("upstream", mode="before")
    @classmethod
    def _are_upstreams(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return checked_upstreams(value)
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            raise ValueError("several upstreams are tables [[upstream]] of the file of --config")
        return checked_url(value) if isinstance(value, str) else value

    @field_validator("namespace")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("give 1 to 64 of A-Z a-z 0-9 _ . -")
        return value

    @field_validator("keys")
    @classmethod
    def _are_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Keyring(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.workers > 1 and self.cache.startswith("memory:"):
            raise ValueError(
                f"workers={self.workers} with cache=memory://: each worker would have a cache of "
                "its own; give sqlite:///PATH or redis://HOST, or one worker"
            )
        if self.upstream_key is not None and not isinstance(self.upstream, str):
            raise ValueError(
                "upstream_key beside [[upstream]]: whose is it? give key_env or key_file in the "
                "table of each upstream instead"
            )
        if (self.ssl_keyfile is None) != (self.ssl_certfile is None):
            raise ValueError("TLS needs both: give ssl_certfile and ssl_keyfile")
        for name in ("ssl_keyfile", "ssl_certfile"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        if not self.keys and not self.is_local:
            if self.admin:
                raise ValueError(
                    f"admin=true on {self.host} without keys: anybody could delete the cache; "
                    "add a key made by `tiered-cache key NAME --role admin`, or listen on 127.0.0.1"
                )
            for name, key in self._server_keys():
                if key is not None:
                    raise ValueError(
                        f"{name} on {self.host} without keys: anybody could spend your money; add "
                        "keys made by `tiered-cache key NAME`, or listen on 127.0.0.1"
                    )
        if self.standalone_model is not None and not self.semantic:
            raise ValueError("standalone_model matches by meaning: it needs semantic=true")
        Options.of(self.cache_options())
        return self

    def _server_keys(self) -> Iterator[tuple[str, object]]:
        yield "upstream_key", self.upstream_key
        for entry in self.upstreams:
            yield f"the key of {entry.name}", entry.key_env or entry.key_file

    @property
    def upstreams(self) -> tuple[UpstreamEntry, ...]:
        """Return all upstreams; the one that an address names has no kind: it speaks any API."""
        if isinstance(self.upstream, str):
            return (UpstreamEntry(UpstreamEntry.DEFAULT, self.upstream, key=self.upstream_key),)
        return self.upstream

    @property
    def upstream_names(self) -> frozenset[str]:
        """Return the names below which upstreams are asked, /NAME/v1."""
        named = () if isinstance(self.upstream, str) else self.upstream
        return frozenset(entry.name for entry in named)

    @property
    def is_local(self) -> bool:
        """Say whether this machine alone can reach the server."""
        return is_loopback(self.host)

    @property
    def admin_is_open(self) -> bool:
        """Say whether who comes without a key may administer."""
        return not self.keys and self.is_local and self.admin is not False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return the further endpoints that are passed on."""
        return tuple(map(Rule.parse, self.allow))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show what ``masked`` shows, wherever the settings are printed."""
        return self.masked().items()

    def cache_options(self) -> dict[str, Any]:
        """Return the options of ``ResponseCache.open``."""
        names = (
            "semantic", "embedder", "load", "shadow", "ttl", "max_entries", "near_cache",
            "ignore_headers",
        )  # fmt: skip
        options = {name: getattr(self, name) for name in (*names, "timeout", "lease", "namespace")}
        secret = self.encryption_key
        return {
            **options,
            "encryption_key": None if secret is None else _listed(secret.get_secret_value()),
            "threshold": Verified(self.max_error)
            if self.threshold is None
            else Static(self.threshold),
        }

    def revealed(self) -> dict[str, Any]:
        """Return all settings as JSON values, secrets too."""
        found = self.model_dump(mode="json")
        for name, value in self:
            if isinstance(value, SecretStr):
                found[name] = value.get_secret_value()
        if not isinstance(self.upstream, str):
            found["upstream"] = [_table_of(entry) for entry in self.upstream]
        return found

    def masked(self) -> dict[str, Any]:
        """Return all settings as JSON values, without what must not be read over a shoulder."""
        return {
            **self.model_dump(mode="json"),
            "cache": without_password(self.cache),
            "upstream": without_password(self.upstream)
            if isinstance(self.upstream, str)
            else [_shown(entry) for entry in self.upstream],
        }


def _table_of(entry: UpstreamEntry) -> dict[str, Any]:
    """Return an upstream as its table; where its credential is, not what it is."""
    names = ("name", "url", "kind", "key_env", "key_file", "models", "allow")
    given = {name: getattr(entry, name) for name in names if getattr(entry, name)}
    return {name: str(one) if isinstance(one, Path) else one for name, one in given.items()}


def _shown(entry: UpstreamEntry) -> dict[str, Any]:
    return {**_table_of(entry), "url": without_password(entry.url)}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"[\s,]+", text.strip(" ,\n")))


def load_settings(given: Mapping[str, Any]) -> Settings:
    """Read the settings from all sources; ``given`` are flags, of which None means not given.

    Raises ValueError with a line for each setting that makes no sense, naming it and the remedy.
    """
    _check_environment()
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ValueError("\n".join(_explained(one) for one in error.errors())) from None


def _check_environment() -> None:
    """Refuse variables that look like settings and are none. Raises ValueError."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or _NO_SETTINGS.fullmatch(upper):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown variable {name}{hint}")


def handed_over() -> Settings:
    """Return the settings of the process that started this worker."""
    return Settings(**json.loads(os.environ[HANDED_OVER]))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"config: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"config: {path} is no TOML: {error}") from None


def _explained(error: Mapping[str, Any]) -> str:
    """Say what is wrong with a setting; its value only if it cannot be a secret."""
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.4)
        return f"unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if not name:
        return message
    secret = name in ("upstream_key", "encryption_key", "keys", "cache", "upstream")
    value = "" if secret else f"{error['input']!r}: "
    return f"{name}: {value}{message} (--{name.replace('_', '-')}, {PREFIX}{name.upper()})"
