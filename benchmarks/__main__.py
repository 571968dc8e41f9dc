"""Runs every row, each in a process of its own, and prints one table.

`python -m benchmarks [--quick] [--rows 1 2 12] [--json FILE]`; other options go to every row.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def rows() -> dict[int, str]:
    """Module of each row by its number."""
    found = {}
    for path in sorted(HERE.glob("row*.py")):
        match = re.match(r"row(\d+)_", path.name)
        assert match, path
        found[int(match[1])] = f"benchmarks.{path.stem}"
    return found


def table(results: Sequence[dict[str, Any]]) -> str:
    """The numbers that have a goal, as markdown."""
    lines = ["| row | what | goal | reached | verdict |", "|---|---|---|---|---|"]
    for result in results:
        if result["skipped"]:
            lines.append(f"| {result['row']} | {result['title']} | | | skipped: {result['skipped']} |")
        for line in result["lines"]:
            if line["goal"]:
                value = f"{line['median']:.4g} {line['unit']}"
                lines.append(f"| {result['row']} | {line['what']} | {line['goal']} | {value} | {line['verdict']} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the rows; the status is 1 where one could not be run, and 0 where goals are missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", choices=sorted(rows()), help="only these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line of json for each row")
    given, passed = parser.parse_known_args(argv)
    results, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, module in rows().items():
            if given.rows and number not in given.rows:
                continue
            file = Path(folder) / f"{number}.json"
            command = [sys.executable, "-m", module, "--json", str(file), *passed]
            if subprocess.run(command, cwd=HERE.parent).returncode or not file.exists():
                failed.append(number)
                continue
            results.append(json.loads(file.read_text("utf-8")))
    if given.json:
        with given.json.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(result) + "\n" for result in results)
    print("\n" + table(results))
    if failed:
        print(f"could not be run: row {', '.join(map(str, failed))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
