"""Every decoder on every type of backbone as a graph, beside torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.semantic_segmentation import SemanticSegmentationTask
from tests.visionkit.families.dense.test_dense_architectures import FAMILIES, REFUSED, SMALL, SWIN
from visionkit.engines import OnnxEngine
from visionkit.export import TOLERANCE, compare, write_graph
from visionkit.geometry import InputSpec

PAIRS = [(name, family) for name in SMALL for family in FAMILIES]
# What the contract suite leaves out and takes seconds: a decoder that reads tokens, one that pools to a grid.
QUICK = [("dpt", "test_vit"), ("pspnet", "test_resnet")]


def check(name, family, folder):
    torch.manual_seed(0)
    options = SMALL[name] | ({"output_stride": 32} if (name, family) in REFUSED else {})
    side = 224 if family == SWIN else 96
    task = SemanticSegmentationTask(
        family,
        architecture=name,
        classes=("a", "b", "c"),
        input=InputSpec(size=(side, side - 32 if family != SWIN else side), resize_mode="stretch"),
        **{name: options},
    )
    task.train()
    for _ in range(2):  # statistics of batch norms away from their beginnings
        task(torch.randint(0, 256, (2, 3, *task.input.size), dtype=torch.uint8))
    task.eval()
    write_graph(task, folder / "model.onnx")
    shown = [np.random.default_rng(k).integers(0, 256, (70, 90, 3), dtype=np.uint8) for k in range(2)]
    found = compare(task, OnnxEngine(folder / "model.onnx", task.outputs), shown)
    assert found.outputs <= TOLERANCE, found


@pytest.mark.parametrize(("name", "family"), QUICK)
def test_a_graph_gives_what_torch_gives(name, family, tmp_path):
    check(name, family, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "family"), [pair for pair in PAIRS if pair not in QUICK])
def test_every_pair_as_a_graph(name, family, tmp_path):
    check(name, family, tmp_path)
