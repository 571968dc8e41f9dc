"""Publishing a bundle on the Hugging Face hub, with a card that the hub itself can read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.bundle import render_card
from visionkit.hub import CARD, FILES, LIBRARY, Repository, asked, check_reachable
from visionkit.model_facts import read_facts
from visionkit.registry import task_pages

_PIPELINES = {
    "classification": "image-classification",
    "detections": "object-detection",
    "instances": "image-segmentation",
    "label_map": "image-segmentation",
    "depth_map": "depth-estimation",
    "poses": "keypoint-detection",
    "faces": "image-feature-extraction",
    "image": "image-to-image",
}
"""What the hub calls a model that gives predictions of a type."""

_LICENSES = {
    "apache-2.0": r"apache(?: license)?(?:,? version)?[ -]?2(?:\.0)?",
    "mit": r"mit(?: license)?",
    "cc0-1.0": r"(?:cc0(?:[ -]1\.0)?|public domain \(cc0\))",
    "cc-by-4.0": r"cc[ -]by[ -]4\.0",
    "cc-by-sa-4.0": r"cc[ -]by-sa[ -]4\.0",
    "cc-by-nc-4.0": r"cc[ -]by-nc[ -]4\.0",
    "cc-by-nc-sa-4.0": r"cc[ -]by-nc-sa[ -]4\.0",
    "bsd-3-clause": r"(?:bsd[ -]3[ -]clause|3-clause bsd)",
    "gpl-3.0": r"gpl[ -]?(?:v)?3(?:\.0)?",
}
"""The hub's identifiers, and how people write them."""


def publish(folder: Path, repository: Repository, private: bool = False) -> str:
    """Puts a bundle into a repository of the hub, which is made where it does not exist.

    Files of an older bundle that this one does not have are taken out; other files of the repository stay.

    Args:
        folder: The bundle.
        repository: Where to; its revision is the branch.
        private: A repository that is made is seen by its owner alone.

    Returns:
        Address of the model.

    Raises:
        EnvironmentFault: The hub cannot be reached, or failed.
        UsageError: It does not allow it; states how to log in.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants

    facts = read_facts(folder)
    check_reachable(f"{repository}")
    asked(repository, lambda api: api.create_repo(repository.id, private=private, exist_ok=True))
    info = asked(repository, lambda api: api.model_info(repository.id, revision=repository.revision, timeout=10))
    there = {each.rfilename for each in info.siblings or ()}
    own = [name for name in FILES if name != CARD and (folder / name).is_file()]
    card = hub_card(facts, repository.id).encode()
    operations: list[Any] = [CommitOperationAdd(name, folder / name) for name in own]
    operations.append(CommitOperationAdd(CARD, card))
    operations += [CommitOperationDelete(name) for name in FILES if name in there and name not in (*own, CARD)]
    with _transfer_of(constants):
        asked(
            repository,
            lambda api: api.create_commit(
                repository.id,
                operations,
                commit_message=f"Publish a {facts['task']} model of {LIBRARY}",
                revision=repository.revision,
            ),
        )
    return f"{constants.ENDPOINT}/{repository.id}"


@contextmanager
def _transfer_of(constants: Any) -> Iterator[None]:
    """Plain uploads where the hub is not the public one: its client would send chunks to a store that is not there."""
    before = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = before or constants.ENDPOINT != constants._HF_DEFAULT_ENDPOINT
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def hub_card(facts: Mapping[str, Any], name: str) -> str:
    """The model card with the hub's metadata in front: license, task, tags and results.

    Args:
        facts: What `model.json` holds.
        name: `user/name`.
    """
    from huggingface_hub import EvalResult, ModelCardData

    card = dict(facts["card"])
    title = str(card.get("name") or name.partition("/")[2])
    page = task_pages().get(facts["task"])
    kinds = page.kinds if page is not None else ()
    pipeline = next((_PIPELINES[kind] for kind in kinds if kind in _PIPELINES), None)
    data = _one_line(card.get("data")) or "not stated"
    results = [
        EvalResult(
            task_type=pipeline or "other",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-")[:60] or "other",
            dataset_name=data,
            dataset_split=_one_line(row.get("split")) or None,
            metric_type=str(row.get("metric")),
            metric_name=_one_line(
                f"{row.get('metric')} ({row['protocol']})" if row.get("protocol") else row.get("metric")
            ),
            metric_value=row["value"],
        )
        for row in card.get("results") or ()
        if isinstance(row, Mapping) and isinstance(row.get("value"), int | float)
    ]
    license, stated = _license(card)
    more: dict[str, Any] = {"license_name": stated} if license == "other" and stated else {}
    metadata = ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag=pipeline,
        tags=[LIBRARY, str(facts["task"]), *filter(None, [facts["config"].get("backbone")])],
        model_name=title,
        eval_results=results or None,
        **more,
    )
    text = render_card({**facts, "card": {"name": title, **card}}, f"hf-hub:{name}")
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"


def _license(card: Mapping[str, Any]) -> tuple[str, str]:
    """The hub's identifier of the terms, and what the card states."""
    stated = _one_line(card.get("license") or card.get("terms"))
    for identifier, written in _LICENSES.items():
        if re.fullmatch(rf"{re.escape(identifier)}|{written}", stated.strip(" ."), re.IGNORECASE):
            return identifier, stated
    return ("other", stated) if stated else ("unknown", "")


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())[:120] if value is not None else ""
