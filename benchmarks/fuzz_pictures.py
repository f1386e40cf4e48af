"""Damaged pictures of every format that Pillow reads and writes: each gives pixels or a PictureError, and nothing else.

    python benchmarks/fuzz_pictures.py --mutants 200000 --seed 0

Claim: no crash, no hang beyond 10 s of work, no other error, no memory beyond the stated bound (12 bytes per pixel at Pillow's
limit, and 128 MiB), and no file that is cut short gives other pixels than the whole one.

Small files are cut at every byte; then files are mutated at random (bits, bytes, 32-bit fields, pieces taken out, doubled, or
from another file). Child processes decode them, so that a crash, a hang (by timers whose signals end a process also inside C) or
too large an allocation is counted with the file that caused it; ``--keep FOLDER`` keeps such files. NumPy's warnings count as
errors. One mutant is a function of (seed, number), whatever the number of mutants.
"""

from __future__ import annotations

import argparse
import io
import mmap
import os
import resource
import signal
import struct
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.data.decode import decode, decode_resized
from descend.data.formats import formats
from descend.data.traits import traits
from descend.errors import PictureError

HANG_S = 10  # of processor time, so that a busy machine makes no hang
WAIT_S = 120  # of wall time: a hang that waits
MEMORY_BOUND = 12 * 89_478_485 + 2**27  # bytes beyond those of the idle process
ADDRESS_SPACE = 4 * 2**30  # bytes that a child may take beyond those it begins with
LARGEST = 8_192  # bytes; icons that hold a picture of 1,024 pixels are cut at every byte in vain
CHUNK = 500  # files to a child process
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "F")
TIFF_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
FIELDS = (0, 1, 2, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Pixels = NDArray[np.uint8]


@dataclass
class Outcome:
    """What became of a number of files. bad: (kind, name) of those that broke a promise."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, str]] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, kind: str, name: str) -> None:
        """Count one file; what is neither pixels nor refused is bad."""
        self.counts[kind] += 1
        if kind not in ("pixels", "refused"):
            self.bad.append((kind, name))


def corpus(size: tuple[int, int] = (11, 7)) -> dict[str, bytes]:
    """Return small whole files by name: every format that Pillow reads and writes, in every mode that the format takes."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 2 + 1, width // 2 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    files: dict[str, bytes] = {}
    for form in formats():
        if form in Image.SAVE:
            for mode in MODES:
                _write(files, f"{form} {mode}", _as_mode(picture, mode), form)
    for name in TIFF_COMPRESSIONS:
        _write(files, f"TIFF {name}", picture, "TIFF", compression=name)
    _write(files, "JPEG progressive", picture, "JPEG", progressive=True)
    _write(files, "JPEG2000 bare", picture, "JPEG2000", no_jp2=True)
    _write(files, "WEBP lossless", picture, "WEBP", lossless=True)
    _write(files, "GIF animated", picture.convert("P"), "GIF", save_all=True, append_images=[picture.rotate(180).convert("P")])
    return files


def _as_mode(picture: Image.Image, mode: str) -> Image.Image:
    return picture.convert("L").convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)


def _write(files: dict[str, bytes], name: str, picture: Image.Image, form: str, **options: Any) -> None:
    file = io.BytesIO()
    try:
        picture.save(file, form, **options)
        decode(file.getvalue())
    except Exception:  # a mode that the format does not take, or that Pillow writes and does not read
        return
    if len(file.getvalue()) <= LARGEST and file.getvalue() not in files.values():
        files[name] = file.getvalue()


def cuts(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield every file cut at every byte, with its name."""
    for name, content in files.items():
        for length in range(len(content)):
            yield f"{name}[:{length}]", content[:length]


def mutants(files: dict[str, bytes], seed: int, numbers: range) -> Iterator[tuple[str, bytes]]:
    """Yield mutated files, each a function of (seed, number)."""
    names = sorted(files)
    for number in numbers:
        generator = np.random.default_rng([seed, number])
        name = names[generator.integers(len(names))]
        content = bytearray(files[name])
        for _ in range(generator.integers(1, 6)):
            _mutate(content, files[names[generator.integers(len(names))]], generator)
        yield f"{name} #{number}", bytes(content)


def _mutate(content: bytearray, other: bytes, generator: np.random.Generator) -> None:
    place = int(generator.integers(len(content) + 1) * generator.random() ** generator.integers(0, 2))  # heads are hit more often
    length = int(generator.integers(1, 33))
    kind = generator.integers(6)
    if kind == 0 and place < len(content):
        content[place] ^= 1 << int(generator.integers(8))
    elif kind == 1 and place < len(content):
        content[place] = int(generator.integers(256))
    elif kind == 2:
        number = FIELDS[generator.integers(len(FIELDS))]
        packed = struct.pack(("<I", ">I")[generator.integers(2)], number)
        content[place : place + 4] = packed
    elif kind == 3:
        del content[place : place + length]
    elif kind == 4:
        content[place:place] = content[place : place + length]
    else:
        start = int(generator.integers(len(other)))
        content[place : place + length] = other[start : start + length]


def attempt(content: bytes, whole: Pixels | None = None) -> str:
    """Look at one file as a run does; return ``pixels``, ``refused``, ``other pixels`` (than of the whole), or another error."""
    try:
        traits(content, name="x")
        decode_resized(content, 16, name="x")
        pixels = decode(content, name="x")
    except PictureError as error:
        warned = isinstance(error.__cause__, RuntimeWarning)
        return f"warning: {error.__cause__}" if warned else "refused"
    except Exception as error:
        return f"error: {type(error).__name__}: {error}"[:200]
    return "pixels" if whole is None or np.array_equal(pixels, whole) else "other pixels"


def look(files: list[tuple[str, bytes]], wholes: dict[str, Pixels], keep: Path | None, outcome: Outcome) -> None:
    """Look at files in a child process, and in another one from the file on that ended it."""
    shared = mmap.mmap(-1, 16 + 256 * len(files))
    start = 0
    while start < len(files):
        pid = os.fork()
        if pid == 0:
            _in_child(files, start, wholes, shared)
        _, status = os.waitpid(pid, 0)
        (at, peak) = struct.unpack("<qq", shared[:16])
        outcome.peak_bytes = max(outcome.peak_bytes, peak)
        last = len(files) if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else at
        for row in range(start, last):
            outcome.add(shared[16 + 256 * row : 272 + 256 * row].rstrip(b"\0").decode(errors="replace"), files[row][0])
        if last < len(files):
            ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            kind = (
                "hang"
                if ended_by in (signal.SIGALRM, signal.SIGPROF)
                else f"crash: {signal.Signals(ended_by).name if ended_by else 'exit'}"
            )
            outcome.add(kind, files[last][0])
            last += 1
        start = last
    if keep is not None:
        broken = {name for _, name in outcome.bad}
        for name, content in files:
            if name in broken:
                (keep / name.replace("/", "_")).write_bytes(content)


def _in_child(files: list[tuple[str, bytes]], start: int, wholes: dict[str, Pixels], shared: mmap.mmap) -> None:
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ADDRESS_SPACE, taken + ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for timer in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(timer, signal.SIG_DFL)
    warnings.simplefilter("error", RuntimeWarning)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # one of those; the policy refuses such pictures itself
    idle = peak = _peak_bytes()
    for row in range(start, len(files)):
        shared[:16] = struct.pack("<qq", row, peak - idle)
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        signal.alarm(WAIT_S)
        name, content = files[row]
        kind = attempt(content, wholes.get(name.rpartition("[")[0]))
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        before, peak = peak, max(peak, _peak_bytes())
        if peak > before and peak - idle > MEMORY_BOUND:
            kind = f"memory: {(peak - idle) / 2**20:.0f} MiB"
        shared[16 + 256 * row : 272 + 256 * row] = kind.encode()[:256].ljust(256, b"\0")
    shared[:16] = struct.pack("<qq", len(files), peak - idle)
    os._exit(0)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes, in Linux


def run(files: dict[str, bytes], n_mutants: int, seed: int, keep: Path | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """Cut and mutate; return the figures."""
    wholes = {name: decode(content) for name, content in files.items()}
    started, cut, mutated = time.perf_counter(), Outcome(), Outcome()
    pending = list(cuts(files))
    for first in range(0, len(pending), CHUNK):
        look(pending[first : first + CHUNK], wholes, keep, cut)
    tell(f"cut: {dict(cut.counts.most_common(8))}")
    for first in range(0, n_mutants, CHUNK):
        look(list(mutants(files, seed, range(first, min(first + CHUNK, n_mutants)))), {}, keep, mutated)
        if first % (CHUNK * 40) == 0:
            tell(f"{first + CHUNK:,} mutants, {time.perf_counter() - started:.0f} s: {dict(mutated.counts.most_common(8))}")
    return {
        "formats": sorted({name.split(" ")[0] for name in files}),
        "n_whole_files": len(files),
        "seed": seed,
        "cut": {"n": cut.counts.total(), **cut.counts, "bad": cut.bad[:50]},
        "mutated": {"n": mutated.counts.total(), **mutated.counts, "bad": mutated.bad[:50]},
        "peak_mib": round(max(cut.peak_bytes, mutated.peak_bytes) / 2**20),
        "bound_mib": round(MEMORY_BOUND / 2**20),
        "wall_s": round(time.perf_counter() - started),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=200_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where files that broke a promise are kept")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    result = run(corpus(), options.mutants, options.seed, options.keep, lambda line: print(line, flush=True))
    from harness import save  # it loads torch, which children must not inherit

    save("fuzz_pictures", "damaged pictures give pixels or a PictureError: no crash, hang, other error or memory above", result)


if __name__ == "__main__":
    main()
