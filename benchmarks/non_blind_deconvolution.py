"""Deblurring of known blurs: Wiener, Richardson-Lucy and the network of Xu et al. (2014) on Set3c with Levin's kernels.

`python -m benchmarks.non_blind_deconvolution --data FOLDER --train FOLDER --out deconvolution.jsonl [--minutes 10]`

`--data` holds `kernels/Levin09.npz` (k1 to k8) and `set3c/*.png`, `--train` gray images of which no one is in Set3c.
Images are blurred as if they went on at their opposite border; then noise of 2.55 gray levels is added, neither clipped
nor rounded. The strength of Wiener and the steps of Richardson-Lucy are, for each kernel, those that are best on the
first training images, with noise of their own. The network is trained for each kernel for that number of minutes of one
processor, whose clock is that of the process; `begun` is the same network before. Finished cells are kept; a rerun
skips them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.experiments import finished, keep
from tasks.restoration.deconvolution import DeconvolutionCNN
from tasks.restoration.metrics import RestorationQuality
from visionkit.families.restoration.blur_kernels import read_kernels
from visionkit.families.restoration.classical import Floats, blurred, richardson_lucy, wiener
from visionkit.images import ImageSource

NOISE = 2.55 / 255
STRENGTHS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
STEPS = (5, 10, 20, 30, 50, 100)
CHOSEN_ON = 8
"""Number of training images that settings are chosen on."""

METHODS = ("blurred", "wiener", "richardson_lucy", "begun", "network")
WIDTH, RATE, INVERSE_RATE = 64, 3e-4, 3e-5
"""Channels of the denoiser, and the largest learning rates of it and of the inverse of the blur."""

Restore = Callable[[Floats], Floats]


def degraded(clean: Floats, kernel: Floats, rng: np.random.Generator) -> Floats:
    """A blurred and noisy image, on the scale of [0, 1]."""
    return np.asarray(blurred(clean, kernel) + rng.normal(0, NOISE, clean.shape))


def best(settings: Sequence[Any], restore: Callable[[Floats, Any], Floats], kernel: Floats, clean: list[Floats]) -> Any:
    """The setting with the highest mean PSNR on images."""
    given = [degraded(image, kernel, np.random.default_rng(number)) for number, image in enumerate(clean, 1)]

    def error(setting: Any) -> float:
        squares = [
            np.square(restore(y, setting).clip(0, 1) - image).mean() for y, image in zip(given, clean, strict=True)
        ]
        return float(np.log(squares).mean())

    return min(settings, key=error)


def run(network: DeconvolutionCNN, image: Floats) -> Floats:
    """(h, w, C) through the network."""
    with torch.no_grad():
        found = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    return np.asarray(found[0].permute(1, 2, 0).double().numpy())


def trained(network: DeconvolutionCNN, kernel: Floats, clean: list[Floats], seconds: float) -> int:
    """Trains a network on one blur for a number of seconds of the processor, and returns its steps."""
    own = [p for layer in (network.first, network.second, network.last) for p in layer.parameters()]
    inverse = [p for p in network.parameters() if all(p is not each for each in own)]
    groups = [{"params": own, "rate": RATE}, {"params": inverse, "rate": INVERSE_RATE}]
    optimizer = torch.optim.Adam(groups, lr=RATE)
    rng, began, steps = np.random.default_rng(0), time.process_time(), 0
    while (part := (time.process_time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (part + 0.001) / 0.05) * (1 - part)
        image = np.rot90(clean[rng.integers(len(clean))], int(rng.integers(4)))
        image = np.ascontiguousarray(image[:, ::-1] if rng.random() < 0.5 else image)
        given, wanted = (torch.from_numpy(each)[None, None].float() for each in (degraded(image, kernel, rng), image))
        optimizer.zero_grad()
        loss = (network(given) - wanted).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
    return steps


def measured(restore: Restore, kernel: Floats, images: list[Floats]) -> dict[str, float]:
    """PSNR and SSIM of RGB, means over images, each with the noise of one seed."""
    metric = RestorationQuality()
    for clean in images:
        given = degraded(clean, kernel, np.random.default_rng(0))
        planes = (torch.from_numpy(255 * each).permute(2, 0, 1) for each in (restore(given).clip(0, 1), clean, given))
        metric.update(*([each] for each in planes))
    return {name: float(value) for name, value in metric.compute().items() if name in ("psnr", "ssim")}


def cells(options: argparse.Namespace, number: int, kernel: Floats, there: set[tuple[int, str]]) -> None:
    """Runs the methods on one kernel, those that are missing."""
    images = [ImageSource(path).read() / 255 for path in sorted((options.data / "set3c").glob("*.png"))]
    clean = [ImageSource(path).read(1)[:, :, 0] / 255 for path in sorted(options.train.glob("*.png"))]
    path = str(options.data / "kernels" / "Levin09.npz")
    small = {"maps": 4, "side": 31, "width": 4} if options.quick else {"width": WIDTH}
    torch.manual_seed(0)
    network = DeconvolutionCNN(3, path, number, between=1, circular=True, **small)
    few = clean[: 1 if options.quick else CHOSEN_ON]
    for method in METHODS:
        if (number, method) in there:
            continue
        setting: dict[str, Any] = {}
        restore: Restore = lambda image: image  # noqa: E731
        if method == "wiener":
            strength = best(STRENGTHS, lambda y, c: wiener(y, kernel, c), kernel, few)
            restore, setting = lambda image, c=strength: wiener(image, kernel, c), {"strength": strength}  # type: ignore[misc]
        elif method == "richardson_lucy":
            steps = best(STEPS[: 2 if options.quick else None], lambda y, n: richardson_lucy(y, kernel, n), kernel, few)
            restore, setting = lambda image, n=steps: richardson_lucy(image, kernel, n), {"steps": steps}  # type: ignore[misc]
        elif method in ("begun", "network"):
            if method == "network":
                setting = {"steps": trained(network, kernel, clean, options.minutes * 60), "minutes": options.minutes}
            restore = lambda image: run(network, image)  # noqa: E731
        keep(options.out, {"kernel": number, "method": method, **measured(restore, kernel, images), **setting})


def report(found: Sequence[dict[str, Any]]) -> None:
    """Prints PSNR of each method by kernel, and means over the kernels that all have."""
    numbers = sorted({each["kernel"] for each in found})
    print(f"| method | {' | '.join(f'k{number}' for number in numbers)} | mean PSNR | mean SSIM |")
    print("|---" * (len(numbers) + 3) + "|")
    for method in METHODS:
        own = {each["kernel"]: each for each in found if each["method"] == method}
        values = [f"{own[number]['psnr']:.2f}" if number in own else "" for number in numbers]
        whole = len(own) == len(numbers)
        means = [f"{statistics.fmean(each['psnr'] for each in own.values()):.2f}" if whole else ""]
        means.append(f"{statistics.fmean(each['ssim'] for each in own.values()):.3f}" if whole else "")
        print(f"| {method} | {' | '.join([*values, *means])} |")
    print(RestorationQuality().protocol)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with kernels/Levin09.npz and set3c")
    parser.add_argument("--train", type=Path, required=True, help="folder of gray training images")
    parser.add_argument("--out", type=Path, required=True, help="file of finished cells, a line of json for each")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of training per kernel (default: 10)")
    parser.add_argument("--kernels", type=int, nargs="+", default=[], help="numbers of kernels (default: all)")
    parser.add_argument("--quick", action="store_true", help="show that it runs; its numbers carry no information")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    there = {(each["kernel"], each["method"]) for each in finished(options.out)}
    for number, kernel in enumerate(read_kernels(options.data / "kernels" / "Levin09.npz"), 1):
        if number in (options.kernels or (number,)):
            cells(options, number, kernel.astype(np.float64), there)
    report(finished(options.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
