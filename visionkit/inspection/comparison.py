"""Two networks side by side, with the ratios of what they cost."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from visionkit.inspection.report import Report, tables


def compare(one: Report, two: Report, format: str = "table") -> str:
    """Sums and kinds of layers of two networks, and the second over the first.

    Args:
        one: Report of the first.
        two: Report of the second, in the same unit.
        format: See `Report.text`.
    """
    rows = [_row(name, value, two.sums()[name]) for name, value in one.sums().items()]
    kinds: dict[str, dict[str, Any]] = {row["kind"]: row for row in (*one.kinds(), *two.kinds())}
    by_kind = [
        {"kind": kind, **_row(f"{what} of {kind}", _of(one, kind, what), _of(two, kind, what))}
        for kind in kinds
        for what in ("parameters", one.operations)
        if _of(one, kind, what) or _of(two, kind, what)
    ]
    for row in by_kind:
        del row["kind"]
    names = {"quantity": "quantity", "first": one.name, "second": two.name, "ratio": "ratio"}
    if format == "json":
        record = {"first": one.name, "second": two.name, "notes": one.notes, "sums": rows, "kinds": by_kind}
        return json.dumps(record, indent=1) + "\n"
    if format == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names.values())
        writer.writerows(row.values() for row in (*rows, *by_kind))
        return file.getvalue()
    parts = {
        title: [{names[key]: _shown(value) for key, value in row.items()} for row in part]
        for title, part in (("Sums", rows), ("Kinds", by_kind))
    }
    return tables(f"{one.name} and {two.name}", parts, one.notes, format)


def _of(report: Report, kind: str, what: str) -> int:
    return sum(int(row[what]) for row in report.kinds() if row["kind"] == kind)


def _row(name: str, first: int, second: int) -> dict[str, Any]:
    return {"quantity": name, "first": first, "second": second, "ratio": second / first if first else None}


def _shown(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
