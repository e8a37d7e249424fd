"""Run the command line as ``python -m shared_core.cli``."""

from shared_core.cli import app

app()
