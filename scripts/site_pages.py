"""What the site holds beside docs/: the API reference, the playgrounds, and the files outside docs/ that pages link to.

A hook of MkDocs (``hooks`` in mkdocs.yml). Nothing here is written to disk outside of the site.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "descend"
PACKAGES = ("optim", "schedule", "landscape", "regularize", "augment", "data", "models", "transfer", "train", "search",
            "comparison", "export", "report", "audit", "doctor", "stats", "app")  # fmt: skip
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
PLAYGROUND = """---
hide: [navigation, toc]
---
# {heading}

The page that `{command} --page FILE.html` writes; [open it alone](assets/{name}.html){{target=_blank}}.

<style>
  .{name} {{ width: 100%; height: {height}px; border: 0 }}
  @media (max-width: {narrow}px) {{ .{name} {{ height: {tall}px }} }}
</style>
<iframe class="{name}" src="assets/{name}.html" title="{title}"></iframe>
"""
RACE = {"heading": "Playground", "command": "descend surface", "name": "race", "title": "Optimizers on a surface",
        "height": 1400, "narrow": 1000, "tall": 2700}  # fmt: skip
LESSON = {"heading": "Playground: augmentation, dropout, decay", "command": "descend augment", "name": "lesson",
          "title": "Augmentation, dropout and decay", "height": 5200, "narrow": 1060, "tall": 9800}  # fmt: skip
PAGES = {"playground.md": PLAYGROUND.format(**RACE), "playground-lesson.md": PLAYGROUND.format(**LESSON)}
RULES = ("sgd(lr=1.0)", "momentum(lr=2.2)", "adam(lr=0.46)")  # as `descend surface saddle` tunes them


def exported(stub: Path) -> dict[str, str]:
    """Return the public names of a package, each with the module that holds it, from its table of exports."""
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    package = ".".join(["descend", *stub.parent.relative_to(SOURCE).parts])
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    found = {alias.name: f"{package}.{node.module}" for node in imports for alias in node.names}
    inside = {module: stub.parent / module.removeprefix(f"{package}.") / stub.name for module in found.values()}
    return {name: exported(inside[module])[name] if inside[module].exists() else module for name, module in found.items()}


def reference(package: str) -> str:
    """Return the reference page of a package: what its docstring says, then every public name."""
    where = SOURCE / package if package else SOURCE
    name = f"descend.{package}" if package else "descend"
    said = ast.get_docstring(ast.parse((where / "__init__.py").read_text(encoding="utf-8"))) or ""
    said = re.sub(r"(?m)^(>>>|\.\.\.) .*\n(?:(?!>>>).+\n?)*", "", said.replace("``", "`")).strip()
    blocks = [f"::: {module}.{public}\n" for public, module in exported(where / "__init__.pyi").items()]
    return "\n".join([f"# {name}\n", said + "\n", *blocks])


def playground() -> str:
    """Return the playground as ``descend surface saddle`` begins it."""
    from descend.landscape import Course, Saddle
    from descend.landscape.playground import playground as page
    from descend.optim import Rule
    from descend.technique import build

    return page(Course(surface=Saddle()), [build(rule, Rule) for rule in RULES])


def lesson() -> str:
    """Return the playground of augmentation, dropout and decay as ``descend augment --page`` begins it."""
    from descend.report.lesson_page import page

    return page()


def on_config(config: Any) -> Any:
    """Add what is made here to the navigation."""
    pages = [{"Optimizers on a surface": "playground.md"}, {"Augmentation, dropout, decay": "playground-lesson.md"}]
    config.nav.insert(2, {"Playgrounds": pages})
    config.nav.append({"How it was measured": "source/benchmarks/contract.md"})
    config.nav.append({"Reference": [{"descend": "api/descend.md"}, *({name: f"api/{name}.md"} for name in PACKAGES)]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here, and what pages of docs/ link to elsewhere in the repository."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "api/descend.md", content=reference("")))
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=reference(package)))
    for name, text in PAGES.items():
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "assets/race.html", content=playground()))
    files.append(File.generated(config, "assets/lesson.html", content=lesson()))
    for path in sorted(outside(files)):
        files.append(File.generated(config, f"source/{path}", content=(ROOT / path).read_bytes()))
    return files


def outside(files: Any) -> set[str]:
    """Return the files outside docs/ that its pages link to, and those that these link to, as paths in the repository."""
    waiting = [file.src_uri for file in files.documentation_pages() if file.abs_src_path]
    found = set[str]()
    while waiting:
        page = waiting.pop()
        text = (ROOT / in_repository(page)).read_text(encoding="utf-8")
        linked = {led(page, target) for _, target, _ in LINK.findall(text)}
        fresh = {path for path in linked if path and not path.startswith("docs/")} - found
        found |= fresh
        waiting += [f"source/{path}" for path in fresh if path.endswith(".md")]
    return found


def in_repository(page: str) -> str:
    """Return where a page of the site lies in the repository."""
    return page.removeprefix("source/") if page.startswith("source/") else f"docs/{page}"


def led(page: str, target: str) -> str:
    """Return the file of the repository to which a link leads, the first page of a folder; "" for an address or nothing."""
    if "://" in target:
        return ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository(page)), target))
    if (ROOT / path).is_dir():
        first = "README.md" if (ROOT / path / "README.md").exists() else min(each.name for each in (ROOT / path).iterdir())
        path = f"{path}/{first}"
    return path if (ROOT / path).is_file() else ""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point every link at the page or copy on the site of the file to which it leads in the repository."""
    here = page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        path = led(here, match[2])
        site = path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"
        return match[1] + (posixpath.relpath(site, posixpath.dirname(here) or ".") if path else match[2]) + match[3]

    return markdown if here.startswith("api/") or here in PAGES else LINK.sub(lead, markdown)
