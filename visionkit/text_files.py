"""The one reader of text: lists, json, yaml and csv as people's tools write them, with errors that name the place.

It takes away byte order marks, reads UTF-16 where a mark states this, opens regular files only, and keeps hostile input
(bombs of aliases, deep nesting, endless numbers) from costing more than a message.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import stat
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from visionkit.errors import DataError

MAX_TEXT = 1 << 30
"""Bytes of the largest text file that is read; COCO's largest label file has half of that."""

_MAX_DEPTH = 100  # of nested lists and mappings
_MAX_YAML = 1 << 21  # a yaml file describes a data set; its parser is slow
_MAX_NODES = 1_000_000  # values of a yaml file, each alias counted with all that it stands for
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_bytes(path: str | Path, limit: int = MAX_TEXT, what: str = "file") -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        limit: Largest size in bytes.
        what: What the file is, for the messages: "label file".

    Raises:
        DataError: Missing, a folder, a device or a pipe, too large, or not readable.
    """
    path = Path(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a device or a pipe"
            raise DataError(f"{path}: {kind}, not a {what}")
        if state.st_size > limit:
            raise DataError(
                f"{path}: {state.st_size / 1e6:,.0f} MB, over the limit of {limit / 1e6:,.0f} MB of a {what}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def read_text(path: str | Path, limit: int = MAX_TEXT, what: str = "file") -> str:
    """The text of a file without its byte order mark; UTF-8, or UTF-16 where the mark states this.

    Raises:
        DataError: See `read_bytes`; also bytes that are no text, with their position.
    """
    return decode_text(read_bytes(path, limit, what), path)


def decode_text(data: bytes, path: str | Path) -> str:
    """Bytes to text, see `read_text`.

    Raises:
        DataError: Bytes that are no text.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} line {line}: not {encoding.removesuffix('-sig').upper()} text; save it as UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: holds zero bytes, so it is not a text file")
    return text


def read_lines(path: str | Path, what: str = "list") -> list[tuple[int, str]]:
    """Line numbers, counted from 1, and lines without surrounding blanks; empty ones are left out."""
    lines = enumerate(read_text(path, what=what).splitlines(), start=1)
    return [(number, stripped) for number, line in lines if (stripped := line.strip())]


def read_json(path: str | Path, what: str = "label file") -> Any:
    """The content of a json file.

    Raises:
        DataError: See `read_text`; no valid json, with line and column; nested too deeply; a number too long.
    """
    return parse_json(read_text(path, what=what), path)


def parse_json(text: str, path: str | Path) -> Any:
    """Text to values, see `read_json`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno} column {error.colno}: not valid json ({error.msg})") from None
    except RecursionError:
        raise DataError(f"{path}: not valid json (nested too deeply)") from None
    except ValueError:
        raise DataError(f"{path}: not valid json (a number with thousands of digits)") from None


def read_yaml(path: str | Path, what: str = "yaml file", *, as_text: bool = False, unique: bool = False) -> Any:
    """The content of a yaml file.

    Args:
        path: The file.
        what: What the file is, for the messages.
        as_text: Every scalar stays the text that the file has: a class called `no` or `1e3` is not turned into False or
            a number.
        unique: Refuse duplicate keys, of which yaml takes the last without a word.

    Raises:
        DataError: See `read_text`; no valid yaml, with line and column; aliases that stand for too much.
    """
    return parse_yaml(read_text(path, _MAX_YAML, what), path, as_text=as_text, unique=unique)


def parse_yaml(text: str, path: str | Path, *, as_text: bool = False, unique: bool = False) -> Any:
    """Text to values, see `read_yaml`.

    Args:
        text: A yaml document.
        path: Names it in the messages.
        as_text: See `read_yaml`.
        unique: See there.
    """
    import yaml

    name = "BaseLoader" if as_text else "SafeLoader"
    kind = getattr(yaml, f"C{name}", getattr(yaml, name))
    loader = None
    try:
        if _depth(yaml.parse(text, Loader=kind)) > _MAX_DEPTH:  # the fast loader would end the process
            raise DataError(f"{path}: not valid yaml (nested too deeply)")
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > _MAX_NODES:
            raise DataError(f"{path}: its aliases stand for over {_MAX_NODES:,} values; write them out or remove them")
        if unique:
            _check_keys(node, path)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1} column {mark.column + 1}" if mark is not None else ""
        raise DataError(f"{path}{where}: not valid yaml ({error.problem or error.context})") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: not valid yaml ({' '.join(str(error).split())[:120]})") from None
    except RecursionError:
        raise DataError(f"{path}: not valid yaml (nested too deeply)") from None
    finally:
        if loader is not None:
            loader.dispose()


def _depth(events: Iterable[Any]) -> int:
    """The deepest nesting; reading ends where it is too deep."""
    depth = deepest = 0
    for event in events:
        kind = type(event).__name__
        depth += kind in ("MappingStartEvent", "SequenceStartEvent")
        depth -= kind in ("MappingEndEvent", "SequenceEndEvent")
        deepest = max(deepest, depth)
        if deepest > _MAX_DEPTH:
            break
    return deepest


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Values that a yaml node stands for, aliases written out; an alias of itself counts as too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MAX_NODES + 1  # met again within itself
    value, total = node.value, 1
    if isinstance(value, list):
        for each in value:
            total += sum(_expanded(part, known) for part in each) if isinstance(each, tuple) else _expanded(each, known)
    known[id(node)] = total
    return total


def _check_keys(root: Any, path: str | Path) -> None:
    """Refuses keys that are no words, and those that a mapping has twice."""
    waiting, seen = [("", root)], set[int]()
    while waiting:
        prefix, node = waiting.pop()
        if id(node) in seen or not isinstance(node.value, list):
            continue
        seen.add(id(node))
        pairs = [each if isinstance(each, tuple) else (None, each) for each in node.value]
        names: set[str] = set()
        for number, (key, value) in enumerate(pairs):
            if key is not None and not isinstance(key.value, str):
                raise DataError(f"{path} line {key.start_mark.line + 1}: a key is a word, not a list or a mapping")
            name = str(number if key is None else key.value)
            if name in names and name != "<<":
                line = key.start_mark.line + 1
                raise DataError(f"{path} line {line}: duplicate key {prefix}{name}; give one of them another name")
            names.add(name)
            waiting.append((f"{prefix}{name}.", value))


def read_csv(path: str | Path, what: str = "csv file") -> list[tuple[int, list[str]]]:
    """Line numbers and cells of a csv file without its blank lines.

    Cells are separated by comma, semicolon or tab, whichever the first line has most of.

    Raises:
        DataError: See `read_text`; no valid csv, with the line.
    """
    text = read_text(path, what=what)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    limit = csv.field_size_limit(1 << 24)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: not valid csv ({error})") from None
    finally:
        csv.field_size_limit(limit)
    return [(number, cells) for number, cells in rows if any(cells)]


def whole_number(value: Any, place: str, what: str, low: int = 0, high: int = 2**53) -> int:
    """A whole number of a label file; `"7"` and `7.0` are 7, since tools write ids in all these ways.

    Args:
        value: What the file holds.
        place: Names the file and the entry in the message.
        what: What it is, such as "image_id".
        low: The least that is allowed.
        high: The greatest that is allowed.

    Raises:
        DataError: Not a whole number, or out of range.
    """
    number: Any = value
    if isinstance(value, str):
        try:
            number = int(value) if len(value) < 40 else None
        except ValueError:
            number = None
    elif isinstance(value, float):
        number = int(value) if math.isfinite(value) and value == int(value) else None
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise DataError(f"{place}: {what} is {shown(value)}; allowed is a whole number from {low} to {high}")
    return number


def real_number(value: Any, place: str, what: str) -> float:
    """A finite number of a label file; text that is a number counts.

    Raises:
        DataError: Not a number, or not finite.
    """
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{place}: {what} is {shown(value)}; allowed is a finite number")
    return number


def flag(value: Any, place: str, what: str) -> bool:
    """A flag of a label file: true, 1, "1", "true" or false, 0, "0", "false", "", null.

    Raises:
        DataError: Anything else.
    """
    text = str(value).strip().lower() if isinstance(value, (bool, int, float, str)) or value is None else "?"
    if text in ("true", "1", "1.0", "yes"):
        return True
    if text in ("false", "0", "0.0", "no", "", "none", "null"):
        return False
    raise DataError(f"{place}: {what} is {shown(value)}; allowed are 0 and 1")


def is_number(text: str) -> bool:
    """Whether a text is a number, `nan` and `inf` among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def finite_numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas or spaces between them; none where one of them is no finite number."""
    cells = text.replace(",", " ").split()
    numbers = tuple(float(cell) for cell in cells if is_number(cell))
    return numbers if len(numbers) == len(cells) and all(map(math.isfinite, numbers)) else ()


def object_at(value: Any, place: str, what: str = "entry") -> Mapping[str, Any]:
    """A json object.

    Raises:
        DataError: Anything else.
    """
    if not isinstance(value, dict):
        raise DataError(f"{place}: a json object is expected as {what}, not {shown(value)}")
    return value


def shown(value: Any, most: int = 60) -> str:
    """A value of a label file as a message shows it: on one line and not long."""
    try:
        text = repr(value) if isinstance(value, Hashable) else f"{type(value).__name__} {str(value)[:most]}"
    except (RecursionError, ValueError):
        text = type(value).__name__
    return text if len(text) <= most else text[:most] + "..."
