"""Which entries are to go: what a user names, as selectors that a store understands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from shared_core.answer import value_key
from shared_core.data_path import DataPath
from shared_core.entry_id import EntryId
from shared_core.request import Request
from shared_core.stores import Selector

SIMILAR = 0.9
"""The cosine from which a question is similar to another, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Target:
    """What ``ResponseCache.invalidate`` was told; entries must match all of it.

    Raises ValueError if it was told nothing.
    """

    entry_id: str | None = None
    model: str | None = None
    tag: str | None = None
    scope: Request | str | None = None
    key_prefix: str | None = None
    older_than: float | timedelta | None = None
    similar_to: Request | None = None
    similarity: float = SIMILAR

    def __post_init__(self) -> None:
        given = (self.entry_id, self.model, self.tag, self.scope, self.key_prefix)
        if all(one is None for one in (*given, self.older_than, self.similar_to)):
            raise ValueError("invalidate() needs to be told what; clear() deletes everything")

    def selectors(self, path: DataPath, now: float) -> list[Selector]:
        """Return the selectors whose entries are to go. Raises Unavailable."""
        namespace = path.namespace()
        key = None
        if self.entry_id is not None:
            serving = EntryId.parse(self.entry_id)
            if serving is None:
                return []
            key = serving.record
        scope = self.scope
        if isinstance(scope, Request):
            scope = scope.address(namespace).scope
        age = self.older_than
        if isinstance(age, timedelta):
            age = age.total_seconds()
        prefix = self.key_prefix
        selector = Selector(
            namespace,
            key=key,
            model=self.model,
            tag=self.tag,
            scope=scope,
            created_before=None if age is None else now - age,
            key_prefix=None if prefix is None else value_key(namespace, prefix),
        )
        if self.similar_to is None:
            return [selector]
        if path.semantic is None:
            return []
        address = self.similar_to.address(namespace)
        question = self.similar_to.question or ""
        near = path.semantic.similar(question, address.scope, self.similarity)
        return [replace(selector, key=one) for one in near if key in (None, one)]
