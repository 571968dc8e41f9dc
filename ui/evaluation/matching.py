"""Optical flow, disparity and scene flow in files, measured as the tasks measure their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ui.evaluation.maps import check_same_size, paired_masks
from ui.evaluation.measured import Measured, Resampled
from ui.evaluation.pairs import Pair, Side, pair_files
from visionkit.errors import DataError
from visionkit.families.matching.analysis import PixelAnalysis
from visionkit.images import ImageSource
from visionkit.mask_files import read_mask
from visionkit.uncertainty.by_image import ImageSums
from visionkit.wording import counted

SCENE_FLOW = (("disp_occ_0", "disp_0"), ("disp_occ_1", "disp_1"), ("flow_occ", "flow"))
"""Folders of KITTI 2015: of the ground truth, and of the predictions that its development kit measures."""


def measure_flow(truth: Side, prediction: Side, occluded: Path | None = None, analyze: bool = False) -> Measured:
    """End-point error, outliers above 1, 3 and 5 px, and Fl-all.

    Args:
        truth: Files of flow: `.flo`, KITTI's 16-bit png or `.pfm`.
        prediction: The same. A pixel whose flow is not known counts as one that does not move.
        occluded: Masks of what the second image does not show, white there, by the names of the ground truth, or one
            file for all: visible and occluded pixels are then measured apart too.
        analyze: Attribute the errors too.

    Raises:
        DataError: Files that do not belong together.
    """
    from datamodules.flow_files import FLOW_SUFFIXES, read_flow
    from tasks.optical_flow.metrics import FlowMeasures

    pairs, notes = pair_files(truth, prediction, FLOW_SUFFIXES, prefer=(".flo", ".png"))

    def values(pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        (real, known), (ours, given) = read_flow(pair.truth), read_flow(pair.prediction)
        check_same_size(pair.name, ours.shape[1:], real.shape[1:])
        return ours, real, known, int((known & ~given).sum())

    def compared(ours: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.hypot(*(ours - real)), np.hypot(*real)

    limits = "bad1, bad3 and bad5 are above 1, 3 and 5 px, fl_all above 3 px and 5 % of the true length"
    analysis = PixelAnalysis("flow") if analyze else None
    hidden = _masks(occluded, pairs, truth)
    return _pooled(FlowMeasures(), pairs, values, compared, limits, notes, hidden, analysis)


def measure_disparity(
    truth: Side,
    prediction: Side,
    truth_units: float | None = None,
    prediction_units: float | None = None,
    occluded: Path | None = None,
    analyze: bool = False,
) -> Measured:
    """EPE, bad1, bad2, bad3 and D1-all.

    Args:
        truth: Files of disparity; 0 is not measured.
        prediction: The same. A pixel without a prediction counts as one of disparity 0.
        truth_units: Numbers of the ground truth that stand for a pixel, see `read_disparity`.
        prediction_units: The same of the predictions.
        occluded: See `measure_flow`, of the right image.
        analyze: See there.

    Raises:
        DataError: Files that do not belong together, or numbers of 8 bits with no unit.
    """
    from datamodules.disparity_files import DISPARITY_SUFFIXES, read_disparity
    from tasks.stereo.metrics import DisparityMeasures

    pairs, notes = pair_files(truth, prediction, DISPARITY_SUFFIXES, prefer=(".pfm", ".png"))

    def values(pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        real, ours = read_disparity(pair.truth, truth_units), read_disparity(pair.prediction, prediction_units)
        check_same_size(pair.name, ours.shape, real.shape)
        known = real > 0
        return ours, real, known, int((known & (ours == 0)).sum())

    limits = "bad1, bad2 and bad3 are above 1, 2 and 3 px, d1 above 3 px and 5 %"
    analysis = PixelAnalysis("disparity") if analyze else None
    hidden = _masks(occluded, pairs, truth)
    return _pooled(DisparityMeasures(), pairs, values, lambda *maps: maps, limits, notes, hidden, analysis)


def measure_scene_flow(truth: Path, prediction: Path) -> Measured:
    """D1, D2, Fl and SF of KITTI 2015: the fraction of points with an outlier in each part, and in any of them.

    Args:
        truth: A folder with `disp_occ_0`, `disp_occ_1` (disparity of the same points in the second pair) and
            `flow_occ`.
        prediction: A folder with `disp_0`, `disp_1` and `flow`, as KITTI's development kit has it.

    Raises:
        DataError: A folder that is missing, or files that do not belong together.
    """
    from datamodules.disparity_files import DISPARITY_SUFFIXES, read_disparity
    from datamodules.flow_files import FLOW_SUFFIXES, read_flow
    from visionkit.families.matching.scene_flow import outliers

    parts: list[dict[Path, Pair]] = []
    notes: list[str] = []
    for theirs, ours in SCENE_FLOW:
        sides = Side(truth / theirs, "", "--truth-ending"), Side(prediction / ours, "", "--prediction-ending")
        for side in sides:
            if not side.path.is_dir():
                raise DataError(
                    f"{side.path}: no such folder; scene flow has {', '.join(map(' and '.join, SCENE_FLOW))}"
                )
        found, more = pair_files(*sides, FLOW_SUFFIXES if ours == "flow" else DISPARITY_SUFFIXES)
        parts.append({Path(pair.name).with_suffix(""): pair for pair in found})
        notes += more
    if alone := sorted({name for part in parts for name in part if not all(name in each for each in parts)}):
        raise DataError(f"{truth}: {alone[0]} is not in each of {', '.join(theirs for theirs, _ in SCENE_FLOW)}")
    rows: list[dict[str, Any]] = []
    totals, points, missing = dict.fromkeys(("D1", "D2", "Fl", "SF"), 0.0), 0, 0
    for stem in parts[0]:
        first, second = (
            (read_disparity(part[stem].prediction), read_disparity(part[stem].truth)) for part in parts[:2]
        )
        (flow, given), (real, valid) = read_flow(parts[2][stem].prediction), read_flow(parts[2][stem].truth)
        for shape in (first[0].shape, second[0].shape, second[1].shape, flow.shape[1:], real.shape[1:]):
            check_same_size(str(stem), shape, first[1].shape)
        known = (first[1] > 0) & (second[1] > 0) & valid
        missing += int((known & ~(given & (first[0] > 0) & (second[0] > 0))).sum())
        values, count = outliers(first, second, (flow, real), known), int(known.sum())
        rows.append({"image": stem.as_posix(), **values})
        totals = {key: total + values[key] * count for key, total in totals.items()}
        points += count
    if missing:
        notes.append(f"{missing} points have a part without a prediction, which counts as 0")
    metrics = {key: total / max(points, 1) for key, total in totals.items()}
    protocol = (
        f"fractions of the {points} points of {len(rows)} scenes whose truth is known that are off by more than 3 px "
        "and 5 %: first disparity, second disparity, flow, and any of them"
    )
    return Measured(metrics, protocol, {}, rows, notes)


def _masks(masks: Path | None, pairs: list[Pair], truth: Side) -> dict[Path, Path]:
    return {} if masks is None else paired_masks(masks, [pair.truth for pair in pairs], truth)


def _pooled(
    total: Any,
    pairs: list[Pair],
    values: Callable[[Pair], tuple[np.ndarray, np.ndarray, np.ndarray, int]],
    compared: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    limits: str,
    notes: list[str],
    masks: dict[Path, Path],
    analysis: PixelAnalysis | None,
) -> Measured:
    """The measures over the known pixels of all files, and of each file.

    Args:
        total: The metric.
        pairs: The files.
        values: Prediction, truth and where it is known, and how many known pixels lack a prediction.
        compared: What the metric is updated with, of prediction and truth.
        limits: The part of the protocol that states them.
        notes: What is to be stated beside the numbers.
        masks: Masks of what is occluded by file of the ground truth.
        analysis: Takes the errors, where they are to be attributed.
    """
    import torch

    sums = ImageSums(total)
    rows: list[dict[str, Any]] = []
    missing = 0
    for pair in pairs:
        ours, real, known, lacking = values(pair)
        missing += lacking
        hidden = None
        if pair.truth in masks:
            mask = read_mask(ImageSource(masks[pair.truth]))
            check_same_size(str(masks[pair.truth]), mask.shape, known.shape, "the mask")
            hidden = torch.from_numpy(mask)
        given = [torch.from_numpy(np.ascontiguousarray(each)) for each in (*compared(ours, real), known)]
        one = type(total)()
        for metric in (total, one):
            metric.update(*given, hidden)
        sums.take()
        rows.append({"image": pair.name, **{name: float(value) for name, value in one.compute().items()}})
        if analysis is not None:
            analysis.add_maps(ours, real, known, None if hidden is None else hidden.numpy())
            analysis.rows.append(dict(rows[-1]))
    if missing:
        notes.append(f"{missing} pixels have no prediction, which counts as 0")
    sums.close()
    metrics = {name: float(value) for name, value in total.compute().items()}
    protocol = f"over all known pixels of {counted(len(rows), 'file')}, errors in file pixels; {limits}"
    resampled = Resampled.of_images([sums], len(rows))
    return Measured(metrics, protocol, {}, rows, notes, analysis, resampled=resampled)
