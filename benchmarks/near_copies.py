"""How many planted copies the search for near copies finds in photographs, and what it names where nothing is planted.

    python benchmarks/near_copies.py

Claim: of copies saved again, mirrored, turned by quarters, and cropped to four fifths of each side or more, four of five are
found at least, and nothing is named in photographs of insects and of hands. Planted: 100 copies each of the insects, as JPEG of
quality 90.
"""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from descend.data.near_copies import KINDS, NearCopies, chained, near_copies
from descend.data.scan import digest
from descend.data.signatures import Pictures, signatures
from descend.files import CacheFolder
from descend.pixels import USUAL
from harness import data, save

N = 100
LEAST_FOUND = 0.8
Change = Callable[[Image.Image], Image.Image]


def turn(way: Image.Transpose) -> Change:
    return lambda image: image.transpose(way)


def crop(share: float, generator: random.Random, *, down: bool = True) -> Change:
    def cut(image: Image.Image) -> Image.Image:
        width, height = round(share * image.width), round(share * image.height) if down else image.height
        left, top = generator.randint(0, image.width - width), generator.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))

    return cut


def changes(generator: random.Random) -> dict[str, Change]:
    turns = {"turned by 90": Image.Transpose.ROTATE_90, "turned by 180": Image.Transpose.ROTATE_180,
             "turned by 270": Image.Transpose.ROTATE_270, "mirrored at a diagonal": Image.Transpose.TRANSPOSE}  # fmt: skip
    made: dict[str, Change] = {
        "saved again": lambda image: image,
        "mirrored": ImageOps.mirror,
        "mirrored top to bottom": ImageOps.flip,
    }
    made |= {name: turn(way) for name, way in turns.items()}
    made |= {f"cropped to {share:.0%}": crop(share, generator) for share in (0.95, 0.9, 0.85, 0.8)}
    return made | {"one side cut to 90%": crop(0.9, generator, down=False)}


def found(contents: Sequence[bytes]) -> NearCopies:
    held = np.empty(len(contents), object)
    held[:] = contents
    digests = np.stack([np.frombuffer(digest(content), np.uint8) for content in contents])
    sizes = np.array([Image.open(io.BytesIO(content)).size for content in contents], np.int32)
    pictures = Pictures(None, list(map(str, range(len(contents)))), digests, USUAL, held)
    with tempfile.TemporaryDirectory() as cache:
        seen = signatures(pictures, threads=2, cache=CacheFolder(cache))
    return near_copies(seen, digests, sizes, pictures.squashed)


def read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]


def named(contents: Sequence[bytes]) -> dict[str, Any]:
    kinds = Counter(KINDS[kind] for kind in found(contents).kinds.tolist())
    return {"n": len(contents), "pairs": dict(kinds)}


def main() -> None:
    generator = random.Random(0)
    insects = read(data("hymenoptera"))
    rows, shares = generator.sample(range(len(insects)), N), dict[str, float]()
    for name, change in changes(generator).items():
        planted = list[bytes]()
        for row in rows:
            buffer = io.BytesIO()
            change(Image.open(io.BytesIO(insects[row])).convert("RGB")).save(buffer, "JPEG", quality=90)
            planted.append(buffer.getvalue())
        together = chained(len(insects) + N, found([*insects, *planted]).pairs)
        shares[name] = float(np.mean([together[row] == together[len(insects) + at] for at, row in enumerate(rows)]))
        print(f"{name}: {shares[name]:.0%}")
    alarms = {"insects": named(insects), "hands": named(read(data("sign-digits")))}
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(data("flowers5.tar.xz")) as archive:
            archive.extractall(place, filter="data")
        alarms["flowers"] = named(read(Path(place)))
    print(alarms)
    held = min(shares.values()) >= LEAST_FOUND and not alarms["insects"]["pairs"] and not alarms["hands"]["pairs"]
    claim = f"{LEAST_FOUND:.0%} of planted copies are found at least, and none is named in photographs of insects and hands"
    save("near_copies", claim, {"held": held, "found": shares, "named": alarms})


if __name__ == "__main__":
    main()
