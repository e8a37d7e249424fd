"""Spell objects as JSON, all of their state, and take the digest of it, anew when it changed.

    object --StateReader--> JSON, and the places that were read --Digest--> digest

What cannot be read has no identity beyond this process: a call that depends on it passes the cache
over. Plain text of what is read goes into no key, record or log: only digests leave this module.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import re
import sys
import threading
import types
from asyncio import locks as asyncio_locks
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from datetime import date, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from secrets import token_hex
from typing import Any
from uuid import UUID

from shared_core.harmless import DERIVED, header_identity, is_harmless_setting, text_digest
from shared_core.request import canonical_json
from shared_core.state_places import (
    ABSENT,
    CHANGING,
    MAX_NOTED,
    NOTED,
    SLOT,
    WHOLE,
    Frozen,
    Keys,
    Read,
    Seeds,
    StatePlace,
    Unreadable,
    Watched,
    reader_of,
)

_HARMLESS_TYPES: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Event,
    threading.Condition,
    threading.Semaphore,
    threading.Barrier,
    threading.Thread,
    asyncio_locks.Lock,
    asyncio_locks.Event,
    asyncio_locks.Condition,
    asyncio_locks.Semaphore,
    threading.local,
    Executor,
    logging.Logger,
)
"""What orders threads and tasks, or writes logs: no answer depends on it."""

_CACHES = (
    "shared_core.cache.ResponseCache",
    "langchain_tiered_cache.cache.TieredCache",
    "langchain_tiered_cache.middleware.TieredCacheMiddleware",
)
"""The caches themselves, by name: they are made above this module."""


_SPELT_BY_STR = (
    date, time, timedelta, tzinfo, Decimal, PurePath, UUID, complex, range, re.Pattern,
    types.GenericAlias, types.UnionType,
)  # fmt: skip
"""What is known by its text, and says by its type what the text means."""

_VALUES = (
    str, int, float, bytes, bytearray, Enum, dict, types.MappingProxyType, list, tuple, set,
    frozenset,
)  # fmt: skip
_CONSTANTS = (bool, int, float, str, bytes, Enum)
STATE_OF_PYDANTIC = ("__dict__", "__pydantic_private__", "__pydantic_extra__")
_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8
"""Flags of types: made at run time; made in C."""

_EMPTY: tuple[Any, ...] = (iter([]), iter(()), iter(""), iter({}), iter(range(0)), enumerate([]))
_ITERATORS = tuple(map(type, _EMPTY))
Skip = Callable[[str], bool]


def plain_name(kind: Any) -> str:
    """Return module and qualified name of a class or function."""
    return f"{kind.__module__}.{kind.__qualname__}"


class StateReader:
    """Spells a value and all that hangs on it as JSON; equal only for equal values of equal types.

    ``is_model`` says which objects are models, whose harmless settings are left out; ``ignore``
    names harmless headers. ``takes_sentinels``: a bare object is itself alone, in this process.
    ``frozen`` holds, by place, what is spelt as it once was. ``watches`` are the places that were
    read.
    """

    def __init__(
        self,
        is_model: Callable[[Any], bool] = lambda value: False,
        ignore: Collection[str] = (),
        frozen: Frozen | None = None,
    ) -> None:
        self._is_model, self._ignore = is_model, ignore
        self.takes_sentinels = True
        self._own_frozen: Frozen = {} if frozen is None else frozen
        self._open: dict[int, int] = {}
        self._functions: dict[int, tuple[Any, int]] = {}
        self.watches: list[StatePlace] = []

    def spell(self, value: Any) -> Any:
        """Return a JSON value. Raises Unreadable."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if value - value == 0 else ["float", repr(value)]
        if isinstance(value, _HARMLESS_TYPES) or plain_name(kind) in _CACHES:
            return None
        if (depth := self._open.get(id(value))) is not None:
            return ["again", depth]
        self._open[id(value)] = len(self._open)
        try:
            return self._compound(value, kind)
        except RecursionError:
            raise Unreadable(f"{plain_name(kind)} is too deep") from None
        finally:
            del self._open[id(value)]

    def settings(self, owner: Any, skip: Skip) -> list[Any]:
        """Return the attributes of an object that were set, as pairs of name and JSON value.

        Those are left out whose name ``skip`` is true for, that are None, or still as their class
        has them by default. Raises Unreadable.
        """
        kind: Any = type(owner)
        found: list[Any] = []
        for name in state_of(kind):
            attributes = getattr(owner, name, None)
            if attributes:
                found += self._fields(owner, name, attributes, skip)
        defaults = _defaults(kind)
        return [
            [name, said]
            for name, said in found
            if said is not None and canonical_json(said) not in defaults.get(name, ())
        ]

    def _compound(self, value: Any, kind: type) -> Any:  # noqa: PLR0912 - one branch per kind
        spelt: Any
        if isinstance(value, Enum):
            spelt = ["enum", plain_name(kind), value.name]
        elif isinstance(value, type):
            spelt = ["class", *class_identity(value), _schema(value)]
        elif callable(secret := getattr(value, "get_secret_value", None)):
            spelt = ["secret", self.spell(secret())]
        elif isinstance(value, _SPELT_BY_STR):
            spelt = [plain_name(kind), str(value)]
        elif isinstance(value, (bytes, bytearray)):
            spelt = ["bytes", bytes(value).hex()]
        elif isinstance(value, (dict, types.MappingProxyType)):
            items = self._items(value, value, by_key=False)
            spelt = ["mapping", *self._subclass(value, dict), *items]
        elif isinstance(value, (list, tuple, deque, set, frozenset)):
            spelt = self._several(value)
        elif isinstance(value, types.ModuleType):
            spelt = ["module", value.__name__]
        elif isinstance(value, types.CodeType):
            spelt = _code(value)
        elif isinstance(value, (*_ITERATORS, types.GeneratorType)):
            spelt = self._iterator(value)
        elif callable(value) and (found := self._function(value)) is not None:
            spelt = found
        elif isinstance(value, (str, int, float)):
            base = next(one for one in (str, int, float) if isinstance(value, one))
            spelt = [base.__name__, base.__str__(value), *self._subclass(value, base)]
        elif _is_http_client(kind):
            spelt = self._http_client(value)
        elif kind is object and self.takes_sentinels:
            spelt = ["object", _mark_of(value)]
        else:
            spelt = [*class_identity(kind), *self._attributes(value)]
        return spelt

    # ------------------------------------------------------------------------------ containers

    def _items(
        self,
        place: Any,
        items: Mapping[Any, Any],
        *,
        by_key: bool,
        names: Iterable[Any] | None = None,
        skip: Skip = lambda name: False,
    ) -> list[Any]:
        """Return sorted pairs; ``names`` are those of the keys that count, None for all."""
        if (kept := self._whole(place)) is not ABSENT:
            return list(kept)

        watch = self._watch(place, reader_of(items, names), by_key)
        frozen = self._frozen(place) if by_key else {}
        found = []
        for key, value in zip(watch.keys, watch.values, strict=True):
            if key in frozen or value is ABSENT or skip(key):
                continue
            watch.said[key] = self.spell(value)
            found.append([self.spell(key), watch.said[key]])
        for key, said in frozen.items():
            watch.said[key] = said
            if said is not ABSENT:
                found.append([self.spell(key), said])
        found.sort(key=lambda pair: canonical_json(pair[0]))
        watch.said[WHOLE] = found
        return found

    def _several(self, value: Any) -> list[Any]:
        base = next(one for one in (list, tuple, deque, set, frozenset) if isinstance(value, one))
        head = [base.__name__, *self._subclass(value, base)]
        if (kept := self._whole(value)) is not ABSENT:
            return list(kept)
        items = [self.spell(item) for item in value]
        if isinstance(value, (set, frozenset)):
            items.sort(key=canonical_json)
        found = [*head, *items]
        if isinstance(value, (list, deque, set)):
            watch = self._watch(value, lambda: (range(len(value)), tuple(value)), False)
            watch.said[WHOLE] = found
        return found

    def _subclass(self, value: Any, base: type) -> list[Any]:
        """Return what an object of a subclass of a built-in class has besides."""
        kind = type(value)
        if kind in (base, types.MappingProxyType):
            return []
        attributes = getattr(value, "__dict__", None)
        rest = self._items(attributes, attributes, by_key=True) if attributes else []
        return [plain_name(kind), rest, self.spell(getattr(value, "default_factory", None))]

    def _iterator(self, value: Any) -> Any:
        """Spell what an iterator has yet to give; it moves when it is used."""
        if (kept := self._whole(value)) is not ABSENT:
            return kept
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            left = None if frame is None else [frame.f_lasti, self.spell(dict(frame.f_locals))]
            spelt = ["generator", _code(value.gi_code), left]
        else:
            parts = value.__reduce__()
            spelt = ["iterator", type(value).__name__, self.spell(list(parts[1])), repr(parts[2:])]
        watch = self._watch(value, lambda: ([_position(value)], [None]), False)
        watch.said[WHOLE] = spelt
        return spelt

    def _whole(self, place: Any) -> Any:
        """Return how a place was spelt before a call changed it, else ``ABSENT``."""
        return self._frozen(place).get(WHOLE, ABSENT)

    def _frozen(self, place: Any) -> Mapping[Any, Any]:
        found = self._own_frozen.get(id(place)) or NOTED.get(id(place))
        return {} if found is None else found[1]

    def _watch(self, place: Any, read: Read, by_key: bool) -> StatePlace:
        watch = StatePlace(place, read, by_key)
        self.watches.append(watch)
        return watch

    # ------------------------------------------------------------------------------- functions

    def _function(self, value: Any) -> Any:
        """Spell a function, with what it holds; None for a callable object of some class."""
        found: Any = None
        if isinstance(value, types.FunctionType):
            found = self._of_function(value)
        elif isinstance(value, types.MethodType):
            found = ["method", self.spell(value.__func__), self.spell(value.__self__)]
        elif isinstance(value, functools.partial):
            parts = (value.func, value.args, dict(value.keywords))
            found = ["partial", *map(self.spell, parts)]
        elif isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            if owner is None or isinstance(owner, types.ModuleType):
                found = ["builtin", getattr(owner, "__name__", None), value.__qualname__]
            else:
                found = ["method", value.__name__, self.spell(owner)]
        elif hasattr(value, "__wrapped__") and hasattr(value, "cache_parameters"):
            found = self.spell(value.__wrapped__)  # of functools.lru_cache
        return found

    def _of_function(self, value: types.FunctionType) -> Any:
        if (known := self._functions.get(id(value))) is not None:
            return ["function", known[1]]
        self._functions[id(value)] = value, len(self._functions)
        if hasattr(value, "cache_key") and hasattr(value, "__wrapped__"):  # of ``cached``
            return self.spell(value.__wrapped__)
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        return [
            "function",
            plain_name(value),
            _code(value.__code__),
            self.spell(value.__defaults__),
            self.spell(value.__kwdefaults__),
            [[name, self._cell(cell)] for name, cell in zip(names, cells, strict=True)],
            self._globals(value),
        ]

    def _cell(self, cell: Any) -> Any:
        if (kept := self._whole(cell)) is not ABSENT:
            return kept

        def read() -> tuple[Keys, Collection[Any]]:
            try:
                return [""], [cell.cell_contents]
            except ValueError:  # it is yet to be filled
                return [""], [None]

        watch = self._watch(cell, read, False)
        watch.said[WHOLE] = self.spell(watch.values[0])
        return watch.said[WHOLE]

    def _globals(self, function: types.FunctionType) -> Any:
        """Spell the constants and helpers of its module that a function names."""
        scope = function.__globals__
        names = [
            name
            for name in names_in(function.__code__)
            if name in scope and _is_part(scope[name], function.__module__)
        ]
        place = _globals_place(id(scope), tuple(names))
        return self._items(place, scope, by_key=True, names=names) if names else []

    # --------------------------------------------------------------------------------- objects

    def _attributes(self, value: Any) -> list[Any]:
        """Spell all attributes of an object that Python code made. Raises Unreadable for others."""
        kind: Any = type(value)
        if not _is_open(kind):
            raise Unreadable(f"{plain_name(kind)} has no identity beyond this process")
        found: list[Any] = []
        skip = is_harmless_setting if self._is_model(value) else _skip_none
        for name in state_of(kind):
            attributes = getattr(value, name, None)
            if attributes:
                found.append([name, self._fields(value, name, attributes, skip)])
        for name in _slots_of(kind):
            if (item := getattr(value, name, ABSENT)) is not ABSENT:
                found.append([name, self._slot(value, name, item)])
        return found

    def _fields(
        self, owner: Any, where: str, attributes: dict[str, Any], skip: Skip
    ) -> list[list[Any]]:
        kind = type(owner)
        derived = {SLOT, *DERIVED, *(name for name in attributes if _is_derived(kind, name))}
        names = None
        if where == "__dict__" and hasattr(kind, "__pydantic_fields__"):
            # No other can come, and what does not count is not looked at again.
            names = [name for name in attributes if name not in derived and not skip(name)]
        return self._items(
            attributes,
            attributes,
            by_key=True,
            names=names,
            skip=lambda name: name in derived or skip(name),
        )

    def _slot(self, owner: Any, name: str, item: Any) -> Any:
        place = owner, name
        watch = self._watch(place, lambda: ([name], [getattr(owner, name, ABSENT)]), False)
        watch.said[WHOLE] = self.spell(item)
        return watch.said[WHOLE]

    def _http_client(self, value: Any) -> Any:
        """Spell what a client of httpx adds to each request; its transport only carries them."""

        def read() -> tuple[Keys, Collection[Any]]:
            return [str(value.base_url), str(value.headers.raw), str(value.params)], [value.auth]

        self._watch(value, read, False).said[WHOLE] = None
        hooks = {name: list(each) for name, each in value.event_hooks.items() if each}
        spelt = [
            str(value.base_url),
            header_identity(list(value.headers.items()), ignore=self._ignore) or None,
            str(value.params),
            sorted([one.name, one.value, one.domain] for one in value.cookies.jar) or None,
            self.spell(value.auth),
            self.spell(hooks) if hooks else None,
        ]
        return ["http client", *spelt] if any(spelt) else None


class ValueReader(StateReader):
    """Spells what a caller hands over: values, dataclasses and pydantic models, with all they hold.

    Functions, classes and objects of other kinds have no identity as values. Raises Unreadable.
    """

    def spell(self, value: Any) -> Any:
        if isinstance(value, _HARMLESS_TYPES) or value != value:  # noqa: PLR0124 - nan
            raise Unreadable(f"{plain_name(type(value))} is no value")
        return super().spell(value)

    def _compound(self, value: Any, kind: type) -> Any:
        is_value = (
            isinstance(value, (*_VALUES, *_SPELT_BY_STR))
            or hasattr(value, "get_secret_value")
            or (
                not isinstance(value, type)
                and (is_dataclass(value) or hasattr(kind, "__pydantic_fields__"))
            )
        )
        if not is_value:
            raise Unreadable(f"{plain_name(kind)} has no identity beyond this process")
        return super()._compound(value, kind)

    def _frozen(self, place: Any) -> Mapping[Any, Any]:
        return {}


_MAX_MARKS = 4096
_marks: dict[int, tuple[object, str]] = {}


def _mark_of(sentinel: object) -> str:
    """Return what tells a bare ``object()`` apart: it holds nothing, and is itself alone.

    No other process has it.
    """
    _, mark = _marks.setdefault(id(sentinel), (sentinel, token_hex(16)))
    while len(_marks) > _MAX_MARKS:
        _marks.pop(next(iter(_marks)), None)
    return mark


def _skip_none(name: str) -> bool:
    return False


@lru_cache(1024)
def _globals_place(scope: int, names: tuple[str, ...]) -> object:
    """Return what stands for names of a module's globals."""
    return object()


def _is_part(value: Any, module: str) -> bool:
    """Tell whether a global of a function's module is read with it: a constant or a helper."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == module
    if isinstance(value, (tuple, frozenset)):
        return all(isinstance(item, _CONSTANTS) for item in value)
    return isinstance(value, (*_CONSTANTS, contextvars.ContextVar))


@lru_cache(256)
def _defaults(kind: Any) -> dict[str, tuple[str, ...]]:
    """Return how a class's settings are spelt that nobody set."""
    declared = {**getattr(kind, "__pydantic_fields__", {}), **_private_of(kind)}
    found: dict[str, tuple[str, ...]] = {}
    for name, one in declared.items():
        if one.default_factory is not None:
            found[name] = tuple(canonical_json([each]) for each in ("list", "mapping", "set"))
        else:
            try:
                found[name] = (canonical_json(StateReader().spell(one.default)),)
            except Unreadable:  # it has none
                continue
    return found


def _private_of(kind: Any) -> dict[str, Any]:
    return getattr(kind, "__private_attributes__", {})


def _position(iterator: Any) -> Any:
    if isinstance(iterator, types.GeneratorType):
        return None if iterator.gi_frame is None else iterator.gi_frame.f_lasti
    return repr(iterator.__reduce__()[2:])


def _is_derived(kind: type, name: str) -> bool:
    """Tell whether an attribute is a cached property, which the others say."""
    return isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)


def _is_http_client(kind: type) -> bool:
    return any(
        one.__module__.startswith("httpx") and one.__name__ in ("Client", "AsyncClient")
        for one in kind.__mro__
    )


def state_of(kind: type) -> tuple[str, ...]:
    return STATE_OF_PYDANTIC if hasattr(kind, "__pydantic_fields__") else ("__dict__",)


@lru_cache(1024)
def _slots_of(kind: Any) -> tuple[str, ...]:
    names: list[str] = []
    for one in kind.__mro__:
        slots = one.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    private = {"__dict__", "__weakref__", *STATE_OF_PYDANTIC, "__pydantic_fields_set__"}
    return tuple(name for name in dict.fromkeys(names) if name not in private)


@lru_cache(1024)
def _is_open(kind: Any) -> bool:
    """Tell whether all state of a class's objects lies in attributes: no part of it is C's."""
    bases = [one for one in kind.__mro__ if one is not object]
    return all(
        one.__flags__ & _HEAP_TYPE
        and not one.__flags__ & _IMMUTABLE_TYPE
        and any("__dict__" in base.__dict__ or "__slots__" in base.__dict__ for base in one.__mro__)
        for one in bases
    ) and bool(bases)


def class_identity(kind: type) -> list[Any]:
    """Return a class's name and, where another may have the same, what its functions do."""
    if kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__:
        return [plain_name(kind)]
    functions = {}
    for name, item in vars(kind).items():
        inner = getattr(item, "__func__", getattr(item, "fget", item))
        if isinstance(inner, types.FunctionType):
            functions[name] = _code(inner.__code__)
    return [plain_name(kind), sorted(functions.items())]


def _schema(kind: type) -> Any:
    """Return the JSON schema of a pydantic class, None of any other and of one that has none."""
    write = getattr(kind, "model_json_schema", None)
    try:
        return write() if callable(write) else None
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError):
        return None  # pydantic's own errors are of these kinds


@lru_cache(4096)
def _code(code: types.CodeType) -> str:
    """Return the digest of what a function does: not of where it stands, nor what it is called."""
    return text_digest(canonical_json(_spelt_code(code)))


def _spelt_code(code: types.CodeType) -> list[Any]:
    names = (code.co_names, code.co_varnames, code.co_freevars)
    counts = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
    constants = [_constant(one) for one in code.co_consts]
    python = sys.implementation.cache_tag
    return [python, code.co_code.hex(), constants, *map(list, names), *counts]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _spelt_code(value)
    if isinstance(value, tuple):
        return ["tuple", *map(_constant, value)]
    if isinstance(value, frozenset):
        return ["set", *sorted(map(_constant, value), key=canonical_json)]
    return [type(value).__name__, repr(value)]


@lru_cache(4096)
def names_in(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that a function's code looks up, and those of functions inside it."""
    names = set(code.co_names)
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            names.update(names_in(one))
    return tuple(sorted(names))


class Digest(Watched):
    """The digest of an object's state, taken once, and again when the state was changed.

    ``spell`` is given a reader and returns JSON of the state, None if there is nothing to tell.
    What an object changes in itself while it answers (it counts its calls, keeps the last one) is
    no setting: between ``began`` and ``settle`` a call is under way, and what changed by then is
    read as it first was.

        digest = Digest(lambda reader: reader.spell(model))
        digest.now()
    """

    def __init__(
        self,
        spell: Callable[[StateReader], Any],
        is_model: Callable[[Any], bool] = lambda value: False,
        ignore: Collection[str] = (),
        owner: Any = None,
    ) -> None:
        super().__init__()
        self._spell, self._is_model, self._ignore = spell, is_model, ignore
        self._owner = owner
        self._frozen: Frozen = {}

    def seeds(self) -> Seeds:
        """Return the owner's attributes that its own calls change, as they first were spelt."""
        found: Seeds = {}
        for where in state_of(type(self._owner)):
            attributes = getattr(self._owner, where, None) or {}
            _, kept = self._frozen.get(id(attributes), (None, {}))
            found |= {(where, name): said for name, said in kept.items() if said is not ABSENT}
            for name, value in attributes.items():
                _, kept = NOTED.get(id(value), (None, {}))
                if WHOLE in kept:
                    found[where, name] = kept[WHOLE]
        return found

    def sow(self, seeds: Seeds) -> None:
        """Begin with what is known of the object that the owner is a copy of."""
        for (where, name), said in seeds.items():
            attributes = getattr(self._owner, where, None) or {}
            if name in attributes:
                self._frozen.setdefault(id(attributes), (attributes, {}))[1][name] = said

    def began(self) -> None:
        """Note that a call of the object is under way."""
        self._under_way += 1

    def settle(self) -> None:
        """Note that a call ended: what changed since it began is no setting."""
        self._under_way = max(0, self._under_way - 1)
        with suppress(*CHANGING):  # another thread's call is at it: it is read anew
            self._note()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Note that a call of the object is under way in a block."""
        self.began()
        try:
            yield
        finally:
            self.settle()

    def _take(self) -> None:
        reader = StateReader(self._is_model, self._ignore, self._frozen)
        self._text = self._why = None
        try:
            spelt = self._spell(reader)
            self._text = "" if spelt is None else text_digest(canonical_json(spelt))
        except Unreadable as error:
            self._why = str(error)
        except CHANGING as error:
            self._why = f"it cannot be read: {type(error).__name__}"
        self._watches = reader.watches

    def _note(self) -> bool:
        """Keep what was merely counted or noted as it was; return whether nothing else changed."""
        watches, is_all = [], True
        own = [id(getattr(self._owner, where, None)) for where in STATE_OF_PYDANTIC]
        for watch in self._watches:
            if watch.is_same():
                watches.append(watch)
                continue
            noted = watch.noted()
            place = id(watch.place)
            frozen = self._frozen if place in own else NOTED
            if noted:
                _, kept = frozen.setdefault(place, (watch.place, {}))
                for key, said in noted.items():
                    kept.setdefault(key, said)
            if watch.by_key:
                again = StatePlace(watch.place, watch.read, True, watch.said)
                rest = {key for key in watch.changed(again) if key not in noted}
                is_all = is_all and not rest
                watches.append(watch if rest else again)
            elif not noted:
                is_all = False
                watches.append(watch)
        while len(NOTED) > MAX_NOTED:
            NOTED.pop(next(iter(NOTED)), None)
        self._watches = watches
        return is_all
