"""Which tests concern which module."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.real_data import ROOT

_V, _T = "tests/visionkit", "tests/tasks"
PLAN: dict[str, tuple[str, ...]] = {
    "visionkit/geometry.py": (
        f"{_V}/test_geometry.py",
        f"{_V}/test_geometry_exact.py",
    ),
    "visionkit/resize_modes.py": (f"{_V}/test_geometry.py", f"{_V}/test_geometry_exact.py"),
    "visionkit/preprocess.py": (f"{_V}/test_preprocess.py", f"{_V}/test_masks.py"),
    "visionkit/nn/normalize.py": (f"{_V}/nn",),
    "visionkit/images.py": (f"{_V}/test_images.py", f"{_V}/test_jpeg.py"),
    "visionkit/jpeg.py": (f"{_V}/test_images.py", f"{_V}/test_jpeg.py"),
    "visionkit/sampling.py": (f"{_V}/test_loading.py", f"{_V}/test_sampling.py", f"{_V}/test_sequences.py"),
    "visionkit/loading.py": (
        f"{_V}/test_loading.py",
        f"{_V}/test_sequences.py",
    ),
    "visionkit/families/detection/select.py": (f"{_V}/families/detection", f"{_T}/test_detection.py"),
    "tasks/classification/loss.py": (f"{_T}/test_classification.py",),
    "tasks/classification/metrics.py": (f"{_T}/test_classification.py",),
    "tasks/depth/loss.py": (f"{_T}/test_depth_losses.py",),
    "visionkit/families/dense/depth_measures.py": (f"{_T}/test_depth_measures.py",),
    "tasks/detection/loss.py": (f"{_T}/test_detection_losses.py",),
    "tasks/face_recognition/loss.py": (f"{_T}/test_face_recognition.py",),
    "tasks/face_recognition/metrics.py": (f"{_T}/test_face_metrics.py",),
    "tasks/instance_segmentation/loss.py": (f"{_T}/test_instance_segmentation.py",),
    "tasks/multitask/loss.py": (
        f"{_T}/test_multitask_losses.py",
        f"{_T}/test_multitask_log.py",
    ),
    "tasks/multitask/metrics.py": (f"{_T}/test_multitask_log.py",),
    "tasks/patch_matching/loss.py": (f"{_T}/test_patch_matching.py",),
    "tasks/patch_matching/metrics.py": (f"{_T}/test_patch_matching.py",),
    "tasks/pose/loss.py": (f"{_T}/test_pose_losses.py",),
    "tasks/pose/metrics.py": (f"{_T}/test_pose_metrics.py",),
    "tasks/restoration/loss.py": (f"{_T}/test_restoration_losses.py",),
    "tasks/restoration/metrics.py": (f"{_T}/test_restoration_measures.py",),
    "tasks/semantic_segmentation/loss.py": (f"{_T}/test_segmentation_losses.py",),
    "tasks/semantic_segmentation/metrics.py": (f"{_T}/test_segmentation_measures.py",),
    "tasks/super_resolution/loss.py": (f"{_T}/test_super_resolution.py",),
    "tasks/super_resolution/metrics.py": (f"{_T}/test_super_resolution.py", f"{_T}/test_super_resolution_files.py"),
    "visionkit/families/restoration/quality.py": (f"{_T}/test_super_resolution.py",),
    "visionkit/families/restoration/tiles.py": (f"{_T}/test_super_resolution_files.py", f"{_V}/families/restoration"),
    "visionkit/callbacks/ema.py": (f"{_V}/callbacks/test_ema.py",),
    "visionkit/checkpoint.py": (f"{_V}/test_checkpoint.py", f"{_V}/test_warm_start.py"),
    "visionkit/checkpoint_files.py": (f"{_V}/test_checkpoint_files.py",),
    "visionkit/resume.py": (f"{_V}/test_positions.py",),
    "visionkit/predictor.py": (f"{_V}/test_predictor_parts.py",),
    "visionkit/forward_pass.py": (f"{_V}/test_forward_pass.py",),
    "visionkit/export.py": (f"{_V}/test_export_parts.py",),
}
"""By module, the files and folders of tests; those that are slow, or need real data, are left out."""


def equivalents() -> dict[tuple[str, str, str], str]:
    """The reasons of mutants that change nothing a test could see, by module and changed line before and after."""
    entries = yaml.safe_load((Path(__file__).parent / "equivalents.yaml").read_text("utf-8")) or []
    return {(each["module"], each["old"], each["new"]): each["why"] for each in entries}


def stale() -> list[str]:
    """Entries of the list whose line no longer stands in its module."""
    return [
        f"{module}: {old}"
        for module, old, _ in equivalents()
        if not re.search(rf"^\s*{re.escape(old)}$", (ROOT / module).read_text("utf-8"), re.MULTILINE)
    ]
