"""Load the parts of a package when they are first asked for; say how to install what is missing.

A package's face hands on every public name, but some of the modules behind it load numpy, an SDK or
another extra. The face imports those for type checkers alone, and lets ``lazy_names`` find them:

    if TYPE_CHECKING:
        from shared_core.stores.redis import RedisStore
    else:
        __getattr__, __dir__ = lazy_names(__name__, {"RedisStore": "redis"})
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, places: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package.

    ``places`` are its lazy names, each with the module under the package that defines it. A name is
    looked up once and kept in the package. The returned ``__getattr__`` raises AttributeError for a
    name that the package does not have, and what the import of the module raises.
    """

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{places[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return find, names


def missing(error: ModuleNotFoundError, needed: str, who: str, install: str) -> ImportError:
    """Return the error to raise where an import failed: with the remedy, if ``needed`` is missing.

    An error about any other module is returned as it is.

        except ModuleNotFoundError as error:
            raise missing(error, "redis", "redis://", "tiered-llm-cache[redis]") from None
    """
    if (error.name or "").partition(".")[0] != needed:
        return error
    return ImportError(f"{who} needs {needed}: pip install '{install}'", name=needed)
