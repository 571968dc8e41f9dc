"""Sources of weights: packages that hold public weights as files, found and never run."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from tasks.classification import ClassificationTask
from tests.own_package import look_again, own_packages
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone, backbone_facts
from visionkit.backbones.sources import find_source, weight_sources
from visionkit.checkpoint import load_task, save_checkpoint
from visionkit.errors import CheckpointError, EnvironmentFault
from visionkit.export import example_photos
from visionkit.predictor import load
from visionkit.registry import task_class, task_names

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)
DECLARED = {
    "architecture": "test_resnet",
    "tag": "r160_in1k",
    "package": "tiny_weights",
    "file": "models/tiny.pth",
    "license": "mit",
    "origin": "https://weights.example/tiny",
    "mean": MEAN,
    "std": STD,
    "interpolation": "bilinear",
    "crop_fraction": 0.8,
    "input_size": (96, 96),
    "in_order": True,
}
Install = Callable[..., Path]


def donor() -> torch.nn.Module:
    torch.manual_seed(7)
    return timm.create_model("test_resnet").eval()


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Installs a package with weights whose code must not run, and the declaration of them."""
    with own_packages(tmp_path):

        def write(state: dict[str, torch.Tensor] | None = None, **changed: object) -> Path:
            package = tmp_path / "tiny_weights"
            (package / "models").mkdir(parents=True)
            (package / "__init__.py").write_text("raise SystemExit('code of the package with weights was run')\n")
            file = package / "models" / "tiny.pth"
            if state is None:
                state = {f"layer_{n}": value for n, value in enumerate(donor().state_dict().values())}
            torch.save(state, file)
            values = {**DECLARED, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **changed}
            (tmp_path / "tiny_declared.py").write_text(
                f"from visionkit.backbones import WeightSource\nTINY = WeightSource(**{values!r})\n"
            )
            metadata = tmp_path / "tiny_declared-0.1.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-declared\nVersion: 0.1\n")
            points = "[visionkit.weights]\nbroken = absent_module:NOTHING\ntiny = tiny_declared:TINY\n"
            (metadata / "entry_points.txt").write_text(points)
            sys.path.insert(0, str(tmp_path))
            look_again()
            return file

        yield write


def test_weights_of_a_package_load_in_timms_order_without_its_code(install: Install) -> None:
    install()
    public, expected = Backbone("test_resnet", pretrained=True, num_classes=None).eval(), donor()
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(public.model(image), expected(image))
    assert (public.mean, public.std, public.crop_fraction) == (MEAN, STD, 0.8)
    assert public.model.pretrained_cfg["license"] == "mit"
    assert "state_dict" not in public.model.pretrained_cfg
    assert "tiny_weights" not in sys.modules
    gray = Backbone("test_resnet.r160_in1k", pretrained=True, num_classes=4, in_chans=1)
    torch.testing.assert_close(gray.model.conv1[0].weight, expected.conv1[0].weight.sum(1, keepdim=True))
    assert gray.mean == pytest.approx((0.4,))


def test_a_network_from_scratch_keeps_what_timm_declares(install: Install) -> None:
    install()
    declared = backbone_facts("test_resnet")
    assert declared.mean != MEAN
    assert Backbone("test_resnet").mean == declared.mean
    assert backbone_facts("test_resnet", pretrained=True).mean == MEAN


def test_weights_in_the_cache_are_asked_first(install: Install) -> None:
    install()
    folder = Path(constants.HF_HUB_CACHE) / "models--timm--test_resnet.r160_in1k"
    snapshot = folder / "snapshots" / ("0" * 40)
    try:
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        torch.manual_seed(8)
        other = timm.create_model("test_resnet")
        save_file(other.state_dict(), snapshot / "model.safetensors")
        public = Backbone("test_resnet", pretrained=True, num_classes=None)
        assert torch.equal(public.model.fc.weight, other.fc.weight)
        assert public.mean == backbone_facts("test_resnet").mean
    finally:
        shutil.rmtree(folder)


def test_other_weights_of_the_network_are_not_replaced(install: Install) -> None:
    install()
    assert find_source("test_resnet.r160_in1k") is not None
    assert find_source("test_resnet.other") is None
    assert find_source("test_resnet2") is None
    with pytest.raises(EnvironmentFault, match="not in the cache"):
        Backbone("test_vit", pretrained=True)


def test_a_source_that_cannot_be_imported_is_skipped_with_one_line(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    assert "test_resnet" in [source.architecture for source in weight_sources()]
    assert [record.message for record in caplog.records if "broken" in record.message] == [
        "source of weights broken (absent_module:NOTHING): cannot be used: No module named 'absent_module'"
    ]


def _altered(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {key: value if key == name else old for key, old in donor().state_dict().items()}


@pytest.mark.parametrize(
    ("state", "changed", "reason"),
    [
        (None, {"sha256": "0" * 64}, "has changed"),
        ({"weight": torch.zeros(2)}, {}, "1 tensors, and test_resnet has"),
        (_altered("fc.weight", torch.zeros(1000, 3)), {}, r"fc.weight is \(1000, 3\) instead of"),
        (_altered("fc.bias", torch.full((1000,), float("nan"))), {}, "fc.bias holds NaN or infinity"),
        (None, {"in_order": False}, "conv1.0.weight is missing"),
        (None, {"architecture": "test_vit"}, "tensors, and test_vit has"),
    ],
)
def test_weights_that_are_not_as_declared_are_refused_in_one_line(
    install: Install, state: dict[str, torch.Tensor] | None, changed: dict[str, object], reason: str
) -> None:
    install(state, **changed)
    with pytest.raises(CheckpointError, match=reason) as caught:
        Backbone(str(changed.get("architecture", "test_resnet")), pretrained=True)
    assert "tiny_weights" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_outside_the_package_is_no_source(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(file="../tiny_declared.py")
    assert all(source.package != "tiny_weights" for source in weight_sources())
    assert "does not lie in one package" in caplog.text


def test_a_checkpoint_keeps_the_normalization_and_needs_no_package(install: Install, tmp_path: Path) -> None:
    file = install()
    task = ClassificationTask("test_resnet", classes=["a", "b"], pretrained=True)
    assert (task.input.size, task.input.interpolation) == ((96, 96), "bilinear")
    save_checkpoint(task, tmp_path / "a.ckpt")
    file.unlink()
    again = load_task(tmp_path / "a.ckpt")
    assert again.normalize.mean == pytest.approx(MEAN, abs=1e-6)
    assert again.input == task.input
    image = torch.randint(0, 255, (1, 3, 96, 96), dtype=torch.uint8)
    torch.testing.assert_close(again(image).logits, task.eval()(image).logits)


def test_the_classifier_of_a_source_is_used_as_it_is(install: Install) -> None:
    install()
    task = load_task("timm:test_resnet")
    assert task.classes[281] == "tabby"
    assert task.input.crop_fraction == 0.8
    assert json.loads(json.dumps(task.config))["pretrained"] is False


ARGUMENTS = {
    "classification": {"classes": ["a", "b"]},
    "detection": {"classes": ["a", "b"]},
    "instance_segmentation": {"classes": ["a", "b"]},
    "semantic_segmentation": {"classes": ["a", "b"]},
    "multitask": {"heads": {"depth": {"task": "depth"}}},
}


@pytest.mark.parametrize("name", [name for name in task_names() if issubclass(task_class(name), BackboneTask)])
def test_every_task_starts_from_the_embedded_backbone(name: str) -> None:
    """The weights of an ordinary dependency, without a network."""
    size = {"size": [64, 64], "frames": task_class(name).default_input().frames}
    backbone = {"backbone": "tf_efficientnet_lite0", "pretrained": True, "input": size}
    task = task_class(name).from_config({**backbone, **ARGUMENTS.get(name, {})})
    source = find_source("tf_efficientnet_lite0")
    assert source is not None
    assert torch.equal(task.network.backbone.model.conv_stem.weight, source.state_dict()["conv_stem.weight"])
    assert task.normalize.mean == pytest.approx((127 / 255,) * 3, abs=1e-6)


def test_the_embedded_classifier_gives_what_timms_own_transform_gives() -> None:
    source = find_source("tf_efficientnet_lite0")
    assert source is not None
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(source.state_dict())
    transform = create_transform((3, 224, 224), interpolation="bicubic", mean=source.mean, std=source.std)
    predictor = load("timm:tf_efficientnet_lite0")
    for photo in example_photos()[:4]:
        found = torch.tensor(predictor(photo).probabilities)
        with Image.open(photo) as image, torch.no_grad():
            published = network(transform(image.convert("RGB"))[None]).softmax(1)[0]
        torch.testing.assert_close(found, published, atol=1e-4, rtol=0)
        assert found.argmax() == published.argmax()
