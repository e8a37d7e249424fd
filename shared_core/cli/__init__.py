"""Hand on ``app``, the command line ``tiered-cache``, alone: commands and modules share names."""

from shared_core.cli import logs
from shared_core.cli.main import app

__all__ = [
    "app",
]

del logs  # imported for its commands
