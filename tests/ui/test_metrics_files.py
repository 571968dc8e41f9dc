"""Metrics of processes that ended: added up in one file each, exactly, whatever was in them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from ui.server import metrics_files
from ui.server.metrics_files import ENDED, locked, merge_ended

PROCESS = 1000


def written(folder: Path, process: int, seed: int, models: int = 3) -> None:
    """Files of a process as the library writes them, with random numbers."""
    rng = np.random.default_rng(seed)
    counters, times = (
        MmapedDict(str(folder / f"counter_{process}.db")),
        MmapedDict(str(folder / f"histogram_{process}.db")),
    )
    for model in rng.choice(10, models, replace=False):
        labels = ["model", "status"], [f"m{model}", "200"]
        counters.write_value(
            mmap_key("requests", "requests_total", *labels, "Requests."), float(rng.integers(1, 99)), 0
        )
        for end in ("0.1", "1.0", "+Inf"):
            key = mmap_key("seconds", "seconds_bucket", ["model", "le"], [f"m{model}", end], "Seconds.")
            times.write_value(key, float(rng.integers(0, 9)), 0)
        times.write_value(mmap_key("seconds", "seconds_sum", ["model"], [f"m{model}"], "Seconds."), rng.random(), 0)
    for mode in ("livesum", "livemax", "sum", "max", "min"):
        gauge = MmapedDict(str(folder / f"gauge_{mode}_{process}.db"))
        gauge.write_value(mmap_key(mode, mode, [], [], "A gauge."), float(rng.integers(1, 99)), 0)
        gauge.close()
    counters.close()
    times.close()


def text(folder: Path, live: bool = False) -> dict[str, float]:
    """What a reader gets, by series."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    return {name: value for name, value in found.items() if live or not name.startswith("live")}


def test_sums_stay_and_the_folder_does_not_grow(tmp_path: Path) -> None:
    written(tmp_path, 1, 0)  # lives on
    for number in range(20):
        written(tmp_path, PROCESS + number, number + 1)
        before = text(tmp_path)
        assert merge_ended(tmp_path, PROCESS + number) == []
        assert text(tmp_path) == pytest.approx(before, abs=1e-9)
        assert len(before) > 10
        names = {path.name for path in tmp_path.glob("*.db")}
        assert not any(name.endswith(f"_{PROCESS + number}.db") for name in names)
        merged = {f"{name}_{ENDED}.db" for name in ("counter", "histogram", "gauge_sum", "gauge_max", "gauge_min")}
        assert names == merged | {path.name for path in tmp_path.glob("*_1.db")}
    assert sum(path.stat().st_size for path in tmp_path.glob(f"*_{ENDED}.db")) < 20_000
    alone = text(tmp_path, live=True)
    live = MmapedDict.read_all_values_from_file(str(tmp_path / "gauge_livesum_1.db"))
    assert alone["livesum"] == next(value for _, value, *_ in live), "of the living alone"


def test_new_series_above_the_limit_are_counted_as_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_files, "SERIES", 4)
    for number in range(6):
        written(tmp_path, PROCESS + number, number)
    before = text(tmp_path)
    for number in range(6):
        merge_ended(tmp_path, PROCESS + number)
    after = text(tmp_path)
    for name in ("requests_total", "seconds_sum", "seconds_count"):
        total, series = (
            [sum(v for k, v in each.items() if k.startswith(name)) for each in (before, after)],
            [name for name in after if name.startswith("requests_total")],
        )
        assert total[0] == pytest.approx(total[1])
    assert len(series) == 5 and 'requests_total{model="other",status="other"}' in series


@pytest.mark.parametrize("damage", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00aaaaaaaaaaaa"])
def test_a_damaged_file_is_named_and_does_not_stay(damage: bytes, tmp_path: Path) -> None:
    """A process may be killed after it has made the file and before it has written its first bytes."""
    written(tmp_path, PROCESS, 1)
    (tmp_path / f"counter_{PROCESS}.db").write_bytes(damage)
    assert merge_ended(tmp_path, PROCESS) == [f"counter_{PROCESS}.db"]
    assert text(tmp_path) and not list(tmp_path.glob(f"*_{PROCESS}.db"))


def test_a_full_disk_leaves_every_count_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, PROCESS, 1)
    before = text(tmp_path)

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "no space left on the device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        merge_ended(tmp_path, PROCESS)
    assert text(tmp_path) == before
    assert not list(tmp_path.glob("gauge_live*")), "what it had running is over"


def test_nobody_reads_between_the_two_files(tmp_path: Path) -> None:
    """A reader sees a count once, however often processes end meanwhile."""
    for number in range(40):
        written(tmp_path, PROCESS + number, number)
    expected, seen = text(tmp_path), []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with locked(tmp_path):
                seen.append(sum(v for name, v in text(tmp_path).items() if name.startswith("requests_total")))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        merge_ended(tmp_path, PROCESS + number)
    over.set()
    reader.join()
    assert set(seen) == {sum(v for name, v in expected.items() if name.startswith("requests_total"))}


def test_keys_are_those_of_the_library() -> None:
    key = mmap_key("a", "a_total", ["z", "model"], ["1", "x"], "Text.")
    assert metrics_files._as_other(key) == mmap_key("a", "a_total", ["z", "model"], ["other", "other"], "Text.")
    assert json.loads(key)[0] == metrics_files._series(key)[0]
