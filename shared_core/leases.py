"""Which process computes what: leases in the store that the processes share."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

from shared_core.data_path import DataPath
from shared_core.hop import Hop
from shared_core.options import Options
from shared_core.request import HOME_DIGITS
from shared_core.resilience import Unavailable
from shared_core.stores.time_limit import allowance


class Leases:
    """Leases that end by themselves, after ``options.lease``, when their holder is gone.

    A store that fails has none to give: whoever asks goes on as if alone.
    """

    def __init__(self, path: DataPath, hop: Hop, options: Options) -> None:
        self._path, self._hop = path, hop
        self._seconds, self._timeout = options.lease, options.timeout

    def take(self, key: str) -> tuple[bool, bytes | None]:
        """Say whether the caller may go ahead, and return the token of the lease that it holds."""
        token = uuid4().bytes
        try:
            with allowance(self._timeout):
                added = self._path.fuse.call(
                    self._path.values.add, _name(key), token, self._seconds
                )
        except Unavailable:
            return True, None
        return added, token if added else None

    def give_back(self, key: str, token: bytes) -> None:
        """End a lease; on an event loop, in a thread and without waiting for it."""
        self._hop.soon(self._end, key, token)

    def _end(self, key: str, token: bytes) -> None:
        """Delete a lease, unless it ran out and is another's by now."""
        name = _name(key)
        with suppress(Unavailable), allowance(self._timeout):  # it runs out by itself
            if self._path.fuse.call(self._path.values.get_many, [name]).get(name) == token:
                self._path.fuse.call(self._path.values.delete_many, [name])


def _name(key: str) -> str:
    """Name the lease of a key so that a cluster spreads leases as it does records."""
    return f"lease:{key[:HOME_DIGITS]}:{key}"
