"""Options: what editors see is what there is, and a wrong name is told what to write."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

from langchain_tiered_cache import TieredCache
from llamaindex_tiered_cache import install
from shared_core import ResponseCache
from shared_core.options import FOREIGN_NAMES, CacheOptions, Options


def test_type_checkers_see_every_option_and_no_other() -> None:
    assert list(CacheOptions.__annotations__) == [one.name for one in fields(Options)]


def test_type_checkers_see_the_types_of_the_fields() -> None:
    shown, there = get_type_hints(CacheOptions, None), get_type_hints(Options, None)
    assert shown == {name: there[name] for name in shown}


@pytest.mark.parametrize("function", [ResponseCache.open, TieredCache, install])
def test_signatures_spell_out_every_option_with_its_default(function: object) -> None:
    shown = inspect.signature(function).parameters  # type: ignore[arg-type]
    assert {one.name for one in fields(Options)} <= set(shown)
    assert shown["ttl"].default == Options().ttl
    assert shown["timeout"].default == 0.25
    assert type(shown["threshold"].default).__name__ == "Verified"


@pytest.mark.parametrize("name", sorted(FOREIGN_NAMES))
def test_names_of_other_caches_are_told_what_to_write(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown option '{name}'; ") as raised:
        TieredCache(**{name: 1}) if name != "url" else Options.of({name: 1})
    assert FOREIGN_NAMES[name] in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("treshold", "threshold"), ("embeder", "embedder"), ("time_out", "timeout")],
)
def test_a_slip_is_told_the_nearest_name(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{right}'"):
        TieredCache(**{wrong: 1})


@pytest.mark.parametrize(
    "name",
    ["text-embedding-3-small", "text-embedding-ada-002", "models/text-embedding-004", "voyage-3"],
)
def test_a_model_of_an_api_is_told_how_it_is_passed(name: str) -> None:
    with pytest.raises(ValueError, match="embeddings object that calls it"):
        TieredCache(embedder=name)
