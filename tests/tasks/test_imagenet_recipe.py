"""The recipe for ImageNet: what it builds, its rates, and a training on a tree of a few images."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.real_data import ROOT
from ui.cli import main
from visionkit.arguments import check_arguments, option
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler

RECIPE = ROOT / "configs" / "experiment" / "imagenet_resnet50.yaml"


def rates(config: OptimConfig, epochs: int = 90) -> list[float]:
    """The rate of each epoch, as the trainer steps the schedule."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer([{"params": [weight], "lr": config.lr, "weight_decay": 0.0}], config)
    built = build_scheduler(optimizer, config, epochs)
    assert built is not None and built["interval"] == "epoch"
    out = []
    for epoch in range(epochs):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        timm = not isinstance(built["scheduler"], torch.optim.lr_scheduler.LRScheduler)
        built["scheduler"].step(*((epoch + 1,) if timm else ()))
    return out


def test_rates_are_those_of_the_paper() -> None:
    given = yaml.safe_load(RECIPE.read_text("utf-8"))["model"]["init_args"]["optim"]
    config = OptimConfig(**given)
    expected = [0.1] * 30 + [0.01] * 30 + [0.001] * 20 + [0.0001] * 10
    assert rates(config) == pytest.approx(expected)
    optimizer = build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))]}], config)
    assert (
        type(optimizer).__name__ == "SGD" and optimizer.defaults["nesterov"] and optimizer.defaults["momentum"] == 0.9
    )


def test_the_page_warms_large_batches_up() -> None:
    """The second command of the page: 8,192 images, from 0.1 to 3.2 in five epochs, then as before."""
    page = (ROOT / "docs" / "tasks" / "classification.md").read_text("utf-8")
    block = next(each for each in re.findall(r"```bash\n(.*?)```", page, re.S) if "timm:multistep" in each)
    words = shlex.split(block.replace("\\\n", " "))[2:]
    # A folder that exists, since the real one is looked for.
    arguments = check_arguments("fit", [str(ROOT) if word == "imagenet" else word for word in words])
    large = OptimConfig(
        name="sgd",
        lr=float(option(arguments, "--model.optim.lr") or 0),
        schedule=option(arguments, "--model.optim.schedule") or "",
        schedule_args=json.loads(option(arguments, "--model.optim.schedule_args") or ""),
    )
    found = rates(large)
    assert found[:6] == pytest.approx([0.1 + 3.1 * k / 5 for k in range(5)] + [3.2])
    assert [found[k] for k in (29, 30, 59, 60, 79, 80, 89)] == pytest.approx(
        [3.2, 0.32, 0.32, 0.032, 0.032, 0.0032, 0.0032]
    )
    assert 4 * 8 * int(option(arguments, "--data.batch_size") or 0) == 8192 and large.lr == 0.1 * 8192 / 256


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """ImageNet's layout with two classes: eight images to train on, four to validate."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / "imagenet" / split / wnid).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "imagenet" / split / wnid / f"{wnid}_{number}.JPEG")
    return tmp_path / "imagenet"


def test_the_recipe_trains_with_accumulated_gradients(tree: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = (
        f"--data.root {tree} --run {run} --model.backbone test_resnet --model.input.size [32,32] --data.num_workers 0 "
        "--data.batch_size 2 --trainer.accumulate_grad_batches 2 --trainer.accelerator cpu --trainer.precision 32-true "
        "--trainer.max_epochs 1 --report false"
    )
    assert main(["fit", "-c", "imagenet_resnet50", *shlex.split(small)]) == 0
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2, "eight images, two at a time, two batches per step"
    config = last["visionkit"]["config"]
    assert config["classes"] == ["n01440764", "n01443537"] and config["input"]["crop_fraction"] == 0.875
    assert config["input"]["interpolation"] == "bilinear" and not config["pretrained"]
    groups = {group["name"]: group for group in last["optimizer_states"][0]["param_groups"]}
    assert {group["weight_decay"] for name, group in groups.items() if name.endswith("no_decay")} == {0.0}
    assert groups["backbone"]["weight_decay"] == 1e-4 and groups["backbone"]["nesterov"]
    saved = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    assert saved["data"]["init_args"]["augment"]["init_args"]["area"] == [0.08, 1.0]


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_layerwise_rates_by_hand(name: str) -> None:
    """One step of 2x2 weights of norm 4, and of a bias, which has no decay and is not adapted."""
    weight, bias = torch.nn.Parameter(torch.full((2, 2), 2.0)), torch.nn.Parameter(torch.full((2,), 2.0))
    config = OptimConfig(name=name, lr=0.5, weight_decay=0.1, momentum=0.0)
    groups = [
        {"params": [weight], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [bias], "lr": config.lr, "weight_decay": 0.0},
    ]
    optimizer = build_optimizer(groups, config)
    weight.grad, bias.grad = torch.full((2, 2), 0.1), torch.full((2,), 0.1)
    optimizer.step()
    if name == "lars":  # You et al. (2017): rate times .001 |w| / (|g| + .1 |w|), on g + .1 w
        adapted = 0.001 * 4 / (0.2 + 0.1 * 4)
        assert weight.detach() == pytest.approx(torch.full((2, 2), 2 - 0.5 * adapted * (0.1 + 0.1 * 2)), abs=1e-6)
        assert bias.detach() == pytest.approx(torch.full((2,), 2 - 0.5 * 0.1), abs=1e-6)
    else:  # You et al. (2020): the first step of Adam is 1; with decay 1.2, scaled to the norm of the weights
        assert weight.detach() == pytest.approx(torch.full((2, 2), 2 - 0.5 * 2.0), abs=1e-4)
        assert bias.detach() == pytest.approx(torch.full((2,), 2 - 0.5 * 1.0), abs=1e-4)
