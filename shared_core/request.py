"""What is asked: scope and question, their canonical form, and the key made of them.

    messages, parameters, context --canonical JSON--> scope --sha256--> Address(key, scope)

Two requests share an answer only if they have one key, or one scope and questions of one meaning.
What is in the scope, and how it is spelt, is frozen: a change needs a new ``FORMAT``, which empties
every cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from shared_core.canonical_messages import canonical_messages

FORMAT = 1
"""Version of the canonical form; part of every scope and key."""

CANONICAL_PARAMETERS = (
    "provider", "base_url", "model", "temperature", "top_p", "max_tokens", "stop", "seed", "n",
    "tools", "tool_choice", "response_schema", "reasoning",
)  # fmt: skip

DEFAULT_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "mistralai": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com",
    "ollama": "http://localhost:11434",
    "google": "https://generativelanguage.googleapis.com",
}

HOME_DIGITS = 4
"""How much of a namespace's digest opens its keys and scopes.

A store of many machines places a namespace by it: 65,536 places, and the other 240 bits tell the
requests apart.
"""


class Address(NamedTuple):
    """Where a request lives in a store: hex sha256 digests, with the namespace hashed into both.

    Both open with the same ``HOME_DIGITS`` of the namespace's own digest.
    """

    key: str
    scope: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model: everything its answer depends on.

    ``scope`` is compared byte for byte, ``question`` alone may be matched by meaning.
    ``exact_only`` says why it must not be (a ``Miss.reason``), or is None. ``format`` names the
    framework whose messages the asker can read; answers of plain text are read by all.
    ``uncacheable`` says why the request has no stable identity at all (also a ``Miss.reason``): it
    is neither looked up nor stored.
    """

    question: str | None
    scope: str
    model: str = ""
    exact_only: str | None = None
    format: str = "text"
    uncacheable: str | None = None

    @classmethod
    def of(
        cls,
        question: str | None,
        model: str = "",
        system: str | None = None,
        history: Iterable[Mapping[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        context: Any = None,
        *,
        version: str | int | None = None,
        exact_only: str | None = None,
        format: str = "text",
    ) -> Request:
        """Build a request from neutral messages: ``{"role": …, "content": …}``.

        ``history`` is every message before the question, in order; ``params`` may use the canonical
        names and any others; ``context`` is whatever else the answer depends on, as JSON values;
        ``version`` is that of a prompt, or of whatever makes old answers old when it changes.

        Raises TypeError or ValueError if a value has no JSON form, naming the value.
        """
        messages = [{"role": "system", "content": system}] if system is not None else []
        parameters = canonical_parameters({"model": model or None, **(params or {})})
        scope: dict[str, Any] = {
            "messages": canonical_messages([*messages, *history]),
            "params": parameters,
        }
        if context is not None:
            scope["context"] = context
        if version is not None:
            scope["version"] = version
        if question is None:
            exact_only = exact_only or "not_user_text"
        elif (parameters.get("temperature") or 0) > 0 or _holds_sampling(parameters.get("extra")):
            exact_only = exact_only or "temperature"
        return cls(
            question, canonical_json(scope), str(parameters.get("model", "")), exact_only, format
        )

    def address(self, namespace: str) -> Address:
        """Digest this request for one namespace."""
        scope = sha256(f"{_head(namespace)}{self.scope}".encode()).hexdigest()
        tail = "none" if self.question is None else "text " + self.question
        key = sha256(f"{scope}\n{tail}".encode("utf-8", "surrogatepass")).hexdigest()
        home = namespace_digest(namespace)[:HOME_DIGITS]
        return Address(home + key[HOME_DIGITS:], home + scope[HOME_DIGITS:])


def _holds_sampling(settings: Any) -> bool:
    """Say whether settings hold a temperature above 0 at any depth.

    Some providers take it inside of others, as in ``options`` or ``inferenceConfig``.
    """
    if isinstance(settings, dict):
        return any(
            value > 0
            if isinstance(value, (int, float)) and "temperature" in str(name).lower()
            else _holds_sampling(value)
            for name, value in settings.items()
        )
    return isinstance(settings, (list, tuple)) and any(map(_holds_sampling, settings))


@lru_cache(1024)
def _head(namespace: str) -> str:
    """Return what is digested before a scope: the version, and the namespace in ASCII."""
    return f"{FORMAT}\n{json.dumps(namespace)}\n"


@lru_cache(1024)
def namespace_digest(namespace: str) -> str:
    """Return the hex sha256 of a namespace's name, whatever text it is."""
    return sha256(namespace.encode("utf-8", "surrogatepass")).hexdigest()


def canonical_json(value: Any) -> str:
    """Spell a JSON value in exactly one way: sorted keys, no spaces, ASCII.

    Raises TypeError for a value that JSON does not have, ValueError for NaN and infinities.
    """
    try:
        return _ENCODER.encode(value)
    except TypeError as error:
        raise TypeError(f"not a JSON value in a request: {error}") from None


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_refuse
)


def canonical_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """Bring model parameters into canonical form; None and absent are equal.

    Unknown names go to ``extra`` verbatim. Whole floats become integers (0.0 is 0), a lone ``stop``
    becomes a list, ``n=1`` and a provider's default base URL are left out.
    """
    known: dict[str, Any] = {}
    extra: dict[str, Any] = dict(params.get("extra") or {})
    for name, value in params.items():
        if value is None or name == "extra":
            continue
        (known if name in CANONICAL_PARAMETERS else extra)[name] = value
    if isinstance(known.get("stop"), str):
        known["stop"] = [known["stop"]]
    for name in ("stop", "tools"):
        if name in known and not known[name]:
            del known[name]
    for name, value in known.items():
        if isinstance(value, float) and value.is_integer():
            known[name] = int(value)
    if known.get("n") == 1:
        del known["n"]
    if "base_url" in known:
        url = str(known["base_url"]).rstrip("/")
        known["base_url"] = url
        if url == DEFAULT_BASE_URLS.get(str(known.get("provider", ""))):
            del known["base_url"]
    extra = {name: value for name, value in extra.items() if value is not None}
    if extra:
        known["extra"] = extra
    return known
