"""Faults of the machine and of the configuration are reported as such, whatever library met them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from visionkit.errors import Interrupted, Terminated
from visionkit.faults import as_fault, of_exit


class DistNetworkError(RuntimeError):
    """Named as torch's."""


class AcceleratorError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), 5, "killed by signal: Killed"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), 5, "lower data.num_workers"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"), 5, "/dev/shm"),
        (RuntimeError("unable to open shared memory object </torch_1> in read-write mode"), 5, "shared memory"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:9"), 5, "another process"),
        (RuntimeError("NCCL communicator was aborted on rank 1."), 5, "another process"),
        (RuntimeError("Application timeout caused pair closure"), 5, "raise --rank_timeout"),
        (RuntimeError("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)"), 5, "--ckpt_path last"),
        (DistNetworkError("The client socket has timed out after 60000ms"), 5, "another process"),
        (DistNetworkError("The server socket has failed to listen (EADDRINUSE)"), 5, "--master-port"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), 5, "smaller"),
        (AcceleratorError("CUDA error: an illegal memory access was encountered"), 5, "the device failed"),
        (RuntimeError("CUDA error: device-side assert triggered"), 1, ""),
        (OSError(errno.EROFS, "Read-only file system", "runs/a"), 5, "runs/a: the file system is read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), 5, "runs/a: permission denied"),
        (OSError(errno.EMFILE, "Too many open files"), 5, "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 5, "out of memory"),
        (ModuleNotFoundError("No module named 'mlflow'", name="mlflow"), 5, "a package is missing"),
        (ModuleNotFoundError("No module named 'visionkit.x'", name="visionkit.x"), 1, ""),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1, ""),
        (ValueError("x"), 1, ""),
    ],
)
def test_each_has_its_status(error: BaseException, status: int, said: str) -> None:
    fault = as_fault(error)
    assert (fault.status if fault else 1) == status
    assert said in str(fault or "")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"strategy": "nowhere"}, 2, "trainer: You selected an invalid strategy name"),
        ({"accelerator": "nowhere"}, 2, "trainer: You selected an invalid accelerator"),
        ({"devices": 0}, 2, "devices"),
        ({"strategy": "fsdp"}, 2, "requires a GPU"),
        ({"max_epochs": -3}, 2, "max_epochs"),
        ({"accelerator": "tpu"}, 5, "a package is missing"),
    ],
)
def test_what_lightning_refuses_is_a_mistake_in_the_configuration(
    options: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(Exception) as caught:
        lightning.Trainer(**{"accelerator": "cpu", "logger": False, **options})
    fault = as_fault(caught.value)
    assert fault is not None and fault.status == status and said in str(fault)


class Dies(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_killed_loading_process_is_a_fault_of_the_machine() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Dies(), num_workers=1))
    fault = as_fault(caught.value)
    assert fault is not None and fault.status == 5 and "data.num_workers" in str(fault)


def test_lightnings_exits_after_signals_have_their_status() -> None:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    with pytest.raises(SystemExit) as caught:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904  # as Lightning does
    assert isinstance(of_exit(caught.value), Interrupted)
    assert isinstance(of_exit(SIGTERMException()), Terminated)
    assert of_exit(SystemExit(1)) is None


def test_nothing_heavy_is_imported_for_it() -> None:
    code = "import sys, visionkit.faults; sys.exit(bool({'torch', 'lightning'} & set(sys.modules)))"
    subprocess.run(["python", "-c", code], check=True)


def test_of_real_ranks_a_dead_peer_is_named() -> None:
    assert torch.distributed.is_available()
    from torch.distributed import DistBackendError, DistStoreError

    for kind in (DistBackendError, DistStoreError):
        fault = as_fault(kind("wait timeout after 5000ms"))
        assert fault is not None and fault.status == 5
