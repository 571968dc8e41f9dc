import io
import pickle
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.augmentation import ClassificationAugment
from datamodules.folders import FolderData, list_labeled
from datamodules.zips import ZipStore
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec((32, 32), crop_fraction=1.0)


def image(path: Path, seed: int, size: tuple[int, int] = (20, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def class_folders(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for k in range(count):
            image(root / name / f"{k:03d}.png", start + 1000 * number + k)
    return root


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "photos", {"cat": 20, "dog": 10, "owl": 3})


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    class_folders(root / "train", {"cat": 8, "dog": 6})
    class_folders(root / "val", {"cat": 3, "dog": 2}, 10_000)
    class_folders(root / "test", {"cat": 2, "dog": 2}, 20_000)
    return root


def pack(folder: Path, archive: Path, top: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(archive, "w", method) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                out.write(path, top + path.relative_to(folder).as_posix())
        out.writestr("__MACOSX/train/cat/._000.png", b"junk")
    return archive


def ids(data: FolderData, split: str) -> list[str]:
    return [sample.id for sample in data.samples(split)]  # type: ignore[arg-type]


def test_a_fraction_is_split_off_class_by_class(flat: Path) -> None:
    data = FolderData(str(flat), val_fraction=0.2, test_fraction=0.1)
    assert data.classes == ("cat", "dog", "owl")
    labels = {s: [int(x.target["labels"]) for x in data.samples(s)] for s in ("train", "val", "test")}  # type: ignore[arg-type]
    assert {s: np.bincount(v, minlength=3).tolist() for s, v in labels.items()} == {
        "train": [14, 7, 1],
        "val": [4, 2, 1],
        "test": [2, 1, 1],
    }
    everything = [name for split in ("train", "val", "test") for name in ids(data, split)]
    assert len(set(everything)) == len(everything) == 33


def test_the_split_depends_on_its_own_seed_alone(flat: Path) -> None:
    first = ids(FolderData(str(flat), val_fraction=0.3, seed=1), "val")
    assert first == ids(FolderData(str(flat), val_fraction=0.3, seed=2), "val")
    assert first == ids(FolderData(str(flat), val_fraction=0.3, classes=["owl", "dog", "cat"]), "val")
    assert first != ids(FolderData(str(flat), val_fraction=0.3, split_seed=1), "val")


def test_split_folders_are_used_as_they_are(parted: Path) -> None:
    data = FolderData(str(parted), val_fraction=0.5)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [14, 5, 4]  # type: ignore[arg-type]
    shutil.rmtree(parted / "val")
    data = FolderData(str(parted), val_fraction=0.5)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [7, 7, 4]  # type: ignore[arg-type]
    assert all("/test/" in name for name in ids(data, "test"))
    assert all("/train/" in name for name in ids(data, "val"))


@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_what_the_folder_gives(parted: Path, tmp_path: Path, top: str, method: int) -> None:
    archive = pack(parted, tmp_path / "photos.zip", top, method)
    folder, packed = FolderData(str(parted)), FolderData(str(archive))
    assert packed.classes == folder.classes
    for split in ("train", "val", "test"):
        for a, b in zip(folder.samples(split), packed.samples(split), strict=True):  # type: ignore[arg-type]
            assert (a.image.read() == b.image.read()).all() and a.target["labels"] == b.target["labels"]
    assert ids(packed, "val")[0] == f"{archive}/{top}val/cat/000.png"


def test_a_flat_zip(flat: Path, tmp_path: Path) -> None:
    data = FolderData(str(pack(flat, tmp_path / "flat.zip")), val_fraction=0.2)
    assert data.classes == ("cat", "dog", "owl") and len(data.samples("train")) == 26


def test_one_folder_around_everything_is_looked_through(flat: Path, tmp_path: Path) -> None:
    outer = tmp_path / "unpacked"
    outer.mkdir()
    flat.rename(outer / "dataset")
    assert FolderData(str(outer)).classes == ("cat", "dog", "owl")


def test_configured_classes_are_checked_against_the_folders(flat: Path) -> None:
    with pytest.raises(
        DataError, match=r"dog: class 'dog' is not among data\.classes \(cat, dgo, owl\); did you mean 'dgo'"
    ):
        FolderData(str(flat), classes=["cat", "dgo", "owl"]).samples("train")
    assert len(FolderData(str(flat), classes=["emu", "owl", "dog", "cat"]).samples("train")) == 29


def test_a_class_that_training_lacks_is_reported(parted: Path) -> None:
    image(parted / "test" / "cats" / "000.png", 1)
    with pytest.raises(DataError, match=r"test/cats: class 'cats' .* did you mean 'cat'"):
        FolderData(str(parted)).samples("test")


def test_bad_folders(tmp_path: Path, flat: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        FolderData(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        FolderData(str(tmp_path / "empty"))
    (tmp_path / "texts" / "cat").mkdir(parents=True)
    (tmp_path / "texts" / "cat" / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="texts/cat: no images in this class folder"):
        FolderData(str(tmp_path / "texts")).samples("train")
    (flat / "dog" / "zero.jpg").touch()
    with pytest.raises(DataError, match=r"1 of 34 images are empty \(0 bytes\): dog/zero.jpg"):
        FolderData(str(flat)).samples("train")


def test_a_text_named_jpg_is_named(flat: Path) -> None:
    (flat / "dog" / "text.jpg").write_text("not an image")
    data = FolderData(str(flat), input=SPEC, cache_mb=0)
    with pytest.raises(DataError, match=r"dog/text.jpg: not an image"):
        for sample in data.samples("train"):
            sample.image.read()


def test_missing_splits_state_what_to_do(flat: Path) -> None:
    data = FolderData(str(flat), val_fraction=0)
    with pytest.raises(UsageError, match=r"no test split and data\.test_fraction is 0"):
        data.samples("test")
    with pytest.raises(UsageError, match=r"--data\.val_fraction 0\.1"):
        data.samples("val")
    with pytest.raises(UsageError, match="allowed is 0 up to"):
        FolderData(str(flat), val_fraction=1.5).samples("train")


def test_bad_archives(tmp_path: Path, flat: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(DataError, match="not a zip archive"):
        FolderData(str(tmp_path / "text.zip"))
    archive = pack(flat, tmp_path / "flat.zip")
    content = bytearray(archive.read_bytes())
    data = FolderData(str(archive), cache_mb=0)
    offset = int(data.samples("train").store.entries[0, 0])  # type: ignore[attr-defined]
    content[offset + 100] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"flat.zip/cat/000.png: the archive is damaged here \(checksum\)"):
        data.samples("train").store.source(0)  # type: ignore[attr-defined]


def test_zip_store_pickles(flat: Path, tmp_path: Path) -> None:
    archive = pack(flat, tmp_path / "flat.zip")
    store = ZipStore(archive, np.array([0, 5]))
    before = store.source(1).read()
    assert (pickle.loads(pickle.dumps(store)).source(1).read() == before).all()


def batches(data: FolderData, epoch: int) -> list[tuple[list[str], torch.Tensor]]:
    loader = data.loader("train")
    loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return [(batch["id"], batch["inputs"]["image"]) for batch in loader]


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_workers_and_cache_do_not_change_what_is_trained(flat: Path, cache_mb: int) -> None:
    augment = ClassificationAugment(crop="pad", brightness=0.4, hue=0.1, erasing=0.5, policy="randaugment")
    runs = [
        [
            batches(data, epoch)
            for data in [
                FolderData(str(flat), input=SPEC, num_workers=num_workers, augment=augment, batch_size=4, cache_mb=mb)
            ]
            for epoch in (0, 1)
        ]
        for num_workers, mb in ((0, 0), (2, cache_mb))
    ]
    for alone, shared in zip(*runs, strict=True):
        for (a_ids, a), (b_ids, b) in zip(alone, shared, strict=True):
            assert a_ids == b_ids and (a == b).all()
    first, second = (
        {name: x for names, image in epoch for name, x in zip(names, image, strict=True)} for epoch in runs[0]
    )
    common = first.keys() & second.keys()
    assert len(common) > 10 and all((first[name] != second[name]).any() for name in common)


def test_the_cache_decodes_each_image_once(flat: Path) -> None:
    data = FolderData(str(flat), input=SPEC)
    samples = data.samples("train")
    before = [sample.image.read().copy() for sample in samples]
    for path in flat.rglob("*.png"):
        path.unlink()
    assert all((sample.image.read() == pixels).all() for sample, pixels in zip(samples, before, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        samples[0].image.read()[0, 0, 0] = 1


def test_the_cache_keeps_its_budget(tmp_path: Path) -> None:
    root = tmp_path / "large"
    for k in range(4):
        image(root / "cat" / f"{k}.png", k, (400, 500))
    assert FolderData(str(root), cache_mb=1, val_fraction=0).samples("train").cache is None  # type: ignore[attr-defined]
    cache = FolderData(str(root), cache_mb=3, val_fraction=0).samples("train").cache  # type: ignore[attr-defined]
    assert cache is not None and cache.slot == 600_000


def test_an_image_larger_than_its_slot_is_served_too(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    for k in range(130):
        image(root / "cat" / f"{k:03d}.png", k, (30, 30) if k == 1 else (10, 10))
    samples = FolderData(str(root), val_fraction=0).samples("train")
    assert samples.cache.slot == 300  # type: ignore[attr-defined]
    assert [samples[1].image.read().shape for _ in range(2)] == [(30, 30, 3)] * 2


def test_gray_input_caches_gray(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "gray", {"cat": 3})
    data = FolderData(str(root), input=InputSpec((16, 16), channels=1), val_fraction=0)
    assert data.samples("train")[0].image.read(1).shape == (20, 24, 1)
    assert data.samples("train").cache.channels == 1  # type: ignore[attr-defined]


def test_cifar10_zip() -> None:
    path = str(real_data("classification/cifar10_jpg.zip"))
    classes = FolderData.discover_classes(root=path)
    assert classes == ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    data = FolderData(path, val_fraction=0.1, input=SPEC, num_workers=2, batch_size=64)
    sizes = [np.bincount([int(k) for k in data.samples(s).labels]) for s in ("train", "val", "test")]  # type: ignore[arg-type,attr-defined]
    assert [set(counts.tolist()) for counts in sizes] == [{4500}, {500}, {1000}]
    assert all("/train/" in sample.id for sample in data.samples("val")[:50])
    batch = next(iter(data.loader("test")))
    assert batch["inputs"]["image"].shape == (64, 3, 32, 32)
    with zipfile.ZipFile(path) as archive, Image.open(io.BytesIO(archive.read("test/airplane/0000.jpg"))) as first:
        difference = np.abs(np.asarray(first).astype(int) - batch["inputs"]["image"][0].permute(1, 2, 0).numpy())
    assert difference.max() <= 2  # decoders round differently


@pytest.mark.parametrize(
    "names",
    [("training_set", "validation_set", "test_set"), ("Training", "valid", "Testing"), ("train", "dev", "test")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_splits_by_any_of_their_names(tmp_path: Path, names: tuple[str, ...], packed: bool) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(names):
        class_folders(root / name, {"cat": 3 - number, "dog": 2}, 1000 * number)
    data = FolderData(str(pack(root, tmp_path / "photos.zip") if packed else root))
    assert data.classes == ("cat", "dog")
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [5, 4, 3]


def test_two_folders_of_one_split_are_refused(parted: Path) -> None:
    class_folders(parted / "valid", {"cat": 1})
    with pytest.raises(DataError, match="both mean the val split"):
        FolderData(str(parted)).samples("train")


def test_what_is_passed_over_is_counted(parted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/cat/.ipynb_checkpoints/a.png", "train/dog/._b.png", "train/stray.png", "extra/cat/c.png"):
        image(parted / name, 7)
    (parted / "train" / "cat" / "labels.txt").write_text("x")
    (parted / "train" / "cat" / "000.png").rename(parted / "train" / "cat" / "000.jfif")
    data = FolderData(str(parted))
    assert len(data.samples("train")) == 14
    summary = data.summary("train")
    assert summary.classes == {"cat": 8, "dog": 6} and summary.source == str(parted / "train")
    assert summary.passed_over == {
        "hidden": 2,
        "not an image (.txt)": 1,
        "in no split's folder": 1,
        "in no class folder": 1,
    }
    data.report(("train", "val"))
    said = capsys.readouterr().out
    assert "train  14 images" in said and "classes: cat 8, dog 6" in said and "passed over: 2 hidden" in said


def test_images_of_the_training_split_are_found_in_the_test_split(
    parted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(parted / "train" / "cat" / "001.png", parted / "test" / "cat" / "renamed.png")
    FolderData(str(parted)).report(("test",))
    assert "train and test share 1 of 5 images" in caplog.text


def test_accents_of_either_form_are_one_class(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    class_folders(root, {unicodedata.normalize("NFD", "café"): 3, "thé": 2})
    assert FolderData(str(root)).classes == ("café", "thé")
    data = FolderData(str(root), classes=["thé", unicodedata.normalize("NFD", "café")], val_fraction=0)
    assert sorted(int(sample.target["labels"]) for sample in data.samples("train")) == [0, 0, 1, 1, 1]


def test_the_class_can_be_part_of_the_name(tmp_path: Path) -> None:
    for k, name in enumerate(("cat_1.png", "cat_2.png", "dog.x_3.png", "README.png")):
        image(tmp_path / "flat" / name, k)
    data = FolderData(str(tmp_path / "flat"), class_pattern=r"^(?P<class>[a-z.]+)_\d+", val_fraction=0)
    assert data.classes == ("cat", "dog.x")
    assert data.summary("train").classes == {"cat": 2, "dog.x": 1}
    assert data.summary("train").passed_over == {"of a name that data.class_pattern does not fit": 1}
    with pytest.raises(UsageError, match="needs a group named class"):
        FolderData(str(tmp_path / "flat"), class_pattern="x")
    with pytest.raises(UsageError, match="not a regular expression"):
        FolderData(str(tmp_path / "flat"), class_pattern="(")


@pytest.mark.parametrize("zipped", [False, True])
def test_files_passed_over_are_counted_for_their_split(parted: Path, zipped: bool, tmp_path: Path) -> None:
    for place in ("train/cat/._0.jpg", "valid/cat/Thumbs.db", "valid/.ipynb_checkpoints/0.png", "notes.txt"):
        path = parted / place.replace("valid", "val")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    (parted / "val" / "dog" / "readme.md").write_text("no image", encoding="utf-8")
    data = FolderData(str(pack(parted, tmp_path / "photos.zip") if zipped else parted))
    over = {split: dict(data.summary(split).passed_over) for split in ("train", "val", "test")}
    assert over == {
        "train": {"hidden": 1 + zipped, "not an image (.txt)": 1},
        "val": {"hidden": 2, "not an image (.md)": 1},
        "test": {},
    }


def test_empty_files_of_a_large_set_are_found_when_they_are_read(tmp_path, monkeypatch):
    folder = tmp_path / "cat"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()
    with pytest.raises(DataError, match="2 of 2 images are empty"):
        list_labeled(tmp_path)
    monkeypatch.setattr("datamodules.folders._SIZED", 1)
    assert len(list_labeled(tmp_path).images) == 2
    with pytest.raises(DataError, match="empty"):
        FolderData(str(tmp_path), val_fraction=0.0).samples("train")[0].image.read()
