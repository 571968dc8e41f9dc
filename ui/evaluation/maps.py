"""Label maps, depth and images in files, measured as the tasks measure their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ui.evaluation.measured import Measured, Resampled, RowMeans
from ui.evaluation.pairs import Side, pair_files
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES
from visionkit.mask_files import read_mask
from visionkit.uncertainty.by_image import ImageSums

_BINARY = 255  # of a mask beside 0


def check_same_size(name: str, ours: Sequence[int], known: Sequence[int], what: str = "the prediction") -> None:
    """Refuses a prediction, or what else belongs to the ground truth, of another size.

    Raises:
        DataError: The height or width differs.
    """
    if tuple(ours) != tuple(known):
        raise DataError(
            f"{name}: {what} has {ours[0]}x{ours[1]} (height x width), the ground truth {known[0]}x{known[1]}"
        )


def _images(truth: Side, prediction: Side) -> tuple[Any, list[str]]:
    return pair_files(truth, prediction, SUFFIXES)


# ---------------------------------------------------------------------- label maps


def measure_label_maps(
    truth: Side,
    prediction: Side,
    classes: Sequence[str] = (),
    ignore: int = 255,
    tolerance: float = 0.0075,
    analyze: bool = False,
) -> Measured:
    """Mean IoU and its kin, from one confusion matrix of all files.

    Args:
        truth: Label files: one number per pixel.
        prediction: The same.
        classes: Names in label order; by default the numbers that occur.
        ignore: Value of the ground truth that is left out. Where the whole ground truth has no value but 0 and 255,
            255 is class 1.
        tolerance: Fraction of the diagonal that a boundary may be off.
        analyze: Attribute the errors too.

    Raises:
        DataError: Files that do not belong together, or a value that is no class.
    """
    import torch

    from tasks.semantic_segmentation.metrics import SegmentationCounts
    from visionkit.families.dense.label_analysis import LabelAnalysis
    from visionkit.types import IGNORE

    pairs, notes = _images(truth, prediction)
    there = _values(_labels(pair.truth) for pair in pairs)
    our_values = _values(_labels(pair.prediction) for pair in pairs)
    binary = ignore == _BINARY and there <= {0, _BINARY} and _BINARY in there and not classes
    if binary:
        notes.append("the ground truth holds 0 and 255 alone, so 255 is class 1 and not left out")
        if our_values - {0, 1, _BINARY}:
            raise DataError(f"{prediction.path}: the ground truth is masks of 0 and 255, and these hold other values")
        there, our_values = {0, 1}, {0, 1}
    known = there - {ignore}
    count = len(classes) or max(known | (our_values - {ignore}), default=0) + 1
    for side, values in ((truth, known), (prediction, our_values)):
        if wrong := sorted(value for value in values if value >= count):
            raise DataError(
                f"{side.path}: value {wrong[0]} is no class; there are {count}, from 0 on; set more with --classes, or "
                "what means nothing in the ground truth with --ignore"
            )
    total, rows = SegmentationCounts(count, tolerance), []
    sums = ImageSums(total)
    names = list(classes) or [str(number) for number in range(count)]
    analysis = LabelAnalysis(names) if analyze else None
    for name, real_file, our_file in pairs:
        real, ours = _labels(real_file).astype(np.int64), _labels(our_file).astype(np.int64)
        check_same_size(name, ours.shape, real.shape)
        if binary:
            real, ours = (real == _BINARY).astype(np.int64), (ours > 0).astype(np.int64)
        else:
            real = np.where(real == ignore, IGNORE, real)
        before = total.confusion.clone()
        total.update(torch.from_numpy(ours)[None], torch.from_numpy(real)[None])
        sums.take()
        hits, union, support = _overlap(total.confusion - before)
        seen = union > 0
        mean = float((hits / union)[seen].mean()) if seen.any() else -1.0
        accuracy = float(hits.sum() / support.sum()) if support.any() else -1.0
        rows.append({"image": name, "mean_iou": mean, "pixel_accuracy": accuracy})
        if analysis is not None:
            analysis.add_labels(name, ours, real)
    sums.close()
    computed = total.compute()
    metrics = {name: float(value) for name, value in computed.items() if value.ndim == 0}
    hits, union, support = _overlap(computed["confusion"])
    table = [
        {"class": name, "IoU": float(hits[k] / union[k]), "pixels": int(support[k])}
        for k, name in enumerate(names)
        if union[k] > 0
    ]
    protocol = (
        f"mean IoU over the {len(table)} classes that occur in ground truth or predictions, from one confusion matrix "
        f"of {len(pairs)} images, {'nothing' if binary else ignore} left out; boundary F1 within {tolerance:g} of the "
        "diagonal"
    )
    resampled = Resampled.of_images([sums], len(pairs))
    return Measured(metrics, protocol, {"per class": table}, rows, notes, analysis, resampled=resampled)


def _labels(path: Path) -> np.ndarray:
    """(h, w) whole numbers of a label file, as they stand there.

    Raises:
        DataError: Not readable, in color, or compressed with loss, which changes the numbers.
    """
    from datamodules.label_maps import whole_values
    from datamodules.value_files import gray, read_values

    values, lossy = read_values(path)
    values = gray(values, lossy)
    if lossy or values.ndim != 2:
        raise DataError(f"{path}: is {f'in {lossy}' if lossy else 'in color'}; a label map has one number per pixel")
    return whole_values(values, path)


def _overlap(confusion: Any) -> tuple[Any, Any, Any]:
    """(K,) pixels that are right, in either of both, and in the ground truth."""
    matrix = confusion.double()
    hits, support, ours = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
    return hits, support + ours - hits, support


def _values(maps: Any) -> set[int]:
    out: set[int] = set()
    for values in maps:
        out |= set(np.unique(values).tolist())
    return out


# ---------------------------------------------------------------------- depth


def measure_depth(
    truth: Side,
    prediction: Side,
    *,
    truth_units: float | None = None,
    prediction_units: float | None = None,
    cap: float = 10.0,
    crop: str = "none",
    alignment: str = "none",
    relative: bool = False,
    analyze: bool = False,
) -> Measured:
    """The field's nine measures of depth.

    Args:
        truth: Depth files, png, tiff or npy; 0 is not measured.
        prediction: The same.
        truth_units: Numbers of the ground truth that stand for a meter; by default 1000 in whole numbers, 1 in floats.
        prediction_units: The same of the predictions.
        cap: Meters beyond which ground truth does not count.
        crop: One of `tasks.depth.metrics.CROPS`.
        alignment: `none`, `median` or `least_squares`.
        relative: Predictions are inverse depth up to a scale and a shift.
        analyze: Attribute the errors too.

    Raises:
        DataError: Files that do not belong together.
        UsageError: A crop or an alignment that there is not.
    """
    import torch

    from datamodules.depth_files import DEPTH_SUFFIXES, read_depth
    from tasks.depth.metrics import CROPS
    from visionkit.families.dense.depth_analysis import DepthAnalysis
    from visionkit.families.dense.depth_measures import NAMES, DepthMeasures

    for option, value, allowed in (
        ("crop", crop, list(CROPS)),
        ("alignment", alignment, ["none", "median", "least_squares"]),
    ):
        if value not in allowed:
            raise UsageError(f"--{option} {value!r}: allowed are {', '.join(allowed)}")
    pairs, notes = pair_files(truth, prediction, DEPTH_SUFFIXES, prefer=(".npy", ".png"))
    total = DepthMeasures(cap, alignment, relative)  # type: ignore[arg-type]
    analysis = DepthAnalysis(cap, alignment, relative) if analyze else None  # type: ignore[arg-type]
    sums = ImageSums(total)
    rows: list[dict[str, Any]] = []
    unknown = 0
    for name, real_file, our_file in pairs:
        real, ours = read_depth(real_file, truth_units), read_depth(our_file, prediction_units)
        check_same_size(name, ours.shape, real.shape)
        height, width = real.shape
        top, left, bottom, right = CROPS[crop]
        mask = np.zeros(real.shape, dtype=bool)
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
        if not relative:  # 0 is a prediction that was not made
            unknown += int((mask & (ours <= 0) & (real > 0)).sum())
            mask &= ours > 0
        before = total.total.clone()
        total.update(torch.from_numpy(ours)[None], torch.from_numpy(real)[None], torch.from_numpy(mask)[None])
        sums.take()
        if int(total.images) > len(rows):
            rows.append({"image": name, **dict(zip(NAMES, (total.total - before).tolist(), strict=True))})
            if analysis is not None:
                analysis.add_maps(ours, real, mask)
                analysis.rows.append(dict(rows[-1]))
    if unknown:
        notes.append(f"{unknown} pixels with ground truth have no prediction (0, NaN or infinite) and are left out")
    if not rows:
        notes.append("no image has a valid pixel within the cap; are the units right (--truth-units)?")
    elif rows and all(row["delta1"] == 0 for row in rows):
        notes.append("delta1 is 0 in every image; are the units right (--truth-units, --prediction-units)?")
    sums.close()
    metrics = {name: float(value) for name, value in total.compute().items()}
    protocol = (
        f"valid pixels alone, from .001 to {cap:g} m, mean of per-image values over {len(rows)} of {len(pairs)} "
        f"images, crop {crop}, alignment {alignment.replace('_', ' ')}{', inverse depth' if relative else ''}"
    )
    resampled = Resampled.of_images([sums], len(pairs))
    return Measured(metrics, protocol, {}, rows, notes, analysis, resampled=resampled)


# ---------------------------------------------------------------------- images


def measure_images(
    truth: Side, prediction: Side, border: int, masks: Path | None = None, analyze: bool = False
) -> Measured:
    """PSNR and SSIM of images against their originals.

    Args:
        truth: The originals.
        prediction: What was made of them. An original that is larger by less than `border` pixels is cut at its right
            and bottom, as super-resolution by that factor leaves it. Beside a gray one, an original in color becomes
            gray too.
        border: Pixels that are left out on every side; papers of super-resolution take the factor.
        masks: Masks of what was filled in, white where pixels were missing, by the names of the originals, or one file
            for all; with them holes and known pixels are measured apart too.
        analyze: Attribute the errors too.

    Raises:
        DataError: Files that do not belong together, or of different sizes.
        UsageError: A border below 0.
    """
    import torch

    from visionkit.families.restoration.analysis import ImageAnalysis
    from visionkit.families.restoration.quality import PROTOCOL, psnr_of, quality

    if border < 0:
        raise UsageError(f"--border {border}: pixels are 0 or more")
    pairs, notes = _images(truth, prediction)
    names = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
    rows: list[dict[str, Any]] = []
    known = paired_masks(masks, [real_file for _, real_file, _ in pairs], truth) if masks is not None else {}
    made_gray = 0
    analysis = ImageAnalysis() if analyze else None
    for name, real_file, our_file in pairs:
        source, restored = ImageSource(real_file), ImageSource(our_file)
        ours, real = restored.read(), source.read()
        if made := restored.is_gray and bool((real != real[:, :, :1]).any()):  # of a network of gray images
            real = source.read(1).repeat(3, axis=2)
        made_gray += made
        height, width = ours.shape[:2]
        if height <= real.shape[0] < height + max(1, border) and width <= real.shape[1] < width + max(1, border):
            real = real[:height, :width]
        check_same_size(name, ours.shape, real.shape)
        tensors = [torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in (ours, real)]
        values = quality(tensors[0], tensors[1], border, source.is_gray or made, str(real_file))
        rows.append({"image": name, **dict(zip(names, values.tolist(), strict=True))})
        if masks is not None:
            hole = read_mask(ImageSource(known[real_file]))
            check_same_size(str(known[real_file]), hole.shape, real.shape[:2], "the mask")
            error = (tensors[0].double() - tensors[1].double()).square().mean(dim=0)
            inner = (slice(border, -border or None),) * 2
            error, part = error[inner], torch.from_numpy(hole)[inner]
            rows[-1] |= {
                key: float(psnr_of(error[where].mean()))
                for key, where in (("psnr_hole", part), ("psnr_valid", ~part))
                if where.any()
            }
        if analysis is not None:
            analysis.add_pixels(ours, real)
            analysis.rows.append(dict(rows[-1]))
    if made_gray:
        notes.append(f"{made_gray} predictions are gray and their ground truth is not: it is made gray for them")
    metrics = {}
    for name in (*names, *(("psnr_hole", "psnr_valid") if masks is not None else ())):
        if there := [row[name] for row in rows if name in row]:
            metrics[name] = float(np.mean(there))
    holes = "; psnr_hole is of missing pixels alone, psnr_valid of the others, in RGB" if masks is not None else ""
    protocol = f"{len(rows)} images, {PROTOCOL.format(border=border)}{holes}"
    resampled = Resampled.of_images([RowMeans(rows, list(metrics))], len(rows))
    return Measured(metrics, protocol, {}, rows, notes, analysis, resampled=resampled)


def paired_masks(masks: Path, originals: Sequence[Path], truth: Side) -> dict[Path, Path]:
    """The mask of each file of ground truth.

    Args:
        masks: A folder, whose files are paired by name, or one file for all.
        originals: Files of the ground truth.
        truth: Where these are.

    Raises:
        DataError: An original without one.
    """
    from datamodules.pairing import pair_by_name
    from visionkit.listing import Listing, list_files

    if masks.is_file():
        return dict.fromkeys(originals, masks)
    root = truth.path if truth.path.is_dir() else truth.path.parent
    found = list_files(masks, SUFFIXES, kind="mask")
    return dict(pair_by_name(Listing(root, list(originals)), found, "mask", truth.key).pairs)
