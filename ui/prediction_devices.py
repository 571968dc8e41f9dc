"""A model on the images of `visionkit predict`: on one device or on several, in the order of the images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.named_inputs import Gather, in_order
from visionkit.errors import EnvironmentFault

if TYPE_CHECKING:
    from visionkit.engines import EngineName
    from visionkit.images import ImageSource
    from visionkit.predictor import Predictor
    from visionkit.results import Result

    Predicted = tuple[Path, ImageSource, Result]


def open_predictors(model: str, devices: int | None, engine: EngineName) -> list[Predictor]:
    """Opens a model once per device.

    Args:
        model: Path or public name of the model.
        devices: Number of GPUs; 0 for the CPU; by default one GPU where there is one.
        engine: What runs the network.

    Raises:
        EnvironmentFault: This machine has fewer GPUs.
    """
    from visionkit.predictor import load

    return [load(model, device=device, engine=engine) for device in device_names(devices, engine)]


def device_names(devices: int | None, engine: EngineName = "torch") -> list[str]:
    """Names of the devices that a model is opened on.

    Args:
        devices: Number of GPUs; 0 for the CPU; by default one GPU where there is one.
        engine: What runs the network.

    Raises:
        EnvironmentFault: This machine has fewer GPUs.
    """
    import torch

    there = torch.cuda.device_count() if engine == "torch" else 0
    wanted = min(1, there) if devices is None else devices
    if wanted > there:
        why = f"this machine has {there}" if engine == "torch" else f"the {engine} engine computes on the CPU"
        raise EnvironmentFault(f"--devices {wanted}: {why}; give --devices {there} or leave it out")
    return [f"cuda:{index}" if wanted else "cpu" for index in range(wanted or 1)]


def predictions(
    predictors: Sequence[Predictor],
    paths: Sequence[Path],
    batch_size: int,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    gather: Gather | None = None,
    features: bool = False,
) -> Iterator[Predicted]:
    """Runs a model on every image, in order, decoding ahead of the network; one that cannot be read gives its fault.

    Args:
        predictors: One for each device.
        paths: The images.
        batch_size: Images per step.
        options: Options of the task, see `Predictor`.
        progress: Called with the tiles of an image that are done and all of them.
        gather: Puts the inputs of one prediction together; by default the image alone.
        features: Results have the pooled features of the backbone too.

    Yields:
        The path, the image, which knows its size, and the result.
    """
    from visionkit.images import ImageSource

    readers = min(4, os.cpu_count() or 1)

    def work(number: int, some: Sequence[Path]) -> Iterator[Predicted]:
        images = [ImageSource(path) for path in some]
        predictor = predictors[number % len(predictors)]
        given = images if gather is None else [gather(*each) for each in zip(some, images, strict=True)]
        results = predictor.stream(given, batch_size, readers, progress, features, **(options or {}))
        return zip(some, images, results, strict=True)

    if predictors[0].task.has_state:
        yield from in_order(predictors[0], paths, dict(options or {}), progress, gather)
        return
    if len(predictors) == 1:
        yield from work(0, paths)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    # One thread a device, each with some batches at a time, so that no device waits for another.
    fraction = 8 * batch_size
    devices = [ThreadPoolExecutor(max_workers=1, thread_name_prefix="device") for _ in predictors]
    waiting: deque[Future[list[Predicted]]] = deque()
    try:
        for number, start in enumerate(range(0, len(paths), fraction)):
            some = paths[start : start + fraction]
            waiting.append(devices[number % len(devices)].submit(_listed, work, number, some))
            if len(waiting) > 2 * len(devices):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for device in devices:
            device.shutdown(wait=False, cancel_futures=True)


def _listed(work: Callable[..., Iterator[Predicted]], number: int, some: Sequence[Path]) -> list[Predicted]:
    return list(work(number, some))
