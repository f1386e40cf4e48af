"""Findings on the terminal: every check with its mark, what it saw and the fix; tables where something is not ok."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from descend.findings import Finding, cell
from descend.printable import columns

SHOWN_ROWS = 8  # of a table on the terminal; --json has them all
MARKS = {"ok": "ok", "note": "note", "finding": "FINDING"}


def told(findings: Sequence[Finding], *, always: str = "") -> Iterator[str]:
    """Yield findings as lines. always: the check whose table is shown even where it is content."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        yield f"{MARKS[finding.severity]:<7}  {finding.check:<{width}}  {finding.what}"
        if finding.fix:
            yield f"{'':<{9 + width}}  {'if too slow' if finding.severity == 'ok' else 'fix'}: {finding.fix}"
        if finding.table and (finding.severity == "finding" or finding.check == always):
            yield from (f"{'':<{9 + width}}    {row}" for row in _table(finding))


def _table(finding: Finding) -> Iterator[str]:
    """Yield the rows of a finding's table.

    Of many rows of figures, those with the smallest and the largest are shown; of others, the first.
    """
    rows, key = list(finding.table), list(finding.table[0])[-1]
    left_out = len(rows) - SHOWN_ROWS
    by_size = isinstance(rows[0][key], (int, float))
    if left_out > 0 and by_size:
        order = sorted(range(len(rows)), key=lambda place: rows[place][key])
        ends = {*order[: SHOWN_ROWS // 2], *order[-(SHOWN_ROWS // 2) :]}
        rows = [row for place, row in enumerate(rows) if place in ends]
    cells = [[*map(str, rows[0])], *([cell(value) for value in row.values()] for row in rows[:SHOWN_ROWS])]
    yield from columns(cells)
    if left_out > 0:
        yield f"... and {left_out} more{' between them' * by_size} (--json has all)"
