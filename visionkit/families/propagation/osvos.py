"""OSVOS (Caelles et al., CVPR 2017): a segmentation network is fine-tuned on the first frame, then segments each frame.

A parent network knows what objects in general look like; the first frame states which of them is meant. Frames are
segmented independently of each other, so an object that was hidden is found again, and nothing can drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import backbone_facts, declared_strides
from visionkit.backbones.of_models import backbone_of
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.unet import UNet
from visionkit.families.dense.network import DenseMapHead, DenseNetwork
from visionkit.families.propagation.features import Size, rounded
from visionkit.families.propagation.propagator import Propagator
from visionkit.images import ImageSource
from visionkit.input_spec import InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.preprocess import Preprocessor
from visionkit.results import Progress
from visionkit.types import IGNORE, Sample, View

_AT_OBJECTS = 0.75
"""Fraction of the crops that have a pixel of an object near their middle."""


@dataclass
class Osvos(Propagator):
    """Fine-tunes a segmentation network on augmented crops of the first frame, by class-balanced cross-entropy.

    The parent is a semantic segmentation model, whose last layer is replaced by one output per object; where it has two
    classes (background and object), every output begins as its second class. With the name of a backbone, the parent is
    a U-Net on its public weights. The same seed gives the same masks on one machine.

    Attributes:
        steps: Steps of the fine-tuning.
        lr: Learning rate of decoder and head.
        backbone_lr_scale: Learning rate of the backbone over that.
        batch_size: Crops per step.
        crop: Side of the crops, in pixels of the frame as it is processed.
        threshold: Probability from which a pixel belongs to an object.
        seed: Seed of crops and of weights that are not trained.
    """

    steps: int = 150
    lr: float = 1e-3
    backbone_lr_scale: float = 0.1
    batch_size: int = 4
    crop: int = 256
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("steps", self.steps, 1)
        self._check("lr", self.lr, 0, 1)
        self._check("backbone_lr_scale", self.backbone_lr_scale, 0, 1)
        self._check("batch_size", self.batch_size, 1, 64)
        self._check("crop", self.crop, 32, 1024)
        self._check("threshold", self.threshold, 0.01, 0.99)
        self._parent: Parent | None = None
        self._asked: Size = (0, 0)

    def open(self, size: Size) -> Size:
        if self._parent is None or self._asked != size:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self._parent = Parent.open(self.model, size)
            self._asked = size
        return self._parent.size

    def start(self, frame: np.ndarray, image: Tensor, masks: np.ndarray, progress: Progress | None) -> None:
        assert self._parent is not None
        objects = int(masks[masks != IGNORE].max())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._network = self._parent.for_objects(objects).to(self.device)
            self._normalize = self._parent.normalize.to(self.device)
            self._fine_tune(frame, masks, objects, progress)

    @torch.inference_mode()
    def step(self, image: Tensor) -> Tensor:
        logits = self._network(self._normalize(image.to(self.device)[None].float()))[0].float()
        background = torch.full_like(logits[:1], float(np.log(self.threshold / (1 - self.threshold))))
        return torch.cat([background, logits])

    def _fine_tune(self, frame: np.ndarray, masks: np.ndarray, objects: int, progress: Progress | None) -> None:
        assert self._parent is not None
        network, parent = self._network, self._parent
        network.train()
        for module in (network.backbone, *(() if parent.is_new else (network.decoder,))):
            _keep_statistics(module)
        own = [each for each in network.backbone.parameters() if each.requires_grad]
        rest = [*network.decoder.parameters(), *network.head.parameters()]
        groups = [{"params": own, "lr": self.lr * self.backbone_lr_scale}, {"params": rest, "lr": self.lr}]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        crops = self._crops(frame, masks)
        for done in range(self.steps):
            images, labels = (torch.stack(each).to(self.device) for each in zip(*next(crops), strict=True))
            logits = network(self._normalize(images.float()))
            loss = balanced_cross_entropy(logits, labels, objects)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(done + 1, self.steps)
        network.eval().requires_grad_(False)

    def _crops(self, frame: np.ndarray, masks: np.ndarray) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Batches of crops and their labels: moved, turned, scaled, flipped, of another brightness and contrast."""
        assert self._parent is not None
        random = np.random.default_rng(self.seed)
        height, width = self._parent.size
        side = self.crop if not self._parent.fixed else 0
        prepare = Preprocessor(InputSpec(size=(side, side) if side else (height, width), resize_mode="stretch"))
        source = ImageSource(frame)
        scale = (frame.shape[0] / height, frame.shape[1] / width)
        places = np.argwhere((masks > 0) & (masks != IGNORE))

        def crop() -> tuple[Tensor, Tensor]:
            zoom = np.exp(random.uniform(-0.4, 0.4))
            if random.random() < _AT_OBJECTS:
                center = places[random.integers(len(places))] + 0.5
            else:
                center = random.uniform((0, 0), frame.shape[:2])
            half = np.array([(side or height) * scale[0], (side or width) * scale[1]]) * zoom / 2
            y, x = center + random.uniform(-0.6, 0.6, 2) * half
            box = (x - half[1], y - half[0], x + half[1], y + half[0])
            view = View(box, flip=bool(random.random() < 0.5), rotation=random.uniform(-20, 20))
            gain, bias = random.uniform(0.8, 1.2), random.uniform(-20, 20)

            def brightness(pixels: np.ndarray) -> np.ndarray:
                return np.asarray(np.clip(pixels * np.float32(gain) + np.float32(bias), 0, 255), np.uint8)

            example = prepare(Sample.of(source, {"label_map": masks}, view=view, photometric=brightness))
            return example["inputs"]["image"], example["target"]["label_map"]

        while True:
            yield [crop() for _ in range(self.batch_size)]


def balanced_cross_entropy(logits: Tensor, labels: Tensor, objects: int) -> Tensor:
    """Binary cross-entropy of each object in which its pixels and all others weigh alike, as in HED and OSVOS.

    Args:
        logits: (B, N, h, w).
        labels: (B, h, w) integers, 0 background, 1 to N objects, 255 not known.
        objects: N.
    """
    known = labels != IGNORE
    terms = []
    for number in range(1, objects + 1):
        inside = labels == number
        losses = F.binary_cross_entropy_with_logits(logits[:, number - 1], inside.float(), reduction="none")
        terms += [(losses * some).sum() / some.sum().clamp(min=1) for some in (inside, known & ~inside)]
    return torch.stack(terms).sum() / (2 * objects)


class Parent:
    """The network before it has seen the first frame.

    Args:
        network: Any dense network.
        normalize: Its normalization.
        size: Height and width of frames that it is to have.
        fixed: It takes no other size.
        is_new: Its decoder was not trained.
    """

    def __init__(self, network: DenseNetwork, normalize: nn.Module, size: Size, fixed: bool, is_new: bool) -> None:
        self.network, self.normalize, self.size = network, normalize, size
        self.fixed, self.is_new = fixed, is_new

    @classmethod
    def open(cls, model: str, size: Size) -> Parent:
        """Builds a U-Net on a backbone, or opens a trained model.

        Raises:
            UsageError: A model without a map at every pixel, or of other than 3 channels.
        """
        name, arguments = backbone_of(model)
        if "weights" not in arguments:
            fixed = backbone_facts(name).fixed_input_size
            size = rounded(size, max(32, *declared_strides(name)))
            network = DenseNetwork.build(name, UNet(), 1, image_size=size if fixed else None, **arguments)
            body = network.backbone
            return cls(network, Normalize(body.mean, body.std), size, fixed, is_new=True)
        from visionkit.checkpoint import load_task

        task = load_task(model)
        stored: Any = task.network
        if not isinstance(stored, DenseNetwork):
            raise UsageError(
                f"{model}: a model of {task.name}; osvos fine-tunes one of semantic segmentation, or give a network's "
                "name such as timm:resnet18"
            )
        if task.input.channels != 3:
            raise UsageError(f"{model}: its images have {task.input.channels} channels, and those of a video have 3")
        fixed = backbone_facts(stored.backbone.name).fixed_input_size
        size = task.input.size if fixed else rounded(size, stored.divisor)
        normalize: Any = task.normalize
        return cls(stored, normalize, size, fixed, is_new=False)

    def for_objects(self, objects: int) -> DenseNetwork:
        """A copy with one output per object at the size of the image."""
        from copy import deepcopy

        own, decoder = self.network, deepcopy(self.network.decoder)
        if decoder.head == "none":
            raise UsageError(f"{type(decoder).__name__}: has no last layer that objects could have outputs of")
        head = DenseMapHead(decoder, objects)
        trained: Any = own.head.layers[-1]
        if not self.is_new and trained.out_channels == 2:
            _begin_as_second_class(head.layers[-1], trained)
        return DenseNetwork(deepcopy(own.backbone), decoder, head, reflect_padding=own.reflect_padding)


def _begin_as_second_class(layer: Any, trained: Any) -> None:
    """The logit of the second class against the first, for each object: the parent's own prediction."""
    with torch.no_grad():
        layer.weight.copy_((trained.weight[1:] - trained.weight[:1]).expand_as(layer.weight))
        layer.bias.copy_((trained.bias[1:] - trained.bias[:1]).expand_as(layer.bias))


def _keep_statistics(module: nn.Module) -> None:
    """Leaves batch norms as they are: a few crops of one image are no data set."""
    for each in module.modules():
        if "running_mean" in each._buffers:
            each.eval()
