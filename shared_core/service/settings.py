"""Read the server's settings: flags, else the environment, else a TOML file, else defaults.

flags > TIERED_CACHE_* > file --validated--> Settings --> options of the cache, of uvicorn
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from shared_core.options import Options
from shared_core.service.access import TOKEN_VARIABLE, Rule, is_loopback, is_stored
from shared_core.service.auth import NAME, Keyring
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
    upstream: str = Field(
        "https://api.openai.com/v1",
        repr=False,
        description="The OpenAI-compatible API that is asked.",
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
        30.0, gt=0, description="Seconds of failing calls after which the upstream is told down."
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
        for rule in map(Rule.parse, value):
            if is_stored(rule.path):
                raise ValueError(
                    f"/v1/{rule.path}: what the upstream stores passes with the caller's own "
                    "credential, and with nothing else: leave it out"
                )
        return value

    @field_validator("keys", "cors_origins", "hosts", "ignore_headers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _listed(value) if isinstance(value, str) else value

    @field_validator("encryption_key", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        are_texts = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        return ",".join(value) if are_texts else value

    @field_validator("upstream")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
            raise ValueError("give an address such as https://api.openai.com/v1")
        return value.rstrip("/")

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
            if self.upstream_key is not None:
                raise ValueError(
                    f"upstream_key on {self.host} without keys: anybody could spend your money; "
                    "add keys made by `tiered-cache key NAME`, or listen on 127.0.0.1"
                )
        Options.of(self.cache_options())
        return self

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
        return found

    def masked(self) -> dict[str, Any]:
        """Return all settings as JSON values, without what must not be read over a shoulder."""
        return {
            **self.model_dump(mode="json"),
            "cache": without_password(self.cache),
            "upstream": without_password(self.upstream),
        }


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
        raise ValueError("\n".join(_told(one) for one in error.errors())) from None


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


def _told(error: Mapping[str, Any]) -> str:
    """Say what is wrong with a setting; its value only if it cannot be a secret."""
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.4)
        return f"unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    if not name:
        return message
    secret = name in ("upstream_key", "encryption_key", "keys", "cache", "upstream")
    told = "" if secret else f"{error['input']!r}: "
    return f"{name}: {told}{message} (--{name.replace('_', '-')}, {PREFIX}{name.upper()})"
