"""The harness's logic, and that rows run; nothing here is timed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as every_row
from benchmarks import (
    augmentation_ablation,
    detectors_compared,
    experiments,
    row02_train_transform,
    row15_gpu_training,
    sets,
    timing,
    transfer_learning,
)
from benchmarks.experiments import finished, interval, keep, table
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from visionkit.images import read_image


def scripted(seconds: list[float]) -> timing.Arm:
    """An arm whose runs take what is written down, without taking it."""
    left = iter(seconds)

    def arm(watch: Stopwatch) -> None:
        watch.seconds = next(left)

    return arm


def test_quartiles() -> None:
    values = Quartiles.of([4.0, 1.0, 2.0, 3.0, 5.0])
    assert values == (2.0, 3.0, 4.0) and values.spread == pytest.approx(2 / 3) and not values.tight
    assert Quartiles.of([2.0]) == (2.0, 2.0, 2.0) and Quartiles.of([2.0]).tight


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is twice as slow in the second round; the ratio does not see it.
    arms = {"a": scripted([0.0, 1.0, 2.0]), "b": scripted([0.0, 3.0, 6.0])}
    times = timing.measure(arms, rounds=2, warmup=1)
    assert times.seconds == {"a": [1.0, 2.0], "b": [3.0, 6.0]}
    assert times.ratio("b", "a") == (3.0, 3.0, 3.0) and times.speed("b", "a").median == pytest.approx(1 / 3)
    assert times.per_unit("b", 2, minus="a").median == pytest.approx((1 + 2) / 2)


def test_a_wide_block_is_discarded_and_said() -> None:
    said: list[str] = []
    arms = {"a": scripted([1.0] * 8), "b": scripted([1.0, 9.0, 1.0, 9.0, 2.0, 2.0, 2.0, 2.0])}
    times = timing.measure(arms, rounds=4, warmup=0, attempts=3, say=said.append)
    assert times.discarded == 1 and times.ok and times.ratio("b", "a").median == 2.0
    assert len(said) == 1 and "discarded a block of 4 rounds" in said[0]


def test_the_last_block_stands_and_shows_its_spread(capsys: pytest.CaptureFixture[str]) -> None:
    arms = {"a": scripted([1.0] * 8), "b": scripted([1.0, 9.0] * 4)}
    times = timing.measure(arms, rounds=4, warmup=0, attempts=2)
    assert times.discarded == 1 and not times.ok
    report = Report(1, "title")
    report.add("b over a", times.ratio("b", "a"), Goal(2.0), times=times)
    assert report.lines[0].verdict.startswith("no result: quartiles spread over")
    assert "[1 blocks discarded]" in capsys.readouterr().out


def test_every_arm_runs_once_a_round_in_changing_order() -> None:
    order: list[str] = []
    arms = {name: (lambda watch, name=name: order.append(name)) for name in "abc"}  # type: ignore[misc]
    timing.measure(arms, rounds=12, warmup=0, attempts=1)
    rounds = ["".join(order[i : i + 3]) for i in range(0, 36, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds) and len(set(rounds)) > 1


def test_verdicts() -> None:
    assert Goal(0.8).verdict(0.8) == "reached" and Goal(0.8).verdict(0.6) == "missed by 25.0%"
    assert Goal(450, "at most").verdict(450) == "reached" and Goal(450, "at most").verdict(540) == "missed by 20.0%"


def test_stopwatch_counts_between_start_and_stop() -> None:
    watch = Stopwatch("wall")
    watch.start()
    measured = watch.stop()
    assert watch.finish() == measured >= 0


def test_every_row_is_listed_and_has_its_goals_in_the_readme() -> None:
    assert sorted(every_row.rows()) == [*range(1, 21)]
    readme = (Path(every_row.__file__).parent / "README.md").read_text("utf-8")
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", readme, re.MULTILINE)} == set(every_row.rows())


def test_a_cheap_row_runs_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.jsonl"
    arguments = ["--quick", "--rounds", "1", "--json", str(out)]
    assert timing.main(row02_train_transform.run, argv=arguments) == 0
    (line,) = out.read_text("utf-8").splitlines()
    result = json.loads(line)
    assert result["row"] == 2 and [each["goal"] for each in result["lines"]].count("at least 0.8") == 1
    assert "torch" in result["machine"] and "goal at least 0.8x" in capsys.readouterr().out
    assert "| 2 | 500x375: ours over decoding | at least 0.8 |" in every_row.table([result])


def test_the_gpu_row_states_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    report = row15_gpu_training.run(Options(quick=True))
    assert report.skipped == "no CUDA device on this machine"
    assert "skipped: no CUDA device" in every_row.table([report.as_dict()])


def test_images_without_real_data_are_scikit_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONKIT_DATA", str(tmp_path))
    files, message = jpegs((64, 48), 7)
    assert message == "scikit-image's photos" and len(files) == 7
    assert {read_image(data).shape for data in files} == {(48, 64, 3)}


# ---------------------------------------------------------------------- experiments


def test_an_interval_is_student_s() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.303 / 3**0.5, rel=1e-4)
    assert interval([5.0])[0] == 5.0 and interval([5.0])[1] != interval([5.0])[1], "one value has no interval"


def test_cells_are_kept_and_tabulated(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "cells.jsonl"
    assert finished(file) == []
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        keep(file, {"set": "a", "mode": "x", "seed": seed, "metric": "top1", "value": value})
    keep(file, {"set": "a", "mode": "y", "seed": 0, "metric": "top1", "value": 0.25})
    lines = table(finished(file), ["x", "y", "z"]).splitlines()
    assert lines[0] == "| set | metric | seeds | x | y | z |"
    assert lines[2] == "| a | top1 | 0 to 3 | 60.0 ± 24.8 | 25.0 |  |"


def test_a_matrix_skips_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[str, int]] = []

    def cell(prepared: object, mode: str, seed: int, **how: object) -> dict[str, object]:
        made.append((mode, seed))
        return {"mode": mode, "seed": seed, "metric": "top1", "value": 0.5, "seconds": 1.0}

    monkeypatch.setattr(transfer_learning, "cell", cell)
    monkeypatch.setattr(experiments, "SETS", {"flowers17": lambda root: None})
    given = ["--data", str(tmp_path), "--out", str(tmp_path / "cells.jsonl"), "--seeds", "0"]
    assert transfer_learning.main([*given, "--modes", "frozen"]) == 0
    assert transfer_learning.main([*given, "--modes", "frozen", "adapters"]) == 0
    assert made == [("frozen", 0), ("adapters", 0)]
    assert "| flowers17 | top1 | 1 | 50.0 | 50.0 |" in capsys.readouterr().out


def test_a_set_has_the_arms_that_suit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[object, ...]] = []

    def cell(*given: object, **how: object) -> dict[str, object]:
        made.append(given)
        return {"metric": "ap50", "value": 0.5, "seconds": 1.0}

    for name in ("bccd", "nuclei", "scenes", "penn_fudan"):
        monkeypatch.setattr(sets, name, lambda root: None)
    for module in (augmentation_ablation, detectors_compared):
        monkeypatch.setattr(module, "cell", cell)
    given = ["--data", str(tmp_path), "--seeds", "0"]
    assert augmentation_ablation.main([*given, "--out", str(tmp_path / "a.jsonl"), "--epochs", "1"]) == 0
    assert [(each[0], each[2]) for each in made] == [
        (name, arm) for name, arms in augmentation_ablation.ARMS.items() for arm in arms
    ]
    assert "| nuclei | ap50 | 0 to 1 | 50.0 |  |  |  | 50.0 |" in capsys.readouterr().out
    made.clear()
    arguments = [*given, "--out", str(tmp_path / "d.jsonl"), "--minutes", "1.5", "--only", "bccd"]
    assert detectors_compared.main(arguments) == 0
    assert made == [(None, arm, 0, "90s", None) for arm in ("fcos", "faster_rcnn", "dfine")]


def test_arms_of_the_ablation_are_augmentations() -> None:
    for name, arms in augmentation_ablation.ARMS.items():
        assert tuple(augmentation_ablation.AUGMENT[name]()) == arms
    assert set(detectors_compared.ARMS) == set(sets.DETECTORS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", sorted(every_row.rows()))
def test_every_row_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert every_row.main(["--rows", str(number), "--quick"]) == 0, capsys.readouterr().err
