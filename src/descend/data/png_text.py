"""PNG files with more text than Pillow reads: what programs keep of a picture's making, or a large color profile.

Pillow refuses a file of which a compressed chunk of text grows beyond ``PngImagePlugin.MAX_TEXT_CHUNK``. Nothing of it is pixels:
such chunks are left out, all others stay, among them what tells the orientation.

Source: Portable Network Graphics (PNG) Specification, third edition, 5.3 (chunks), 11.3.2.3 (iCCP), 11.3.3 (text).
"""

from __future__ import annotations

import struct
import zlib

from PIL import PngImagePlugin

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its data: length, type, checksum
_FIELDS = {b"zTXt": (1, 0), b"iCCP": (1, 0), b"iTXt": (2, 2)}  # bytes behind the keyword; texts that end in zero behind these


def without_large_text(content: bytes) -> bytes | None:
    """Return a PNG file without the chunks of text that are too large, or None where it has none of them, or is no PNG."""
    if not content.startswith(_SIGNATURE):
        return None
    at, kept = len(_SIGNATURE), [_SIGNATURE]
    while at + _AROUND <= len(content):
        (n,) = struct.unpack_from(">I", content, at)
        end = at + _AROUND + n
        if not _is_too_large(content[at + 4 : at + 8], content[at + 8 : end - 4]):
            kept.append(content[at:end])
        at = end
    slimmed = b"".join(kept)
    return slimmed if len(slimmed) < len(content) else None


def _is_too_large(kind: bytes, data: bytes) -> bool:
    """Say whether a chunk holds text that grows beyond Pillow's limit."""
    if kind not in _FIELDS:
        return False
    n_bytes, n_texts = _FIELDS[kind]
    rest = data.partition(b"\0")[2]
    if kind == b"iTXt" and rest[:1] != b"\1":  # not compressed
        return False
    rest = rest[n_bytes:]
    for _ in range(n_texts):
        rest = rest.partition(b"\0")[2]
    try:
        return len(zlib.decompressobj().decompress(rest, PngImagePlugin.MAX_TEXT_CHUNK + 1)) > PngImagePlugin.MAX_TEXT_CHUNK
    except zlib.error:
        return False
