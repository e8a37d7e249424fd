"""Serve the cache over HTTP: an OpenAI-compatible proxy, an API to the cache, and a page.

Everything here needs the extra ``service`` and is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING

from shared_core.lazy import lazy_names

if TYPE_CHECKING:
    from shared_core.service.access import KeyEntry, new_key
    from shared_core.service.app import create_app, run
    from shared_core.service.settings import Settings, load_settings
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "KeyEntry": "access",
            "Settings": "settings",
            "create_app": "app",
            "load_settings": "settings",
            "new_key": "access",
            "run": "app",
        },
    )

__all__ = [
    "KeyEntry",
    "Settings",
    "create_app",
    "load_settings",
    "new_key",
    "run",
]
