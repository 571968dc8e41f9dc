"""What an exception of a library below stands for: the machine, the configuration, or a defect of ours.

Torch and Lightning are not imported for it: most commands end without them.
"""

from __future__ import annotations

import errno
import re
from types import TracebackType

from visionkit.errors import EnvironmentFault, Interrupted, Terminated, UsageError, VisionKitError

_MACHINE = {
    errno.ENOSPC: "no space left on the device; free some or name another folder",
    errno.EDQUOT: "no space left on the device; free some or name another folder",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk failed to read or write",
    errno.ESTALE: "the network file system lost the file",
    errno.EMFILE: "too many open files; raise `ulimit -n` or lower data.num_workers",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "out of memory; use smaller batches or images, or fewer data.num_workers",
    errno.EADDRINUSE: "the port is in use; choose another",
}
_OWN = ("visionkit", "ui", "tasks", "datamodules")
_CONFIGURED = (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError)


def as_fault(error: BaseException) -> VisionKitError | None:
    """The expected failure that an exception stands for, or None for a defect."""
    if isinstance(error, VisionKitError):
        return error
    text, kind = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    if isinstance(error, MemoryError):
        return EnvironmentFault("out of memory; use smaller batches or images")
    if kind == "OutOfMemoryError":
        return EnvironmentFault("the device is out of memory; use smaller batches or images")
    if isinstance(error, OSError) and error.errno in _MACHINE and kind != "DistNetworkError":
        return EnvironmentFault(f"{error.filename or 'the machine'}: {_MACHINE[error.errno]}")
    if isinstance(error, ImportError) and not (error.name or "").startswith(_OWN):
        return EnvironmentFault(f"a package is missing or broken: {text[:300]}")
    if isinstance(error, RuntimeError) and (fault := _of_process(kind, text)) is not None:
        return fault
    if kind == "MisconfigurationException" or (isinstance(error, _CONFIGURED) and _raised_in(error, "lightning")):
        missing = re.search(r"(?i)no supported|not available|machine only has|must have", text)
        return (EnvironmentFault if missing else UsageError)(f"trainer: {text[:400]}")
    return None


def lost_process(reason: str, seconds: float | None = None) -> EnvironmentFault:
    """Another process of this training died or hangs.

    Args:
        reason: What the library below states.
        seconds: After how many seconds a process counts as hung, where they are known.
    """
    waited = "the seconds of --rank_timeout" if seconds is None else f"{seconds:g} s (--rank_timeout)"
    return EnvironmentFault(
        f"another process of this training has ended, or has not responded for {waited}: read its own output, and go "
        "on with the same command, --run DIR and --ckpt_path last; where one process alone needs longer than that, "
        f"raise --rank_timeout ({reason[:200]})"
    )


def _of_process(kind: str, text: str) -> VisionKitError | None:
    """What a loader's worker, another rank or a device did to this process."""
    if found := re.search(r"DataLoader worker \(pid[^)]*\) (.*)", text):
        return EnvironmentFault(
            f"a process that loads images ended ({found[1][:80].rstrip('. ')}), mostly for lack of memory: lower "
            "data.num_workers or data.batch_size, or give more shared memory (/dev/shm)"
        )
    if re.search(r"shared memory|/dev/shm|torch_shm|received 0 items of ancdata|Pin memory thread exited", text):
        return EnvironmentFault(
            f"shared memory between the loading processes failed; lower data.num_workers: {text[:200]}"
        )
    if re.search(r"EADDRINUSE|address already in use", text):
        return EnvironmentFault(f"the port is in use by another process; give another --master-port: {text[:200]}")
    distributed = r"gloo|NCCL|Connection (closed|reset) by peer|Timed out waiting|TCPStore|ProcessGroup|rendezvous"
    if kind.startswith("Dist") or re.search(rf"{distributed}|pair closure|monitoredBarrier|[Ww]atchdog caught", text):
        return lost_process(text)
    if re.search(r"out of memory|can't allocate memory|not enough memory", text):
        return EnvironmentFault("out of memory; use smaller batches or images")
    if "device-side assert" not in text and (
        kind == "AcceleratorError" or re.search(r"CUDA (driver )?error|CUDA driver|cuDNN error|CUBLAS|HIP error", text)
    ):
        return EnvironmentFault(f"the device failed: {text[:200]}")
    return None


def of_exit(end: SystemExit) -> VisionKitError | None:
    """The failure behind Lightning's own exits, which have the status 1 after Ctrl-C and 0 after SIGTERM."""
    if isinstance(end.__context__, KeyboardInterrupt):
        return Interrupted("interrupted at once; the newest checkpoint remains")
    if type(end).__name__ == "SIGTERMException":
        return Terminated("ended by SIGTERM; the newest checkpoint remains")
    return None


def _raised_in(error: BaseException, package: str) -> bool:
    """Whether the exception began in that package's own lines."""
    place: TracebackType | None = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == package
