"""The outermost part of the service: sizes of what comes in, and what is told of a bug."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from shared_core.resilience import araising
from shared_core.service.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("tiered_cache")


class _Bug(Exception):
    """What no part of the service expected; its message holds no prompt."""


class _TooLarge(Exception):
    """A body grew beyond the limit while it came in."""


class Gate:
    """Refuses bodies and headers that are too large, and answers a bug with a 500.

    A body counts as it comes, so one without Content-Length is refused too, before all of it is
    here. Of a bug only its kind and place are logged: its message may hold a prompt.
    """

    def __init__(self, app: ASGIApp, *, body_limit: int, header_limit: int) -> None:
        self._app, self._body_limit, self._header_limit = app, body_limit, header_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, size, overrun = False, 0, False

        async def counted() -> Message:
            nonlocal size, overrun
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._body_limit:
                overrun = True
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if started or not overrun:  # what is said of a body cut short is not for its sender
                started = True
                await send(message)

        refusal = self._of_headers(scope)
        if refusal is None:
            try:
                await araising(_Bug, self._app(scope, counted, noted))
            except _Bug as error:
                refusal = self._of_bug(error, overrun)
            if overrun:
                refusal = self._too_large()
        if refusal is not None and not started:
            await refusal.response()(scope, receive, send)

    def _of_headers(self, scope: Scope) -> Refusal | None:
        headers = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > self._header_limit:
            most = f"{self._header_limit:,} bytes"
            return Refusal(431, f"the headers are larger than {most}", code="headers_too_large")
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        return self._too_large() if int(length) > self._body_limit else None

    def _too_large(self) -> Refusal:
        return Refusal(
            413, f"the body is larger than {self._body_limit:,} bytes", code="body_too_large",
            headers={"connection": "close"},
        )  # fmt: skip

    @staticmethod
    def _of_bug(error: _Bug, overrun: bool) -> Refusal:
        cause = error.__cause__
        if cause is not None and not overrun:
            place = traceback.extract_tb(cause.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            logger.error("a request failed: %s at %s", type(cause).__name__, where)
        return Refusal(500, "the service failed; its log says where", code="internal_error")
