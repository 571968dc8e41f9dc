"""Commands as the pages of the documentation have them, for tests that run or compare them word for word."""

from __future__ import annotations

import re
import shlex

from tests.real_data import ROOT


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
