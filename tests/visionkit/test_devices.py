"""Which devices are refused by the name of their key, and what is stated of processes that share a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from visionkit import devices
from visionkit.devices import check_devices, started_devices, state_devices
from visionkit.errors import EnvironmentFault, UsageError

PLUGIN = Namespace(class_path="lightning.pytorch.plugins.environments.SLURMEnvironment")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, no scheduler, no torchrun."""
    for name in ("SLURM_PROCID", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "_gpus", lambda accelerator: 0)


def gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(devices, "_gpus", lambda accelerator: 0 if accelerator == "mps" else number)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there_is_refused_by_its_key(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match=rf"trainer\.accelerator {accelerator}: .* --trainer\.accelerator cpu"):
        check_devices({"accelerator": accelerator})
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(EnvironmentFault, match="#SBATCH --gres"):
        check_devices({"accelerator": accelerator})


@pytest.mark.parametrize("given", [4, "4", [0, 1, 2, 3]])
def test_more_gpus_than_there_are_are_refused(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    with pytest.raises(EnvironmentFault, match=r"trainer\.devices .*(4|3\]): this machine has 2 GPUs"):
        check_devices({"accelerator": "gpu", "devices": given})
    for fits in (2, "2", [0, 1], "auto", -1, "-1", None):
        check_devices({"accelerator": "gpu", "devices": fits})


@pytest.mark.parametrize("plugin", [PLUGIN, [PLUGIN], PLUGIN.class_path, "SLURMEnvironment"])
def test_slurm_without_slurm_is_refused_with_all_that_is_wrong(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"trainer\.plugins SLURMEnvironment .*sbatch.*and trainer\.accelerator gpu"):
        check_devices({"accelerator": "gpu", "plugins": plugin})
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(EnvironmentFault, match=r"^trainer\.accelerator gpu"):
        check_devices({"accelerator": "gpu", "plugins": plugin})
    gpus(monkeypatch, 1)
    check_devices({"accelerator": "gpu", "plugins": plugin})


def test_the_plugin_as_an_object_counts_too() -> None:
    with pytest.raises(UsageError, match="SLURM_PROCID"):
        check_devices({"accelerator": "cpu", "plugins": SLURMEnvironment(auto_requeue=False)})


def test_the_processes_of_torchrun_are_those_of_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices({"accelerator": "cpu", "devices": 3})
    assert started_devices({"accelerator": "cpu"}) == {}
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for accelerator in ("auto", "cpu"):
        assert started_devices({"accelerator": accelerator, "devices": "auto"}) == {"devices": 2}
        assert started_devices({"accelerator": accelerator, "devices": 1}) == {}
        check_devices({"accelerator": accelerator, "devices": 2, "num_nodes": 2})
        with pytest.raises(
            UsageError, match=r"that is 3 processes, but torchrun started 4; give --trainer\.devices 2 --tr"
        ):
            check_devices({"accelerator": accelerator, "devices": 3})
    gpus(monkeypatch, 2)
    assert started_devices({"accelerator": "auto", "devices": "auto"}) == {}


@pytest.mark.parametrize(
    ("strategy", "world", "nodes", "device", "found", "text"),
    [
        (DDPStrategy(), 1, 1, "cpu", 0, "devices: 1 process on the CPU, no GPU was found; for N processes on the CPU"),
        (DDPStrategy(), 1, 1, "cpu", 1, "devices: 1 process on the CPU; for N processes on the CPU"),
        (DDPStrategy(), 1, 1, "cuda:0", 1, "devices: 1 process with 1 GPU (cuda:0)"),
        (DDPStrategy(), 2, 1, "cpu", 0, "devices: 2 processes on the CPU\n"),
        (
            DDPStrategy(),
            8,
            2,
            "cuda:0",
            4,
            "devices: 8 processes on 2 machines, one GPU per process, rendezvous at h:29500\n",
        ),
        (SingleDeviceStrategy("cpu"), 1, 1, "cpu", 0, ""),
    ],
)
def test_what_is_computed_on_is_one_line(
    strategy: Any, world: int, nodes: int, device: str, found: int, text: str, monkeypatch: Any, capsys: Any
) -> None:
    gpus(monkeypatch, found)
    monkeypatch.setattr(type(strategy), "root_device", torch.device(device))
    strategy.cluster_environment = SimpleNamespace(main_address="h", main_port=29500)
    trainer = SimpleNamespace(strategy=strategy, world_size=world, num_nodes=nodes, is_global_zero=True)
    state_devices(trainer)
    message = capsys.readouterr().err
    assert message.startswith(text) if text else message == ""
    assert message.count("\n") == bool(text)
    trainer.is_global_zero = False
    state_devices(trainer)
    assert capsys.readouterr().err == ""
