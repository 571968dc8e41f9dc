"""Row 11: the exact five nearest of 1,000,000 vectors of 512 numbers, one thread.

- `numpy`: a product in float32 with everything, then `argpartition`; what most people write.
- `torch`: the same product, then `topk`.
- `faiss`: `IndexFlatIP`, where the package is installed; visionkit does not need it and does not bring it.
- `ours`: the gallery's 8-bit scan and the comparison in float of whatever its error bound does not rule out, from the
  mapped files.

The recall is reported before anything is timed, and how long opening a gallery of that size takes. It needs 2.6 GB of
disk in the temporary folder (`--data` names another) and about 6 GB of memory, 2 more with faiss.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.timing import Goal, Options, Quartiles, Report
from tasks.face_recognition.gallery import Gallery
from tasks.face_recognition.vectors import MappedVectors

COUNT, WIDTH, NEAREST = 1_000_000, 512, 5


def vectors(count: int) -> np.ndarray:
    """(count, 512) float32 of length 1; every tenth lies near another, as images of one person do."""
    rng = np.random.default_rng(0)
    out = np.empty((count, WIDTH), np.float32)
    for start in range(0, count, 100_000):
        part = rng.standard_normal((min(100_000, count - start), WIDTH), np.float32)
        near = part[1::10][: len(part[::10])]
        near += 2 * part[::10][: len(near)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        out[start : start + len(part)] = part
    return out


def run(options: Options) -> Report:
    """Measures the row."""
    count = 20_000 if options.quick else COUNT
    report = Report(11, f"face gallery, {count:,} x {WIDTH}, exact top-{NEAREST}", options.clock or "cpu")
    with timing.watched(report), tempfile.TemporaryDirectory(dir=options.data) as name:
        folder = Path(name)
        stored = vectors(count)
        index = MappedVectors(folder, WIDTH)
        blocks = range(0, count, 50_000)
        coarse = [start + np.flatnonzero(index.write(start, stored[start : start + 50_000])) for start in blocks]
        rough, nobody = np.concatenate(coarse), np.zeros(0, np.int64)
        report.note(f"{len(rough)} vectors do not fit into 8 bit and are always compared")
        asked = stored[:: count // 64][:64] + 0.02 * np.random.default_rng(1).standard_normal((64, WIDTH), np.float32)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        faiss = _faiss(stored)
        for many, goals in ((1, (6.0, 2.5)), (64, (4.0, 5.0))):
            queries = np.ascontiguousarray(asked[:many])

            def by_numpy(queries: np.ndarray = queries) -> np.ndarray:
                scores = queries @ stored.T
                best = np.argpartition(scores, -NEAREST, axis=1)[:, -NEAREST:]
                order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
                return np.take_along_axis(best, order, axis=1)

            def by_torch(queries: np.ndarray = queries) -> np.ndarray:
                return (torch.from_numpy(queries) @ torch.from_numpy(stored).T).topk(NEAREST, dim=1).indices.numpy()

            def ours(queries: np.ndarray = queries) -> np.ndarray:
                return index.search(queries, NEAREST, count, rough, nobody)[0]

            right = by_numpy()
            assert (by_torch() == right).mean() > 0.98, "peers that disagree, equal products aside, compare nothing"
            recall = float((right == ours()).mean())
            label = f"{many} {'query' if many == 1 else 'queries'}"
            report.add(f"{label}: recall", Quartiles.of([recall]), Goal(1.0), unit="")
            arms: dict[str, Any] = {
                "numpy": lambda w, f=by_numpy: f(),
                "torch": lambda w, f=by_torch: f(),
                "ours": lambda w, f=ours: f(),
            }
            if faiss is not None:
                arms["faiss"] = lambda w, q=queries: faiss.search(q, NEAREST)
            times = timing.measure(
                arms,
                rounds=options.rounds or (3 if options.quick or many > 1 else 9),
                clock=report.clock,
                wanted=lambda t: [t.speed("ours", "numpy")],
            )
            report.add(f"{label}: ours", times.per_unit("ours", 1e-3), unit="ms")
            report.add(f"{label}: ours over numpy", times.speed("ours", "numpy"), Goal(goals[0]), times=times)
            report.add(f"{label}: ours over torch", times.speed("ours", "torch"))
            if faiss is not None:
                report.add(f"{label}: ours over faiss", times.speed("ours", "faiss"), Goal(goals[1]), times=times)
        if faiss is None:
            report.note("faiss is not installed here, so it is not compared")
        _opening(report, folder, count)
    return report


def _faiss(stored: np.ndarray) -> Any:
    if not importlib.util.find_spec("faiss"):
        return None
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(stored)
    return index


def _opening(report: Report, folder: Path, count: int) -> None:
    """A gallery over the same files: its rows are reported to SQLite, then it is opened and asked once."""
    gallery = Gallery(folder / "g", model="0" * 64, width=WIDTH, create=True)
    for file in folder.glob("vectors.*"):
        file.rename(folder / "g" / file.name)
    with gallery.database.writing() as database:
        database.execute("INSERT INTO people VALUES (1, 'a', 'a', 0)")
        database.executemany("INSERT INTO vectors VALUES (?, 1, '', 0, 0)", ((row,) for row in range(count)))
        database.execute("UPDATE facts SET value = ? WHERE key = 'rows'", (str(count),))
    gallery.close()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        Gallery(folder / "g", model="0" * 64).index.read(np.array([count - 1]))
        seconds.append(time.perf_counter() - start)
    report.add("opening it, by the wall clock", Quartiles.of(seconds), Goal(1.0, "at most"), unit="s")


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
