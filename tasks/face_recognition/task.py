"""Face recognition: an embedding in which images of one person lie together, also of people never seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tasks.face_recognition.alignment import FRAMINGS, face_view
from tasks.face_recognition.analysis import FaceAnalysis
from tasks.face_recognition.loss import FaceLoss, LossName
from tasks.face_recognition.metrics import build_metrics, curve_table, match_table
from tasks.face_recognition.network import FaceNetwork, FaceOutputs, HeadKind
from tasks.face_recognition.postprocess import joined, to_faces, unit
from visionkit.analysis.base import Analysis
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone, backbone_facts
from visionkit.backbones.build import declared_maps
from visionkit.errors import UsageError, suggest
from visionkit.finite import finite
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.plain_values import plain
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Chart, Curves
from visionkit.tiling import Located, MergeObjects, Plan, Views
from visionkit.types import Batch

HEADS = ("own", "pool", "gdc")
PAPER_WIDTH = 128

FramingName = Literal["arcface", "head"]


class FaceRecognitionTask(BackboneTask):
    """Trains an embedding of faces on images of many people.

    What is trained beside the network (one direction per person) stays in checkpoints of the training and is left out
    of what is handed out, as are the people's names everywhere.

    Args:
        identities: People of the training split; given by the data. 0 builds no training head.
        head: `pool` the backbone's pooled features, normalized and mapped; `gdc` a global depthwise convolution over
            the last map; `own` what the backbone's pooling gives as it is (MobileFaceNet ends in an embedding).
        embedding: Width of the embedding: 128 by default, or for `own` what the backbone gives.
        loss: `softmax`, `l_softmax`, `sphereface`, `cosface`, `arcface`, `subcenter_arcface` or `triplet`.
        margin: Margin of the loss, in the unit of its paper, see `tasks.face_recognition.loss`; the paper's by default.
        scale: Scale of the sphere on which the loss compares; the paper's by default. Few people need a small one.
        sub_centers: Directions per person, for `subcenter_arcface`.
        dropout: Dropout probability of the head.
        flip_tta: In use, embed the flipped image too and add both up.
        framing: Where the five landmarks lie in an aligned image: `arcface`, the template of that paper; `head`, a
            wider one with the hair, as in the images of ORL.
        **shared: See `BackboneTask`. The input is by default 112x112, or the one size that the backbone is built for.

    Example:
        >>> task = FaceRecognitionTask("mobilefacenet", identities=100, head="own")
        >>> task(torch.zeros(1, 3, 112, 112, dtype=torch.uint8)).embedding.shape
        torch.Size([1, 128])
    """

    name = "face_recognition"
    title = "Faces"
    question = "Whose face is it? People are enrolled, recognized and forgotten here."
    kinds = ("faces",)
    monitor = ("val/accuracy", "max")
    targets = ("identity",)
    outputs = FaceOutputs
    withheld = ("classes",)

    def __init__(
        self,
        backbone: str = "mobilefacenet",
        *,
        identities: int | None = None,
        head: HeadKind = "pool",
        embedding: int | None = None,
        loss: LossName = "arcface",
        margin: float | None = None,
        scale: float | None = None,
        sub_centers: int = 3,
        dropout: float = 0.0,
        flip_tta: bool = True,
        framing: FramingName = "arcface",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        if head not in HEADS:
            raise UsageError(f"model.head {head!r}: allowed are {', '.join(HEADS)}{suggest(head, HEADS)}")
        if framing not in FRAMINGS:
            raise UsageError(
                f"model.framing {framing!r}: allowed are {', '.join(FRAMINGS)}{suggest(framing, FRAMINGS)}"
            )
        if self.input.resize_mode == "native":
            raise UsageError(
                "model.input.resize_mode native: faces are compared at one size; take stretch or letterbox"
            )
        body = self._backbone(backbone, head)
        width = body.num_features if head == "own" else PAPER_WIDTH
        if head == "own" and embedding not in (None, width):
            raise UsageError(f"model.embedding {embedding}: with head own, {backbone} gives {width}; leave it out")
        self.embedding = embedding or width
        self.network = FaceNetwork(body, head, self.embedding, self.input.size, dropout, flip_tta)
        self.normalize = Normalize(body.mean, body.std)
        self.identities, self.framing = identities or 0, framing
        self.loss = (
            FaceLoss(loss, self.identities, self.embedding, margin, scale, sub_centers) if self.identities else None
        )
        self.metrics = build_metrics()

    def _backbone(self, name: str, head: str) -> Backbone:
        if head != "gdc":
            return Backbone(name, **self.backbone_arguments)
        bare = Backbone(name, **{**self.backbone_arguments, "pretrained": False, "weights": None})
        strides = (declared_maps(bare.model)[-1][1],)
        return Backbone(name, strides=strides, use_final=False, **self.backbone_arguments)

    @classmethod
    def default_input(cls, backbone: str = "mobilefacenet", **init_args: Any) -> InputSpec:
        """112x112 as in the field; the whole image, which is a face already."""
        facts = backbone_facts(backbone)
        size = facts.input_size if facts.fixed_input_size else (112, 112)
        return InputSpec(size=size, resize_mode="stretch", interpolation="bilinear", crop_fraction=1.0)

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "identities": self.identities}

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = super().parameter_groups()
        trained = [] if self.loss is None else [p for p in self.loss.parameters() if p.requires_grad]
        if trained:
            groups.append(
                {"params": trained, "lr": self.optim.lr, "weight_decay": self.optim.weight_decay, "name": "loss"}
            )
        return groups

    def has_tta(self) -> str:
        return "flip_tta" if self.network.flip_tta else ""

    def losses(self, outputs: FaceOutputs, target: Any) -> dict[str, Tensor]:
        if self.loss is None:
            raise UsageError(
                "model.identities is 0: there is nothing to train; train with data that names its people, and begin "
                "with a checkpoint of a training rather than an exported bundle"
            )
        identity = target["identity"]
        # On a device reading it would wait for the device; the command line has compared the numbers before.
        if identity.device.type == "cpu" and int(identity.max()) >= self.identities:
            raise UsageError(
                f"model.identities {self.identities}: the training data has at least {int(identity.max()) + 1} "
                "people; leave it out, and it follows the data"
            )
        return {self.loss.name: self.loss(outputs.embedding, identity)}

    def _evaluate(self, batch: Batch) -> Any:
        # Whom it is measured on it has never seen, so there is no direction to compare with and no loss to state.
        decoded = self.decode(finite(self.run(batch)))
        self.measure(decoded, batch)
        return decoded

    def decode(self, outputs: FaceOutputs) -> Tensor:
        """(B, D) float32 embeddings of length 1."""
        return unit(outputs.embedding)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_faces(decoded, geometry))

    def plan(
        self, image: ImageSource, *, views: Views | None = None, found: Located | None = None, **options: Any
    ) -> Plan:
        """The faces that were found, each aligned by its five landmarks; without them, the whole image is a face."""
        if found is not None:
            landmarks = np.zeros((0, 5, 2)) if found.landmarks is None else found.landmarks
            views = [face_view(points, self.framing) for points in landmarks]
        views = (None,) if views is None else views
        return Plan(views, MergeObjects(partial(joined, found=found, width=self.embedding)), crops=found is not None)

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        target = batch["target"]
        known = {key: target.get(key) for key in ("pair", "gallery", "camera")}
        self.metrics.update(decoded, target["identity"], batch["id"], **known)

    def served(self) -> FaceRecognitionTask:
        """The same network without the training head and the number of people."""
        task = type(self).from_config({**plain(self.config), "identities": 0, "pretrained": False})
        task.load_state_dict({k: v for k, v in self.state_dict().items() if not k.startswith("loss.")})
        return task.train(self.training)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        tables = {}
        if "roc" in computed:
            tables["roc"] = curve_table(computed["roc"])
        if "cmc" in computed:
            tables["cmc"] = match_table(computed["cmc"])
        return tables

    def analysis(self) -> Analysis:
        return FaceAnalysis()

    def charts(self) -> dict[str, Chart]:
        return {
            "roc": Curves("far", "true accept rate", ("tar",), log_x=True),
            "cmc": Curves("rank", "found up to the rank", ("found",)),
        }

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        view = (
            f"{self.input.resize_mode} "
            f"to "
            f"{height}x{width}{', the image and its flip added' if self.network.flip_tta else ''}"
        )
        return (
            f"cosine of embeddings of {view}; accuracy: ten folds, the threshold of nine judges the tenth, pairs of "
            "one and of different people weigh the same; the data's list of pairs, else every pair; TAR, DIR where "
            "10 false accepts would be seen; rank: the data's gallery, else every image among all others"
        )
