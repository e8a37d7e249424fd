"""What Redis's errors mean to the cache: who is down, who merely refuses; never a password."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from redis import exceptions as redis_errors
from redisvl.exceptions import RedisVLError

from shared_core.stores import StoreError

LOGIN_REST_S = 2.0
"""How long a server that refuses the password is left alone: each attempt is a line of its log."""

BUSY = ("BUSY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ")
REFUSED = ("MISCONF ", "NOREPLICAS ")
"""Of writes alone: the disk or the replicas are gone."""

_PIPELINED = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
"""What redis-py puts before the server's words: the command, with what it was to store."""

ERRORS = (
    redis_errors.RedisError,
    redis_errors.RedisClusterException,
    RedisVLError,
    TimeoutError,
)


class RedisFailure(StoreError):
    """Redis failed. ``down`` True: leave it alone for ``rest`` seconds (None: as usual).

    ``down`` False: it works, and refuses this alone, such as a write to a full server.
    """

    def __init__(self, text: str, *, down: bool | None = None, rest: float | None = None) -> None:
        super().__init__(text)
        self.down, self.rest = down, rest


class SearchMissing(StoreError):
    """The server has no search module, or one that cannot do this."""


class WrongType(StoreError):
    """A key holds what none of us put there."""


class IndexMissing(StoreError):
    """The index is not there (any more)."""


@contextmanager
def told_as_store_errors(secrets: Iterable[str] = ()) -> Iterator[None]:
    """Raise every error of Redis and RedisVL inside the block as a StoreError.

    The secrets are blanked in its text; an error that names one is not even kept as the cause.
    """
    try:
        yield
    except ERRORS as error:
        raise retold(error, secrets)  # noqa: B904 - it has its cause


def retold(error: BaseException, secrets: Iterable[str] = ()) -> StoreError:
    """Return what an error means, with the error as the cause unless that names a secret."""
    found = store_error(error, secrets)
    found.__cause__ = None if _names(error, secrets) else error
    found.__suppress_context__ = True
    return found


def store_error(error: BaseException, secrets: Iterable[str] = ()) -> StoreError:
    """Return what an error of Redis or RedisVL means."""
    if isinstance(error, RedisVLError) and isinstance(error.__cause__, redis_errors.RedisError):
        error = error.__cause__
    said = _PIPELINED.sub("", str(error))
    words = said
    for secret in secrets:
        words = words.replace(secret, "***")
    words = f"{type(error).__name__}: {words}"
    match error:
        case redis_errors.AuthenticationError() | redis_errors.AuthorizationError():
            return RedisFailure(words, down=True, rest=LOGIN_REST_S)
        case redis_errors.MaxConnectionsError():
            return RedisFailure(words)
        case (
            redis_errors.ConnectionError()
            | redis_errors.TimeoutError()
            | TimeoutError()
            | redis_errors.ClusterDownError()
            | redis_errors.RedisClusterException()
        ):
            return RedisFailure(words, down=True)
        case redis_errors.NoPermissionError() if "'ft." in said.lower():
            return SearchMissing(words)
        case (
            redis_errors.OutOfMemoryError()
            | redis_errors.ReadOnlyError()
            | redis_errors.NoPermissionError()
        ):
            return RedisFailure(words, down=False)
    return _by_words(words, said)


def _by_words(words: str, said: str) -> StoreError:
    lower = said.lower()
    if said.startswith(BUSY):
        return RedisFailure(words, down=True)
    if said.startswith(REFUSED):
        return RedisFailure(words, down=False)
    unknown = "unknown command" in lower and "ft." in lower
    if unknown or "bad arguments for vector similarity" in lower:  # none, or an older one
        return SearchMissing(words)
    if "no such index" in lower or "unknown index name" in lower:
        return IndexMissing(words)
    if said.startswith("WRONGTYPE "):
        return WrongType(words)
    return RedisFailure(words)


def _names(error: BaseException, secrets: Iterable[str]) -> bool:
    return any(secret in str(error) for secret in secrets)
