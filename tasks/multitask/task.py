"""One backbone, many heads: several tasks trained and predicted together."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from tasks.multitask.analysis import HeadsAnalysis
from tasks.multitask.balancing import Balance, build_balance
from tasks.multitask.by_image import HeadsRecord
from tasks.multitask.head_checks import check_labels, check_served, check_sizes
from tasks.multitask.heads import SHARED, Head
from tasks.multitask.loss import HeadLog, fair_fractions, untouched, with_pcgrad
from tasks.multitask.metrics import JointMetrics
from tasks.multitask.network import HeadStage, JointNetwork, hand_over, read_shared
from tasks.multitask.postprocess import batch_of, chosen_rows, labeled_predictions, to_predictions
from visionkit.analysis.base import Analysis
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone
from visionkit.backbones.shared import share
from visionkit.errors import UsageError, suggest
from visionkit.finite import finite
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm, set_batch_norm
from visionkit.optim import build_optimizer, build_scheduler
from visionkit.optim import parameter_groups as sorted_parameters
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Chart
from visionkit.task import VisionTask
from visionkit.types import Batch


class MultiTask(BackboneTask):
    """Several heads on one backbone, each the existing task's network half, losses, predictions and metrics.

    An image may have labels for some heads alone: the others have no loss on it, and are not computed for it.

    Args:
        heads: The heads by name, each with its `task`, the task's `arguments`, and how it is trained, see
            `tasks.multitask.heads.Head`.
        vocabulary: What the data states about each head (class names, skeleton); given by the data.
        balance: How the heads' losses are weighed: `fixed`, `uncertainty`, `gradnorm` or `dwa`.
        balance_options: Arguments of that method, see `tasks.multitask.balancing`.
        pcgrad: Remove from the heads' gradients at the backbone the parts that point against each other (PCGrad); costs
            a backward pass of the backbone per head.
        monitor: The metric that chooses the best checkpoint, `<head>/<metric>`; by default the mean over the heads,
            see `tasks.multitask.metrics`.
        backbone_norm: `batch` (trained), `frozen` or `group` (for small batches), see `visionkit.nn.norms`.
        **shared: See `BackboneTask`. The input is the same for all heads, by default the whole image in 256x320; a head
            may have some settings of the optimizer of its own.

    Example:
        >>> heads = {"what": {"task": "classification", "arguments": {"classes": ["cat", "dog"]}},
        ...          "far": {"task": "depth", "arguments": {"architecture": "fpn"}}}
        >>> task = MultiTask("resnet18", heads=heads)
        >>> task(torch.zeros(1, 3, 256, 320, dtype=torch.uint8)).far_depth.shape
        torch.Size([1, 256, 320])
    """

    name = "multitask"
    title = "Several at once"
    question = "One model, one pass over the image, the predictions of several tasks."
    kinds = ("multitask",)
    monitor = ("val/score", "max")
    targets = ("heads",)
    outputs = tuple
    withheld = ("classes",)

    network: JointNetwork

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        heads: dict[str, Head] | None = None,
        vocabulary: dict[str, Any] | None = None,
        balance: Balance = "fixed",
        balance_options: dict[str, float] | None = None,
        pcgrad: bool = False,
        monitor: str | None = None,
        backbone_norm: Norm = "batch",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        if not heads:
            raise UsageError("model.heads: at least one is needed: {objects: {task: detection}}")
        known = vocabulary or {}
        self.head_settings = {
            name: Head.of(name, each).with_vocabulary(known.get(name) or {}, name) for name, each in heads.items()
        }
        for name in known:
            if name not in heads:
                raise UsageError(
                    f"data names the head {name!r} and the model has {', '.join(heads)}{suggest(name, heads)}"
                )
        tasks = {
            name: each.build(name, backbone, self.input, self.optim, self.channels_last)
            for name, each in self.head_settings.items()
        }
        check_sizes(tasks, self.input, backbone)
        body = share(
            {name: cast(Backbone, task.network.backbone) for name, task in tasks.items()}, **self.backbone_arguments
        )
        body.model = set_batch_norm(body.model, backbone_norm, None)
        networks = {name: read_shared(body, task) for name, task in tasks.items()}
        self.network = JointNetwork(body, networks, tuple((name, task.outputs) for name, task in tasks.items()))
        self.outputs = self.network.outputs  # type: ignore[misc]
        self.normalize = Normalize(body.mean, body.std)
        for task in tasks.values():
            hand_over(task, self.normalize)
        self.heads = nn.ModuleDict(tasks)
        self.balance = build_balance(balance, list(tasks), balance_options)
        self.pcgrad = pcgrad
        self.metrics = JointMetrics(self.tasks)  # type: ignore[assignment]
        self.monitor = self._monitor(monitor)  # type: ignore[misc]
        self.step_log = HeadLog()
        self._eval_log = HeadLog()

    @classmethod
    def default_input(cls, backbone: str = "resnet18", **init_args: Any) -> InputSpec:
        """The whole image in 256x320, its ratio kept."""
        return InputSpec(size=(256, 320), resize_mode="letterbox")

    def _monitor(self, given: str | None) -> tuple[str, str]:
        if given is None:
            return ("val/score", "max")
        head, _, metric = given.removeprefix("val/").partition("/")
        if head not in self.tasks or not metric:
            raise UsageError(
                f"model.monitor {given!r}: give <head>/<metric>; heads are {', '.join(self.tasks)}"
                f"{suggest(head, self.tasks)}"
            )
        own, direction = self.tasks[head].monitor
        return (f"val/{head}/{metric}", direction if own == f"val/{metric}" else "max")

    @property
    def tasks(self) -> dict[str, VisionTask]:
        """The task of each head by name; their networks lie in `network.heads`."""
        return {name: cast(VisionTask, task) for name, task in self.heads.items()}

    def resolved(self) -> dict[str, Any]:
        """The heads as they were built, with what the data stated about them."""
        heads = {
            name: replace(each, arguments={k: v for k, v in self.tasks[name].config.items() if k in known})
            for name, each in self.head_settings.items()
            for known in [{*each.arguments, *self.tasks[name].resolved()} - {*SHARED}]
        }
        pretrained = self.backbone_arguments["pretrained"]
        own = {"input": self.input, "optim": self.optim, "pretrained": pretrained, "weights": None}
        own["backbone"] = self.network.backbone.name
        return {**own, "heads": heads, "vocabulary": None}

    # ------------------------------------------------------------------ learning

    def forward(  # type: ignore[override]
        self, image: Tensor, rows: Mapping[str, Tensor | None] | None = None, kept: list[Tensor] | None = None
    ) -> Any:
        """(B, C, H, W) uint8 images to the outputs of all heads, or of some on some, see `JointNetwork`."""
        return self.network(self.normalize(self.in_memory_format(image)), rows, kept)

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """The terms of every head that has outputs and labels, times its weight, as `<head>/<term>`."""
        terms: dict[str, Tensor] = {}
        for name, own in self.network.split(outputs).items():
            weight = self.head_settings[name].weight
            if name in target["heads"] and weight > 0:
                found = self.tasks[name].losses(own, target["heads"][name]["target"])
                terms |= {f"{name}/{term}": weight * value for term, value in found.items()}
        return terms

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self.train_batch(batch)
        rows = self._rows(batch, learning=True)
        kept: list[Tensor] | None = [] if self.balance.needs_features else None
        terms = self.losses(self(*batch["inputs"].values(), rows, kept), batch["target"])
        fractions = fair_fractions(self._counts(batch, rows), self.device)
        losses: dict[str, Tensor] = {}
        for name, value in terms.items():
            head = name.partition("/")[0]
            value = value.float() if fractions is None else value.float() * fractions[head]
            losses[head] = losses[head] + value if head in losses else value
        parts = list(self.balance(losses, kept or ()).values())
        missing = [module for name, module in self.network.heads.items() if name not in losses]
        rest = untouched([*missing, *([self.balance] if missing else []), *([] if losses else [self.network.backbone])])
        if not parts:
            loss = torch.as_tensor(rest, device=self.device)
        elif self.pcgrad:
            loss = with_pcgrad(parts, list(self.network.backbone.parameters()), self.global_step) + rest
        else:
            loss = torch.stack(parts).sum() + rest
        if terms:
            self.step_log.add(terms, torch.stack(list(terms.values())).detach())
        return loss

    def _rows(self, batch: Batch, learning: bool = False) -> dict[str, Tensor | None]:
        """The images that each head has to inspect, see `JointNetwork.forward`."""
        there = batch["target"]["heads"]
        for name in there:
            if name not in self.tasks:
                raise UsageError(
                    f"the data has labels for a head {name!r} and the model has {', '.join(self.tasks)}"
                    f"{suggest(name, self.tasks)}"
                )
            check_labels(name, self.tasks[name], there[name]["target"])
        trained = [name for name in self.tasks if name in there and not (learning and self._trains_nothing(name))]
        return {name: chosen_rows(batch, name) for name in trained}

    def _trains_nothing(self, name: str) -> bool:
        settings = self.head_settings[name]
        return settings.weight == 0 or (settings.freeze and self._backbone_frozen)

    def _counts(self, batch: Batch, rows: Mapping[str, Tensor | None]) -> dict[str, int]:
        return {name: batch["target"]["heads"][name]["rows"].shape[0] if name in rows else 0 for name in self.tasks}

    def train_batch(self, batch: Batch) -> Batch:
        """Every head's own changes and counts; none may change the image, which belongs to all of them."""
        heads = dict(batch["target"]["heads"])
        for name in self._rows(batch, learning=True):
            own = batch_of(batch, name)
            changed = self.tasks[name].train_batch(own)
            if changed["inputs"] is not own["inputs"]:
                raise UsageError(
                    f"model.heads.{name}: mixes images (mixup, cutmix), which belong to all heads; leave it out"
                )
            heads[name] = {**heads[name], "target": changed["target"]}
        return {**batch, "target": {**batch["target"], "heads": heads}}

    def on_fit_start(self) -> None:
        """Refuses heads that would be trained and for which no part of the data has labels."""
        super().on_fit_start()
        trainer: Any = self.trainer
        parts: Mapping[str, str] = getattr(trainer.datamodule, "serves", {})
        check_served(self.head_settings, list(dict.fromkeys(parts.values())), self._backbone_frozen)

    def on_train_epoch_end(self) -> None:
        """Every head's own end of an epoch."""
        for task in self.tasks.values():
            task.on_train_epoch_end()
        self.balance.end_epoch()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        trainer: Any = self.trainer
        if weights := self.balance.weights() if self._logs_now() else {}:
            values = {f"weight/{name}": float(value) for name, value in weights.items()}
            self.latest = {**self.latest, **values}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)

    def _logs_now(self) -> bool:
        trainer: Any = self.trainer
        every = trainer.log_every_n_steps
        return every > 0 and not (trainer.global_step % every or trainer.fit_loop._should_accumulate())

    def _evaluate(self, batch: Batch) -> Any:
        rows = self._rows(batch)
        outputs = self(*batch["inputs"].values(), rows)
        terms = self.losses(outputs, batch["target"])
        if terms:
            counts: dict[str, float] = dict(self._counts(batch, rows))
            self._eval_log.add(terms, torch.stack(list(terms.values())).detach(), counts)  # type: ignore[arg-type]
        decoded = self.decode(finite(outputs))
        self.measure(decoded, batch)
        return decoded

    def measure(self, decoded: Mapping[str, Any], batch: Batch) -> None:
        """Feeds the metrics of every head that has labels; `decoded` holds predictions for those images alone."""
        for name, predictions in decoded.items():
            if name in batch["target"]["heads"]:
                self.tasks[name].measure(predictions, batch_of(batch, name))
                self.metrics.seen(name)  # type: ignore[operator]

    def image_record(self) -> HeadsRecord:
        return HeadsRecord(self)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        tables: dict[str, list[dict[str, Any]]] = {}
        for name, task in self.tasks.items():
            own = {key.removeprefix(f"{name}/"): value for key, value in computed.items() if key.startswith(f"{name}/")}
            if own:
                tables |= {f"{name}: {title}": rows for title, rows in task.tabulate(own).items()}
        return tables

    def charts(self) -> dict[str, Chart]:
        """Those of every head, under the titles of its tables."""
        return {
            f"{name}: {title}": chart for name, task in self.tasks.items() for title, chart in task.charts().items()
        }

    def analysis(self) -> Analysis:
        return HeadsAnalysis(self.tasks)

    def predictions(self, decoded: Mapping[str, Any], batch: Batch) -> list[Prediction]:
        """For each image the predictions of the heads that have a label on it; the others did not process it."""
        return labeled_predictions(self.tasks, decoded, batch)

    @property
    def protocol(self) -> str:
        protocols = "; ".join(f"{name}: {task.protocol}" for name, task in self.tasks.items())
        return f"score: {JointMetrics.PROTOCOL}; {protocols}"

    # ------------------------------------------------------------------ predictions

    def decode(self, outputs: Any, options: Mapping[str, Any] | None = None, *, second: Any = None) -> dict[str, Any]:
        """What every head found, by its name, in input pixels.

        Args:
            outputs: Outputs of the network.
            options: For each head those of its task's `decode`: `{"objects": {"score_threshold": 0.3}}`.
            second: The engine of the second stage of the one head that has one, in place of the network's own.
        """
        given = dict(options or {})
        for name in given:
            if name not in self.tasks:
                raise UsageError(f"options {name!r}: heads are {', '.join(self.tasks)}{suggest(name, self.tasks)}")
        found = {}
        for name, own in self.network.split(outputs).items():
            asked = dict(given.get(name) or {})
            if second is not None and self.tasks[name].second_stage() is not None:
                asked["second"] = second
            found[name] = self.tasks[name].decode(own, **asked)
        return found

    def second_stage(self) -> nn.Module | None:
        """That of the one head that has one.

        Raises:
            UsageError: Several have, which one graph cannot hold.
        """
        found = {name: stage for name, task in self.tasks.items() if (stage := task.second_stage()) is not None}
        if len(found) > 1:
            raise UsageError(
                f"heads {', '.join(found)}: each has a second stage, and an exported model has one at most; split the "
                "model, or serve it by torch"
            )
        return next((HeadStage(name, stage) for name, stage in found.items()), None)

    def restore(self, decoded: Mapping[str, Any], geometry: Sequence[Geometry]) -> list[Prediction]:
        found = {name: self.tasks[name].restore(each, geometry) for name, each in decoded.items()}
        return list(to_predictions(found))

    # ------------------------------------------------------------------ optimizer, modes, memory

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The backbone at the rate of the whole, every head at its own, and the weights of the balancing."""
        holder = nn.Module()
        holder.backbone = self.network.backbone
        groups = sorted_parameters(holder, self.effective_optim)
        for name, task in self.tasks.items():
            groups += [{**group, "name": f"{name}.{group['name']}"} for group in task.parameter_groups()]
        if trained := [p for p in self.balance.parameters() if p.requires_grad]:
            groups.append({"params": trained, "lr": self.optim.lr, "weight_decay": 0.0, "name": "balance"})
        return groups

    def configure_optimizers(self) -> Any:
        own = {name: task.optim for name, task in self.tasks.items() if self.head_settings[name].optim}
        if not own:
            return super().configure_optimizers()
        optimizer = build_optimizer(self.parameter_groups(), self.optim)
        steps = self.trainer.estimated_stepping_batches
        scheduler = build_scheduler(optimizer, self.optim, steps, own)
        return {"optimizer": optimizer, "lr_scheduler": scheduler} if scheduler else optimizer

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for name, settings in self.head_settings.items():
            self.network.heads[name].requires_grad_(not (stage == "fit" and settings.freeze))
            self.heads[name].requires_grad_(not (stage == "fit" and settings.freeze))
        self.train(self.training)

    def train(self, mode: bool = True) -> MultiTask:
        super().train(mode)
        for name, settings in self.head_settings.items():
            if settings.freeze:
                self.network.heads[name].eval()
                self.heads[name].eval()
        return self

    def served(self) -> VisionTask:
        """The heads as they are handed out, without what training alone needs."""
        plain = {name: task.served() for name, task in self.tasks.items()}
        if all(plain[name] is task for name, task in self.tasks.items()) and not self._balance_trains():
            return self
        out = copy.deepcopy(self)
        out.balance = build_balance("fixed", list(plain))
        out._config = {**self._config, "balance": "fixed", "balance_options": None}
        return out

    def _balance_trains(self) -> bool:
        return bool(self.balance.state_dict())
