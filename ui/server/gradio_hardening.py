"""What the demo does not let gradio do: open files that nobody uploaded, state its insides, keep routes without a use.

Gradio checks that a file of a request was uploaded only where its own `launch()` runs it; mounted in another
application, it opens every path that somebody names. Its routes raise on much that can be sent, and what they raise
reaches the sender with paths of the server in it. And it writes an image again while the same one is being served.
"""

from __future__ import annotations

import functools
import inspect
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from gradio.exceptions import Error
from gradio.utils import get_upload_folder

from ui import strings
from ui.server.faults import is_lack, log, status_of


class Page(gr.Blocks):
    """`gr.Blocks` that opens uploaded files alone, and whose faults are reported in words."""

    def turn(self, name: str, path: str) -> None:
        """Begins another page inside the block that is open.

        `route` does the same for a block that is closed, and each time it is closed gradio makes the configuration of
        all pages so far and an application of it: for twelve pages, seconds before anybody is served.

        Args:
            name: Name, as the navigation shows it.
            path: Path of its address.
        """
        self.pages.append((path, name, True))
        self.current_page = path

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """Turns what was sent into arguments."""
        try:
            home = Path(get_upload_folder()).resolve()
            for path in _paths(inputs):
                if "://" not in path and not Path(path).resolve().is_relative_to(home):
                    raise Error(strings.NOT_UPLOADED, print_exception=False)
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except Error:
            raise
        except Exception as error:
            log("a request that does not fit" if not is_lack(error) else "the machine lacks something", error)
            raise Error(strings.LACK if is_lack(error) else strings.UNFIT, print_exception=False) from None

    async def process_api(self, *args: Any, **kwargs: Any) -> Any:
        """Does the work of one event."""
        try:
            return await super().process_api(*args, **kwargs)
        except Error:
            raise
        except Exception as error:
            raise Error(status_of(error)[1], print_exception=False) from None


def whole_files() -> None:
    """Makes gradio's cache hold whole files alone, at every moment.

    The name of a cached file follows from its content, and gradio writes it in place, again for everybody who gets the
    same image: whoever is being served it at that moment gets a broken one.
    """
    for name in ("save_pil_to_cache", "save_bytes_to_cache", "save_base64_to_cache", "save_audio_to_cache"):
        save = getattr(processing_utils, name, None)
        if save is not None and not hasattr(save, "in_place"):
            setattr(processing_utils, name, _whole(save))


def _whole(save: Callable[..., str]) -> Callable[..., str]:
    """The same function; what it writes comes into the cache by a rename."""
    signature = inspect.signature(save)

    @functools.wraps(save)
    def saved(*args: Any, **kwargs: Any) -> str:
        given = signature.bind(*args, **kwargs)
        cache = Path(given.arguments["cache_dir"])
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".") as own:
            given.arguments["cache_dir"] = own
            made = Path(save(*given.args, **given.kwargs)).resolve()
            target = cache.resolve() / made.relative_to(Path(own).resolve())
            target.parent.mkdir(exist_ok=True)
            made.replace(target)
        return str(target)

    saved.in_place = save  # type: ignore[attr-defined]
    return saved


def _paths(value: Any) -> Iterator[str]:
    """Every path that a request names, however deep."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            path = each.get("path")
            if isinstance(path, str) and path:
                yield path
            waiting.extend(each.values())
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)


_CLOSED = re.compile(
    r"""[^=]*/(?:
      pwa_icon/(?!(?:192|512)$) .*                     # scales an image to any size that is asked for
    | monitoring
    | gradio_api/(?:
        proxy= | file=[ ]*https?:                      # would ask other servers on behalf of a visitor
      | api | run(?!/predict$)                         # would pass by the queue; a page's unqueued events go to the one
      | component_server | custom_component | deep_link | dev | process_recording | profiling | run-history | runs
      | vibe-[a-z-]+ | undo-vibe-edit
      )
    )(?:/|$|(?<=[=:]))""",
    re.VERBOSE | re.IGNORECASE,
)


def is_closed(path: str) -> bool:
    """Whether a path of gradio is of no use to the demo, and therefore not served.

    Args:
        path: Path of the request, decoded.
    """
    return _CLOSED.match(path) is not None
