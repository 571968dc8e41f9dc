"""Kills whole nodes of a training with `kill -9`, torchrun and all its processes, at random moments.

    python -m tests.node_kills --count 10

Two network namespaces run the loop of docs/cluster.md; it needs root. For half of the kills the node comes back while
the other one's loop goes on, and training ends with the weights of one that nobody disturbed, bit for bit: one rank on
each node, since DDP sums the gradients of more than two in another order in the first step after a start. For the other
half training goes on with one node of two ranks, or two. Every image is seen once per epoch.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.documented import commands_of
from tests.kills import last_step, main, wrong_epochs
from tests.machines import ADDRESSES, environment, two_machines
from tests.tiny_training import fingerprint

IMAGES, EPOCHS, BATCH = 61, 5, 2
OPTIONS = (
    "--trainer.accelerator cpu --trainer.precision 32-true --report false --model.backbone test_vit "
    f"--model.pretrained false --data.count {IMAGES} --data.eval_count 5 --data.batch_size {BATCH} "
    f"--trainer.max_epochs {EPOCHS} --checkpoint_every 1"
)
PATIENCE = 400.0
"""Seconds until training begins or ends; four processes import torch on two cores."""


class Node:
    """One machine of a training.

    Args:
        namespace: Its network namespace.
        rank: Its rank among the nodes.
        folder: Folder of its log and of the program that stands in for `visionkit`.
    """

    def __init__(self, namespace: str, rank: int, folder: Path) -> None:
        self.namespace, self.rank, self.folder = namespace, rank, folder
        self.process: subprocess.Popen[bytes] | None = None
        stand_in = folder / "visionkit"
        stand_in.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.killed_rank "$@"\n')
        stand_in.chmod(0o755)

    def start(self, run: Path, nodes: int, ranks: int, slowly: float) -> None:
        """Starts the documented loop, with `ranks` ranks on each node."""
        command = commands_of("Machines that die")
        for before, after in (
            ("runs/two_machines --ckpt_path last", "$RUN --ckpt_path last $OPTIONS"),
            ("--nnodes 2", f"--nnodes {nodes}"),
            ("--trainer.num_nodes 2", f"--trainer.num_nodes {nodes}"),
            ("--node-rank 0", f"--node-rank {self.rank if nodes > 1 else 0}"),
            ("--nproc-per-node 4", f"--nproc-per-node {ranks}"),
            ("10.0.0.1", ADDRESSES[0 if nodes > 1 else self.rank]),
        ):
            assert before in command
            command = command.replace(before, after)
        given = environment(
            GLOO_SOCKET_IFNAME="eth0",
            PATH=f"{self.folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            RUN=str(run),
            OPTIONS=f"{OPTIONS} --trainer.devices {ranks}",
            NOTES=str(notes_of(run)),
            SLOWLY=str(slowly),
        )
        with (self.folder / f"log{self.rank}.txt").open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "bash", "-c", command],
                env=given,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def runs(self) -> bool:
        """Its loop runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Kills everything that runs on it."""
        while found := subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True).stdout:
            for process in found.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            if self.process is not None:
                self.process.wait()
            time.sleep(0.02)
        self.process = None


def notes_of(run: Path) -> Path:
    """Folder of the notes of a run, beside it."""
    return run.with_name(f"{run.name}-notes")


def wait(nodes: list[Node], ready: Callable[[], bool]) -> None:
    """Waits until it is so, or no node runs any more."""
    end = time.monotonic() + PATIENCE
    while not ready() and any(node.runs for node in nodes):
        if time.monotonic() > end:
            logs = "".join(path.read_text(errors="replace")[-3000:] for path in nodes[0].folder.glob("log*.txt"))
            raise RuntimeError(f"training neither began nor ended:\n{logs}")
        time.sleep(0.05)


def begin(run: Path, nodes: list[Node], ranks: int, slowly: float) -> None:
    """Starts those nodes that do not run, and waits until all ranks train."""
    notes_of(run).mkdir(exist_ok=True)
    for path in notes_of(run).glob("began*"):
        path.unlink()
    for node in nodes:
        if not node.runs:
            node.start(run, len(nodes), ranks, slowly)
    wait(nodes, lambda: len(list(notes_of(run).glob("began*"))) == len(nodes) * ranks)


def let_end(nodes: list[Node]) -> None:
    """Waits until a training ends.

    Raises:
        RuntimeError: Its last start ended with another status than 0.
    """
    wait(nodes, lambda: False)
    statuses = [node.process.returncode if node.process is not None else None for node in nodes]
    if any(statuses):
        raise RuntimeError(f"ended with {statuses}")


def weights(run: Path) -> dict[str, str]:
    """Fingerprints of what a run ended with."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {name: fingerprint(state[name]) for name in ("state_dict", "optimizer_states", "lr_schedulers")}


def kills_of(run: Path, count: int, rng: random.Random, machines: list[Node], always_two: bool) -> int:
    """Trains, and kills up to `count` nodes as long as it lasts; gives their number."""
    kills, nodes, slowly = 0, machines if always_two else [rng.choice(machines)], 0.3
    ranks = 1 if always_two else 2
    begin(run, nodes, ranks, slowly)
    while kills < count:
        victim, moment = rng.choice(nodes), rng.uniform(0, 4.0)
        time.sleep(moment)
        if not victim.runs:
            break
        start = time.monotonic()
        victim.kill()
        kills, before = kills + 1, len(nodes)
        if not always_two:
            for node in nodes:
                node.kill()
            nodes = machines if before == 1 or rng.random() < 0.3 else [rng.choice(machines)]
        step = last_step(run)
        begin(run, nodes, ranks, slowly)
        print(f"{kills:2d}  node {victim.rank} of {before} killed after {moment:.2f} s, goes on with {len(nodes)} "
              f"at step {step}, {time.monotonic() - start:.0f} s later", flush=True)  # fmt: skip
    let_end(nodes)
    return kills


def trials(folder: Path, count: int, rng: random.Random) -> bool:
    """Kills so often, in as many trainings as that takes; prints one line per kill."""
    wrong: list[str] = []
    with two_machines() as names:
        machines = [Node(name, rank, folder) for rank, name in enumerate(names)]
        try:
            begin(folder / "whole", machines, 1, 0.0)
            let_end(machines)
            want = weights(folder / "whole")
            for always_two, part in ((True, count - count // 2), (False, count // 2)):
                kills, number = 0, 0
                while kills < part:
                    run, number = folder / f"{'two' if always_two else 'some'}{number}", number + 1
                    kills += kills_of(run, min(5, part - kills), rng, machines, always_two)
                    found = wrong_epochs(notes_of(run), EPOCHS, IMAGES, BATCH)
                    if always_two:
                        got = weights(run)
                        found += [f"{name} differ" for name in want if want[name] != got[name]]
                    end = "every image was seen once in every epoch" + (", the weights are equal" if always_two else "")
                    print("\n".join(found) or end, flush=True)
                    wrong += found
        finally:
            for node in machines:
                node.kill()
    return not wrong


if __name__ == "__main__":
    sys.exit(main(__doc__, 10, trials))
