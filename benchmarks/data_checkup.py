"""How long `visionkit doctor` takes: 10,000 JPEG images of 640 x 480 with boxes, on two processes.

`python -m benchmarks.data_checkup --work FOLDER [--count 10000] [--num_workers 2]`

The images are made here: drawn scenes that are moved around and change their colors, so none is a copy of another, and
a hundred copies, saved again, that are to be found. Goal: 2 minutes on 2 cores, all copies found, nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

SIZE = (480, 640)
SCENES, COPIES, BOXES = 100, 100, 7


def make_set(folder: Path, count: int, seed: int = 0) -> Path:
    """Writes the set as COCO, training and validation; the copies are in validation."""
    from visionkit.synthetic import make_scene

    rng = np.random.default_rng(seed)
    scenes = [make_scene(seed, number, SIZE).image for number in range(SCENES)]
    copies = min(COPIES, count // 10)
    splits = {"train": count - 2 * copies, "val": 2 * copies}
    height, width = SIZE
    for split, number in splits.items():
        (folder / "images" / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for k in range(number):
            name = f"{k:06d}.jpg"
            if split == "val" and k < copies:
                pixels = np.asarray(Image.open(folder / "images" / "train" / f"{3 * k:06d}.jpg"))
            else:
                moves = (int(rng.integers(height)), int(rng.integers(width)))
                pixels = np.roll(scenes[int(rng.integers(SCENES))], moves, axis=(0, 1))[..., rng.permutation(3)]
                pixels = pixels[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
                other = np.roll(scenes[int(rng.integers(SCENES))], moves[::-1], axis=(0, 1))
                pixels = cv2.addWeighted(np.ascontiguousarray(pixels), 0.6, other, 0.4, 0)
            quality = 70 if split == "val" else 90
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "images" / split / name, quality=quality)
            images.append({"id": k + 1, "file_name": name, "height": height, "width": width})
            for corner in rng.uniform((0, 0), (width - 120, height - 120), (BOXES, 2)):
                sides = rng.uniform(20, 120, 2)
                box = [float(value) for value in (*corner, *sides)]
                one = {"image_id": k + 1, "category_id": int(rng.integers(1, 5)), "bbox": box, "iscrowd": 0}
                boxes.append({**one, "id": len(boxes) + 1, "area": box[2] * box[3]})
        categories = [{"id": number, "name": name} for number, name in enumerate(("car", "dog", "tree", "boat"), 1)]
        whole = {"images": images, "annotations": boxes, "categories": categories}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(whole))
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the set where it is not there, examines it, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where the set is, or is made")
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="processes (default: %(default)s)")
    args = parser.parse_args(argv)
    from datamodules.coco import CocoData
    from visionkit.checkup.examination import examine

    folder = args.work / f"checkup-{args.count}"
    if not (folder / "annotations" / "instances_val.json").is_file():
        make_set(folder, args.count)
    data = CocoData(str(folder), images="images/{split}", val_fraction=0.0, cache_mb=0)
    started = time.perf_counter()
    found = examine(data, num_workers=args.num_workers)
    seconds = time.perf_counter() - started
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in usage)
    across = [each for each in found.findings if each.kind == "near-duplicate-across"]
    right = sum(int(Path(each.file).stem) == 3 * int(Path(each.others[0]).stem) for each in across)
    copies, others = min(COPIES, args.count // 10), len(found.findings) - len(across)
    print(f"{args.count:,} images: {seconds:.1f} s by the clock, {cpu:.1f} s of processor, all imports included")
    print(f"copies: {right} of {copies} found, {len(across) - right} false; {others} other findings")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
