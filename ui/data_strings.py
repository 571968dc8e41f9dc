"""Texts of the pages of the demo about data sets, and about what is inside a model."""

from __future__ import annotations

from collections.abc import Sequence

from ui.strings import plain

DATA = "Data"
DATA_LEAD = (
    "Samples of a data set with their labels, as they are and as training augments them. Click one to see it large."
)
DATA_SET = "Data set"
DATA_SHOW = "Show"
DATA_VIEWS = {"labels": "As they are", "augmented": "Augmented", "prediction": "With predictions"}
DATA_SPLIT, DATA_CLASS, DATA_SIZE, DATA_FINDING = "Split", "Class", "Objects", "Finding"
DATA_SIZES = {"small": "small (below 32 × 32)", "medium": "medium", "large": "large (from 96 × 96)"}
DATA_ANY = "all"
DATA_PREVIOUS, DATA_NEXT = "‹ Previous", "Next ›"
DATA_MODEL, DATA_NO_MODEL = "Prediction of", "no model"
DATA_AGAIN = "Augment again"
DATA_LABELS, DATA_AUGMENTED, DATA_PREDICTION = "Labels", "Augmented", "Prediction"
DATA_EMPTY = "No sample is as you ask for: choose “all” in one of the lists."
DATA_CHOOSE = "Click a sample to see it large."
DOCTOR = "Check data"
DOCTOR_LEAD = (
    "What is wrong with a data set: unreadable images, labels that contradict them, copies, leaks between splits."
)
DOCTOR_COUNT = "Images of each split"
DOCTOR_RUN = "Check"
DOCTOR_EMPTY = "The report appears here. Samples with a finding can then be chosen on the page Data."
ANALYZE = "Errors"
ANALYZE_LEAD = "Where a model is wrong: errors by kind, the worst images, slices. Reports of finished analyses."
ANALYZE_REPORT = "Report"
ANALYZE_REFRESH = "Search again"
ANALYZE_EMPTY = (
    "There is no report yet. `visionkit analyze RUN` writes one into the folder of a run; start this page with "
    "`visionkit serve --models DIR`, where DIR holds your runs."
)
INSPECT = "Inspect"
INSPECT_LEAD = "What a network consists of, how far each layer sees, and what it sees in an image."
INSPECT_LAYERS, INSPECT_FIELD, INSPECT_MAPS, INSPECT_EVIDENCE = "Layers", "Receptive field", "Feature maps", "Evidence"
INSPECT_COLUMNS = ["layer", "kind", "output", "parameters", "multiply-adds", "receptive field"]
INSPECT_LAYER = "Layer"
INSPECT_METHOD = "Method"
INSPECT_BEST = "the highest-scoring"
INSPECT_DRAW = "Draw"
INSPECT_FIELD_NOTE = (
    "How much each pixel of the input weighs in the unit in the middle of the layer, by gradients; the frame is the "
    "receptive field that follows from kernels and strides."
)
INSPECT_IMAGE_FIRST = "Give an image, then choose what to draw."


def part_of(first: int, shown: int, of: int | None, more: bool) -> str:
    """Which samples a page shows, from 1 on.

    Args:
        first: Samples before the page.
        shown: Samples of the page.
        of: Number of all; None where nobody has counted.
        more: Whether others follow.
    """
    if not shown:
        return DATA_EMPTY
    whole = f" of {of:,}" if of is not None else ", and more" if more else f" of {first + shown:,}"
    return f"{first + 1:,} to {first + shown:,}{whole}"


def sample(name: str, split: str, caption: str, findings: Sequence[tuple[str, str]], remarks: Sequence[str]) -> str:
    """What stands under a large sample.

    Args:
        name: Name of its image.
        split: Its split.
        caption: Its labels in words.
        findings: Kind and message of what is wrong with it.
        remarks: What else there is to state.
    """
    lines = [f"**{plain(name)}**, {plain(split)}: {plain(caption)}"]
    lines += [f"**{plain(kind)}:** {plain(message)}" for kind, message in findings]
    return "  \n".join([*lines, *(plain(each) for each in remarks if each)])
