"""Whether a tracking server is there."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

PROBE_SECONDS = 1.5
"""How long a server may take to show that it is there."""


def probe(url: str, seconds: float = PROBE_SECONDS) -> str | None:
    """Asks whether a web server is there, through the system's proxy where one is set.

    Args:
        url: http or https.
        seconds: After which the answer is no; looking up the name, which has no limit of its own, is included.

    Returns:
        None if it answers, otherwise why not.
    """
    if not url.startswith(("http://", "https://")):
        return "no http address"
    answer: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                answer.append(None)
        except urllib.error.HTTPError as error:
            # Whoever refuses or does not find is there; a gateway in front of nothing is not.
            answer.append(None if error.code < 500 else f"HTTP {error.code}")
        except urllib.error.URLError as error:
            answer.append(getattr(error.reason, "strerror", None) or str(error.reason))
        except (OSError, ValueError) as error:
            answer.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 0.2)
    return answer[0] if answer else f"nothing within {seconds:g} s"
