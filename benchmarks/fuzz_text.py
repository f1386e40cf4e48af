"""Spec text, recipes, tables and run folders from anywhere: each is taken or refused in words, and nothing else happens.

    pip install atheris
    python benchmarks/fuzz_text.py --runs 100000 --seed 0

Claim: no other error than descend's own, no hang beyond 20 s, no memory beyond 4 GB; what was taken survives being written and
read again; a table names no file outside its folder; messages have at most 6,000 characters.

atheris (libFuzzer, with the branches of ``descend`` measured) makes the inputs, from the seeds below and a dictionary of the
names of techniques and knobs. Every target runs in a process of its own. A broken promise is counted, and its input kept with
``--keep``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGETS = ("spec", "recipe", "table", "run")
LONGEST_MESSAGE = 6_000  # characters: 200 of who, 1,000 of the condition, 200 of what was met, 4,000 of the fix, a few lines
MAX_LENGTH = {"spec": 400, "recipe": 2_000, "table": 4_000, "run": 20_000}  # bytes of an input
FILES = ("record.json", "manifest.json", "metrics.jsonl", "recipe.toml", "model.safetensors")
SPECS = (
    "adamw(lr=0.003)", "then(warmup(fraction=0.05), cosine())", "cosine_restarts(n_cycles=3, stretch=2.0)",
    'mlp(hidden=256, dropout="x")',
    "some_of(flip(p=0.5), cutmix(), n=2)", "lookahead(sam(sgd(lr=0.1)))", "ghost_batch_norm(size=8)", "smallcnn(width=16)",
    "clip_norm(1)",
    "adam(self=1)", "a(b=[1, (2, None), -1e308, True])", "views(k=8)", "ema(adam, decay=0.9)",
)  # fmt: skip


def work(target: str, runs: int, seconds: int, seed: int, place: Path) -> None:
    """Fuzz one target in this process, which ends with it; what happened is written to ``place``."""
    atheris: Any = importlib.import_module("atheris")  # its module says nothing of its types
    with atheris.instrument_imports(include=["descend"]):
        import descend.data.tables
        import descend.technique
        import descend.train.run  # noqa: F401 (it is instrumented when it is imported)
    attempt = {"spec": spec_target, "recipe": recipe_target, "table": table_target, "run": run_target}[target](place)
    corpus = place / "corpus"
    corpus.mkdir()
    for content in seeds(target, place):
        (corpus / hashlib.sha1(content, usedforsecurity=False).hexdigest()).write_bytes(content)
    (place / "words.dict").write_text("\n".join(f'"{word}"' for word in dictionary()), encoding="utf-8")
    tally = Tally(place, runs)
    words = [sys.argv[0], str(corpus), f"-runs={runs}", f"-seed={seed + 1}", "-timeout=20", "-rss_limit_mb=4000",
             f"-max_len={MAX_LENGTH[target]}", "-len_control=0",
             f"-max_total_time={seconds}",
             f"-artifact_prefix={place}/", f"-dict={place / 'words.dict'}"]  # fmt: skip
    atheris.Setup(words, lambda content: tally.count(attempt, content))
    atheris.Fuzz()


class Tally:
    """Counts what became of inputs, and keeps those that broke a promise."""

    def __init__(self, place: Path, runs: int) -> None:
        self.place, self.runs = place, runs
        self.counts: Counter[str] = Counter()
        self.broken: dict[str, str] = {}

    def count(self, attempt: Callable[[bytes], str], content: bytes) -> None:
        """Try one input."""
        from descend.errors import DescendError

        try:
            kind = attempt(content)
        except DescendError as error:
            too_long = f"a message of {len(str(error)):,} characters: {str(error)[:80]}"
            kind = "refused" if len(str(error)) <= LONGEST_MESSAGE else too_long
        except Exception as error:
            import traceback

            at = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(at.filename).name}:{at.lineno}: {error}"[:200]
        if kind not in ("taken", "refused"):
            if kind not in self.broken and len(self.broken) < 50:
                name = hashlib.sha1(content, usedforsecurity=False).hexdigest()[:12]
                self.broken[kind] = name
                (self.place / f"broken-{name}").write_bytes(content)
            kind = "broken"
        self.counts[kind] += 1
        if self.counts.total() % 100 == 0 or self.counts.total() >= self.runs:
            (self.place / "tally.json").write_text(json.dumps({"counts": self.counts, "broken": self.broken}), encoding="utf-8")


def spec_target(place: Path) -> Callable[[bytes], str]:
    """Build a technique of any family from text; its own text must give it again."""
    del place
    from descend.technique import Technique, build, registered, spec

    families: list[type[Technique]] = list({cls.family: _family(cls) for cls in registered()}.values())

    def attempt(content: bytes) -> str:
        family = families[content[0] % len(families)] if content else families[0]
        value = build(content[1:].decode(errors="replace"), family)
        again = build(spec(value), family), build(spec(value, defaults=True), family)
        return "taken" if again == (value, value) else f"not read again: {spec(value)}"

    return attempt


def _family(cls: type[Any]) -> type[Any]:
    """Return the class that declares a technique's family: what all techniques of the family extend."""
    return next(base for base in cls.__mro__ if "family" in base.__dict__)


def recipe_target(place: Path) -> Callable[[bytes], str]:
    """Read a recipe; written and read again it must be the same."""
    from descend.train.recipe import dump, read
    from descend.train.resolve import check_specs

    path, written = place / "recipe.toml", place / "written.toml"

    def attempt(content: bytes) -> str:
        path.write_bytes(content)
        recipe = read(path)
        written.write_text(dump(recipe), encoding="utf-8")
        if read(written) != recipe:
            return "not read again"
        check_specs(recipe)
        return "taken"

    return attempt


def table_target(place: Path) -> Callable[[bytes], str]:
    """List the pictures of a table; all must lie below its folder."""
    from descend.data.tables import read_table

    root = place / "set"
    root.mkdir()
    for name in ("0.png", "1.png", "a b.png", "é.png", "secret.png"):
        (root / name if name != "secret.png" else place / name).write_bytes(b"x")
    suffixes = (".csv", ".tsv")

    def attempt(content: bytes) -> str:
        table = root / f"t{suffixes[content[0] % 2] if content else '.csv'}"
        table.write_bytes(content[1:])
        manifest = read_table(table)
        outside = [name for name in manifest.names if not Path(os.path.normpath(root / name)).is_relative_to(root)]
        return f"outside: {outside[0]}" if outside else "taken"

    return attempt


def run_target(place: Path) -> Callable[[bytes], str]:
    """Open a run folder, one file of which is another; its network, too, must be built or refused."""
    from descend.train import folder
    from descend.train.run import Run

    original, run = _tiny_run(place), place / "opened"

    def attempt(content: bytes) -> str:
        name = FILES[content[0] % len(FILES)] if content else FILES[0]
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for other in FILES:
            if other != name and (other != "manifest.json" or name in ("record.json", "metrics.jsonl")):
                (run / other).symlink_to(original / other)
        (run / name).write_bytes(content[1:])
        opened = Run(run)
        _ = opened.recipe, folder.read_lines(run / "metrics.jsonl"), opened.summary(), opened.verdict()
        _ = opened.classifier
        return "taken"

    return attempt


def _tiny_run(place: Path) -> Path:
    """Train a very small network on very few digits; its record carries no digest, which no mutant would match."""
    import descend

    original = place / "original"
    if not original.exists():
        descend.fit(
            "digits", out=original, transfer="scratch", backbone="smallcnn(width=2)", epochs=1, augment=[], batch_size=512
        )
        record = json.loads((original / "record.json").read_text(encoding="utf-8"))
        record.pop("digest", None)
        (original / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return original


def seeds(target: str, place: Path) -> list[bytes]:
    """Return inputs that are taken, or nearly so: where fuzzing begins."""
    if target == "spec":
        return [bytes([family]) + text.encode() for family in range(12) for text in SPECS]
    if target == "recipe":
        texts = [
            'data = "digits"\nepochs = 3\nlr = 1',
            'augment = ["flip()"]\nsize = 64\n',
            'optimizer = "adam(lr=0.1)"\nseed = 1\n',
        ]
        return [text.encode() for text in texts]
    if target == "table":
        rows = "path,label,split,group\n0.png,a,train,g\n1.png,b,val,\na b.png,nan,test,1.0\n../secret.png,a,,\n"
        texts = [
            rows,
            rows.replace(",", "\t"),
            'path,label\n"0.png","a, b"\n1.png,1.0\n',
            "path,label\n0.png,=1\n1.png,\x1b[2J\n",
        ]
        encoded = [text.encode(name) for text in texts for name in ("utf-8", "utf-16", "utf-8-sig", "cp1252")]
        return [bytes([k]) + content for content in encoded for k in (0, 1)]
    original = _tiny_run(place)
    return [bytes([k]) + (original / name).read_bytes()[: MAX_LENGTH["run"] - 1] for k, name in enumerate(FILES)]


def dictionary() -> list[str]:
    """Return the names of all techniques and their knobs, for libFuzzer to put in."""
    from descend.technique import knobs, registered

    names = {name for cls in registered() for name in (cls.name, *(knob.name for knob in knobs(cls)))}
    return sorted(names | {"self", "1e308", "-0.0", "True", "None", "../", "\\\\x00"})


def fuzz(target: str, runs: int, seconds: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """Fuzz one target in a process; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--target", target, "--runs", str(runs), "--seed", str(seed),
                   "--seconds", str(seconds), "--place", folder]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        place = Path(folder)
        tally = json.loads((place / "tally.json").read_text(encoding="utf-8")) if (place / "tally.json").exists() else {}
        ended = [path.name for path in place.glob("*-*") if path.name.startswith(("crash-", "timeout-", "oom-", "slow-unit-"))]
        if keep is not None:
            for path in (*place.glob("broken-*"), *(place / name for name in ended)):
                shutil.copy(path, keep / f"{target}-{path.name}")
        edges = re.findall(r"cov: (\d+)", done.stderr)
        if not tally:
            raise SystemExit(done.stderr[-2000:])
    return {"inputs": sum(tally["counts"].values()), **tally, "ended_by": ended, "edges": int(edges[-1]) if edges else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, metavar="N", help="inputs of each target")
    parser.add_argument("--seconds", type=int, default=3600, metavar="N", help="wall time of each target, at most")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--target", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where inputs that broke a promise are kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore", SyntaxWarning)  # of Python's parser, about text that is no program
    if options.place is not None:
        work(options.target, options.runs, options.seconds, options.seed, options.place)
        return
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"seed": options.seed}
    for target in TARGETS:
        result[target] = fuzz(target, options.runs, options.seconds, options.seed, options.keep)
        print(f"{target}: {result[target]['counts']}", flush=True)
    from harness import save

    save(
        "fuzz_text", "spec text, recipes, tables and run folders are taken or refused in words, and nothing else happens", result
    )


if __name__ == "__main__":
    main()
