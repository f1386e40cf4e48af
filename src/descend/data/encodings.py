"""Which encoding a table that is not UTF-8 may have, and how it becomes UTF-8."""

from __future__ import annotations

import re

_KANA, _HAN = "\u3040-\u30ff", "\u3000-\u303f\u4e00-\u9fff\uff01-\uff5e"
_HANGUL = "\uac00-\ud7a3"
_FAR = {"cp932": ("Shift-JIS", _HAN), "euc_kr": ("Korean", _HANGUL), "gb18030": ("GBK", _HAN), "big5": ("Big5", _HAN)}
_TYPOGRAPHIC = "\u2018\u2019\u201c\u201d\u201e\u2013\u2014\u2026\u20ac\xab\xbb\xb0\xb2\xb3\xb5\xb7\xa0"
_FOREIGN = re.compile(r"[^\0-\x7f]+")
_WORD = 3.0  # letters: runs of foreign ones are longer, in the mean, where the whole alphabet is foreign
_MOSTLY = 0.9  # of foreign characters are letters in text of an 8-bit encoding


def way_to_utf_8(content: bytes) -> str:
    """Return what to do about a table that is not UTF-8, or holds zeros, by the encoding that it seems to have."""
    how = "in a spreadsheet, save it as 'CSV UTF-8'; on a command line, iconv -f {} -t utf-8"
    if b"\0" in content and b"\0" not in content.rstrip(b"\0"):
        return "It ends in zeros, as a copy that was interrupted does: write or copy it again."
    for encoding, zeros in (("utf-16le", content[1::2]), ("utf-16be", content[::2])):
        if 4 * zeros.count(0) > len(zeros):
            return f"It looks like UTF-16 without a byte order mark: {how.format(encoding)}."
    if b"\0" in content:
        return "It is damaged, or no table: write or copy it again."
    likely = likely_encodings(content) or {"cp1252": "Windows-1252 or another 8-bit encoding"}
    return f"It looks like {' or '.join(likely.values())}: {how.format(' or '.join(likely))}."


def likely_encodings(content: bytes) -> dict[str, str]:
    """Return the encodings, with their names, in which bytes above 127 are text of one script; {} where none stands out.

    >>> from descend.data.encodings import likely_encodings
    >>> [likely_encodings("größe,кошка"[a:b].encode(name)) for a, b, name in ((0, 5, "cp1252"), (6, 11, "cp1251"))]
    [{'cp1252': 'Windows-1252'}, {'cp1251': 'Windows-1251'}]
    """
    japanese = _foreign(content, "cp932")
    if re.search(f"[{_KANA}]", japanese) and re.fullmatch(f"[{_KANA}{_HAN}]+", japanese):
        return {"cp932": "Shift-JIS"}
    runs = _FOREIGN.findall(content.decode("cp1252", "replace"))
    letters = "".join(runs)
    if letters.strip(_TYPOGRAPHIC) and sum(each.isalpha() or each in _TYPOGRAPHIC for each in letters) >= _MOSTLY * len(letters):
        if len(letters) < _WORD * len(runs):
            return {"cp1252": "Windows-1252"}
        if re.fullmatch("[\u0400-\u04ff]+", _foreign(content, "cp1251")):
            return {"cp1251": "Windows-1251"}
    return {encoding: name for encoding, (name, script) in _FAR.items()
            if re.fullmatch(f"[{script}]+", _foreign(content, encoding))}  # fmt: skip


def _foreign(content: bytes, encoding: str) -> str:
    """Return the characters of bytes above 127, "" where they are no text of an encoding."""
    try:
        return "".join(_FOREIGN.findall(content.decode(encoding)))
    except UnicodeDecodeError:
        return ""
