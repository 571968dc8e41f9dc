"""Bundles and checkpoints that were changed to do harm: none may end in a traceback, hang, take memory or run code.

    python -m tests.visionkit.hostile_models --seeds 0-299

Each seed changes one model: a value of `model.json` or of a checkpoint's header, bytes of a file, the header or the
numbers of its weights, the type of a file. It is opened in a process of its own, listed, described and asked about an
image. Per seed, this prints what was changed, the outcome, seconds of a processor and the highest memory used.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
import random
import shutil
import socket
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import SERVER

EXAMPLE_MODELS = Path(__file__).parents[2] / "ui" / "starters"
SECONDS, BYTES = 5.0, 2 * 2**30
"""What one model may take: seconds of a processor, which other work does not lengthen, and memory."""
WAIT = 40 * SECONDS
"""Seconds by the clock after which a model that gave no result at all hangs."""

HUGE = 2**62
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 5, -4, 2, 64, 100_000, 10**7, 10**12, HUGE, 10**400, 0.5, -0.25, 1e-30, 1e30,
    float("nan"), float("inf"), "", "x", "resnet50", "vit_giant_patch14_224", "hf-hub:timm/resnet18", "/dev/zero",
    "../../../etc/passwd", "\u0000\ud83d\ude00", "a" * 10**6, [], [1], [[]], {}, {"a": 1}, [8, 16, 32], [0, 0],
    [100_000, 100_000], [float("nan")] * 2, ["x"] * 100_000, {"size": [10**6, 10**6], "resize_mode": "stretch"},
    {"task": "detection"}, list(range(1000)),
)  # fmt: skip


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [each for key, inner in items for each in ((*path, key), *places(inner, (*path, key)))]


def change_values(facts: dict[str, Any], rng: random.Random) -> str:
    """Changes one to three values of a description in place; returns what was changed."""
    message = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice([each for each in places(facts) if rng.random() < 0.2 or each[0] != "card"] or [("task",)])
        holder = facts
        try:
            for key in path[:-1]:
                holder = holder[key]
            old = holder[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        kind = rng.random()
        if isinstance(old, (int, float)) and not isinstance(old, bool) and kind < 0.35:
            new = old * rng.choice((-1, 0, 2, 10, 1000, 10**6, 10**9))
        elif isinstance(old, list) and kind < 0.35:
            new = old[: len(old) // 2] if rng.random() < 0.4 else old * rng.choice((2, 50, 5000))
        elif kind < 0.42 and isinstance(holder, dict):
            del holder[path[-1]]
            message.append(f"{'.'.join(map(str, path))} deleted")
            continue
        elif kind < 0.48 and isinstance(holder, dict):
            new = old
            holder[
                rng.choice(("init_from", "checkpoint_path", "pretrained", "width", "zzz", "classes", "skeleton"))
            ] = rng.choice(VALUES)
        else:
            new = copy.deepcopy(rng.choice(VALUES))
        holder[path[-1]] = new
        message.append(f"{'.'.join(map(str, path))} = {ascii(new)[:50]}")
    return "; ".join(message)


def flip(path: Path, rng: random.Random) -> str:
    """Changes, cuts or repeats bytes of a file."""
    data = bytearray(path.read_bytes())
    way = rng.choice(("flip", "head", "cut", "double", "empty", "random"))
    if way == "flip":
        for _ in range(rng.choice((1, 8, 200))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == "head":
        for _ in range(rng.choice((1, 8))):
            data[rng.randrange(min(4096, len(data)))] = rng.randrange(256)
    elif way == "cut":
        del data[rng.randrange(len(data)) :]
    elif way == "double":
        data.extend(bytes(data))
    elif way == "empty":
        data.clear()
    else:
        data = bytearray(rng.randbytes(4096))
    path.write_bytes(data)
    return f"{path.name}: {way}"


def replace_file(path: Path, rng: random.Random) -> str:
    """Puts something in the place of a file that is no file."""
    path.unlink()
    way = rng.choice(("fifo", "zero", "random", "folder", "socket", "dangling", "loop", "itself"))
    if way == "fifo":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "socket":
        with socket.socket(socket.AF_UNIX) as door:
            here = Path.cwd()
            os.chdir(path.parent)
            door.bind(path.name)
            os.chdir(here)
    else:
        target = {"zero": "/dev/zero", "random": "/dev/urandom", "dangling": "/nonexistent", "loop": path.name}
        path.symlink_to(target.get(way, "."))
    return f"{path.name}: {way}"


def deep_json(path: Path, rng: random.Random) -> str:
    """A description that is hard to parse."""
    whole = path.read_text("utf-8")
    way = rng.choice(("brackets", "objects", "digits", "keys", "nan", "large", "binary"))
    text = {
        "brackets": "[" * 100_000,
        "objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
        "digits": '{"format": ' + "9" * 100_000 + "}",
        "keys": whole.replace('"config": {', '"config": {' + ",".join(f'"k{i}": 1' for i in range(200_000)) + ",", 1),
        "nan": whole.replace('"format": 1', '"format": NaN', 1),
        "large": whole + " " * 40_000_000,
        "binary": "\udcff\udcfe" + whole,
    }[way]
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return f"{path.name}: {way}"


def weights_header(path: Path, rng: random.Random) -> str:
    """Changes what a safetensors file states about its tensors, or its numbers."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    entry = header[rng.choice(names)]
    way = rng.choice(("shape", "dtype", "offset", "many", "nan", "huge", "length", "rename", "drop"))
    if way == "shape":
        entry["shape"] = rng.choice(([10**9, 10**9], [-1], [], ["x"], [0], entry["shape"][::-1], [2**63]))
    elif way == "dtype":
        entry["dtype"] = rng.choice(("I64", "BOOL", "F8_E4M3", "F64", "X", 5, "BF16", "U8"))
    elif way == "offset":
        entry["data_offsets"] = rng.choice(([0, 2**62], [-8, 0], [4, 0], [], "x", [0, 4]))
    elif way == "many":
        header |= {f"more{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}
    elif way in ("nan", "huge"):
        value = struct.pack("<f", float("nan")) if way == "nan" else struct.pack("<f", 3e38)
        for at in range(0, len(body) - 4, rng.choice((4, 400, 4 * 10**5))):
            body[at : at + 4] = value
    elif way == "rename":
        header["other"] = header.pop(rng.choice(names))
    elif way == "drop":
        header.pop(rng.choice(names))
    packed = json.dumps(header).encode()
    size = rng.choice((2**62, 0, len(packed) * 2, 2**40)) if way == "length" else len(packed)
    path.write_bytes(struct.pack("<Q", size) + packed + bytes(body))
    return f"{path.name}: {way}"


def to_checkpoint(folder: Path, rng: random.Random, trace: str) -> tuple[Path, str]:
    """A checkpoint of the bundle's model, changed."""
    import torch
    from safetensors.torch import load_file

    facts = json.loads((folder / "model.json").read_text("utf-8"))
    state: dict[Any, Any] = load_file(folder / "model.safetensors")
    header = {key: facts[key] for key in ("format", "task", "config")}
    content: dict[Any, Any] = {"state_dict": state, "visionkit": header, "global_step": 1, "epoch": 0}
    name, way = rng.choice(list(state)), rng.choice(CHECKPOINT_WAYS)
    path, message = folder.parent / "run.ckpt", f"checkpoint: {way}"
    if way == "values":
        message = f"checkpoint: {change_values(header, rng)}"
    elif way == "evil":
        content[rng.choice(("state_dict", "visionkit", "evil", "epoch"))] = Evil(trace)
    elif way == "laughs":
        lol: Any = ["l"] * 10
        for _ in range(12):
            lol = [lol] * 10
        header["config"][rng.choice(("classes", "input", "width"))] = lol
    elif way == "strided":
        state[name] = torch.zeros(1).expand(10**6, 10**6)
    elif way == "kinds":
        state[name] = rng.choice(("x", None, 5, [1], torch.zeros(2, 2).to_sparse(), torch.empty(3, device="meta")))
    elif way == "nan":
        state[name] = torch.full_like(state[name].float(), float(rng.choice(("nan", "inf"))))
    elif way == "keys":
        content["visionkit"] = {5: header, (1, 2): 3}
    elif way == "pickle":
        content["more"] = [[] for _ in range(2_000_000)]
    torch.save(content, path)
    if way == "bytes":
        message = f"checkpoint: {flip(path, rng)}"
    elif way == "file":
        message = f"checkpoint: {replace_file(path, rng)}"
    elif way in ("compressed", "bomb", "lies"):
        repack(path, way)
    elif way == "plain":
        path.write_bytes(pickle.dumps(Evil(trace)))
    return path, message


CHECKPOINT_WAYS = (
    "values", "values", "values", "values", "evil", "laughs", "strided", "kinds", "nan", "keys", "pickle", "bytes",
    "bytes", "file", "compressed", "bomb", "lies", "plain",
)  # fmt: skip


def repack(path: Path, way: str) -> None:
    """Writes a checkpoint's archive again: compressed, with much more in it, or with tensors that are cut short."""
    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if way == "lies" else zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data[:8] if way == "lies" and "/data/" in name else data)
        if way == "bomb":
            archive.writestr(entries[0][0].partition("/")[0] + "/data/bomb", bytes(2**29))


def make(seed: int, folder: Path, trace: str) -> tuple[Path, str]:
    """The changed model of a seed: what is to be opened, and what was changed."""
    rng = random.Random(seed)
    example_model = rng.choice(sorted(path.parent for path in EXAMPLE_MODELS.glob("*/*/model.json")))
    folder.mkdir(exist_ok=True)
    bundle = folder / "model"
    shutil.copytree(example_model, bundle, ignore=shutil.ignore_patterns("examples"))
    facts = bundle / "model.json"
    kind = rng.choice(("values",) * 9 + ("bytes", "file", "json", "weights", "weights") + ("checkpoint",) * 6)
    if kind == "checkpoint":
        path, message = to_checkpoint(bundle, rng, trace)
        shutil.rmtree(bundle)
        return path, f"{example_model.parent.name}/{example_model.name} {message}"
    if kind == "values":
        described = json.loads(facts.read_text("utf-8"))
        message = change_values(described, rng)
        facts.write_text(json.dumps(described), "utf-8")
    elif kind == "bytes":
        message = flip(bundle / rng.choice(("model.json", "model.safetensors")), rng)
    elif kind == "file":
        message = replace_file(bundle / rng.choice(("model.json", "model.safetensors")), rng)
    elif kind == "json":
        message = deep_json(facts, rng)
    else:
        message = weights_header(bundle / "model.safetensors", rng)
    return bundle, f"{example_model.parent.name}/{example_model.name} {message}"


def open_model(path: Path, image: Path) -> str:
    """What a user does with a model: lists it, opens it, asks it about an image."""
    from ui import strings
    from ui.model_registry import find_models
    from ui.operating_point import card_curve
    from visionkit.checkpoint import describe
    from visionkit.errors import VisionKitError
    from visionkit.predictor import load

    for entry in find_models(path.parent):
        json.dumps(entry.card, allow_nan=False)
        strings.card(entry.title, entry.task, entry.card, entry.config)
        card_curve(entry.card)
    try:
        describe(path)
    except VisionKitError as error:
        require_one_line(error)
    try:
        json.dumps(load(path)(image).to_json(), allow_nan=False)
    except VisionKitError as error:
        require_one_line(error)
        return f"status {error.status}: {error}"
    return "a prediction"


def require_one_line(error: Exception) -> None:
    """A message is one line that can be read."""
    assert "\n" not in str(error) and len(str(error)) < 1000, f"not one line: {str(error)[:300]!r}"


def watch_process(forbidden: list[str]) -> None:
    """Notes what no model may cause: programs that are started, and connections."""

    def hook(event: str, args: Any) -> None:
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "socket.connect"):
            forbidden.append(event)

    sys.addaudithook(hook)


def child(seed: int, image: Path, folder: Path, pipe: Any) -> None:
    """Opens the model of a seed and reports how that went."""
    import torch

    torch.set_num_threads(1)
    trace, forbidden = str(folder / "executed"), []
    path, message = make(seed, folder, trace)
    pipe.send(message)
    Path("/proc/self/clear_refs").write_text("5")  # memory is counted from here on
    watch_process(forbidden)
    start = time.process_time()
    try:
        outcome = open_model(path, image)
    except BaseException:
        outcome = f"TRACEBACK {traceback.format_exc()}"
    seconds = time.process_time() - start
    status = Path("/proc/self/status").read_text()
    highest = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if forbidden or Path(trace).exists():
        outcome = f"EXECUTED {forbidden} {outcome}"
    pipe.send((outcome, seconds, highest))


def try_seed(seed: int, image: Path, target: Callable[..., None] = child) -> tuple[str, str]:
    """What a seed changed, and its fault or "" where there is none."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        ours, theirs = SERVER.Pipe(duplex=False)
        process = SERVER.Process(target=target, args=(seed, image, Path(folder), theirs))
        process.start()
        theirs.close()
        message, result = "", None
        try:
            # Faults are judged by seconds of the child's processor (`child`). The clock here only ends a wait for ever,
            # so it is generous: on a busy machine making a model of two million objects alone took over a minute.
            message = ours.recv() if ours.poll(WAIT) else ""
            result = ours.recv() if message and ours.poll(WAIT) else None
        except EOFError:
            pass
        hung = process.is_alive() and result is None
        process.kill()
        process.join()
    if result is None:
        return message, "HANGS" if hung else f"ENDED with {process.exitcode}"
    outcome, seconds, highest = result
    fault = outcome if outcome.startswith(("TRACEBACK", "EXECUTED")) else ""
    fault += f" SLOW {seconds:.1f} s" if seconds > SECONDS else ""
    fault += f" LARGE {highest / 2**20:,.0f} MB" if highest > BYTES else ""
    return f"{message} -> {outcome[:160]} ({seconds:.1f} s, {highest / 2**20:,.0f} MB)", fault


def main(argv: list[str] | None = None) -> int:
    """Tries the seeds; the exit status is 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-299", metavar="FIRST-LAST", help="seeds to try (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="print faults and the sum alone")
    args = parser.parse_args(argv)
    first, _, last = args.seeds.partition("-")
    from PIL import Image

    from visionkit.registry import task_class, task_names

    # Loaded once by the server, so that each process begins with them.
    SERVER.set_forkserver_preload(["onnxruntime", *(task_class(name).__module__ for name in task_names())])
    faults = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        image = Path(folder) / "image.png"
        Image.frombytes("RGB", (160, 120), random.Random(0).randbytes(160 * 120 * 3)).save(image)
        seeds = range(int(first), int(last or first) + 1)
        for seed in seeds:
            message, fault = try_seed(seed, image)
            faults += bool(fault)
            if fault or not args.quiet:
                print(f"{seed}: {message}{f' FAULT: {fault}' if fault else ''}", flush=True)
    print(
        f"{len(seeds)} models, {faults} with a fault (traceback, over {SECONDS:g} s, over 2 GB, or anything executed)"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
