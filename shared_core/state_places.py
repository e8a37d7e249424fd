"""Watch the places of an object's state, and see at little cost whether any of them changed.

    StateReader reads an object once --> StatePlace, ... --> Watched.now: is it as it was?

``shared_core.identity`` says how a state is spelt, and makes digests of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import is_, itemgetter
from typing import Any, Protocol, TypeVar


class Unreadable(ValueError):
    """A value of which no identity beyond this process can be read."""


CHANGING = (TypeError, ValueError, AttributeError, RuntimeError, LookupError)
"""What goes wrong where another thread changes what is read."""

ABSENT = object()
WHOLE = object()
SLOT = "__tiered_cache_identity__"
"""Where an object keeps its ``Digest``, beside its other attributes."""

Keys = Collection[Any]
Read = Callable[[], tuple[Keys, Collection[Any]]]
Frozen = dict[int, tuple[Any, dict[Any, Any]]]
"""Places that calls change, by id: the place, and how it was spelt before, by key or as a whole."""

MAX_NOTED = 4096
NOTED: Frozen = {}
"""Places outside of an object's own attributes that calls changed: others may read them."""

Seeds = dict[tuple[str, str], Any]


def reader_of(items: Mapping[Any, Any], names: Iterable[Any] | None) -> Read:
    """Return what reads the items of a mapping: those of these names, None for all."""

    if names is None:
        return lambda: (items.keys(), items.values())
    known = tuple(names)
    if len(known) > 1:
        pick = itemgetter(*known)  # one call in C for all of them

        def read() -> tuple[Keys, Collection[Any]]:
            try:
                return known, pick(items)
            except KeyError:
                return known, [items.get(name, ABSENT) for name in known]

        return read
    return lambda: (known, [items.get(name, ABSENT) for name in known])


class StatePlace:
    """One place that may change: what was there, and how it was spelt.

    ``read`` returns keys and values as they are now; two values are one if they are one object.
    ``by_key``: what changes there is kept key by key, not as a whole.
    """

    __slots__ = ("by_key", "keys", "place", "read", "said", "values")

    def __init__(self, place: Any, read: Read, by_key: bool, said: Any = None) -> None:
        self.place, self.read, self.by_key = place, read, by_key
        keys, values = read()
        self.keys, self.values = tuple(keys), tuple(values)
        self.said: dict[Any, Any] = {} if said is None else said

    def is_same(self) -> bool:
        """Tell whether nothing has changed there."""
        keys, values = self.read()
        if len(values) != len(self.values):
            return False
        return all(map(is_, values, self.values)) and (
            keys is self.keys or tuple(keys) == self.keys
        )

    def changed(self, other: StatePlace) -> set[Any]:
        """Return the keys whose values are not those of another look at the same place."""
        old = dict(zip(self.keys, self.values, strict=True))
        new = dict(zip(other.keys, other.values, strict=True))
        return {key for key in {**old, **new} if old.get(key, ABSENT) is not new.get(key, ABSENT)}

    def noted(self) -> dict[Any, Any]:
        """Return what changed in a way that counting and noting does: how it was spelt, by key.

        A number or a flag that rose, what was empty, items that came or went, and iterators that
        moved; never a text in the place of another, which may be another setting.
        """
        other = StatePlace(self.place, self.read, self.by_key)
        old = dict(zip(self.keys, self.values, strict=True))
        new = dict(zip(other.keys, other.values, strict=True))
        grown = [
            key for key in self.changed(other) if _grew(old.get(key, ABSENT), new.get(key, ABSENT))
        ]
        if self.by_key:
            return {key: self.said.get(key, ABSENT) for key in grown}
        moved = hasattr(type(self.place), "__next__")  # an iterator does, when it is used
        is_noted = moved or len(old) != len(new) or 0 < len(grown) == len(self.changed(other))
        return {WHOLE: self.said[WHOLE]} if is_noted else {}


def _grew(before: Any, now: Any) -> bool:
    """Tell whether a change looks like counting or noting, not like another setting."""
    if now is ABSENT:
        return False
    if before is None or before is ABSENT:
        return True
    if isinstance(before, (str, bytes, list, dict, set, tuple, deque)) and not before:
        return True
    return type(before) is type(now) and isinstance(before, (int, float)) and now >= before


class Watched:
    """The digest of a state whose places are watched; a subclass says how it is taken."""

    def __init__(self) -> None:
        self._watches: list[StatePlace] = []
        self._text: str | None = None
        self._why: str | None = None
        self._under_way = 0

    def now(self) -> str:
        """Return the digest of the state as it is; "" if there is nothing to tell.

        Raises Unreadable.
        """
        is_known = self._text is not None or self._why is not None
        try:
            for watch in self._watches:
                if not watch.is_same():
                    is_known = is_known and self._under_way > 0 and self._note()
                    break
        except CHANGING:
            is_known = False
        if not is_known:
            self._take()
        if self._why is not None:
            raise Unreadable(self._why)
        return self._text or ""

    def _take(self) -> None:
        """Read the state, and set the digest, or why there is none, and the places to watch."""
        raise NotImplementedError

    def _note(self) -> bool:
        """Keep what was merely counted or noted as it was; return whether nothing else changed."""
        raise NotImplementedError


class Digesting(Protocol):
    """A digest that an object can keep."""

    def seeds(self) -> Seeds: ...

    def sow(self, seeds: Seeds) -> None: ...


D = TypeVar("D", bound=Digesting)


class _Owned:
    """The digests of an object, in its attributes; in those of a copy, what they pass on to it."""

    __slots__ = ("attributes", "digests", "inherited")

    def __init__(self, attributes: Any, inherited: Seeds | None = None) -> None:
        self.attributes, self.inherited = attributes, inherited or {}
        self.digests: dict[Any, Any] = {}

    def seeds(self) -> Seeds:
        found = dict(self.inherited)
        for digest in [*self.digests.values()]:
            found |= digest.seeds()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _Owned, (None, self.seeds())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Owned:
        return _Owned(None, self.seeds())


def digest_of(owner: Any, name: Any, make: Callable[[], D]) -> D:
    """Return the digest that an object keeps under a name, made if it has none.

    It is kept in the object's ``__dict__``, which objects may share. Raises AttributeError for an
    object without one.
    """
    attributes = owner.__dict__
    owned = attributes.get(SLOT)
    if type(owned) is not _Owned or owned.attributes is not attributes:
        inherited = owned.seeds() if type(owned) is _Owned else {}
        owned = attributes[SLOT] = _Owned(attributes, inherited)
    found: D | None = owned.digests.get(name)
    if found is None:
        made = make()
        made.sow(owned.inherited)
        found = owned.digests.setdefault(name, made)
    return found
