"""Two machines in one: network namespaces with an address each train as one process does; machines come and go."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.documented import on_several_machines
from tests.machines import ADDRESSES, environment, two_machines
from tests.real_data import ROOT

# A transformer has no batch norm, whose statistics would be of each process's own images.
TINY = shlex.split(
    "--trainer.accelerator cpu --trainer.precision 32-true --report false --model.backbone test_vit "
    "--model.pretrained false --model.optim.name sgd --model.optim.lr 0.1 --data.count 32 --data.eval_count 9 "
    "--trainer.max_epochs 1"
)


def final_values(run: Path) -> dict[str, float]:
    """The last validation of a run, as its logger wrote it."""
    (path,) = run.glob("metrics/**/metrics.csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/top1"]]
    return {name: float(value) for name, value in rows[-1].items() if name.startswith("val/") and value}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_train_as_one_process_with_the_same_global_batch(tmp_path: Path) -> None:
    changed = {"--nproc-per-node": "2", "--master-addr": ADDRESSES[0], "--run": str(tmp_path / "two")}
    words = on_several_machines()
    with contextlib.ExitStack() as stack:
        try:
            names = stack.enter_context(two_machines())
        except OSError as error:
            pytest.skip(f"this system gives no network namespaces: {error}")
        nodes = []
        for rank, name in enumerate(names):
            values = {**changed, "--node-rank": str(rank)}
            command = [values.get(before, word) for before, word in zip(["", *words], words, strict=False)]
            nodes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, *command, *TINY, "--trainer.devices=2", "--data.batch_size=2"],
                    cwd=tmp_path,
                    env=environment(GLOO_SOCKET_IFNAME="eth0"),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        said = [node.communicate(timeout=600)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    # What the page's command trains, in one process on batches of 4 x 2 images.
    start = words.index("visionkit")
    alone = [str(tmp_path / "one") if before == "--run" else word for before, word in itertools.pairwise(words)][
        start - 1 :
    ]
    alone += [*TINY, "-c=cpu", "--trainer.num_nodes=1", "--data.batch_size=8"]
    done = subprocess.run(alone, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr

    states = [torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("one", "two")]
    one, two = (state["state_dict"] for state in states)
    assert states[0]["global_step"] == states[1]["global_step"] == 4 and one.keys() == two.keys()
    assert any(each["momentum_buffer"].any() for each in states[1]["optimizer_states"][0]["state"].values())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    values = [final_values(tmp_path / run) for run in ("one", "two")]
    assert values[0].keys() == values[1].keys() and "val/top1" in values[0]
    for name, value in values[0].items():
        assert values[1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def wait_for(last: Path, nodes: list[subprocess.Popen[str]], world: int, step: int = 0) -> None:
    """Waits until the newest checkpoint is of that many processes, and of that step or a later one."""
    end = time.monotonic() + 300
    while True:
        if last.exists():
            state = torch.load(last, weights_only=True)
            if state["SceneData"]["world"] == world and state["global_step"] >= step:
                return
        if time.monotonic() > end or any(node.poll() is not None for node in nodes):
            for node in nodes:
                node.kill()
            pytest.fail("\n".join(node.communicate()[0] for node in nodes))
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_machines_join_and_leave_an_elastic_job(tmp_path: Path, free_port: int) -> None:
    """The command of configs/deploy/pytorchjob.yaml: one machine begins, a second one joins, and is then taken away."""
    text = (ROOT / "configs" / "deploy" / "pytorchjob.yaml").read_text("utf-8")
    job: dict[str, Any] = yaml.safe_load(text)["spec"]
    (container,) = job["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    *torchrun, line = container["command"]
    command = [word.replace("--nproc-per-node=4", "--nproc-per-node=1") for word in torchrun]
    command.append(
        line.replace("/visionkit/runs", str(tmp_path)) + f" {shlex.join(TINY)} --trainer.devices 1"
        " --data.batch_size 4 --trainer.max_epochs 3 --checkpoint_every 1"
    )
    stand_in = tmp_path / "bin" / "visionkit"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.killed_rank "$@"\n')
    stand_in.chmod(0o755)
    given = environment(
        **{each["name"]: each["value"] for each in container["env"]},
        PATH=f"{stand_in.parent}:{os.environ['PATH']}",
        PET_NNODES="1:2",
        PET_RDZV_BACKEND=job["elasticPolicy"]["rdzvBackend"],
        PET_RDZV_ENDPOINT=f"127.0.0.1:{free_port}",
        PET_MAX_RESTARTS=str(job["elasticPolicy"]["maxRestarts"]),
        PET_RDZV_CONF="last_call_timeout=1",  # seconds in which further machines may come to the first ones
        SLOWLY="1",
    )
    last = tmp_path / "elastic" / "checkpoints" / "last.ckpt"

    def machine() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    nodes = [machine()]
    wait_for(last, nodes, 1, step=2)
    nodes.append(machine())
    wait_for(last, nodes, 2)
    nodes[1].send_signal(signal.SIGTERM)
    nodes[1].communicate(timeout=120)
    said = nodes[0].communicate(timeout=400)[0]
    assert nodes[0].returncode == 0, said
    state = torch.load(last, weights_only=True)
    assert state["SceneData"]["world"] == 1 and state["epoch"] >= 2, said
    assert said.count("ended by SIGTERM") == 2, "when the second machine came, and when it went"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_machines_killed_at_ten_random_moments_come_back_or_stay_away() -> None:
    try:
        with two_machines():
            pass
    except OSError as error:
        pytest.skip(f"this system gives no network namespaces: {error}")
    command = [sys.executable, "-m", "tests.node_kills", "--count", "10", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
