"""Which value is white in images that are not of 8 bits: decided once for a data set, kept in the checkpoint.

Sensors write 10, 12 or 14 bits into 16-bit files, and reflectance comes as floats around 1. Deciding image by image
would make an image with one bright pixel darker than its neighbors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.errors import VisionKitError
from visionkit.images import ImageSource, usual_white

if TYPE_CHECKING:
    from visionkit.data import VisionDataModule

log = logging.getLogger(__name__)

_PROBES = 64
_DEPTHS = (255.0, 1023.0, 4095.0, 16383.0)  # 8, 10, 12 and 14 bits in a file of 16


def settle_white(data: VisionDataModule) -> None:
    """Settles which value is white, for data and the task that is trained on it, where nothing was given.

    Args:
        data: Data of a training; its input and that of the task get the value.
    """
    task: Any = data.trainer.lightning_module if data.trainer is not None else None
    if task is None or data.input is None or data.input.white is not None:
        return
    white = choose_white(data.training_images())
    if white is not None:
        data.input = replace(data.input, white=white)
        task.set_input(data.input)


def choose_white(sources: Sequence[ImageSource]) -> float | None:
    """The white of a data set; warns where it is not that of the file type, and of pixels that are no numbers.

    Args:
        sources: Its images; at most 64, evenly spread, are read, and of these only such as are not of 8 bits.

    Returns:
        For `InputSpec.white`: None where the images are of 8 bits, or use all of their 16 bits.
    """
    count = len(sources)
    chosen = [sources[int(k)] for k in np.unique(np.linspace(0, count - 1, min(count, _PROBES)).astype(int))]
    peaks, lows, is_float, undefined = [], [], False, []
    for source in chosen:
        try:
            values = source.undecoded_values()
        except VisionKitError:
            continue  # training names it when it gets there
        if values is None:
            continue
        finite = values[np.isfinite(values)]
        if finite.size < values.size:
            undefined.append(source.name)
        if finite.size:
            peaks.append(float(finite.max()))
            lows.append(float(finite.min()))
            is_float = is_float or values.dtype.kind == "f"
    if undefined:
        log.warning(
            "%d of %d images that were read hold pixels that are NaN or infinite (%s is the first), which become black",
            *(len(undefined), len(chosen), undefined[0]),
        )
    if not peaks:
        return None
    peak = max(peaks)
    if is_float:
        white = usual_white(peak)
        log.warning("the images hold floats from %g to %g: 0 is black and %g is white", min(lows), peak, white)
        return white
    white = next((depth for depth in _DEPTHS if peak <= depth), 65535.0)
    if white == 65535:
        return None
    log.warning(
        "the images are of 16 bits and the brightest value of %d that were read is %g, so %g is taken for white; "
        "set --model.input.white to another value, 65535 for the whole range",
        *(len(peaks), peak, white),
    )
    return white
