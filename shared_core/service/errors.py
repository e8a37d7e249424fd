"""Shape the service's errors as OpenAI's clients read them: ``{"error": {…}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    502: "upstream_error",
    503: "unavailable_error",
    504: "upstream_error",
}
OTHER_KIND = "invalid_request_error"


class ErrorDetail(BaseModel):
    """What went wrong: ``param`` names the field, ``code`` is for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of every error that the service itself gives."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "no such key: send one as Authorization: Bearer KEY",
                        "type": "authentication_error",
                        "param": None,
                        "code": "invalid_api_key",
                    }
                }
            ]
        }
    )

    error: ErrorDetail


class APIError(Exception):
    """A request that the service does not serve, and what its sender reads."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the body as JSON."""
        kind = _KINDS.get(self.status, OTHER_KIND)
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return {"error": detail.model_dump()}

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.body(), self.status, self.headers)


async def refused(_: Request, error: Exception) -> JSONResponse:
    """Answer with a refusal, whoever raised it and in whatever form."""
    match error:
        case APIError():
            return error.response()
        case RequestValidationError():
            return invalid(error.errors()).response()
        case HTTPException():
            headers = error.headers and dict(error.headers)
            return APIError(error.status_code, str(error.detail), headers=headers).response()
        case _:
            raise error


def invalid(errors: Sequence[Any], *at: str | int) -> APIError:
    """Say which field is wrong and why; never what it held, which may be a prompt.

    ``at`` is where what was read stands in the body.
    """
    first = errors[0]
    where = ".".join(str(part) for part in (*at, *first["loc"]) if part != "body")
    message = f"{where}: {first['msg']}" if where else str(first["msg"])
    return APIError(422, message, code="invalid_request", param=where or None)


DESCRIPTIONS = {
    400: "A header or the body cannot be read.",
    401: "No key, or none that is known.",
    403: "The key's role or namespace is not enough, the admin API is off, the `Host` is not the "
    "server's, or a page of another origin asks.",
    404: "Not found.",
    408: "The request did not come whole in time.",
    413: "The body is larger than the server takes.",
    422: "The body makes no sense, or is more than the server takes; `param` names the field.",
    429: "The upstream takes no more requests for now; `Retry-After` says when to come back.",
    431: "The headers are larger than the server takes.",
    502: "The upstream could not be reached.",
    504: "The upstream did not answer in time.",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe errors of these statuses for the OpenAPI document."""
    return {
        status: {"model": ErrorBody, "description": DESCRIPTIONS[status]} for status in statuses
    }


def errors_as_json(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Do as ``responses`` does, for a route whose answer is no JSON."""
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {
        status: {
            "description": DESCRIPTIONS[status],
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }
