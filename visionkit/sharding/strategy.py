"""FSDP2 as a strategy of the trainer: `--trainer.strategy fsdp2`, or `-c fsdp`, for every task and backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from visionkit.checkpoint_files import SHARDED, open_checkpoint
from visionkit.errors import UsageError
from visionkit.sharding.files import fill, save
from visionkit.sharding.refusals import refuse
from visionkit.sharding.shard import ShardingOptions, shard_task
from visionkit.sharding.tensors import is_dtensor, load_sharded, shard_like


class FSDP2Strategy(ModelParallelStrategy):
    """Fully sharded data parallel training: each process holds a shard of every weight, gradient and optimizer state.

    Batches, metrics and the loss curve are those of `ddp`. The blocks of the backbone are gathered one by one while
    they are computed, and everything else (stem, heads, a loss with weights) together for the time of a step. An
    evaluation gathers the whole network once.

    Args:
        activation_checkpointing: Compute the activations of the blocks again in the backward pass in place of keeping
            them: about a third more time for a fraction of the memory. Not for backbones with batch norm.
        cpu_offload: Keep weights, gradients and optimizer state in the memory of the CPU, where the step is taken too.
        min_num_params: Blocks with fewer parameters are gathered with the rest.
        gather_dtype: Type in which the weights of the blocks are gathered and used: `bfloat16` halves what is sent,
            and needs `trainer.precision bf16-mixed`. Blocks with batch norm, and the shards, stay in float32.

    Attributes:
        root: Outermost sharded module, through which the task's steps are run; None before `shard`.
    """

    strategy_name = "fsdp2"

    def __init__(
        self,
        activation_checkpointing: bool = False,
        cpu_offload: bool = False,
        min_num_params: int = 100_000,
        gather_dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        if min_num_params < 0:
            raise UsageError(f"trainer.strategy.min_num_params {min_num_params}: must be at least 0")
        if gather_dtype not in ("float32", "bfloat16"):
            raise UsageError(f"trainer.strategy.gather_dtype {gather_dtype!r}: allowed are float32 and bfloat16")
        super().__init__(1, 1)
        self.activation_checkpointing, self.cpu_offload = activation_checkpointing, cpu_offload
        self.min_num_params, self.gather_dtype = min_num_params, gather_dtype
        self.root: Any = None
        self._opened: Path | None = None
        self._unsharded = False
        self._layer_sync: Any = None  # set by Lightning where trainer.sync_batchnorm is

    # ------------------------------------------------------------------ the sharded network

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        if self.cpu_offload and self.root_device.type == "cuda":
            self._process_group_backend = "cpu:gloo,cuda:nccl"  # gradients are clipped where they are kept
        super().setup_environment()

    def shard(self, task: LightningModule) -> None:
        """Shards the weights of a task, once, before a checkpoint is loaded into it.

        Raises:
            UsageError: The task, or an option, does not work with sharded weights.
        """
        if self.root is not None and self.root.task is task:
            return
        if any(is_dtensor(each) for each in task.parameters()):
            raise UsageError("the task is sharded by another training; load it from its checkpoint")
        refuse(task, task.trainer)
        if self._layer_sync is not None:
            self._layer_sync.apply(task)
        options = ShardingOptions(
            self.activation_checkpointing, self.cpu_offload, self.min_num_params, self.gather_dtype == "bfloat16"
        )
        self.root = shard_task(task, self.device_mesh["data_parallel"], self.root_device, options)

    def setup(self, trainer: Trainer) -> None:
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        if self.root is None:
            raise UsageError("trainer.strategy fsdp2 trains the tasks of visionkit alone")
        self.barrier()
        if trainer.state.fn == "fit":
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    # ------------------------------------------------------------------ steps

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.precision_plugin.train_step_context():
            return self.root(lambda: self.root.task.training_step(*args, **kwargs))

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.precision_plugin.val_step_context():
            return self._evaluated(lambda: self.root.task.validation_step(*args, **kwargs))

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.precision_plugin.test_step_context():
            return self._evaluated(lambda: self.root.task.test_step(*args, **kwargs))

    def _evaluated(self, step: Callable[[], Any]) -> Any:
        """Runs a step of evaluation. Processes may have different numbers of them, so the network is unsharded once."""
        if not self._unsharded:
            self._unsharded = True
            self._share_buffers()  # with the averages in place, where they are used
            for each in self._sharded_modules():
                each.set_reshard_after_forward(False, recurse=False)
                each.unshard()
        return self.root(step)

    def reshard(self) -> None:
        """Leaves each process with its own shards again, after an evaluation."""
        if self._unsharded:
            self._unsharded = False
            for each in self._sharded_modules():
                each.reshard()
                each.set_reshard_after_forward(each is not self.root, recurse=False)

    def _sharded_modules(self) -> list[Any]:
        """Lists the modules that are gathered one by one, the outermost one first."""
        return [each for each in self.root.modules() if hasattr(each, "set_reshard_after_forward")]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.reshard()
        self._share_buffers()

    def on_validation_end(self) -> None:
        self.reshard()

    def on_test_end(self) -> None:
        self.reshard()

    def _share_buffers(self) -> None:
        """Broadcasts the buffers of the first process, as DDP does."""
        assert self.lightning_module is not None
        buffers = [each for each in self.lightning_module.buffers() if each.numel()]
        if buffers and self.world_size > 1:
            group = self.device_mesh["data_parallel"].get_group()
            broadcast: Any = torch.distributed._broadcast_coalesced  # type: ignore[attr-defined]
            broadcast(group, buffers, 250 << 20, 0)

    # ------------------------------------------------------------------ checkpoints

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        self.reshard()
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return getattr(optimizer, "_optimizer", optimizer).state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        save(checkpoint, Path(self.broadcast(str(filepath))), self.global_rank, self.world_size)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Opens a checkpoint of this or another strategy; the state of optimizers is loaded once they exist."""
        assert self.lightning_module is not None
        path = Path(self.broadcast(str(checkpoint_path)))
        checkpoint = open_checkpoint(path, "cpu", shards=False)
        if SHARDED in checkpoint:
            self._opened = path
            own = self.lightning_module.state_dict()

            def make(at: tuple[Any, ...], size: torch.Size, dtype: torch.dtype) -> Tensor:
                return _blank(own.get(at[-1]), size, dtype)

            for key in ("state_dict", "current_model_state"):
                fill(path, checkpoint, make, only=key, together=True)
        return checkpoint

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        load_sharded(self.lightning_module, checkpoint["state_dict"], strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        weights = [[each for group in o.param_groups for each in group["params"]] for o in self.optimizers]
        if SHARDED in checkpoint and self._opened is not None:

            def make(at: tuple[Any, ...], size: torch.Size, dtype: torch.dtype) -> Tensor:
                _, number, _, index, *_ = at
                return _blank(weights[number][index], size, dtype)

            fill(self._opened, dict(checkpoint), make, only="optimizer_states", together=True)
        for optimizer, own, state in zip(self.optimizers, weights, checkpoint["optimizer_states"], strict=True):
            sharded = {
                index: {
                    key: shard_like(value, own[index])
                    if isinstance(value, Tensor) and value.shape == own[index].shape
                    else value
                    for key, value in values.items()
                }
                for index, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": sharded})


def _blank(pattern: Tensor | None, size: torch.Size, dtype: torch.dtype) -> Tensor:
    """Makes a tensor to load into: sharded as the pattern where it has its shape, otherwise unsharded."""
    if pattern is not None and is_dtensor(pattern) and pattern.shape == size:
        return torch.empty_like(pattern.detach(), dtype=dtype)
    return torch.empty(size, dtype=dtype)


StrategyRegistry.register(
    FSDP2Strategy.strategy_name, FSDP2Strategy, description="FSDP2: every process holds a shard of each weight"
)
