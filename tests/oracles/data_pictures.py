"""Pictures to test with, and what others make of them: timm's evaluation geometry, compositing in floating point."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return a picture with slopes, edges and grain, so that any shift, flip or filter shows: (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 255 * x / max(width - 1, 1)
    green = 255 * y / max(height - 1, 1)
    blue = 127 + 100 * np.sin(x / 7) * np.cos(y / 11) + 28 * ((x // 5 + y // 3) % 2)
    grain = np.random.default_rng(seed).normal(0, 6, (height, width, 3))
    return np.clip(np.stack([red, green, blue], axis=-1) + grain, 0, 255).astype(np.uint8)


def encoded(picture: NDArray[np.uint8] | Image.Image, kind: str = "png", **options: object) -> bytes:
    """Return the bytes of a picture file."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def timm_eval(picture: NDArray[np.uint8], crop: int, crop_pct: float) -> NDArray[np.uint8]:
    """Return what timm's own evaluation transform shows the network, before it becomes floats: (crop, crop, 3) uint8."""
    from timm.data import create_transform

    steps = create_transform((3, crop, crop), interpolation="bicubic", crop_pct=crop_pct).transforms[:2]
    image = Image.fromarray(picture)
    for step in steps:
        image = step(image)
    return np.array(image)


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Composite (H, W, 4) uint8 over white by the definition: alpha * color + (1 - alpha) * 255."""
    alpha = rgba[:, :, 3:].astype(np.float64) / 255
    return alpha * rgba[:, :, :3] + (1 - alpha) * 255


def png_16_bits(values: NDArray[np.uint16]) -> bytes:
    """Return a PNG file of 16 bits per channel, written by the format's definition: (H, W, C) uint16, C of 2, 3 or 4."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def many(stem: str, n: int = 10) -> list[str]:
    """Return ``n`` names of pictures below ``stem``."""
    return [f"{stem}/{number}.png" for number in range(n)]


def make_tree(root: Path, *names: str) -> Path:
    """Make files below ``root``; a name that ends like a picture gets one, another for each name."""
    root.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = path.suffix.lower() in (".png", ".jpg")
        path.write_bytes(encoded(scene(8, 8, seed=number)) if picture else b"not a picture")
    return root
