"""Training of networks that do not fit onto one device: FSDP2, where each process holds a shard of every weight.

`FSDP2Strategy` is `--trainer.strategy fsdp2`. It shards the blocks of the backbone, and all that is left of the task
together, so no task has code for it. Checkpoints are written in parallel, and any number of processes can read them.
"""

from visionkit.sharding.gather import gathered, is_sharded, reshard
from visionkit.sharding.tensors import load_sharded, local

__all__ = ["gathered", "is_sharded", "load_sharded", "local", "reshard"]
