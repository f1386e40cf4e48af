"""What docstrings need on the site: their examples become code. An extension of Griffe, named in mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

EXAMPLE = re.compile(r"(?m)^>>> .*(?:\n(?!\n).+)*")


class Examples(Extension):
    """Put every example of every docstring into a block of code, and double backticks into single ones."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            text = obj.docstring.value.replace("``", "`")
            obj.docstring.value = EXAMPLE.sub(lambda match: f"```python\n{match[0]}\n```", text)
