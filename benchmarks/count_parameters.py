"""Counts the parameters of every network, for `visionkit models`: python -m benchmarks.count_parameters [PATTERN ...].

Networks that the file has already are left out, so it goes on where it stopped; run it after an update of timm.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import timm
import torch

from visionkit.backbones import backbone_names, facts

FILE = Path(facts.__file__).with_name("parameters.json")


def main(patterns: list[str]) -> None:
    warnings.filterwarnings("ignore")
    counts = facts.parameter_counts()
    known = backbone_names()
    wanted = [name for pattern in patterns or ["*"] for name in backbone_names(pattern)]
    for name in dict.fromkeys(wanted):
        if name in counts:
            continue
        with torch.device("meta"):
            counts[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
        rows = ",\n".join(f'"{name}": {counts[name]}' for name in sorted(counts) if name in known)
        FILE.write_text(f"{{\n{rows}\n}}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
