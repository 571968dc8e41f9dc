"""Mutated annotation files of every format: each is read or refused in one line, quickly and in little memory.

Every seed makes a small data set of one format, changes one of its annotation files at random, and reads all of it in a
process of its own. Anything but a `VisionKitError` is a fault, and so are over 5 s of computing or over 2 GB.

    python -m tests.datamodules.hostile_annotations --seeds 0-999
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.datamodules.annotation_sets import SETS, AnnotationSet
from visionkit.errors import VisionKitError

SECONDS, MEGABYTES, LONGEST = 5, 2048, 3000

_LONG = "x" * 200_000
_DEEP_JSON = "[" * 100_000 + "]" * 100_000
_BOMB = "".join(f"k{k}: &k{k} [{', '.join([f'*k{k - 1}' if k else 'z'] * 9)}]\n" for k in range(10))
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**30), 0.5, 1e308, -1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "0",
        "-7",
        "1e3",
        "no",
        "nan",
        "a/b",
        "../../etc/passwd",
        "/dev/zero",
        "\ud800",
        "\0",
        "é\u0301\u200b",
        _LONG,
        "%00",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        ["a"],
        {"a": 1},
        [[1, 2], [3]],
        [1e300] * 6,
        list(range(5000)),
        {"size": [1e9, 1e9], "counts": [3]},
    ),
    *(
        {"size": [24, 20], "counts": "zzzz~"},
        {"size": [24, 20], "counts": [-5, 10**15, 3]},
        {"size": None, "counts": None},
    ),
    *([[0, 0, 1e9, 0, 1e9, 1e9]], [[-1e15, 3, 4, 1e15, 7, 8]], {"counts": "0" * 100_000, "size": [24, 20]}),
)
_TOKENS: tuple[str, ...] = (
    *("", "-1", "0", "nan", "inf", "-inf", "1e400", "99999999999999999999", "0x1F", "abc", "1,2", ";", '"', "'", "\t"),
    *(
        "<",
        "</",
        "<a>",
        "&lt;",
        "&x;",
        "]]>",
        "[",
        "]",
        "{",
        "}",
        "!!python/object:os.system",
        "*a",
        "&a",
        "- ",
        ": ",
        "%20",
    ),
    *("\\", "/", "..", "~", "null", "no", "1e3", "12:30", "\u202e", "é", "\x00", "\x0b", "١", "0" * 5000, "9" * 5000),
)


def mutate(path: Path, rng: random.Random) -> str:
    """Changes one file in a random way.

    Returns:
        What was done.
    """
    ways: list[Callable[[Path, random.Random], None]] = [_bytes, _lines, _tokens, _tokens, _encoding, _whole]
    if path.suffix == ".json":
        ways += [_values] * 8 + [_many]
    if path.suffix in (".yaml", ".yml"):
        ways += [_yaml] * 2
    way = rng.choice(ways)
    way(path, rng)
    return way.__name__.strip("_")


def _bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 20))
        elif kind == 2:
            del data[at : at + rng.randint(1, 30)]
        else:
            del data[at:]
    path.write_bytes(bytes(data))


def _lines(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines() or [""]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 1 and len(lines) > 1:
            del lines[at]
        elif kind == 2:
            lines[at] = lines[at] * rng.choice((2, 50))
        elif kind == 3:
            lines[at] = rng.choice(_TOKENS)
        else:
            lines[at : at + 1] = [lines[at]] * rng.choice((2, 3, 20_000))
    path.write_text("\n".join(lines), errors="replace")


def _tokens(path: Path, rng: random.Random) -> None:
    import re

    text = path.read_text()
    spans = [match.span() for match in re.finditer(r"[\w.\-]+|[^\w\s]", text)]
    for start, end in sorted(rng.sample(spans, min(len(spans), rng.randint(1, 3))), reverse=True):
        text = text[:start] + rng.choice(_TOKENS) + text[end:]
    path.write_text(text, errors="replace")


def _encoding(path: Path, rng: random.Random) -> None:
    text = path.read_text()
    path.write_bytes(
        text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7"))) + rng.choice((b"", b"\xff"))
    )


def _whole(path: Path, rng: random.Random) -> None:
    kind = rng.randrange(9)
    if kind == 0:
        path.write_bytes(b"")
    elif kind == 1:
        path.unlink()
    elif kind == 2:
        path.unlink()
        path.mkdir()
    elif kind == 3:
        path.unlink()
        os.mkfifo(path)
    elif kind == 4:
        path.unlink()
        path.symlink_to("/dev/zero")
    elif kind == 5:
        path.write_bytes(rng.randbytes(3000))
    elif kind == 6:
        path.write_text(_DEEP_JSON)
    elif kind == 7:
        path.write_text("<a>" * 50_000)
    else:
        path.write_text(_LONG * 20)


def _values(path: Path, rng: random.Random) -> None:
    top = json.loads(path.read_text())
    for _ in range(rng.randint(1, 3)):
        holders = _holders(top)
        if not holders:
            break
        holder, key = rng.choice(holders)
        if rng.random() < 0.15:
            del holder[key]
        elif rng.random() < 0.1 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = rng.choice(_VALUES)
    path.write_text(json.dumps(top).replace('"/dev/null"', _DEEP_JSON))


def _holders(value: Any) -> list[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [pair for key in keys for pair in _holders(value[key])]


def _many(path: Path, rng: random.Random) -> None:
    """Very many of one type of entry."""
    top = json.loads(path.read_text())
    if isinstance(top, dict) and isinstance(top.get("categories"), list):
        copy = rng.random() < 0.5
        top["categories"] += [{"id": 1000 + k, "name": "same" if copy else f"c{k}"} for k in range(200_000)]
    elif isinstance(top, list):
        top = top * 300
    path.write_text(json.dumps(top))


def _yaml(path: Path, rng: random.Random) -> None:
    text = path.read_text()
    bomb = rng.randrange(4)
    if bomb == 0:
        path.write_text(_BOMB + text.replace("names:", "names: *k9\nother:"))
    elif bomb == 1:
        path.write_text(text + "names: &n [*n]\n")
    elif bomb == 2:
        path.write_text(text + "more: " + "[" * 3000 + "]" * 3000)
    else:
        path.write_text(text.split("names:")[0] + "names:\n" + "".join(f"  - c{k}\n" for k in range(20_000)))


# ---------------------------------------------------------------------- one case


class Case(NamedTuple):
    """What became of one seed."""

    seed: int
    kind: str
    way: str
    outcome: str  # read, refused, fault, slow, large
    said: str = ""


def run(seed: int, folder: Path) -> Case:
    """Makes, mutates and reads the data set of one seed in this process."""
    rng = random.Random(seed)
    kind = sorted(SETS)[seed % len(SETS)]
    made: AnnotationSet = SETS[kind](folder)
    path = rng.choice(made.annotations)
    way = mutate(path, rng)
    try:
        made.read()
    except VisionKitError as error:
        one_line = "\n" not in str(error) and 0 < len(str(error)) < LONGEST
        return Case(seed, kind, way, "refused" if one_line else "fault", str(error)[:300])
    except Exception:
        return Case(seed, kind, way, "fault", traceback.format_exc(limit=-4)[:3000])
    return Case(seed, kind, way, "read")


def run_apart(seed: int) -> Case:
    """The same in a process of its own, with its time and memory measured."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _in_child(seed, folder, write)
    os.close(write)
    begin, data = time.monotonic(), b""
    os.set_blocking(read, False)
    while time.monotonic() - begin < 12 * SECONDS:
        try:
            piece = os.read(read, 1 << 16)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if not piece:
            break
        data += piece
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    _, status, used = os.wait4(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    kind = sorted(SETS)[seed % len(SETS)]
    seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    if not data or seconds > SECONDS:
        return Case(seed, kind, "", "slow", f"{seconds:.1f} s of computing, status {status}")
    case = Case(*json.loads(data))
    return case if megabytes < MEGABYTES else case._replace(outcome="large", said=f"{megabytes:.0f} MB")


def _in_child(seed: int, folder: Path, write: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    case = run(seed, folder)
    data = json.dumps(case).encode()
    while data:
        data = data[os.write(write, data) :]
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-999", metavar="FIRST-LAST")
    first, _, last = parser.parse_args().seeds.partition("-")
    logging.disable(logging.CRITICAL)
    counts: Counter[str] = Counter()
    for seed in range(int(first), int(last or first) + 1):
        case = run_apart(seed)
        counts[case.outcome] += 1
        if case.outcome not in ("read", "refused"):
            print(f"seed {case.seed}, {case.kind}, {case.way}: {case.outcome}\n{case.said}", flush=True)
    print(f"seeds {first}-{last or first}: " + ", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    return int(counts["read"] + counts["refused"] < sum(counts.values()))


if __name__ == "__main__":
    sys.exit(main())
