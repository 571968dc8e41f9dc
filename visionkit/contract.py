"""What a task states of itself and what it writes: the part to read before adding one."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MetricCollection

from visionkit.analysis.base import Analysis
from visionkit.argument_types import check_arguments
from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig
from visionkit.out_of_distribution import FeatureStatistics
from visionkit.plain_values import plain, typed
from visionkit.predictions import Prediction
from visionkit.remembered import RemembersArguments
from visionkit.run_report.charts import Chart
from visionkit.serving import Served
from visionkit.signatures import complete
from visionkit.term_log import TermLog
from visionkit.types import Batch

if TYPE_CHECKING:
    from visionkit.task import VisionTask
    from visionkit.uncertainty.by_image import ImageRecord

RANDOM = "random weights"
"""What `started_from` is in words where it is empty."""


class TaskContract(LightningModule, Served, ABC, metaclass=RemembersArguments):
    """What a task states and writes; `visionkit.task.VisionTask` adds the steps of a training.

    A subclass sets the class variables, builds `network` (with a `backbone`), `normalize` and `metrics`, and writes
    `losses`, `decode` and `restore`. It does not draw, name a logger, or access the data module. One that writes
    `**shared` in its constructor hands the arguments below on and need not repeat them.

    Args:
        input: Size of the network's input and how an image is brought to it; part of every checkpoint.
        classes: Class names in label order.
        optim: Optimizer, learning rate and schedule.
        compile_network: Compile the network (not the module) with torch.compile when training starts.
        channels_last: Keep weights and images in channels-last memory, faster for convolutions on CPU and GPU.

    Attributes:
        name: What a checkpoint stores: "detection". Never a module path.
        title: Name of the task's page in the demo; by default made of `name`. This and the two below are plain values
            in the class's own body, since the demo reads them from its source.
        question: The question that its models are for, in a sentence.
        kinds: `kind` of the predictions that `restore` gives; a page without them is ready for all types.
        monitor: The metric that chooses the best checkpoint, and "min" or "max".
        inputs: Names of what a sample holds and the network takes, in order. The first is the reference: predictions
            are about its pixels. A single image is the case of one name. Where they depend on the arguments, an
            instance sets its own.
        targets: Keys of `visionkit.types.Target` that training needs.
        outputs: The NamedTuple that `forward` returns; its fields name the outputs of an exported graph. Fields with a
            default are for `losses` alone, and a graph leaves them out. Where it depends on the arguments, an
            instance sets its own.
        also_inputs: What some of its models take beside the reference, each with how the demo asks for it: `image`, a
            file; `mask`, painted on the reference, or a file; or three numbers, the least, the most and the first value
            of a slider, which is sent as the option of that name, see `Served.completed`.
        started_from: What the weights were before this training, such as public weights by name; empty for random ones.
        source: Path or public name that its weights were read from, for messages; empty where they were not.
        latest: Mean losses of the epoch so far, and rates, as they were last logged, for whoever shows them.
        card: Facts for the model card, see `visionkit.bundle.save_bundle`; they travel in checkpoints and bundles.
        statistics: What the features of its own images are like, see `visionkit.out_of_distribution`; they travel too.
        further_protocols: How callbacks measured what they log beside the task's own metrics, by what it is.
        withheld: Arguments of the base that this task does not take.
        public_schemes: Sources of public weights that `from_public` knows: `("timm",)`.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    question: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...]] = ()
    monitor: ClassVar[tuple[str, str]]
    inputs: tuple[str, ...] = ("image",)
    also_inputs: ClassVar[Mapping[str, str | tuple[float, float, float]]] = {}
    targets: ClassVar[tuple[str, ...]]
    outputs: ClassVar[type[tuple[Any, ...]]]
    withheld: ClassVar[tuple[str, ...]] = ()
    public_schemes: ClassVar[tuple[str, ...]] = ()

    network: nn.Module
    normalize: Normalize
    metrics: MetricCollection

    def __init__(
        self,
        *,
        input: InputSpec | None = None,
        classes: Sequence[str] = (),
        optim: OptimConfig | None = None,
        compile_network: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.input = InputSpec.of(input, self.default_input())
        self.classes = tuple(classes)
        self.optim = optim or OptimConfig()
        self.compile_network, self.channels_last = compile_network, channels_last
        self.step_log = TermLog()
        self.latest: dict[str, float] = {}
        self.card: dict[str, Any] = {}
        self.statistics: FeatureStatistics | None = None
        self._eval_log = TermLog()
        self._tables: dict[str, list[dict[str, Any]]] = {}
        self.further_protocols: dict[str, str] = {}
        self.source = self.started_from = ""
        self._config: dict[str, Any] = {}
        self._backbone_frozen = self._logged = self._checked = False
        self._kept_in_eval: tuple[nn.Module, ...] = ()

    # ------------------------------------------------------------------ what a task writes

    @abstractmethod
    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Named terms, already weighted; the base adds and logs them."""

    @abstractmethod
    def decode(self, outputs: Any) -> Any:
        """Network outputs to predictions in input pixels, on the device: softmax, NMS, argmax."""

    @abstractmethod
    def restore(self, decoded: Any, geometry: Sequence[Geometry]) -> list[Prediction]:
        """Predictions to predictions in file pixels, one per image."""

    def parts(self) -> Mapping[str, OptimConfig]:
        """Parts of the network that are trained against each other, and how each is; by default there are none.

        Such a task writes `part_losses` too. See `visionkit.part_optimizers`.
        """
        return {}

    def part_intervals(self) -> Mapping[str, int]:
        """Number of steps after which each part is trained, where that is not every step."""
        return {}

    def part_losses(self, part: str, batch: Batch) -> dict[str, Tensor]:
        """Named terms that train one part; gradients reach no other.

        Args:
            part: Its name.
            batch: Batch on the device.
        """
        raise NotImplementedError(f"{self.name}: parts() names {part}, and part_losses is not written")

    def measure(self, decoded: Any, batch: Batch) -> None:
        """Feeds the metrics with what would be served."""
        self.metrics.update(decoded, batch["target"])

    def image_record(self) -> ImageRecord:
        """Takes what each image adds to the metrics, for intervals and comparisons."""
        from visionkit.uncertainty.by_image import ImageRecord

        return ImageRecord(self)

    def one_size(self) -> str:
        """Why the network is not trained at other input sizes (`data.multi_scale`); empty where it is."""
        return f"{self.name} is trained at one input size"

    def train_batch(self, batch: Batch) -> Batch:
        """Changes a training batch on its device (mixup and the like); by default nothing."""
        return batch

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        """Tables of the split just measured, by title; each row maps column to value. By default none.

        Args:
            computed: What the metrics gave, tensors of more than one value included.
        """
        return {}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The tables of the last evaluation, by title."""
        return self._tables

    def charts(self) -> dict[str, Chart]:
        """How tables are drawn, by title. A table of counts, truth by row, is drawn as a confusion matrix anyway."""
        return {}

    def analysis(self) -> Analysis:
        """What `visionkit analyze` collects of each image; by default its metrics, by which images are ranked."""
        return Analysis(self.monitor)

    def predictions(self, decoded: Any, batch: Batch) -> list[Prediction]:
        """What is served of a batch that was evaluated, one prediction per image."""
        if "predictions" in batch:
            return batch["predictions"]
        return self.restore(decoded, batch["geometry"])

    @property
    def protocol(self) -> str:
        """How the metrics are measured, in one sentence, logged with every run."""
        return ""

    @property
    def whole_protocol(self) -> str:
        """`protocol` and `further_protocols`, as results state them."""
        return "; ".join(filter(None, (self.protocol, *self.further_protocols.values())))

    @classmethod
    def default_input(cls, **init_args: Any) -> InputSpec:
        """The input where none is configured, from the facts of the backbone; builds no network."""
        return InputSpec()

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """What this task states about an argument that the data shares with it, where the configuration leaves it out.

        Args:
            name: Name of the argument, see `visionkit.linking`.
            **init_args: The arguments that the class would be built with.
        """
        return None

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """Builds the task with public weights (`timm:resnet50`); the one place where a download may happen.

        Raises:
            UsageError: This task has no public weights under that name.
        """
        raise UsageError(f"{scheme}:{name}: {cls.name} has no public weights of that scheme")

    # ------------------------------------------------------------------ arguments

    def constructed(self) -> None:
        """Called once every constructor is through: a base changes here what subclasses built. By default nothing."""

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments in plain types: with the weights, all that is needed to build the task again."""
        return self._config

    def set_input(self, spec: InputSpec) -> None:
        """Takes what the data has settled about the input, so that the checkpoint has it."""
        self.input = spec
        self._config |= {"input": plain(spec)}

    def resolved(self) -> dict[str, Any]:
        """Arguments that the constructor worked out (input, classes, ...), stored in place of what was given."""
        # What a checkpoint holds does not depend on where its weights began.
        found = {"input": self.input, "classes": self.classes, "optim": self.optim, "weights": None}
        return {name: found[name] for name in complete(type(self)).parameters if name in found}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the task that `config` describes; dataclass arguments are made from their mappings.

        Raises:
            UsageError: An argument that the task does not have, or a value that it does not take.
        """
        complete(cls)
        hints = typing.get_type_hints(cls.__init__)
        check_arguments(cls, config, "")
        return cls(**{key: typed(hints.get(key), value) for key, value in config.items()})
