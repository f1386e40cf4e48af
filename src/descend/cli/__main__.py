"""``python -m descend.cli`` is ``descend``."""

from descend.cli import command

command()
