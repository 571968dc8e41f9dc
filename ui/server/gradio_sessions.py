"""Makes a session of gradio cost what it needs.

To gradio each visitor, and each request of a program, is a session. For each it describes every component of every
page, for links to a state of the page that the demo does not serve, and reads the signature of the component's class
again. With pages for all tasks that was two thirds of the time of a request of a program.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType, SimpleNamespace
from typing import Any

from gradio import blocks, state_holder


class _Inspect(ModuleType):
    """The module `inspect`, whose `signature` remembers what it has read."""

    def __init__(self) -> None:
        super().__init__("inspect", inspect.__doc__)
        self.signature = functools.lru_cache(maxsize=4096)(inspect.signature)

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)


class _Session(state_holder.SessionState):
    """A session that describes a component when an event changes it, and no other."""

    def __init__(self, every: Any) -> None:
        # The constructor describes those of the blocks' components that are among `blocks`.
        super().__init__(SimpleNamespace(default_config=every.default_config, blocks=()))  # type: ignore[arg-type]


def fast_sessions() -> None:
    """Makes gradio's sessions do without what the demo does not use; a second call changes nothing."""
    if not isinstance(vars(blocks)["inspect"], _Inspect):
        vars(blocks)["inspect"] = _Inspect()
    vars(state_holder)["SessionState"] = _Session
