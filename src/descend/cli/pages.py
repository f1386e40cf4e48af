"""The technique pages of the documentation, and the catalogue of the command line, made from the techniques.

``scripts/docs`` calls this; a test holds the committed files to it, so they cannot fall behind the code.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from descend.cli import catalogue
from descend.cli.technique_examples import command_of, python_of
from descend.technique import Knob, Technique, knobs, registered

MEASURED = {
    "optimizer": "[six rules at equal tuning](../studies/README.md#optimizers-at-equal-tuning)",
    "schedule": "[decay from the start, or watch first](../studies/README.md#watch-first-then-decay)",
    "regularizer": "[dropout beside batch norm](../studies/README.md#dropout-beside-batch-norm), "
    "[DropConnect and stochastic depth](../studies/README.md#dropconnect-and-stochastic-depth)",
    "augmentation": "[from how many epochs on each kind pays](../studies/README.md#when-augmentation-pays)",
}
"""Family -> links to what studies say of it."""


def pages() -> dict[str, str]:
    """Return file name -> Markdown: one page per family, and an index."""
    ours = [cls for cls in registered() if cls.__module__.startswith("descend.")]  # anybody may register more
    families = sorted({cls.family for cls in ours})
    texts = {f"{family}.md": "\n".join(_page(family)) + "\n" for family in families}
    lines = ["# Techniques", "", "Made by `scripts/docs` from the source; `descend list` prints the same.", ""]
    for family in families:
        names = ", ".join(f"`{cls.name}`" for cls in registered(family))
        lines.append(f"- [{family}]({family}.md): {names}")
    return texts | {"README.md": "\n".join(lines) + "\n"}


def _page(family: str) -> Iterator[str]:
    yield f"# Family {family}\n"
    if family in MEASURED:
        yield f"*Measured:* {MEASURED[family]}.\n"
    for cls in registered(family):
        yield f"## {cls.name}\n"
        yield _as_markdown(inspect.getdoc(cls) or "") + "\n"
        if knobs(cls):
            yield "| knob | takes | default | worth searching |\n|---|---|---|---|"
            yield from (_row(knob) for knob in knobs(cls))
            yield ""
        yield f"*Example:* {'; in Python '.join(f'`{text}`' for text in (command_of(cls), python_of(cls)) if text)}\n"
        yield f"*Source:* {cls.source}. *Code:* `{_home(cls)}`\n"


def _as_markdown(text: str) -> str:
    return text.replace("``", "`")


def _row(knob: Knob) -> str:
    default = "must be given" if knob.default is dataclasses.MISSING else f"`{_text(knob.default)}`"
    scale = " (log)" if knob.search and knob.search.log else ""
    search = f"{knob.search.low:g} to {knob.search.high:g}{scale}" if knob.search else ""
    return f"| `{knob.name}` | {knob.interval} | {default} | {search} |"


def _text(value: object) -> str:
    return str(value) if isinstance(value, Technique) else repr(value)


def _home(cls: type[Technique]) -> str:
    return "src/" + cls.__module__.replace(".", "/") + ".py"


def main(folder: Path) -> None:
    """Write the pages into ``folder``, and the catalogue that the command line reads."""
    catalogue.FILE.write_text(catalogue.text(), encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
