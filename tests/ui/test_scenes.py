from pathlib import Path

import pytest

from ui.cli import main


def test_options_of_clips_are_refused_for_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--clip-length", "--clip-blur"):
        assert main(["scenes", "--out", str(tmp_path / "out"), option, "3"]) == 2
        assert "give their number with --clips N" in capsys.readouterr().err


def test_writes_a_set_and_states_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert main(["scenes", "--out", str(out), "--count", "6", "--size", "40", "50", "--max-size", "60", "70"]) == 0
    printed = capsys.readouterr().out
    assert "6 scenes" in printed and "README.txt" in printed
    assert len(list((out / "images").rglob("*.jpg"))) == 6
    assert main(["scenes", "--out", str(out)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
