"""The one reader of text: marks, encodings, hostile content and values of wrong types, each predicted in one line."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from visionkit.errors import DataError
from visionkit.names import checked_name, normalized
from visionkit.text_files import flag, read_csv, read_json, read_lines, read_text, read_yaml, real_number, whole_number


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_not_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("ground\r\n\r\n café \n".encode(encoding))
    assert read_lines(path) == [(1, "ground"), (3, "café")]


def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"names.txt line 2: not UTF-8 text"):
        read_text(path)
    path.write_bytes(b"a\0b")
    with pytest.raises(DataError, match="zero bytes"):
        read_text(path)


def test_folders_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/zero"), "device"),
    ):
        with pytest.raises(DataError, match=said):
            read_text(path)
    with pytest.raises(DataError, match="no such label file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="over the limit"):
        (tmp_path / "large").write_text("x" * 100)
        read_text(tmp_path / "large", limit=10)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"a": ' + "9" * 5000 + "}", "nope", ""])
def test_broken_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json.*not valid json") as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_names_of_yaml_can_stay_as_they_are_written(tmp_path: Path) -> None:
    words = ["no", "1e3", "null", "0x1F", "12:30", "on", "~", "2024-01-01", "1_000", "=", "NaN"]
    (tmp_path / "a.yaml").write_text("names: [" + ", ".join(words) + "]\n")
    assert read_yaml(tmp_path / "a.yaml", as_text=True) == {"names": words}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a [*a]",
        "a: [",
        "? [1, 2]\n: x\n? {a: b}\n: y",
        "a: !!python/object/apply:os.system [ls]",
        "[" * 20_000,
        "a: 2024-99-99",
        "\t- x",
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_hostile_yaml_is_one_line(tmp_path: Path, text: str, as_text: bool) -> None:
    (tmp_path / "a.yaml").write_text(text)
    try:
        read_yaml(tmp_path / "a.yaml", as_text=as_text)
    except DataError as error:
        assert "a.yaml" in str(error) and "\n" not in str(error)


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with pytest.raises(DataError, match="aliases stand for over"):
        read_yaml(tmp_path / "a.yaml")


def test_csv_of_any_separator_with_long_fields(tmp_path: Path) -> None:
    for mark in ",;\t":
        (tmp_path / "a.csv").write_bytes(f"\ufeffpath{mark}label\r\n\r\na.jpg{mark}{'x' * 200_000}\r\n".encode())
        rows = read_csv(tmp_path / "a.csv")
        assert rows[0] == (1, ["path", "label"]) and rows[1][0] == 3 and len(rows[1][1][1]) == 200_000


@pytest.mark.parametrize("value", [7, "7", 7.0, " 7 "])
def test_whole_numbers_in_all_the_ways_tools_write_them(value: Any) -> None:
    assert whole_number(value, "a.json", "image_id") == 7


@pytest.mark.parametrize("value", [True, None, "x", 7.5, math.nan, math.inf, [7], {}, -1, 10**400, "9" * 5000, "7.0x"])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"a\.json: image_id is .*; allowed is a whole number"):
        whole_number(value, "a.json", "image_id")


@pytest.mark.parametrize("value", [True, None, "x", math.nan, [1.0], 10**400, "inf"])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="allowed is a finite number"):
        real_number(value, "a.json", "x")
    assert real_number("1e3", "a.json", "x") == 1000


def test_flags_in_all_the_ways_tools_write_them() -> None:
    assert [flag(v, "a", "iscrowd") for v in (0, "0", False, "false", "", None, 0.0)] == [False] * 7
    assert [flag(v, "a", "iscrowd") for v in (1, "1", True, "True", 1.0)] == [True] * 5
    with pytest.raises(DataError, match="allowed are 0 and 1"):
        flag("maybe", "a", "iscrowd")


def test_names_have_one_form() -> None:
    assert normalized("cafe\u0301 ") == "café"
    assert checked_name(7, "a", "class name") == "7"
    for wrong in ("", " ", "\ufeffground", "a\x00b", "a\u202eb", None, True, 1.5, ["a"]):
        with pytest.raises(DataError, match="class name"):
            checked_name(wrong, "a.json", "class name")
