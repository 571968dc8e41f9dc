"""Shards hold what their source gives, bit for bit, in its order, here and behind an address."""

from __future__ import annotations

import http.server
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.clip_data import ClipData
from datamodules.folders import FolderData
from datamodules.generated_patches import GeneratedPatchData
from datamodules.identities import IdentityData
from datamodules.opening import open_data
from datamodules.pair_scenes import PairSceneData
from datamodules.scene_data import SceneData
from datamodules.shard_format import SHARDS, pack, unpack
from datamodules.shard_store import Files
from datamodules.shard_writer import write_shards
from datamodules.shards import ShardData
from ui.cli import main
from visionkit.brightness import choose_white
from visionkit.crops import PersonCrop
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.masks import MaskSet
from visionkit.synthetic import ClipSettings
from visionkit.types import Sample

INPUT = InputSpec(size=(32, 32))


def image_folders(root: Path, classes: dict[str, int]) -> Path:
    """Class folders of small JPEG files of noise."""
    rng = np.random.default_rng(0)
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for k in range(number):
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(root / name / f"{k}.jpg")
    return root


def equal(a: Any, b: Any) -> bool:
    """Whether two targets hold the same values of the same types."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, MaskSet):
        return isinstance(b, MaskSet) and a.size == b.size and a.rles == b.rles
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def written(data: Any, out: Path, **options: Any) -> ShardData:
    write_shards(data, out, **options)
    return ShardData(str(out), input=data.input or INPUT)


@pytest.mark.parametrize("target", ["labels", "presence", "boxes", "masks", "label_map", "keypoints", "depth"])
def test_a_sample_of_every_task_comes_back_bit_for_bit(target: str, tmp_path: Path) -> None:
    data = SceneData(target=target, count=3, eval_count=1, size=(48, 64), input=INPUT)
    shards = written(data, tmp_path / "shards")
    for split in ("train", "val", "test"):
        ours, theirs = shards.samples(split), data.samples(split)
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            assert equal(mine.target, its.target) and (mine.id, mine.view) == (its.id, its.view)
            assert np.array_equal(mine.image.read(), its.image.read())
    assert shards.classes == data.classes
    if target == "keypoints":
        assert shards.skeleton == data.skeleton


@pytest.mark.parametrize("data", [
    PairSceneData(target="disparity", count=2, eval_count=1, clip=ClipSettings(size=(48, 64)), input=INPUT),
    ClipData(target="motion", count=1, eval_count=1, clip=ClipSettings(size=(48, 64), length=3), input=INPUT),
], ids=["pairs", "clips"])  # fmt: skip
def test_several_inputs_and_sequences_come_back(data: Any, tmp_path: Path) -> None:
    shards = written(data, tmp_path / "shards")
    for mine, its in zip(shards.samples("train"), data.samples("train"), strict=True):
        assert list(mine.inputs) == list(its.inputs) and equal(mine.target, its.target)
        assert (mine.sequence, mine.frame) == (its.sequence, its.frame)
        for name in its.inputs:
            assert np.array_equal(mine.inputs[name].read(), its.inputs[name].read())  # type: ignore[union-attr]
    assert hasattr(shards.samples("train"), "sequences") == hasattr(data.samples("train"), "sequences")
    if hasattr(data.samples("train"), "sequences"):
        assert list(shards.samples("train").sequences()) == list(data.samples("train").sequences())  # type: ignore[attr-defined]


def test_training_batches_are_those_of_the_folder_also_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    root = image_folders(tmp_path / "photos", {"cat": 6, "dog": 5})
    options: dict[str, Any] = {"input": INPUT, "batch_size": 2, "seed": 3}
    folder = FolderData(str(root), val_fraction=0.3, **options)
    written(folder, tmp_path / "shards", shard_mb=1)
    shards = ShardData(str(tmp_path / "shards"), **options)
    for epoch in (0, 1):
        loaders = [data.train_dataloader() for data in (folder, shards)]
        for loader in loaders:
            loader.load_state_dict({"epoch": epoch, "seen": [], "over": False})  # type: ignore[attr-defined]
        for a, b in zip(*loaders, strict=True):
            assert a["id"] == b["id"] and torch.equal(a["inputs"]["image"], b["inputs"]["image"])
            assert torch.equal(a["target"]["labels"], b["target"]["labels"])
    assert shards.summary("train").classes == folder.summary("train").classes


def test_a_shard_is_a_tar_archive_of_the_files_as_they_were(tmp_path: Path) -> None:
    root = image_folders(tmp_path / "photos", {"cat": 2})
    written(FolderData(str(root), val_fraction=0.0), tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "train-00000.tar") as archive:
        names = archive.getnames()
        first = archive.extractfile(next(name for name in names if ".image." in name))
        assert first is not None and first.read() == sorted(root.rglob("*.*"))[0].read_bytes()
    assert len(names) == 4 and sum(name.endswith(".json") for name in names) == 2


def test_shards_are_cut_by_size_and_damage_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = SceneData(target="labels", count=3, eval_count=1, size=(512, 512), input=INPUT)
    noise = [
        Sample.of(ImageSource(rng.integers(0, 256, (512, 700, 3), dtype=np.uint8)), {"labels": 1}, f"{k}")
        for k in range(3)
    ]
    drawn = data.dataset
    data.dataset = lambda split: noise if split == "train" else drawn(split)  # type: ignore[method-assign]
    shards = written(data, tmp_path / "shards", shard_mb=1)
    assert len(list((tmp_path / "shards").glob("train-*.tar"))) == 3
    assert all(
        np.array_equal(a.image.read(), b.image.read()) for a, b in zip(shards.samples("train"), noise, strict=True)
    )
    path = tmp_path / "shards" / "train-00001.tar"
    path.write_bytes(path.read_bytes()[:700_000] + b"xx" + path.read_bytes()[700_002:])
    again = ShardData(str(tmp_path / "shards"), input=INPUT).samples("train")
    assert again[0].id == "0"
    with pytest.raises(DataError, match=r"train-00001.tar: damaged at byte 0 \(checksum\)"):
        again[1]


def test_floats_and_16_bits_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for pixels in (rng.random((5, 6, 3), np.float32) * 4 - 1, rng.integers(0, 65536, (5, 6), dtype=np.uint16)):
        back = unpack(pack(Sample.of(ImageSource(pixels, white=1000.0)), 0)).image
        assert back.white == 1000 and np.array_equal(back._source, pixels)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    ranges = True

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path))
        if not content.is_file():
            self.send_error(404)
            return
        type(self).asked.append(self.path)
        found, wanted = content.read_bytes(), self.headers.get("Range") if self.ranges else None
        first, last = (
            (int(each) for each in wanted.removeprefix("bytes=").split("-")) if wanted else (0, len(found) - 1)
        )
        body = found[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(found)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, FolderData]]:
    """Shards behind an address."""
    root = image_folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    data = FolderData(str(root), val_fraction=0.0, input=INPUT, batch_size=2, seed=1)
    write_shards(data, tmp_path / "shards")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(tmp_path / "shards")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Ranges.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}", data
    server.shutdown()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_address_gives_the_same_batches_and_what_is_kept_is_not_asked_again(
    workers: int, served: tuple[str, FolderData], tmp_path: Path
) -> None:
    address, folder = served
    kept: dict[str, Any] = {"cache": str(tmp_path / "kept"), "num_workers": workers}
    data = ShardData(address, input=INPUT, batch_size=2, seed=1, **kept)
    for a, b in zip(folder.train_dataloader(), data.train_dataloader(), strict=True):
        assert a["id"] == b["id"] and torch.equal(a["inputs"]["image"], b["inputs"]["image"])
    asked = sum(path.endswith(".tar") for path in _Ranges.asked)
    assert asked == 8
    again = ShardData(address, input=INPUT, batch_size=2, seed=1, **kept)
    assert len(list(again.train_dataloader())) == 4
    assert sum(path.endswith(".tar") for path in _Ranges.asked) == asked, "they were on this machine"


def test_the_cache_holds_no_more_than_its_bound(served: tuple[str, FolderData], tmp_path: Path) -> None:
    address, _ = served
    size = json.loads((tmp_path / "shards" / SHARDS).read_text())["splits"]["train"]["bytes"]
    data = ShardData(address, input=INPUT, cache=str(tmp_path / "kept"), cache_gb=size / 2 / 2**30)
    for _ in range(2):
        assert len(list(data.samples("train"))) == 8
    (file,) = (tmp_path / "kept").glob("*.samples")
    assert 0 < file.stat().st_size <= size / 2
    assert 8 < sum(path.endswith(".tar") for path in _Ranges.asked) < 16


def test_what_no_shard_can_hold_is_refused(tmp_path: Path) -> None:
    root = image_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    with pytest.raises(UsageError, match=r"people by identity in a \.rec file"):
        write_shards(IdentityData(str(root), per_identity=2, min_images=1), tmp_path / "a")
    with pytest.raises(UsageError, match="drawn again in each epoch"):
        write_shards(GeneratedPatchData(scenes=2, patch_size=16, patches_per_image=2, input=INPUT), tmp_path / "b")
    with pytest.raises(UsageError, match="its pixels are changed"):
        pack(Sample.of(ImageSource(np.zeros((4, 4, 3), np.uint8)), photometric=lambda image: image), 0)


def _absent(*given: Any, **options: Any) -> None:
    raise ImportError("Install s3fs to access S3")


def test_faults_are_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such file; `visionkit convert DATA --to shards --out DIR` writes shards"):
        ShardData(str(tmp_path))
    with pytest.raises(EnvironmentFault, match="nowhere://bucket"):
        ShardData("nowhere://bucket/photos")
    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault, match=r"pip install 'visionkit\[cloud\]'"):
        patch.setattr("fsspec.filesystem", _absent)
        ShardData("s3://bucket/photos")
    data = SceneData(target="boxes", count=1, eval_count=1, input=INPUT)
    shards = written(data, tmp_path / "shards")
    with pytest.raises(UsageError, match="number their labels in the order"):
        ShardData(str(tmp_path / "shards"), classes=[*shards.classes[::-1]])
    facts = json.loads((tmp_path / "shards" / SHARDS).read_text())
    del facts["splits"]["test"]
    (tmp_path / "shards" / SHARDS).write_text(json.dumps(facts))
    with pytest.raises(DataError, match="no test split, only train, val"):
        ShardData(str(tmp_path / "shards")).samples("test")
    (tmp_path / "shards" / SHARDS).write_text(json.dumps(facts | {"version": 9}))
    with pytest.raises(DataError, match="shards of version 9"):
        ShardData(str(tmp_path / "shards"))


def test_the_command_writes_what_a_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = image_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    out = tmp_path / "shards"
    assert main(["convert", str(root), "--to", "shards", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"6 samples (6 train): {out}\n"
    assert isinstance(open_data(out), ShardData)
    for arguments, words in (
        ([str(root), "--to", "shards", "--out", str(out)], "not an empty folder"),
        (["--to", "coco", "--out", str(tmp_path / "coco")], "give SOURCE"),
        (["--to", "shards", "--out", str(tmp_path / "none")], "name the data"),
        (["--data", "FolderData", "--to", "coco", "--out", str(tmp_path / "coco")], "belong to --to shards"),
    ):
        assert main(["convert", *arguments]) == UsageError.status
        assert words in capsys.readouterr().err


def test_splits_are_made_while_shards_are_written_and_other_options_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    out = tmp_path / "shards"
    assert main(["convert", str(root), "--to", "shards", "--val_fraction", "0.25", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"8 samples (6 train, 2 val): {out}\n"
    for arguments, words in (
        ([str(root), "--to", "shards", "--images", "a"], "--images: belongs to formats of objects"),
        (
            ["--data", "FolderData", "--data.root", str(root), "--to", "shards", "--val_fraction", "0.1"],
            "--data.val_fraction",
        ),
        ([str(root), "--to", "coco", "--shard_mb", "3"], "belong to --to shards"),
    ):
        assert main(["convert", *arguments, "--out", str(tmp_path / "none")]) == UsageError.status
        assert words in capsys.readouterr().err


def test_a_split_that_cannot_be_read_is_not_left_out(tmp_path: Path) -> None:
    data = SceneData(target="labels", count=1, eval_count=1, input=INPUT)

    drawn = data.dataset

    def dataset(split: Any) -> Any:
        if split == "val":
            raise DataError("labels.json: cannot be read")
        return drawn(split)

    data.dataset = dataset  # type: ignore[method-assign, assignment]
    with pytest.raises(DataError, match=r"labels\.json: cannot be read"):
        write_shards(data, tmp_path / "shards")


def test_white_is_that_of_the_files_wherever_they_are_now(tmp_path: Path) -> None:
    root, rng = tmp_path / "photos" / "cat", np.random.default_rng(0)
    root.mkdir(parents=True)
    for k in range(3):  # 12 bits
        Image.fromarray(rng.integers(0, 4096, (16, 16), dtype=np.uint16)).save(root / f"{k}.png")
    data = FolderData(str(tmp_path / "photos"), val_fraction=0.0, cache_mb=0, input=INPUT)
    expected = choose_white(data.training_images())
    write_shards(data, tmp_path / "shards")
    shutil.rmtree(root)
    assert expected == 4095 == choose_white(ShardData(str(tmp_path / "shards"), input=INPUT).training_images())


def test_people_who_were_cut_out_are_for_models_of_that_crop(tmp_path: Path) -> None:
    crop = PersonCrop()
    data = SceneData(target="keypoints", count=1, eval_count=1, size=(96, 96), crop=crop, input=INPUT)
    write_shards(data, tmp_path / "shards")
    assert len(ShardData(str(tmp_path / "shards"), crop=crop, input=INPUT).samples("train"))
    with pytest.raises(UsageError, match="were cut out by"):
        ShardData(str(tmp_path / "shards"), input=INPUT)


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.shard_store._OPEN", 2)
    for name in "abc":
        (tmp_path / name).write_text(name * 9)
    files = Files(str(tmp_path))
    assert [files.part(name, 2, 3) for name in "abcab"] == [b"aaa", b"bbb", b"ccc", b"aaa", b"bbb"]
    assert len(files._opened) == 2


def test_a_server_without_byte_ranges_is_named(served: tuple[str, FolderData], monkeypatch: pytest.MonkeyPatch) -> None:
    address, _ = served
    samples = ShardData(address, input=INPUT).samples("train")
    monkeypatch.setattr(_Ranges, "ranges", False)
    with pytest.raises(EnvironmentFault, match="gives whole files"):
        samples[0]


def test_frames_are_kept_once_and_clips_are_made_of_them(tmp_path: Path) -> None:
    spec = InputSpec(size=(32, 32), frames=3)
    data = ClipData(
        target="motion", count=1, eval_count=1, clip=ClipSettings(size=(48, 64), length=4), input=spec, batch_size=1
    )
    write_shards(data, tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "val-00000.tar") as archive:
        images = [name for name in archive.getnames() if not name.endswith((".json", ".npz"))]
    shards = ShardData(str(tmp_path / "shards"), input=spec)
    ours, theirs = shards.samples("val"), data.samples("val")
    assert len(images) == len(ours) == len(theirs) == 4
    for mine, its in zip(ours, theirs, strict=True):
        (a,), (b,) = mine.inputs.values(), its.inputs.values()
        assert all(np.array_equal(x.read(), y.read()) for x, y in zip(a.frames, b.frames, strict=True))  # type: ignore[union-attr]
