"""``python -m linernotes``."""

from linernotes.cli.app import app

app()
