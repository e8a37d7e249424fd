"""Take the digest of an object's state once, and again when the object was changed.

    object --StateReader--> JSON --sha256--> digest, kept in the object beside its attributes

Only digests leave this module: no plain text of a setting goes into a key, a record or a log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from shared_core.harmless import text_digest
from shared_core.identity import STATE_OF_PYDANTIC, StateReader, state_of
from shared_core.request import canonical_json
from shared_core.state_places import (
    ABSENT,
    MAX_NOTED,
    NOTED,
    WHOLE,
    Frozen,
    Seeds,
    StatePlace,
    Unreadable,
    Watched,
    digest_of,
)

__all__ = ["Digest", "digest_of"]


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
        except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:
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
