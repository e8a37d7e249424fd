"""Hand on ``app``, the command line ``tiered-cache``, alone: commands and modules share names."""

try:
    import rich  # noqa: F401 - whether it is there
    import typer  # noqa: F401
except ImportError:
    raise SystemExit("tiered-cache needs: pip install 'tiered-llm-cache[cli]'") from None

from shared_core.cli import logs
from shared_core.cli.main import app

__all__ = [
    "app",
]

del logs  # imported for its commands
