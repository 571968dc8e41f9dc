"""Public weights: found in the cache or in an installed package, or brought, and never a hang where no network is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from visionkit.backbones.cache import HUB_FILES, cached_weights, torch_file, torch_folder
from visionkit.backbones.facts import pretrained_cfg, source_in_place
from visionkit.backbones.sources import WeightSource
from visionkit.errors import EnvironmentFault, UsageError
from visionkit.reachable import probe


def find_weights(name: str) -> Path | WeightSource:
    """The public weights of a backbone: from the cache, else from an installed package, else downloaded.

    Neither the cache nor a package asks the network anything. Where weights have to be brought, the server is asked
    first for a sign of life, because the libraries underneath retry for most of a minute.

    Args:
        name: Name, as in `Backbone`.

    Raises:
        UsageError: Nobody has published weights under this name.
        EnvironmentFault: They are not in the cache and cannot be brought.
    """
    cfg = pretrained_cfg(name)
    if (cached := cached_weights(cfg)) is not None:
        return cached
    if (source := source_in_place(name, cfg)) is not None:
        return source
    if cfg.hf_hub_id:
        return _from_hub(name, cfg.hf_hub_id, cfg.hf_hub_filename)
    if cfg.url:
        return _from_url(name, cfg.url)
    raise UsageError(f"backbone {name!r}: no public weights exist for it; set pretrained to false")


def are_at_hand(name: str) -> bool:
    """Whether the public weights of a backbone lie in the cache or in an installed package.

    Asks no network, unless the name is one of the hub, which is brought.

    Args:
        name: Name, as in `Backbone`.

    Raises:
        UsageError: The name is unknown.
    """
    cfg = pretrained_cfg(name)
    return cached_weights(cfg) is not None or source_in_place(name, cfg) is not None


def _from_hub(name: str, hub_id: str, filename: str | None) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = hub_id.partition("@")
    files = (filename,) if filename else HUB_FILES
    fault = _fault(name, files[0], f"{constants.ENDPOINT}/{repository}", constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        raise EnvironmentFault(f"{fault} (HF_HUB_OFFLINE is set)")
    _check_reachable(constants.ENDPOINT, fault)
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision or None, etag_timeout=5))
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client raises errors of several libraries
            raise EnvironmentFault(f"{fault} ({_first_line(error)})") from error
    raise EnvironmentFault(f"{fault} (the server has none of {', '.join(files)})")


def _from_url(name: str, url: str | tuple[str, str]) -> Path:
    address, filename = torch_file(url)
    return download(address, filename, lambda folder: _fault(name, filename, address, folder))


def download(address: str, filename: str, fault: Callable[[str], str]) -> Path:
    """A file from torch's cache, or else downloaded into it; a server that does not respond is no hang.

    Args:
        address: Where it is.
        filename: Filename in the cache.
        fault: What to report where it cannot be brought, given the folder of the cache.

    Raises:
        EnvironmentFault: It is not in the cache and cannot be brought.
    """
    folder = torch_folder()
    target = folder / filename
    if target.is_file():
        return target
    message = fault(str(folder))
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise EnvironmentFault(f"{message} (HF_HUB_OFFLINE is set)")
    _check_reachable(address, message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(target), progress=False)
    except (OSError, RuntimeError) as error:
        raise EnvironmentFault(f"{message} ({_first_line(error)})") from error
    return target


def _fault(name: str, file: str, address: str, cache: str) -> str:
    return (
        f"backbone {name!r}: its public weights ({file} of {address}) are not in the cache {cache} and cannot be "
        f"downloaded: run `python -c \"import timm; timm.create_model('{name}', pretrained=True)\"` where there is "
        "internet and copy the cache here, or set pretrained to false"
    )


def _check_reachable(address: str, fault: str) -> None:
    if (why := probe(address)) is not None:
        raise EnvironmentFault(f"{fault} ({why})")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
