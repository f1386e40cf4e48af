"""``python -m descend`` is ``descend``."""

from descend.cli import command

command()
