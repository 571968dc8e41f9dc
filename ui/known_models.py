"""What the installed packages offer, kept in the user's cache folder: to ask for it takes seconds, to read it none."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


class PublicWeights(NamedTuple):
    """One set of public weights.

    Attributes:
        input: Height and width of the images that they are tested with.
        license: Terms, or an empty string where timm does not state them.
        repository: Of the hub, or an empty string.
        file: Filename in the cache, where they lie behind a plain address.
    """

    input: tuple[int, int]
    license: str
    repository: str
    file: str


@dataclass(frozen=True)
class Known:
    """What the installed packages offer.

    Attributes:
        backbones: Each name with the tags of its public weights, the default first.
        schemes: Each source of public models (`timm`) with the tasks that take from it.
        parameters: Parameters of each network, with its public classes; a network that is not counted is absent.
        weights: Public weights by name and tag, and networks without any by their name.
        embedded: Names of networks, and of weights, that an installed package holds, with the package.
    """

    backbones: dict[str, list[str]]
    schemes: dict[str, list[str]]
    parameters: dict[str, int]
    weights: dict[str, PublicWeights]
    embedded: dict[str, str]

    def backbone_line(self, name: str) -> str:
        """A network with its default weights."""
        tags = self.backbones[name]
        default = f"{name}.{tags[0]}" if tags else name
        count = f"{len(tags)} public weights" if len(tags) > 1 else "public weights" if tags else ""
        return "  ".join(
            filter(None, [name, self._size(name), self._input(default), count, self._terms(default, name)])
        )

    def weights_line(self, name: str) -> str:
        """One set of public weights."""
        network = name.partition(".")[0]
        return "  ".join(filter(None, [name, self._size(network), self._input(name), self._terms(name)]))

    def _size(self, network: str) -> str:
        count = self.parameters.get(network)
        return "" if count is None else f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count / 1e3:,.0f} k"

    def _input(self, name: str) -> str:
        weights = self.weights.get(name)
        return "" if weights is None else f"{weights.input[0]}x{weights.input[1]}"

    def _terms(self, name: str, network: str = "") -> str:
        weights = self.weights.get(name)
        if weights is None:
            return ""
        package = self.embedded.get(name) or self.embedded.get(network)
        place = "in the cache" if in_cache(weights) else f"installed with {package}" if package else ""
        return ", ".join(filter(None, [weights.license, place]))


def in_cache(weights: PublicWeights) -> bool:
    """Whether the weights lie in the cache of the hub or of torch, by the names of the files alone."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if weights.repository:
        hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
        folder = Path(hub) if hub else Path(os.environ.get("HF_HOME") or home / "huggingface") / "hub"
        folder = folder.expanduser() / f"models--{weights.repository.replace('/', '--')}" / "snapshots"
        return any(folder.glob("*/model.safetensors")) or any(folder.glob("*/pytorch_model.bin"))
    torch = Path(os.environ.get("TORCH_HOME") or home / "torch").expanduser()
    return bool(weights.file) and (torch / "hub" / "checkpoints" / weights.file).is_file()


def known() -> Known:
    """Backbones and public names, from the kept file of this combination of versions where there is one."""
    from importlib.metadata import version

    import visionkit
    from visionkit.plugins import installed
    from visionkit.registry import task_names

    package = Path(str(visionkit.__file__)).parent / "backbones"
    changed = max((int(path.stat().st_mtime) for path in package.rglob("*.*")), default=0)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    sources = sorted(
        (point.value, "" if point.dist is None else point.dist.version) for point in installed("visionkit.weights")
    )
    parts = (version("visionkit"), version("timm"), f"{changed:x}", "-".join(task_names()))
    offered = hashlib.sha256(repr((2, parts, sources)).encode()).hexdigest()[:16]
    kept = home / "visionkit" / f"models-{parts[0]}_{parts[1]}-{offered}.json"
    try:
        read = json.loads(kept.read_text("utf-8"))
        read["weights"] = {name: PublicWeights(tuple(each[0]), *each[1:]) for name, each in read["weights"].items()}
        return Known(**read)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        pass  # not kept yet, or spoiled: made again below
    found = _ask()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(asdict(found)), "utf-8")
        part.replace(kept)
    except OSError:
        pass  # a cache that cannot be written costs seconds, nothing else
    return found


def _ask() -> Known:
    from visionkit.backbones import backbone_names
    from visionkit.backbones.cache import torch_file
    from visionkit.backbones.facts import backbone_facts, parameter_counts, pretrained_cfg
    from visionkit.backbones.sources import weight_sources
    from visionkit.registry import task_class, task_names

    backbones: dict[str, list[str]] = {name: [] for name in backbone_names()}
    for name in backbone_names(tags=True):
        architecture, _, tag = name.partition(".")
        backbones.setdefault(architecture, []).append(tag)
    weights: dict[str, PublicWeights] = {}
    for name, tags in backbones.items():
        default = pretrained_cfg(name).tag
        tags.sort(key=lambda tag, default=default: tag != default)  # type: ignore[misc]
        for each in [f"{name}.{tag}" for tag in tags] or [name]:
            cfg, facts = pretrained_cfg(each), backbone_facts(each)
            file = torch_file(cfg.url)[1] if cfg.url and not cfg.hf_hub_id else ""
            weights[each] = PublicWeights(facts.input_size, facts.license, cfg.hf_hub_id or "", file)
    schemes: dict[str, list[str]] = {}
    for task in task_names():
        for scheme in task_class(task).public_schemes:
            schemes.setdefault(scheme, []).append(task)
    embedded = {name: each.package for each in weight_sources() for name in (each.architecture, each.name)}
    return Known(backbones, schemes, parameter_counts(), weights, embedded)
