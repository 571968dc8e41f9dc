"""The pages of the documentation as tests read them: their blocks, and commands that are compared word for word."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.real_data import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = [ROOT / "README.md", ROOT / "docs" / "quickstart.md", ROOT / "docs" / "add_a_task.md"]
"""Pages that the quick tests follow; of all others they read the commands, and `make slow` follows them."""

KINDS = ("fast", "slow", "ci", "network", "elsewhere")
# What a block may be written in; `text` and `json` are shown output.
LANGUAGES = ("bash", "python", "yaml", "toml", "json", "text")
_FENCE = re.compile(r"^ *```(.*)$")
_MARK = re.compile(r"^<!-- *run: *(?P<kind>\w+), *(?P<reason>\S.*?) *-->$")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, how it is run, its text."""

    place: str
    language: str
    kind: str
    text: str

    def commands(self) -> list[str]:
        """The lines a reader types; continued ones are joined, comments left out."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(page: str, text: str) -> list[Block]:
    """Every fenced block of a page.

    Raises:
        ValueError: A block of no known language, an unclosed one, or a mark that is not understood.
    """
    found: list[Block] = []
    lines = text.splitlines()
    start, language = -1, ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if not fence:
            if "<!-- run" in line and start < 0 and not _MARK.match(line):
                raise ValueError(f"{page}:{number + 1}: a mark reads '<!-- run: KIND, REASON -->', not {line!r}")
            continue
        if start < 0:
            start, language = number, fence.group(1).strip()
            if language not in LANGUAGES:
                raise ValueError(f"{page}:{number + 1}: a block is one of {', '.join(LANGUAGES)}, not {language!r}")
            continue
        before = lines[start - 1].strip() if start else ""
        mark = _MARK.match(before)
        kind = mark.group("kind") if mark else "fast"
        if kind not in KINDS:
            raise ValueError(f"{page}:{start}: {kind!r} is not one of {', '.join(KINDS)}")
        if kind == "elsewhere" and not (ROOT / mark["reason"]).is_file():
            raise ValueError(f"{page}:{start}: there is no test {mark['reason']}")
        found.append(Block(f"{page}:{start + 1}", language, kind, "\n".join(lines[start + 1 : number])))
        start = -1
    if start >= 0:
        raise ValueError(f"{page}:{start + 1}: the block is not closed")
    return found


def page_id(page: Path) -> str:
    """Name of a page in the names of tests."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    return blocks(str(page.relative_to(ROOT)), page.read_text("utf-8"))


def on_several_machines() -> list[str]:
    """The words of docs/cluster.md's torchrun command for several machines."""
    return shlex.split(commands_of("Several machines").replace("\\\n", " "))


def commands_of(title: str) -> str:
    """The one block of commands of a section of docs/cluster.md."""
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    section = re.search(rf"^### {title}$(.*?)^#", page, re.M | re.S)
    assert section is not None
    (block,) = re.findall(r"```bash\n(.*?)```", section[1], re.S)
    return str(block)
