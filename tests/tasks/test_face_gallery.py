"""The gallery: exact search, enrolment that survives, several processes, other models, damage."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.face_recognition.gallery import DATABASE, Gallery
from tasks.face_recognition.vectors import CODES, FLOATS, MappedVectors, _multiply_in_float, quantize
from tests.real_data import ROOT
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError

MODEL, WIDTH = "a" * 64, 32


def units(count, width=WIDTH, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def opened(folder, **arguments):
    return Gallery(folder, **{"model": MODEL, "width": WIDTH, "create": True, **arguments})


# ---------------------------------------------------------------------- search


@pytest.mark.parametrize(("count", "queries", "k"), [(3, 2, 5), (5000, 1, 5), (20011, 9, 5), (4096, 3, 1)])
def test_the_search_is_exact(tmp_path, count, queries, k):
    index = MappedVectors(tmp_path, 64)
    vectors = units(count, 64)
    # Clusters, equal vectors and peaked ones: what an approximation gets wrong.
    vectors[count // 2 :] = vectors[: count - count // 2] + 0.05 * units(count - count // 2, 64, seed=1)
    vectors[-1] = np.eye(64, dtype=np.float32)[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    coarse = np.flatnonzero(index.write(0, vectors))
    assert count - 1 in coarse, "a vector along one axis does not fit into 8 bit and is reported"
    asked = vectors[np.linspace(0, count - 1, queries).astype(int)] + 0.02 * units(queries, 64, seed=2)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    removed = np.array([1])
    rows, scores = index.search(asked, k, count, coarse, removed)
    exact = vectors @ asked.T
    exact[1] = -2
    best = np.argsort(-exact.T, axis=1, kind="stable")[:, : min(k, count - 1)]
    assert np.allclose(scores, np.take_along_axis(exact.T, best, axis=1), atol=1e-6)
    assert (rows == best).mean() == 1.0


@pytest.mark.parametrize("how", ["absent", "refuses"])
def test_the_search_is_exact_without_torch_s_own_int8_product(tmp_path, monkeypatch, how):
    def refuse(*_):
        raise RuntimeError("no int8 product for this processor")

    if how == "absent":
        monkeypatch.delattr(torch, "_int_mm")
    else:
        monkeypatch.setattr(torch, "_int_mm", refuse)
    test_the_search_is_exact(tmp_path, 20011, 9, 5)


@pytest.mark.parametrize("width", [64, 512, 2048])
def test_the_product_in_float_is_the_int8_product(width):
    """Of the largest values there are, whose sums in float32 would round at the greatest width."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(120, 128, (3, width), dtype=torch.int8, generator=generator)
    codes = torch.randint(-127, 128, (20000, width), dtype=torch.int8, generator=generator)
    codes[::2] = codes[::2].abs()
    assert torch.equal(_multiply_in_float(queries, codes.T), (queries.long() @ codes.T.long()).int())


def test_the_bound_of_the_scan_holds():
    vectors, queries = units(4000, 128), units(50, 128, seed=3)
    step = 5 / np.sqrt(128) / 127
    codes, remainder = quantize(vectors, step)
    steps = np.abs(queries).max(axis=1) / 127
    asked, short = quantize(queries, steps[:, None])
    error = np.abs((asked * steps[:, None]) @ (codes * step).T - queries @ vectors.T)
    assert (error <= remainder[None] + short[:, None] * (1 + remainder[None]) + 1e-6).all()
    assert np.median(remainder) < 0.0125


# ---------------------------------------------------------------------- people


def test_enrol_list_identify_verify_remove(tmp_path):
    gallery = opened(tmp_path / "g")
    people = units(6)
    for number, name in enumerate(("Ada", "Bo", "Cy")):
        gallery.enrol(name, people[2 * number : 2 * number + 2], [f"{name}1.jpg", f"{name}2.jpg"])
    assert [(each.name, each.images) for each in gallery.people()] == [("Ada", 2), ("Bo", 2), ("Cy", 2)]
    (found,) = gallery.identify(people[3:4], k=3)
    assert found[0].name == "Bo" and abs(found[0].similarity - 1) < 1e-5
    assert {each.name for each in found} == {"Ada", "Bo", "Cy"}, "each person once, however many images"
    assert abs(gallery.similarity("bo ", people[2]) - 1) < 1e-5
    assert gallery.remove("BO") == 2
    assert [each.name for each in gallery.people()] == ["Ada", "Cy"]
    assert all(each.name != "Bo" for each in gallery.identify(people[3:4], k=3)[0])
    whole = (tmp_path / "g" / FLOATS).read_bytes() + (tmp_path / "g" / CODES).read_bytes()
    assert people[3].tobytes() not in whole, "what was removed is overwritten"
    assert len(opened(tmp_path / "g")) == 2 and opened(tmp_path / "g").check() == 4


def test_names_are_one_person_each(tmp_path):
    gallery = opened(tmp_path / "g")
    gallery.enrol("Ada", units(1))
    with pytest.raises(UsageError, match="enrolled already"):
        gallery.enrol(" ada ", units(1, seed=1))
    gallery.enrol("ADA", units(1, seed=1), add=True)
    assert [(each.name, each.images) for each in gallery.people()] == [("Ada", 2)]
    with pytest.raises(UsageError, match="did you mean 'Ada'"):
        gallery.remove("Adda")
    with pytest.raises(UsageError, match="needs a name"):
        gallery.enrol("  ", units(1))
    for wrong in (units(1, 8), np.zeros((1, WIDTH), np.float32), np.full((1, WIDTH), np.nan)):
        with pytest.raises(ValueError, match="embeddings"):
            gallery.enrol("Bo", wrong)
    assert len(gallery) == 1


def test_a_gallery_of_another_model_is_refused(tmp_path):
    opened(tmp_path / "g").enrol("Ada", units(1))
    with pytest.raises(CheckpointError, match="another model"):
        opened(tmp_path / "g", model="b" * 64)
    without = Gallery(tmp_path / "g")
    assert len(without.people()) == 1
    with pytest.raises(UsageError, match="without a model"):
        without.identify(units(1))


def test_where_there_is_no_gallery(tmp_path):
    with pytest.raises(DataError, match="no gallery here"):
        Gallery(tmp_path / "nothing", model=MODEL)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(UsageError, match="holds other files"):
        opened(tmp_path / "full")


@pytest.mark.parametrize("damage", ["cut", "flip", "database", "page"])
def test_damage_is_reported_and_nothing_is_changed(tmp_path, damage):
    folder = tmp_path / "g"
    gallery = opened(folder)
    for number in range(40):
        gallery.enrol(f"person {number}", units(2, seed=number))
    gallery.close()
    path = folder / (DATABASE if damage in ("database", "page") else FLOATS)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-100]
    elif damage == "flip":
        content[4 * WIDTH * 2 * 7] ^= 255
    elif damage == "database":
        content[:16] = b"not a database!!"
    else:
        content[4096:] = os.urandom(len(content) - 4096)
    for extra in folder.glob(f"{DATABASE}-*"):
        extra.unlink()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|cut off"):
        opened(folder).check()
    assert path.read_bytes() == bytes(content), "a damaged file is left as it is, for whoever can mend it"


def test_another_process_sees_what_is_committed(tmp_path):
    first, second = opened(tmp_path / "g"), opened(tmp_path / "g")
    first.enrol("Ada", units(1))
    assert second.identify(units(1))[0][0].name == "Ada"
    first.enrol("Bo", units(1, seed=1))
    assert second.identify(units(1, seed=1))[0][0].name == "Bo"
    second.remove("Ada")
    assert [each.name for each in first.people()] == ["Bo"]
    assert first.identify(units(1))[0][0].name == "Bo"


# ---------------------------------------------------------------------- processes that die, processes at once

ENROL = """
import sys, numpy as np
sys.path.insert(0, sys.argv[4])
from tasks.face_recognition.gallery import Gallery
gallery = Gallery(sys.argv[1], model="a" * 64, width=32, create=True)
print("open", flush=True)
for number in range(int(sys.argv[3])):
    vector = np.random.default_rng(int(sys.argv[2]) * 100003 + number).normal(size=(1, 32)).astype(np.float32)
    gallery.enrol(f"{sys.argv[2]}-{number}", vector / np.linalg.norm(vector))
    print(number, flush=True)
"""


def start(folder, label, count):
    command = [sys.executable, "-c", ENROL, str(folder), str(label), str(count), str(ROOT)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed_while_enrolling(folder, times, seed=0):
    """Kills an enrolling process at random moments; what it had acknowledged, by name and seed."""
    rng, message = np.random.default_rng(seed), {}
    for label in range(times):
        process = start(folder, label, 100_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        if label % 2 == 0:  # every second one lives to see its first enrolment acknowledged
            message[f"{label}-{int(process.stdout.readline())}"] = label * 100003
        time.sleep(float(rng.uniform(0.0, 0.25)))
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.read().split():
            message[f"{label}-{int(line)}"] = label * 100003 + int(line)
        process.wait()
    return message


def check_all_there(folder, message):
    gallery = opened(folder)
    names = {each.name for each in gallery.people()}
    assert set(message) <= names
    assert gallery.check() == len(names)
    for name, seed in list(message.items())[:: max(1, len(message) // 50)]:
        assert gallery.identify(units(1, seed=seed))[0][0].name == name


def test_a_killed_enrolment_loses_nothing_that_was_acknowledged(tmp_path):
    message = killed_while_enrolling(tmp_path / "g", 3)
    assert message
    check_all_there(tmp_path / "g", message)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills(tmp_path):
    message = killed_while_enrolling(tmp_path / "g", 50, seed=1)
    assert len(message) > 50
    check_all_there(tmp_path / "g", message)


def test_several_processes_enrol_at_once(tmp_path):
    opened(tmp_path / "g")
    processes = [start(tmp_path / "g", label, 15) for label in range(2)]
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0
    message = {f"{label}-{number}": label * 100003 + number for label in range(2) for number in range(15)}
    check_all_there(tmp_path / "g", message)


def test_a_removal_that_was_interrupted_is_finished(tmp_path, monkeypatch):
    gallery = opened(tmp_path / "g")
    vectors = units(2)
    gallery.enrol("Ada", vectors[:1])
    gallery.enrol("Bo", vectors[1:])
    monkeypatch.setattr(gallery, "_finish_wiping", lambda: None)
    gallery.remove("Ada")
    assert vectors[0].tobytes() in (tmp_path / "g" / FLOATS).read_bytes()
    again = opened(tmp_path / "g")
    assert vectors[0].tobytes() not in (tmp_path / "g" / FLOATS).read_bytes()
    assert again.check() == 1


def test_a_gallery_opens_without_reading_its_vectors(tmp_path):
    gallery = opened(tmp_path / "g")
    gallery.enrol("Ada", units(1))
    size = Path(tmp_path / "g" / FLOATS).stat().st_size
    assert size == WIDTH * 4
    start_ = time.perf_counter()
    opened(tmp_path / "g")
    assert time.perf_counter() - start_ < 1


# ---------------------------------------------------------------------- a full disk


def test_a_database_that_cannot_grow_is_no_damage(tmp_path):
    gallery = opened(tmp_path)
    gallery.enrol("ada", units(1))
    pages = gallery.database.connection.execute("PRAGMA page_count").fetchone()[0]
    gallery.database.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(EnvironmentFault, match="full"):
        gallery.enrol("bob", units(1, seed=1), sources=["x" * 100_000])
    gallery.database.connection.execute("PRAGMA max_page_count = 100000")
    assert [person.name for person in gallery.people()] == ["ada"]
    gallery.enrol("bob", units(1, seed=1))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_vectors_that_cannot_be_written_are_no_damage(tmp_path, monkeypatch, code):
    gallery = opened(tmp_path)
    gallery.enrol("ada", units(1))

    def full(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch, pytest.raises(EnvironmentFault, match="cannot be written"):
        patch.setattr("tasks.face_recognition.vectors.os.pwrite", full)
        gallery.enrol("bob", units(1, seed=1))
    assert [person.name for person in gallery.people()] == ["ada"]
    gallery.enrol("bob", units(1, seed=1))
    assert gallery.identify(units(1, seed=1))[0][0].name == "bob"
