"""Models of the Hugging Face hub: a repository that holds a bundle, brought into the hub's cache or published.

What comes from there is not trusted: its file list is checked first, only the files of a bundle are brought, each is
compared with the hash that the hub and the bundle state, and none of them can run code. The address (`HF_ENDPOINT`),
the cache (`HF_HOME`) and the login (`hf auth login`, `HF_TOKEN`) are those of `huggingface_hub`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.model_facts import MAX_BYTES, WEIGHTS, file_hash, read_facts
from visionkit.model_files import FACTS, HUB, of_run, public_name
from visionkit.reachable import probe

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

CARD = "README.md"
FILES = (FACTS, WEIGHTS, CARD, "features.json", "model.onnx", "model.int8.onnx", "model.roi.onnx")
"""Every file that a bundle may have; nothing else of a repository is brought."""

LIBRARY = "visionkit"
"""Name of the library in the hub's metadata, by which our models are found."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy")
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?")


@dataclass(frozen=True)
class Repository:
    """A repository of models.

    Attributes:
        id: `user/name`.
        revision: Branch, tag or commit; None for the main branch.
    """

    id: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str) -> Repository:
        """Reads `user/name` or `user/name@revision`.

        Raises:
            UsageError: It is neither.
        """
        match = _NAME.fullmatch(name)
        if match is None or ".." in name or name.endswith((".git", "/")) or len(name) > 200:
            raise UsageError(f"{HUB}:{name[:80]}: write {HUB}:user/name, or {HUB}:user/name@revision")
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{HUB}:{self.id}" + (f"@{self.revision}" if self.revision else "")


def local(source: str | Path) -> str | Path:
    """A model of the hub as the folder that it was brought to, a run as its best checkpoint; others as they are.

    Raises:
        UsageError, CheckpointError, EnvironmentFault: As `fetch`.
    """
    public = public_name(source)
    if public:
        return fetch(Repository.of(public[1])) if public[0] == HUB else source
    return of_run(Path(source))


def fetch(repository: Repository) -> Path:
    """Brings the bundle of a repository into the hub's cache.

    Without a network, what lies in the cache is used.

    Returns:
        The folder of the bundle.

    Raises:
        CheckpointError: It holds no bundle, a file that can run code, or one that is not what it should be.
        EnvironmentFault: It is not in the cache and the hub cannot be reached.
        UsageError: No such repository, or it may not be read.
    """
    folder = _bring(repository, FILES, needed=(FACTS, WEIGHTS), alone=True)
    _check_stated_hash(repository, folder)
    return folder


def weights_file(repository: Repository) -> Path:
    """The file with the weights of a repository: of a bundle, or of a network of timm.

    Raises:
        CheckpointError, EnvironmentFault, UsageError: As `fetch`.
    """
    return _bring(repository, (WEIGHTS, "config.json"), needed=(WEIGHTS,), alone=False) / WEIGHTS


def _bring(repository: Repository, wanted: Iterable[str], *, needed: tuple[str, ...], alone: bool) -> Path:
    """The folder in the cache with the wanted files; with `alone`, no file of the repository may hold a pickle."""
    if (why := unreachable()) is not None:
        cached = _cached(repository, needed)
        if cached is None:
            raise EnvironmentFault(
                f"{repository}: cannot be brought from {_endpoint()} ({why}), and is not in the cache {_cache()}"
            )
        log.info("%s: taken from the cache, since %s cannot be asked (%s)", repository, _endpoint(), why)
        return cached
    info = asked(
        repository,
        lambda api: api.model_info(repository.id, revision=repository.revision, files_metadata=True, timeout=10),
    )
    commit = str(info.sha)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise CheckpointError(f"{repository}: {_endpoint()} states no commit of it, so it is refused")
    files = {str(each.rfilename): each for each in info.siblings or ()}
    _check_names(repository, files, needed, alone)
    folder: Path | None = None
    for name in (name for name in wanted if name in files):
        size = int(files[name].size or 0)
        if name.endswith(".json") and size > MAX_BYTES:
            raise CheckpointError(f"{repository}: {name} has {size:,} bytes; at most {MAX_BYTES:,} are read")
        path = _download(repository, name, commit)
        _check_file(repository, path, files[name])
        folder = path.parent
    assert folder is not None  # what is needed is wanted, and was found
    revision = repository.revision or "main"
    if revision != commit:  # by which the cache finds it without a network
        reference = folder.parent.parent / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    return folder


def unreachable() -> str | None:
    """Why the hub cannot be asked, in a few words; None where it responds. Takes no more than two seconds."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else probe(constants.ENDPOINT)


def check_reachable(what: str) -> None:
    """Raises at once where the hub cannot be asked.

    Raises:
        EnvironmentFault: It does not respond, or `HF_HUB_OFFLINE` is set.
    """
    if (why := unreachable()) is not None:
        raise EnvironmentFault(f"{what}: {_endpoint()} cannot be asked ({why})")


def asked(what: object, ask: Callable[[HfApi], Any]) -> Any:
    """What the hub responds, with its refusals in one line.

    Args:
        what: Names what is asked for, in messages.
        ask: Is given the hub's client.

    Raises:
        UsageError: There is no such thing, or it needs a login.
        EnvironmentFault: Anything else that went wrong on the way.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        return ask(HfApi(endpoint=_endpoint(), library_name=LIBRARY))
    except GatedRepoError as error:
        raise UsageError(f"{what}: {_endpoint()} gives it to those who have accepted its terms; {login}") from error
    except RevisionNotFoundError as error:
        raise UsageError(f"{what}: the repository has no such branch, tag or commit") from error
    except LocalEntryNotFoundError as error:  # what the client calls any failure on the way to a file
        raise EnvironmentFault(f"{what}: {_endpoint()} failed ({_first_line(error.__cause__ or error)})") from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{what}: {_endpoint()} lists a file that it does not have") from error
    except (RepositoryNotFoundError, LocalTokenNotFoundError) as error:
        raise UsageError(f"{what}: {_endpoint()} has no such repository, or you may not see it; {login}") from error
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise UsageError(f"{what}: {_endpoint()} does not allow it ({status}); {login}") from error
        raise EnvironmentFault(f"{what}: {_endpoint()} failed ({_first_line(error)})") from error
    except Exception as error:  # the hub's client raises errors of several libraries
        raise EnvironmentFault(f"{what}: {_endpoint()} failed ({_first_line(error)})") from error


def _check_names(repository: Repository, files: Iterable[str], needed: tuple[str, ...], alone: bool) -> None:
    """Refuses what is no bundle, before anything is brought."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not name.isprintable():
            raise CheckpointError(
                f"{repository}: its file {ascii(name)[:60]} leads out of the repository, so it is refused"
            )
        if alone and path.suffix.lower() in _PICKLES:
            raise CheckpointError(
                f"{repository}: its file {name[:80]} is of a kind that can run code; a bundle has its weights in "
                f"{WEIGHTS} alone, so it is refused"
            )
    missing = [name for name in needed if name not in files]
    if missing:
        raise CheckpointError(
            f"{repository}: it has no {' and no '.join(missing)}; `visionkit export --push` writes what is needed"
            if alone
            else f"{repository}: it has no {missing[0]}; only weights as safetensors are taken"
        )


def _download(repository: Repository, name: str, commit: str) -> Path:
    from huggingface_hub import hf_hub_download

    found = Path(
        asked(
            repository,
            lambda api: hf_hub_download(
                repository.id, name, revision=commit, endpoint=api.endpoint, library_name=LIBRARY, etag_timeout=10
            ),
        )
    )
    if found.parent.name != commit or not found.resolve().is_relative_to(_cache().resolve()):
        raise CheckpointError(f"{repository}: {name} leads to {found.resolve()}, out of the cache; it is refused")
    return found


def _check_file(repository: Repository, path: Path, stated: Any) -> None:
    """Compares a file with the hash that the hub states, and removes one that differs."""
    lfs = stated.lfs
    expected = str(lfs.sha256 if lfs is not None else stated.blob_id or "")
    if lfs is not None:
        found = file_hash(path)
    else:
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found != expected:
        _remove(path)
        raise CheckpointError(
            f"{repository}: {path.name} has the hash {found[:12]}, and {_endpoint()} states {expected[:12] or 'none'}; "
            "it is refused"
        )


def _check_stated_hash(repository: Repository, folder: Path) -> None:
    """Compares the weights with the hash that the bundle itself states, where it does."""
    expected = read_facts(folder)["weights"].get("sha256")
    if expected is not None and file_hash(folder / WEIGHTS) != expected:
        _remove(folder / WEIGHTS)
        raise CheckpointError(f"{repository}: {WEIGHTS} has another hash than {FACTS} states; it is refused")


def _remove(path: Path) -> None:
    """Takes a file out of the cache, with what it leads to there."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _cached(repository: Repository, needed: tuple[str, ...]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repository.id, name, revision=repository.revision) for name in needed]
    paths = [Path(each) for each in found if isinstance(each, str)]
    return paths[0].parent if len(paths) == len(needed) else None


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
