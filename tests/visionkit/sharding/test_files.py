"""Files of a sharded checkpoint are all flushed and listed, whatever the processes see of the shared folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from tests.ranks import on_ranks
from visionkit.checkpoint_files import open_checkpoint
from visionkit.errors import CheckpointError
from visionkit.sharding.files import save


def _saved(rank: int, path: str) -> None:
    """Saves with listings that lag behind: each process sees its own file alone, as on a network file system."""
    list_all = Path.iterdir

    def list_own(folder: Path) -> Iterator[Path]:
        return (each for each in list_all(folder) if f"shard-{rank + 1:05d}" in each.name)

    weight = distribute_tensor(torch.arange(8.0), init_device_mesh("cpu", (2,)), [Shard(0)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", list_own)
        save({"state_dict": {"weight": weight}, "global_step": 1}, Path(path), rank, 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_files_that_only_one_process_lists_are_in_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    on_ranks(2, _saved, str(path))
    checkpoint: dict[str, Any] = open_checkpoint(path, "cpu")
    (folder,) = (tmp_path / "shards").iterdir()
    files = sorted(folder.iterdir())
    assert len(files) == 2 and sorted(checkpoint["sharded"]["files"]) == [each.name for each in files]
    assert torch.equal(checkpoint["state_dict"]["weight"], torch.arange(8.0))
    for given, device in (("meta", "meta"), ({"cpu": "meta"}, "meta"), (lambda storage, location: storage, "cpu")):
        assert open_checkpoint(path, given)["state_dict"]["weight"].device.type == device
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="wrong checksum"):
        open_checkpoint(path, "cpu")
