"""Training of networks that do not fit onto one device: FSDP2, whose processes hold a part of every weight each.

`FSDP2Strategy` is `--trainer.strategy fsdp2`. It shards the blocks of the backbone, and all that is left of the task
together, so no task has code for it. Checkpoints are written in parallel, and any number of processes can read them.
"""

from visionkit.sharding.tensors import local, put_into
from visionkit.sharding.whole import gathered, is_sharded, part

__all__ = ["gathered", "is_sharded", "local", "part", "put_into"]
