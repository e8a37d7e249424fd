"""Give every route what it needs: the open parts, who asks, and whose answers it sees."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Response, params
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from shared_core.cache import ResponseCache
from shared_core.embedding_cache import EmbeddingCache
from shared_core.service.access import (
    CREDENTIALS,
    NAME,
    Access,
    Caller,
    Keyring,
    Role,
    names_this_machine,
)
from shared_core.service.activity import Activity, Meter
from shared_core.service.errors import APIError
from shared_core.service.settings import Settings
from shared_core.service.upstream import Upstreams

if TYPE_CHECKING:
    from starlette.datastructures import Headers


KEY_HEADER = "x-tiered-cache-key"
NAMESPACE_HEADER = "x-tiered-cache-namespace"

ANTHROPIC_KEY = "x-api-key"
"""Where Anthropic's clients put their key."""

DIGEST_DIGITS = 16

_bearer = HTTPBearer(auto_error=False, description="A client key of this server.")
_own_header = APIKeyHeader(
    name=KEY_HEADER,
    auto_error=False,
    description="A client key of this server, where Authorization is for the upstream.",
)


def key_places() -> list[params.Depends]:
    """Return what tells OpenAPI where keys stand, and asks for none."""
    return [Depends(_bearer), Depends(_own_header)]


@dataclass(slots=True)
class Service:
    """The open parts of a running service; ``app.create_app`` opens and closes them."""

    settings: Settings
    cache: ResponseCache
    upstreams: Upstreams
    keyring: Keyring
    activity: Activity
    embeddings: EmbeddingCache
    access: Access
    meter: Meter


async def service(request: Request) -> Service:
    """Return the service that a request came to."""
    found: Service = request.app.state.service
    return found


async def caller(
    request: Request,
    _bearer: Annotated[Any, Depends(_bearer)] = None,
    _own: Annotated[Any, Depends(_own_header)] = None,
) -> Caller:
    """Say who sent a request; the extra parameters tell OpenAPI where keys stand.

    Raises APIError 401 for no key or an unknown one.
    """
    on = await service(request)
    return _identified(on, request.headers)


def _identified(on: Service, headers: Headers) -> Caller:
    settings = on.settings
    if not on.keyring:
        role: Role = "admin" if settings.admin_is_open else "use"
        own = any(name in headers for name in CREDENTIALS)
        return Caller(role, settings.namespace, False, own)
    key = headers.get(KEY_HEADER)
    apart = key is not None
    if key is None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else headers.get(ANTHROPIC_KEY, "")
    entry = on.keyring.find(key)
    if entry is None:
        raise APIError(
            401,
            f"no such key: send one as Authorization: Bearer KEY or as {KEY_HEADER}",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
    passed_on = apart and any(name in headers for name in CREDENTIALS)
    return Caller(entry.role, entry.namespace, True, passed_on)


class DirectRoute(APIRoute):
    """A route whose endpoint takes a request, the service and its caller, and returns a response.

    They are found here, without FastAPI's search for dependencies, which takes longer than an exact
    hit does; the endpoint declares them all the same, for OpenAPI.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request of this route."""
        endpoint = self.endpoint

        async def serve(request: Request) -> Response:
            on = await service(request)
            found: Response = await endpoint(request, on, _identified(on, request.headers))
            return found

        return serve


async def administrator(request: Request, found: Annotated[Caller, Depends(caller)]) -> Caller:
    """Let administrators through. Raises APIError 403 for all others, and what ``caller`` raises.

    Without keys, whoever reaches a loopback address by one of its own names is one.
    """
    on = await service(request)
    if found.role != "admin":
        remedy = (
            "this key has the role use: take one made with `tiered-cache key NAME --role admin`"
            if on.keyring
            else "the admin API is off on a public address without keys: configure keys"
        )
        raise APIError(403, remedy, code="admin_only")
    if not on.keyring and not names_this_machine(request.headers.get("host", "")):
        raise APIError(
            403, "without keys, administration is for pages and tools of this machine: use "
            "http://127.0.0.1, or configure keys", code="admin_only",
        )  # fmt: skip
    return found


def namespace_of(caller: Caller, request: Request) -> str:
    """Return whose answers a request sees.

    With keys, those of the key's namespace. Without, those of its own credential, unless the server
    is told to share. ``x-tiered-cache-namespace`` names a part of that, never anything beside it.
    Raises APIError 400 for a part whose name makes no sense.
    """
    on: Service = request.app.state.service
    part = request.headers.get(NAMESPACE_HEADER)
    if part is not None and not NAME.fullmatch(part):
        raise APIError(
            400, f"{NAMESPACE_HEADER} must be 1 to 64 of A-Z a-z 0-9 _ . -", code="bad_namespace"
        )
    name = caller.namespace if part is None else f"{caller.namespace}:{part}"
    if on.keyring or on.settings.shared:
        return name
    return f"{name}:{_credential_digest(request.headers)}"


def _credential_digest(headers: Headers) -> str:
    """Return a digest that differs for every two credentials; of "" for none."""
    values = [headers.get(name, "") for name in CREDENTIALS]
    while len(values) > 1 and not values[-1]:
        values.pop()
    return sha256("\n".join(values).encode()).hexdigest()[:DIGEST_DIGITS]


# What routes declare to be given: the service, who sent the request, or who administers it.

On = Annotated[Service, Depends(service)]
By = Annotated[Caller, Depends(caller)]
Administrator = Annotated[Caller, Depends(administrator)]
