"""People by folder, by list of pairs, by `.bin` set and by RecordIO; splits by person; batches of P x K."""

from __future__ import annotations

import io
import pickle
import struct
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from datamodules.augmentation import FaceAugment
from datamodules.identities import IdentityData, check_no_leak
from datamodules.identity_sampler import IdentitySampler
from datamodules.market1501 import Market1501Data
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.sampling import Stretch

SPEC = InputSpec(size=(16, 16), resize_mode="stretch", channels=1)


def image(value):
    return Image.fromarray(np.full((20, 18), value % 256, np.uint8))


def encoded(value):
    file = io.BytesIO()
    image(value).save(file, "png")
    return file.getvalue()


@pytest.fixture
def people(tmp_path):
    root = tmp_path / "people"
    for person in range(12):
        folder = root / f"s{person + 1}"
        folder.mkdir(parents=True)
        for k in range(5):
            image(10 * person + k).save(folder / f"{k + 1}.png")
    return root


def names(data, split):
    return {Path(sample.image.name).parent.name for sample in data.samples(split)}


# ---------------------------------------------------------------------- splits


def test_splits_are_by_person(people):
    data = IdentityData(str(people), val_fraction=0.2, test_fraction=0.3, input=SPEC)
    parts = {split: names(data, split) for split in ("train", "val", "test")}
    assert (
        sum(map(len, parts.values())) == 12 and not parts["train"] & parts["val"] and not parts["val"] & parts["test"]
    )
    assert IdentityData.discover_classes(str(people), val_fraction=0.2, test_fraction=0.3) == sorted(
        parts["train"], key=lambda name: int(name[1:])
    )
    train = {int(sample.target["identity"]) for sample in data.samples("train")}
    test = {int(sample.target["identity"]) for sample in data.samples("test")}
    assert train == set(range(len(parts["train"]))) and min(test) >= len(train)


def test_folds_cover_everybody_once(people):
    tested = Counter()
    for fold in range(4):
        data = IdentityData(str(people), folds=4, fold=fold, val_fraction=0.0, input=SPEC)
        tested.update(names(data, "test"))
        assert not names(data, "train") & names(data, "test")
    assert len(tested) == 12 and set(tested.values()) == {1}


def test_the_closed_set_has_a_gallery(people):
    data = IdentityData(str(people), known_images=3, input=SPEC)
    test = data.samples("test")
    gallery = [sample for sample in test if sample.target["gallery"]]
    assert {s.image.name for s in gallery} == {s.image.name for s in data.samples("train")}
    assert len(test) == 60 and len(gallery) == 36
    with pytest.raises(UsageError, match="limit_val_batches"):
        data.samples("val")


@pytest.mark.parametrize("split", [{"folds": 4, "fold": 0, "val_fraction": 0.0}, {"known_images": 3}])
def test_a_training_without_validation_needs_no_validation_split(people, split, capsys):
    data = IdentityData(str(people), input=SPEC, **split)
    data.trainer = SimpleNamespace(limit_val_batches=0, lightning_module=None)
    data.setup("fit")
    assert "  train  " in (said := capsys.readouterr().out) and "  val  " not in said
    data = IdentityData(str(people), input=SPEC, **split)
    data.trainer = SimpleNamespace(limit_val_batches=1.0, lightning_module=None)
    with pytest.raises(UsageError, match=r"limit_val_batches|val_fraction"):
        data.setup("fit")


def test_a_person_in_two_splits_is_refused(people, tmp_path):
    with pytest.raises(DataError, match="'Ada' is in train and in test"):
        check_no_leak({"train": {"ada", "bo"}, "test": {"Ada"}}, tmp_path)
    for split in ("train", "test"):
        for person in ("a", "b"):
            folder = tmp_path / "two" / split / person
            folder.mkdir(parents=True)
            for k in range(2):
                image(k).save(folder / f"{k}.png")
    with pytest.raises(DataError, match="belongs to one split alone"):
        IdentityData(str(tmp_path / "two"), input=SPEC).samples("train")


def test_a_person_with_one_image_is_reported_or_left_out(people):
    (people / "lonely").mkdir()
    image(0).save(people / "lonely" / "1.png")
    with pytest.raises(DataError, match=r"fewer than 2 images: lonely; add images, or leave"):
        IdentityData(str(people), input=SPEC).samples("train")
    data = IdentityData(str(people), leave_out=True, input=SPEC)
    assert "lonely" not in names(data, "train") | names(data, "val")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folds": 4, "fold": 4}, "numbered from 0"),
        ({"folds": 4, "known_images": 2}, "give one of them"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave some people"),
        ({"per_identity": 3, "batch_size": 8}, "not a multiple"),
    ],
)
def test_wrong_arguments_are_reported(people, arguments, said):
    with pytest.raises(UsageError, match=said):
        IdentityData(str(people), input=SPEC, **arguments)


# ---------------------------------------------------------------------- batches


def test_batches_hold_people_with_images(people):
    data = IdentityData(str(people), val_fraction=0.0, per_identity=2, batch_size=8, input=SPEC, augment=FaceAugment())
    for batch in data.loader("train"):
        counts = Counter(batch["target"]["identity"].tolist())
        assert set(counts.values()) <= {2, 4} and sum(counts.values()) == 8


def test_ranks_fraction_the_batches_and_resume(people):
    identity = np.repeat(np.arange(6), 5)
    whole = IdentitySampler(identity, 3, 2, seed=1, rank=0, world=1)
    parts = [IdentitySampler(identity, 3, 2, seed=1, rank=rank, world=2) for rank in range(2)]
    for epoch in (0, 3):
        for each in (whole, *parts):
            each.set_epoch(epoch)
        batches = [[index for _, index in part] for part in parts]
        for order in batches:
            for start in range(0, len(order), 6):
                assert set(Counter(identity[order[start : start + 6]]).values()) <= {2, 4}
        assert sorted(batches[0] + batches[1]) == sorted(index for _, index in whole)
    parts[0].set_epoch(5)
    everything = list(parts[0])
    parts[0].seen = [Stretch(2, 6, 1)]
    assert list(parts[0]) == everything[6:]
    with pytest.raises(UsageError, match="smaller batch_size"):
        IdentitySampler(identity, 7, 2, seed=0, rank=0, world=1)


# ---------------------------------------------------------------------- lists of pairs


def lfw(root, pairs):
    for name in ("Ada_Low", "Bo_Hi", "Cy"):
        (root / "lfw" / name).mkdir(parents=True)
        for k in (1, 2):
            image(k).save(root / "lfw" / name / f"{name}_{k:04d}.png")
    (root / "pairs.txt").write_text(pairs)
    return root / "pairs.txt"


def test_lfws_list(tmp_path, people):
    path = lfw(tmp_path, "10\t2\nAda_Low\t1\t2\nAda_Low\t1\tBo_Hi\t2\nCy\t2\t1\n")
    data = IdentityData(str(people), val_fraction=0.0, test_set=str(path), input=SPEC)
    test = data.samples("test")
    assert [int(s.target["pair"]) for s in test] == [0, 0, 1, 1, 2, 2]
    who = [int(s.target["identity"]) for s in test]
    assert who[0] == who[1] == who[2] != who[3] and who[4] == who[5]
    assert test[3].image.name.endswith("Bo_Hi_0002.png") and test[0].image.read(1).shape == (20, 18, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ada_Low 1 7\nCy 1 9\n", r"2 images that it names are not in .*Ada_Low_0007 \(line 1\)"),
        ("Ada_Low one two\n", "line 1"),
        ("../x 1 2\n", "are not in"),
        ("", "no pairs"),
    ],
)
def test_a_wrong_list_is_reported(tmp_path, people, text, said):
    data = IdentityData(str(people), test_set=str(lfw(tmp_path, text)), input=SPEC)
    with pytest.raises(DataError, match=said):
        data.samples("test")


def test_bin_sets(tmp_path, people):
    content = ([encoded(k) for k in range(6)], [True, False, np.bool_(True)])
    path = tmp_path / "small.bin"
    for protocol in (2, 5):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        test = IdentityData(str(people), test_set=str(path), input=SPEC).samples("test")
        who = [int(s.target["identity"]) for s in test]
        assert len(test) == 6 and who[0] == who[1] and who[2] != who[3] and who[4] == who[5]
        assert int(test[5].image.read(1)[0, 0, 0]) == 5


class _Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("content", [pickle.dumps(([_Evil()], [True])), b"junk", pickle.dumps(([b"a"], [True])), b""])
def test_a_bin_set_that_could_run_code_or_is_damaged_is_refused(tmp_path, people, content, capsys):
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.bin"):
        IdentityData(str(people), test_set=str(path), input=SPEC).samples("test")
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------- RecordIO


def record(labels, content, split_at=None):
    body = struct.pack("<IfQQ", len(labels) if len(labels) > 1 else 0, labels[0], 0, 0)
    if len(labels) > 1:
        body += struct.pack(f"<{len(labels)}f", *labels)
    body += content
    parts = [(0, body)] if split_at is None else [(1, body[:split_at]), (3, body[split_at + 4 :])]
    out = b""
    for flag, part in parts:
        out += struct.pack("<II", 0xCED7230A, flag << 29 | len(part)) + part + bytes(-len(part) % 4)
    return out


def written(root, records):
    offset, index, whole = 0, [], b""
    for key, content in records:
        index.append(f"{key}\t{offset}")
        whole += content
        offset += len(content)
    (root / "train.rec").write_bytes(whole)
    (root / "train.idx").write_text("\n".join(index) + "\n")
    return root / "train.rec"


def test_record_io_as_face_sets_are_written(tmp_path):
    # Keys 1 to 6 are the images of three people; 7, 8, 9 the people; 0 states this.
    records = [(0, record((7.0, 10.0), b""))]
    records += [(key, record(((key - 1) // 2,), encoded(key))) for key in range(1, 7)]
    records += [(7 + person, record((1.0 + 2 * person, 3.0 + 2 * person), b"")) for person in range(3)]
    data = IdentityData(str(written(tmp_path, records)), val_fraction=0.0, input=SPEC)
    train = data.samples("train")
    assert [int(s.target["identity"]) for s in train] == [0, 0, 1, 1, 2, 2]
    assert [int(s.image.read(1)[0, 0, 0]) for s in train] == [1, 2, 3, 4, 5, 6]


def test_record_io_with_plain_labels_and_the_magic_word_inside(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    inside = encoded(9) + magic + b"tail"  # a decoder stops at the image's end
    where = 24 + inside.index(magic)
    records = [(k, record((float(k // 2),), encoded(k))) for k in range(4)]
    records[1] = (1, record((0.0,), inside, split_at=where))
    data = IdentityData(str(written(tmp_path, records)), val_fraction=0.0, cache_mb=0, input=SPEC)
    train = data.samples("train")
    assert [int(s.target["identity"]) for s in train] == [0, 0, 1, 1]
    assert train[1].image._source == inside


def test_a_damaged_record_is_reported(tmp_path):
    path = written(tmp_path, [(k, record((float(k // 2),), encoded(k))) for k in range(4)])
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(DataError, match="ends within the record"):
        IdentityData(str(path), val_fraction=0.0, input=SPEC).samples("train")
    path.write_bytes(b"xxxx" + content[4:])
    with pytest.raises(DataError, match="no record begins at byte 0"):
        IdentityData(str(path), val_fraction=0.0, input=SPEC).samples("train")
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match="no such file"):
        IdentityData(str(path), val_fraction=0.0, input=SPEC).samples("train")


# ---------------------------------------------------------------------- re-identification


def market(root):
    images = {
        "bounding_box_train": ["0002_c1s1_0_0", "0002_c2s1_0_0", "0007_c1s1_0_0", "0007_c3s1_0_0"],
        "query": ["0005_c1s1_0_0", "0009_c2s1_0_0"],
        "bounding_box_test": ["-1_c1s1_0_0", "0000_c1s1_0_0", "0005_c1s1_1_0", "0005_c2s1_0_0", "0009_c1s1_0_0"],
    }
    for folder, stems in images.items():
        (root / folder).mkdir(parents=True)
        for stem in stems:
            image(3).save(root / folder / f"{stem}.png")
    return root


def test_market_1501(tmp_path):
    root = market(tmp_path / "m")
    assert Market1501Data.discover_classes(str(root)) == ["2", "7"]
    data = Market1501Data(str(root), per_identity=2, batch_size=4, input=SPEC)
    assert [int(s.target["identity"]) for s in data.samples("train")] == [0, 0, 1, 1]
    test = data.samples("test")
    assert [int(s.target["gallery"]) for s in test] == [0, 0, 1, 1, 1, 1, 1]
    assert [int(s.target["identity"]) for s in test] == [7, 11, -1, 2, 7, 7, 11]
    assert [int(s.target["camera"]) for s in test] == [1, 2, 1, 1, 1, 2, 1]
    (batch,) = data.loader("train")
    assert Counter(batch["target"]["identity"].tolist()) == {0: 2, 1: 2}
    image(0).save(root / "query" / "0002_c9s1_0_0.png")
    with pytest.raises(DataError, match="person 2 is in bounding_box_train"):
        Market1501Data(str(root), input=SPEC, batch_size=4).samples("test")
    (root / "query" / "noname.png").touch()
    with pytest.raises(DataError, match="does not begin as"):
        Market1501Data(str(root), input=SPEC, batch_size=4).samples("test")


# ---------------------------------------------------------------------- real data


def test_orl():
    root = real_data("face_recognition/orl_faces")
    data = IdentityData(str(root), folds=4, fold=0, val_fraction=0.2, input=SPEC)
    assert {split: len(data.samples(split)) for split in ("train", "val", "test")} == {
        "train": 240,
        "val": 60,
        "test": 100,
    }
